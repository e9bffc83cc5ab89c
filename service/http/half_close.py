"""A half-closed connection, whose peer has either gone or only sends no more requests.

TCP does not tell these apart until something is sent.  So the first bytes of the answer are sent
while it is still being worked out: a peer that has gone refuses them within a round trip.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from service.http.response import FIRST_BYTES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class HalfClose:
    """A connection whose peer has closed its end."""

    def __init__(self, transport: asyncio.Transport, on_gone: Callable[[], None]) -> None:
        """Watch `transport`; `on_gone` is called, in any thread, when the peer has gone."""
        self._transport = transport
        self._on_gone = on_gone
        self._has_probed = False
        self._has_gone = False

    def probe(self) -> None:
        """Send the first bytes of the next answer."""
        self._has_probed = True
        self._transport.write(FIRST_BYTES)

    def unsent(self, answer: bytes) -> bytes:
        """Return the part of an answer that `probe` has not sent."""
        if not self._has_probed:
            return answer
        self._has_probed = False
        return answer.removeprefix(FIRST_BYTES)

    def is_gone(self) -> bool:
        """Return whether the peer has refused the bytes sent since it closed its end."""
        connected = self._transport.get_extra_info("socket")
        # The system reports an error of a socket once.
        if not self._has_gone and connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._has_gone = True
            self._on_gone()
        return self._has_gone
