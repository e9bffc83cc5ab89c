"""Which sets of heads have a part of the graph of their own.

    asked before      ─▶ the part that was cut for them
    there is room     ─▶ cut, and kept
    asked more often  ─▶ cut, in the place of the part that is asked for least
    else              ─▶ nothing: the whole graph does it, too

Each part is a session with its own copy of the weights that it needs, and takes some milliseconds
or more to make, while a caller may ask for any of 2^n sets.  So there is a bound to their number
and to their bytes, and a set that is new has to earn its place.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MOST = 16
# All parts together, in times the whole graph.
TIMES = 2
# What is less than this, a part may always have.
LEAST_BYTES = 2**20
# How much more often a set has to be asked for than the one whose place it takes.
MORE = 16
# Sets whose asking is remembered.
REMEMBERED = 1024

P = TypeVar("P")


class Cuts(Generic[P]):
    """The parts of one graph; safe to share between threads."""

    def __init__(self, make: Callable[[Hashable], tuple[P, int]], whole_bytes: int) -> None:
        """Keep what `make` makes of a set of heads, which has so many bytes.

        Args:
            make: the part for a set, and its bytes.
            whole_bytes: of the whole graph.
        """
        self._make = make
        self._room = max(LEAST_BYTES, TIMES * whole_bytes)
        self._lock = threading.Lock()
        # A part that had no room has none, and keeps its place, so that it is not made again.
        self._parts: dict[Hashable, tuple[P | None, int]] = {}
        self._asked: dict[Hashable, int] = {}

    def find(self, heads: Hashable) -> P | None:
        """The part for a set of heads; `None` where there is to be none."""
        with self._lock:
            self._count(heads)
            known = self._parts.get(heads)
            if known is not None:
                return known[0]
            if not self._has_earned(heads):
                return None
            # Others who ask for it meanwhile have the whole graph do it.
            self._parts[heads] = None, 0
        try:
            part, size = self._make(heads)
        except BaseException:
            with self._lock:
                self._parts.pop(heads, None)
            raise
        with self._lock:
            if sum(taken for _, taken in self._parts.values()) + size > self._room:
                return part
            self._parts[heads] = part, size
        return part

    def _count(self, heads: Hashable) -> None:
        if len(self._asked) > REMEMBERED:
            # What was long ago counts for less, and what was rare for nothing.
            self._asked = {asked: n // 2 for asked, n in self._asked.items() if n > 1}
        self._asked[heads] = self._asked.get(heads, 0) + 1

    def _has_earned(self, heads: Hashable) -> bool:
        """Whether there is a place for one more, or one is given up for it."""
        if len(self._parts) < MOST:
            return True
        least = min(self._parts, key=lambda kept: self._asked.get(kept, 0))
        if self._asked[heads] <= self._asked.get(least, 0) + MORE:
            return False
        del self._parts[least]
        return True
