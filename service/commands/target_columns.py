"""Target columns of a labelled file: the columns of each head, and their cells as targets.

A cell is a label, the index of one if no label is a whole number, or a number; as in training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from service.commands.row_files import RowsError
from service.errors import MISUSED, closest, nearest
from service.insight.scores import METRICS
from service.kinds import label_count
from service.signature import MISSING_CELLS, TRUE_FALSE
from service.wire import cells
from service.wire.body import count, listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from service.commands.row_files import Row
    from service.signature import Head, Signature

FLAG = "--target"


def _by_head(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Parse the values of an option HEAD=COLUMN."""
    del option
    pairs: dict[str, str] = {}
    for text in values:
        head, _equals, column = text.partition("=")
        if not (head and column):
            raise click.BadParameter(f"expected HEAD=COLUMN, received {text!r}")
        if head in pairs:
            raise click.BadParameter(f"expected each head once, received {head!r} again")
        pairs[head] = column
    return pairs


option = click.option(
    FLAG,
    "targets",
    multiple=True,
    callback=_by_head,
    metavar="HEAD=COLUMN",
    help="The column with the targets of a head, or several with commas between them; by default "
    "the one that training learned, or that has the head's name; may be given several times.",
)
_LARGEST = float(np.finfo(np.float32).max)


class TargetsError(RowsError):
    """A file has no targets of a head, or the command line names the wrong columns."""

    exit_code = MISUSED


