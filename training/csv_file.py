"""Reading of a CSV file: find it, decompress it within the free memory, decode it, cut it up.

path ── find ──▶ file ── _inflate, _read_text ──▶ text ── read_records ──▶ Record, ...
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import hashlib
import io
import lzma
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import nearest
from service.host import memory
from service.wire import cells
from training.cells import LISTED
from training.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import IO, Any

COMPRESSED = (".gz", ".xz", ".bz2", ".zip")

# Peak memory of a table in bytes, measured: several copies for each byte of text, and an object
# with its cells for each line.
A_BYTE, A_LINE = 8, 300
READ_AT_ONCE = 1 << 20


def find(wanted: Path, at: str, way_out: str = "") -> Path:
    """Return the path of the file `wanted`, whatever its letter case and compression suffix.

    Args:
        wanted: the path as the spec has it.
        at: the spec's file and key, for the beginning of a message.
        way_out: the end of the message if there is no such file.
    """
    if wanted.is_file():
        return wanted
    try:
        there = sorted(path for path in wanted.parent.iterdir() if path.is_file())
    except OSError as error:
        raise SpecError(f"{at}: no folder {str(wanted.parent)!r} to read") from error
    same = [path for path in there if _plain(path.name) == _plain(wanted.name)]
    if len(same) == 1:
        return same[0]
    if same:
        both = " and ".join(path.name for path in same)
        raise SpecError(
            f"{at}: {wanted.name!r} could be {both} in {str(wanted.parent)!r};"
            " name one of them exactly"
        )
    files = [path.name for path in there if _plain(path.name).endswith(".csv")]
    tail = nearest(wanted.name, files) or f"; CSV files there: {', '.join(files) or 'none'}"
    raise SpecError(f"{at}: no file {wanted.name!r} in {str(wanted.parent)!r}{tail}{way_out}")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as it is on the disk, in hexadecimal.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _plain(name: str) -> str:
    """Return a file's name in lower case and without compression suffixes."""
    name = name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _inflate(path: Path) -> bytearray:
    """Return the file's bytes, decompressed, if there is memory for the table that they make.

    A few kilobytes may hold gigabytes, so bytes and lines are counted while they are read.
    """
    suffix = path.suffix.lower()
    free = memory.available()
    content, lines = bytearray(), 0
    try:
        with _open(path, suffix) as file:
            while piece := file.read(READ_AT_ONCE):
                content += piece
                lines += max(piece.count(b"\n"), piece.count(b"\r"))
                if free is not None and len(content) * A_BYTE + lines * A_LINE > free:
                    raise DataError(
                        f"{path}: too large: its first {len(content):,} bytes, in {lines:,} lines,"
                        f" would take more than the {free:,} bytes of memory that are free"
                    )
    # Python raises RuntimeError for a zip file that is encrypted or has an unknown compression.
    except (
        *(OSError, EOFError, RuntimeError, ValueError),
        *(zlib.error, lzma.LZMAError, zipfile.BadZipFile),
    ) as error:
        what = f"a {suffix} file" if suffix in COMPRESSED else "a file"
        raise DataError(f"{path}: cannot be read as {what}: {error}") from error
    return content


@contextlib.contextmanager
def _open(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    """Open a file for reading; its suffix says how to decompress it."""
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                inside = ", ".join(names[:LISTED]) or "none"
                raise DataError(f"{path}: expected one .csv file inside, received {inside}")
            with archive.open(names[0]) as file:
                yield file
        return
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    with openers.get(suffix, open)(path, "rb") as file:
        yield file


def _read_text(path: Path) -> str:
    content = _inflate(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at, what = error.start, f"not UTF-8 (byte 0x{content[error.start]:02x}"
    else:
        # The parser in C would silently end the cell there.
        at, what = content.find(b"\0"), "not text (byte 0x00"
        if at < 0:
            return text
    line = content.count(b"\n", 0, at) + 1
    raise DataError(
        f"{path}: line {line}: {what}, number {at + 1} of the file); save it again as UTF-8"
    )


@dataclass(frozen=True)
class Record:
    """One row as it is in the file; a quoted cell may span several lines."""

    line: int
    fields: int
    text: str


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a file; a blank line is a row with one empty cell.

    pandas silently pads short rows, so the fields are counted here.

    Raises:
        DataError: the file cannot be read, does not fit into memory, is not UTF-8 or not CSV.
    """
    text = _read_text(path)
    lines = io.StringIO(text, newline="")
    if '"' not in text:
        for number, line in enumerate(lines, 1):
            yield Record(number, line.count(",") + 1, line)
        return
    whole = list(lines)
    reader = cells.reader(whole)
    start = 0
    try:
        for row in reader:
            record = "".join(whole[start : reader.line_num])
            yield Record(start + 1, len(row) or 1, record)
            start = reader.line_num
    except csv.Error as error:
        way_out = ""
        if "end of data" in str(error):
            way_out = "; nothing closes a quote that opens there (one in a quoted cell is doubled)"
        raise DataError(f"{path}: line {start + 1}: not CSV: {error}{way_out}") from error
