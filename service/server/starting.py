"""The start of work in threads, which either is done or is not."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor


def start_in(threads: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    """Do some work in a thread.

    `ThreadPoolExecutor` queues the work before it starts a thread.  If the system cannot start one,
    this raises an error, and the queued work is never done: otherwise its request would be answered
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
