"""Work for threads, in which each client has its turn.

    client A: ███████████ ─┐
    client B: █           ─┴─▶ A B A A … ─▶ threads

One client of HTTP/2 may have 128 requests at once, and thousands of them may be its own.
"""

from __future__ import annotations

import contextlib
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

from service.server.starting import start_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    Work = Callable[[], None]


class Turns:
    """The work that waits for some threads."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        """Have work done by `threads`."""
        self._threads = threads
        self._lock = Lock()
        # The work of each client, of whom the first one's is next.
        self._waiting: dict[object, deque[Work]] = {}

    def add(self, client: object, work: Work) -> None:
        """Have some work of a client done, after one of each other client at most.

        Raises:
            RuntimeError: no thread can be started; then the work is not done.
        """
        with self._lock:
            self._waiting.setdefault(client, deque()).append(work)
        try:
            start_in(self._threads, self._do_next)
        except Exception:
            if self._remove(client, work):
                raise
            # A thread has begun it in place of another one's, which that thread does next.
            with contextlib.suppress(RuntimeError):
                self._threads.submit(self._do_next)

    def _do_next(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            client = next(iter(self._waiting))
            works = self._waiting.pop(client)
            work = works.popleft()
            if works:
                self._waiting[client] = works
        work()

    def _remove(self, client: object, work: Work) -> bool:
        """Remove work that no thread was started for; return whether no thread has begun it."""
        with self._lock:
            works = self._waiting.get(client, deque())
            if work not in works:
                return False
            works.remove(work)
            if not works:
                del self._waiting[client]
        return True
