"""The readers of all forms of MLflow bodies; each returns the rows of every input.

    dataframe_split    a table: a header, and rows of cells
    inputs             a table by column, or rows
    dataframe_records  rows, each with its own keys
    instances          the same
    text/csv           a table whose cells are strings

Names have the same meaning in all of them (`names`).
"""

from __future__ import annotations

import csv
import io
from array import array
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from service.wire import cells
from service.wire.body import (
    MOST_ROWS,
    Notes,
    count,
    key,
    listing,
    refuse_unknown,
    show,
    too_many,
    wrong,
)
from service.wire.columns import A_ROW, lists
from service.wire.mlflow.names import Columns
from service.wire.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from service.wire.mlflow.names import Names, Parts

# Cells of a line.  Commas are counted, and an image in one cell has one for each of its values.
_MOST_CELLS = 2**19


@dataclass(frozen=True)
class _Table:
    """Rows of cells under one header; a cell is text in a CSV, and a JSON value otherwise."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    place: str
    """The path of the header."""
    place_of: Callable[[int], str]
    """The path of the n-th name in the header."""
    path: Callable[[int, str, Columns], str]
    """The path of an input's row, by the row's number and the input's name."""
    text: bool = False


def read_split(value: Any, names: Names, notes: Notes) -> dict[str, Rows]:
    """Return the rows of each input in a `dataframe_split`; its index is only checked."""
    place = "dataframe_split"
    if not isinstance(value, dict):
        notes.add(place, 'an object with "columns" and "data"', show(value))
        return {}
    refuse_unknown(value, "key", ("columns", "data", "index"), place, notes)
    rows, columns, index = value.get("data"), value.get("columns"), value.get("index")
    if not isinstance(rows, list) or not rows:
        received = show(rows) if "data" in value else "nothing"
        notes.add(f"{place}.data", A_ROW, received)
        return {}
    if too_many(len(rows), f"{place}.data", notes):
        return {}
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        notes.add(f"{place}.index", f"a list of {len(rows)}, one for each row", show(index))
    if columns is None and isinstance(rows[0], list):
        columns = list(range(len(rows[0])))  # as pandas names them
    if not isinstance(columns, list) or not columns:
        notes.add(f"{place}.columns", "a list of names", show(columns))
        return {}
    before = notes.count
    for i, column in enumerate(columns):
        if type(column) not in (str, int):
            notes.add(f"{place}.columns[{i}]", "a name", show(column))
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            received = count(len(row), "value") if isinstance(row, list) else show(row)
            expected = f"a list of {count(len(columns), 'value')}, one for each column"
            notes.add(f"{place}.data[{i}]", expected, received)
    if notes.count > before:
        return {}
    table = _Table(
        [f"{column}" for column in columns],
        rows,
        f"{place}.columns",
        lambda position: f"{place}.columns[{position}]",
        lambda i, name, found: f"{place}.data[{i}]{found.suffix(name)}",
    )
    return _read_table(table, names, notes)


def read_columns(columns: dict[str, Any], names: Names, notes: Notes) -> dict[str, Rows]:
    """Return the rows of each input in `inputs` by column."""
    if not columns:
        notes.add("inputs", f"an object of {listing(names.shown)}", show(columns))
        return {}
    keys, before = tuple(columns), notes.count
    paths = {name: f"inputs{key(name)}" for name in keys}
    lists(columns, paths.__getitem__, notes)
    even = notes.count == before

    def path(i: int, name: str, found: Columns) -> str:
        return f"{paths[name]}[{i}]" if found.whole(name) else f"inputs, row {i}, {name}"

    table = _Table(
        keys,
        list(zip(*columns.values(), strict=True)) if even else [],
        "inputs",
        lambda position: paths[keys[position]],
        path,
    )
    return _read_table(table, names, notes)


def _read_table(table: _Table, names: Names, notes: Notes) -> dict[str, Rows]:
    """Return the rows of each input in a table."""

    def column(position: int) -> Iterable[Any]:
        return (row[position] for row in table.rows)

    columns = Columns(names, table.names, column, table.place_of, notes)
    columns.note_missing(table.place)
    rows = columns.values_of(table.rows) if table.text else table.rows
    rows_by_input = {}
    for name in names.signature.inputs:
        gather = columns.gather(name)
        if gather is not None and rows:
            rows_by_input[name] = Rows(
                [gather(row) for row in rows], partial(_place, table, name, columns)
            )
    return rows_by_input


