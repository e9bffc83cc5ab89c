"""The HTTP front of one worker: sockets to requests, on uvloop and llhttp.

    socket ─ llhttp ─▶ Request ─┬─ a prediction ─▶ wire.fast ─▶ batcher ─▶ native.encode ─▶ socket
                                └─ all else ─▶ the Flask app, in a thread ─▶ socket

A request is looked at once it is complete, so a sender that is slow, or never ends, holds a
socket and what it has sent, and nobody up.
"""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

import httptools
import orjson
from werkzeug.test import run_wsgi_app

from service import transfer
from service.batcher import Batcher
from service.errors import RequestError
from service.metrics import ASK_TIMING, GONE, server_timing
from service.wire import fast, native

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Flask
    from numpy.typing import NDArray

    from service.life import Library
    from service.metrics import Meter, Metrics
    from service.repository import Repository, Servable
    from service.settings import Settings

log = logging.getLogger(__name__)

MAX_HEAD = 64 * 1024
# Requests that one connection may send ahead of their answers.
MAX_AHEAD = 8
IDLE_SECONDS = 75
REQUEST_SECONDS = 60
LINGER_SECONDS = 2

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
# What keeps a connection open after an answer goes without saying only since HTTP/1.1.
_KEEP = {"1.1": b"", "1.0": b"connection: keep-alive\r\n"}
_ASK_TIMING = ASK_TIMING.lower().encode()
_JSON = b"content-type: application/json\r\nvary: Accept-Encoding\r\n"


@dataclass(slots=True)
class Request:
    """One complete request.

    Header names are in lower case; the values of one that stands twice are joined.
    """

    method: bytes
    version: str
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool


