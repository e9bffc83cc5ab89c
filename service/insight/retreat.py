"""The rule by which a canary is asked no more: it fails too often, or takes too long.

A share of failures is compared with that of the stable version, and the time of a request with the
median time of the stable version, in the same minutes.  So what troubles both is no reason.

Each comparison asks whether events are more frequent than a bound allows: failures, or requests
that take longer than `slower` times the stable median.  The evidence is a mixture of likelihood
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
# The fewest requests of the canary that any retreat rests on, and of the stable version for its
# median.
LEAST = 20
# The standard deviations by which the share of failures and the median of the stable version may
# be above what was counted.
_MARGIN = 3.0
# In seconds: a difference that small is one of threads and caches, and not of models.
FLOOR = 0.001
# The upper bounds of the counts of request times: in steps of 9 % from 1 ms to a minute.  What is
# faster is all the same, by `FLOOR`.
BOUNDS = tuple(FLOOR * 2 ** (step / 8) for step in range(8 * 16 + 1))
# The frequencies that are held against the bound: half way, a quarter of the way, … to all.
_STEPS = 2.0 ** -np.arange(1, 9)


class Counts(NamedTuple):
    """The counted requests of one version."""

    failed: int
    times: NDArray[np.int64]
    """The requests that were answered, by the bound that their time is below; the last are above
    all bounds."""

    @property
    def answered(self) -> int:
        """The requests that were answered."""
        return int(self.times.sum())


@dataclass(frozen=True)
class Retreat:
    """The reason why a canary is asked no more, with the figures that it rests on."""

    is_slow: bool
    """Whether it takes too long; if not, it fails too often."""
    requests: int
    """The requests that the canary was given."""
    stable_requests: int
    value: float
    """The share that the canary failed, or its median time in seconds."""
    stable_value: float
    """The same of the stable version."""

    def as_json(self) -> dict[str, Any]:
        """Return the figures: shares of requests, or seconds."""
        quantity = "seconds" if self.is_slow else "failed"
        return {
            "canary": {"requests": self.requests, quantity: self.value},
            "stable": {"requests": self.stable_requests, quantity: self.stable_value},
        }

    def __str__(self) -> str:
        """Return the reason as a message has it."""
        if self.is_slow:
            mine, other = map(_time, (self.value, self.stable_value))
            return (
                f"the median of its {self.requests} requests takes {mine}, and that of the "
                f"{self.stable_requests} of the stable version {other}"
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
        stable: the requests that the stable version was given.
        canary: the requests that the canary was given meanwhile.
        fail: the share of requests that the canary may fail, above that of the stable version.
        slower: how many times as long as the stable version it may take.
    """
    answered, others = canary.answered, stable.answered
    requests, stable_requests = answered + canary.failed, others + stable.failed
    if requests < LEAST:
        return None
    bound = fail + (_most(stable.failed, stable_requests) if stable_requests else 0.0)
    if _evidence(canary.failed, requests, bound) > -math.log(ALPHA):
        values = canary.failed / requests, stable.failed / max(1, stable_requests)
        return Retreat(False, requests, stable_requests, *values)
    if answered < LEAST or others < LEAST:
        return None
    usual = _quantile(stable, 0.5 + _MARGIN * 0.5 / math.sqrt(others))
    limit = max(slower * usual, usual + FLOOR)
    late = int(canary.times[np.searchsorted(BOUNDS, limit) + 1 :].sum())
    if _evidence(late, answered, 0.5) > -math.log(ALPHA):
        usual, own = (min(_quantile(counts, 0.5), BOUNDS[-1]) for counts in (stable, canary))
        return Retreat(True, answered, others, own, usual)
    return None


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


def _quantile(counts: Counts, share: float) -> float:
    """Return the bound below which a share of the times lie; infinity if there is none."""
    below = np.cumsum(counts.times)
    place = int(np.searchsorted(below, min(share, 1.0) * below[-1]))
    return BOUNDS[place] if place < len(BOUNDS) else math.inf
