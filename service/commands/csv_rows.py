"""Rows of a CSV file: columns to instances of a request.

The names of the columns say what they are (`service.wire.table_columns`); a whole row is JSON.
"""

from __future__ import annotations

import csv
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from service.commands.row_files import Row, RowsError, not_utf8
from service.errors import BadRequest
from service.wire import cells
from service.wire.table_columns import assign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.signature import Signature
    from service.wire.column_names import Meaning
    from service.wire.table_columns import Column

# Characters of a line.
LONGEST_LINE = 1 << 26


class CsvRows(NamedTuple):
    """The rows of a CSV, and what its columns are."""

    header: tuple[str, ...]
    meanings: tuple[Meaning, ...]
    """The parts of inputs that columns are."""
    others: tuple[str, ...]
    """The columns that are passed through."""
    rows: Iterator[Row]


def read_csv(path: Path, file: IO[str], signature: Signature, *, keep: bool = False) -> CsvRows:
    """Read the header of a CSV; its rows are read when they are asked for.

    Args:
        path: the path of the file, for messages.
        file: the file, opened with `newline=""`.
        signature: the signature of the model that the rows are for.
        keep: pass all columns through, and not only those that are not the model's.

    Raises:
        RowsError: the file is not CSV in UTF-8, or two of its columns are the same.
    """
    records = _records(path, cells.reader(_lines(path, file)))
    place, names = next(records, ("", []))
    header = [name.strip() for name in names]
    if header == [""]:
        raise RowsError(f"{place}: expected the names of the columns, received a blank line")
    columns = _columns(f"{path}, line 1", header, signature)
    _check_separator(place, header, columns)
    meanings = tuple((column.entry, column.step) for column in columns)
    taken = set() if keep else {column.position for column in columns}
    others = [position for position in range(len(header)) if position not in taken]
    rows = (
        Row(place, _instance(record, columns), tuple(record[position] for position in others))
        for place, record in _of_length(len(header), records)
    )
    return CsvRows(tuple(header), meanings, tuple(header[position] for position in others), rows)


def _check_separator(place: str, header: list[str], columns: list[Column]) -> None:
    """Refuse a file whose one column is not the model's and contains another separator."""
    if len(header) == 1 and not columns:
        for separator in (";", "\t", "|"):
            if separator in header[0]:
                raise RowsError(
                    f"{place}: expected commas between the cells, received {separator!r}: save it "
                    "comma-separated"
                )


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file, each of which is in memory as a whole."""
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), ""), 1):
        if len(line) > LONGEST_LINE:
            message = f"expected at most {LONGEST_LINE} characters, received more"
            raise RowsError(f"{path}, line {number}: {message}")
        yield line


def _records(path: Path, reader: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield each record with its place; a blank line is one empty cell."""
    try:
        for record in reader:
            yield f"{path}, line {reader.line_num}", record or [""]
    except csv.Error as error:
        raise RowsError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error


def _of_length(
    length: int, records: Iterator[tuple[str, list[str]]]
) -> Iterator[tuple[str, list[str]]]:
    for place, record in records:
        if len(record) != length:
            raise RowsError(
                f"{place}: expected {length} cells, as the header has, "
                f"received {cells.said(record)}"
            )
        yield place, record


def _columns(place: str, header: list[str], signature: Signature) -> list[Column]:
    try:
        return assign(header, signature)
    except BadRequest as error:
        [problem] = error.problems
        message = f"{place}: expected {problem.expected}, received {problem.received}"
        raise RowsError(message) from error


def _instance(record: list[str], columns: list[Column]) -> dict[str, Any]:
    instance: dict[str, Any] = {}
    for column in columns:
        name, step, cell = column.entry.name, column.step, record[column.position].strip()
        if isinstance(step, str):
            instance.setdefault(name, {})[step] = cells.value(cell, column.dtype)
        elif step >= 0:
            instance.setdefault(name, []).append(cells.value(cell, column.dtype))
        else:
            instance[name] = cells.row(cell, column.entry)
    return instance