def _place(table: _Table, name: str, columns: Columns, i: int) -> str:
    return table.path(i, name, columns)


def read_rows(form: str, rows: Any, names: Names, notes: Notes) -> dict[str, Rows]:
    """Return the rows of each input in a list of rows, each of which has its own keys."""
    if not isinstance(rows, list) or not rows:
        notes.add(form, A_ROW + ", or an object of columns" * (form == "inputs"), show(rows))
        return {}
    if too_many(len(rows), form, notes):
        return {}
    inputs = names.signature.inputs
    values: dict[str, list[Any]] = {name: [] for name in inputs}
    places: dict[str, list[str]] = {name: [] for name in inputs}
    # The parts for each set of keys, and the number of mistakes in them: a million rows mostly have
    # the same keys, which are interpreted only once.
    known: dict[tuple[str, ...], tuple[Parts | None, int]] = {}
    for i, row in enumerate(rows):
        place = f"{form}[{i}]"
        if isinstance(row, dict):
            keys = tuple(row)
            parts, mistakes = known.get(keys, (None, 0))
            if parts is None or (mistakes and not notes.full):
                before = notes.count
                columns = _keys_of(row, names, place, notes)
                parts = columns.parts()
                if columns.steady:
                    known[keys] = parts, notes.count - before
            else:
                notes.count += mistakes
            if parts.absent:
                notes.miss(place, parts.absent)
            record = tuple(row.values())
            for name, gather, suffix in parts.gathers:
                values[name].append(gather(record))
                places[name].append(place + suffix)
        elif names.single:
            for name in inputs:
                values[name].append(row)
                places[name].append(place)
        else:
            notes.add(place, f"an object of {listing(names.shown)}", show(row))
    return {name: Rows(values[name], places[name].__getitem__) for name in inputs if values[name]}


def _keys_of(row: dict[str, Any], names: Names, place: str, notes: Notes) -> Columns:
    """Return the meaning of the keys of one row."""
    keys, record = tuple(row), tuple(row.values())
    return Columns(
        names,
        keys,
        lambda position: record[position : position + 1],
        lambda position: f"{place}{key(keys[position])}",
        notes,
    )


def read_csv(body: bytes, names: Names, notes: Notes) -> dict[str, Rows]:
    """Return the rows of each input in a CSV.

    Raises:
        BadRequest: the body is not a CSV in UTF-8, or has no rows.
    """
    records = _records(body)
    line, first = next(records, (0, []))
    header = [name.strip() for name in first]
    if header == [""]:
        raise wrong(f"line {line}", "the names of the columns", "a blank line")
    rows: list[list[str]] = []
    lines = array("Q")
    for line, record in records:
        if len(rows) == MOST_ROWS:
            notes.add("body", f"at most {MOST_ROWS} rows in one request", "more")
            break
        if len(record) != len(header):
            expected = f"{count(len(header), 'cell')}, as the header has"
            notes.add(f"line {line}", expected, cells.said(record))
        rows.append([cell.strip() for cell in record])
        lines.append(line)
    if not rows:
        received = "a header line alone" if header else "no body"
        raise wrong("body", "CSV: a header line, and a line for each row", received)
    if notes.count:
        return {}
    place = "line 1, the header"

    def path(i: int, name: str, _: Columns) -> str:
        return f"line {lines[i]}, {name}"

    table = _Table(header, rows, place, lambda _: place, path, text=True)
    return _read_table(table, names, notes)


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a CSV, and refuse a line with too many cells to read in a moment.

    Raises:
        BadRequest: a line has more than `_MOST_CELLS` cells.
    """
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if len(line) > _MOST_CELLS and line.count(",") > _MOST_CELLS:
            raise wrong(f"line {number}", f"at most {_MOST_CELLS} cells", "more")
        yield line


def _records(body: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line; a blank line has one empty cell."""
    try:
        # utf-8-sig, since spreadsheets begin a file with a byte order mark.
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        received = f"the byte 0x{body[error.start]:02x} at offset {error.start}"
        raise wrong("body", "CSV in UTF-8", received) from error
    records = cells.reader(_lines(text))
    try:
        for record in records:
            yield records.line_num, record or [""]
    except csv.Error as error:
        raise wrong(f"line {records.line_num}", "CSV", f"none ({error})") from error
