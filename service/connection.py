"""One HTTP connection: bytes to requests and answers to bytes, on llhttp.

    socket ─ llhttp ─▶ Request ─▶ whoever answers ─▶ respond ─▶ socket, in the order asked

A request is handed on once it is complete, so a sender that is slow, or never ends, holds a
socket and what it has sent, and nobody up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import httptools

from service.errors import HTTPError, RequestError, TooBusy, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_HEAD = 64 * 1024
# Requests that one connection may send ahead of their answers.
MAX_AHEAD = 8
# Heads that are known again: how many, of how many bytes.
MAX_KNOWN = 1024
MAX_KNOWN_HEAD = 4096
# For a byte of a body, so many of what goes with its chunk: one of a byte has five.
_MOST_AROUND = 8
IDLE_SECONDS = 75
REQUEST_SECONDS = 60
LINGER_SECONDS = 2
# How long who has connected may take to ask; `Owner.now`, by which it is told, may be 1 s old.
FRESH_SECONDS = 2
# nginx' status for a request whose sender hung up before it was answered.
GONE = 499

JSON = b"content-type: application/json\r\nvary: Accept-Encoding\r\n"
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
# What a head has that is not known again: a body of another kind, a wish to be answered before it,
# a secret, or a name that no other request has.
_SPECIAL = (
    *(b"transfer-encoding", b"expect", b"authorization", b"cookie"),
    *(b"x-request-id", b"traceparent"),
)
# What keeps a connection open after an answer goes without saying only since HTTP/1.1.
_KEEP = {"1.1": b"", "1.0": b"connection: keep-alive\r\n"}


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

    def header(self, name: str) -> str:
        """A header's value, by its name in lower case; empty without one."""
        value = self.headers.get(name.lower().encode())
        return "" if value is None else value.decode("latin-1")


class Head(NamedTuple):
    """What the parser has made of a head, and of how many bytes the body after it was."""

    method: bytes
    version: str
    target: bytes
    headers: dict[bytes, bytes]
    size: int


class Owner(Protocol):
    """What a connection needs of whoever answers its requests."""

    heads: dict[bytes, Head]
    """Those that are known, by their bytes."""

    max_body: int
    max_in_flight: int
    guarded: bool
    """Whether there are strangers: those without a token."""
    in_flight: int
    """Bytes of bodies that are here, whole or in part, and not answered."""
    connections: set[Connection]
    draining: bool
    """Whether each answer is the last of its connection."""
    closing: bool
    """Whether connections that nothing is asked on are closed, too."""
    date: bytes
    now: float

    def answer(self, connection: Connection, request: Request) -> None:
        """Have a request answered, now or later, by `connection.respond`."""

    def stranger(self, headers: Mapping[bytes, bytes]) -> RequestError | None:
        """Why no body is taken from whoever sends these headers; `None` if it is."""

    def refusal(
        self, target: bytes, headers: Mapping[bytes, bytes], error: RequestError
    ) -> tuple[bytes, bytes]:
        """The body and the head that refuse what is not here whole; it is counted as answered."""

    def count_unanswered(self, target: bytes, status: int) -> None:
        """Count what was left by its sender."""


