"""Loading of versions on demand, and the requests that wait for it."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from service.errors import GONE
from service.server.queued import start_in

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from service.http.grpc.call import Address, ModelCall
    from service.http.request import Request
    from service.repository.loader import Servable
    from service.repository.reloader import Library

    # The name of a model, its version and its alias, as a request has them; `None` if it has not.
    Which = tuple[str | None, str | None, str | None]
    Waiting = Request | ModelCall

log = logging.getLogger(__name__)

# The loads at once: more would take memory and time from the requests for what is loaded.
LOADS = 2
# The requests that are answered in one turn of the event loop once a version is loaded: to decode
# all of a thousand would delay other clients.
ANSWERED_AT_ONCE = 32
# The bytes of requests that may have come since the last look for clients that have gone, and the
# least that a request counts, with its headers.
MOST_NEW = 2**24
LEAST = 2**14


class OnDemand:
    """The loads of versions in threads; all requests for one version wait for the same load."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        library: Library,
        answer: Callable[[Waiting, float, Servable | None], None],
        count: Callable[[bytes | Address, int], None],
    ) -> None:
        """Prepare to load; nothing is loaded yet.

        Args:
            loop: the event loop whose thread calls this.
            library: the library that has the versions.
            answer: answers a request once its version is loaded, or has failed to load.  It takes
                the arrival time of the request, by `perf_counter`, and what was loaded for it,
                which may have been let go of since.
            count: counts a request, by its target, whose client has gone.
        """
        self._loop = loop
        self.threads = ThreadPoolExecutor(LOADS, "on demand")
        self._library = library
        self._answer = answer
        self._count = count
        # The bytes of requests that have come since the last look for clients that have gone.
        self._new = 0
        self.waiting: dict[Which, list[tuple[Waiting, float]]] = {}
        """The requests that wait, by what they name, each with its arrival time."""

    def wait(self, which: Which, request: Waiting, came: float = 0.0) -> None:
        """Load a version, unless that has begun already, and answer a request afterwards.

        Args:
            which: the version, as the request names it.
            request: the request.
            came: its arrival time, by `perf_counter`; by default, now.
        """
        self._new += len(request.body) + LEAST
        if self._new > MOST_NEW:
            self.drop_gone()
        place = request, came or perf_counter()
        if which in self.waiting:
            self.waiting[which].append(place)
            return
        # Before the load begins, since that looks for its requests.
        self.waiting[which] = [place]
        try:
            start_in(self.threads, partial(self._load, which))
        except Exception:
            del self.waiting[which]
            raise

    def drop_gone(self) -> None:
        """Drop the requests whose clients have gone: a load may take longer than memory lasts."""
        self._new = 0
        for requests in self.waiting.values():
            still_open: list[tuple[Waiting, float]] = []
            for request, came in requests:
                if request.is_open():
                    still_open.append((request, came))
                else:
                    self._count(request.target, GONE)
            # The list itself stays, since a thread may look at it.
            requests[:] = still_open

    def shut_down(self) -> None:
        """Begin no more loads."""
        self.threads.shutdown(wait=False, cancel_futures=True)

    def _load(self, which: Which) -> None:
        servable = None
        is_wanted = any(request.is_open() for request, _ in [*self.waiting[which]])
        try:
            if is_wanted:
                servable = self._library.having(*which).loaded(*which)
        except Exception:
            # The Flask app answers the request next, fails in the same way, and gives the reason.
            log.exception("loading %s failed", "/".join(filter(None, which)) or "a model")
        # The front has been told of the loaded version before, so the route exists by then.
        then = partial(self._answer_waiting, servable) if is_wanted else self._wait_again
        self._loop.call_soon_threadsafe(lambda: then(which))

    def _wait_again(self, which: Which) -> None:
        """Begin a load that was not wanted, for requests that have come since."""
        self.drop_gone()
        for request, came in self.waiting.pop(which):
            self._attempt(request, partial(self.wait, which, request, came))

    def _answer_waiting(self, servable: Servable | None, which: Which) -> None:
        self._answer_some(self.waiting.pop(which), servable)

    def _answer_some(
        self, requests: list[tuple[Waiting, float]], servable: Servable | None
    ) -> None:
        for request, came in requests[:ANSWERED_AT_ONCE]:
            self._attempt(request, partial(self._answer, request, came, servable))
        if rest := requests[ANSWERED_AT_ONCE:]:
            self._loop.call_soon(self._answer_some, rest, servable)

    def _attempt(self, request: Waiting, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:
            log.exception("%s could not be answered", request.what)
            request.abort()
