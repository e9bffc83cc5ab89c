"""A CSV file as a table of cells: found, inflated, decoded, and each row's fields counted.

    file ── read ──▶ Table ── column ──▶ Column: its distinct texts, and which row has which

Every cell is text until somebody asks what it looks like, so that nothing is coerced in
silence and whatever is wrong can be told with file, line and column.  Spaces around a cell
are no part of it.
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import math
import re
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from service.errors import nearest
from service.host import memory
from service.signature import MISSING_CELLS, TRUE_FALSE
from training.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import IO, Any, Never

    from numpy.typing import NDArray

COMPRESSED = (".gz", ".xz", ".bz2", ".zip")

# What a table takes at its largest, in bytes of memory, measured: for each byte of text, several
# copies of it; for each line, an object and its cells.
A_BYTE, A_LINE = 8, 300
READ_AT_ONCE = 1 << 20

# What a message shows of a list, of one cell, and of a column.
LISTED = 20
WIDEST = 60
SHOWN = 5

NAMELESS = " (which has no name)"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Python converts no more than 4,300 digits, and a float has no more than 309 before its point.
_WHOLE = re.compile(r"[+-]?\d{1,400}", re.ASCII)
# ASCII: a dotless i is the same letter to Unicode, and no number to Python.
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_TIME = r"([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?(Z| ?[+-]\d{2}:?\d{2})?)?"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    rf"(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](\d{{4}}|\d{{2}})"
    rf"|\d{{1,2}}[- ]{_MONTH},?[- ](\d{{4}}|\d{{2}})|{_MONTH} \d{{1,2}},? \d{{4}}){_TIME}",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Table:
    """The rows of one file: text cells, save where `read` was sure of a number and was right.

    The index holds each row's line in the file.
    """

    path: Path
    header: bool
    frame: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the file's order."""
        return [str(name) for name in self.frame.columns]

    def column(self, name: str) -> Column:
        """One column's cells."""
        series = self.frame[name]
        codes, found = pd.factorize(series.to_numpy(object))
        texts = [str(text).strip() for text in found]
        distinct = list(dict.fromkeys(texts))
        place = {text: code for code, text in enumerate(distinct)}
        merged = np.array([place[text] for text in texts], np.int64)[codes]
        lines = self.frame.index.to_numpy(np.int64)
        return Column(self.path, self.header, name, tuple(distinct), merged, lines)


@dataclass(frozen=True)
class Column:
    """One column: its distinct cells (`texts`) and, row by row, which of them (`codes`)."""

    path: Path
    header: bool
    name: str
    texts: tuple[str, ...]
    codes: NDArray[np.int64]
    lines: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)

    def mark(self, fits: Callable[[str], bool]) -> NDArray[np.bool_]:
        """Which rows have a cell that `fits`."""
        return np.array([fits(text) for text in self.texts], bool)[self.codes]

    def values(self) -> NDArray[np.float64]:
        """The cells as numbers; not-a-number where a cell is none."""
        return np.array([number(text) for text in self.texts], np.float64)[self.codes]

    def refuse(self, bad: NDArray[np.bool_], verb: str, way_out: str = "", key: str = "") -> None:
        """Stop if any row is `bad`: where the first is, how many there are, what it says.

        Raises:
            SpecError: with `key`, a spec's file and key, as it is that which does not fit.
            DataError: without.
        """
        count = int(bad.sum())
        if not count:
            return
        row = int(bad.argmax())
        line, text = int(self.lines[row]), self.texts[self.codes[row]]
        first = f", first {show(text)}" if text else ""
        if line == 1 and not self.header and not way_out:
            way_out = "; if line 1 names the columns, leave header = false out"
        message = (
            f"{self.path}: line {line}, column {self.name!r}: "
            f"{count} of {len(self)} rows {verb}{first}{way_out}"
        )
        if key:
            raise SpecError(f"{key}: {message}")
        raise DataError(message)

    def stop(self, text: str) -> Never:
        """Stop for what the column as a whole is."""
        raise DataError(f"{self.path}: column {self.name!r}: {text}")

    def some(self) -> str:
        """The first few distinct cells."""
        texts = [text for text in self.texts if not is_missing(text)]
        shown = ", ".join(map(show, texts[:SHOWN]))
        return f"{shown}, …" if len(texts) > SHOWN else shown


