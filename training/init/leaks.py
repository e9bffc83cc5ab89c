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
# The most by which a sum differs from its target in a row, in deviations of the target: rounding.
_ROUNDING = 1e-3
_PARTS = 20  # of a sum, each taken a few times
_TIMES = 5
_OFF = 0.01  # from a whole number: rounding
_TERMS = 3  # of a sum with any factors
_WIDEST = 200  # columns; of more, as of pixels, no sum is looked for
_FILLED = 0.95


def leak(column: Profile, targets: Sequence[Profile]) -> str:
    """Return why a column is a target in other words, or an empty text."""
    for target in targets:
        if only := _only_where(column, target):
            return f"is filled in only where {target.name!r} is {show(only)}"
        both = (column.codes >= 0) & (target.codes >= 0)
        if int(both.sum()) < _ENOUGH:
            continue
        mine, theirs = column.codes[both], target.codes[both]
        if other := _zero_where(column, mine, target, theirs):
            return f"is 0 in the rows where {target.name!r} is {show(other)}, and in no others"
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


def _zero_where(
    column: Profile, mine: NDArray[np.int64], target: Profile, theirs: NDArray[np.int64]
) -> str:
    """Return the value of a target that exactly the rows with a 0 in a column have, if any.

    A 0 then means that there is nothing to say, as with the wage of somebody without work.
    """
    if not column.is_numeric or not 1 < len(target.texts) <= MANY < len(column.texts):
        return ""
    zero = column.values[mine] == 0
    if not _ENOUGH <= int(zero.sum()) <= len(zero) - _ENOUGH:
        return ""
    value = int(np.bincount(theirs[zero]).argmax())
    same = zero == (theirs == value)
    return target.texts[value] if same.mean() >= _ALWAYS else ""


def _one_to_one(mine: NDArray[np.int64], theirs: NDArray[np.int64]) -> bool:
    """Return whether the values of two columns belong together in pairs, in nearly all rows."""
    values, classes = len(np.unique(mine)), len(np.unique(theirs))
    # Columns with another value in nearly every row belong together in pairs, whatever they say.
    if not 1 < classes <= values <= 2 * classes or 2 * values > len(mine):
        return False
    pairs, counts = np.unique(np.stack([mine, theirs]), axis=1, return_counts=True)
    return all(_commonest(side, counts) >= _ALWAYS * len(mine) for side in pairs)


def _commonest(side: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
    """Return the rows that have for each value of one side its commonest partner on the other."""
    most = np.zeros(int(side.max()) + 1, np.int64)
    np.maximum.at(most, side, counts)
    return int(most.sum())


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return abs(float((one * other).sum())) / size if size > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, ranks = np.unique(values, return_inverse=True)
    return ranks.astype(np.float64)


def sums(columns: Sequence[Profile], targets: Sequence[Profile]) -> dict[str, str]:
    """Return the columns of which a target is the sum, each with that sum as the reason.

    A sum takes a few columns of numbers, each a whole number of times, or up to three by any
    factor: a total of its parts, or a part as the total less the others.
    """
    found: dict[str, str] = {}
    numeric = [column for column in columns if column.is_numeric]
    for target in targets:
        if not target.is_numeric or len(target.texts) <= MANY:
            continue
        # A target may be the sum of some columns, and of others again.
        while terms := _sum([c for c in numeric if c.name not in found], target):
            order = sorted(terms.items(), key=lambda term: term[1] < 0)
            text = " + ".join(_term(name, factor) for name, factor in order)
            text = text.replace(" + -", " - ")
            found |= dict.fromkeys(terms, f"{target.name!r} is {text} in every row")
    return found


def _term(name: str, factor: float) -> str:
    number = f"{abs(factor):.4g}"
    return f"{'-' if factor < 0 else ''}{'' if number == '1' else f'{number} '}{show(name)}"


def _sum(columns: Sequence[Profile], target: Profile) -> dict[str, float]:
    """Return the factor of each column whose sum is the target, or nothing."""
    columns = [column for column in columns if column.cells >= _FILLED * column.rows]
    there = np.logical_and.reduce([c.codes >= 0 for c in (*columns, target)])
    wanted = target.values[target.codes[there]]
    # More rows than this agree with as many columns only if they must.
    if not 0 < len(columns) <= _WIDEST or len(wanted) < _ENOUGH + 3 * len(columns):
        return {}
    table = np.stack([column.values[column.codes[there]] for column in columns], axis=1)
    kept = list(range(len(columns)))
    factors = _solved(table, wanted)
    if factors is None:
        return {}
    # Columns with no part in the sum go at once, and then one by one those that others replace.
    parts = np.abs(factors) * table.std(axis=0)
    rest = [place for place in kept if parts[place] > _ROUNDING * wanted.std()]
    if rest and (fewer := _solved(table[:, rest], wanted)) is not None:
        kept, factors = rest, fewer
    for place in list(kept):
        rest = [other for other in kept if other != place]
        if rest and (fewer := _solved(table[:, rest], wanted)) is not None:
            kept, factors = rest, fewer
    whole = np.round(factors)
    times = np.abs(whole)
    counted = bool((np.abs(factors - whole) < _OFF).all() and (times >= 1).all())
    counted = counted and bool((times <= _TIMES).all())
    if len(kept) > (_PARTS if counted else _TERMS):
        return {}
    terms = zip(kept, whole if counted else factors, strict=True)
    return {columns[place].name: float(factor) for place, factor in terms}


def _solved(table: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the factors of the columns of a table whose sum is as wanted in every row, if any."""
    sizes = np.maximum(np.abs(table).max(axis=0), np.finfo(float).tiny)
    scaled = table / sizes
    most = _ROUNDING * float(wanted.std())
    some = slice(_ENOUGH + 3 * table.shape[1])
    factors = np.linalg.lstsq(scaled[some], wanted[some], rcond=None)[0]
    # Most tables have no such sum, which a part of the rows shows at once.
    if np.abs(scaled[some] @ factors - wanted[some]).max() > most:
        return None
    factors = np.linalg.lstsq(scaled, wanted, rcond=None)[0]
    if np.abs(scaled @ factors - wanted).max() > most:
        return None
    return np.asarray(factors / sizes)
