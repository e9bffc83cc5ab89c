"""Files of rows, read one row at a time: what reading CSV and reading JSON share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
