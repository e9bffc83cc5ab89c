"""The state that one worker's connections share: bounds, a clock and a header cache."""

from __future__ import annotations

import asyncio
import logging
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from service.http import flow_control
from service.http.header_cache import HeaderCache
from service.http.timeouts import Timeouts

if TYPE_CHECKING:
    from service.http.request import Request

log = logging.getLogger(__name__)

# The seconds between two checks of the connections while they are being closed.
CLOSING_SECONDS = 0.02


class Checked(Protocol):
    """An open connection, whatever its protocol."""

    def check(self, now: float) -> None:
        """End what has taken too long."""

    def abort(self) -> None:
        """Close at once, and drop what has not been sent."""


class AccessLog(Protocol):
    """The log of all requests."""

    def add(self, request: Request, status: int, received: int, sent: int, lines: bytes) -> None:
        """Add a request; this raises nothing.

        Args:
            request: the request, or as much of it as has arrived.
            status: the HTTP status that it is counted under.
            received: the bytes of its body.
            sent: the bytes of the body of its answer.
            lines: the header lines of its answer, and its trailers.
        """


class Connections:
    """The connections of one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_body: int,
        max_in_flight: int,
        *,
        guarded: bool,
    ) -> None:
        """Begin with no connections.

        Args:
            loop: the event loop that reads and writes them.
            max_body: the largest body, in bytes.
            max_in_flight: the bytes that all bodies together may have.
            guarded: whether a body is read only if the client has sent a token.
        """
        self.loop = loop
        self.max_body = max_body
        self.guarded = guarded
        self.bodies = flow_control.Bodies(max_in_flight)
        self.unread = flow_control.Unread(max_in_flight // 2)
        self.timeouts = Timeouts()
        self.header_cache = HeaderCache()
        self.access_log: AccessLog | None = None
        """The access log, if the service has one."""
        self.open: set[Checked] = set()
        self.draining = False
        """True if each answer is the last of its connection."""
        self.closing = False
        """True if idle connections are closed, too."""
        self.now = 0.0
        """The time of the loop's clock at the last `tick`."""
        self.date = b""
        """The Date header line."""
        self.tick()

    def tick(self) -> None:
        """Set the clock, and check every connection's timeouts; to be called once a second."""
        self.now = self.loop.time()
        self.date = f"date: {formatdate(time.time(), usegmt=True)}\r\n".encode()
        for connection in list(self.open):
            try:
                connection.check(self.now)
            except Exception:
                log.exception("a connection could not be checked, and is closed")
                connection.abort()

    async def close(self, seconds: float) -> None:
        """Close every connection: idle ones soon, others once they are answered.

        Args:
            seconds: the time after which connections are closed without an answer.
        """
        self.draining = self.closing = True
        deadline = self.loop.time() + seconds
        while self.open and self.loop.time() < deadline:
            # The sleep comes first, so that requests that have arrived meanwhile are read.
            await asyncio.sleep(CLOSING_SECONDS)
            for connection in list(self.open):
                connection.check(self.loop.time())
        for connection in list(self.open):
            connection.abort()
