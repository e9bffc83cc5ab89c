"""A CSV file as a table of cells, with the same number of fields in every row.

    csv_file.Record, ... ── read ──▶ Table ── column ──▶ Column: distinct strings, an index by row

Every cell stays text until a caller needs its value, so that nothing is coerced silently and every
error can name file, line and column.  Spaces around a cell are not part of it.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from service.errors import nearest
from service.wire.cells import reader
from training.cells import LARGEST, NUMBER, is_infinite, is_missing, is_number, listed, number, show
from training.csv_file import Record, read_records
from training.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Never

    from numpy.typing import NDArray


SHOWN = 5  # cells of a column, in a message

# The way out of a file whose first line has no names, for who has a spec.
NO_HEADER = "set header = false"
NAMELESS = " (which has no name)"


@dataclass(frozen=True)
class Table:
    """The rows of one file.  Cells are text, or float32 in columns that `read` could read at once.

    The index of `frame` holds each row's line in the file.
    """

    path: Path
    header: bool
    frame: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns, in the file's order."""
        return [str(name) for name in self.frame.columns]

    def require(self, name: str, key: str) -> str:
        """Return `name`, which the spec has at `key`, if there is such a column.

        Raises:
            SpecError: there is no such column.
        """
        if name in self.frame.columns:
            return name
        tail = nearest(name, self.columns) or f"; columns: {listed(self.columns)}"
        raise SpecError(f"{key}: no column {name!r} in {str(self.path)!r}{tail}")

    def column(self, name: str) -> Column:
        """Return the cells of one column."""
        series = self.frame[name]
        codes, cells = pd.factorize(series.to_numpy(object))
        texts = [str(text).strip() for text in cells]
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
        """Return a mask of the rows whose cell `fits`."""
        return np.array([fits(text) for text in self.texts], bool)[self.codes]

    def values(self) -> NDArray[np.float64]:
        """Return the cells as numbers, with not-a-number for any other cell."""
        return np.array([number(text) for text in self.texts], np.float64)[self.codes]

    def numbers(self, missing: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return the cells as numbers within float32, with not-a-number for a missing cell.

        Raises:
            DataError: a cell that is not missing is not a number, or is infinite or too large.
        """
        values = self.values()
        present = np.ones(len(self), bool) if missing is None else ~missing
        self.refuse(present & ~self.mark(is_number), "are not a number")
        self.refuse(present & self.mark(is_infinite), "are infinite")
        # A cell such as 1e400 is finite, but too large even for float64.  The largest float32 is
        # printed as 3.4028235e+38, which is slightly more than its value and rounds to it.
        with np.errstate(over="ignore"):
            too_large = np.isinf(values.astype(np.float32))
        self.refuse(present & too_large, "are too large for a float32")
        return np.clip(values, -LARGEST, LARGEST)

    def refuse(self, bad: NDArray[np.bool_], verb: str, way_out: str = "", key: str = "") -> None:
        """Raise an error if any row is `bad`: it names the first, and how many there are.

        Raises:
            SpecError: a row is bad and `key` is given, a spec's file and key, which is wrong then.
            DataError: a row is bad and `key` is empty.
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
        """Raise a `DataError` about the column as a whole."""
        raise DataError(f"{self.path}: column {self.name!r}: {text}")

    def some(self) -> str:
        """Return the first few distinct cells for a message."""
        texts = [text for text in self.texts if not is_missing(text)]
        shown = ", ".join(map(show, texts[:SHOWN]))
        return f"{shown}, …" if len(texts) > SHOWN else shown


def read(
    path: Path,
    *,
    header: bool = True,
    rows: int | None = None,
    text: Callable[[list[str]], list[str]] | None = None,
) -> Table:
    """Read the rows of a CSV file, which all must have as many fields as line 1.

    Args:
        path: the file; its suffix says how it is compressed.
        header: whether the first line names the columns; else they are "0", "1", ...
        rows: how many rows to read, all by default; fewer are an error.
        text: a function from the columns' names to those that may hold text.  The others are read
            as float32 at once if that works, which saves seconds for thousands of columns.

    Raises:
        DataError: the file is not a CSV file with these rows.
    """
    limit = None if rows is None else rows + header
    records: list[Record] = []
    for record in read_records(path):
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


def _check_fields(path: Path, first: Record, rows: list[Record]) -> None:
    ragged = [record for record in rows if record.fields != first.fields]
    if ragged:
        bad = ragged[0]
        received = f"one with {bad.fields}" if bad.text.strip() else "a blank line"
        raise DataError(
            f"{path}: line {bad.line}: {len(ragged)} of {len(rows)} rows have not the"
            f" {first.fields} fields of line {first.line}, first {received}"
        )


def _names(path: Path, header: Record) -> list[str]:
    at = f"{path}: line {header.line}"
    try:
        # Not with pandas, which creates an object for each column.
        [texts] = reader(io.StringIO(header.text, newline=""))
    except csv.Error as error:
        raise DataError(f"{at}: not CSV: {error}") from error
    names = [text.strip() for text in texts or [""]]
    if names == [""]:
        raise DataError(f"{at}: expected the names of the columns, received a blank line")
    _check_distinct(at, names)
    _check_no_numbers(at, names)
    _check_separator(at, names)
    # A column without a name is allowed as long as nothing uses it.
    return [name or f"column {number}{NAMELESS}" for number, name in enumerate(names, 1)]


def _check_distinct(at: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            hint = f"; if line 1 is data, {NO_HEADER}" if NUMBER.fullmatch(name) else ""
            raise DataError(f"{at}: {names.count(name)} columns are named {show(name)}{hint}")
        seen.add(name)


def _check_no_numbers(at: str, names: list[str]) -> None:
    """Refuse a first line that is probably data."""
    numbers = [name for name in names if NUMBER.fullmatch(name)]
    if len(numbers) * 2 > len(names):
        raise DataError(
            f"{at}: {len(numbers)} of {len(names)} columns are named by numbers,"
            f" first {show(numbers[0])}; if line 1 is data, {NO_HEADER}"
        )


def _check_separator(at: str, names: list[str]) -> None:
    """Refuse a file with one column whose name contains another separator than a comma."""
    if len(names) == 1:
        for separator in (";", "\t", "|"):
            if separator in names[0]:
                raise DataError(
                    f"{at}: one column, {show(names[0])}; expected commas"
                    f" between the fields, received {separator!r}; save it comma-separated"
                )


def _parse(rows: list[Record], names: list[str], sure: list[str]) -> pd.DataFrame:
    if sure:
        known = set(sure)
        kinds = {n: np.float32 if name in known else object for n, name in enumerate(names)}
        try:
            frame = _frame(rows, len(names), kinds)
        except ValueError:
            pass  # a cell is not a number; read as text, it can be named
        else:
            frame.columns = pd.Index(names)
            if np.isfinite(frame[sure].to_numpy(np.float32)).all():
                return frame
    frame = _frame(rows, len(names), object)
    frame.columns = pd.Index(names)
    return frame


def _frame(rows: list[Record], width: int, kinds: object) -> pd.DataFrame:
    # pandas drops a byte order mark at the beginning, even one that belongs to a cell because two
    # files were concatenated.  So the text begins with a line that pandas skips.
    text = "skipped\n" + "".join(record.text for record in rows)
    with np.errstate(over="ignore"):  # too large a number becomes infinite, and is refused
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