@dataclass(frozen=True)
class Targets:
    """The columns of a file that hold the targets of a head."""

    head: Head
    columns: tuple[str, ...]
    positions: tuple[int, ...]
    known: dict[str, int] = field(default_factory=dict)
    """The index of each label that was read."""

    def read(self, rows: Sequence[Row]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return a mask of the rows that have targets, and the targets of these rows.

        Args:
            rows: rows of which `others` has all cells.

        Returns:
            The mask, [rows], and the targets: int [rows] for a multiclass head, else float32
            [rows, values].

        Raises:
            RowsError: a cell is no target of the head.
        """
        texts = [[row.others[position].strip() for position in self.positions] for row in rows]
        there = [not any(map(self._is_missing, cells_of_row)) for cells_of_row in texts]
        values = [
            [self._value(row, *pair) for pair in zip(self.columns, cells_of_row, strict=True)]
            for row, cells_of_row, whole in zip(rows, texts, there, strict=True)
            if whole
        ]
        mask = np.array(there, bool)
        if self.head.kind == "multiclass":
            return mask, np.array(values, np.int64).reshape(-1)
        return mask, np.array(values, np.float32).reshape(-1, len(self.columns))

    def _is_missing(self, cell: str) -> bool:
        return cell in MISSING_CELLS and cell not in (self.head.labels or ())

    def _value(self, row: Row, column: str, cell: str) -> float:
        if self.head.kind in ("multilabel", "regression"):
            value = _number(cell)
            if self.head.kind == "regression":
                expected, fits = "a number of float32", value is not None and abs(value) <= _LARGEST
            else:
                expected, fits = "0 or 1", value in (0, 1)
        else:
            value = self.known.get(cell, _place(cell, self.head))
            expected, fits = self._classes(cell), value is not None
        if value is None or not fits:
            raise RowsError(
                f"{row.place}, column {column!r}: expected {expected}, received {cell!r}"
            )
        if self.head.kind in ("binary", "multiclass"):
            self.known[cell] = int(value)
        return value

    def _classes(self, cell: str) -> str:
        if self.head.labels is None:
            return f"a class of the head {self.head.name!r}, 0 to {_classes(self.head) - 1}"
        near = nearest(cell, self.head.labels)
        return f"a label of the head {self.head.name!r} ({listing(self.head.labels)}){near}"


def find(
    place: str, header: Sequence[str], signature: Signature, given: Mapping[str, str]
) -> list[Targets]:
    """Return the targets of each head for which the file has them.

    They are the columns that `given` names, or else those that training learned, or the column with
    the name of the head, or for several labels the columns with their names.

    Args:
        place: the place of the header, for messages.
        header: the names of all columns.
        signature: the signature of the model.
        given: the columns of some heads, joined by commas.

    Raises:
        TargetsError: there are no targets at all, or not those that `given` names.
    """
    for name in given:
        if name not in signature.heads:
            near = nearest(name, signature.heads)
            raise TargetsError(
                f"{FLAG}: expected a head, one of {listing(signature.heads)}{near}, "
                f"received {name!r}"
            )
    positions = {name: position for position, name in enumerate(header)}
    targets = []
    for name, head in signature.heads.items():
        if name in given:
            columns = _given(head, given[name], positions)
        else:
            columns = next((c for c in _candidates(head) if c and positions.keys() >= {*c}), ())
        if columns:
            targets.append(Targets(head, columns, tuple(positions[name] for name in columns)))
    if not targets:
        scored = [head for head in signature.heads.values() if _columns(head)]
        wanted = dict.fromkeys(c for head in scored for some in _candidates(head) for c in some)
        near = next(filter(None, (nearest(name, header) for name in wanted)), "")
        way_out = f"{FLAG} HEAD=COLUMN" if scored else "triceps sign --kind HEAD=KIND, first"
        raise TargetsError(
            f"{place}: expected a column of targets ({listing(wanted) or 'no head has a kind'})"
            f"{near}, received none; say {way_out}"
        )
    return targets


def _columns(head: Head) -> int:
    """Return the number of columns that the targets of a head take; 0 if it has no metric."""
    if head.kind not in METRICS or _classes(head) == 0:
        return 0
    return 1 if head.kind in ("binary", "multiclass") else head.tensor.size or 0


def _classes(head: Head) -> int:
    return label_count(head.kind, head.tensor.size) or 0


def _candidates(head: Head) -> Iterator[tuple[str, ...]]:
    """Yield the columns that the targets of a head may be in, the likeliest ones first."""
    labels = head.labels if head.kind == "multilabel" else None
    for columns in (head.targets, (head.name,), labels or ()):
        if len(columns) == _columns(head):
            yield columns


def near(head: Head, header: Sequence[str], signature: Signature) -> str:
    """Return what to say for a head that a file seems to have under another name; else nothing."""
    known = {*signature.heads, *(f for e in signature.inputs.values() for f in e.feature_names)}
    others = [column for column in header if column not in known]
    for columns in _candidates(head):
        if len(columns) == 1 and (column := closest(columns[0], others)) is not None:
            return f" {columns[0]!r}; if {column!r} has them, say {FLAG} {head.name}={column}"
    return ""


def _given(head: Head, text: str, positions: Mapping[str, int]) -> tuple[str, ...]:
    if not _columns(head):
        raise TargetsError(
            f"{FLAG}: {head.name!r} is a {head.kind} of {head.tensor} a row, which has no metric: "
            f"give it a kind with triceps sign --kind {head.name}=KIND"
        )
    columns = (text,) if text in positions else tuple(name.strip() for name in text.split(","))
    for name in columns:
        if name not in positions:
            raise TargetsError(
                f"{FLAG} {head.name}={text}: expected a column{nearest(name, positions)}, "
                f"received {name!r}"
            )
    if len(columns) != _columns(head):
        raise TargetsError(
            f"{FLAG} {head.name}={text}: expected {count(_columns(head), 'column')}, "
            f"received {len(columns)}"
        )
    return columns


def _number(cell: str) -> float | None:
    """Return a cell as a number, not as an infinity; `None` if it is none."""
    value = cells.value(cell, "float64")
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _place(cell: str, head: Head) -> int | None:
    """Return the index of the label that a cell is; `None` if it is none of the head's."""
    labels = head.labels or ()
    if cell in labels:
        return labels.index(cell)
    value = _number(cell)
    if value is None or not value.is_integer():
        return None
    classes = _classes(head)
    if cell.lower() in TRUE_FALSE:
        return int(value) if classes == len(TRUE_FALSE) else None
    # Labels that are numbers are compared by value: the cell 7.0 has the label "7".
    numbers = {
        number: i for i, label in enumerate(labels) if (number := _number(label)) is not None
    }
    if numbers:
        return numbers.get(value)
    return int(value) if 0 <= value < classes else None
