"""True targets that arrive after the answers: the rows of a CSV, by request ID and row."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.commands.row_files import RowsError, not_utf8
from service.wire import cells

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

REQUEST_ID, ROW = "request_id", "row"


@dataclass(frozen=True)
class Truths:
    """The names of the targets, and the targets of each row that has them."""

    names: tuple[str, ...]
    by_row: Mapping[tuple[str, str], Sequence[str]]

    @classmethod
    def read(cls, path: Path, others: Collection[str]) -> Truths:
        """Read a CSV with the column request_id, maybe row, and targets.

        Args:
            path: the file.
            others: names that no target may have.

        Raises:
            RowsError: the file is no such CSV, or has a row twice.
        """
        # utf-8-sig, since spreadsheets write a byte order mark first.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = cells.reader(file)
            try:
                return _read(path, reader, others)
            except UnicodeDecodeError as error:
                raise not_utf8(path, error) from error
            except csv.Error as error:
                message = f"{path}, line {reader.line_num}: not CSV: {error}"
                raise RowsError(message) from error

    def of(self, sample: Mapping[str, Any] | None) -> Sequence[str] | None:
        """Return the targets of a sample; `None` if they are not known."""
        if sample is None:
            return None
        return self.by_row.get((sample["request_id"], str(sample["row"])))


def _read(path: Path, reader: Any, others: Collection[str]) -> Truths:
    header = [name.strip() for name in next(reader, [])]
    names = tuple(name for name in header if name not in (REQUEST_ID, ROW))
    if REQUEST_ID not in header or not names or len({*header}) < len(header):
        raise RowsError(
            f"{path}, line 1: expected the columns {REQUEST_ID}, {ROW} and those of targets, each "
            f"once, received {', '.join(header) or 'none'}"
        )
    if both := [name for name in names if name in others]:
        raise RowsError(
            f"{path}, line 1: expected targets, received {both[0]!r}, which is a column of the "
            "samples"
        )
    by_row: dict[tuple[str, str], Sequence[str]] = {}
    for record in reader:
        place = f"{path}, line {reader.line_num}"
        if len(record) != len(header):
            raise RowsError(
                f"{place}: expected {len(header)} cells, as the header has, "
                f"received {cells.said(record)}"
            )
        row = dict(zip(header, map(str.strip, record), strict=True))
        known = row[REQUEST_ID], row.get(ROW) or "0"
        if known in by_row:
            raise RowsError(
                f"{place}: expected each row of a request once, received row {known[1]} of "
                f"{known[0]!r} again"
            )
        by_row[known] = [row[name] for name in names]
    return Truths(names, by_row)
