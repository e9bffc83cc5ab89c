"""The reference of a signature: the distributions that drift is measured against.

There is one for each feature and each head, or for each part of one that has parts: as counts of
bins or categories, so that it takes some hundred bytes however many rows it is of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

# The JSON of a number is that of an integer if every float up to here is one.
_EXACT = 2**53
# Bins or categories of one distribution, so that a damaged file cannot take any amount of memory.
_MOST = 64


@dataclass(frozen=True)
class Numbers:
    """The distribution of numbers: the counts of bins.

    `edges` begins with the smallest number and ends with the largest.  A bin includes its lower
    edge; the last one also includes its upper edge.  `missing` counts the rows without a number.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int = 0


@dataclass(frozen=True)
class Categories:
    """The distribution of texts or labels: the count of each of `texts`, and of all others as one.

    `counts` has one entry more than `texts`, for the others.  `unseen` is how many of these others
    would be unseen texts if they were new rows; `None` if that is not known.
    """

    texts: tuple[str, ...]
    counts: tuple[int, ...]
    missing: int = 0
    unseen: int | None = None


Distribution = Numbers | Categories


@dataclass(frozen=True)
class Reference:
    """The distributions by input or head and by part, such as a feature, or "" for the whole.

    `rows` says which rows those of the inputs and of the heads are of, such as "training".
    """

    inputs: Mapping[str, Mapping[str, Distribution]] = field(default_factory=dict)
    heads: Mapping[str, Mapping[str, Distribution]] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)

    def restrict(self, inputs: Container[str], heads: Container[str]) -> Reference:
        """Return the distributions of these inputs and heads alone."""
        return Reference(
            {name: parts for name, parts in self.inputs.items() if name in inputs},
            {name: parts for name, parts in self.heads.items() if name in heads},
            self.rows,
        )


def dump(reference: Reference) -> dict[str, Any]:
    """Return a reference as JSON."""
    return {
        "rows": dict(reference.rows),
        **{
            side: {
                name: {part: _dump(one) for part, one in parts.items()}
                for name, parts in owners.items()
            }
            for side, owners in (("inputs", reference.inputs), ("heads", reference.heads))
        },
    }


def _dump(one: Distribution) -> dict[str, Any]:
    listed: dict[str, Any] = {"counts": list(one.counts)}
    if isinstance(one, Numbers):
        listed["edges"] = [_short(edge) for edge in one.edges]
    else:
        listed["texts"] = list(one.texts)
        listed |= {} if one.unseen is None else {"unseen": one.unseen}
    return listed | ({"missing": one.missing} if one.missing else {})


def _short(number: float) -> float | int:
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def parse(note: Mapping[str, Any]) -> Reference:
    """Read a reference from JSON; keys that are not known are ignored.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is none.
    """
    inputs, heads = (
        {
            str(name): {str(part): _parse(one) for part, one in parts.items()}
            for name, parts in note.get(side, {}).items()
        }
        for side in ("inputs", "heads")
    )
    rows = {str(side): str(text) for side, text in note.get("rows", {}).items()}
    return Reference(inputs, heads, rows)


def _parse(note: Mapping[str, Any]) -> Distribution:
    counts = tuple(map(_count, note["counts"]))
    missing = _count(note.get("missing", 0))
    if "texts" in note:
        texts = tuple(map(str, note["texts"]))
        _check_counts(counts, len(texts) + 1)
        unseen = _count(note["unseen"]) if "unseen" in note else None
        if (unseen or 0) > counts[-1]:
            raise ValueError(f"expected at most {counts[-1]} unseen, received {unseen}")
        return Categories(texts, counts, missing, unseen)
    edges = tuple(map(float, note["edges"]))
    _check_counts(counts, len(edges) - 1)
    # The last bin may be of one number, the largest.
    rising = all(lower < upper for lower, upper in pairwise(edges[:-1])) and edges[-2] <= edges[-1]
    if not rising or not all(map(math.isfinite, edges)):
        raise ValueError(f"expected edges of bins that rise, received {list(edges)}")
    return Numbers(edges, counts, missing)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _EXACT:
        raise ValueError(f"expected a number of rows, received {value!r}")
    return value


def _check_counts(counts: Sequence[int], expected: int) -> None:
    if len(counts) != expected or not 0 < expected <= _MOST or not any(counts):
        raise ValueError(f"expected {expected} counts, {_MOST} at most, received {len(counts)}")
