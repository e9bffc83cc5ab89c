"""The cache of sub-graphs, one for each set of heads that clients request often enough.

    in the cache             ─▶ the cut that was made for the set
    there is room            ─▶ a cut is made and kept
    requested more often     ─▶ a cut replaces the one that is requested least
    otherwise                ─▶ none: the whole graph answers as well

A cut is a session of a sub-graph.  It has its own copy of the weights that it needs, and takes some
milliseconds or more to make, while clients may request any of 2^n sets of heads.  So the number of
cuts and their bytes are bounded, and a new set has to earn its place.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MOST = 16
# The most bytes of all cuts together, as a multiple of the whole graph's.
TIMES = 2
# The bytes that all cuts together may have however small the graph is.
LEAST_BYTES = 2**20
# The requests that a set must have had beyond those of the set whose place it takes.
MORE = 16
# The sets whose requests are counted.
REMEMBERED = 1024

C = TypeVar("C")


class Distrusted(Exception):
    """A cut does not answer as the whole graph does."""


class SubgraphCache(Generic[C]):
    """The cuts of one graph; it may be shared by threads."""

    def __init__(self, make: Callable[[Hashable], tuple[C, int]], whole_bytes: int) -> None:
        """Start without cuts.

        Args:
            make: returns the cut for a set of heads, and its size in bytes; raises `Distrusted` if
                the cut must not be used.
            whole_bytes: the size of the whole graph, in bytes.
        """
        self._make = make
        self._room = max(LEAST_BYTES, TIMES * whole_bytes)
        self._lock = threading.Lock()
        self._kept: dict[Hashable, C] = {}
        self._making: set[Hashable] = set()
        self._distrusted: set[Hashable] = set()
        # By set, the number of requests, and the bytes of its cut if one was ever made.
        self._counts: dict[Hashable, int] = {}
        self._sizes: dict[Hashable, int] = {}

    @property
    def kept(self) -> frozenset[Hashable]:
        """The sets of heads whose sub-graphs are kept."""
        with self._lock:
            return frozenset(self._kept)

    def find(self, heads: Hashable) -> C | None:
        """Return the cut for a set of heads, new if need be; `None` to run the whole graph."""
        with self._lock:
            self._count(heads)
            known = self._kept.get(heads)
            if known is not None:
                return known
            # A request that arrives while another thread makes the cut does not wait for it.
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
        """Return the cut for a set of heads, for requests that the whole graph cannot answer."""
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
        if len(self._counts) > REMEMBERED:
            # Halved, so that old requests count less, and sets with a single request are forgotten.
            self._counts = {key: n // 2 for key, n in self._counts.items() if n > 1}
            kept = self._counts.keys() | self._kept.keys()
            self._sizes = {key: n for key, n in self._sizes.items() if key in kept}
        self._counts[heads] = self._counts.get(heads, 0) + 1

    def _has_earned(self, heads: Hashable) -> bool:
        """Return whether there is room for a set's cut, or the set deserves another one's place."""
        if not self._kept or self._is_room_for(self._sizes.get(heads, 0)):
            return True
        return self._counts.get(heads, 0) > self._counts.get(self._least(), 0) + MORE

    def _is_room_for(self, size: int) -> bool:
        taken = sum(self._sizes[heads] for heads in self._kept)
        return len(self._kept) < MOST and taken + size <= self._room

    def _least(self) -> Hashable:
        return min(self._kept, key=lambda heads: self._counts.get(heads, 0))
