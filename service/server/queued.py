"""The executor of `triceps serve`: a batcher with queues in an event loop, and threads beside it.

a prediction        ─▶ the batcher
large bodies        ─▶ one thread, and another one for those that take tenths of seconds
large answers       ─▶ likewise
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from service.errors import RequestError
from service.inference.batcher import Batcher
from service.server.busy_polling import BusyPolling
from service.server.turns import Turns
from service.wire import limits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from service.inference.cores import Cores


class Queued(Batcher):
    """A batcher that is the executor of a pipeline, with threads for large bodies and answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cores: Cores | None = None) -> None:
        """Run models for `loop`; only the thread of `loop` may call the methods."""
        super().__init__(loop, cores)
        self.busy_polling = BusyPolling(loop)
        self.answered = self.busy_polling.answered
        self._threads = (ThreadPoolExecutor(1, "large"), ThreadPoolExecutor(1, "huge"))
        self._turns = tuple(map(Turns, self._threads))

    def apart(
        self,
        size: int,
        work: Callable[[], Any],
        then: Callable[[Any], None],
        caller: object = None,
    ) -> None:
        """Do long work in a thread, and pass its result to `then` in the event loop.

        Args:
            size: the bytes of the body, or the values of the answer, which select the thread.
            work: the work; what it returns or raises is its result.
            then: takes the result.
            caller: the client, which waits for one of each other client at most.
        """

        def run() -> None:
            result: Any = None
            try:
                result = work()
            except RequestError as error:
                result = error.alone()
            except Exception as error:  # noqa: BLE001  `then` answers with it
                result = error
            try:
                self._loop.call_soon_threadsafe(then, result)
            finally:
                # An error refers to this function's variables, and must not be one of them.
                del result

        self._turns[limits.is_huge(size)].add(caller, run)

    def shut_down(self) -> None:
        """Begin no more work in threads."""
        for threads in self._threads:
            threads.shutdown(wait=False, cancel_futures=True)
