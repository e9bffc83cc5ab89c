"""Loading of versions on demand, and the requests that wait for it."""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from service.server.queued import start_in

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from service.http.request import Request
    from service.repository.reloader import Library

log = logging.getLogger(__name__)


class OnDemand:
    """The loads of versions in threads; all requests for one version wait for the same load."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPoolExecutor,
        library: Library,
        answer: Callable[[Request, float], None],
    ) -> None:
        """Prepare to load; nothing is loaded yet.

        Args:
            loop: the event loop whose thread calls this.
            threads: the threads that load versions.
            library: the library that has the versions.
            answer: answers a request once its version is loaded, or has failed to load; its second
                argument is the arrival time of the request, by `perf_counter`.
        """
        self._loop = loop
        self._threads = threads
        self._library = library
        self._answer = answer
        self.waiting: dict[tuple[str, str], list[tuple[Request, float]]] = {}
        """The requests that wait, by name and version, each with its arrival time."""

    def wait(self, name: str, version: str, request: Request) -> None:
        """Load a version, unless that has begun already, and answer a request afterwards."""
        key = name, version
        requests = self.waiting.get(key)
        if requests is None:
            start_in(self._threads, partial(self._load, key))
            requests = self.waiting[key] = []
        requests.append((request, perf_counter()))

    def _load(self, key: tuple[str, str]) -> None:
        try:
            self._library.having(*key)
        except Exception:
            # The Flask app answers the request next, fails in the same way, and gives the reason.
            log.exception("loading %s, version %s, failed", *key)
        # The front has been told of the loaded version before, so the route exists by then.
        self._loop.call_soon_threadsafe(self._answer_waiting, key)

    def _answer_waiting(self, key: tuple[str, str]) -> None:
        for request, came in self.waiting.pop(key):
            try:
                self._answer(request, came)
            except Exception:
                log.exception("%s could not be answered", request.what)
                request.abort()
