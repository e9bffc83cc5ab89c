"""Loading of versions on demand, and the requests that wait for it."""

from __future__ import annotations

import contextlib
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from service.errors import BadRequest, TooLate
from service.http import deadline
from service.repository.model_settings import DEFAULTS
from service.repository.scan import SETTINGS
from service.server.starting import start_in

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from service.errors import RequestError
    from service.http.grpc.call import ModelCall
    from service.http.request import Request
    from service.repository.loader import Servable
    from service.repository.reloader import Library

    # The name of a model, its version and its alias, as a request has them; `None` if it has not.
    Which = tuple[str | None, str | None, str | None]
    Asking = Request | ModelCall

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
# The least time between two looks for requests whose time is over.
LATE_SECONDS = 0.05


class Answerer(Protocol):
    """The front, as the requests that wait need it."""

    def answer(self, request: Asking, came: float, loaded: Servable | None) -> None:
        """Answer a request once its version is loaded, or has failed to load.

        Args:
            request: the request.
            came: its arrival time, by `perf_counter`.
            loaded: what was loaded for it, which may have been let go of since.
        """

    def refuse(self, request: Asking, error: RequestError) -> None:
        """Answer a request with an error, and count it."""

    def count_gone(self, request: Asking) -> None:
        """Count a request whose client has gone."""


class Waiting(NamedTuple):
    """A request that waits for a version, and the time that it has."""

    request: Asking
    came: float
    """Its arrival time, by `perf_counter`."""
    seconds: float
    """The seconds after its arrival in which it has to be answered, if only by an error."""

    @property
    def until(self) -> float:
        """The time at which it no longer waits, by `perf_counter`."""
        return self.came + self.seconds


class OnDemand:
    """The loads of versions in threads; all requests for one version wait for the same load."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        library: Library,
        answerer: Answerer,
        timeout: float,
    ) -> None:
        """Prepare to load; nothing is loaded yet.

        Args:
            loop: the event loop whose thread calls this.
            library: the library that has the versions.
            answerer: answers the requests.
            timeout: the seconds that a request may wait, unless it or its model has others.
        """
        self._loop = loop
        self.threads = ThreadPoolExecutor(LOADS, "on demand")
        self._library = library
        self._answer = answerer.answer
        self._count_gone = answerer.count_gone
        self._refuse = answerer.refuse
        self._timeout = timeout
        # The timer of the next look for requests whose time is over, and when that is.
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf
        # The bytes of requests that have come since the last look for clients that have gone.
        self._new = 0
        self.waiting: dict[Which, list[Waiting]] = {}
        """The requests that wait, by what they name."""

    def wait(self, which: Which, request: Asking, came: float = 0.0) -> None:
        """Load a version, unless that has begun already, and answer a request afterwards.

        Args:
            which: the version, as the request names it.
            request: the request.
            came: its arrival time, by `perf_counter`; by default, now.
        """
        self._new += len(request.body) + LEAST
        if self._new > MOST_NEW:
            self.drop_gone()
        place = Waiting(request, came or perf_counter(), self._seconds(which, request))
        self._look_at(place.until)
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
            still_open: list[Waiting] = []
            for place in requests:
                if place.request.is_open():
                    still_open.append(place)
                else:
                    self._count_gone(place.request)
            # The list itself stays, since a thread may look at it.
            requests[:] = still_open

    def shut_down(self) -> None:
        """Begin no more loads."""
        if self._timer is not None:
            self._timer.cancel()
        self.threads.shutdown(wait=False, cancel_futures=True)

    def _look_at(self, time: float) -> None:
        """Look for requests whose time is over at some time, unless that happens sooner."""
        if time >= self._next:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._next = time
        pause = max(LATE_SECONDS, time - perf_counter())
        self._timer = self._loop.call_later(pause, self._refuse_late)

    def _refuse_late(self) -> None:
        """Refuse the requests whose time is over; their load goes on."""
        self._timer, self._next = None, math.inf
        now, late, next_time = perf_counter(), [], math.inf
        for requests in self.waiting.values():
            late += [place for place in requests if place.until <= now]
            requests[:] = [place for place in requests if place.until > now]
            next_time = min([next_time, *(place.until for place in requests)])
        if next_time < math.inf:
            self._look_at(next_time)
        # An answer lets its connection's next request begin, which may wait, too.
        for request, _, seconds in late:
            self._attempt(request, partial(self._say_late, request, seconds))

    def _say_late(self, request: Asking, seconds: float) -> None:
        """Answer a request whose version has not been loaded within its time."""
        if not request.is_open():
            self._count_gone(request)
            return
        limit = (
            f"{seconds:g} s ({deadline.HEADER}, grpc-timeout, TRICEPS_TIMEOUT or timeout in "
            f"{SETTINGS})"
        )
        message = f"request: expected its model to be loaded within {limit}, and it still loads"
        self._refuse(request, TooLate(message))

    def _seconds(self, which: Which, request: Asking) -> float:
        """Return the time that a request has, as far as that is known before its body is read."""
        # An invalid header is refused once the version is loaded.
        with contextlib.suppress(BadRequest):
            if header := request.header(deadline.HEADER):
                return deadline.parse(header.encode("latin-1"))
        repository = self._library.current
        owner, _ = repository.key(which[0], "")
        own = repository.catalog.settings.get(owner, DEFAULTS).timeout
        return self._timeout if own is None else own

    def _load(self, which: Which) -> None:
        servable = None
        is_wanted = any(place.request.is_open() for place in [*self.waiting[which]])
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
        for request, came, _ in self.waiting.pop(which):
            self._attempt(request, partial(self.wait, which, request, came))

    def _answer_waiting(self, servable: Servable | None, which: Which) -> None:
        self._answer_some(self.waiting.pop(which), servable)

    def _answer_some(self, requests: list[Waiting], servable: Servable | None) -> None:
        for request, came, _ in requests[:ANSWERED_AT_ONCE]:
            self._attempt(request, partial(self._answer, request, came, servable))
        if rest := requests[ANSWERED_AT_ONCE:]:
            self._loop.call_soon(self._answer_some, rest, servable)

    def _attempt(self, request: Asking, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:
            log.exception("%s could not be answered", request.what)
            request.abort()
