"""The names of columns, and the part of an input that each of them means.

digit            a whole row of an input
insurance.age    a feature by its full name
age              a feature by its bare name, which several inputs may have
digit.0          the first value of a row of an input without features

The columns of answers have names of the same kind: o1, o1.label, o3.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.signature import Head, Input, Signature

    Step = str | int
    """A part of an input's row: a feature's name, the index of a value, or `WHOLE`."""
    Meaning = tuple[Input, Step]

T = TypeVar("T")

WHOLE = -1
_PLACE = re.compile(r"0|[1-9][0-9]{0,9}")


@dataclass(frozen=True)
class ColumnNames:
    """The names of the parts of a signature's inputs."""

    inputs: Mapping[str, Input]
    full: Mapping[str, Meaning]
    """Features by their full names."""
    bare: Mapping[str, Sequence[Meaning]]
    """Features by their bare names."""

    @classmethod
    def of(cls, signature: Signature) -> ColumnNames:
        """Collect the names of the features of a signature's inputs."""
        full: dict[str, Meaning] = {}
        bare: dict[str, list[Meaning]] = {}
        for entry in signature.inputs.values():
            for name in entry.feature_names:
                full[full_name(entry, name)] = (entry, name)
                bare.setdefault(name, []).append((entry, name))
        return cls(signature.inputs, full, bare)

    def meanings(self, name: str) -> Sequence[Meaning]:
        """Return the features, or the value, that a name can mean: none, one or several."""
        # A full name takes precedence over a feature with the same bare name.
        meaning = self.full.get(name) or self.value(name)
        return self.bare.get(name, ()) if meaning is None else (meaning,)

    def value(self, name: str) -> Meaning | None:
        """Return the n-th value of a row; names are parsed, since an image has many thousands."""
        owner, _, place = name.rpartition(".")
        entry = self.inputs.get(owner)
        if entry is None or entry.features or not _PLACE.fullmatch(place):
            return None
        tensor = entry.tensors[0]
        size = (tensor.size or 0) if tensor.shape else 0
        return (entry, int(place)) if int(place) < size else None


def full_name(entry: Input, step: Step) -> str:
    """Return the full name of a feature or a value, with its input in front."""
    return f"{entry.name}.{step}"


def of_answer(head: Head) -> tuple[list[str], str | None]:
    """Return the names of the columns of a head's values, and of its labels if it has any."""
    label = None if head.labels is None else f"{head.name}.label"
    size = head.tensor.size
    if head.tensor.shape in ((), (1,)) or size is None:
        return [head.name], label
    return [f"{head.name}.{i}" for i in range(size)], label


def holder(taken: Mapping[Step, T], step: Step) -> T | None:
    """Return the entry of `taken` that already covers a part of an input's row, if any.

    A whole row covers each of its parts, and any part conflicts with the whole row.
    """
    if step == WHOLE and taken:
        return next(iter(taken.values()))
    return taken.get(step, taken.get(WHOLE))


def dtypes(entry: Input) -> dict[str, str]:
    """Map each feature to the dtype of its tensor; an input without features has no entries."""
    return {feature.name: entry.dtypes[feature.tensor] for feature in entry.features}
