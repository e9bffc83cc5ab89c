"""Features that are a target in other words, so that a model would learn nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.cells import show
from training.targets import MANY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.init.profile import Profile

_ENOUGH = 20  # rows; fewer agree by chance
_ALWAYS = 0.999
_MOSTLY = 0.9
_SAME = 0.9999  # a correlation: the rest is rounding


def leak(column: Profile, targets: Sequence[Profile]) -> str:
    """Return why a column is a target in other words, or an empty text."""
    for target in targets:
        if only := _only_where(column, target):
            return f"is filled in only where {target.name!r} is {show(only)}"
        both = (column.codes >= 0) & (target.codes >= 0)
        if int(both.sum()) < _ENOUGH:
            continue
        mine, theirs = column.codes[both], target.codes[both]
        if _one_to_one(mine, theirs):
            return f"says the same as {target.name!r}, value by value"
        if column.is_numeric and target.is_numeric and len(target.texts) > MANY:
            numbers, wanted = column.values[mine], target.values[theirs]
            if _correlation(numbers, wanted) > _SAME:
                return f"is {target.name!r} in another unit"
            if _correlation(_ranks(numbers), _ranks(wanted)) > _SAME:
                return f"has the order of {target.name!r} in every row"
    return ""


def _only_where(column: Profile, target: Profile) -> str:
    """Return the one value of a target that rows with a cell in a column have, or an empty text.

    Such a cell is filled in once the target is known, as a cause of death is.
    """
    if not 1 < len(target.texts) <= MANY:
        return ""
    known = target.codes >= 0
    sides = [target.codes[known & side] for side in (column.codes >= 0, column.codes < 0)]
    if min(map(len, sides)) < _ENOUGH:
        return ""
    filled, empty = (np.bincount(side, minlength=len(target.texts)) / len(side) for side in sides)
    value = int(filled.argmax())
    # The other rows have other values too, so that the cell says something that they do not.
    return target.texts[value] if filled[value] >= _ALWAYS and empty[value] < _MOSTLY else ""


def _one_to_one(mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> bool:
    """Return whether the values of two columns belong together in pairs, in nearly all rows."""
    values, classes = len(np.unique(mine)), len(np.unique(theirs))
    # Columns with another value in nearly every row belong together in pairs, whatever they say.
    if not 1 < classes <= values <= 2 * classes or 2 * values > len(mine):
        return False
    pairs, counts = np.unique(np.stack([mine, theirs]), axis=1, return_counts=True)
    return all(
        sum(counts[side == value].max() for value in np.unique(side)) >= _ALWAYS * len(mine)
        for side in pairs
    )


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return abs(float((one * other).sum())) / size if size > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, ranks = np.unique(values, return_inverse=True)
    return ranks.astype(np.float64)
