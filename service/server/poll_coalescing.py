"""Poll coalescing: one poll of the sockets per run, while a single model is overloaded.

    refused ─▶ wait for the end of the model's run ─▶ read all requests that came meanwhile, at once

When the processors are busy, each poll of the sockets interrupts the model, and its code and data
have been driven out of the caches by the model.  So requests that can only be refused wait for some
milliseconds, and then cost less.  The event loop does this only while nothing else is requested:
neither another model nor a page.  So a client that overloads one model delays the first request for
another model by a few pauses, and later requests by none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from service.inference.batcher import Batcher
    from service.inference.lane import Lane

# The longest pause, and so the longest delay of a health check.
SECONDS = 0.02
# A model is alone if nothing else has been requested for this long.
ALONE_SECONDS = 1.0


class PollCoalescing:
    """The pauses of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare to pause `loop` while it is overloaded."""
        self._loop = loop
        self._resting = False
        # The time of the last request that was not a prediction.
        self.page_asked = -math.inf

    def overrun(self, lane: Lane, lanes: Iterable[Lane], batcher: Batcher) -> None:
        """Pause while `batcher` runs an overloaded model, if no other of `lanes` has requests."""
        if not lane.running or self._resting:
            return
        since = lane.model.asked - ALONE_SECONDS
        if self.page_asked < since and all(
            other is lane or other.model.asked < since for other in lanes
        ):
            self._resting = True
            # Later, so that all requests that have come by now are handled first.
            self._loop.call_soon(self._rest, lane, batcher)

    def _rest(self, lane: Lane, batcher: Batcher) -> None:
        self._resting = False
        # The run may have ended meanwhile; then the next one has to begin first.
        if lane.running:
            batcher.wait_for_a_run(SECONDS)
