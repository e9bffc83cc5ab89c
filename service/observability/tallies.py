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
# The counts of one version: failures, and answers by their time.
COUNTS = 131
# The words of a place: what is compared, whose shares these are, whether they have ended, and the
# figures of that.
_KEY, _SHARES, _ENDED, _FIGURES = 0, 1, 2, 3
FIGURES = 5
_COUNTS = _FIGURES + FIGURES
_WORDS = _COUNTS + 2 * COUNTS
SIZE = 8 * _WORDS * PLACES
STABLE, CANARY = 0, 1


class Tallies:
    """The tallies of all workers, and those of one worker to write."""

    def __init__(self, memories: Sequence[memoryview], slot: int) -> None:
        """Read `memories`, of `SIZE` bytes each, and write into that of the worker `slot`."""
        shape = PLACES, _WORDS
        self._all = [np.frombuffer(memory, np.int64).reshape(shape) for memory in memories]
        self._words = memories[slot].cast("q")
        self._own = self._all[slot]
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
                tally = Tally(self._words[place * _WORDS : (place + 1) * _WORDS])
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
        self._own[place, _SHARES] = shares
        self._own[place, _KEY] = key
        return place

    def totals(self, key: int) -> NDArray[np.int64]:
        """Return the sums of all workers, [version, count]."""
        sums = np.zeros(2 * COUNTS, np.int64)
        for words in self._all:
            for place in words[words[:, _KEY] == key]:
                sums += place[_COUNTS:]
        return sums.reshape(2, COUNTS)

    def ended(self, shares: int) -> tuple[float, ...] | None:
        """Return the figures with which shares have ended; `None` if they have not."""
        for words in self._all:
            for place in words[(words[:, _SHARES] == shares) & (words[:, _ENDED] != 0)]:
                figures = place[_FIGURES : _FIGURES + FIGURES].copy()
                return tuple(figures.view(np.float64).tolist())
        return None


class Tally:
    """The counts of one canary and its stable version in one worker."""

    __slots__ = ("__weakref__", "_words")

    def __init__(self, words: memoryview) -> None:
        """Use `Tallies.take`."""
        self._words = words

    def count(self, version: int, place: int) -> None:
        """Count a request.

        Args:
            version: `STABLE` or `CANARY`.
            place: 0 if it failed; else 1 + the number of bounds that its time is not below.
        """
        self._words[_COUNTS + version * COUNTS + place] += 1

    def end(self, figures: tuple[float, ...]) -> None:
        """End the shares, with the figures that this rests on."""
        packed = np.array(figures, np.float64).view(np.int64).tolist()
        for at, word in enumerate(packed):
            self._words[_FIGURES + at] = word
        self._words[_ENDED] = 1
