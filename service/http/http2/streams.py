"""The frames of one connection: what they mean, and what the client may not do (RFC 9113).

    bytes ─ whole frames ─▶ streams ─▶ Receiver: opened, accept_body, ended, gone
                  └─ a mistake ─▶ RST_STREAM for one stream, or GOAWAY for all

It knows no socket: it takes bytes, and writes bytes.  The file is one idea, the rules by which
frames are received; what is sent is in `sending`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NoReturn, Protocol

from service.http.http2 import budgets, fields, frames
from service.http.http2.budgets import Budgets
from service.http.http2.faults import ConnectionFault, StreamFault
from service.http.http2.fields import FieldDecoder, Malformed
from service.http.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HEADER,
    HEADER_SIZE,
    NUMBER,
    PADDED,
    PREFACE,
    PRIORITIZED,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from service.http.http2.sending import MAX_FRAME, Sending
from service.http.http2.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

# The requests that a client may have open at once.
MAX_STREAMS = 128
# The bytes of bodies that a client may send ahead, on each stream and on all of them together.
WINDOW = 2**22
# The bytes from which on DATA frames that follow each other are handled as one.
LARGE_DATA = 1024
# The streams that were reset here, and whose frames may still be on their way.
MAX_RESET = 256
# The frames, and the work that they bring, that are handled before other connections have a turn.
# The work is measured in bytes of bodies that are complete, of which each may take some fifty
# nanoseconds to some microseconds; a byte of a header block takes as long as `HEAVY` of them.
FRAMES_AT_ONCE = 32
WORK_AT_ONCE = 64 * 1024
HEAVY = 4
# The settings in one frame: a client has a use for six.
MAX_SETTINGS = 32
# The field that sets the size of the table to 0 (RFC 7541, 6.3).
_EMPTY_TABLE = b"\x20"
_STREAM_BITS = 0x7FFFFFFF
_PRIORITY_SIZE = 5
_SETTINGS = {
    frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    frames.INITIAL_WINDOW_SIZE: WINDOW,
    frames.MAX_HEADER_LIST_SIZE: fields.MAX_LIST,
}


class Receiver(Protocol):
    """The connection that has the streams."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def now(self) -> float:
        """Return the time, by the loop's clock."""

    def opened(self, stream: Stream) -> None:
        """Note the header block of a request."""

    def accept_body(self, stream: Stream, content: bytes) -> None:
        """Take a part of a body."""

    def ended(self, stream: Stream) -> None:
        """Note the end of a request."""

    def gone(self, stream: Stream) -> None:
        """Note that a stream has ended, with its answer or without."""

    def failed(self, fault: ConnectionFault) -> None:
        """Note that the connection has failed; nothing more is read."""


