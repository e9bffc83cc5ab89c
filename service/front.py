"""What a worker answers: predictions at once, all else through the Flask app.

Request ─┬─ a prediction ─▶ its dialect's reader ─▶ batcher ─▶ its dialect's encode ─▶ respond
         └─ all else ─▶ the Flask app, in a thread ─▶ respond
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache, partial
from time import perf_counter
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException

from service import bridge, bulk, cors, flow, gate, routes, trace, transfer
from service.access import PREDICT
from service.batcher import LEAST_WAITING, Batcher, Lane
from service.connection import GONE, JSON
from service.errors import HTTPError, NotReady, RequestError, TooBusy, TooLate, Unauthorized
from service.metrics import ASK_TIMING, server_timing
from service.rest import Rest
from service.vigil import Vigil
from service.watchdog import Watchdog
from service.wire import fast, native
from service.wire.answers import Writer
from service.wire.body import wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from flask import Flask

    from service.access import Access
    from service.connection import Connection, Head, Request
    from service.life import Library
    from service.metrics import Meter, Metrics
    from service.repository import Repository, Servable
    from service.run import Part
    from service.settings import Settings
    from service.wire.dialect import Dialect, Reader, Reply

    Write = Callable[[Any, Part], Reply]

log = logging.getLogger(__name__)

# What is asked to know whether all is well is answered even where all threads are busy.
_AT_ONCE = tuple(path.encode() for path in gate.OPEN)
# Routes whose words for a full queue are kept.
MOST_WORDS = 64
# The body of a 500 that no dialect has been able to write.
_NO_WORDS = b'{"error":"an error of the service; it is logged"}'
# Paths that are spelled as no route is, and whose rules are kept.
MOST_PATHS = 256
MOST_PATH = 512
_TIMEOUT = b"x-request-timeout"
_ASK_TIMING = ASK_TIMING.lower().encode()


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A path that predicts: by what, and all that is worked out once and not for each request."""

    servable: Servable
    dialect: Dialect
    read: Reader
    quick: Callable[[bytes], Any] | None
    """Reads large bodies that are as they should be; `None` for one that is not, or not surely."""
    write: Write
    safe_bytes: int
    """A body of no more has no more rows than one answer may."""
    rows_at_once: int
    """So many rows' answers are written in the event loop."""
    lane: Lane
    meter: Meter
    kept: bool
    """Whether it is there only as long as it is asked for."""


