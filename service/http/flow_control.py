"""Flow control: bounds on the bytes that connections hold, in bodies and in unread answers.

bodies of all connections         ─▶ `Bodies`: a share for each, and a part for small ones only
unread answers                    ─▶ `Unread`: past the bound, the longest stalled peer is closed
work on large bodies and answers  ─▶ `Room`: past the bound, a request is refused
"""

from __future__ import annotations

import socket
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from service.errors import TooBusy

if TYPE_CHECKING:
    import asyncio

# The high-water mark, in bytes, of answers that wait for a peer to read.  Above it, its connection
# is neither read nor answered until they have been sent.
HIGH_WATER = 16 * 1024
# The unsent bytes of one connection's answers that the kernel takes.  The rest stays in this
# process, which counts it.
KERNEL_BYTES = 128 * 1024

# A connection that holds no more bytes of bodies than this may use all of the room.  Connections
# that hold more leave a quarter of it free, and each may use two thirds of what the others leave.
SMALL = 64 * 1024


def bound(transport: asyncio.Transport) -> None:
    """Bound the answers of a connection that wait above its high-water mark, or in the kernel."""
    transport.set_write_buffer_limits(HIGH_WATER)
    connected = transport.get_extra_info("socket")
    if connected.family != socket.AF_UNIX:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES)


class Bodies:
    """The bytes of request bodies that one worker holds, whole or in part, and has not answered."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes."""
        self.limit = limit
        self.held = 0

    def fits(self, own: int, size: int) -> bool:
        """Return whether a connection that holds `own` bytes may hold `size` bytes more."""
        own += size
        held = self.held + size
        return held <= self.limit and (own <= SMALL or is_share(own, held - own, self.limit))

    def refusal(self) -> TooBusy:
        """Return the error for a request whose body does not fit."""
        return TooBusy(
            f"body: expected at most {self.limit} bytes in all bodies that a process holds "
            "(TRICEPS_MAX_IN_FLIGHT), of which each connection has a share, and others hold too "
            "many already; try again a little later"
        )


def is_share(own: int, others: int, limit: int) -> bool:
    """Return whether a connection may hold `own` bytes of large bodies beside those of others.

    The share shrinks as others hold more, so that a few connections that send large bodies slowly
    cannot take all of the room.  A connection that is alone may have all of it.
    """
    if not others:
        return own <= limit
    return 3 * own <= 2 * (limit - limit // 4 - others)


class Peer(Protocol):
    """A connection whose answers wait to be read."""

    def abort(self) -> None:
        """Close at once, and drop what has not been sent."""


class Unread:
    """The bytes of answers that wait above the high-water marks of one worker's connections."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes, or one connection alone."""
        self.limit = limit
        self.total = 0
        # In the order of the peers' last progress.
        self._held: dict[Peer, int] = {}

    def __len__(self) -> int:
        """Return the number of connections whose peers have to read first."""
        return len(self._held)

    def note(self, peer: Peer, size: int, *, has_read: bool = True) -> None:
        """Note that `size` bytes wait for a peer.

        Args:
            peer: the peer.
            size: the bytes.
            has_read: whether it has just fallen behind, or read some; if not, it keeps its place.
        """
        if has_read:
            self.forget(peer)
        self.total += size - self._held.get(peer, 0)
        self._held[peer] = size
        while self.total > self.limit and len(self._held) > 1:
            stalled = next(iter(self._held))
            self.forget(stalled)
            stalled.abort()

    def forget(self, peer: Peer) -> None:
        """Release the bytes that waited for a peer."""
        self.total -= self._held.pop(peer, 0)


class Room:
    """The bytes that large bodies become when they are read, and those of large unsent answers.

    They are counted apart from the bodies themselves, so that small requests are still accepted.
    """

    def __init__(self, limit: int) -> None:
        """Have room for `limit` bytes of all requests together, or for one request alone."""
        self.limit = limit
        self._lock = Lock()
        self.held = 0

    def take(self, size: int, own: int) -> None:
        """Hold `size` bytes more, for a request that holds `own` already.

        Raises:
            TooBusy: other requests hold so many bytes that there is no room.
        """
        with self._lock:
            if self.held > own and self.held + size > self.limit:
                raise TooBusy(
                    f"request: expected at most {self.limit} bytes in all large requests and "
                    "answers that a process works on (TRICEPS_MAX_IN_FLIGHT), and others hold so "
                    "many already; try again a little later"
                )
            self.held += size

    def give_back(self, size: int) -> None:
        """Release `size` bytes."""
        with self._lock:
            self.held -= size
