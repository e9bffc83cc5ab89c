"""Rows of a CSV file: columns to instances of a request.

A column is a feature (`age`, or `insurance.age`), a value of an image or another tensor (`digit.0`
… `digit.783`), a whole row of a tensor (`digit`, as JSON), or not the model's at all.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from service.commands.row_files import Row, RowsError, not_utf8
from service.wire import cells
from service.wire.column_names import WHOLE, ColumnNames, dtypes, full_name, holder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from service.signature import Input, Signature
    from service.wire.column_names import Meaning, Step

# Characters of a line.
LONGEST_LINE = 1 << 26


@dataclass(frozen=True)
class _Column:
    """A CSV column of the model: a feature, the n-th value of a row, or a whole row."""

    position: int
    entry: Input
    step: Step

    @cached_property
    def dtype(self) -> str:
        """The dtype of the values in the column."""
        return dtypes(self.entry).get(str(self.step), self.entry.tensors[0].dtype)


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
    columns = _columns(path, header, signature)
    _check_separator(place, header, columns)
    meanings = tuple((column.entry, column.step) for column in columns)
    taken = set() if keep else {column.position for column in columns}
    others = [position for position in range(len(header)) if position not in taken]
    rows = (
        Row(place, _instance(record, columns), tuple(record[position] for position in others))
        for place, record in _of_length(len(header), records)
    )
    return CsvRows(tuple(header), meanings, tuple(header[position] for position in others), rows)


def _check_separator(place: str, header: list[str], columns: list[_Column]) -> None:
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


def _columns(path: Path, header: list[str], signature: Signature) -> list[_Column]:
    place = f"{path}, line 1"
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        raise RowsError(f"{place}: expected each column once, received {twice[0]!r} again")
    names = ColumnNames.of(signature)
    columns = []
    for position, name in enumerate(header):
        meanings = _meanings(names, name)
        if len(meanings) > 1:
            clear = " or ".join(repr(full_name(entry, step)) for entry, step in meanings)
            raise RowsError(f"{place}: {name!r} is a feature of several inputs: say {clear}")
        columns += [_Column(position, entry, step) for entry, step in meanings]
    _check_once(place, header, columns)
    # The values of a tensor are sorted by their numbers, whatever the order of their columns.
    return sorted(columns, key=lambda c: c.step if isinstance(c.step, int) else 0)


def _check_once(place: str, header: list[str], columns: list[_Column]) -> None:
    """Refuse two columns for one value, such as `age` and `insurance.age`."""
    seen: dict[str, dict[Step, str]] = {}
    for column in columns:
        name = header[column.position]
        steps = seen.setdefault(column.entry.name, {})
        before = holder(steps, column.step)
        if before is not None:
            raise RowsError(f"{place}: {before!r} and {name!r} are the same: expected one")
        steps[column.step] = name


def _meanings(names: ColumnNames, name: str) -> Sequence[Meaning]:
    """Return the possible meanings of a column: a whole row, features, or a value."""
    entry = names.inputs.get(name)
    whole = entry is not None and not entry.features
    return [(names.inputs[name], WHOLE)] if whole else names.meanings(name)


def _instance(record: list[str], columns: list[_Column]) -> dict[str, Any]:
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