def find(wanted: Path, at: str, way_out: str = "") -> Path:
    """The file that is `wanted`; letter case and compression suffix do not matter.

    Args:
        wanted: the path as it was asked for.
        at: who asked, for the message.
        way_out: what to do when it is not there, for the end of the message.
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


def _plain(name: str) -> str:
    """A file's name without what does not matter in it."""
    name = name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _inflate(path: Path) -> bytearray:
    """The file's bytes, uncompressed: as many as there is memory for as a table.

    A few kilobytes may hold gigabytes, so what is read is counted as it comes.
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
    # Python raises RuntimeError for a zip that is encrypted, or compressed in an unknown way.
    except (
        *(OSError, EOFError, RuntimeError, ValueError),
        *(zlib.error, lzma.LZMAError, zipfile.BadZipFile),
    ) as error:
        what = f"a {suffix} file" if suffix in COMPRESSED else "a file"
        raise DataError(f"{path}: cannot be read as {what}: {error}") from error
    return content


@contextlib.contextmanager
def _open(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    """Open a file so that it reads uncompressed, as its suffix says."""
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                found = ", ".join(names[:LISTED]) or "none"
                raise DataError(f"{path}: expected one .csv file inside, received {found}")
            with archive.open(names[0]) as file:
                yield file
        return
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    with openers.get(suffix, open)(path, "rb") as file:
        yield file


def _text(path: Path) -> str:
    content = _inflate(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at, what = error.start, f"not UTF-8 (byte 0x{content[error.start]:02x}"
    else:
        # A parser written in C would end the cell there, in silence.
        at, what = content.find(b"\0"), "not text (byte 0x00"
        if at < 0:
            return text
    line = content.count(b"\n", 0, at) + 1
    raise DataError(
        f"{path}: line {line}: {what}, number {at + 1} of the file); save it again as UTF-8"
    )


@dataclass(frozen=True)
class _Record:
    """One row as it stands in the file; a quoted cell may run over several lines."""

    line: int
    fields: int
    text: str


def _records(path: Path, text: str) -> Iterator[_Record]:
    """The file's rows; a blank line is one of a single empty cell.

    pandas pads short rows in silence, so the fields are counted before it sees them.
    """
    lines = io.StringIO(text, newline="")
    if '"' not in text:
        for number, line in enumerate(lines, 1):
            yield _Record(number, line.count(",") + 1, line)
        return
    whole = list(lines)
    reader = csv.reader(whole, skipinitialspace=True, strict=True)
    start = 0
    try:
        for row in reader:
            record = "".join(whole[start : reader.line_num])
            yield _Record(start + 1, len(row) or 1, record)
            start = reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}: line {start + 1}: not CSV: {error}") from error


def read(
    path: Path,
    *,
    header: bool = True,
    rows: int | None = None,
    text: Callable[[list[str]], list[str]] | None = None,
) -> Table:
    """The rows of a CSV file (of `rows`, the first so many), each with as many fields as line 1.

    Args:
        path: of the file, compressed as its suffix says.
        header: whether the first line names the columns; else they are "0", "1", ...
        rows: how many are wanted; fewer are an error.
        text: given the columns' names, those that are not certain to be numbers.  The others
            are then read as float32 at once, which for thousands of columns saves seconds.
    """
    limit = None if rows is None else rows + header
    records: list[_Record] = []
    for record in _records(path, _text(path)):
        if len(records) == limit:
            break
        records.append(record)
    if not records:
        raise DataError(f"{path}: the file is empty")
    body = records[header:]
    if not body:
        raise DataError(f"{path}: no rows below the header")
    names = _names(path, records[0]) if header else [str(n) for n in range(records[0].fields)]
    _check_fields(path, records[0], body)
    if rows is not None and len(body) < rows:
        there = "1 row" if len(body) == 1 else f"{len(body)} rows"
        raise DataError(f"{path}: {there}; fit.rows = {rows} needs {rows} or more")
    unsure = set(names if text is None else text(names))
    frame = _parse(body, names, [name for name in names if name not in unsure])
    frame.index = pd.Index([record.line for record in body])
    return Table(path, header, frame)


def _check_fields(path: Path, first: _Record, rows: list[_Record]) -> None:
    ragged = [record for record in rows if record.fields != first.fields]
    if ragged:
        bad = ragged[0]
        received = f"one with {bad.fields}" if bad.text.strip() else "a blank line"
        raise DataError(
            f"{path}: line {bad.line}: {len(ragged)} of {len(rows)} rows have not the"
            f" {first.fields} fields of line {first.line}, first {received}"
        )


def _names(path: Path, header: _Record) -> list[str]:
    try:
        # Not by pandas, which makes an object of each column.
        [cells] = csv.reader(io.StringIO(header.text, newline=""), skipinitialspace=True)
    except csv.Error as error:
        raise DataError(f"{path}: line {header.line}: not CSV: {error}") from error
    names = [cell.strip() for cell in cells or [""]]
    if names == [""]:
        raise DataError(
            f"{path}: line {header.line}: expected the names of the columns, received a blank line"
        )
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            hint = "; if line 1 is data, set header = false" if _NUMBER.fullmatch(name) else ""
            count = names.count(name)
            raise DataError(
                f"{path}: line {header.line}: {count} columns are named {show(name)}{hint}"
            )
        seen.add(name)
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    if len(numbers) * 2 > len(names):
        raise DataError(
            f"{path}: line {header.line}: {len(numbers)} of {len(names)} columns are named by"
            f" numbers, first {show(numbers[0])}; if line 1 is data, set header = false"
        )
    if len(names) == 1:
        for separator in (";", "\t", "|"):
            if separator in names[0]:
                raise DataError(
                    f"{path}: line {header.line}: one column, {show(names[0])}; expected commas"
                    f" between the fields, received {separator!r}; save it comma-separated"
                )
    # It may be there as long as nothing uses it.
    return [name or f"column {number}{NAMELESS}" for number, name in enumerate(names, 1)]


def _parse(rows: list[_Record], names: list[str], sure: list[str]) -> pd.DataFrame:
    if sure:
        known = set(sure)
        kinds = {n: np.float32 if name in known else object for n, name in enumerate(names)}
        try:
            frame = _frame(rows, len(names), kinds)
        except ValueError:
            pass  # a cell is no number: the text cells below say which
        else:
            frame.columns = pd.Index(names)
            if np.isfinite(frame[sure].to_numpy(np.float32)).all():
                return frame
    frame = _frame(rows, len(names), object)
    frame.columns = pd.Index(names)
    return frame


def _frame(rows: list[_Record], width: int, kinds: object) -> pd.DataFrame:
    # pandas takes a byte order mark at the beginning for none of a cell, even in the middle of a
    # file, where two have been put together; so a line comes first that it skips.
    text = "skipped\n" + "".join(record.text for record in rows)
    with np.errstate(over="ignore"):  # becomes infinite, which is looked for
        return pd.read_csv(  # type: ignore[call-overload,no-any-return]  # kinds is a valid dtype
            io.StringIO(text),
            header=None,
            skiprows=1,
            names=range(width),
            dtype=kinds,
            na_filter=False,
            skipinitialspace=True,
            skip_blank_lines=False,
        )


# What a cell looks like


def number(text: str) -> float:
    """The cell as a number; not-a-number where it is none, or says that it is missing."""
    if _NUMBER.fullmatch(text) or _INFINITE.fullmatch(text):
        return float(text)
    return TRUE_FALSE.get(text.lower(), math.nan)


def is_number(text: str) -> bool:
    """Whether the cell is a number, a truth value or an infinity."""
    return not math.isnan(number(text))


def is_missing(text: str) -> bool:
    """Whether the cell is empty or spells that it is."""
    return text in MISSING_CELLS


def is_infinite(text: str) -> bool:
    """Whether the cell spells an infinity; 1e999 does not."""
    return _INFINITE.fullmatch(text) is not None


def is_date(text: str) -> bool:
    """Whether the cell looks like a date, with or without a time."""
    return _DATE.fullmatch(text) is not None


def is_whole(text: str) -> bool:
    """Whether the cell's value is a whole number: 3, and 3.0 too."""
    return _NUMBER.fullmatch(text) is not None and float(text).is_integer()


def is_truth(texts: Iterable[str]) -> bool:
    """Whether all cells are true or false, in any case."""
    return all(text.lower() in TRUE_FALSE for text in texts)


def is_counted(text: str) -> bool:
    """Whether the text itself is that of a whole number or a truth value: 3, but not 3.0."""
    return _WHOLE.fullmatch(text) is not None or text.lower() in TRUE_FALSE


def whole(text: str) -> int:
    """The value of a cell that `is_whole`."""
    return int(text) if _WHOLE.fullmatch(text) else int(float(text))


def listed(texts: Sequence[str]) -> str:
    """Some texts for a message: the first of them."""
    return ", ".join(texts[:LISTED]) + (", …" if len(texts) > LISTED else "")


def show(text: str) -> str:
    """A cell for a message: quoted, and not endless."""
    return repr(text if len(text) <= WIDEST else f"{text[:WIDEST]}…")
