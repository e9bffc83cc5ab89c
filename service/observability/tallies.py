"""The counts of requests that are shared between a stable version and a canary, of all workers.

A *tally* is the place of one canary in the memory of one worker, which alone writes it.  It has the
hash of what is compared, and counts by version.  All workers read the sums; so a worker that was
killed leaves its counts, and its successor goes on from them.  The memory also has the reason why
a canary is asked no more, which is read by all workers.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# The canaries that one worker counts requests of.
PLACES = 64
# The counts of one version: failures, answers, and runs by their size and time.
COUNTS = 2 + 8 * 130
# The words of a place: what is compared, whose shares these are, whether they have ended, whether
# the canary runs, how often the process has ended meanwhile, and the figures of the end.
_KEY, _SHARES, _ENDED, _RUNS, _CRASHES, _FIGURES = range(6)
FIGURES = 5
_HEAD = _FIGURES + FIGURES
# The heads of all places come first, so that a search for one reads few pages.
_WORDS = PLACES * (_HEAD + 2 * COUNTS)
SIZE = 8 * _WORDS
STABLE, CANARY = 0, 1


class Tallies:
    """The tallies of all workers, and those of one worker to write."""

    def __init__(self, memories: Sequence[memoryview], slot: int) -> None:
        """Read `memories`, of `SIZE` bytes each, and write into that of the worker `slot`."""
        words = [np.frombuffer(memory, np.int64) for memory in memories]
        self._heads = [each[: PLACES * _HEAD].reshape(PLACES, _HEAD) for each in words]
        self._counts = [each[PLACES * _HEAD :].reshape(PLACES, 2 * COUNTS) for each in words]
        self._words = memories[slot].cast("q")
        self._own = self._heads[slot]
        self._own_counts = self._counts[slot]
        # The tallies that somebody still counts by, by their places.
        self._used: WeakValueDictionary[int, Tally] = WeakValueDictionary()
        self._lock = threading.Lock()

    def take(self, key: int, shares: int) -> Tally | None:
        """Return the tally of what is compared; `None` if there is no place for it.

        Args:
            key: a hash of the two versions and their shares.
            shares: a hash of the shares alone.
        """
        with self._lock:
            [there] = np.nonzero(self._own[:, _KEY] == key)
            place = int(there[0]) if len(there) else self._clear_place(key, shares)
            if place is None:
                return None
            tally = self._used.get(place)
            if tally is None:
                if self._own[place, _RUNS]:
                    # The process before this one did not live to see the end of that run.
                    self._own[place, _RUNS] = 0
                    self._own[place, _CRASHES] += 1
                at = PLACES * _HEAD + place * 2 * COUNTS
                tally = Tally(self._words[at : at + 2 * COUNTS], self._own[place])
                self._used[place] = tally
            return tally

    def _clear_place(self, key: int, shares: int) -> int | None:
        """Take an empty place, or one that nobody counts by; `None` if there is none."""
        unused = [at for at in range(PLACES) if at not in self._used]
        if not unused:
            return None
        # Those of canaries that are asked no more come last.
        place = min(unused, key=lambda at: (self._own[at, _KEY] != 0, self._own[at, _ENDED]))
        self._own[place] = 0
        self._own_counts[place] = 0
        self._own[place, _SHARES] = shares
        self._own[place, _KEY] = key
        return place

    def totals(self, key: int) -> NDArray[np.int64]:
        """Return the sums of all workers, [version, count]."""
        sums = np.zeros(2 * COUNTS, np.int64)
        for heads, counts in zip(self._heads, self._counts, strict=True):
            for place in np.flatnonzero(heads[:, _KEY] == key):
                sums += counts[place]
        return sums.reshape(2, COUNTS)

    def crashes(self, key: int) -> int:
        """Return how often a worker has ended during a run of the canary."""
        return sum(int(heads[heads[:, _KEY] == key, _CRASHES].sum()) for heads in self._heads)

    def ended(self, shares: int) -> tuple[float, ...] | None:
        """Return the figures with which shares have ended; `None` if they have not."""
        for heads in self._heads:
            for head in heads[(heads[:, _SHARES] == shares) & (heads[:, _ENDED] != 0)]:
                figures = head[_FIGURES : _FIGURES + FIGURES].copy()
                return tuple(figures.view(np.float64).tolist())
        return None


class Tally:
    """The counts of one canary and its stable version in one worker."""

    __slots__ = ("__weakref__", "_counts", "_head")

    def __init__(self, counts: memoryview, head: NDArray[np.int64]) -> None:
        """Use `Tallies.take`."""
        self._counts = counts
        self._head = head

    def count(self, version: int, which: int) -> None:
        """Count a request or a run.

        Args:
            version: `STABLE` or `CANARY`.
            which: the place among the counts of the version.
        """
        self._counts[version * COUNTS + which] += 1

    def runs(self, *, now: bool) -> None:
        """Note that a run of the canary begins, or is over."""
        self._head[_RUNS] = now

    def end(self, figures: tuple[float, ...]) -> None:
        """End the shares, with the figures that this rests on."""
        self._head[_FIGURES : _FIGURES + FIGURES] = np.array(figures, np.float64).view(np.int64)
        self._head[_ENDED] = 1