class Front:
    """What the connections of one worker share."""

    def __init__(self, app: Flask, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        """Answer for `app`, whose repository it has; predictions without going through it."""
        self.app = app
        self.loop = loop
        self.max_body = settings.max_body
        self.connections: set[Connection] = set()
        self.closing = False
        self.date = b""
        self.now = 0.0
        self.batcher = Batcher(loop)
        self.threads = ThreadPoolExecutor(settings.threads, "flask")
        self.routes: Mapping[bytes, Servable] = {}
        self.library: Library = app.extensions["triceps"]
        self.library.follow(self._use_soon)
        self.use(self.library.current)
        self.metrics: Metrics = app.extensions["triceps.metrics"]
        self.metrics.connections = self.connections
        self._tick()

    def _tick(self) -> None:
        """Once a second: the date of answers, connections that have gone quiet, and numbers."""
        self.now = self.loop.time()
        self.date = f"date: {formatdate(time.time(), usegmt=True)}\r\n".encode()
        for connection in list(self.connections):
            connection.check(self.now)
        self.metrics.flush()
        self.loop.call_later(1.0, self._tick)

    def use(self, repository: Repository) -> None:
        """Answer the next request, and those after it, by another repository."""
        self.routes = _routes(repository)

    def _use_soon(self, repository: Repository) -> None:
        """Use a repository, from another thread."""
        self.loop.call_soon_threadsafe(self.use, repository)

    async def close(self, seconds: float) -> None:
        """Finish what has been asked, within a bound, and close every connection."""
        self.closing = True
        deadline = self.loop.time() + seconds
        while self.connections and self.loop.time() < deadline:
            for connection in list(self.connections):
                connection.check(self.loop.time())
            await asyncio.sleep(0.02)
        self.library.follow(None)
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.metrics.flush()

    def answer(self, connection: Connection, request: Request) -> None:
        """Have a request answered, now or later."""
        servable = self.routes.get(request.target) if request.method == b"POST" else None
        if servable is None:
            self.threads.submit(self._call_app, connection, request)
            return
        meter = self.metrics.meter(servable)
        try:
            self._predict(connection, request, servable, meter)
        except Exception as error:  # noqa: BLE001  as Flask does: whatever it is, it is answered
            self._fail(connection, request, error, meter)

    def _predict(
        self, connection: Connection, request: Request, servable: Servable, meter: Meter
    ) -> None:
        received = perf_counter()
        signature = servable.signature
        headers = request.headers
        body = transfer.read(
            request.body,
            headers.get(b"content-type", b"").decode("latin-1"),
            headers.get(b"content-encoding", b"").decode("latin-1"),
            self.max_body,
        )
        asked = fast.decode(body, signature)
        decoded = perf_counter()

        def done(outputs: Mapping[str, NDArray[Any]] | Exception) -> None:
            handed = perf_counter()
            if isinstance(outputs, Exception):
                self._fail(connection, request, outputs, meter)
                return
            try:
                content = native.encode(asked, servable.name, servable.version, signature, outputs)
                content, head = _compressed(content, headers)
            except Exception as error:  # noqa: BLE001  as above
                self._fail(connection, request, error, meter)
                return
            times = (received, decoded, self.batcher.run, handed, perf_counter())
            meter.answered(times, asked.imputed)
            if headers.get(_ASK_TIMING) == b"1":
                head += b"server-timing: %s\r\n" % server_timing(times).encode()
            connection.respond(request, 200, content, head)

        def wanted() -> bool:
            if connection.is_open():
                return True
            meter.failed(GONE)
            return False

        self.batcher.submit(servable.model, asked.heads, asked.arrays, done, wanted, servable.name)

    def _fail(
        self, connection: Connection, request: Request, error: Exception, meter: Meter
    ) -> None:
        if isinstance(error, RequestError):
            status, content = error.status, native.encode_error(error)
        else:
            what = f"POST {request.target.decode('latin-1')}"
            log.error("%s failed", what, exc_info=error)
            said = f"{what}: an error of the service; it is logged"
            status, content = 500, orjson.dumps({"error": said})
        meter.failed(status)
        connection.respond(request, status, *_compressed(content, request.headers))

    def count_unanswered(self, target: bytes, status: int) -> None:
        """Count what neither a model nor the app answers: refused, or left by its sender."""
        servable = self.routes.get(target)
        if servable is None:
            self.metrics.count("", "", "other", status)
        else:
            self.metrics.meter(servable).failed(status)

    def _call_app(self, connection: Connection, request: Request) -> None:
        """Run the Flask app for a request, in a thread."""
        try:
            chunks, status, headers = run_wsgi_app(
                self.app.wsgi_app, _environ(request), buffered=True
            )
            content = b"".join(chunks)
            head = "".join(
                f"{name}: {value}\r\n"
                for name, value in headers.items()
                if name.lower() not in ("content-length", "date", "connection")
            ).encode("latin-1")
            length = int(headers.get("Content-Length", len(content)))
            code = int(status.split()[0])
        except Exception:
            # Flask answers for its own errors; what reaches this is a bug of this module.
            log.exception("%r failed", request.target)
            self.count_unanswered(request.target, 500)
            head, code, length, content = _JSON, 500, 0, b""
        self.loop.call_soon_threadsafe(connection.respond, request, code, content, head, length)


def _compressed(content: bytes, headers: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    """A JSON answer's body and head, as small as its caller takes it."""
    accepted = headers.get(b"accept-encoding")
    if accepted is not None:
        smaller = transfer.compress(content, accepted.decode("latin-1"))
        if smaller is not None:
            return smaller, _JSON + b"content-encoding: gzip\r\n"
    return content, _JSON


def _routes(repository: Repository) -> dict[bytes, Servable]:
    """By path, what answers a prediction there."""
    routes: dict[bytes, Servable] = {}
    for name, servables in repository.served.items():
        for servable in servables:
            # What may be unloaded is asked for through the app, which notes that it was.
            if repository.key(name, servable.version) not in repository.stock.kept:
                routes[f"/models/{name}/versions/{servable.version}/predict".encode()] = servable
        for alias, servable in repository.aliases.get(name, {}).items():
            routes[f"/models/{name}/aliases/{alias}/predict".encode()] = servable
    for name, servable in repository.serving.items():
        routes[f"/models/{name}/predict".encode()] = servable
        if name == repository.default:
            routes[b"/predict"] = servable
    return routes


class Connection(asyncio.Protocol):
    """One socket: requests in, answers out in their order."""

    def __init__(self, front: Front, on_closed: Callable[[], None]) -> None:
        """Serve one connection of `front`; `on_closed` is called when it has ended."""
        self._front = front
        self._on_closed = on_closed
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request] = deque()
        self._answering = False
        self._reading_head = False
        self._in_request = False
        self._deaf = False
        self._last_words = b""
        self._head_size = 0
        self._since = front.now
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._size = 0

    def is_open(self) -> bool:
        """Whether anybody is still there for an answer.

        Who has closed its end is taken to be gone, as most servers do: a client that only says
        that it will ask no more looks just the same.
        """
        return self._transport is not None and not self._transport.is_closing()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are asyncio's in all but their class.
        self._transport = cast("asyncio.Transport", transport)
        self._front.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """Forget the connection; requests of it that have not run yet are dropped."""
        self._transport = None
        for request in self._waiting:
            self._front.count_unanswered(request.target, GONE)
        self._waiting.clear()
        self._front.connections.discard(self)
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._deaf or not data:
            return
        if self._reading_head or not self._in_request:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD and self._reading_head:
                self._refuse(431, f"headers: expected at most {MAX_HEAD} bytes, received more")
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Some clients offer HTTP/2 with their first request.  An offer may be passed over, and
            # the parser, which would leave the rest to another protocol, reads it once more.
            method = self._parser.get_method()
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(self._without_upgrade(method) + data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(400, f"request: expected HTTP/1.1, received something else: {error}")

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Make room for a request."""
        self._in_request = self._reading_head = True
        self._since = self._front.now
        self._target = b""
        self._headers = {}
        self._parts = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b"," + value

    def on_headers_complete(self) -> None:
        """Refuse a body that is announced as too large, before it is sent."""
        self._reading_head = False
        self._head_size = 0
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > self._front.max_body:
            self._too_large()
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._size += len(body)
        if self._size > self._front.max_body:
            self._parts = []
            self._too_large()
        elif not self._deaf:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, after those before it."""
        if self._parser.should_upgrade():
            return
        self._in_request = False
        if self._deaf:
            return
        request = Request(
            self._parser.get_method(),
            self._parser.get_http_version(),
            self._target,
            self._headers,
            self._parts[0] if len(self._parts) == 1 else b"".join(self._parts),
            self._parser.should_keep_alive(),
        )
        self._parts = []
        if self._answering:
            self._waiting.append(request)
            if len(self._waiting) == MAX_AHEAD and self._transport is not None:
                self._transport.pause_reading()
        else:
            self._answering = True
            self._front.answer(self, request)

    def _without_upgrade(self, method: bytes) -> bytes:
        """The head that has just been read, without the offer of another protocol."""
        passed_over = (b"upgrade", b"connection", b"http2-settings")
        lines = [b"%s %s HTTP/1.1" % (method, self._target)]
        lines += [b"%s: %s" % h for h in self._headers.items() if h[0] not in passed_over]
        return b"\r\n".join([*lines, b"", b""])

    # What the front calls.

    def respond(
        self,
        request: Request,
        status: int,
        content: bytes,
        head: bytes = _JSON,
        length: int | None = None,
    ) -> None:
        """Answer the oldest request, and go on to the next.

        Args:
            request: that request.
            status: of the answer.
            content: its body.
            head: its headers, but for those that every answer has.
            length: of the body that a HEAD request is told of.
        """
        transport = self._transport
        if transport is None:
            return
        keep = request.keep_alive and not self._front.closing
        transport.write(
            b"".join(
                (
                    _STATUS_LINES[status],
                    head,
                    self._front.date,
                    _KEEP[request.version] if keep else b"connection: close\r\n",
                    b"content-length: %d\r\n\r\n" % (len(content) if length is None else length),
                    content,
                )
            )
        )
        self._since = self._front.now
        if not keep:
            transport.close()
        elif self._waiting:
            if len(self._waiting) == MAX_AHEAD:
                transport.resume_reading()
            self._front.answer(self, self._waiting.popleft())
        else:
            self._answering = False
            if self._last_words:
                self._say_last_words(transport)

    def check(self, now: float) -> None:
        """Close the connection if it has been quiet for too long."""
        if self._answering or self._transport is None:
            return
        quiet = now - self._since
        if self._deaf:
            if quiet > LINGER_SECONDS:
                self._transport.close()
        elif self._in_request and quiet > REQUEST_SECONDS:
            self._refuse(408, f"request: expected all of it within {REQUEST_SECONDS} s")
        elif not self._in_request and (quiet > IDLE_SECONDS or self._front.closing):
            self._transport.close()

    def _too_large(self) -> None:
        limit = self._front.max_body
        self._refuse(413, f"body: expected at most {limit} bytes (TRICEPS_MAX_BODY), received more")

    def _refuse(self, status: int, message: str) -> None:
        """Answer, after what is still being answered, and hear no more on this connection.

        What follows on it makes no sense: where the next request begins is not known.
        """
        transport = self._transport
        if transport is None or self._deaf:
            return
        self._deaf = True
        # Between two requests, the target is still that of the one before.
        self._front.count_unanswered(self._target if self._in_request else b"", status)
        content = orjson.dumps({"error": message})
        self._last_words = b"".join(
            (
                _STATUS_LINES[status],
                _JSON,
                self._front.date,
                b"connection: close\r\n",
                b"content-length: %d\r\n\r\n" % len(content),
                content,
            )
        )
        if not self._answering:
            self._say_last_words(transport)

    def _say_last_words(self, transport: asyncio.Transport) -> None:
        """Refuse, and close a little later.

        To close with data unread sends a reset, which may overtake the answer.
        """
        transport.write(self._last_words)
        self._last_words = b""
        self._since = self._front.now
        if transport.can_write_eof():
            transport.write_eof()


def _environ(request: Request) -> dict[str, Any]:
    """PEP 3333's view of a request."""
    target = request.target
    if not target.startswith(b"/"):
        # The absolute form, as to a proxy: its path is what is meant.
        target = target[target.find(b"/", target.find(b"://") + 3) :]
    path, _, query = target.partition(b"?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method.decode("latin-1"),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": f"HTTP/{request.version}",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.decode("latin-1").upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value.decode("latin-1")
        # The body is here whole, whatever way its length was told.
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING") and b"_" not in name:
            environ[f"HTTP_{key}"] = value.decode("latin-1")
    return environ
