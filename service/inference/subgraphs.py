"""Which sets of heads have a cut of the graph of their own.

    asked before      ─▶ the cut that was made for them
    there is room     ─▶ one is made, and kept
    asked more often  ─▶ likewise, in the place of the cut that is asked for least
    else              ─▶ none: the whole graph does it, too

Each cut is a session with its own copy of the weights that it needs, and takes some milliseconds
or more to make, while a caller may ask for any of 2^n sets.  So there is a bound to their number
and to their bytes, and a set that is new has to earn its place.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MOST = 16
# All cuts together, in times the whole graph.
TIMES = 2
# What is less than this, a cut may always have.
LEAST_BYTES = 2**20
# How much more often a set has to be asked for than the one whose place it takes.
MORE = 16
# Sets whose asking is remembered.
REMEMBERED = 1024

C = TypeVar("C")


class Distrusted(Exception):
    """A cut that does not answer as the whole graph does."""


class SubgraphCache(Generic[C]):
    """The cuts of one graph; safe to share between threads."""

    def __init__(self, make: Callable[[Hashable], tuple[C, int]], whole_bytes: int) -> None:
        """Keep what `make` makes of a set of heads, which has so many bytes.

        Args:
            make: the cut for a set, and its bytes; it raises `Distrusted` for one not to be used.
            whole_bytes: of the whole graph.
        """
        self._make = make
        self._room = max(LEAST_BYTES, TIMES * whole_bytes)
        self._lock = threading.Lock()
        self._kept: dict[Hashable, C] = {}
        self._making: set[Hashable] = set()
        self._distrusted: set[Hashable] = set()
        # How often sets have been asked for; and the bytes of cuts that were ever made.
        self._asked: dict[Hashable, int] = {}
        self._sizes: dict[Hashable, int] = {}

    def find(self, heads: Hashable) -> C | None:
        """The cut for a set of heads; `None` where the whole graph should do it."""
        with self._lock:
            self._count(heads)
            known = self._kept.get(heads)
            if known is not None:
                return known
            # Whoever asks while it is being made is not to wait.
            if heads in self._making or not self._has_earned(heads):
                return None
            if heads in self._distrusted:
                return None
            self._making.add(heads)
        try:
            return self._add(heads)
        except Distrusted:
            self._distrusted.add(heads)
            return None
        finally:
            with self._lock:
                self._making.discard(heads)

    def insist(self, heads: Hashable) -> C:
        """The cut for a set of heads for which the whole graph cannot do it."""
        with self._lock:
            known = self._kept.get(heads)
        return self._add(heads, always=True) if known is None else known

    def _add(self, heads: Hashable, *, always: bool = False) -> C:
        cut, size = self._make(heads)
        with self._lock:
            self._sizes[heads] = size
            if always or self._has_earned(heads):
                self._kept.pop(heads, None)
                while self._kept and not self._is_room_for(size):
                    del self._kept[self._least()]
                self._kept[heads] = cut
        return cut

    def _count(self, heads: Hashable) -> None:
        if len(self._asked) > REMEMBERED:
            # What was long ago counts for less, and what was rare for nothing.
            self._asked = {asked: n // 2 for asked, n in self._asked.items() if n > 1}
            kept = self._asked.keys() | self._kept.keys()
            self._sizes = {asked: n for asked, n in self._sizes.items() if asked in kept}
        self._asked[heads] = self._asked.get(heads, 0) + 1

    def _has_earned(self, heads: Hashable) -> bool:
        """Whether there is room for one more, or some is to be made."""
        if not self._kept or self._is_room_for(self._sizes.get(heads, 0)):
            return True
        return self._asked.get(heads, 0) > self._asked.get(self._least(), 0) + MORE

    def _is_room_for(self, size: int) -> bool:
        taken = sum(self._sizes[heads] for heads in self._kept)
        return len(self._kept) < MOST and taken + size <= self._room

    def _least(self) -> Hashable:
        return min(self._kept, key=lambda heads: self._asked.get(heads, 0))
