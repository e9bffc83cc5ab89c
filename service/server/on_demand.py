"""Versions that are loaded when they are asked for, and the requests that wait for them."""

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
    """Loads of versions in threads; all requests for one version wait for the same load."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPoolExecutor,
        library: Library,
        answer: Callable[[Request, float], None],
    ) -> None:
        """Load nothing yet.

        Args:
            loop: the event loop whose thread calls this.
            threads: where versions are loaded.
            library: has the versions.
            answer: answers a request once its version is loaded, or has failed to load; its second
                argument is when the request came, by `perf_counter`.
        """
        self._loop = loop
        self._threads = threads
        self._library = library
        self._answer = answer
        self.waiting: dict[tuple[str, str], list[tuple[Request, float]]] = {}
        """By name and version, the requests that wait, and when each came."""

    def wait(self, name: str, version: str, request: Request) -> None:
        """Have a request answered once a version is loaded."""
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
            # The app, which is asked next, fails in the same way and says so.
            log.exception("loading %s, version %s, failed", *key)
        # After the front has been told to use what was loaded.
        self._loop.call_soon_threadsafe(self._answer_waiting, key)

    def _answer_waiting(self, key: tuple[str, str]) -> None:
        for request, came in self.waiting.pop(key):
            try:
                self._answer(request, came)
            except Exception:
                log.exception("%s could not be answered", request.what)
                request.abort()
