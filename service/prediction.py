"""The pipeline: the only way to a prediction, whoever carries the request and whatever runs it.

    bytes ─ admit ─ decode ─▶ arrays by tensor ─ submit ─▶ arrays by head ─ encode ─▶ bytes

It knows neither Flask nor sockets.  An `Exchange` is one HTTP request and the way back to its
caller.  An `Executor` runs one model: from the queue of an event loop, or at once in the thread of
a WSGI server.  Every request is admitted, decoded, bounded, timed, encoded and counted here, and an
error in any step is answered here, in the words of the protocol that the caller speaks.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from service.errors import GONE, HTTPError, NotReady, RequestError, TooBusy, TooLate
from service.http import content_encoding
from service.http.content_encoding import JSON
from service.http.tokens import PREDICT
from service.inference.batcher import LEAST_WAITING
from service.observability.metrics import ASK_TIMING, server_timing
from service.wire import limits, native
from service.wire.body import wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from service.http.tokens import Access
    from service.inference.batcher import Asker, Given, Lane
    from service.observability.metrics import Meter, Metrics
    from service.repository.repository import Servable
    from service.run import Part
    from service.settings import Settings
    from service.wire.dialect import Asked, Codec, Dialect, Reply

log = logging.getLogger(__name__)

# Routes whose words for a full queue are kept.
MOST_WORDS = 64
# The body of a 500 that no dialect has been able to write.
_NO_WORDS = b'{"error":"an error of the service; it is logged"}'
_TIMEOUT = b"x-request-timeout"
_ASK_TIMING = ASK_TIMING.lower().encode()


class Exchange(Protocol):
    """One HTTP request, and the way back to its caller."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The request's headers, by their names in lower case."""

    @property
    def body(self) -> bytes:
        """The request's body as it was sent, compressed or not."""

    @property
    def caller(self) -> object:
        """Whoever asks one request after another; two callers are two objects."""

    @property
    def what(self) -> str:
        """The method and the path, for messages and the log."""

    @property
    def request_id(self) -> str:
        """The request's name; a new one at each call where it came without one."""

    def header(self, name: str) -> str:
        """A header's value, by its name in whatever case; empty where there is none."""

    def is_open(self) -> bool:
        """Whether the caller is still there for an answer."""

    def common(self, request_id: str = "") -> bytes:
        """The header lines of every answer.

        Args:
            request_id: the request's name, if it has been logged; empty: whichever it has.
        """

    def respond(self, status: int, content: bytes, head: bytes) -> None:
        """Give the caller an answer, of which `head` has the header lines."""

    def abort(self) -> None:
        """Hang up: no answer can be given."""


