"""Statistics of two distributions by cell, and what is drift by more than chance.

PSI, the population stability index, is the sum of (q - p) ln(q / p) over all cells, where p is the
share of a cell in the reference and q that among the rows.  If both are from one distribution, and
enough rows are expected in each cell, PSI has (1 / rows + 1 / rows of the reference) times a
chi-squared distribution with one degree of freedom less than there are cells (B. Yurdakul, 2018).
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]

# Rows that a cell has to expect, or it becomes one with the next.  With 10 in place of 20, there
# are several times as many false alarms as a small risk allows (benchmarks/DRIFT.md).
ENOUGH = 20
# The two thresholds that are usual for PSI: from the first on, a change is worth a look; above the
# second, it is large (N. Siddiqi, Credit Risk Scorecards, 2006).
SMALL, LARGE = 0.1, 0.25
# The chance to find a large change that `rows_needed` aims at, by an approximation; in simulations,
# it was 0.9 at least.
POWER = 0.95
# The references whose rows are remembered: a service asks for them again and again.
_REMEMBERED = 4096
_HALVINGS = 60  # of an interval, until it is as small as the rounding of its ends


class Comparison(NamedTuple):
    """The statistics of two distributions, on cells that expect enough rows.

    `bound` is the PSI that chance explains.  All are `None` if there are not two such cells.
    """

    psi: float | None
    jensen_shannon: float | None
    bound: float | None

    @property
    def exceeds_chance(self) -> bool:
        """True if the two differ by more than chance explains."""
        return self.psi is not None and self.bound is not None and self.psi > self.bound


def compare(reference: Counts, counts: Counts, risk: float) -> Comparison:
    """Compare the counts of rows with those of a reference, by the same cells.

    Args:
        reference: the rows of the reference by cell.
        counts: the rows that are compared with it.
        risk: the probability that `exceeds_chance` although nothing has changed.
    """
    before, after = pooled(reference, counts)
    cells = len(before)
    if cells < 2:  # noqa: PLR2004  (one or none has nothing to differ by)
        return Comparison(None, None, None)
    chance = bound(int(before.sum()), int(after.sum()), cells, risk)
    return Comparison(psi(before, after), jensen_shannon(before, after), chance)


def pooled(reference: Counts, counts: Counts) -> tuple[Counts, Counts]:
    """Return both counts with neighbouring cells put together until each expects `ENOUGH` rows.

    A cell expects the mean of its two shares, in the smaller of the two.
    """
    sides = int(reference.sum()), int(counts.sum())
    if not min(sides):
        return reference[:0], counts[:0]
    expected = (reference / sides[0] + counts / sides[1]) / 2 * min(sides)
    starts, rows = [0], 0.0
    for cell, more in enumerate(expected.tolist()):
        if rows >= ENOUGH:
            starts.append(cell)
            rows = 0.0
        rows += more
    if rows < ENOUGH and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(reference, starts), np.add.reduceat(counts, starts)


def psi(reference: Counts, counts: Counts) -> float:
    """Return the population stability index, with half a row added to each cell of both.

    The half row keeps an empty cell finite, and fades as rows grow.  A fixed share, such as the
    usual 0.0001, does not: one empty cell of ten would then be 0.69.
    """
    p, q = (_shares(side, 0.5) for side in (reference, counts))
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(reference: Counts, counts: Counts) -> float:
    """Return the Jensen-Shannon distance: the root of the divergence, by logarithms of base 2.

    It is from 0 to 1, and empty cells need no care.
    """
    p, q = (_shares(side, 0.0) for side in (reference, counts))
    middle = (p + q) / 2
    total = 0.0
    for side in (p, q):
        there = side > 0
        total += float((side[there] * np.log2(side[there] / middle[there])).sum()) / 2
    return math.sqrt(min(max(total, 0.0), 1.0))


def _shares(counts: Counts, extra: float) -> NDArray[np.float64]:
    added = counts + extra
    shares: NDArray[np.float64] = added / added.sum()
    return shares


def bound(reference_rows: int, rows: int, cells: int, risk: float) -> float:
    """Return the PSI that chance exceeds with a probability of `risk`, if nothing has changed.

    Args:
        reference_rows: the rows of the reference.
        rows: the rows that are compared with it.
        cells: the number of cells, 2 or more, each of which expects `ENOUGH` rows.
        risk: the probability of a false alarm.
    """
    return (1 / reference_rows + 1 / rows) * chi_squared(cells - 1, risk)


@cache
def chi_squared(degrees: int, risk: float) -> float:
    """Return the number that a chi-squared variable exceeds with a probability of `risk`."""
    low, high = 0.0, 1.0
    while _exceeding(degrees, high) > risk:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _exceeding(degrees, middle) > risk else (low, middle)
    return high


def _exceeding(degrees: int, number: float) -> float:
    """Return the probability that a chi-squared variable exceeds a number."""
    # The finite sum for whole degrees of freedom, which is that of a Poisson distribution for even
    # ones (N. L. Johnson and S. Kotz, Continuous Univariate Distributions 1, 1970).
    half, odd = number / 2, degrees % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    term = math.exp(-half) * (math.sqrt(half / math.pi) * 2 if odd else 1.0)
    for index in range(degrees // 2):
        total += term
        term *= half / (index + 1 + odd / 2)
    return total


def rows_needed(reference: Counts, risk: float) -> int | None:
    """Return from how many rows on a large change is found; `None` if the reference is too small.

    Args:
        reference: the rows of the reference by cell.
        risk: the probability of a false alarm.
    """
    return _rows_needed(reference.tobytes(), risk)


@lru_cache(_REMEMBERED)
def _rows_needed(content: bytes, risk: float) -> int | None:
    reference = np.frombuffer(content, np.int64)
    total = int(reference.sum())
    room = LARGE / _noncentrality(_cells(reference) - 1, risk) - 1 / total
    if room <= 0:
        return None
    # Before there are two cells to compare, nothing is found.  A reference of one value has none.
    below = np.cumsum(reference) / total
    balance = float(np.minimum(below, 1 - below).max())
    two = ENOUGH / balance if balance * total >= ENOUGH else 2 * ENOUGH
    return math.ceil(max(1 / room, two))


def reference_rows_needed(reference: Counts, risk: float) -> int:
    """Return how many rows a reference like this needs for as many rows to be enough."""
    cells = max(2, int(np.count_nonzero(reference)))
    return math.ceil(2 * _noncentrality(cells - 1, risk) / LARGE)


def _cells(reference: Counts) -> int:
    """Return the number of cells that as many rows as the reference has would be compared by."""
    return max(2, len(pooled(reference, reference)[0]))


def _noncentrality(degrees: int, risk: float) -> float:
    """Return the noncentrality of a chi-squared variable that exceeds its bound with `POWER`.

    By its normal approximation: a mean of degrees + it, and a variance of 2 (degrees + 2 times it).
    """
    above = chi_squared(degrees, risk) - degrees
    z = NormalDist().inv_cdf(POWER)
    # The root of (it - above)² = 2 z² (degrees + 2 it) that is larger than `above`.
    half = above + 2 * z * z
    return half + math.sqrt(half * half - above * above + 2 * z * z * degrees)
