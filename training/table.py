"""A CSV file as a table of cells, each row's fields counted.

    csv_file.Record, ... ── read ──▶ Table ── column ──▶ Column: distinct texts, and who has which

Every cell is text until somebody asks what it looks like, so that nothing is coerced in
silence and whatever is wrong can be told with file, line and column.  Spaces around a cell
are no part of it.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from service.errors import nearest
from training.cells import LARGEST, NUMBER, is_infinite, is_missing, is_number, listed, number, show
from training.csv_file import Record, read_records
from training.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Never

    from numpy.typing import NDArray


SHOWN = 5  # cells of a column, in a message

NAMELESS = " (which has no name)"


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

    def require(self, name: str, key: str) -> str:
        """Return `name`, which `key` of a spec gives, if there is such a column.

        Raises:
            SpecError: there is none.
        """
        if name in self.frame.columns:
            return name
        tail = nearest(name, self.columns) or f"; columns: {listed(self.columns)}"
        raise SpecError(f"{key}: no column {name!r} in {str(self.path)!r}{tail}")

    def column(self, name: str) -> Column:
        """One column's cells."""
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
        """Which rows have a cell that `fits`."""
        return np.array([fits(text) for text in self.texts], bool)[self.codes]

    def values(self) -> NDArray[np.float64]:
        """The cells as numbers; not-a-number where a cell is none."""
        return np.array([number(text) for text in self.texts], np.float64)[self.codes]

    def numbers(self, missing: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """The cells as numbers that a float32 holds; not-a-number where a cell is missing.

        Raises:
            DataError: another cell is none.
        """
        values = self.values()
        present = np.ones(len(self), bool) if missing is None else ~missing
        self.refuse(present & ~self.mark(is_number), "are not a number")
        self.refuse(present & self.mark(is_infinite), "are infinite")
        # Infinite also where the text is finite and too large even for float64.  The largest
        # float32 is printed as 3.4028235e+38, which is a little more than it is, and rounds to it.
        with np.errstate(over="ignore"):
            too_large = np.isinf(values.astype(np.float32))
        self.refuse(present & too_large, "are too large for a float32")
        return np.clip(values, -LARGEST, LARGEST)

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
        # Not by pandas, which makes an object of each column.
        [cells] = csv.reader(io.StringIO(header.text, newline=""), skipinitialspace=True)
    except csv.Error as error:
        raise DataError(f"{at}: not CSV: {error}") from error
    names = [cell.strip() for cell in cells or [""]]
    if names == [""]:
        raise DataError(f"{at}: expected the names of the columns, received a blank line")
    _check_distinct(at, names)
    _check_no_numbers(at, names)
    _check_separator(at, names)
    # It may be there as long as nothing uses it.
    return [name or f"column {number}{NAMELESS}" for number, name in enumerate(names, 1)]


def _check_distinct(at: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            hint = "; if line 1 is data, set header = false" if NUMBER.fullmatch(name) else ""
            raise DataError(f"{at}: {names.count(name)} columns are named {show(name)}{hint}")
        seen.add(name)


def _check_no_numbers(at: str, names: list[str]) -> None:
    """Refuse a first line that is most likely data."""
    numbers = [name for name in names if NUMBER.fullmatch(name)]
    if len(numbers) * 2 > len(names):
        raise DataError(
            f"{at}: {len(numbers)} of {len(names)} columns are named by numbers,"
            f" first {show(numbers[0])}; if line 1 is data, set header = false"
        )


def _check_separator(at: str, names: list[str]) -> None:
    """Refuse a file of one column in whose name fields are separated by something else."""
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
            pass  # a cell is no number: the text cells below say which
        else:
            frame.columns = pd.Index(names)
            if np.isfinite(frame[sure].to_numpy(np.float32)).all():
                return frame
    frame = _frame(rows, len(names), object)
    frame.columns = pd.Index(names)
    return frame


def _frame(rows: list[Record], width: int, kinds: object) -> pd.DataFrame:
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
