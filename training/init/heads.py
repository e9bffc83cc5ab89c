"""The heads that a user asks for: their columns and kinds, with the reason for each kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from service.errors import nearest
from training.cells import INSTEAD_OF_DATES, LARGEST, is_date, listed, show
from training.errors import SpecError
from training.head_spec import KINDS
from training.init.profile import some
from training.targets import MANY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.init.profile import Profile

    Tables = Mapping[str, Mapping[str, Profile]]  # by input and column

# Whole numbers are classes if they count from 0 or 1 and every class has so many rows on average.
_ROWS_OF_A_CLASS = 10
# Classes are far from even if the commonest has so many times the rows of the rarest.
_UNEVEN = 20


@dataclass(frozen=True)
class Head:
    """One head: the columns of an input that it learns, its kind and the reason for that.

    `weights` is the class weight by label, empty if the classes are near enough to even.  `rarest`
    is the number of rows of the rarest class, or `None` without classes.
    """

    name: str
    owner: str
    columns: tuple[str, ...]
    kind: str
    reason: str
    labels: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    missing: int = 0
    rarest: int | None = None


@dataclass(frozen=True)
class Wanted:
    """One `--head` of the command line: columns of an input, and the kind if it names one."""

    text: str
    owner: str
    columns: tuple[str, ...]
    kind: str | None


def find(text: str, tables: Tables) -> Wanted:
    """Return what `COLUMN`, `INPUT.COLUMN` or either with `:KIND` means.

    A multilabel head may name several columns with commas between them.

    Raises:
        SpecError: there is no such column or kind, or several inputs have it.
    """
    if places := _places(text, tables):
        return Wanted(text, *_one(text, text, places), None)
    columns, colon, kind = text.rpartition(":")
    if not colon:
        raise SpecError(_unknown(text, text, tables))
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise SpecError(
            f"--head {text}: expected {columns}:KIND with one of {known}, received {show(kind)}"
            f"{nearest(kind, KINDS)}"
        )
    if places := _places(columns, tables):
        return Wanted(text, *_one(text, columns, places), kind)
    parts = [part.strip() for part in columns.split(",")]
    if len(parts) == 1 or kind not in ("multilabel", "regression"):
        raise SpecError(_unknown(text, columns, tables))
    owners, names = [], []
    for part in parts:
        places = _places(part, tables)
        if not places:
            raise SpecError(_unknown(text, part, tables))
        owner, [name] = _one(text, part, places)
        owners.append(owner)
        names.append(name)
    if len(set(owners)) > 1:
        raise SpecError(f"--head {text}: expected columns of one file, received columns of several")
    return Wanted(text, owners[0], tuple(names), kind)


def _places(text: str, tables: Tables) -> list[tuple[str, str]]:
    """Return the inputs and columns that a text can mean."""
    places = [(owner, text) for owner, columns in tables.items() if text in columns]
    owner, dot, column = text.partition(".")
    if dot and column in tables.get(owner, {}):
        places.append((owner, column))
    return places


def _one(text: str, column: str, places: list[tuple[str, str]]) -> tuple[str, tuple[str]]:
    if len(places) > 1:
        both = " and ".join(f"{owner}.{name}" for owner, name in places)
        raise SpecError(f"--head {text}: {column!r} could be {both}; name one of them so")
    [(owner, name)] = places
    return owner, (name,)


def _unknown(text: str, column: str, tables: Tables) -> str:
    names = [name for columns in tables.values() for name in columns]
    tail = nearest(column, names) or f"; columns: {listed(names)}"
    return f"--head {text}: no column {column!r}{tail}"


def choose(wanted: Wanted, columns: Sequence[Profile], name: str) -> Head:
    """Return the head for these columns.

    Raises:
        SpecError: the columns have nothing that a head of this kind can learn.
    """
    kind, reason = wanted.kind, "as --head says"
    if kind is None:
        kind, reason = _kind(wanted, columns[0])
    _check(wanted, columns, kind)
    labels: tuple[str, ...] = ()
    weights: dict[str, float] = {}
    rarest = None
    if kind in ("binary", "multiclass"):
        labels, counts = _classes(columns[0])
        weights = _weights(labels, counts)
        rarest = min(counts)
    elif kind == "multilabel":
        rarest = min(int(column.counts[column.values == 1].sum()) for column in columns)
    missing = int(np.any([column.codes < 0 for column in columns], axis=0).sum())
    return Head(name, wanted.owner, wanted.columns, kind, reason, labels, weights, missing, rarest)


def _kind(wanted: Wanted, column: Profile) -> tuple[str, str]:
    count = len(column.distinct) if column.is_numeric else len(column.texts)
    if count < 2:  # noqa: PLR2004  (two classes)
        cells = f"{show(column.texts[0])} in every row" if column.texts else "empty"
        raise SpecError(f"--head {wanted.text}: the column is {cells}; there is nothing to learn")
    if count == 2 and (column.is_whole or not column.is_numeric):  # noqa: PLR2004  (two classes)
        return "binary", f"two values, {' and '.join(show(text) for text in _classes(column)[0])}"
    if column.is_numeric:
        return _kind_of_numbers(wanted, column)
    if column.every(is_date):
        raise SpecError(
            f"--head {wanted.text}: dates ({some(column)}) are no amounts; {INSTEAD_OF_DATES}"
        )
    if count > MANY and 2 * count > column.cells:
        raise SpecError(
            f"--head {wanted.text}: {count} different texts in {column.cells} rows"
            f" ({some(column)}) are no classes"
        )
    return "multiclass", f"{count} different texts"


def _kind_of_numbers(wanted: Wanted, column: Profile) -> tuple[str, str]:
    values = column.distinct
    low, high, count = values[0], values[-1], len(values)
    counted = column.is_whole and low in (0, 1) and high - low == count - 1
    if counted and count <= MANY and column.cells >= _ROWS_OF_A_CLASS * count:
        other = f"{wanted.text}:regression"
        return (
            "multiclass",
            f"whole numbers, each from {low:g} to {high:g}; an amount is --head {other}",
        )
    return "regression", "numbers"


def _check(wanted: Wanted, columns: Sequence[Profile], kind: str) -> None:
    """Refuse columns that training would refuse for a head of this kind."""
    for column in columns:
        at = f"--head {wanted.text}: column {column.name!r}"
        if not column.texts:
            raise SpecError(f"{at} is empty; there is nothing to learn")
        if kind in ("regression", "multilabel") and not column.is_numeric:
            other = next(t for t, v in zip(column.texts, column.values, strict=True) if np.isnan(v))
            raise SpecError(f"{at}: a {kind} head needs numbers, received {show(other)}")
        if kind == "regression" and (far := np.abs(column.values) > LARGEST).any():
            other = show(column.texts[int(far.argmax())])
            raise SpecError(f"{at}: a {kind} head needs numbers of a float32, received {other}")
        if kind == "multilabel" and not np.isin(column.values, (0, 1)).all():
            raise SpecError(f"{at}: a multilabel head needs 0 and 1, received other numbers")
        if kind in ("binary", "multiclass"):
            count = len(_classes(column)[0])
            if count < 2 or (kind == "binary" and count > 2):  # noqa: PLR2004  (two classes)
                needed = "2 different values" if kind == "binary" else "2 different values or more"
                received = f"{count} ({some(column)})"
                # 1 and true are one number, and two labels.
                one_way = column.is_numeric and len(column.distinct) <= 2 < count  # noqa: PLR2004
                way_out = "; write each value in one way" if one_way else ""
                raise SpecError(f"{at}: a {kind} head needs {needed}, received {received}{way_out}")
            if column.is_numeric and not column.is_whole:
                raise SpecError(
                    f"{at}: a {kind} head needs texts or whole numbers; it has fractions or"
                    " infinities"
                )


def _classes(column: Profile) -> tuple[tuple[str, ...], list[int]]:
    """Return the labels as training sorts them, and the rows of each."""
    if not column.is_whole or not column.every(lambda text: text.lstrip("+-")[:1].isdigit()):
        order = sorted(range(len(column.texts)), key=column.texts.__getitem__)
        return tuple(column.texts[i] for i in order), [int(column.counts[i]) for i in order]
    values = column.distinct
    counts = [int(column.counts[column.values == value].sum()) for value in values]
    return tuple(str(int(value)) for value in values), counts


def _weights(labels: Sequence[str], counts: Sequence[int]) -> dict[str, float]:
    """Return class weights between equal ones and balanced ones, if classes are far from even.

    Balanced weights make a rare class as loud as a common one, and the model then says it far too
    often.  The square root of them is a middle way.
    """
    if max(counts) < _UNEVEN * min(counts):
        return {}
    even = sum(counts) / len(counts)
    return {
        label: float(f"{(even / count) ** 0.5:.3g}")
        for label, count in zip(labels, counts, strict=True)
    }
