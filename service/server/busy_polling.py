"""Waiting awake for a lone caller who asks again at once.

    answered ─▶ look for its next request for some microseconds ─▶ sleep until there is one

A core that has gone to sleep takes tens of microseconds to wake, which for a small model is as
long as all of its work.  So where one connection asks, and asks again as soon as it is answered,
the event loop looks at its sockets a little longer before it sleeps.  Who asks now and then, and
callers who ask side by side, are waited for asleep: there it would save nothing.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

# How soon the next request has to come, and how long it is waited for.
SECONDS = 200e-6
# How many have to have come so soon, one after another.
STREAK = 8


class BusyPolling:
    """Who asked last, and how often it has asked again at once; for one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep `loop` awake, where that is worth it."""
        self._loop = loop
        self._caller: object = None
        self._streak = 0
        self._answered = 0.0
        self._awake = False

    def asked(self, caller: object, now: float) -> None:
        """Note a request: whose, and when by `perf_counter`."""
        if caller is self._caller and now - self._answered < SECONDS:
            self._streak += 1
        else:
            self._caller = caller
            self._streak = 0

    def answered(self, now: float) -> None:
        """Note an answer, and stay awake for the next request if there is reason to."""
        self._answered = now
        if self._streak >= STREAK and not self._awake:
            self._awake = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Have the loop look at its sockets once more, which it does between two calls."""
        if self._streak and perf_counter() - self._answered < SECONDS:
            self._loop.call_soon(self._look)
        else:
            self._awake = False
