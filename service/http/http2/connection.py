"""One connection of HTTP/2: its socket, and the requests of its streams.

    socket ─ Streams ─▶ StreamRequest ─▶ Handler ─▶ answer ─ Sending ─▶ socket

A request is handed over once it is complete, as in HTTP/1.1, and within the same bounds: on the
bytes of bodies and of unread answers, on time, and on bodies that are sent without a token.
Requests are answered in any order.

This is one idea in one file: each way in which a request or its connection goes on, and ends.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from service.errors import HTTPError, RequestError, TooLarge
from service.http import flow_control
from service.http.connection import Handler
from service.http.content_encoding import too_large
from service.http.forwarded import address
from service.http.grpc.framing import PREFIX
from service.http.http2 import answers, frames
from service.http.http2.faults import ConnectionFault
from service.http.http2.request import StreamRequest
from service.http.http2.streams import HEAVY, WORK_AT_ONCE, Streams
from service.http.request import Request
from service.http.timeouts import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.http.connections import Connections
    from service.http.http2.stream import Stream

log = logging.getLogger(__name__)

_ENCODING = b"content-encoding"
_CONTINUE = answers.encode_status(100)
_OK = answers.encode_status(200)
_CANCELLED = b"grpc-status: 1\r\n"


class StreamHandler(Handler, Protocol):
    """A handler of the requests of HTTP/2, some of which are calls of gRPC."""

    def answer_call(self, request: StreamRequest) -> None:
        """Have a call of gRPC answered, now or later."""

    def is_streamed(self, target: bytes) -> bool:
        """Return whether a call is answered while its body arrives."""

    def needs_no_token(self, target: bytes) -> bool:
        """Return whether a call may be made without a token; its body is small."""

    def count_unanswered(self, target: bytes, status: int) -> None:
        """Count a request that nothing answers, since its connection has failed."""

    def call_refusal(
        self, target: bytes, headers: Mapping[bytes, bytes], error: RequestError
    ) -> bytes:
        """Count a call that has not arrived whole as refused.

        Returns:
            The header lines of its answer, which has no body.
        """


class Http2Connection(asyncio.Protocol):
    """The asyncio protocol of one HTTP/2 connection; the receiver of its streams."""

    def __init__(
        self, connections: Connections, handler: StreamHandler, on_closed: Callable[[], None]
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
        self.peer = ""
        """The address of the client for the access log, if there is one."""
        self._transport: asyncio.Transport | None = None
        self._streams = Streams(self)
        self._held = 0
        self._reading = True
        # Whether bytes wait that are to be handled in a later turn of the event loop.
        self._has_more = False
        # Whether more is waiting to be sent, and a later turn will send it.
        self._is_flushing = False
        # Whether unread answers are counted, and the bytes that had been taken from them when the
        # client was last seen to read.
        self._is_behind = False
        self._taken = 0
        # Whether it was closed at once, and what waits is about to be dropped.
        self._is_cut_off = False
        # Whether the client was told which of its streams is the last one that is answered.
        self._has_left = False
        # The time when the last stream ended, or the connection failed.
        self._since = connections.now
        self._fresh = True
        # The time since when a frame, or a header block, is incomplete; 0 if none is.
        self._partial_since = 0.0
        self._progress = Progress(connections.now)

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket's limits, register the connection, and send the settings."""
        # uvloop's transports are asyncio's in all but their class.
        self._transport = cast("asyncio.Transport", transport)
        flow_control.bound(self._transport)
        self._connections.open.add(self)
        if self._connections.access_log is not None:
            self.peer = address(self._transport.get_extra_info("peername"))
        self._streams.begin()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """Forget the connection, and drop its requests that have not run yet."""
        self._transport = None
        self._streams.drop_all()
        self._connections.unread.forget(self)
        self._connections.open.discard(self)
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """Handle frames, as many as may be handled in one turn of the event loop."""
        streams = self._streams
        if self._has_more:
            # It is the turn of others, and a client that sends more than this is read later.
            streams.unread += data
            self._control_reading()
            return
        was_in_block = streams.is_in_block
        self._has_more = streams.receive(data)
        if self._has_more:
            self._connections.loop.call_soon(self._go_on)
        if streams.sending.waiting or self._is_behind:
            # A window may have opened for more than was sent at once, or for all that waited.
            self._look_at_sending()
        if streams.is_between_frames:
            self._partial_since = 0.0
        elif not self._partial_since or (
            streams.handled and not (was_in_block and streams.is_in_block)
        ):
            self._partial_since = self._connections.now

    def eof_received(self) -> bool:
        """Close: a client that sends no more cannot let answers be sent either (WINDOW_UPDATE)."""
        return False

    def pause_writing(self) -> None:
        """Stop reading and sending: unread answers are above the high-water mark."""
        self._streams.sending.is_paused = True
        if self._transport is not None:
            self._progress.note(self._connections.now, self._transport.get_write_buffer_size())
            self._note_unread()
            self._control_reading()

    def resume_writing(self) -> None:
        """Resume reading and sending: the client has read its answers."""
        self._streams.sending.is_paused = False
        self._progress.note(self._connections.now, 0)
        self._flush()
        self._control_reading()

    # `Streams` calls these.

    def write(self, data: bytes) -> None:
        """Send bytes."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def now(self) -> float:
        """Return the time, by the loop's clock."""
        return self._connections.now

    def opened(self, stream: Stream) -> None:
        """Begin a request, or refuse a body that will not be read before it is sent."""
        self._fresh = False
        connections, block = self._connections, stream.header_block
        stream.request = request = StreamRequest(
            *(block.method, "2", block.target, block.headers, b"", True, self), stream=stream
        )
        if block.method == b"CONNECT":
            message = "request: expected no tunnel, received CONNECT, which is not supported"
            self._refuse(request, HTTPError(400, message))
            return
        has_body = not stream.has_ended
        if has_body and connections.guarded and not self._needs_no_token(stream):
            try:
                self._handler.check_token(block.headers)
            except RequestError as error:
                self._refuse(request, error)
                return
        stream.max_body = self._max_body(stream)
        if block.size > stream.max_body:
            self._refuse(request, self._too_large(stream))
        elif block.size > 0 and not connections.bodies.fits(self._held, block.size):
            self._refuse(request, connections.bodies.refusal())
        elif block.is_grpc and self._handler.is_streamed(block.target):
            self._hand_over(request)
        elif has_body and block.headers.get(b"expect", b"").lower() == b"100-continue":
            self._streams.sending.interim(stream, _CONTINUE)

    def accept_body(self, stream: Stream, content: bytes) -> None:
        """Take a part of a body, or refuse the request."""
        bodies, size, request = self._connections.bodies, len(content), stream.request
        if request.receive is not None:
            stream.watch(self._connections.now).note(self._connections.now, 0)
            self._streams.work += HEAVY * size
            self._attempt(request, partial(request.receive, content, False))
        elif stream.received > stream.max_body:
            self._refuse(request, self._too_large(stream))
        elif not bodies.fits(self._held, size):
            self._refuse(request, bodies.refusal())
        else:
            stream.add(content)
            stream.held += size
            self._held += size
            bodies.held += size

    def ended(self, stream: Stream) -> None:
        """Have a complete request answered."""
        request = stream.request
        if request.receive is not None:
            self._attempt(request, partial(request.receive, b"", True))
            return
        request.body = stream.take_body()
        # The size of a compressed body once inflated is not known.
        self._streams.work += WORK_AT_ONCE if _is_compressed(request) else len(request.body)
        self._hand_over(request)

    def gone(self, stream: Stream) -> None:
        """Release what a stream holds, and tell its handler if the client has given it up."""
        self._release(stream)
        self._since = self._connections.now
        request = stream.request
        if stream.begun:
            self._log(request, 200, stream.sent, stream.begun + _CANCELLED)
        # Each holds the other, and a body would be kept until such cycles are looked for.
        del stream.request
        if stream.is_reset:
            if len(request.body) > flow_control.SMALL:
                # It is not counted any more, and may wait for a thread that is busy for long.
                request.body = b""
            self._look_at_sending()
            if request.on_gone is not None:
                self._attempt(request, request.on_gone)

    def failed(self, fault: ConnectionFault) -> None:
        """Drop all requests; `check` closes the connection a little later.

        Closing while bytes are unread sends a reset, which may overtake the reason.
        """
        log.debug("an HTTP/2 connection is closed: %s", fault)
        is_flood = fault.code == frames.ENHANCE_YOUR_CALM
        status = 429 if is_flood else 400
        self._handler.count_unanswered(b"", status)
        self._log(Request(b"", "2", b"", {}, b"", False, self), status, 0, b"")
        self._streams.drop_all()
        self._since = self._connections.now
        transport = self._transport
        if transport is not None:
            self._control_reading()
            if transport.can_write_eof():
                transport.write_eof()

    # A request and the handler call these.

    def is_open(self) -> bool:
        """Return whether the connection can still carry answers; for any thread."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._streams.has_failed

    def common(self, headers: Mapping[bytes, bytes], request_id: str = "") -> bytes:
        """Return the header lines that every answer to a request with `headers` has."""
        return self._handler.common(headers, request_id)

    def respond(
        self, request: Request, status: int, content: bytes, lines: bytes, length: int | None
    ) -> None:
        """Send the whole answer to a request.

        Args:
            request: the request, of this connection.
            status: the HTTP status; the answer to a call of gRPC always has 200.
            content: the body.
            lines: the header lines, without Date and Content-Length.
            length: the Content-Length, if that is not the length of `content`.
        """
        stream = cast("StreamRequest", request).stream
        if self._connections.access_log is not None:
            sent = len(content) if self._is_answerable(stream) else 0
            self._log(request, status, sent, lines)
        lines += self._connections.date
        if stream.header_block.is_grpc:
            block = _OK
        else:
            block = answers.encode_status(status)
            lines += b"content-length: %d\r\n" % (len(content) if length is None else length)
        self._answer(stream, block + answers.encode(lines), content, b"")

    def answer_with_trailers(
        self, request: StreamRequest, content: bytes, lines: bytes, trailers: bytes, counted: int
    ) -> None:
        """Send a whole answer with status 200, and trailers."""
        stream = request.stream
        if self._connections.access_log is not None:
            sent = len(content) if self._is_answerable(stream) else 0
            self._log(request, counted, sent, trailers + lines)
        block = _OK + answers.encode(lines + self._connections.date)
        self._answer(stream, block, content, answers.encode(trailers))

    def begin_answer(self, request: StreamRequest, lines: bytes) -> None:
        """Send the header block of an answer with status 200."""
        stream = request.stream
        if not self._is_answerable(stream):
            self._log(request, 200, 0, lines + _CANCELLED)
            return
        if self._connections.access_log is not None:
            stream.begun = lines
        self._answer(stream, _OK + answers.encode(lines + self._connections.date), b"", None)

    def send_part(self, stream: Stream, content: bytes) -> None:
        """Send a part of an answer that has begun."""
        if self._is_answerable(stream):
            stream.sent += len(content)
            self._streams.sending.go_on(stream, content, None)
            self._bound(stream)
            self._look_at_sending()

    def end_answer(self, request: StreamRequest, trailers: bytes) -> None:
        """Send the end of an answer that has begun."""
        stream = request.stream
        if self._is_answerable(stream):
            if stream.begun:
                self._log(request, 200, stream.sent, trailers + stream.begun)
                stream.begun = b""
            self._streams.sending.go_on(stream, b"", answers.encode(trailers))
            self._look_at_sending()

    def reset(self, stream: Stream) -> None:
        """End a stream without an answer."""
        self._streams.reset(stream, frames.INTERNAL_ERROR)

    def abort(self) -> None:
        """Close at once, and drop what has not been sent."""
        if self._transport is not None:
            self._is_cut_off = True
            self._transport.abort()

    def check(self, now: float) -> None:
        """End what has taken too long; tell the client if the service stops.

        Args:
            now: the time, by the loop's clock.
        """
        transport, streams = self._transport, self._streams
        if transport is None:
            return
        streams.budgets.tick()
        timeouts = self._connections.timeouts
        quiet = now - self._since
        if streams.sending.is_paused or transport.is_closing():
            self._check_reader(transport, now)
        elif streams.has_failed:
            if quiet > timeouts.linger:
                self._close(transport)
        elif self._partial_since and now - self._partial_since > timeouts.request:
            message = f"frame: expected all of it within {timeouts.request:g} s"
            streams.fail(ConnectionFault(frames.PROTOCOL_ERROR, message))
        else:
            self._check_streams(now)
            self._check_end(transport, quiet)

    # Steps of the methods above.

    def _log(self, request: Request, status: int, sent: int, lines: bytes) -> None:
        access_log = self._connections.access_log
        if access_log is not None:
            access_log.add(request, status, request.received, sent, lines)

    def _check_streams(self, now: float) -> None:
        """End requests that arrive too slowly, and answers that are not read."""
        timeouts, streams = self._connections.timeouts, self._streams
        for stream in [*streams.open.values()]:
            progress = stream.watch(now)
            if stream in streams.sending.waiting:
                if stream.waiting != progress.reached:
                    progress.note(now, stream.waiting)
                elif now - progress.moved > timeouts.stalled:
                    streams.reset(stream, frames.CANCEL)
            elif stream.has_ended:
                pass
            elif stream.is_sent:
                if now - progress.moved > timeouts.linger:
                    streams.call_off(stream)
            elif stream.request.receive is not None:
                if now - progress.moved > timeouts.idle:
                    streams.reset(stream, frames.CANCEL)
            else:
                try:
                    timeouts.check_duration(stream.began, now)
                    timeouts.check_rate(progress, now, stream.received)
                except RequestError as error:
                    self._refuse(stream.request, error)

    def _check_end(self, transport: asyncio.Transport, quiet: float) -> None:
        """Close an idle connection; have the client of another one go elsewhere in time."""
        connections, streams = self._connections, self._streams
        is_asking_soon = self._fresh and quiet <= connections.timeouts.fresh
        if connections.draining and streams.last is None:
            # It may still open streams until it has read this (RFC 9113, 6.8).
            streams.leave(frames.LARGEST_WINDOW)
        if connections.closing and not self._has_left and not is_asking_soon:
            self._has_left = True
            streams.leave(streams.highest)
        if not streams.open:
            if quiet > connections.timeouts.idle and streams.last is None:
                streams.leave(streams.highest)
                self._close(transport)
            elif connections.closing and not is_asking_soon:
                self._close(transport)

    def _go_on(self) -> None:
        """Handle more of what has been received."""
        self._has_more = False
        if self._transport is not None:
            self.data_received(b"")
            self._control_reading()

    def _hand_over(self, request: StreamRequest) -> None:
        try:
            if request.stream.header_block.is_grpc:
                self._handler.answer_call(request)
            else:
                self._handler.answer(request)
        except Exception as error:  # noqa: BLE001  it is logged
            self._give_up(request, error)

    def _attempt(self, request: StreamRequest, step: Callable[[], None]) -> None:
        """Do a step of the handler; whatever happens in it, other requests go on."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  it is logged
            self._give_up(request, error)

    def _give_up(self, request: StreamRequest, error: Exception) -> None:
        """Reset the stream of a request that the handler could not answer, and log the error.

        Nothing else answers it, and its client must not wait forever.
        """
        log.error("%r could not be answered", request.target, exc_info=error)
        self.reset(request.stream)

    def _refuse(self, request: StreamRequest, error: RequestError) -> None:
        """Answer with an error before the request has arrived, and drop the rest of it."""
        stream = request.stream
        stream.is_dropped = True
        stream.take_body()
        if stream.header_block.is_grpc:
            content = b""
            lines = self._handler.call_refusal(request.target, request.headers, error)
        else:
            content, lines = self._handler.refusal(request.target, request.headers, error)
        self.respond(request, error.status, content, lines, None)

    def _answer(self, stream: Stream, block: bytes, content: bytes, ending: bytes | None) -> None:
        if self._is_answerable(stream):
            if stream.held:
                self._release(stream)
                # It is not counted any more, and the client may read its answer much later.
                stream.request.body = b""
            if stream.progress is not None:
                stream.progress.note(self._connections.now, 0)
            self._streams.sending.answer(stream, block, content, ending)
            self._bound(stream)
            self._look_at_sending()

    def _bound(self, stream: Stream) -> None:
        """Reset a stream whose answer waits, if there is too much on this connection alone.

        One answer may be larger than all that may wait, as in HTTP/1.1.
        """
        sending = self._streams.sending
        if sending.total > self._connections.unread.limit and len(sending.waiting) > 1:
            self._streams.reset(stream, frames.ENHANCE_YOUR_CALM)

    def _is_answerable(self, stream: Stream) -> bool:
        return self._transport is not None and self._streams.open.get(stream.id) is stream

    def _flush(self) -> None:
        self._is_flushing = False
        self._streams.sending.flush()
        self._look_at_sending()

    def _look_at_sending(self) -> None:
        """Count what waits to be sent; have a later turn send what may be sent then."""
        sending = self._streams.sending
        if sending.total:
            self._note_unread()
            if not (sending.is_paused or self._is_flushing) and sending.has_more:
                self._is_flushing = True
                self._connections.loop.call_soon(self._flush)
        elif not sending.is_paused:
            self._is_behind = False
            self._connections.unread.forget(self)

    def _note_unread(self) -> None:
        if self._transport is not None and not self._is_cut_off:
            sending = self._streams.sending
            left = self._transport.get_write_buffer_size() + sending.total
            # A client that asks for more, or for a byte at a time, has not read by that.
            has_read = sending.taken - self._taken >= flow_control.HIGH_WATER
            if has_read:
                self._taken = sending.taken
            self._is_behind = True
            self._connections.unread.note(self, left, has_read=has_read)

    def _control_reading(self) -> None:
        """Read on, or stop reading until what was read is handled and sent."""
        transport, streams = self._transport, self._streams
        if transport is None or transport.is_closing():
            return
        # After a failure, bytes are read and dropped.
        reads = streams.has_failed or not (streams.sending.is_paused or self._has_more)
        if reads is not self._reading:
            self._reading = reads
            if reads:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _check_reader(self, transport: asyncio.Transport, now: float) -> None:
        """Close the connection at once if its client has stopped reading."""
        left = transport.get_write_buffer_size()
        if left != self._progress.reached:
            self._progress.note(now, left)
            if self._streams.sending.is_paused:
                self._note_unread()
        elif now - self._progress.moved > self._connections.timeouts.stalled:
            self.abort()

    def _close(self, transport: asyncio.Transport) -> None:
        """Close once all is sent; `check` closes at once if the client does not read."""
        self._progress.note(self._connections.now, transport.get_write_buffer_size())
        transport.close()

    def _needs_no_token(self, stream: Stream) -> bool:
        return stream.header_block.is_grpc and self._handler.needs_no_token(
            stream.header_block.target
        )

    def _max_body(self, stream: Stream) -> int:
        if self._connections.guarded and self._needs_no_token(stream):
            return flow_control.SMALL
        return self._connections.max_body + (PREFIX if stream.header_block.is_grpc else 0)

    def _too_large(self, stream: Stream) -> TooLarge:
        if self._connections.guarded and self._needs_no_token(stream):
            expected = f"at most {flow_control.SMALL} bytes, for a call that needs no token"
            return TooLarge(f"body: expected {expected}, received more")
        return too_large(self._connections.max_body)

    def _release(self, stream: Stream) -> None:
        """Count the bytes of a body as released."""
        self._held -= stream.held
        self._connections.bodies.held -= stream.held
        stream.held = 0


def _is_compressed(request: StreamRequest) -> bool:
    """Return whether a body, or the message that it is, may be compressed."""
    if request.stream.header_block.is_grpc:
        return request.body[:1] == b"\1"
    return _ENCODING in request.headers
