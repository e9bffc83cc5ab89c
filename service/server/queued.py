"""Runs in the queues of an event loop: what `triceps serve` has.

a prediction        ─▶ the batcher
large bodies        ─▶ one thread, and another one for those that take tenths of seconds
large answers       ─▶ likewise
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from service.inference.batcher import Batcher
from service.server.busy_polling import BusyPolling
from service.wire import limits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Queued(Batcher):
    """A batcher that is the executor of a pipeline: it has threads for what is large, too."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run for `loop`, whose thread is the only one that calls this."""
        super().__init__(loop)
        self.busy_polling = BusyPolling(loop)
        self.answered = self.busy_polling.answered
        self._threads = (ThreadPoolExecutor(1, "large"), ThreadPoolExecutor(1, "huge"))

    def apart(self, size: int, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do long work in a thread, and go on in the event loop with what came of it."""

        def run() -> None:
            try:
                came = work()
            except Exception as error:  # noqa: BLE001  `then` answers with it
                came = error
            self._loop.call_soon_threadsafe(then, came)

        start_in(self._threads[limits.is_huge(size)], run)

    def shut_down(self) -> None:
        """Begin no more work."""
        for threads in self._threads:
            threads.shutdown(wait=False, cancel_futures=True)


def start_in(threads: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    """Have something done in a thread.

    An executor queues what it is given before it starts a thread for it.  Where the system has none
    to give, that is an error here and is not done later on as well: its request would be answered
    twice.
    """
    claim: Future[None] = Future()

    def run() -> None:
        if claim.set_running_or_notify_cancel():
            work()

    try:
        threads.submit(run)
    except Exception:
        if claim.cancel():
            raise
