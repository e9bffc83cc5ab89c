"""The pipeline: the only way to a prediction, whichever server carries it and whatever runs it.

    bytes ─ admit ─ decode ─▶ arrays by tensor ─ submit ─▶ arrays by head ─ encode ─▶ bytes

It knows neither Flask nor sockets, but an `Exchange` for each request, and an `Executor`, which
runs models: `exchange.py` has both.  Every request is admitted, decoded, bounded, timed, encoded
and counted here, and an error in any step is answered here, in the protocol that the client speaks.

This is one idea in one file so that a reader can follow a request from its first line to its last.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, cast

from service.canary import Splits, is_at_fault
from service.errors import GONE, NotReady, RequestError, TooBusy, TooLate, defect
from service.http import content_encoding, deadline
from service.http.content_encoding import JSON
from service.http.flow_control import Room
from service.http.reply import encode_error, encode_reply
from service.http.tokens import PREDICT
from service.inference.lane import LEAST_WAITING
from service.inference.sliced import Sliced, join
from service.insight.explanations import Plan
from service.observability.tallies import CANARY, STABLE
from service.observability.timing import ASK_TIMING, server_timing
from service.repository.scan import SETTINGS
from service.run import Part, Run
from service.wire import limits, native
from service.wire.body import LongReadError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from service.canary import Split
    from service.exchange import Exchange, Executor
    from service.http.access import Access
    from service.inference.lane import Asker, Lane
    from service.insight.serving.drift import Drift
    from service.insight.serving.drift_meter import DriftMeter
    from service.insight.shadow.hand_over import HandOver
    from service.observability.access_log import AccessLog
    from service.observability.meter import Meter
    from service.observability.metrics import Metrics
    from service.observability.samples import Sampler
    from service.repository.loader import Servable
    from service.repository.repository import Repository
    from service.settings import Settings
    from service.wire.dialect import Codec, Dialect, Query
    from service.wire.numbers import Arrays, Tensors

log = logging.getLogger(__name__)

# The routes whose answer to a full queue is kept.
MAX_FULL_ANSWERS = 64
# The body of a 500 that no dialect could write.
_LAST_RESORT = b'{"error":"an error of the service; it is logged"}'
_TIMEOUT = deadline.HEADER.lower().encode()
_ASK_TIMING = ASK_TIMING.lower().encode()


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A version of a model in one dialect, and what is worked out once for all its requests."""

    servable: Servable
    dialect: Dialect
    codec: Codec
    lane: Lane
    meter: Meter
    drift_meter: DriftMeter | None
    """The counts for drift, if there are any."""
    safe_bytes: int
    """A body of no more bytes cannot have more rows than one answer may have."""
    rows_at_once: int
    """The rows whose answers are encoded in the event loop; more are encoded in a thread."""
    queue: float
    """The seconds of work that may wait for the model."""
    timeout: float
    """The seconds after which a request is no longer run, unless it sets a time of its own."""
    canary: Route | None = None
    """The route to the canary, which takes a share of the requests, if there is one."""
    split: Split | None = None
    """The counts of the requests that the stable version and its canary share, on either route."""
    role: int = STABLE
    """`STABLE` or `CANARY`, for these counts."""


