"""Loading of versions on demand, and the requests that wait for it."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from service.server.queued import start_in

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from service.http.request import Request
    from service.repository.reloader import Library

    # The name of a model, its version and its alias, as a request has them; `None` if it has not.
    Which = tuple[str | None, str | None, str | None]

log = logging.getLogger(__name__)

# The loads at once: more would take memory and time from the requests for what is loaded.
LOADS = 2


class OnDemand:
    """The loads of versions in threads; all requests for one version wait for the same load."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        library: Library,
        answer: Callable[[Request, float], None],
    ) -> None:
        """Prepare to load; nothing is loaded yet.

        Args:
            loop: the event loop whose thread calls this.
            library: the library that has the versions.
            answer: answers a request once its version is loaded, or has failed to load; its second
                argument is the arrival time of the request, by `perf_counter`.
        """
        self._loop = loop
        self._threads = ThreadPoolExecutor(LOADS, "on demand")
        self._library = library
        self._answer = answer
        self.waiting: dict[Which, list[tuple[Request, float]]] = {}
        """The requests that wait, by what they name, each with its arrival time."""

    def wait(self, which: Which, request: Request) -> None:
        """Load a version, unless that has begun already, and answer a request afterwards."""
        requests = self.waiting.get(which)
        if requests is None:
            start_in(self._threads, partial(self._load, which))
            requests = self.waiting[which] = []
        requests.append((request, perf_counter()))

    def shut_down(self) -> None:
        """Begin no more loads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _load(self, which: Which) -> None:
        try:
            self._library.having(*which)
        except Exception:
            # The Flask app answers the request next, fails in the same way, and gives the reason.
            log.exception("loading %s failed", "/".join(filter(None, which)) or "a model")
        # The front has been told of the loaded version before, so the route exists by then.
        self._loop.call_soon_threadsafe(self._answer_waiting, which)

    def _answer_waiting(self, which: Which) -> None:
        for request, came in self.waiting.pop(which):
            try:
                self._answer(request, came)
            except Exception:
                log.exception("%s could not be answered", request.what)
                request.abort()