class Connection(asyncio.Protocol):
    """One socket: requests in, answers out in their order."""

    def __init__(self, front: Owner, on_closed: Callable[[], None]) -> None:
        """Serve one connection of `front`; `on_closed` is called when it has ended."""
        self._front = front
        self._on_closed = on_closed
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request] = deque()
        self._answering = False
        self._reading_head = False
        self._in_request = False
        self._fresh = True
        self._deaf = False
        self._last_words = b""
        self._head_size = 0
        self._since = front.now
        self._version = ""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._received = 0
        self._in_flight = 0
        # What begins with a request: its head, if that is all there, and how many bytes follow.
        self._begun: tuple[bytes, int] = b"", 0

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
        self._let_go(self._in_flight)
        for request in self._waiting:
            self._front.count_unanswered(request.target, GONE)
        self._waiting.clear()
        self._front.connections.discard(self)
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._deaf or not data:
            return
        if not self._in_request:
            found = data.find(b"\r\n\r\n")
            end = found + 4
            self._begun = (b"", 0) if found < 0 else (data[:end], len(data) - end)
            # Most clients send the same head over and over; of the same bytes the parser, which is
            # between two requests, would make the same.
            known = self._front.heads.get(self._begun[0])
            if known is not None and known.size == self._begun[1] and self._takes(known.size):
                self._fresh = False
                self._since = self._front.now
                self._hand_on(Request(*known[:4], data[end:], keep_alive=True))
                return
        else:
            # It does not come in one piece.
            self._begun = b"", 0
            self._received += len(data)
            if self._received > len(data) + MAX_HEAD + _MOST_AROUND * self._size:
                message = f"body: expected chunks of it, received over {MAX_HEAD} bytes around them"
                self._refuse(HTTPError(400, message))
                return
        if self._reading_head or not self._in_request:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Some clients offer HTTP/2 with their first request.  An offer may be passed over, and
            # the parser, which would leave the rest to another protocol, reads it once more.
            method = self._parser.get_method()
            if method == b"CONNECT":
                self._refuse(HTTPError(400, "request: expected one for here, received a CONNECT"))
                return
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(self._without_upgrade(method) + data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            message = f"request: expected HTTP/1.1, received something else: {error}"
            self._refuse(HTTPError(400, message))
        # Only now: the end of a head may come with a body that is longer.
        if self._reading_head and self._head_size > MAX_HEAD:
            message = f"headers: expected at most {MAX_HEAD} bytes, received more"
            self._refuse(HTTPError(431, message))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Make room for a request."""
        self._in_request = self._reading_head = True
        self._fresh = False
        self._since = self._front.now
        self._target = b""
        self._headers = {}
        self._parts = []
        self._size = self._received = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes after the body changes nothing that was said before."""
        if not self._reading_head:
            return
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b"," + value

    def on_headers_complete(self) -> None:
        """Refuse a body that nobody will read, before it is sent."""
        self._reading_head = False
        self._head_size = 0
        length = self._headers.get(b"content-length")
        size = 0 if length is None else int(length)
        front = self._front
        self._version = self._parser.get_http_version()
        if self._version not in _KEEP:
            # The parser takes some others, too, to which this would be no answer.
            message = f"request: expected HTTP/1.1, received HTTP/{self._version}"
            self._refuse(HTTPError(400, message))
        elif front.guarded and self._brings_body() and (error := front.stranger(self._headers)):
            self._refuse(error)
        elif size > front.max_body:
            self._too_large()
        elif front.in_flight + size > front.max_in_flight:
            self._too_much()
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self._deaf:
            return
        size = len(body)
        self._size += size
        self._in_flight += size
        self._front.in_flight += size
        self._parts.append(body)
        if self._size > self._front.max_body:
            self._too_large()
        elif self._front.in_flight > self._front.max_in_flight:
            self._too_much()

    def on_message_complete(self) -> None:
        """Answer the request, after those before it."""
        if self._parser.should_upgrade():
            return
        self._in_request = False
        if self._deaf:
            return
        request = Request(
            self._parser.get_method(),
            self._version,
            self._target,
            self._headers,
            self._parts[0] if len(self._parts) == 1 else b"".join(self._parts),
            self._parser.should_keep_alive(),
        )
        self._parts = []
        self._remember(request)
        self._hand_on(request)

    def _takes(self, size: int) -> bool:
        """Take so many bytes of a body, if there is room."""
        front = self._front
        if front.in_flight + size > front.max_in_flight:
            return False
        self._in_flight += size
        front.in_flight += size
        return True

    def _remember(self, request: Request) -> None:
        """Know the head of a request again that came in one piece, and has nothing special."""
        (head, size), self._begun = self._begun, (b"", 0)
        heads, headers = self._front.heads, request.headers
        if (
            size == len(request.body)
            and request.keep_alive
            and 0 < len(head) <= MAX_KNOWN_HEAD
            and not any(name in headers for name in _SPECIAL)
        ):
            if len(heads) >= MAX_KNOWN:
                heads.clear()
            heads[head] = Head(request.method, request.version, request.target, headers, size)

    def _hand_on(self, request: Request) -> None:
        """Have a request answered, after those before it."""
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
        head: bytes = JSON,
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
        self._let_go(len(request.body))
        keep = request.keep_alive and not self._front.draining
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

    def abort(self) -> None:
        """Hang up at once, where there is no answer to give."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """Close the connection if it has been quiet for too long."""
        if self._answering or self._transport is None:
            return
        quiet = now - self._since
        if self._deaf:
            if quiet > LINGER_SECONDS:
                self._transport.close()
        elif self._in_request and quiet > REQUEST_SECONDS:
            message = f"request: expected all of it within {REQUEST_SECONDS} s"
            self._refuse(HTTPError(408, message))
        elif not self._in_request:
            # Who has only just come is about to ask.
            closing = self._front.closing and (not self._fresh or quiet > FRESH_SECONDS)
            if closing or quiet > IDLE_SECONDS:
                self._transport.close()

    def _brings_body(self) -> bool:
        length = self._headers.get(b"content-length")
        return length not in (None, b"0") or b"transfer-encoding" in self._headers

    def _too_large(self) -> None:
        limit = self._front.max_body
        message = f"body: expected at most {limit} bytes (TRICEPS_MAX_BODY), received more"
        self._refuse(TooLarge(message))

    def _too_much(self) -> None:
        limit = self._front.max_in_flight
        message = (
            f"body: expected at most {limit} bytes in all bodies that a process holds "
            "(TRICEPS_MAX_IN_FLIGHT), and others hold so many already; try again a little later"
        )
        self._refuse(TooBusy(message))

    def _let_go(self, size: int) -> None:
        """Forget so many bytes of bodies."""
        self._in_flight -= size
        self._front.in_flight -= size

    def _refuse(self, error: RequestError) -> None:
        """Answer, after what is still being answered, and hear no more on this connection.

        What follows on it makes no sense: where the next request begins is not known.
        """
        transport = self._transport
        if transport is None or self._deaf:
            return
        self._deaf = True
        self._let_go(sum(map(len, self._parts)))
        self._parts = []
        # Between two requests, target and headers are still those of the one before.
        said = (self._target, self._headers) if self._in_request else (b"", {})
        content, head = self._front.refusal(*said, error)
        self._last_words = b"".join(
            (
                _STATUS_LINES[error.status],
                head,
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