class Streams:
    """The streams of one connection, and the state of its frames."""

    def __init__(self, receiver: Receiver) -> None:
        """Begin with a client's preface."""
        self._receiver = receiver
        self.open: dict[int, Stream] = {}
        self.budgets = Budgets()
        self.sending = Sending(receiver.write, self._sent, self.budgets)
        self.has_failed = False
        """True once nothing more is read."""
        self.highest = 0
        """The highest stream that the client has opened."""
        self.last: int | None = None
        """The last stream that is answered, once the client was told so."""
        self.unread = b""
        """Bytes that are received and not handled yet."""
        self._decoder = FieldDecoder()
        # Whether the preface, and the first SETTINGS frame, have come.
        self._has_begun = False
        self._has_settings = False
        # Whether the client was told that the table of answers' header blocks is empty.
        self._has_shrunk = False
        self._window = WINDOW
        self._credit = 0
        # Streams that were reset here, the oldest first.
        self._reset: OrderedDict[int, None] = OrderedDict()
        # The header block that is not complete yet: its stream, its flags, and its bytes.
        self._in_block = 0
        self._block_flags = 0
        self._block_depends = 0
        self._block = b""
        self.handled = 0
        """The frames that were handled in the last turn."""
        self.work = 0
        """The work of the last turn, to which the receiver adds."""
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            frames.DATA: self._data,
            frames.HEADERS: self._headers,
            frames.PRIORITY: self._priority,
            frames.RST_STREAM: self._rst_stream,
            frames.SETTINGS: self._settings,
            frames.PUSH_PROMISE: self._push_promise,
            frames.PING: self._ping,
            frames.GOAWAY: self._goaway,
            frames.WINDOW_UPDATE: self._window_update,
            frames.CONTINUATION: self._continuation,
        }

    def begin(self) -> None:
        """Send the service's settings; the client may send before it has them."""
        grown = frames.window_update(0, WINDOW - frames.DEFAULT_WINDOW)
        self._receiver.write(frames.settings(_SETTINGS) + grown)

    def receive(self, data: bytes) -> bool:
        """Handle bytes from the client.

        Returns:
            Whether some are left that can be handled (by `receive(b"")`): it is the turn of others.
        """
        if self.has_failed:
            return False
        at = 0
        self.handled = self.work = 0
        try:
            if self.unread:
                data, at = self._complete(data)
            if not self._has_begun:
                at = self._read_preface(data)
            while self._has_begun and len(data) - at >= HEADER_SIZE:
                high, low, kind, flags, number = HEADER.unpack_from(data, at)
                size = high << 8 | low
                if size > frames.DEFAULT_FRAME:
                    _refuse_frame(size)
                end = at + HEADER_SIZE + size
                if end > len(data):
                    break
                if self.handled >= FRAMES_AT_ONCE or self.work >= WORK_AT_ONCE:
                    self.unread = data[at:]
                    return True
                self.handled += 1
                if kind == frames.DATA and not flags and size >= LARGE_DATA:
                    payload, flags, end = _run(data, at, end, number)
                else:
                    payload = data[at + HEADER_SIZE : end]
                self._handle(kind, flags, number & _STREAM_BITS, payload)
                at = end
        except ConnectionFault as fault:
            self.fail(fault)
        else:
            self.unread = data[at:]
        return False

    def _complete(self, data: bytes) -> tuple[bytes, int]:
        """Complete what is unread by a chunk.

        Returns:
            The bytes to handle, and where they begin.  Most often they are the chunk, after the
            frame that ends in it: only that frame is copied.

        Raises:
            ConnectionFault: that frame ends the connection.
        """
        unread = self.unread
        if self._has_begun:
            began = unread + data[:HEADER_SIZE]
            if len(began) >= HEADER_SIZE:
                high, low, kind, flags, number = HEADER.unpack_from(began)
                size = high << 8 | low
                if size > frames.DEFAULT_FRAME:
                    _refuse_frame(size)
                end = HEADER_SIZE + size - len(unread)
                if 0 < end <= len(data):
                    self.handled = 1
                    payload = (unread + data[:end])[HEADER_SIZE:]
                    self._handle(kind, flags, number & _STREAM_BITS, payload)
                    return data, end
        return unread + data, 0

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection with an error."""
        if self.has_failed:
            return
        self.has_failed = True
        self.unread = b""
        self._receiver.write(frames.goaway(self.highest, fault.code, str(fault)))
        self._receiver.failed(fault)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream without an answer, or before the end of one."""
        if self.open.get(stream.id) is stream:
            self._receiver.write(frames.rst_stream(stream.id, code))
            self._remember(stream.id)
            stream.is_reset = True
            self._close(stream)

    def drop_all(self) -> None:
        """Drop all streams: the connection is lost."""
        for stream in [*self.open.values()]:
            stream.is_reset = True
            self._close(stream)

    @property
    def is_in_block(self) -> bool:
        """True while a header block is incomplete."""
        return self._in_block > 0

    @property
    def is_between_frames(self) -> bool:
        """True while no frame and no header block is incomplete."""
        return self._has_begun and not self.unread and not self._in_block

    def leave(self, last: int) -> None:
        """Tell the client that streams after `last` are not answered (6.8)."""
        self.last = last
        self._receiver.write(frames.goaway(last, frames.NO_ERROR))

    # Frames.

    def _read_preface(self, data: bytes) -> int:
        """Return where the frames begin; 0 if the preface is not complete.

        Raises:
            ConnectionFault: the bytes are not those of a preface.
        """
        if not PREFACE.startswith(data[: len(PREFACE)]):
            message = "connection: expected the preface of HTTP/2, received something else"
            raise ConnectionFault(PROTOCOL_ERROR, message)
        if len(data) < len(PREFACE):
            return 0
        self._has_begun = True
        return len(PREFACE)

    def _handle(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Handle a frame.

        Raises:
            ConnectionFault: it ends the connection.
        """
        if self._in_block and (kind != frames.CONTINUATION or number != self._in_block):
            message = "header block: expected its CONTINUATION frames, received another frame"
            raise ConnectionFault(PROTOCOL_ERROR, message)
        if not self._has_settings:
            if kind != frames.SETTINGS or flags & ACK:
                message = "connection: expected SETTINGS as its first frame, received another"
                raise ConnectionFault(PROTOCOL_ERROR, message)
            self._has_settings = True
        handle = self._handlers.get(kind)
        if handle is None:
            self.budgets.spend(budgets.UNKNOWN)
            return
        try:
            handle(flags, number, payload)
        except StreamFault as fault:
            # Each may have been provoked, and freed a stream for the next request.
            self.budgets.spend(budgets.RESETS)
            self._receiver.write(frames.rst_stream(fault.stream, fault.code))
            self._remember(fault.stream)
            stream = self.open.get(fault.stream)
            if stream is not None:
                stream.is_reset = True
                self._close(stream)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._check_opened("DATA", number)
        self._window -= size
        if self._window < 0:
            message = "DATA: expected no more bytes than the connection's window"
            raise ConnectionFault(FLOW_CONTROL_ERROR, message)
        self._credit += size
        if self._credit >= WINDOW // 2:
            self._receiver.write(frames.window_update(0, self._credit))
            self._window += self._credit
            self._credit = 0
        if flags & PADDED:
            payload = _unpadded("DATA", payload)
        if not payload and not flags & END_STREAM:
            self.budgets.spend(budgets.EMPTY)
        stream = self.open.get(number)
        if stream is None:
            self._check_reset("DATA", number)
            return
        if stream.has_ended:
            message = "DATA: expected none after the end of the request"
            raise StreamFault(number, STREAM_CLOSED, message)
        stream.window -= size
        if stream.window < 0:
            message = "DATA: expected no more bytes than the stream's window"
            raise StreamFault(number, FLOW_CONTROL_ERROR, message)
        stream.received += len(payload)
        if stream.received > stream.header_block.size >= 0:
            message = "DATA: expected no more bytes than Content-Length"
            raise StreamFault(number, PROTOCOL_ERROR, message)
        stream.credit += size
        if payload and not stream.is_dropped:
            self._receiver.accept_body(stream, payload)
        if flags & END_STREAM:
            self._end(stream)
        elif not stream.is_dropped:
            self._replenish(stream)

    def _replenish(self, stream: Stream) -> None:
        """Let the client send as much again on a stream as was taken from it."""
        # A request whose parts are answered as they come is read no faster than its answers are.
        is_behind = stream.answered and stream.waiting
        if stream.credit >= WINDOW // 2 and not is_behind and not stream.has_ended:
            self._receiver.write(frames.window_update(stream.id, stream.credit))
            stream.window += stream.credit
            stream.credit = 0

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(PROTOCOL_ERROR, "HEADERS: expected a stream, received 0")
        if flags & PADDED:
            payload = _unpadded("HEADERS", payload)
        depends = 0
        if flags & PRIORITIZED:
            if len(payload) < _PRIORITY_SIZE:
                message = "HEADERS: expected a priority, received fewer bytes"
                raise ConnectionFault(FRAME_SIZE_ERROR, message)
            depends = NUMBER.unpack_from(payload)[0] & _STREAM_BITS
            payload = payload[_PRIORITY_SIZE:]
        if flags & END_HEADERS:
            self._fields(number, flags, depends, payload)
            return
        self._in_block, self._block_flags, self._block_depends = number, flags, depends
        self._block = payload

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if not self._in_block:
            message = "CONTINUATION: expected a header block before it, received none"
            raise ConnectionFault(PROTOCOL_ERROR, message)
        if not payload and not flags & END_HEADERS:
            self.budgets.spend(budgets.EMPTY)
        self._block += payload
        if len(self._block) > fields.MAX_BLOCK:
            message = f"header block: expected at most {fields.MAX_BLOCK} bytes, received more"
            raise ConnectionFault(ENHANCE_YOUR_CALM, message)
        if flags & END_HEADERS:
            block, self._block, self._in_block = self._block, b"", 0
            self._fields(number, self._block_flags, self._block_depends, block)

    def _fields(self, number: int, flags: int, depends: int, block: bytes) -> None:
        """Handle a complete header block: it begins a request, or ends one."""
        stream = self.open.get(number)
        if stream is not None or number <= self.highest:
            self._trailers(stream, number, flags, block)
            return
        if not number % 2:
            message = "HEADERS: expected a stream with an odd number, received an even one"
            raise ConnectionFault(PROTOCOL_ERROR, message)
        self.highest = number
        try:
            header_block, is_new = self._decoder.parse(block)
        except Malformed as error:
            self._count(block)
            message = "HEADERS: expected the fields of a request, received others"
            raise StreamFault(number, PROTOCOL_ERROR, message) from error
        if is_new:
            self._count(block)
        if self.last is not None and number > self.last:
            self._remember(number)
            return
        if depends == number:
            message = "HEADERS: expected a stream that does not depend on itself"
            raise StreamFault(number, PROTOCOL_ERROR, message)
        if len(self.open) >= MAX_STREAMS:
            message = f"HEADERS: expected at most {MAX_STREAMS} requests at once"
            raise StreamFault(number, REFUSED_STREAM, message)
        now = self._receiver.now()
        stream = Stream(number, header_block, WINDOW, self.sending.initial_window, now)
        stream.has_ended = bool(flags & END_STREAM)
        self.open[number] = stream
        self._receiver.opened(stream)
        if stream.has_ended:
            self._end(stream)

    def _trailers(self, stream: Stream | None, number: int, flags: int, block: bytes) -> None:
        """Handle the header block of a stream that the client has opened before."""
        # First, since it may change the table for all blocks after it.
        self._count(block)
        trailers = self._decoder.fields(block)
        if stream is None:
            if number not in self._reset:
                message = "HEADERS: expected a stream that is open or new, received another"
                raise ConnectionFault(STREAM_CLOSED, message)
        elif stream.has_ended:
            message = "HEADERS: expected none after the end of the request"
            raise StreamFault(number, STREAM_CLOSED, message)
        elif not flags & END_STREAM:
            message = "HEADERS: expected trailers, which end the request"
            raise StreamFault(number, PROTOCOL_ERROR, message)
        else:
            try:
                fields.check_trailers(trailers)
            except Malformed as error:
                message = "HEADERS: expected trailers, received other fields"
                raise StreamFault(number, PROTOCOL_ERROR, message) from error
            self._end(stream)

    def _count(self, block: bytes) -> None:
        """Count the bytes of a block that is decoded."""
        self.work += HEAVY * len(block)
        self.budgets.spend(budgets.HEADER_BYTES, len(block))

    def _end(self, stream: Stream) -> None:
        """Note the last frame of a request."""
        stream.has_ended = True
        if stream.is_sent:
            self._close(stream)
            return
        if stream.received < stream.header_block.size:
            message = "request: expected as many bytes as Content-Length, received fewer"
            raise StreamFault(stream.id, PROTOCOL_ERROR, message)
        if not stream.is_dropped:
            self._receiver.ended(stream)

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(PROTOCOL_ERROR, "PRIORITY: expected a stream, received 0")
        self.budgets.spend(budgets.PRIORITIES)
        if len(payload) != _PRIORITY_SIZE:
            message = f"PRIORITY: expected {_PRIORITY_SIZE} bytes"
            raise StreamFault(number, FRAME_SIZE_ERROR, message)
        if NUMBER.unpack_from(payload)[0] & _STREAM_BITS == number:
            message = "PRIORITY: expected a stream that does not depend on itself"
            raise StreamFault(number, PROTOCOL_ERROR, message)

    def _rst_stream(self, _: int, number: int, payload: bytes) -> None:
        self._check_opened("RST_STREAM", number)
        _check_size("RST_STREAM", payload, NUMBER.size)
        self.budgets.spend(budgets.RESETS)
        stream = self.open.get(number)
        if stream is not None:
            stream.is_reset = True
            self._close(stream)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS: expected stream 0, received another")
        if flags & ACK:
            _check_size("SETTINGS with ACK", payload, 0)
            self.budgets.spend(budgets.SETTINGS)
            return
        if len(payload) % frames.SETTING.size:
            message = f"SETTINGS: expected {frames.SETTING.size} bytes for each setting"
            raise ConnectionFault(FRAME_SIZE_ERROR, message)
        self.budgets.spend(budgets.SETTINGS)
        if len(payload) > MAX_SETTINGS * frames.SETTING.size:
            message = f"SETTINGS: expected at most {MAX_SETTINGS} settings in a frame"
            raise ConnectionFault(ENHANCE_YOUR_CALM, message)
        for setting, value in frames.SETTING.iter_unpack(payload):
            self._set(setting, value)
        self._receiver.write(frames.SETTINGS_ACK)
        self.sending.flush()

    def _set(self, setting: int, value: int) -> None:
        """Follow a setting of the client; that about pushes changes nothing here."""
        if setting == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                message = "SETTINGS: expected an INITIAL_WINDOW_SIZE below 2^31"
                raise ConnectionFault(FLOW_CONTROL_ERROR, message)
            self.sending.resize(value, [*self.open.values()])
        elif setting == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME <= value <= frames.LARGEST_FRAME:
                message = "SETTINGS: expected a MAX_FRAME_SIZE from 2^14 to 2^24 - 1"
                raise ConnectionFault(PROTOCOL_ERROR, message)
            self.sending.max_frame = min(value, MAX_FRAME)
        elif setting == frames.HEADER_TABLE_SIZE:
            # A smaller table has to be confirmed (RFC 7541, 4.2), and an empty one is never too
            # large: blocks refer to the static table alone.
            if value < frames.DEFAULT_TABLE and not self._has_shrunk:
                self._has_shrunk = True
                self.sending.table_update = _EMPTY_TABLE
        elif setting == frames.ENABLE_PUSH and value not in (0, 1):
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS: expected an ENABLE_PUSH of 0 or 1")

    def _push_promise(self, _: int, __: int, ___: bytes) -> None:
        raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE: expected none from a client")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "PING: expected stream 0, received another")
        _check_size("PING", payload, 8)
        self.budgets.spend(budgets.PINGS)
        if not flags & ACK:
            self._receiver.write(frames.ping_ack(payload))

    def _goaway(self, _: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "GOAWAY: expected stream 0, received another")
        if len(payload) < 2 * NUMBER.size:
            message = f"GOAWAY: expected at least {2 * NUMBER.size} bytes"
            raise ConnectionFault(FRAME_SIZE_ERROR, message)
        # The client opens no more streams, and reads the answers of those that are open.
        self.budgets.spend(budgets.SETTINGS)

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        if number:
            self._check_opened("WINDOW_UPDATE", number)
        _check_size("WINDOW_UPDATE", payload, NUMBER.size)
        self.budgets.spend(budgets.WINDOW_UPDATES)
        increment = NUMBER.unpack(payload)[0] & _STREAM_BITS
        if not increment:
            message = "WINDOW_UPDATE: expected an increment above 0"
            if number:
                raise StreamFault(number, PROTOCOL_ERROR, message)
            raise ConnectionFault(PROTOCOL_ERROR, message)
        stream = self.open.get(number)
        if stream is not None or not number:
            self.sending.widen(stream, increment)
            self.sending.flush()

    # Streams.

    def _check_opened(self, what: str, number: int) -> None:
        """Check that a frame belongs to a stream that the client has opened.

        Raises:
            ConnectionFault: it does not.
        """
        if not number or not number % 2 or number > self.highest:
            message = f"{what}: expected a stream that is open, received another"
            raise ConnectionFault(PROTOCOL_ERROR, message)

    def _check_reset(self, what: str, number: int) -> None:
        """Check that a frame for a stream that is not open was on its way when that was reset here.

        Raises:
            StreamFault: the client itself has ended the stream, or never opened it.
        """
        if number not in self._reset:
            message = f"{what}: expected a stream that is open, received one that has ended"
            raise StreamFault(number, STREAM_CLOSED, message)

    def _remember(self, number: int) -> None:
        """Remember a stream that was reset, or is ignored, while frames may be on their way."""
        self._reset[number] = None
        if len(self._reset) > MAX_RESET:
            self._reset.popitem(last=False)

    def call_off(self, stream: Stream) -> None:
        """Have the client stop sending a request that was answered before it had arrived.

        Nobody is at fault (8.1).
        """
        self._receiver.write(frames.rst_stream(stream.id, frames.NO_ERROR))
        self._remember(stream.id)
        self._close(stream)

    def _sent(self, stream: Stream) -> None:
        """Note that all of an answer was written.

        If the request has not arrived, the rest of it is dropped, and the stream is called off a
        little later: most clients end it themselves, and some take a reset that comes right behind
        an answer for an error of their next request.
        """
        stream.is_dropped = stream.is_sent = True
        if stream.has_ended:
            self._close(stream)

    def _close(self, stream: Stream) -> None:
        if self.open.pop(stream.id, None) is not None:
            self.sending.drop(stream)
            self._receiver.gone(stream)


def _run(data: bytes, at: int, end: int, number: int) -> tuple[bytes, int, int]:
    """Return the payloads of large DATA frames of one stream that follow each other.

    A body of a megabyte comes in a hundred frames, which mean the same as one.

    Args:
        data: the bytes that have the frames.
        at: where the first one begins; it has no flags.
        end: where it ends.
        number: the number of the stream, as the frames have it.

    Returns:
        Their payloads together, the flags of the last, and where that ends.
    """
    view, flags = memoryview(data), 0
    payloads = [view[at + HEADER_SIZE : end]]
    while not flags and len(data) - end >= HEADER_SIZE:
        high, low, kind, flags, other = HEADER.unpack_from(data, end)
        size = high << 8 | low
        stop = end + HEADER_SIZE + size
        if (
            kind != frames.DATA
            or other != number
            or flags not in (0, END_STREAM)
            or not LARGE_DATA <= size <= frames.DEFAULT_FRAME
            or stop > len(data)
        ):
            return b"".join(payloads), 0, end
        payloads.append(view[end + HEADER_SIZE : stop])
        end = stop
    return b"".join(payloads), flags, end


def _refuse_frame(size: int) -> NoReturn:
    """Refuse a frame that has more bytes than the service has allowed."""
    message = f"frame: expected at most {frames.DEFAULT_FRAME} bytes, received {size}"
    raise ConnectionFault(FRAME_SIZE_ERROR, message)


def _unpadded(what: str, payload: bytes) -> bytes:
    """Return the payload of a frame without its padding.

    Raises:
        ConnectionFault: it has more padding than payload.
    """
    if not payload or payload[0] >= len(payload):
        message = f"{what}: expected less padding than payload"
        raise ConnectionFault(PROTOCOL_ERROR, message)
    return payload[1 : len(payload) - payload[0]]


def _check_size(what: str, payload: bytes, size: int) -> None:
    """Check the size of a payload that always has the same.

    Raises:
        ConnectionFault: it has another.
    """
    if len(payload) != size:
        message = f"{what}: expected {size} bytes, received {len(payload)}"
        raise ConnectionFault(FRAME_SIZE_ERROR, message)