class Pipeline:
    """The shared state of a process's predictions: bounds, access, metrics and the executor."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        access: Access,
        executor: Executor,
    ) -> None:
        """Answer within the bounds of `settings`.

        Args:
            settings: of the service.
            metrics: counts the requests.
            access: knows the tokens.
            executor: runs the models.
        """
        self.access_log: AccessLog | None = None
        """The access log, which is told what a request is for, if there is one."""
        self.sampler: Sampler | None = None
        """It takes some of the rows that are answered, if there is one."""
        self.drift: Drift | None = None
        """It counts the rows that are answered for drift, if there is one."""
        self.hand_over: HandOver | None = None
        """It takes some of the rows that were answered, if some model has a shadow."""
        self._queue = settings.queue
        self._timeout = settings.timeout
        self.max_body = settings.max_body
        self.at_once = min(settings.max_body, limits.AT_ONCE)
        self.room = Room(settings.max_in_flight)
        self.access = access
        self.guarded = access.is_on
        self.executor = executor
        self.splits = Splits(metrics.tallies, settings.canary_header)
        self.is_leader: Callable[[], bool] = lambda: True
        """Returns whether this process is the one that decides about canaries."""
        self._metrics = metrics
        self._draining = False
        self._full_answer = lru_cache(MAX_FULL_ANSWERS)(self._encode_full)

    def drain(self) -> None:
        """Answer with 503 in place of 429 where a queue is full: the service is about to end."""
        self._draining = True
        self.forget()

    def forget(self) -> None:
        """Forget the answers of routes that may be gone."""
        self._full_answer.cache_clear()

    def route(self, servable: Servable, dialect: Dialect, lane: Lane) -> Route:
        """Return the route to a version in a dialect, whose requests wait in `lane`."""
        signature, own = servable.signature, servable.settings
        numbers = limits.numbers_a_row(signature, signature.heads)
        return Route(
            servable,
            dialect,
            dialect.codec(servable.name, servable.version, signature),
            lane,
            self._metrics.meter(servable, dialect.name),
            None if self.drift is None else self.drift.meter(servable),
            safe_bytes=limits.MOST_NUMBERS // max(1, numbers),
            rows_at_once=limits.rows_at_once(signature),
            queue=self._queue if own.queue is None else own.queue,
            timeout=self._timeout if own.timeout is None else own.timeout,
        )

    def shared(
        self, repository: Repository, stable: Route, route: Callable[[Servable], Route]
    ) -> Route:
        """Return a route that shares the requests of a stable version with its canary, if any.

        Args:
            repository: the repository that the canary is from.
            stable: the route to the version that answers requests without a version.
            route: returns the route to another version in the same dialect.
        """
        name = stable.servable.name
        canary = repository.candidates.canaries.get(name)
        split = None if canary is None else self.splits.of(repository, name)
        if canary is None or split is None:
            return stable
        other = replace(route(canary), split=split, role=CANARY)
        other.lane.note_runs = split.runs
        return replace(stable, split=split, canary=other)

    def look(self) -> None:
        """Notice the canaries that are asked no more; to be called once a second or more."""
        self.splits.look(perf_counter(), self.is_leader)

    def admit(self, route: Route, exchange: Exchange, came: float = 0.0) -> Prediction | None:
        """Admit a request before any of it is decoded.

        Args:
            route: the version and the dialect that it requests.
            exchange: the request.
            came: when it came, by `perf_counter`, if it has waited since; else 0.

        Returns:
            `None` if the queue is full; then the request is answered.

        Raises:
            Unauthorized, Forbidden: its token does not allow it.
        """
        if self.guarded:
            self.access.check(exchange.header("authorization"), PREDICT, route.servable.name)
        request_id = ""
        if route.canary is not None and route.split is not None:
            self.look()
            is_drawn, request_id = self.splits.draw(route.split, exchange)
            route = route.canary if is_drawn else route
        if not route.lane.is_full(route.queue, exchange.caller, perf_counter()):
            return Prediction(self, route, exchange, came, request_id)
        # A refusal must cost less than an answer, so it is written once.
        status, content, lines = self._full_answer(route)
        self._count(route, exchange, status)
        exchange.respond(status, content, lines + exchange.common(request_id))
        return None

    def predict(self, route: Route, exchange: Exchange) -> None:
        """Answer a request from beginning to end, in the thread that calls this."""
        try:
            prediction = self.admit(route, exchange)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered
            self.fail(route, exchange, error)
            return
        if prediction is not None:
            prediction.begin(perf_counter())

    def count_gone(self, route: Route, exchange: Exchange) -> None:
        """Count a request whose client has gone, and which nothing answers."""
        self._count(route, exchange, GONE)
        if self.access_log is not None:
            self.access_log.left(exchange.origin)

    def too_busy(self, route: Route) -> RequestError:
        """Return the error for a request that would have to wait too long."""
        message = (
            f"model {route.servable.name!r}: its queue is full ({_set_by(route, 'queue')} is "
            f"{route.queue:g} s of work); this request was not run, try again a little later"
        )
        return NotReady(message) if self._draining else TooBusy(message)

    def _encode_full(self, route: Route) -> tuple[int, bytes, bytes]:
        error = self.too_busy(route)
        return error.status, *encode_error(route.dialect, error, {})

    def fail(
        self, route: Route | None, exchange: Exchange, error: Exception, request_id: str = ""
    ) -> None:
        """Answer with an error: the client's own, or a plain 500 for a bug, which is logged.

        This raises nothing: where no answer can be given, the connection is closed.
        """
        try:
            request_id, raised = request_id or exchange.request_id, error
            if not isinstance(error, RequestError):
                what = exchange.what
                log.error("%s failed", what, exc_info=error, extra={"request_id": request_id})
                error = defect(what)
            status = error.status
            if route is None:
                self._metrics.count("", "", "other", status)
            else:
                self._count(route, exchange, status)
                if route.split is not None and is_at_fault(error):
                    route.split.failed(route.role, raised)
            dialect = native.DIALECT if route is None else route.dialect
            content, lines = encode_error(dialect, error, exchange.headers)
            lines += exchange.common(request_id)
        except Exception:
            log.exception("an error could not be encoded")
            status, content, lines = 500, _LAST_RESORT, JSON
        try:
            exchange.respond(status, content, lines)
        except Exception:
            log.exception("a request could not be answered, and its connection is closed")
            exchange.abort()

    def _count(self, route: Route, exchange: Exchange, status: int) -> None:
        route.meter.failed(status)
        if self.access_log is not None:
            self.access_log.note(exchange.origin, route.servable)


def _set_by(route: Route, key: str) -> str:
    """Return the name of the setting that a bound of a route comes from."""
    is_own = key in route.servable.settings.as_json()
    return f"{key} in {SETTINGS}" if is_own else f"TRICEPS_{key.upper()}"


class Prediction:
    """One request for a prediction, from its admission to its answer; an executor's `Asker`."""

    __slots__ = (
        *("_came", "_deadline", "_decoded_at", "_held", "_pipeline", "_query", "_received"),
        *("_request_id", "exchange", "route"),
    )

    def __init__(
        self, pipeline: Pipeline, route: Route, exchange: Exchange, came: float, request_id: str
    ) -> None:
        """Use `Pipeline.admit`."""
        self.route = route
        self.exchange = exchange
        self._pipeline = pipeline
        # When it came, if that was long before it could be decoded; else 0.
        self._came = came
        # The request ID that its route was chosen by; empty if it was not.
        self._request_id = request_id
        # The bytes made of a large body, or of a large answer.
        self._held = 0

    def begin(self, now: float) -> None:
        """Decode the body and submit it, or answer with all that is wrong with it.

        Args:
            now: the time, by `perf_counter`.
        """
        self._received = now
        exchange = self.exchange
        headers, body = exchange.headers, exchange.body
        try:
            # Nearly all bodies are so, and every dialect decodes them as they are.
            if (
                len(body) <= self._pipeline.at_once
                and headers.get(b"content-type") == b"application/json"
                and b"content-encoding" not in headers
            ):
                self._decode_small(body)
            else:
                self._decode_others(body, headers)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered
            self._answer_error(error)

    def _decode_others(self, body: bytes, headers: Mapping[bytes, bytes]) -> None:
        """Decode a body that is large, or compressed, or of another type.

        Raises:
            RequestError: with everything that is wrong with it.
        """
        if len(body) > self._pipeline.max_body:
            raise content_encoding.too_large(self._pipeline.max_body)
        codec, compressed = self.route.codec, b"content-encoding" in headers
        reads = self.route.dialect.reads
        if len(body) <= (limits.ZIPPED_AT_ONCE if compressed else limits.AT_ONCE):
            if compressed or reads:
                body = self._plain_body()
            if len(body) <= limits.AT_ONCE:
                self._decode_small(body)
                return
        # A body without errors is decoded here in a millisecond or two.
        elif (
            codec.attempt is not None
            and len(body) <= limits.QUICK
            and not compressed
            and (not reads or headers.get(b"content-type") == b"application/json")
        ):
            query = codec.attempt(body)
            if query is not None:
                self._submit(query)
                return
        self._decode_apart()

    def _decode_small(self, body: bytes) -> None:
        """Decode a small body here, unless that takes long, and submit it."""
        try:
            query = self.route.codec.decode(body, self.exchange.header)
        except LongReadError:
            self._decode_apart()
        else:
            self._submit(query)

    def _decode_apart(self) -> None:
        """Decode a large body where that delays no other request, and go on."""
        exchange = self.exchange

        def decode() -> tuple[Any, int]:
            # Others may have been read for long.  If its protocol has a time in bodies, only the
            # body says whether it is over.
            if _TIMEOUT in exchange.headers or not self.route.dialect.timed:
                seconds = self._seconds(None)
                if perf_counter() > (self._came or self._received) + seconds:
                    raise self._too_late(seconds)
            body = self._plain_body() if exchange.is_open() else b""
            query = limits.read(self.route.codec.decode, body, exchange.header)
            size = limits.held(query.arrays) + limits.held_by_notes(query)
            if b"content-encoding" in exchange.headers:
                size += len(body)
            return query, size

        self._pipeline.executor.apart(
            len(exchange.body), decode, self._submit_large, exchange.caller
        )

    def _submit_large(self, result: Any) -> None:
        """Submit a large body that was decoded, or answer with the error that was raised."""
        try:
            # First: no body was read for a client that had gone before.
            if self._is_over():
                return
            if isinstance(result, Exception):
                self._answer_error(result)
                return
            query, size = result
            self._hold(size)
            self._submit(query)
        except Exception as error:  # noqa: BLE001  as in `begin`
            self._answer_error(error)

    def _plain_body(self) -> bytes:
        """Return the body without its content encoding."""
        headers = self.exchange.headers
        return content_encoding.read(
            self.exchange.body,
            headers.get(b"content-type", b"").decode("latin-1"),
            headers.get(b"content-encoding", b"").decode("latin-1"),
            self._pipeline.max_body,
            self.route.dialect.reads,
        )

    def _submit(self, query: Query) -> None:
        """Have the executor run a decoded request.

        Raises:
            RequestError: it cannot be run, or not now.
        """
        route, pipeline, exchange = self.route, self._pipeline, self.exchange
        lane, arrays = route.lane, query.arrays
        self._query = query
        self._decoded_at = perf_counter()
        self._deadline = (self._came or self._received) + self._seconds(query)
        if lane.wait > route.queue and (
            lane.requests >= LEAST_WAITING or limits.rows_of(arrays) >= LEAST_WAITING
        ):
            # The queue has grown since the request was admitted, or it has more rows than one.
            raise pipeline.too_busy(route)
        if len(exchange.body) > route.safe_bytes or self._held:
            limits.check_rows(arrays, query.heads, route.servable.signature)
        if query.explain is not None:
            self._explain(query)
            return
        pipeline.executor.submit(lane, route.servable.name, query.heads, arrays, self)

    def _explain(self, query: Query) -> None:
        """Have the executor run the rows of an explanation.

        They are rows of this request like any others, in its queue, bounds and deadline.

        Raises:
            RequestError: the rows cannot be explained, or are too many, or not now.
        """
        route, executor = self.route, self._pipeline.executor
        lane, servable = route.lane, route.servable
        plan = Plan.of(servable.signature, query, lane.model)

        def check_backlog() -> None:
            if lane.backlog > route.queue and lane.sliced_requests >= LEAST_WAITING:
                # One more would run beside all these, and each of them would be late.
                raise self._pipeline.too_busy(route)

        check_backlog()
        self._hold(plan.size)

        def submit(arrays: Tensors, asker: Asker) -> None:
            # In queues of their own, so that the answers of a run are those of callers, or none is.
            executor.submit(lane, f"{servable.name} explained", query.heads, arrays, asker)

        def keep(part: Part, start: int) -> Part:
            outputs = plan.of_use(part.outputs(), start)
            rows = part.end - part.start
            return Part(Run(rows, part.run.started, part.run.ended, outputs), 0, rows)

        def run(expanded: Arrays) -> None:
            check_backlog()  # again: others may have begun meanwhile
            Sliced(submit, lane, self, partial(self._fold, plan), keep).start(expanded)

        self._do(plan, plan.expand, run)

    def _do(self, plan: Plan, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do work for an explanation here if it is small, and pass its result to `then`."""
        if plan.is_small:
            then(work())
        else:
            self._apart(plan.size, work, then)

    def _fold(self, plan: Plan, result: list[Part] | Exception) -> None:
        """Answer with what follows from the runs of an explanation, or with the error raised."""
        run_at = perf_counter()
        if isinstance(result, Exception):
            self._answer_error(result)
            return
        parts, query = result, cast("Any", self._query)

        def encode() -> tuple[Run, bytes, bytes]:
            expanded = join(parts)
            outputs, explained = plan.fold(expanded.outputs)
            limits.check_answer(outputs)
            servable = self.route.servable
            names = servable.name, servable.version, servable.signature
            reply = self.route.dialect.encode(query.with_explanations(explained), *names, outputs)
            run = replace(expanded, outputs=outputs, inputs=plan.arrays)
            return run, *encode_reply(reply, self.exchange.headers)

        def answer(result: tuple[Run, bytes, bytes]) -> None:
            run, content, lines = result
            self.route.meter.explained(plan.total - plan.rows)
            self._answer(Part(run, 0, plan.rows), run_at, content, lines)

        try:
            self._do(plan, encode, answer)
        except Exception as error:  # noqa: BLE001  as in `begin`
            self._answer_error(error)

    def _seconds(self, query: Any) -> float:
        """Return the time that the request has: its own, or that of the settings."""
        header = self.exchange.headers.get(_TIMEOUT)
        if header is not None:
            return deadline.parse(header)
        seconds: float | None = query.timeout if self.route.dialect.timed else None
        return self.route.timeout if seconds is None else seconds

    def wanted(self) -> bool:
        """Return whether the client still waits, and its deadline is not over.

        If not, the request is answered or counted, and need not be run.
        """
        if self._is_over():
            return False
        if perf_counter() > self._deadline:
            self._answer_error(self._too_late(self._deadline - (self._came or self._received)))
            return False
        return True

    def _too_late(self, seconds: float) -> TooLate:
        """Return the error for a request that had so many seconds."""
        setting = _set_by(self.route, "timeout")
        limit = f"{seconds:g} s (X-Request-Timeout, grpc-timeout or {setting})"
        error = TooLate(f"request: expected to be run within {limit}, and was not; dropped")
        # The time is a difference of moments, and so not exact.
        error.is_own = seconds < 0.999 * self.route.timeout
        return error

    def _is_over(self) -> bool:
        """Return whether the client has gone; then the request is counted as left."""
        if self.exchange.is_open():
            return False
        self._release()
        self._pipeline.count_gone(self.route, self.exchange)
        return True

    def may_return(self) -> bool:
        """Return whether the client, which was answered, may send another request."""
        return self.exchange.is_open()

    def done(self, result: Part | Exception) -> None:
        """Answer with the request's rows of a run, or with the error that was raised."""
        run_at = perf_counter()
        if isinstance(result, Exception):
            self._answer_error(result)
            return
        try:
            route = self.route
            if result.end - result.start > route.rows_at_once or (self._held and self._is_long()):
                self._encode_apart(result, run_at)
                return
            reply = route.codec.encode(self._query, result)
            content, lines = encode_reply(reply, self.exchange.headers)
            encoded_at = self._answer(result, run_at, content, lines)
        except Exception as error:  # noqa: BLE001  as in `begin`
            self._answer_error(error)
            return
        self._pipeline.executor.answered(encoded_at)

    def _is_long(self) -> bool:
        """Return whether the answer lists more values than the event loop writes."""
        listed = len(self._query.imputed) + len(self._query.unseen)
        return listed > self.route.rows_at_once

    def _encode_apart(self, part: Part, run_at: float) -> None:
        """Encode a large answer where that delays no other request, and answer with it."""
        outputs = part.outputs()
        size = limits.check_answer(outputs)
        self._hold(limits.held(outputs))

        def encode() -> tuple[bytes, bytes]:
            reply = self.route.codec.encode(self._query, part)
            return encode_reply(reply, self.exchange.headers)

        def answer(result: tuple[bytes, bytes]) -> None:
            self._answer(part, run_at, *result)

        self._apart(size, encode, answer)

    def _apart(self, size: int, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do work in its turn where that delays no other request, and pass its result to `then`.

        An error of either is the answer to the request.
        """

        def take_turn() -> Any:
            with limits.turn(size):
                return work()

        def go_on(result: Any) -> None:
            if isinstance(result, Exception):
                self._answer_error(result)
                return
            try:
                then(result)
            except Exception as error:  # noqa: BLE001  as in `begin`
                self._answer_error(error)

        self._pipeline.executor.apart(size, take_turn, go_on, self.exchange.caller)

    def _answer(self, part: Part, run_at: float, content: bytes, lines: bytes) -> float:
        """Count the request and answer it; return when its answer was encoded."""
        encoded_at, exchange = perf_counter(), self.exchange
        times = (self._received, self._decoded_at, part.run, run_at, encoded_at)
        if self.route.split is not None:
            self.route.split.answered(self.route.role, part.run)
        self.route.meter.answered(times, self._query.imputed, self._query.unseen)
        drift_meter = self.route.drift_meter
        if drift_meter is not None and (part.run.taken is None or self._query.imputed):
            drift_meter.answered(part, self._query.imputed)
        access_log = self._pipeline.access_log
        if access_log is not None:
            rows = part.end - part.start
            access_log.note(exchange.origin, self.route.servable, rows, times)
        if exchange.headers.get(_ASK_TIMING) == b"1":
            lines += b"server-timing: %s\r\n" % server_timing(times).encode()
        lines += exchange.common(self._request_id)
        sampler = self._pipeline.sampler
        if sampler is not None:
            sampler.take(self.route.servable, self._query, part, lines)
        if self._held:
            self._release()
        exchange.respond(200, content, lines)
        hand_over = self._pipeline.hand_over
        if hand_over is not None:
            hand_over.take(self.route.lane, self._query, part)
        return encoded_at

    def _answer_error(self, error: Exception) -> None:
        self._release()
        self._pipeline.fail(self.route, self.exchange, error, self._request_id)

    def _hold(self, size: int) -> None:
        """Count `size` bytes more as held until the request is answered.

        Raises:
            TooBusy: others hold so many that there is no room.
        """
        self._pipeline.room.take(size, self._held)
        self._held += size

    def _release(self) -> None:
        if self._held:
            self._pipeline.room.give_back(self._held)
            self._held = 0
