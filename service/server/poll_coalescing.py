"""Looking at the sockets once a run, where one model alone is asked more than it can do.

    refused ─▶ wait for the end of the model's run ─▶ all that has come meanwhile, at once

Where processors have no time to spare, each look interrupts the model, and finds code and data that
the model has driven out of the caches.  So requests that can only be refused wait for some
milliseconds, and cost less.  As long as anything else is asked too, another model or a page, nobody
has to.  So a caller that overruns one model holds up the first request of another by a few rests,
and those that follow by none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from service.inference.batcher import Batcher
    from service.inference.lane import Lane

# A rest at most; also what the question whether all is well may have to wait.
SECONDS = 0.02
# For how long nothing else has been asked.
ALONE_SECONDS = 1.0


class PollCoalescing:
    """When one event loop may rest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `loop` rest, where that is worth it."""
        self._loop = loop
        self._resting = False
        # When something was asked last that is no prediction.
        self.page_asked = -math.inf

    def overrun(self, lane: Lane, lanes: Iterable[Lane], batcher: Batcher) -> None:
        """Rest while `batcher` runs a model that is overrun, if no other of `lanes` is asked."""
        if not lane.running or self._resting:
            return
        since = lane.asked - ALONE_SECONDS
        if self.page_asked < since and all(other is lane or other.asked < since for other in lanes):
            self._resting = True
            # After all that has come by now.
            self._loop.call_soon(self._rest, lane, batcher)

    def _rest(self, lane: Lane, batcher: Batcher) -> None:
        self._resting = False
        # By now, the next run may have to be begun first.
        if lane.running:
            batcher.wait_for_a_run(SECONDS)
