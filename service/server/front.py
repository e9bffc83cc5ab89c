"""The dispatch of a worker's requests: predictions to the pipeline, all others to the Flask app.

StreamRequest, of a gRPC call ─▶ `Calls` ─▶ one of these, or an answer
Request ─┬─ a prediction ─▶ its route ─▶ the pipeline, whose executor is the batcher
         ├─ one that needs a version that is not loaded ─▶ `OnDemand` ─▶ as above or below
         └─ any other ─▶ the Flask app, in a thread

The file is one idea: where each request of a worker goes.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from service.api import authorization, routes
from service.api.grpc.pages import PageRequest
from service.errors import GONE
from service.http import cors, request_ids
from service.http.connections import Connections
from service.http.content_encoding import JSON
from service.http.grpc.call import ModelCall
from service.http.reply import encode_error
from service.http.tokens import PREDICT
from service.observability.access_log import AccessLog
from service.observability.samples import Sampler
from service.prediction import Pipeline
from service.server import wsgi
from service.server.calls import Calls
from service.server.on_demand import OnDemand
from service.server.poll_coalescing import PollCoalescing
from service.server.queued import Queued
from service.server.routing_table import HEALTH_OF_THE_DEFAULT, RoutingTable
from service.server.starting import start_in
from service.server.turns import Turns
from service.server.watchdog import Watchdog
from service.wire import native

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from flask import Flask

    from service.errors import RequestError
    from service.http.access import Access
    from service.http.grpc.call import Address
    from service.http.request import Request
    from service.inference.cores import Cores
    from service.insight.shadow.hand_over import HandOver
    from service.observability.metrics import Metrics
    from service.prediction import Prediction
    from service.repository.loader import Servable
    from service.repository.reloader import Library
    from service.repository.repository import Repository
    from service.server.on_demand import Which
    from service.settings import Settings

log = logging.getLogger(__name__)

# Health checks are answered in the event loop, so that busy threads do not delay them.
_AT_ONCE = tuple(path.encode() for path in authorization.OPEN)


class Front:
    """The HTTP server of one worker, which answers the requests of its connections."""

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        cores: Cores | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        """Answer predictions by the models of `app`, and all other requests through it.

        Args:
            app: the Flask app.
            settings: the settings of the service.
            loop: the event loop.
            cores: tells what other workers do, if there are any.
            hand_over: takes rows that were answered, for shadows, if anything runs these.
        """
        self.app = app
        self.loop = loop
        self.metrics: Metrics = app.extensions["triceps.metrics"]
        self.library: Library = app.extensions["triceps"]
        self.access: Access = app.extensions["triceps.access"]
        self.access_log = AccessLog.of(settings, self.metrics, self.access)
        self.sampler = Sampler.of(settings, self.metrics)
        self.hand_over = hand_over
        self.origins = cors.parse(settings.cors)
        self.connections = Connections(
            loop, settings.max_body, settings.max_in_flight, guarded=self.access.is_on
        )
        self.connections.access_log = self.access_log
        self.metrics.connections = self.connections.open
        self.threads = ThreadPoolExecutor(settings.threads, "flask")
        self.turns = Turns(self.threads)
        self.on_demand = OnDemand(loop, self.library, self, settings.timeout)
        self.executor = Queued(loop, cores)
        self.poll_coalescing = PollCoalescing(loop)
        self.pipeline = Pipeline(settings, self.metrics, self.access, self.executor)
        self.watchdog = Watchdog(self.executor, self.pipeline.splits.hangs)
        self.pipeline.access_log, self.pipeline.sampler = self.access_log, self.sampler
        self.pipeline.is_leader = self.library.is_leader
        self.pipeline.drift = app.extensions["triceps.drift"]
        self.table = RoutingTable(routes.predictions(settings), app.url_map, self.pipeline)
        calls = self.calls = Calls(self)  # connections call it for gRPC
        self.answer_call, self.call_refusal = calls.answer, calls.refusal
        self.needs_no_token, self.is_streamed = calls.needs_no_token, calls.is_streamed
        # Admitted predictions.  They begin once all sockets that are readable now have been read.
        self.arrived: list[Prediction] = []
        # The generation that all workers serve, and the one that the routing table is of.
        self.generation = self.library.generation
        self.used = 0
        self.library.follow(self._use_soon)
        self._use_current()
        self._tick()

    def _tick(self) -> None:
        """Do the work of every second: timeouts, recovery from overload, metrics."""
        # First, so that the next tick comes even if this one fails.
        self.loop.call_later(1.0, self._tick)
        self.connections.tick()
        self.on_demand.drop_gone()
        for lane in self.table.lanes:
            lane.admission.calm(perf_counter())
        if self.access_log is not None:
            self.access_log.flush()
        if self.sampler is not None:
            self.sampler.look()
        if self.hand_over is not None:
            self.hand_over.look()
        self.metrics.flush()
        self.pipeline.look()
        waits = self.watchdog.look(self.table.watched.items(), self.connections.now)
        self.metrics.note_waits(waits)
        self.library.stalled = self.watchdog.reason
        self.table.forget()
        self.calls.look()

    def use(self, repository: Repository) -> None:
        """Answer from another repository, beginning with the next request."""
        self.pipeline.splits.use(repository)
        self.table.use(repository)
        self.pipeline.forget()
        if self.hand_over is not None:
            self.hand_over.use(repository)
            is_needed = self.hand_over.is_needed and not self.connections.draining
            self.pipeline.hand_over = self.hand_over if is_needed else None

    def _use_current(self) -> None:
        """Use the current repository, which may have changed since this was scheduled."""
        self.used = self.generation[0]
        self.use(self.library.current)

    def _use_soon(self, _: Repository) -> None:
        """Schedule the use of the current repository; any thread may call this."""
        self.loop.call_soon_threadsafe(self._use_current)

    def drain(self) -> None:
        """Stop being ready, and close each connection after its next answer."""
        self.connections.draining = True
        self.pipeline.drain()
        self.pipeline.hand_over = None
        self.library.stopping = True
        self.calls.health.look()

    async def close(self, seconds: float) -> None:
        """Answer the requests in flight, within `seconds`, and close every connection."""
        self.drain()
        self.calls.close()
        await self.connections.close(seconds)
        self.library.follow(None)
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.on_demand.shut_down()
        self.executor.shut_down()
        if self.access_log is not None:
            self.access_log.close()
        if self.sampler is not None:
            self.sampler.close()
        if self.hand_over is not None:
            self.hand_over.look()
        self.metrics.flush()

    # Connections call these.

    def answer(
        self, request: Request | ModelCall, came: float = 0.0, loaded: Servable | None = None
    ) -> None:
        """Answer a request, now or later.

        Args:
            request: the request, or a prediction by gRPC.
            came: its arrival time, by `perf_counter`, if it has waited for a version to load;
                else 0.
            loaded: what was loaded for it, if anything was.
        """
        if self.generation[0] != self.used:
            self._use_current()
        route = None
        try:
            if request.method == b"POST":
                # Nearly every request spells its target as the table does.
                route = self.table.routes.get(request.target) or self.table.find(request.target)
                if route is None and loaded is not None:
                    # Others have needed the memory since.
                    route = self.table.lend(request.target, loaded)
            if route is None:
                if came or not self._load(request):
                    self._answer_by_app(request, has_waited=came > 0)
                return
            prediction = self.pipeline.admit(route, request, came)
            if self.table.kept_routes and route in self.table.kept_routes:
                self.library.note(route.servable.name, route.servable.version)
            lane = route.lane
            if prediction is not None:
                lane = prediction.route.lane
                if not self.arrived:
                    self.loop.call_soon(self._begin)
                self.arrived.append(prediction)
                lane.coming += 1
        except Exception as error:  # noqa: BLE001  every error is answered, as Flask does
            self.pipeline.fail(route, request, error)
            return
        if lane.admission.is_short:
            self.poll_coalescing.overrun(lane, self.table.lanes, self.executor)

    def common(self, headers: Mapping[bytes, bytes], request_id: str = "") -> bytes:
        """Return the header lines that every answer to a request with `headers` has."""
        lines = request_ids.line(request_id) if request_id else request_ids.line_of(headers)
        if self.origins:
            lines += cors.lines(headers.get(b"origin", b"").decode("latin-1"), self.origins)
        return lines

    def check_token(self, headers: Mapping[bytes, bytes]) -> None:
        """Check the token in the headers of a request whose body has not been read.

        Raises:
            Unauthorized: there is no token, or it is unknown.
        """
        self.access.identify(headers.get(b"authorization", b"").decode("latin-1"))

    def refusal(
        self, target: bytes, headers: Mapping[bytes, bytes], error: RequestError
    ) -> tuple[bytes, bytes]:
        """Count a request that is refused before it has arrived completely.

        Returns:
            The body and the header lines of its answer.
        """
        self.count_unanswered(target, error.status)
        path = wsgi.split(target)[0].decode("latin-1")
        # The target may be incomplete or missing.
        is_path = path.startswith("/")
        dialect = routes.dialect_of(path, self.table.rules) if is_path else native.DIALECT
        content, lines = encode_error(dialect, error, headers)
        return content, lines + self.common(headers)

    def count_unanswered(self, target: bytes | Address, status: int) -> None:
        """Count a request that neither a model nor the app answers."""
        route = self.table.find(target)
        if route is None:
            self.metrics.count("", "", "other", status)
        else:
            route.meter.failed(status)

    def count_gone(self, request: Request | ModelCall) -> None:
        """Count a request that nothing answers, since its client has gone."""
        self.count_unanswered(request.target, GONE)
        if self.access_log is not None:
            self.access_log.left(request.origin)

    def refuse(self, request: Request | ModelCall, error: RequestError) -> None:
        """Answer a request that has waited for its version with an error, and count it."""
        if isinstance(request, ModelCall):
            self.calls.refuse_prediction(request, self.library.current, error)
            return
        content, lines = self.refusal(request.target, request.headers, error)
        said = b"" if request.method == b"HEAD" else content
        answer = wsgi.Answer(error.status, said, lines, len(content))
        if isinstance(request, PageRequest):
            answer = wsgi.Answer(*request.translate(*answer))
        request.respond(*answer)

    # The steps of `answer`.

    def _begin(self) -> None:
        """Begin the admitted predictions, one after another."""
        arrived, self.arrived = self.arrived, []
        for prediction in arrived:
            prediction.route.lane.coming -= 1
            now = perf_counter()
            self.executor.busy_polling.asked(prediction.exchange.caller, now)
            prediction.begin(now)

    def _load(self, request: Request | ModelCall) -> bool:
        """Load the version that a request needs, if that version is loaded on demand.

        Returns:
            Whether the request now waits for the version.  If not, the Flask app has to answer,
            usually with an error.
        """
        which = self._to_load(request)
        if which is None:
            return False
        self.on_demand.wait(which, request)
        return True

    def _to_load(self, request: Request | ModelCall) -> Which | None:
        """Return what the Flask app would load to answer a request; `None` if nothing."""
        rule = self.table.rule_that_loads(request.target, request.method)
        if rule is None:
            return None
        which = routes.which(rule[1])
        repository = self.library.current
        if repository.on_demand(*which) is None:
            return None
        if rule[0] in HEALTH_OF_THE_DEFAULT:
            # Probes have no token.
            return which
        name = which[0] or repository.default
        return which if self.access.allows(request.header("authorization"), PREDICT, name) else None

    def _answer_by_app(self, request: Request | ModelCall, *, has_waited: bool) -> None:
        """Answer a request by the Flask app: health checks here, others in a thread."""
        if isinstance(request, ModelCall):
            self.calls.answer_unloaded(request)
            return
        self.poll_coalescing.page_asked = perf_counter()
        path, _ = wsgi.split(request.target)
        # The version that was loaded for it may be gone, and pages do not wait while it is loaded
        # again.
        is_load = has_waited and self._to_load(request) is not None
        if path.rstrip(b"/") in _AT_ONCE and not is_load:
            self._call_app(request)
            return
        work = partial(self._call_app, request)
        if is_load:
            start_in(self.on_demand.threads, work)
        else:
            self.turns.add(request.caller, work)

    def _call_app(self, request: Request) -> None:
        if not request.is_open():
            # A client of HTTP/2 gives up a thousand requests as soon as it has sent them.
            self.loop.call_soon_threadsafe(self.count_gone, request)
            return
        try:
            answer = wsgi.call(self.app.wsgi_app, request)
            if isinstance(request, PageRequest):
                answer = wsgi.Answer(*request.translate(*answer))
        except Exception:
            # Flask answers its own errors, so this is a bug in the adapter.
            request_id = request.request_id
            log.exception("%s failed", request.what, extra={"request_id": request_id})
            self.count_unanswered(request.target, 500)
            answer = wsgi.Answer(500, b"", JSON + self.common(request.headers, request_id), 0)
        self.loop.call_soon_threadsafe(request.respond, *answer)
