"""Residuals of a regression, target minus answer: their figures, and counts to draw them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The part of the values that each end of a drawing may leave out, so that one value far out does
# not leave all others in one bin; they are counted in its outermost bins.
TAIL = 0.005


class Figures(NamedTuple):
    """The figures of one value of a regression, in the unit of its column except for `r2`.

    `r2` is the coefficient of determination, the part of the variance that the answers explain: 1
    is perfect, 0 as good as always the mean of these targets; `None` if all targets are the same.
    """

    rows: int
    mae: float
    rmse: float
    median: float
    """The median of the absolute residuals: half of the rows are off by less."""
    bias: float
    """The mean residual: above 0, the answers are too low."""
    r2: float | None


class Histogram(NamedTuple):
    """Counts, [bins], between edges, float64 [bins + 1]; the outermost bins have what is beyond."""

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


class Squares(NamedTuple):
    """The rows by target and by answer: counts, int64 [targets, answers], from `low` to `high`."""

    counts: NDArray[np.int64]
    low: float
    high: float


def figures(targets: NDArray[Any], answers: NDArray[Any]) -> Figures:
    """Return the figures of at least one row, [rows] each."""
    targets, answers = targets.astype(np.float64), answers.astype(np.float64)
    residual = targets - answers
    size, spread = np.abs(residual), targets - targets.mean()
    squares = float((residual**2).sum())
    r2 = None
    if targets.min() < targets.max():
        r2 = 1 - squares / float((spread**2).sum())
    return Figures(
        len(targets),
        float(size.mean()),
        math.sqrt(squares / len(targets)),
        float(np.median(size)),
        float(residual.mean()),
        r2,
    )


def histogram(values: NDArray[Any], count: int) -> Histogram:
    """Return at least one value in bins of equal width; equal values are one bin."""
    values = values.astype(np.float64)
    low, high = _ends(values)
    edges = np.linspace(low, high, (count if high > low else 1) + 1)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return Histogram(np.bincount(place, minlength=len(edges) - 1), edges)


def squares(targets: NDArray[Any], answers: NDArray[Any], count: int) -> Squares:
    """Return at least one row by target and answer, in squares of equal width, `count` a side."""
    targets, answers = targets.astype(np.float64), answers.astype(np.float64)
    ends = [_ends(values) for values in (targets, answers)]
    low, high = min(pair[0] for pair in ends), max(pair[1] for pair in ends)
    if not high > low:
        margin = max(abs(low), 1.0) / 2
        low, high = low - margin, high + margin
    across, down = (
        np.clip((values - low) / (high - low) * count, 0, count - 1).astype(np.int64)
        for values in (targets, answers)
    )
    counts = np.bincount(across * count + down, minlength=count * count)
    return Squares(counts.reshape(count, count), low, high)


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [TAIL, 1 - TAIL], method="nearest")
    return float(low), float(high)