class Executor(Protocol):
    """What runs models, and other long work: `Queued`, or `Direct`."""

    def submit(
        self, lane: Lane, name: str, heads: Sequence[str], arrays: Given, asker: Asker
    ) -> None:
        """Have `heads` computed from `arrays`, and `asker` told."""

    def apart(self, size: int, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do work on so many bytes or values where it holds nobody up.

        `then` is called with what came of it, be that an exception.
        """

    def answered(self, now: float) -> None:
        """Note that an answer was given, by `perf_counter`, right after its run."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A version of a model in one dialect, with all that is worked out once for its requests."""

    servable: Servable
    dialect: Dialect
    codec: Codec
    lane: Lane
    meter: Meter
    safe_bytes: int
    """A body of no more bytes has no more rows than one answer may."""
    rows_at_once: int
    """So many rows' answers are encoded without a thread."""


class Pipeline:
    """What all predictions of a process share: its limits, and the words for those it refuses."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        access: Access,
        executor: Executor,
    ) -> None:
        """Answer within the limits of `settings`.

        Args:
            settings: of the service.
            metrics: what requests are counted in.
            access: whose requests are answered.
            executor: what runs models.
        """
        self.queue = settings.queue
        self.timeout = settings.timeout
        self.max_body = settings.max_body
        self.at_once = min(settings.max_body, limits.AT_ONCE)
        self.room = Room(settings.max_in_flight)
        self.access = access
        self.guarded = access.is_on
        self.executor = executor
        self._metrics = metrics
        self._draining = False
        self._full = lru_cache(MOST_WORDS)(self._words_for_full)

    def drain(self) -> None:
        """Refuse as a service does that is about to end."""
        self._draining = True
        self.forget()

    def forget(self) -> None:
        """Keep no words for routes that may be gone."""
        self._full.cache_clear()

    def route(self, servable: Servable, dialect: Dialect, lane: Lane) -> Route:
        """The route to a version in a dialect, whose requests wait in `lane`."""
        signature = servable.signature
        each = limits.numbers_a_row(signature, signature.heads)
        return Route(
            servable,
            dialect,
            dialect.codec(servable.name, servable.version, signature),
            lane,
            self._metrics.meter(servable, dialect.name),
            safe_bytes=limits.MOST_NUMBERS // max(1, each),
            rows_at_once=limits.rows_at_once(signature),
        )

    def admit(self, route: Route, exchange: Exchange, came: float = 0.0) -> Prediction | None:
        """Let a request in before anything of it is decoded; `None` where it has been refused.

        Args:
            route: what it asks for.
            exchange: the request.
            came: when it came, by `perf_counter`, if it has waited since; else 0.

        Raises:
            Unauthorized, Forbidden: its token does not allow it.
        """
        if self.guarded:
            self.access.check(exchange.header("authorization"), PREDICT, route.servable.name)
        if not route.lane.is_full(self.queue, exchange.caller, perf_counter()):
            return Prediction(self, route, exchange, came)
        # To refuse has to cost less than to answer.
        status, content, head = self._full(route)
        route.meter.failed(status)
        exchange.respond(status, content, head + exchange.common())
        return None

    def predict(self, route: Route, exchange: Exchange) -> None:
        """Answer a request, from beginning to end, in the thread that calls this."""
        try:
            prediction = self.admit(route, exchange)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered
            self.fail(route, exchange, error)
            return
        if prediction is not None:
            prediction.begin(perf_counter())

    def too_busy(self, route: Route) -> RequestError:
        """The error for a request that would have to wait too long."""
        message = (
            f"model {route.servable.name!r}: its queue is full (TRICEPS_QUEUE is {self.queue:g} s "
            "of work); this request was not run, try again a little later"
        )
        return NotReady(message) if self._draining else TooBusy(message)

    def _words_for_full(self, route: Route) -> tuple[int, bytes, bytes]:
        error = self.too_busy(route)
        return error.status, *explain(route.dialect, error, {})

    def fail(self, route: Route | None, exchange: Exchange, error: Exception) -> None:
        """Answer with an error: the caller's, or a plain 500 for a bug, which is logged.

        Raises nothing, since its caller has others to answer.
        """
        try:
            request_id = exchange.request_id
            if not isinstance(error, RequestError):
                what = exchange.what
                log.error("%s failed", what, exc_info=error, extra={"request_id": request_id})
                error = HTTPError(500, f"{what}: an error of the service; it is logged")
            status = error.status
            if route is None:
                self._metrics.count("", "", "other", status)
            else:
                route.meter.failed(status)
            dialect = native.DIALECT if route is None else route.dialect
            content, head = explain(dialect, error, exchange.headers)
            head += exchange.common(request_id)
        except Exception:
            log.exception("an error could not be put into words")
            status, content, head = 500, _NO_WORDS, JSON
        try:
            exchange.respond(status, content, head)
        except Exception:
            log.exception("a request could not be answered, and is hung up on")
            exchange.abort()


class Prediction:
    """One request for a prediction, from its admission to its answer; what an executor runs."""

    __slots__ = (
        *("_asked", "_came", "_decoded", "_held", "_pipeline", "_received", "_until"),
        *("exchange", "route"),
    )

    def __init__(self, pipeline: Pipeline, route: Route, exchange: Exchange, came: float) -> None:
        """Use `Pipeline.admit`."""
        self.route = route
        self.exchange = exchange
        self._pipeline = pipeline
        # When it came, if that was long before it could be decoded; else 0.
        self._came = came
        # Bytes of what was made of the body, or of the answer, where that is large.
        self._held = 0

    def begin(self, now: float) -> None:
        """Decode the body and submit it, or answer with all that is wrong with it.

        Args:
            now: the moment, by `perf_counter`.
        """
        self._received = now
        exchange = self.exchange
        headers, body = exchange.headers, exchange.body
        try:
            # What nearly all bodies are, any dialect decodes as it is.
            if (
                len(body) <= self._pipeline.at_once
                and headers.get(b"content-type") == b"application/json"
                and b"content-encoding" not in headers
            ):
                self._submit(self.route.codec.decode(body, exchange.header))
            else:
                self._decode_others(body, headers)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered
            self._fail(error)

    def _decode_others(self, body: bytes, headers: Mapping[bytes, bytes]) -> None:
        """Decode a body that is large, or compressed, or of another type.

        Raises:
            RequestError: with everything that is wrong with it.
        """
        if len(body) > self._pipeline.max_body:
            raise content_encoding.too_large(self._pipeline.max_body)
        codec, zipped = self.route.codec, b"content-encoding" in headers
        if len(body) <= (limits.ZIPPED_AT_ONCE if zipped else limits.AT_ONCE):
            body = self._plain_body()
            if len(body) <= limits.AT_ONCE:
                self._submit(codec.decode(body, self.exchange.header))
                return
        # Here, if it is as it should be: then it takes a millisecond or two.
        elif (
            codec.attempt is not None
            and len(body) <= limits.QUICK
            and not zipped
            and headers.get(b"content-type") == b"application/json"
        ):
            asked = codec.attempt(body)
            if asked is not None:
                self._submit(asked)
                return
        self._decode_apart()

    def _decode_apart(self) -> None:
        """Decode a large body where that holds nobody up, and go on."""
        exchange = self.exchange

        def decode() -> tuple[Any, int]:
            body = self._plain_body() if exchange.is_open() else b""
            asked = limits.read(self.route.codec.decode, body, exchange.header)
            size = limits.held(asked.arrays)
            if b"content-encoding" in exchange.headers:
                size += len(body)
            return asked, size

        self._pipeline.executor.apart(len(exchange.body), decode, self._go_on)

    def _go_on(self, came: Any) -> None:
        """Submit a large body that has been decoded, or answer with what is wrong with it."""
        try:
            # First of all: where the caller had gone before its body was read, none was.
            if self._is_over():
                return
            if isinstance(came, Exception):
                self._fail(came)
                return
            asked, size = came
            self._hold(size)
            self._submit(asked)
        except Exception as error:  # noqa: BLE001  as in `begin`
            self._fail(error)

    def _plain_body(self) -> bytes:
        """The body without its content encoding."""
        headers = self.exchange.headers
        return content_encoding.read(
            self.exchange.body,
            headers.get(b"content-type", b"").decode("latin-1"),
            headers.get(b"content-encoding", b"").decode("latin-1"),
            self._pipeline.max_body,
            self.route.dialect.reads,
        )

    def _submit(self, asked: Asked) -> None:
        """Wait for a run.

        Raises:
            RequestError: the request cannot be run, or not now.
        """
        route, pipeline, exchange = self.route, self._pipeline, self.exchange
        lane, arrays = route.lane, asked.arrays
        self._asked = asked
        self._decoded = perf_counter()
        said = exchange.headers.get(_TIMEOUT)
        seconds = None
        if said is not None or route.dialect.timed:
            seconds = _timeout(said, asked)
        self._until = (self._came or self._received) + (
            pipeline.timeout if seconds is None else seconds
        )
        if lane.wait > pipeline.queue and (
            lane.requests >= LEAST_WAITING or limits.rows_of(arrays) >= LEAST_WAITING
        ):
            # The queue has become so long since it was let in, or it has more rows than one.
            raise pipeline.too_busy(route)
        if len(exchange.body) > route.safe_bytes or self._held:
            limits.check_rows(arrays, asked.heads, route.servable.signature)
        pipeline.executor.submit(lane, route.servable.name, asked.heads, arrays, self)

    def wanted(self) -> bool:
        """Whether the caller still waits, and in time; if not, the request is over."""
        if self._is_over():
            return False
        if perf_counter() > self._until:
            had = self._until - (self._came or self._received)
            message = f"request: expected to be run within {had:g} s, and was not; dropped"
            self._fail(TooLate(message))
            return False
        return True

    def _is_over(self) -> bool:
        """Whether the caller has gone; the request is counted as left then."""
        if self.exchange.is_open():
            return False
        self._let_go()
        self.route.meter.failed(GONE)
        return True

    def done(self, came: Part | Exception) -> None:
        """Answer with the rows that are its own, or with what went wrong."""
        handed = perf_counter()
        if isinstance(came, Exception):
            self._fail(came)
            return
        try:
            route = self.route
            if came.end - came.start > route.rows_at_once:
                self._encode_apart(came, handed)
                return
            content, head = as_http(route.codec.encode(self._asked, came), self.exchange.headers)
            encoded = self._answer(came, handed, content, head)
        except Exception as error:  # noqa: BLE001  as in `begin`
            self._fail(error)
            return
        self._pipeline.executor.answered(encoded)

    def _encode_apart(self, came: Part, handed: float) -> None:
        """Encode a large answer where that holds nobody up, and answer with it."""
        outputs = came.outputs()
        size = limits.check_answer(outputs)
        self._hold(limits.held(outputs))

        def encode() -> tuple[bytes, bytes]:
            with limits.turn(size):
                reply = self.route.codec.encode(self._asked, came)
                return as_http(reply, self.exchange.headers)

        def encoded(written: Any) -> None:
            if isinstance(written, Exception):
                self._fail(written)
                return
            try:
                self._answer(came, handed, *written)
            except Exception as error:  # noqa: BLE001  as in `begin`
                self._fail(error)

        self._pipeline.executor.apart(size, encode, encoded)

    def _answer(self, came: Part, handed: float, content: bytes, head: bytes) -> float:
        """Answer, and count it; the moment at which the answer was there."""
        encoded, exchange = perf_counter(), self.exchange
        times = (self._received, self._decoded, came.run, handed, encoded)
        self.route.meter.answered(times, self._asked.imputed)
        if exchange.headers.get(_ASK_TIMING) == b"1":
            head += b"server-timing: %s\r\n" % server_timing(times).encode()
        head += exchange.common()
        if self._held:
            self._let_go()
        exchange.respond(200, content, head)
        return encoded

    def _fail(self, error: Exception) -> None:
        self._let_go()
        self._pipeline.fail(self.route, self.exchange, error)

    def _hold(self, size: int) -> None:
        """Count so many bytes more as held until the answer is given.

        Raises:
            TooBusy: others hold so many that there is no room.
        """
        self._pipeline.room.take(size, self._held)
        self._held += size

    def _let_go(self) -> None:
        if self._held:
            self._pipeline.room.give_back(self._held)
            self._held = 0


class Room:
    """Bytes that are made of large bodies, and of large answers that are not written yet.

    They are counted apart from the bodies themselves, so that small requests are taken meanwhile.
    """

    def __init__(self, limit: int) -> None:
        """Have room for `limit` bytes of all requests together, or for one request alone."""
        self._limit = limit
        self._lock = Lock()
        self.held = 0

    def take(self, size: int, own: int) -> None:
        """Hold `size` bytes more, for a request that holds `own` already.

        Raises:
            TooBusy: others hold so many that there is no room.
        """
        with self._lock:
            if self.held > own and self.held + size > self._limit:
                raise TooBusy(
                    f"request: expected at most {self._limit} bytes in all large requests and "
                    "answers that a process works on (TRICEPS_MAX_IN_FLIGHT), and others hold so "
                    "many already; try again a little later"
                )
            self.held += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes no more."""
        with self._lock:
            self.held -= size


def _timeout(header: bytes | None, asked: Any) -> float | None:
    """The seconds that a request gives itself; `None` where it says nothing.

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


def explain(
    dialect: Dialect, error: RequestError, headers: Mapping[bytes, bytes]
) -> tuple[bytes, bytes]:
    """The body of an error, and its own header lines, for the caller who sent `headers`."""
    content, head = as_http(dialect.encode_error(error), headers)
    head += "".join(f"{name}: {value}\r\n" for name, value in error.headers).encode()
    return content, head


def as_http(reply: Reply, headers: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    """A reply's body and header lines, compressed if the caller who sent `headers` takes that."""
    content, content_type, more = reply
    head = JSON
    if content_type != "application/json" or more:
        lines = (("content-type", content_type), ("vary", "Accept-Encoding"), *more)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
    accepted = headers.get(b"accept-encoding")
    if accepted is not None:
        smaller = content_encoding.compress(content, accepted.decode("latin-1"))
        if smaller is not None:
            return smaller, head + b"content-encoding: gzip\r\n"
    return content, head
