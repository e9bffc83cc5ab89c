"""Flow control: how much one connection may hold, and what happens to answers that nobody reads.

bodies of all connections  ─▶ `fits`: a share for each, and a part that only small ones use
answers that wait unread   ─▶ `Unread`: a bound, past which who has stalled longest is cut off
"""

from __future__ import annotations

from typing import Protocol

# The high-water mark of answers that wait for a peer to read: above it, its connection is neither
# read nor answered until they have gone out.
HIGH_WATER = 16 * 1024
# What the kernel takes for one connection beyond what is on the way: the rest stays where it is
# counted.
KERNEL_BYTES = 128 * 1024
# A peer that has read nothing for so long, while answers wait for it, is cut off.
STALLED_SECONDS = 30
# A request has to come at this rate, in bytes a second, measured over so many seconds.
SLOWEST = 1000
SLOW_SECONDS = 10

# A connection that holds no more than this may use all of the room; larger bodies leave a quarter
# of it free, and each of their connections a third of what the others leave.
SMALL = 64 * 1024


def is_share(own: int, others: int, limit: int) -> bool:
    """Whether a connection may hold `own` bytes of large bodies beside those that others hold.

    The share shrinks as others hold more, so that a few connections that send large bodies slowly
    cannot take all of the room; and one that is alone may have all of it.
    """
    if not others:
        return own <= limit
    return 3 * own <= 2 * (limit - limit // 4 - others)


class Peer(Protocol):
    """A connection whose answers wait to be read."""

    def abort(self) -> None:
        """Close at once, and drop what has not gone out."""


class Unread:
    """The bytes of answers that wait above the high-water marks of one worker's connections."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes, or one connection alone."""
        self.limit = limit
        self.total = 0
        # Who has moved last comes last.
        self._held: dict[Peer, int] = {}

    def __len__(self) -> int:
        """How many connections wait for their peers to read."""
        return len(self._held)

    def note(self, peer: Peer, size: int) -> None:
        """Note what waits for a peer that has just begun to be waited for, or has read on."""
        self.forget(peer)
        self._held[peer] = size
        self.total += size
        while self.total > self.limit and len(self._held) > 1:
            stalled = next(iter(self._held))
            self.forget(stalled)
            stalled.abort()

    def forget(self, peer: Peer) -> None:
        """Release what waited for a peer."""
        self.total -= self._held.pop(peer, 0)
