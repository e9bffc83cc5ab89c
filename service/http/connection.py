"""One HTTP connection: its requests are answered in the order in which they came.

    socket ─ RequestParser ─▶ Request ─▶ Handler.answer ─▶ Connection.respond ─▶ socket

A request is handed over once it is complete.  So a client that sends slowly, or never ends, holds
a socket and the bytes that it has sent, and no thread and no model.

This is one idea in one file: the order of requests and answers, and each way in which a connection
ends.  All else that a connection has is in the modules that this one imports.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from service.errors import RequestError
from service.http import flow_control, response
from service.http.content_encoding import too_large
from service.http.forwarded import address
from service.http.half_close import HalfClose
from service.http.parser import RequestParser
from service.http.request import Request
from service.http.timeouts import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.http.connections import Connections

log = logging.getLogger(__name__)

# The number of requests that a client may send ahead of their answers.
MAX_AHEAD = 8
# A larger chunk from the socket may have thousands of requests.  It is parsed in pieces of this
# size, and no further than to the next request.
PIECE = 8 * 1024


class Handler(Protocol):
    """A handler of the requests of connections."""

    def answer(self, request: Request) -> None:
        """Have a request answered, now or later, by `Request.respond`."""

    def common(self, headers: Mapping[bytes, bytes], request_id: str = "") -> bytes:
        """Return the header lines that every answer to a request with `headers` has."""

    def check_token(self, headers: Mapping[bytes, bytes]) -> None:
        """Check the token in the headers of a request whose body has not been read.

        Raises:
            Unauthorized: there is no token, or it is unknown.
        """

    def refusal(
        self, target: bytes, headers: Mapping[bytes, bytes], error: RequestError
    ) -> tuple[bytes, bytes]:
        """Count a request that has not arrived whole as refused.

        Returns:
            The body and the header lines of its answer.
        """

    def count_gone(self, request: Request) -> None:
        """Count a request that nothing answers, since its client has gone."""


class Connection(asyncio.Protocol):
    """The asyncio protocol of one HTTP connection; it answers requests in order."""

    def __init__(
        self, connections: Connections, handler: Handler, on_closed: Callable[[], None]
    ) -> None:
        """Serve one connection.

        Args:
            connections: the state that it shares with the other connections of its worker.
            handler: answers its requests.
            on_closed: called once the connection is closed.
        """
        self._connections = connections
        self._handler = handler
        self._on_closed = on_closed
        self.common = handler.common
        self.peer = ""
        """The address of the client for the access log, if there is one."""
        self._transport: asyncio.Transport | None = None
        self._parser = RequestParser(self)
        # The header block that a chunk begins with, if the chunk has all of it, and the number of
        # bytes that follow it there.
        self._block: tuple[bytes, int] = b"", 0
        # Bytes that are received and not parsed yet: the requests before have to be answered first.
        self._unparsed = b""
        self.waiting: deque[Request] = deque()
        """The requests that have arrived, and wait for the answers to those before them."""
        # Whether a request is being answered, or the next one is about to be.
        self._answering = False
        # Bytes of bodies whose requests are not answered yet.
        self._held = 0
        self._reading = True
        # Whether the client has too much to read, and whether the next request waits for that.
        self._paused = False
        self._parked = False
        self._half_close: HalfClose | None = None
        # The answer to a refused request, until the answers before it have been sent.
        self._refusal = b""
        # Whether no request has begun yet.
        self._fresh = True
        # The time when the last request began or the last answer was sent.
        self._since = connections.now
        self._progress = Progress(connections.now)

    def is_open(self) -> bool:
        """Return whether the client still waits for an answer; for any thread."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        return self._half_close is None or not self._half_close.is_gone()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket's limits, and register the connection."""
        # uvloop's transports are asyncio's in all but their class.
        self._transport = cast("asyncio.Transport", transport)
        flow_control.bound(self._transport)
        self._connections.open.add(self)
        if self._connections.access_log is not None:
            self.peer = address(self._transport.get_extra_info("peername"))

    def leave(self) -> None:
        """Leave the socket to another protocol, before any request has come."""
        self._transport = None
        self._connections.open.discard(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """Forget the connection, and drop its requests that have not run yet."""
        self._transport = None
        self._release(self._held)
        self._connections.unread.forget(self)
        for request in self.waiting:
            self._handler.count_gone(request)
        self.waiting.clear()
        self._unparsed = b""
        self._connections.open.discard(self)
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """Parse a chunk, or keep it while requests before it have to be answered first."""
        parser = self._parser
        if parser.stopped or not data:
            return
        if self._unparsed:
            self._unparsed += data
            return
        if parser.in_request:
            self._block = b"", 0
            if not parser.count(len(data)):
                return
        else:
            at = data.find(b"\r\n\r\n")
            end = at + 4
            self._block = (b"", 0) if at < 0 else (data[:end], len(data) - end)
            # Between two requests, the parser would make the same request from the same bytes.
            block = self._connections.header_cache.get(self._block[0])
            if block is not None and block.size == self._block[1] and self._hold(block.size):
                self._fresh = False
                self._since = self._connections.now
                self._enqueue(Request(*block[:4], data[end:], True, self))
                return
        if len(data) <= PIECE or parser.missing >= len(data):
            parser.feed(data)
        else:
            self._feed_large(data)

    def eof_received(self) -> bool:
        """Answer the requests that have arrived; the client sends no more, or has gone.

        TLS cannot be closed at one end alone: a client that closes its end has gone.
        """
        transport = self._transport
        if transport is None:
            return False
        self._half_close = HalfClose(transport, self._abort_soon)
        if self._parser.in_request:
            self._release(self._parser.abandon())
        if self._answering and transport.can_write_eof():
            if not (self._paused or self._unparsed):
                self._half_close.probe()
            return True
        self._progress.moved = self._connections.now
        return False

    def pause_writing(self) -> None:
        """Stop reading and answering: unread answers are above the high-water mark."""
        self._paused = True
        if self._transport is not None:
            left = self._transport.get_write_buffer_size()
            self._progress.note(self._connections.now, left)
            self._connections.unread.note(self, left)
            self._control_reading()

    def resume_writing(self) -> None:
        """Resume reading and answering: the client has read its answers."""
        self._paused = False
        self._progress.note(self._connections.now, self._parser.received)
        self._connections.unread.forget(self)
        if self._parked:
            self._parked = False
            self._connections.loop.call_soon(self._go_on)
        self._control_reading()

    # The parser calls these.

    def begin_request(self) -> None:
        """Note that a request has begun."""
        self._fresh = False
        self._since = self._connections.now
        self._progress.note(self._since, 0)

    def accept_headers(self, size: int) -> None:
        """Refuse a body that will not be read, before it is sent."""
        parser, connections = self._parser, self._connections
        headers = parser.headers
        if connections.guarded and (
            headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        ):
            try:
                self._handler.check_token(headers)
            except RequestError as error:
                self.refuse(error)
                return
        if size > connections.max_body:
            self.refuse(too_large(connections.max_body))
        elif size and not connections.bodies.fits(self._held, size):
            self.refuse(connections.bodies.refusal())
        elif (
            b"expect" in headers
            and headers[b"expect"].lower() == b"100-continue"
            # HTTP/1.0 has no interim answers; and while earlier requests are being answered, the
            # client would take this one for theirs.
            and parser.version == "1.1"
            and not self._answering
            and not parser.stopped
            and self._transport
        ):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def accept_body(self, size: int, total: int) -> bool:
        """Make room for a part of a body, or refuse the request."""
        if total > self._connections.max_body:
            self.refuse(too_large(self._connections.max_body))
        elif not self._hold(size):
            self.refuse(self._connections.bodies.refusal())
        else:
            return True
        return False

    def accept_request(self, request: Request) -> None:
        """Answer a complete request, after those before it."""
        self._connections.header_cache.remember(*self._block, request)
        self._block = b"", 0
        self._enqueue(request)

    def refuse(self, error: RequestError) -> None:
        """Answer with an error, after the requests before it, and read no more.

        Nothing after it can be parsed, since the next request may begin anywhere.
        """
        parser = self._parser
        if self._transport is None or parser.stopped:
            return
        request = parser.begun()
        received = parser.stop()
        self._release(received)
        self._unparsed = b""
        content, lines = self._handler.refusal(request.target, request.headers, error)
        access_log = self._connections.access_log
        if access_log is not None:
            access_log.add(request, error.status, received, len(content), lines)
        lines += self._connections.date + response.CLOSE
        self._refusal = response.encode(error.status, lines, content, len(content))
        if not self._answering:
            self._send_refusal(self._transport)
        self._control_reading()

    # A request and the handler call these.

    def respond(
        self, request: Request, status: int, content: bytes, lines: bytes, length: int | None
    ) -> None:
        """Send the answer to the oldest request that has none, and continue with the next one.

        Args:
            request: that request.
            status: the HTTP status.
            content: the body.
            lines: the header lines, without Date, Connection and Content-Length.
            length: the Content-Length, if that is not the length of `content`.
        """
        transport, connections, ended = self._transport, self._connections, self._half_close
        if connections.access_log is not None:
            sent = 0 if transport is None else len(content)
            connections.access_log.add(request, status, request.received, sent, lines)
        if transport is None:
            return
        keeps = request.keep_alive and not connections.draining
        if ended is not None:
            keeps = keeps and bool(self.waiting or self._unparsed or self._refusal)
        keep_alive = response.KEEP_ALIVE[request.version] if keeps else response.CLOSE
        lines += connections.date + keep_alive
        size = len(content) if length is None else length
        answer = response.encode(status, lines, content, size)
        if ended is not None:
            answer = ended.unsent(answer)
        self._release(len(request.body))
        transport.write(answer)
        # An error before this line can be answered; after it, that would be a second answer.
        try:
            self._since = connections.now
            if not keeps:
                self._close(transport)
            elif self.waiting or self._unparsed or self._paused:
                connections.loop.call_soon(self._go_on)
            else:
                self._answering = False
                if self._refusal:
                    self._send_refusal(transport)
        except Exception:
            log.exception("a connection cannot go on after an answer, and is closed")
            self.abort()

    def abort(self) -> None:
        """Close at once, and drop what has not been sent."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, now: float) -> None:
        """Close the connection, or refuse its request, if one of its timeouts has passed.

        Args:
            now: the time, by the loop's clock.
        """
        transport, parser = self._transport, self._parser
        if transport is None:
            return
        timeouts = self._connections.timeouts
        quiet = now - self._since
        if self._paused or transport.is_closing():
            self._check_reader(transport, now)
        elif self._answering:
            # Until the answer is sent, the client has nothing to read and need not send.
            self._progress.note(now, parser.received)
        elif parser.stopped:
            if quiet > timeouts.linger:
                self._close(transport)
        elif parser.in_request:
            try:
                timeouts.check_duration(self._since, now)
                timeouts.check_rate(self._progress, now, parser.received)
            except RequestError as error:
                self.refuse(error)
        else:
            is_asking_soon = self._fresh and quiet <= timeouts.fresh
            if quiet > timeouts.idle or (self._connections.closing and not is_asking_soon):
                self._close(transport)

    # Steps of the methods above.

    def _feed_large(self, data: bytes) -> None:
        """Parse a large chunk: a single request at once, and several one by one."""
        block, _ = self._block
        if block and not self._answering:
            self._parser.feed(block)
            data = data[len(block) :]
            if self._parser.missing >= len(data):
                self._parser.feed(data)
                return
        if not self._parser.stopped:
            self._unparsed = data
            if self._answering:
                self._control_reading()
            else:
                self._answering = True
                self._go_on()

    def _enqueue(self, request: Request) -> None:
        """Have a request answered, after those before it."""
        if self._answering:
            self.waiting.append(request)
            if len(self.waiting) == MAX_AHEAD:
                self._control_reading()
            return
        self._answering = True
        try:
            self._handler.answer(request)
        except Exception:
            # Nothing else answers the request, and its client must not wait forever.
            log.exception("%r could not be answered", request.target)
            self.abort()

    def _go_on(self) -> None:
        """Have the next pipelined request answered; parse until there is one.

        The event loop calls this, never the code that sent the answer before: however many requests
        are refused at once, the stack is no deeper, and other connections are served in between.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._paused:
            self._parked = True
            return
        while self._unparsed and not self.waiting and not self._parser.stopped:
            size = max(PIECE, self._parser.missing)
            piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._parser.feed(piece)
        self._answering = False
        if self.waiting:
            self._enqueue(self.waiting.popleft())
        elif self._refusal:
            self._send_refusal(transport)
        elif self._half_close is not None:
            self._close(transport)
        self._control_reading()

    def _control_reading(self) -> None:
        """Read on, or stop reading until what was read is answered and sent."""
        transport = self._transport
        if transport is None or self._half_close is not None or transport.is_closing():
            return
        # After a refusal, bytes are read and dropped.
        reads = self._parser.stopped or not (
            self._paused or self._unparsed or len(self.waiting) >= MAX_AHEAD
        )
        if reads is not self._reading:
            self._reading = reads
            if reads:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _send_refusal(self, transport: asyncio.Transport) -> None:
        """Send a refusal; `check` closes the connection a little later.

        Closing while bytes are unread sends a reset, which may overtake the answer.
        """
        answer, self._refusal = self._refusal, b""
        transport.write(answer if self._half_close is None else self._half_close.unsent(answer))
        self._since = self._connections.now
        if transport.can_write_eof():
            transport.write_eof()

    def _check_reader(self, transport: asyncio.Transport, now: float) -> None:
        """Close the connection at once if its client has stopped reading its answers."""
        left = transport.get_write_buffer_size()
        if left != self._progress.reached:
            self._progress.note(now, left)
            if self._paused:
                self._connections.unread.note(self, left)
        elif now - self._progress.moved > self._connections.timeouts.stalled:
            self.abort()

    def _close(self, transport: asyncio.Transport) -> None:
        """Close once the answers are sent; `check` closes at once if the client does not read."""
        self._progress.note(self._connections.now, transport.get_write_buffer_size())
        transport.close()

    def _abort_soon(self) -> None:
        # Threads that decode call `is_open`, and only the loop's thread may use a transport.
        self._connections.loop.call_soon_threadsafe(self.abort)

    def _hold(self, size: int) -> bool:
        """Count `size` more bytes of a body as held, if there is room for them."""
        bodies = self._connections.bodies
        if not bodies.fits(self._held, size):
            return False
        self._held += size
        bodies.held += size
        return True

    def _release(self, size: int) -> None:
        """Count `size` bytes of bodies as released."""
        self._held -= size
        self._connections.bodies.held -= size
