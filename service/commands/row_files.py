"""Files of rows, read one row at a time: what reading CSV and reading JSON share."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from service.errors import TricepsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class RowsError(TricepsError):
    """The rows of a file cannot be read, or a row is not what the model takes."""


@dataclass(frozen=True)
class Row:
    """A row: its place in the file, the model's instance, and cells that are passed through."""

    place: str
    instance: Any
    others: tuple[str, ...] = ()
    sample: Mapping[str, Any] | None = None
    """The whole line, if the row is a sample that `triceps serve` has written."""


# The first bytes of packed files, which are never UTF-8.
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


def not_utf8(path: Path, error: UnicodeDecodeError) -> RowsError:
    """Return the error for a file in another encoding than UTF-8, or for a packed one."""
    for begin, kind in _PACKED.items():
        if error.object.startswith(begin):
            return RowsError(f"{path}: expected text, received a {kind} file: unpack it first")
    received = f"0x{error.object[error.start]:02x}"
    return RowsError(f"{path}: expected UTF-8, received the byte {received}: save it as UTF-8")


def open_text(path: Path, size: int | None = None) -> IO[str]:
    """Open a file as text, or its first bytes alone; in both cases without a byte order mark."""
    # utf-8-sig, since spreadsheets write a byte order mark first.
    if size is None:
        return path.open(encoding="utf-8-sig", newline="")
    raw = io.BufferedReader(_Beginning(path, size))
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


class _Beginning(io.RawIOBase):
    """The first bytes of a file, to which somebody may be appending."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._left = size

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer, up to the end of these bytes."""
        read = self._file.readinto(memoryview(buffer)[: self._left])
        self._left -= read
        return read

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
