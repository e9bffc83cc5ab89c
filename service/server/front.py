"""What a worker answers: predictions through the pipeline, all else through the Flask app.

Request ─┬─ a prediction ─▶ its route ─▶ the pipeline, whose executor is the batcher
         ├─ a prediction by a version that is not loaded ─▶ load it, in a thread ─▶ as above
         └─ all else ─▶ the Flask app, in a thread
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from service.api import authorization, routes
from service.errors import Unauthorized
from service.http import cors, flow_control, request_ids
from service.http.content_encoding import JSON
from service.http.tokens import PREDICT
from service.prediction import Pipeline, explain
from service.server import wsgi
from service.server.poll_coalescing import PollCoalescing
from service.server.queued import Queued, start_in
from service.server.routing_table import RoutingTable
from service.server.watchdog import Watchdog
from service.wire import native

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask

    from service.errors import RequestError
    from service.http.connection import Connection, Head, Request
    from service.http.tokens import Access
    from service.observability.metrics import Metrics
    from service.prediction import Prediction
    from service.repository.reloader import Library
    from service.repository.repository import Repository
    from service.settings import Settings

log = logging.getLogger(__name__)

# What is asked to know whether all is well is answered even where all threads are busy.
_AT_ONCE = tuple(path.encode() for path in authorization.OPEN)


class Front:
    """What the connections of one worker share."""

    def __init__(self, app: Flask, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Answer for `app`, whose models it has; predictions without going through it."""
        self.app = app
        self.loop = loop
        self.max_body = settings.max_body
        self.max_in_flight = settings.max_in_flight
        self.in_flight = 0
        self.unread = flow_control.Unread(settings.max_in_flight // 2)
        self.heads: dict[bytes, Head] = {}
        self.connections: set[Connection] = set()
        self.draining = False
        self.closing = False
        self.date = b""
        self.now = 0.0
        self.executor = Queued(loop)
        self.watchdog = Watchdog(self.executor)
        self.arrived: list[Prediction] = []
        self.poll_coalescing = PollCoalescing(loop)
        self.threads = ThreadPoolExecutor(settings.threads, "flask")
        self.metrics: Metrics = app.extensions["triceps.metrics"]
        self.metrics.connections = self.connections
        # Who waits, since when, for a version that is being loaded.
        self.loading: dict[tuple[str, str], list[tuple[Request, float]]] = {}
        self.library: Library = app.extensions["triceps"]
        self.access: Access = app.extensions["triceps.access"]
        self.guarded = self.access.is_on
        self.origins = cors.parse(settings.cors)
        self.pipeline = Pipeline(settings, self.metrics, self.access, self.executor)
        self.table = RoutingTable(routes.predictions(settings), app.url_map, self.pipeline.route)
        # Which state of the repository all workers serve, and of which one the routes are.
        self.generation = self.library.generation
        self.used = 0
        self.library.follow(self._use_soon)
        self._use_current()
        self._tick()

    def _tick(self) -> None:
        """Once a second: the date of answers, connections that have gone quiet, and numbers."""
        # First of all, so that there is a next time whatever goes wrong in this one.
        self.loop.call_later(1.0, self._tick)
        self.now = self.loop.time()
        self.date = f"date: {formatdate(time.time(), usegmt=True)}\r\n".encode()
        for connection in list(self.connections):
            try:
                connection.check(self.now)
            except Exception:
                log.exception("a connection could not be checked, and is hung up on")
                connection.abort()
        for lane in self.table.lanes:
            lane.admission.calm(perf_counter())
        self.metrics.flush()
        self.metrics.note_waits(self.watchdog.look(self.table.watched.items(), self.now))
        self.library.stalled = self.watchdog.reason
        self.table.forget()

    def use(self, repository: Repository) -> None:
        """Answer the next request, and those after it, by another repository."""
        self.table.use(repository)
        self.pipeline.forget()

    def _use_current(self) -> None:
        """Use the repository that is current now, whichever it was when this was asked for."""
        self.used = self.generation[0]
        self.use(self.library.current)

    def _use_soon(self, _: Repository) -> None:
        """Use the current repository, from another thread."""
        self.loop.call_soon_threadsafe(self._use_current)

    def drain(self) -> None:
        """Be ready no more: each answer is the last of its connection, and the others know."""
        self.draining = True
        self.pipeline.drain()
        self.library.stopping = True

    async def close(self, seconds: float) -> None:
        """Finish what has been asked, within a bound, and close every connection."""
        self.drain()
        self.closing = True
        deadline = self.loop.time() + seconds
        while self.connections and self.loop.time() < deadline:
            # First of all, what has been sent meanwhile is read.
            await asyncio.sleep(0.02)
            for connection in list(self.connections):
                connection.check(self.loop.time())
        for connection in list(self.connections):
            connection.abort()
        self.library.follow(None)
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.executor.shut_down()
        self.metrics.flush()

    def answer(self, request: Request, asked: float = 0.0) -> None:
        """Have a request answered, now or later.

        Args:
            request: that.
            asked: when it came, if it has waited since for a version to be loaded.
        """
        if self.generation[0] != self.used:
            self._use_current()
        route = None
        try:
            if request.method == b"POST":
                # Nearly always it is spelled as the table has it.
                route = self.table.routes.get(request.target) or self.table.find(request.target)
            if route is None:
                self._answer_elsewhere(request, may_load=not asked)
                return
            prediction = self.pipeline.admit(route, request, asked)
            if self.table.on_demand and route in self.table.on_demand:
                self.library.note(route.servable.name, route.servable.version)
            lane = route.lane
            if prediction is not None:
                if not self.arrived:
                    # After all sockets that are readable now.
                    self.loop.call_soon(self._begin)
                self.arrived.append(prediction)
                lane.coming += 1
        except Exception as error:  # noqa: BLE001  as Flask does: whatever it is, it is answered
            self.pipeline.fail(route, request, error)
            return
        if lane.admission.is_short:
            self.poll_coalescing.overrun(lane, self.table.lanes, self.executor)

    def _begin(self) -> None:
        """Begin what has arrived, one after another."""
        arrived, self.arrived = self.arrived, []
        for prediction in arrived:
            prediction.route.lane.coming -= 1
            now = perf_counter()
            self.executor.busy_polling.asked(prediction.exchange.caller, now)
            prediction.begin(now)

    def _answer_elsewhere(self, request: Request, *, may_load: bool) -> None:
        """Have a request answered that no route is for: by the app, or once there is a route.

        That is so for a version that is loaded when it is asked for.  Whoever asks for it meanwhile
        waits for the same load.  Where there is nothing to load, or not for this caller, the app
        says so.
        """
        path, _ = wsgi.split(request.target)
        found = self.table.rule_of(path) if may_load and request.method == b"POST" else None
        if found is not None and "version" in found[1]:
            which = found[1]["name"], found[1]["version"]
            if self.library.current.on_demand(*which) is not None and self.access.allows(
                request.header("authorization"), PREDICT, which[0]
            ):
                waiting = self.loading.get(which)
                if waiting is None:
                    start_in(self.threads, partial(self._load_version, which))
                    waiting = self.loading[which] = []
                waiting.append((request, perf_counter()))
                return
        self.poll_coalescing.page_asked = perf_counter()
        if path.rstrip(b"/") in _AT_ONCE:
            self._call_app(request)
        else:
            start_in(self.threads, partial(self._call_app, request))

    def _load_version(self, which: tuple[str, str]) -> None:
        """Load a version, in a thread, and go on with those who wait for it."""
        try:
            self.library.having(*which)
        except Exception:
            # Whoever waits is told by the app, which finds the same.
            log.exception("loading %s, version %s, failed", *which)
        # After `use`, which has been told of what was loaded.
        self.loop.call_soon_threadsafe(self._loaded, which)

    def _loaded(self, which: tuple[str, str]) -> None:
        for request, asked in self.loading.pop(which):
            try:
                self.answer(request, asked)
            except Exception:
                log.exception("%s could not be answered", request.what)
                request.abort()

    def _call_app(self, request: Request) -> None:
        """Have the Flask app answer a request, in whatever thread this is."""
        try:
            answer = wsgi.call(self.app.wsgi_app, request)
        except Exception:
            # Flask answers for its own errors; what reaches this is a bug of the bridge.
            request_id = request.request_id
            log.exception("%s failed", request.what, extra={"request_id": request_id})
            self.count_unanswered(request.target, 500)
            head = JSON + self.common(request.headers, request_id)
            answer = wsgi.Answer(500, b"", head, 0)
        self.loop.call_soon_threadsafe(request.caller.respond, request, *answer)

    # What connections ask.

    def common(self, headers: Mapping[bytes, bytes], request_id: str = "") -> bytes:
        """The header lines of every answer, for the caller who sent `headers`."""
        head = request_ids.line(request_id) if request_id else request_ids.line_of(headers)
        if self.origins:
            head += cors.lines(headers.get(b"origin", b"").decode("latin-1"), self.origins)
        return head

    def stranger(self, headers: Mapping[bytes, bytes]) -> RequestError | None:
        """Why no body is taken from whoever sends these headers; `None` if it is."""
        try:
            self.access.identify(headers.get(b"authorization", b"").decode("latin-1"))
        except Unauthorized as error:
            return error
        return None

    def refusal(
        self, target: bytes, headers: Mapping[bytes, bytes], error: RequestError
    ) -> tuple[bytes, bytes]:
        """The body and the head that refuse what is not here whole; it is counted as answered."""
        self.count_unanswered(target, error.status)
        path = wsgi.split(target)[0].decode("latin-1")
        # It may be half a target, or none at all.
        is_path = path.startswith("/")
        spoken = routes.dialect_of(path, self.table.rules) if is_path else native.DIALECT
        content, head = explain(spoken, error, headers)
        return content, head + self.common(headers)

    def count_unanswered(self, target: bytes, status: int) -> None:
        """Count what neither a model nor the app answers: refused, or left by its sender."""
        route = self.table.find(target)
        if route is None:
            self.metrics.count("", "", "other", status)
        else:
            route.meter.failed(status)
