"""The columns of a table for people, a CSV or a DataFrame: what each means, and which are missing.

A column is a feature (`age`, or `insurance.age`), a value of an image or another tensor (`digit.0`
… `digit.783`), a whole row of a tensor (`digit`), or not the model's at all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from service.errors import closest
from service.wire.body import listing, wrong
from service.wire.column_names import WHOLE, ColumnNames, dtypes, full_name, holder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.signature import Feature, Input, Signature
    from service.wire.column_names import Meaning, Step


@dataclass(frozen=True)
class Column:
    """A column of the model: a feature, the n-th value of a row, or a whole row."""

    position: int
    entry: Input
    step: Step

    @cached_property
    def dtype(self) -> str:
        """The dtype of the values in the column."""
        return dtypes(self.entry).get(str(self.step), self.entry.tensors[0].dtype)


class Absent(NamedTuple):
    """Features that a table lacks in all of its rows, and the two halves of the message."""

    expected: str
    received: str
    name: str
    """The name of the feature, or that of the input if all of its columns are absent."""
    features: Sequence[Feature]
    """The features; none for an input that has no features."""


def assign(header: Sequence[str], signature: Signature) -> list[Column]:
    """Return the columns that are the model's; the values of a tensor are in their order.

    Raises:
        BadRequest: a name is there twice, or means several features, or two names mean one.
    """
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        raise wrong("columns", "each column once", f"{twice[0]!r} again")
    names = ColumnNames.of(signature)
    columns = []
    for position, name in enumerate(header):
        meanings = _meanings(names, name)
        if len(meanings) > 1:
            clear = " or ".join(repr(full_name(entry, step)) for entry, step in meanings)
            raise wrong("columns", clear, f"{name!r}, a feature of several inputs")
        columns += [Column(position, entry, step) for entry, step in meanings]
    _check_once(header, columns)
    # The values of a tensor are sorted by their numbers, whatever the order of their columns.
    return sorted(columns, key=lambda c: c.step if isinstance(c.step, int) else 0)


def _meanings(names: ColumnNames, name: str) -> Sequence[Meaning]:
    """Return the possible meanings of a column: a whole row, features, or a value."""
    entry = names.inputs.get(name)
    whole = entry is not None and not entry.features
    return [(names.inputs[name], WHOLE)] if whole else names.meanings(name)


def _check_once(header: Sequence[str], columns: Sequence[Column]) -> None:
    """Refuse two columns for one value, such as `age` and `insurance.age`."""
    seen: dict[str, dict[Step, str]] = {}
    for column in columns:
        name = header[column.position]
        steps = seen.setdefault(column.entry.name, {})
        before = holder(steps, column.step)
        if before is not None:
            raise wrong("columns", f"{before!r} or {name!r}, which are the same", "both")
        steps[column.step] = name


def absent(
    header: Sequence[str],
    meanings: Sequence[Meaning],
    signature: Signature,
    needed: Mapping[str, Sequence[Feature]],
    table: str,
) -> Iterator[Absent]:
    """Yield the features that a table lacks.

    Args:
        header: the names of all columns.
        meanings: the parts of inputs that they are.
        signature: the signature of the model.
        needed: the features that are needed, by input; none for an input without features.
        table: the noun for the table, for messages.
    """
    there = {full_name(entry, step) for entry, step in meanings}
    inputs = {entry.name for entry, _ in meanings}
    names = ColumnNames.of(signature)
    others = [name for name in header if not names.meanings(name) and name not in signature.inputs]
    for input_name, features in needed.items():
        entry = signature.inputs[input_name]
        lacking = [f for f in features if full_name(entry, f.name) not in there]
        if input_name not in inputs and len(lacking) == len(entry.features):
            yield _no_columns(entry, header, others, table)
            continue
        for feature in lacking:
            clear = len(names.meanings(feature.name)) == 1
            name = feature.name if clear else full_name(entry, feature.name)
            near = _near(entry, feature.name, others, table)
            yield Absent(f"a column {name!r}{near}", "none", name, [feature])


def _no_columns(entry: Input, header: Sequence[str], others: Sequence[str], table: str) -> Absent:
    near = {
        name: near for name in entry.feature_names if (near := _near(entry, name, others, table))
    }
    first = next(iter(near), next(iter(entry.feature_names), ""))
    example = full_name(entry, first) if first else entry.name
    expected = f"columns of the input {entry.name!r}, such as {example!r}{near.get(first, '')}"
    received = listing([repr(name) for name in header])
    return Absent(expected, received, entry.name, entry.features)


def _near(entry: Input, feature: str, columns: Sequence[str], table: str) -> str:
    """Return the column of the table that may be this feature, for a message; empty for none."""
    full = full_name(entry, feature)
    same = (c for c in columns if c.casefold() in (feature.casefold(), full.casefold()))
    column = next(same, None) or closest(feature, columns) or closest(full, columns)
    return "" if column is None else f" ({table} has {column!r})"
