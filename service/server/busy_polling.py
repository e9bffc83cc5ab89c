"""Busy polling for a single client that sends its next request as soon as it has an answer.

    answered ─▶ poll for the next request for some microseconds ─▶ sleep until there is one

A sleeping core takes tens of microseconds to wake, as long as all the work of a small model.  So
where one connection sends its next request right after each answer, the event loop polls its
sockets a little longer before it sleeps.  For clients that send a request now and then, or several
clients at once, polling would save nothing, and the event loop sleeps.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

# A request that comes within this time after an answer counts; polling continues for as long.
SECONDS = 200e-6
# The number of such requests in a row from which on the event loop polls.
STREAK = 8


class BusyPolling:
    """The connection of the last request in one event loop, and its streak of prompt requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep `loop` polling where that is worth it."""
        self._loop = loop
        self.seconds = SECONDS
        """The longest time from an answer to the next request, and the duration of polling."""
        self.awake = False
        """True while the event loop polls."""
        self._caller: object = None
        self._streak = 0
        self._answered = 0.0

    def asked(self, caller: object, now: float) -> None:
        """Note a request.

        Args:
            caller: the connection of the request.
            now: the time of its arrival, by `perf_counter`.
        """
        if caller is self._caller and now - self._answered < self.seconds:
            self._streak += 1
        else:
            self._caller = caller
            self._streak = 0

    def answered(self, now: float) -> None:
        """Note an answer, and poll for the next request if the streak is long enough."""
        self._answered = now
        if self._streak >= STREAK and not self.awake:
            self.awake = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Schedule itself again: between two calls, the loop polls its sockets without sleeping."""
        if self._streak and perf_counter() - self._answered < self.seconds:
            self._loop.call_soon(self._look)
        else:
            self.awake = False
