"""One HTTP connection: bytes to requests and answers to bytes, on llhttp.

    socket ─ llhttp ─▶ Request ─▶ whoever answers ─▶ respond ─▶ socket, in the order asked

A request is handed on once it is complete, so a sender that is slow, or never ends, holds a
socket and what it has sent, and nobody up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import httptools

from service.errors import GONE, HTTPError, RequestError, TooBusy, TooLarge
from service.http import flow_control, request_ids
from service.http.content_encoding import JSON
from service.http.flow_control import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

MAX_HEAD = 64 * 1024
# Requests that one connection may send ahead of their answers.
MAX_AHEAD = 8
# A chunk from the socket may hold thousands of requests: a larger one is parsed in pieces of this
# size, and no further than to the next request.
PIECE = 8 * 1024
# A body in more parts than this is gathered in one buffer: each part costs more than a small chunk.
MAX_PARTS = 64
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
# Every answer begins like this, so it may be sent before the rest is known.
_FIRST_WORDS = b"HTTP/1.1 "

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
# What a head has that is not known again: a body of another kind, a wish to be answered before it,
# a secret, or a name that no other request has.
_SPECIAL = (
    *(b"transfer-encoding", b"expect", b"authorization", b"cookie"),
    *(b"x-request-id", b"traceparent"),
)
_PROTOCOL = b" HTTP/"
_BEFORE_TARGET = len(b"POST ")
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
    caller: Connection

    @property
    def what(self) -> str:
        """The method and the target, for messages and the log."""
        return f"{self.method.decode('latin-1')} {self.target.decode('latin-1')}"

    @property
    def request_id(self) -> str:
        """The request's name; a new one at each call where it came without one."""
        return request_ids.of(self.headers)

    def is_open(self) -> bool:
        """Whether the caller is still there for an answer."""
        return self.caller.is_open()

    def common(self, request_id: str = "") -> bytes:
        """The header lines of every answer."""
        return self.caller.common(self.headers, request_id)

    def respond(self, status: int, content: bytes, head: bytes) -> None:
        """Give the caller an answer, of which `head` has the header lines."""
        self.caller.respond(self, status, content, head)

    def abort(self) -> None:
        """Hang up: no answer can be given."""
        self.caller.abort()

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

    loop: asyncio.AbstractEventLoop
    max_body: int
    max_in_flight: int
    guarded: bool
    """Whether there are strangers: those without a token."""
    in_flight: int
    """Bytes of bodies that are here, whole or in part, and not answered."""
    unread: flow_control.Unread
    connections: set[Connection]
    draining: bool
    """Whether each answer is the last of its connection."""
    closing: bool
    """Whether connections that nothing is asked on are closed, too."""
    date: bytes
    now: float

    def answer(self, request: Request) -> None:
        """Have a request answered, now or later, by `Request.respond`."""

    def common(self, headers: Mapping[bytes, bytes], request_id: str = "") -> bytes:
        """The header lines of every answer, for the caller who sent `headers`."""

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
        # The header lines of every answer to a request with some headers.
        self.common = front.common
        self._on_closed = on_closed
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request] = deque()
        # Whether a request is being answered, or the next one is about to be.
        self._answering = False
        # What was received and is not parsed yet, since requests before it wait.
        self._rest = b""
        self._reading = True
        # Whether the peer has too much to read, and whether a pipeline waits for that.
        self._paused = False
        self._parked = False
        # Whether the peer has closed its end, and whether the first words of an answer are sent.
        self._ended = False
        self._probed = False
        # Whether it is known to have gone.
        self._gone = False
        # The last moment at which it was seen to move, and how far it had got.
        self._moved = front.now
        self._reached = 0
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
        # The bytes of a head so far, or of the chunk that it is in.
        self._raw = b""
        self._length = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._received = 0
        self._in_flight = 0
        # What begins with a request: its head, if that is all there, and how many bytes follow.
        self._begun: tuple[bytes, int] = b"", 0

    def is_open(self) -> bool:
        """Whether anybody is still there for an answer.

        A peer that has closed its end may have gone, or may only have nothing more to ask: TCP
        tells neither from the other until something is sent to it.  So the first words of its
        answer are, and if it has gone, its end of the connection says so within a round trip.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        return not self._ended or not self._is_gone(transport)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are asyncio's in all but their class.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(flow_control.HIGH_WATER)
        connected = transport.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:
            option = socket.TCP_NOTSENT_LOWAT
            connected.setsockopt(socket.IPPROTO_TCP, option, flow_control.KERNEL_BYTES)
        self._front.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """Forget the connection; requests of it that have not run yet are dropped."""
        self._transport = None
        self._let_go(self._in_flight)
        self._front.unread.forget(self)
        for request in self._waiting:
            self._front.count_unanswered(request.target, GONE)
        self._waiting.clear()
        self._rest = b""
        self._front.connections.discard(self)
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._deaf or not data:
            return
        if self._rest:
            self._rest += data
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
                self._hand_on(Request(*known[:4], data[end:], True, self))
                return
        else:
            # It does not come in one piece.
            self._begun = b"", 0
            self._received += len(data)
            if self._received > len(data) + MAX_HEAD + _MOST_AROUND * self._size:
                message = f"body: expected chunks of it, received over {MAX_HEAD} bytes around them"
                self._refuse(HTTPError(400, message))
                return
        if len(data) <= PIECE or self._missing() >= len(data):
            self._feed(data)
        else:
            self._feed_large(data)

    def eof_received(self) -> bool:
        """Answer what has been asked; the peer will ask no more, if it is still there.

        TLS knows no end that is closed alone: whoever closes that has gone.
        """
        transport = self._transport
        self._ended = True
        if self._in_request:
            self._in_request = False
            self._drop_parts()
        if transport is not None and self._answering and transport.can_write_eof():
            self._probe(transport)
            return True
        self._moved = self._front.now
        return False

    def pause_writing(self) -> None:
        """Neither read nor answer on: the peer has more to read than it should have."""
        self._paused = True
        if self._transport is not None:
            self._moved = self._front.now
            self._reached = self._transport.get_write_buffer_size()
            self._front.unread.note(self, self._reached)
            self._flow()

    def resume_writing(self) -> None:
        """Go on: the peer has read."""
        self._paused = False
        self._moved = self._front.now
        self._reached = self._received
        self._front.unread.forget(self)
        if self._parked:
            self._parked = False
            self._front.loop.call_soon(self._go_on)
        self._flow()

    def _feed_large(self, data: bytes) -> None:
        """Feed a large chunk to the parser: one request as it is, and several one by one."""
        head, _ = self._begun
        if head and not self._answering:
            self._feed(head)
            data = data[len(head) :]
            if self._missing() >= len(data):
                self._feed(data)
                return
        if not self._deaf:
            self._rest = data
            if self._answering:
                self._flow()
            else:
                self._answering = True
                self._go_on()

    def _missing(self) -> int:
        """How many bytes of a body are still to come, as far as that was announced."""
        return self._length - self._size if self._in_request and not self._reading_head else 0

    def _feed(self, data: bytes) -> None:
        """Feed bytes to the parser."""
        while data:
            if self._reading_head or not self._in_request:
                self._head_size += len(data)
            self._raw = self._raw + data if self._reading_head else data
            rest = b""
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                rest = self._pass_over(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                message = f"request: expected HTTP/1.1, received something else: {error}"
                self._refuse(HTTPError(400, message))
            # Only now: the end of a head may come with a body that is longer.
            if self._reading_head and self._head_size > MAX_HEAD:
                message = f"headers: expected at most {MAX_HEAD} bytes, received more"
                self._refuse(HTTPError(431, message))
            if not self._reading_head:
                self._raw = b""
            data = b"" if self._deaf else rest

    def _pass_over(self, rest: bytes) -> bytes:
        """Pass over the offer of another protocol, such as the one of HTTP/2 some clients make.

        The parser would leave the rest to that protocol: it is fed the head once more, without the
        offer.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(HTTPError(400, "request: expected one for here, received a CONNECT"))
            return b""
        self._parser = httptools.HttpRequestParser(self)
        return self._without_upgrade(method) + rest

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Make room for a request."""
        self._in_request = self._reading_head = True
        self._fresh = False
        self._since = self._front.now
        self._target = b""
        self._headers = {}
        self._parts = []
        self._size = self._received = self._reached = 0
        self._moved = self._since

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes after the body changes nothing that was said before."""
        if not self._reading_head:
            return
        name = name.lower()
        # The parser leaves the blanks at the end, which are none of the value (RFC 9110, 5.5).
        value = value.rstrip(b" \t")
        known = self._headers.get(name)
        if known is not None and name == b"host":
            self._refuse(HTTPError(400, "Host: expected one, received several"))
        self._headers[name] = value if known is None else known + b"," + value

    def on_headers_complete(self) -> None:
        """Refuse a body that nobody will read, before it is sent."""
        self._reading_head = False
        self._head_size = 0
        headers = self._headers
        length = headers.get(b"content-length")
        self._length = size = 0 if length is None else int(length)
        front = self._front
        self._version = self._parser.get_http_version()
        # The parser takes other versions, and other protocols that look like HTTP, to which this
        # would be no answer; what most send is looked at where it stands.
        if self._version not in _KEEP or not (
            self._raw.startswith(_PROTOCOL, len(self._target) + _BEFORE_TARGET)
            or self._target + _PROTOCOL in self._raw
        ):
            message = "request: expected HTTP/1.1, received another protocol, or another version"
            self._refuse(HTTPError(400, message))
        elif b"host" not in headers and self._version == "1.1":
            self._refuse(HTTPError(400, "Host: expected one, received none"))
        elif front.guarded and self._brings_body() and (error := front.stranger(headers)):
            self._refuse(error)
        elif size > front.max_body:
            self._too_large()
        elif size and not self._fits(size):
            self._too_much()
        elif (
            b"expect" in headers
            and headers[b"expect"].lower() == b"100-continue"
            # A client of HTTP/1.0 knows no answer before the answer; and while others are still
            # being answered, this would be taken for theirs.
            and self._version == "1.1"
            and not self._answering
            and not self._deaf
            and self._transport
        ):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self._deaf:
            return
        size = len(body)
        front = self._front
        self._size += size
        self._in_flight += size
        front.in_flight += size
        parts = self._parts
        if len(parts) < MAX_PARTS:
            parts.append(body)
        else:
            if len(parts) == MAX_PARTS:
                parts.append(cast("bytes", bytearray()))
            cast("bytearray", parts[-1]).extend(body)
        # Only then there may be too little room.
        doubtful = self._in_flight > SMALL or front.in_flight > front.max_in_flight
        if self._size > front.max_body:
            self._too_large()
        elif doubtful and not self._fits(0):
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
            self,
        )
        self._parts = []
        self._remember(request)
        self._hand_on(request)

    def _fits(self, size: int) -> bool:
        """Whether there is room for so many bytes of a body more."""
        front, own = self._front, self._in_flight + size
        if front.in_flight + size > front.max_in_flight:
            return False
        return own <= SMALL or flow_control.is_share(
            own, front.in_flight + size - own, front.max_in_flight
        )

    def _takes(self, size: int) -> bool:
        """Take so many bytes of a body, if there is room."""
        front, own = self._front, self._in_flight + size
        total = front.in_flight + size
        if total > front.max_in_flight or (own > SMALL and not self._fits(size)):
            return False
        self._in_flight = own
        front.in_flight = total
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
            if len(self._waiting) == MAX_AHEAD:
                self._flow()
            return
        self._answering = True
        try:
            self._front.answer(request)
        except Exception:
            # Whatever that was, nobody else may answer it, and its sender is not to wait for ever.
            log.exception("%r could not be answered", request.target)
            self.abort()

    def _go_on(self) -> None:
        """Have the next request of a pipeline answered, and read on until there is one.

        Called by the event loop and never by the answer before: however many are refused at once,
        the stack is no deeper, and others are answered in between.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._paused:
            self._parked = True
            return
        while self._rest and not self._waiting and not self._deaf:
            size = max(PIECE, self._missing())
            piece, self._rest = self._rest[:size], self._rest[size:]
            self._feed(piece)
        self._answering = False
        if self._waiting:
            self._hand_on(self._waiting.popleft())
        elif self._last_words:
            self._say_last_words(transport)
        elif self._ended:
            self._close(transport)
        self._flow()

    def _flow(self) -> None:
        """Read on, or stop reading until what has been read is answered and has gone out."""
        transport = self._transport
        if transport is None or self._ended or transport.is_closing():
            return
        reads = self._deaf or not (self._paused or self._rest or len(self._waiting) >= MAX_AHEAD)
        if reads is not self._reading:
            self._reading = reads
            if reads:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _probe(self, transport: asyncio.Transport) -> None:
        """Begin the answer of a peer that may have gone; `is_open` looks at what comes of it."""
        if not (self._probed or self._paused or self._rest):
            self._probed = True
            transport.write(_FIRST_WORDS)

    def _is_gone(self, transport: asyncio.Transport) -> bool:
        """Whether a peer that has closed its end has refused what was sent to it since."""
        connected = transport.get_extra_info("socket")
        # The system tells it once.
        if not self._gone and connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._gone = True
            # Threads that decode ask this, too, and a transport is for the loop's thread alone.
            self._front.loop.call_soon_threadsafe(self.abort)
        return self._gone

    def _without_upgrade(self, method: bytes) -> bytes:
        """The head that has just been read, without the offer of another protocol."""
        # Whoever waits for 100 Continue has been told.
        passed_over = (b"upgrade", b"connection", b"http2-settings", b"expect")
        lines = [b"%s %s HTTP/1.1" % (method, self._target)]
        lines += [b"%s: %s" % h for h in self._headers.items() if h[0] not in passed_over]
        return b"\r\n".join([*lines, b"", b""])

    # What the front and the pipeline call.

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
        keep = request.keep_alive and not self._front.draining
        if self._ended:
            keep = keep and bool(self._waiting or self._rest or self._last_words)
        answer = b"".join(
            (
                _STATUS_LINES[status],
                head,
                self._front.date,
                _KEEP[request.version] if keep else b"connection: close\r\n",
                b"content-length: %d\r\n\r\n" % (len(content) if length is None else length),
                content,
            )
        )
        if self._ended:
            answer = self._unsaid(answer)
        self._let_go(len(request.body))
        transport.write(answer)
        # What is raised up to here may be answered; from here on, that would be a second answer.
        try:
            self._since = self._front.now
            if not keep:
                self._close(transport)
            elif self._waiting or self._rest or self._paused:
                self._front.loop.call_soon(self._go_on)
            else:
                self._answering = False
                if self._last_words:
                    self._say_last_words(transport)
        except Exception:
            log.exception("a connection cannot go on after an answer, and is hung up on")
            self.abort()

    def abort(self) -> None:
        """Close at once, and drop what has not gone out."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """Close the connection if it has been quiet for too long."""
        transport = self._transport
        if transport is None:
            return
        quiet = now - self._since
        if self._paused or transport.is_closing():
            self._check_reader(transport, now)
        elif self._answering:
            # Nobody reads on, or nobody has to send, before that is over.
            self._moved, self._reached = now, self._received
        elif self._deaf:
            if quiet > LINGER_SECONDS:
                self._close(transport)
        elif self._in_request:
            self._check_sender(now)
        else:
            # Who has only just come is about to ask.
            closing = self._front.closing and (not self._fresh or quiet > FRESH_SECONDS)
            if closing or quiet > IDLE_SECONDS:
                self._close(transport)

    def _check_reader(self, transport: asyncio.Transport, now: float) -> None:
        """Cut off a peer that does not read what waits for it."""
        left = transport.get_write_buffer_size()
        if left != self._reached:
            self._moved, self._reached = now, left
            if self._paused:
                self._front.unread.note(self, left)
        elif now - self._moved > flow_control.STALLED_SECONDS:
            self.abort()

    def _check_sender(self, now: float) -> None:
        """Refuse a request that takes too long to come."""
        seconds = now - self._moved
        if now - self._since > REQUEST_SECONDS:
            message = f"request: expected all of it within {REQUEST_SECONDS} s"
            self._refuse(HTTPError(408, message))
        elif seconds >= flow_control.SLOW_SECONDS:
            if self._received - self._reached < flow_control.SLOWEST * seconds:
                message = (
                    f"request: expected at least {flow_control.SLOWEST} bytes a second, received "
                    f"fewer over {seconds:.0f} s"
                )
                self._refuse(HTTPError(408, message))
            self._moved, self._reached = now, self._received

    def _close(self, transport: asyncio.Transport) -> None:
        """Close once the answers have gone out; `check` cuts off a peer that does not read them."""
        self._moved = self._front.now
        self._reached = transport.get_write_buffer_size()
        transport.close()

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
            "(TRICEPS_MAX_IN_FLIGHT), of which each connection has a share, and others hold too "
            "many already; try again a little later"
        )
        self._refuse(TooBusy(message))

    def _let_go(self, size: int) -> None:
        """Forget so many bytes of bodies."""
        self._in_flight -= size
        self._front.in_flight -= size

    def _drop_parts(self) -> None:
        """Forget what is here of a body that will not be answered."""
        self._let_go(sum(map(len, self._parts)))
        self._parts = []

    def _refuse(self, error: RequestError) -> None:
        """Answer, after what is still being answered, and hear no more on this connection.

        What follows on it makes no sense: where the next request begins is not known.
        """
        transport = self._transport
        if transport is None or self._deaf:
            return
        self._deaf = True
        self._drop_parts()
        self._rest = b""
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
        self._flow()

    def _say_last_words(self, transport: asyncio.Transport) -> None:
        """Refuse, and close a little later.

        To close with data unread sends a reset, which may overtake the answer.
        """
        transport.write(self._unsaid(self._last_words))
        self._last_words = b""
        self._since = self._front.now
        if transport.can_write_eof():
            transport.write_eof()

    def _unsaid(self, answer: bytes) -> bytes:
        """What is to be sent of an answer, whose first words may have been."""
        probed, self._probed = self._probed, False
        return answer.removeprefix(_FIRST_WORDS) if probed else answer