class Front:
    """What the connections of one worker share."""

    def __init__(self, app: Flask, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Answer for `app`, whose models it has; predictions without going through it."""
        self.app = app
        self.loop = loop
        self.max_body = settings.max_body
        self.max_in_flight = settings.max_in_flight
        self.in_flight = 0
        # Bytes that were made of large bodies, and of large answers that are not written yet.
        self.held = 0
        self.unread = flow.Unread(settings.max_in_flight // 2)
        self.heads: dict[bytes, Head] = {}
        self.queue = settings.queue
        self.timeout = settings.timeout
        self.rules = routes.predictions(settings)
        self.connections: set[Connection] = set()
        self.draining = False
        self.closing = False
        self.date = b""
        self.now = 0.0
        self.batcher = Batcher(loop)
        self.watchdog = Watchdog(self.batcher)
        self.arrived: list[Prediction] = []
        self.vigil = Vigil(loop)
        self.rest = Rest(loop)
        self.threads = ThreadPoolExecutor(settings.threads, "flask")
        self.bulk = (ThreadPoolExecutor(1, "large"), ThreadPoolExecutor(1, "huge"))
        self.metrics: Metrics = app.extensions["triceps.metrics"]
        self.metrics.connections = self.connections
        self.routes: Mapping[bytes, Route] = {}
        # Those of versions that stay only as long as they are asked for; and who waits, since when,
        # for one that is being loaded.
        self.kept: Mapping[bytes, Route] = {}
        self.loading: dict[tuple[str, str], list[tuple[Connection, Request, float]]] = {}
        self.lanes: set[Lane] = set()
        # Those whose requests are watched, by their models' names; also of models that are gone
        # and still have requests to answer.
        self.watched: dict[Lane, str] = {}
        self._full = lru_cache(MOST_WORDS)(self._find_full)
        self._rule = lru_cache(MOST_PATHS)(self._find)
        self.library: Library = app.extensions["triceps"]
        self.access: Access = app.extensions["triceps.access"]
        self.guarded = self.access.is_on
        self.origins = cors.parse(settings.cors)
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
        for lane in self.lanes:
            lane.bound.calm(perf_counter())
        self.metrics.flush()
        self.metrics.note_waits(self.watchdog.look(self.watched.items(), self.now))
        self.library.stalled = self.watchdog.reason
        for lane in self.watched.keys() - self.lanes:
            if not lane.has_work:
                del self.watched[lane]

    def use(self, repository: Repository) -> None:
        """Answer the next request, and those after it, by another repository."""
        # What waits for a model that stays goes on waiting in its lane.
        former = (*self.routes.values(), *self.kept.values())
        lanes = {route.servable.model: route.lane for route in former}
        made: dict[tuple[int, Dialect], Route] = {}

        def find(*, kept: bool) -> dict[bytes, Route]:
            found = {}
            targets = routes.targets(self.rules, repository, kept=kept)
            for target, (dialect, servable) in targets.items():
                key = id(servable), dialect
                if key not in made:
                    lane = lanes.setdefault(servable.model, Lane(servable.model))
                    made[key] = self._make_route(servable, dialect, lane, kept=kept)
                found[target] = made[key]
            return found

        self.routes, self.kept = find(kept=False), find(kept=True)
        self.lanes = {route.lane for route in made.values()}
        for route in made.values():
            self.watched[route.lane], _ = repository.key(route.servable.name, "")
        self._full.cache_clear()

    def _make_route(self, servable: Servable, dialect: Dialect, lane: Lane, *, kept: bool) -> Route:
        read, quick, write = _coder(dialect, servable)
        signature = servable.signature
        each = bulk.numbers_a_row(signature, signature.heads)
        return Route(
            servable,
            dialect,
            read,
            quick,
            write,
            safe_bytes=bulk.MOST_NUMBERS // max(1, each),
            rows_at_once=bulk.rows_at_once(signature),
            lane=lane,
            meter=self.metrics.meter(servable, dialect.name),
            kept=kept,
        )

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
        self._full.cache_clear()
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
        for threads in (self.threads, *self.bulk):
            threads.shutdown(wait=False, cancel_futures=True)
        self.metrics.flush()

    def answer(self, connection: Connection, request: Request, asked: float = 0.0) -> None:
        """Have a request answered, now or later.

        Args:
            connection: whose request it is.
            request: that.
            asked: when it came, if it has waited since for a version to be loaded.
        """
        if self.generation[0] != self.used:
            self._use_current()
        route = self.routes.get(request.target) if request.method == b"POST" else None
        try:
            if route is None:
                path, _ = bridge.split(request.target)
                if request.method == b"POST":
                    route = self._route(path)
                if route is None:
                    go_on = self._call_app_soon if asked else self._answer_elsewhere
                    go_on(path, connection, request)
                    return
            if self.guarded:
                self.access.check(request.header("authorization"), PREDICT, route.servable.name)
            if route.kept:
                self.library.note(route.servable.name, route.servable.version)
            lane, now = route.lane, perf_counter()
            if lane.is_full(self.queue, connection, now):
                # Before it is decoded: to refuse has to cost less than to answer.
                self._refuse_full(route, connection, request)
            else:
                prediction = Prediction(self, route, connection, request, asked)
                if not self.arrived:
                    # After all sockets that are readable now.
                    self.loop.call_soon(self._begin)
                self.arrived.append(prediction)
                lane.coming += 1
        except Exception as error:  # noqa: BLE001  as Flask does: whatever it is, it is answered
            self.fail(route, connection, request, error)
            return
        if lane.bound.is_short:
            self.rest.overrun(lane, self.lanes, self.batcher)

    def _find(self, path: bytes) -> tuple[str, Mapping[str, str]] | None:
        """The rule of a path that predicts, by the app's own way to find one, and its names.

        So no spelling leads past the queue that the app would take for a prediction.
        """
        try:
            rule, names = self.app.url_map.bind("localhost").match(
                path.decode("utf-8", "replace"), "POST", return_rule=True
            )
        except HTTPException:
            return None
        return (rule.rule, names) if rule.rule in self.rules else None

    def _route(self, path: bytes) -> Route | None:
        """The route of a path, however it is spelled."""
        # What is longer is kept by nobody: a client could send any number of them.
        found = self._rule(path) if len(path) < MOST_PATH else self._find(path)
        if found is None:
            return None
        canonical = routes.path_of(*found)
        return self.routes.get(canonical) or self.kept.get(canonical)

    def _answer_elsewhere(self, path: bytes, connection: Connection, request: Request) -> None:
        """Have a request answered that no route is for: by the app, or once there is a route.

        That is so for a version that is loaded when it is asked for.  Whoever asks for it meanwhile
        waits for the same load.  Where there is nothing to load, or not for this caller, the app
        says so.
        """
        found = self._find(path) if request.method == b"POST" else None
        if found is not None and "version" in found[1]:
            which = found[1]["name"], found[1]["version"]
            if self.library.current.on_demand(*which) is not None and self.access.allows(
                request.header("authorization"), PREDICT, which[0]
            ):
                waiting = self.loading.get(which)
                if waiting is None:
                    self.run_in(self.threads, partial(self._load_version, which))
                    waiting = self.loading[which] = []
                waiting.append((connection, request, perf_counter()))
                return
        self._call_app_soon(path, connection, request)

    def _call_app_soon(self, path: bytes, connection: Connection, request: Request) -> None:
        self.rest.page_asked = perf_counter()
        if path.rstrip(b"/") in _AT_ONCE:
            self._call_app(connection, request)
        else:
            self.run_in(self.threads, partial(self._call_app, connection, request))

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
        for connection, request, asked in self.loading.pop(which):
            try:
                self.answer(connection, request, asked)
            except Exception:
                log.exception("%r could not be answered", request.target)
                connection.abort()

    def _begin(self) -> None:
        """Decode what has arrived, one after another."""
        arrived, self.arrived = self.arrived, []
        for prediction in arrived:
            try:
                prediction.begin()
            except Exception as error:  # noqa: BLE001  as in `answer`
                prediction.fail(error)

    def too_busy(self, route: Route) -> RequestError:
        """The error for what would have to wait too long."""
        message = (
            f"model {route.servable.name!r}: its queue is full (TRICEPS_QUEUE is {self.queue:g} s "
            "of work); this request was not run, try again a little later"
        )
        return NotReady(message) if self.draining else TooBusy(message)

    def _refuse_full(self, route: Route, connection: Connection, request: Request) -> None:
        """Answer as `fail` does with `too_busy`, in words that were found beforehand."""
        status, content, head = self._full(route)
        route.meter.failed(status)
        connection.respond(request, status, content, head + self.common(request.headers))

    def _find_full(self, route: Route) -> tuple[int, bytes, bytes]:
        """The status, the body and the head for who comes while the queue is full."""
        error = self.too_busy(route)
        return error.status, *_words(route.dialect, error, {})

    def fail(
        self, route: Route | None, connection: Connection, request: Request, error: Exception
    ) -> None:
        """Answer with an error: the caller's, or a plain 500 for a bug, which is logged.

        Raises nothing, since who calls it has others to answer.
        """
        try:
            status, content, head = self._find_words(route, request, error)
        except Exception:
            log.exception("an error of %r could not be put into words", request.target)
            status, content, head = 500, _NO_WORDS, JSON
        try:
            connection.respond(request, status, content, head)
        except Exception:
            log.exception("%r could not be answered, and is hung up on", request.target)
            connection.abort()

    def _find_words(
        self, route: Route | None, request: Request, error: Exception
    ) -> tuple[int, bytes, bytes]:
        """The status, the body and the head for an error, which is counted."""
        request_id = trace.of(request.headers)
        if not isinstance(error, RequestError):
            what = f"{request.method.decode('latin-1')} {request.target.decode('latin-1')}"
            log.error("%s failed", what, exc_info=error, extra={"request_id": request_id})
            error = HTTPError(500, f"{what}: an error of the service; it is logged")
        if route is None:
            self.metrics.count("", "", "other", error.status)
        else:
            route.meter.failed(error.status)
        dialect = native.DIALECT if route is None else route.dialect
        return error.status, *self._explain(dialect, request.headers, error, request_id)

    def _explain(
        self,
        dialect: Dialect,
        headers: Mapping[bytes, bytes],
        error: RequestError,
        request_id: str | None = None,
    ) -> tuple[bytes, bytes]:
        """The body and the head of an error, for who has sent these headers."""
        content, head = _words(dialect, error, headers)
        return content, head + self.common(headers, request_id)

    def common(self, headers: Mapping[bytes, bytes], request_id: str | None = None) -> bytes:
        """The headers of every answer that is made here, for who has sent these."""
        head = trace.line(request_id) if request_id else trace.line_of(headers)
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
        path = bridge.split(target)[0].decode("latin-1")
        # It may be half a target, or none at all.
        spoken = routes.dialect_of(path, self.rules) if path.startswith("/") else native.DIALECT
        return self._explain(spoken, headers, error)

    def count_unanswered(self, target: bytes, status: int) -> None:
        """Count what neither a model nor the app answers: refused, or left by its sender."""
        route = self.routes.get(target) or self._route(bridge.split(target)[0])
        if route is None:
            self.metrics.count("", "", "other", status)
        else:
            route.meter.failed(status)

    def run_in(self, threads: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        """Have something done in a thread.

        An executor queues what it is given before it starts a thread for it.  Where the system has
        none to give, that is an error here and is not done later on as well: its request would be
        answered twice.
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

    def _call_app(self, connection: Connection, request: Request) -> None:
        """Have the Flask app answer a request, in whatever thread this is."""
        try:
            answer = bridge.call(self.app.wsgi_app, request)
        except Exception:
            # Flask answers for its own errors; what reaches this is a bug of the bridge.
            request_id = trace.of(request.headers)
            log.exception("%r failed", request.target, extra={"request_id": request_id})
            self.count_unanswered(request.target, 500)
            head = JSON + self.common(request.headers, request_id)
            answer = bridge.Answer(500, b"", head, 0)
        self.loop.call_soon_threadsafe(connection.respond, request, *answer)


class Prediction:
    """One request for a prediction, from its bytes to its answer; what the batcher runs."""

    __slots__ = (
        *("_asked", "_came", "_connection", "_decoded", "_front", "_held", "_received"),
        *("_request", "_route", "_until"),
    )

    def __init__(
        self, front: Front, route: Route, connection: Connection, request: Request, came: float
    ) -> None:
        self._front = front
        # When it came, if that was long before it could be read; else 0.
        self._came = came
        self._route = route
        self._connection = connection
        self._request = request
        # Bytes of what was made of the body, or of the answer, where that is large.
        self._held = 0

    def begin(self) -> None:
        """Read the body, and wait for a run.

        Raises:
            RequestError: with everything that is wrong with the request.
        """
        self._route.lane.coming -= 1
        self._received = perf_counter()
        self._front.vigil.asked(self._connection, self._received)
        route, request = self._route, self._request
        headers, body = request.headers, request.body
        if len(body) > bulk.AT_ONCE:
            self._begin_large(body, headers)
            return
        # What nearly all bodies are, any dialect reads as it is.
        if headers.get(b"content-type") != b"application/json" or b"content-encoding" in headers:
            if len(body) > bulk.ZIPPED_AT_ONCE and b"content-encoding" in headers:
                self._read_apart()
                return
            body = self._plain_body()
            if len(body) > bulk.AT_ONCE:
                self._read_apart()
                return
        self._submit(route.read(body, request.header))

    def _begin_large(self, body: bytes, headers: Mapping[bytes, bytes]) -> None:
        """Read a large body here if that is quick, and else in a thread."""
        quick = self._route.quick
        if (
            quick is not None
            and len(body) <= bulk.QUICK
            and headers.get(b"content-type") == b"application/json"
            and b"content-encoding" not in headers
        ):
            asked = quick(body)
            if asked is not None:
                self._submit(asked)
                return
        self._read_apart()

    def _read_apart(self) -> None:
        """Read the body in a thread, and go on here."""
        front = self._front
        threads = front.bulk[bulk.is_huge(len(self._request.body))]

        def read() -> None:
            came: Any
            try:
                body = self._plain_body() if self._connection.is_open() else b""
                came = bulk.read(self._route.read, body, self._request.header)
                size = bulk.held(came.arrays)
                if b"content-encoding" in self._request.headers:
                    size += len(body)
            except Exception as error:  # noqa: BLE001  as in `Front._begin`
                came, size = error, 0
            front.loop.call_soon_threadsafe(self._go_on, came, size)

        front.run_in(threads, read)

    def _go_on(self, came: Any, size: int) -> None:
        """Wait for a run of what a thread has read, or answer with what is wrong with it."""
        if isinstance(came, Exception):
            self.fail(came)
            return
        try:
            self._hold(size)
            self._submit(came)
        except Exception as error:  # noqa: BLE001  as in `Front._begin`
            self.fail(error)

    def _hold(self, size: int) -> None:
        """Count so many bytes more as held until the answer is given.

        They are counted apart from bodies, so that small requests are taken meanwhile.

        Raises:
            TooBusy: others hold so many that there is no room.
        """
        front = self._front
        if front.held > self._held and front.held + size > front.max_in_flight:
            raise TooBusy(
                f"request: expected at most {front.max_in_flight} bytes in all large requests and "
                "answers that a process works on (TRICEPS_MAX_IN_FLIGHT), and others hold so many "
                "already; try again a little later"
            )
        self._held += size
        front.held += size

    def _let_go(self) -> None:
        """Count none of them any more."""
        self._front.held -= self._held
        self._held = 0

    def _plain_body(self) -> bytes:
        """The body without its content encoding."""
        headers = self._request.headers
        return transfer.read(
            self._request.body,
            headers.get(b"content-type", b"").decode("latin-1"),
            headers.get(b"content-encoding", b"").decode("latin-1"),
            self._front.max_body,
            self._route.dialect.reads,
        )

    def _submit(self, asked: Any) -> None:
        """Wait for a run.

        Raises:
            RequestError: the request cannot be run, or not now.
        """
        route, headers = self._route, self._request.headers
        self._asked = asked
        self._decoded = perf_counter()
        said = headers.get(_TIMEOUT)
        seconds = None
        if said is not None or route.dialect.timed:
            seconds = _timeout(said, asked)
        self._until = (self._came or self._received) + (
            self._front.timeout if seconds is None else seconds
        )
        if route.lane.wait > self._front.queue and (
            route.lane.requests >= LEAST_WAITING or bulk.rows_of(asked.arrays) >= LEAST_WAITING
        ):
            # The queue has become so long since it was let in, or it has more rows than one.
            raise self._front.too_busy(route)
        if len(self._request.body) > route.safe_bytes or self._held:
            bulk.check_rows(asked.arrays, asked.heads, route.servable.signature)
        self._front.batcher.submit(route.lane, route.servable.name, asked.heads, asked.arrays, self)

    def wanted(self) -> bool:
        """Whether anybody still waits for the answer."""
        if not self._connection.is_open():
            self._let_go()
            self._route.meter.failed(GONE)
            return False
        if perf_counter() > self._until:
            had = self._until - (self._came or self._received)
            self.fail(
                TooLate(f"request: expected to be run within {had:g} s, and was not; dropped")
            )
            return False
        return True

    def done(self, came: Part | Exception) -> None:
        """Answer with the rows that are its own, or with what went wrong."""
        handed = perf_counter()
        if isinstance(came, Exception):
            self.fail(came)
            return
        route, headers = self._route, self._request.headers
        try:
            if came.end - came.start > route.rows_at_once:
                self._write_apart(came, handed)
                return
            content, head = _as_http(route.write(self._asked, came), headers)
            encoded = self._answer(came, handed, content, head)
        except Exception as error:  # noqa: BLE001  as in `answer`
            self.fail(error)
            return
        self._front.vigil.answered(encoded)

    def _write_apart(self, came: Part, handed: float) -> None:
        """Write a large answer in a thread, and answer with it."""
        front, outputs = self._front, came.outputs()
        size = bulk.check_answer(outputs)
        self._hold(bulk.held(outputs))

        def write() -> None:
            content: Any
            head = b""
            try:
                with bulk.turn(size):
                    content, head = _as_http(
                        self._route.write(self._asked, came), self._request.headers
                    )
            except Exception as error:  # noqa: BLE001  as in `Front.answer`
                content = error
            front.loop.call_soon_threadsafe(self._written, came, handed, content, head)

        front.run_in(front.bulk[bulk.is_huge(size)], write)

    def _written(self, came: Part, handed: float, content: bytes | Exception, head: bytes) -> None:
        """Answer with what a thread has written, or with what went wrong."""
        if isinstance(content, Exception):
            self.fail(content)
            return
        try:
            self._answer(came, handed, content, head)
        except Exception as error:  # noqa: BLE001  as in `Front.answer`
            self.fail(error)

    def _answer(self, came: Part, handed: float, content: bytes, head: bytes) -> float:
        """Answer, and count it; the moment at which the answer was there."""
        route, headers = self._route, self._request.headers
        encoded = perf_counter()
        times = (self._received, self._decoded, came.run, handed, encoded)
        route.meter.answered(times, self._asked.imputed)
        if headers.get(_ASK_TIMING) == b"1":
            head += b"server-timing: %s\r\n" % server_timing(times).encode()
        head += self._front.common(headers)
        if self._held:
            self._let_go()
        self._connection.respond(self._request, 200, content, head)
        return encoded

    def fail(self, error: Exception) -> None:
        """Answer with an error, as `Front.fail` does."""
        self._let_go()
        self._front.fail(self._route, self._connection, self._request, error)


def _timeout(header: bytes | None, asked: Any) -> float | None:
    """The seconds that a request gives itself, if it says.

    Raises:
        BadRequest: it says so in another way.
    """
    if header is None:
        own: float | None = asked.timeout
        return own
    try:
        seconds = float(header)
    except ValueError:
        seconds = 0
    if 0 < seconds < math.inf:
        return seconds
    received = header.decode("latin-1")
    raise wrong("X-Request-Timeout", "a number of seconds above 0", repr(received))


def _coder(
    dialect: Dialect, servable: Servable
) -> tuple[Reader, Callable[[bytes], Any] | None, Write]:
    """What reads a dialect's bodies and writes its answers: the same as it does, and faster."""
    name, version, signature = servable.name, servable.version, servable.signature
    # The faster ways are for rows.
    if dialect is native.DIALECT and not signature.tensor:
        decoder = fast.Decoder(signature)
        return decoder.read, decoder.attempt, Writer(name, version, signature).write

    def write(asked: Any, part: Part) -> Reply:
        return dialect.encode(asked, name, version, signature, part.outputs())

    return dialect.reader(signature), None, write


def _words(
    dialect: Dialect, error: RequestError, headers: Mapping[bytes, bytes]
) -> tuple[bytes, bytes]:
    """The body of an error, and those headers that are its own."""
    content, head = _as_http(dialect.encode_error(error), headers)
    head += "".join(f"{name}: {value}\r\n" for name, value in error.headers).encode()
    return content, head


def _as_http(reply: Reply, headers: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    """A reply's body and head, as small as its caller takes it."""
    content, content_type, more = reply
    head = JSON
    if content_type != "application/json" or more:
        lines = (("content-type", content_type), ("vary", "Accept-Encoding"), *more)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
    accepted = headers.get(b"accept-encoding")
    if accepted is not None:
        smaller = transfer.compress(content, accepted.decode("latin-1"))
        if smaller is not None:
            return smaller, head + b"content-encoding: gzip\r\n"
    return content, head
