"""The rule by which a canary is asked no more: it fails too often, or takes too long.

A share of failures is compared with that of the stable version in the same minutes, so what
troubles both is no reason.  Times are those of runs, since a version with fewer requests has
shorter queues.  As it has smaller runs, too, each run is compared with the median of the stable
version's runs of about as many rows; if there are none, with that of larger runs, or with that of
smaller ones as if each row took as long.  Both only make the canary look better.

Each comparison asks whether events are more frequent than a bound allows: failures, or runs that
take longer than `slower` times the stable median.  The evidence is a mixture of likelihood
ratios, each of a higher frequency against the bound.  If the bound is kept, its mean is at most 1
however many requests there are, so the chance that it *ever* exceeds 1 / ALPHA is at most ALPHA
(Ville's inequality).  It may be looked at after any request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The chance of a retreat without a reason, in each period that counts are taken over.
ALPHA = 1e-6
# The fewest requests, or runs, of the canary that any retreat rests on, and the fewest runs of the
# stable version for its median.
LEAST = 20
# The standard deviations by which the share of failures and the median of the stable version may
# be above what was counted.
_MARGIN = 3.0
# In seconds: a difference that small is one of threads and caches, and not of models.
FLOOR = 0.001
# The upper bounds of the counts of times: in steps of 9 % from 1 ms to a minute.  What is
# faster is all the same, by `FLOOR`.
BOUNDS = tuple(FLOOR * 2 ** (step / 8) for step in range(8 * 16 + 1))
# The counts of times are apart for runs of 1 row, of 2 or 3, of 4 to 7, …, and of 128 and more.
SIZES = 8
# The frequencies that are held against the bound: half way, a quarter of the way, … to all.
_STEPS = 2.0 ** -np.arange(1, 9)


class Counts(NamedTuple):
    """The counted requests and runs of one version."""

    failed: int
    answered: int
    times: NDArray[np.int64]
    """The runs by their size and by the bound that their time is not above, [SIZES, bounds + 1]."""


@dataclass(frozen=True)
class Retreat:
    """The reason why a canary is asked no more, with the figures that it rests on."""

    is_slow: bool
    """True if the canary takes too long; if not, it fails too often."""
    requests: int
    """The requests that the canary was given; of a slow one, its runs."""
    stable_requests: int
    value: float
    """The share that the canary failed, or its median time in seconds."""
    stable_value: float
    """The same of the stable version."""
    crashes: bool = False
    """True if the canary has ended the processes that ran it, so many times."""
    hangs: bool = False
    """True if the canary is slow since a run of it, of these seconds, does not end."""

    def as_json(self) -> dict[str, Any]:
        """Return the figures: shares of requests, or seconds of runs."""
        of, quantity = ("runs", "seconds") if self.is_slow else ("requests", "failed")
        return {
            "canary": {of: self.requests, quantity: self.value},
            "stable": {of: self.stable_requests, quantity: self.stable_value},
        }

    def __str__(self) -> str:
        """Return the reason as a message has it."""
        if self.crashes:
            return f"the process that ran it has ended {self.requests} times"
        if self.hangs:
            return f"a run of it has not ended for {_time(self.value)}"
        if self.is_slow:
            own, usual = map(_time, (self.value, self.stable_value))
            return (
                f"the median of its {self.requests} runs takes {own}, and that of the "
                f"{self.stable_requests} of the stable version {usual}"
            )
        return (
            f"it fails {100 * self.value:.3g} % of {self.requests} requests, and the stable "
            f"version {100 * self.stable_value:.3g} % of {self.stable_requests}"
        )


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def why(stable: Counts, canary: Counts, fail: float, slower: float) -> Retreat | None:
    """Return why a canary is to be asked no more; `None` if it keeps its bounds so far.

    Args:
        stable: the requests and runs of the stable version.
        canary: those of the canary, meanwhile.
        fail: the share of requests that the canary may fail, above that of the stable version.
        slower: how many times as long as the stable version it may take.
    """
    requests, others = canary.answered + canary.failed, stable.answered + stable.failed
    bound = fail + (_most(stable.failed, others) if others else 0.0)
    if requests >= LEAST and _evidence(canary.failed, requests, bound) > -math.log(ALPHA):
        values = canary.failed / requests, stable.failed / max(1, others)
        return Retreat(False, requests, others, *values)
    runs = late = 0
    for size in range(SIZES):
        limit = _limit(stable.times, size, slower)
        if limit is not None:
            runs += int(canary.times[size].sum())
            late += int(canary.times[size, np.searchsorted(BOUNDS, limit) + 1 :].sum())
    if runs >= LEAST and _evidence(late, runs, 0.5) > -math.log(ALPHA):
        of_all = [counts.times.sum(axis=0) for counts in (canary, stable)]
        number, others = (int(times.sum()) for times in of_all)
        own, usual = (min(_quantile(times, 0.5), BOUNDS[-1]) for times in of_all)
        return Retreat(True, number, others, own, usual)
    return None


def hung(stable: Counts, seconds: float) -> Retreat:
    """Return that a run of the canary has not ended for so long."""
    times = stable.times.sum(axis=0)
    usual = min(_quantile(times, 0.5), BOUNDS[-1]) if times.any() else 0.0
    return Retreat(True, 1, int(times.sum()), seconds, usual, hangs=True)


def _limit(stable: NDArray[np.int64], size: int, slower: float) -> float | None:
    """Return the time that half of the canary's runs of a size may take; `None` if not known."""
    known = [other for other in range(SIZES) if stable[other].sum() >= LEAST]
    larger = [other for other in known if other >= size]
    if not known or (not larger and size == SIZES - 1):
        # The largest runs have any number of rows.
        return None
    other = larger[0] if larger else known[-1]
    # The most rows of this size for each of the fewest of the other.
    times = 1.0 if larger else 2.0 ** (size + 1 - other)
    count = int(stable[other].sum())
    usual = times * _quantile(stable[other], 0.5 + _MARGIN * 0.5 / math.sqrt(count))
    return max(slower * usual, usual + FLOOR)


def _most(events: int, requests: int) -> float:
    """Return a share of events that the true one is hardly above (Wilson's upper bound)."""
    square = _MARGIN**2
    centre = events + square / 2
    spread = _MARGIN * math.sqrt(events * (requests - events) / requests + square / 4)
    return (centre + spread) / (requests + square)


def _evidence(events: int, requests: int, bound: float) -> float:
    """Return the logarithm of the evidence that events are more frequent than `bound`."""
    if bound >= 1 or events <= bound * requests:
        return 0.0
    # A bound of 0 would be proven wrong by the first event.
    bound = max(bound, 1e-4)
    higher = bound + (1 - bound) * _STEPS
    ratios = events * np.log(higher / bound)
    ratios += (requests - events) * np.log((1 - higher) / (1 - bound))
    return float(np.logaddexp.reduce(ratios)) - math.log(len(higher))


def _quantile(times: NDArray[np.int64], share: float) -> float:
    """Return the bound below which a share of the times lie; infinity if there is none."""
    below = np.cumsum(times)
    place = int(np.searchsorted(below, min(share, 1.0) * below[-1]))
    return BOUNDS[place] if place < len(BOUNDS) else math.inf
