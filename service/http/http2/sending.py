"""The answers of one connection: sent as far as the peer's windows allow (RFC 9113, section 5.2).

an answer ─┬─ its windows have room ────────────────▶ one write
           └─ else ─▶ it waits ─ WINDOW_UPDATE ─▶ a frame of each waiting stream in turn
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from service.http.http2 import frames
from service.http.http2.faults import ConnectionFault, StreamFault
from service.http.http2.frames import DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.http.http2.budgets import Budgets
    from service.http.http2.stream import Stream

# The bytes that are written at once.  The kernel takes about as many (`flow_control.KERNEL_BYTES`).
AT_ONCE = 128 * 1024
# The largest frame that is sent, whatever the peer allows, so that other streams have their turn.
MAX_FRAME = 64 * 1024


class Sending:
    """The windows of one connection, and the streams whose answers wait for them."""

    def __init__(
        self, write: Callable[[bytes], None], sent: Callable[[Stream], None], budgets: Budgets
    ) -> None:
        """Send nothing yet.

        Args:
            write: takes bytes to send.
            sent: called once all of a stream's answer is written.
            budgets: what the peer may send grows with what it is sent.
        """
        self._budgets = budgets
        self._write = write
        self._sent = sent
        self.window = frames.DEFAULT_WINDOW
        """The bytes of bodies that the connection may send."""
        self.initial_window = frames.DEFAULT_WINDOW
        """The bytes that each new stream may send."""
        self.max_frame = frames.DEFAULT_FRAME
        """The largest frame that is sent."""
        self.table_update = b""
        """The beginning of the next header block: a change of its table's size, or nothing."""
        self.is_paused = False
        """True while the socket has enough to send."""
        self.waiting: dict[Stream, None] = {}
        """The streams that have something to send and may not, the longest waiting first."""
        self.total = 0
        """The bytes of the pieces that wait in all streams, of which some may have been sent."""
        self.taken = 0
        """The bytes that have waited and were sent."""

    def answer(self, stream: Stream, block: bytes, content: bytes, ending: bytes | None) -> None:
        """Send the header block of an answer and the body so far.

        Args:
            stream: a stream whose answer has not begun.
            block: the header block.
            content: the body, or its first part; it may be empty.
            ending: the block of trailers, empty for none; `None` if the answer goes on.
        """
        stream.answered = True
        size = len(content)
        if not size and ending == b"":
            self._write(self._headers(stream, block, END_STREAM))
            self._done(stream)
            return
        if (
            not self.is_paused
            and size <= self.max_frame
            and size <= self.window
            and size <= stream.send_window
            and ending is not None
        ):
            parts: list[bytes | memoryview] = [self._headers(stream, block, 0)]
            if size:
                parts += self._data(stream, content, is_last=not ending)
            if ending:
                parts.append(self._headers(stream, ending, END_STREAM))
            self._write(b"".join(parts))
            self._done(stream)
            return
        self._write(self._headers(stream, block, 0))
        self.go_on(stream, content, ending)

    def interim(self, stream: Stream, block: bytes) -> None:
        """Send the header block of an interim answer, such as 100 Continue."""
        self._write(self._headers(stream, block, 0))

    def go_on(self, stream: Stream, content: bytes, ending: bytes | None) -> None:
        """Send another part of a body, or its end, as `answer` does."""
        if content:
            if stream.pending is None:
                stream.pending = deque()
            stream.pending.append(memoryview(content))
            stream.waiting += len(content)
            self.total += len(content)
        stream.ending = ending
        if stream not in self.waiting and (content or ending is not None):
            self.waiting[stream] = None
            self.flush()

    def flush(self) -> None:
        """Send what the windows allow, a frame of each stream in turn."""
        size = 0
        parts: list[bytes | memoryview] = []
        done: list[Stream] = []
        blocked: set[Stream] = set()
        while size < AT_ONCE and not self.is_paused:
            ready = [stream for stream in self.waiting if stream not in blocked]
            if not ready:
                break
            for stream in ready:
                took = self._take(stream, parts)
                size += took
                if stream.waiting:
                    if not took:
                        blocked.add(stream)
                    continue
                del self.waiting[stream]
                if stream.ending is not None:
                    done.append(stream)
        if parts:
            self._write(b"".join(parts))
        for stream in done:
            self._done(stream)

    @property
    def has_more(self) -> bool:
        """True if something waits that the windows allow."""
        return any(
            not stream.waiting or (self.window > 0 and stream.send_window > 0)
            for stream in self.waiting
        )

    def drop(self, stream: Stream) -> None:
        """Drop what a stream has not sent."""
        if stream.pending:
            self.total -= sum(map(_size_of, stream.pending))
        stream.waiting = 0
        stream.pending = None
        self.waiting.pop(stream, None)

    def resize(self, initial: int, streams: list[Stream]) -> None:
        """Change the window that each stream began with (6.9.2).

        Raises:
            ConnectionFault: a window would be too large.
        """
        change = initial - self.initial_window
        self.initial_window = initial
        for stream in streams:
            stream.send_window += change
            if stream.send_window > frames.LARGEST_WINDOW:
                message = "SETTINGS: expected windows below 2^31, received a larger one"
                raise ConnectionFault(FLOW_CONTROL_ERROR, message)

    def widen(self, stream: Stream | None, increment: int) -> None:
        """Widen the window of a stream, or of the connection (6.9.1).

        Raises:
            StreamFault, ConnectionFault: the window would be too large.
        """
        message = "WINDOW_UPDATE: expected windows below 2^31, received a larger one"
        if stream is None:
            self.window += increment
            if self.window > frames.LARGEST_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, message)
        else:
            stream.send_window += increment
            if stream.send_window > frames.LARGEST_WINDOW:
                raise StreamFault(stream.id, FLOW_CONTROL_ERROR, message)

    def _take(self, stream: Stream, parts: list[bytes | memoryview]) -> int:
        """Add the next frame of a stream to `parts`; return its bytes of body."""
        size = 0
        if stream.pending:
            piece = stream.pending[0]
            size = min(len(piece), self.max_frame, self.window, stream.send_window)
            if size <= 0:
                return 0
            if size == len(piece):
                self.total -= _size_of(stream.pending.popleft())
            else:
                stream.pending[0] = piece[size:]
            stream.waiting -= size
            self.taken += size
            is_last = not stream.waiting and stream.ending == b""
            parts += self._data(stream, piece[:size], is_last=is_last)
            if is_last:
                return size
        if not stream.waiting and stream.ending is not None:
            if stream.ending:
                parts.append(self._headers(stream, stream.ending, END_STREAM))
            elif not size:
                parts.append(frames.header(0, DATA, END_STREAM, stream.id))
        return size

    def _data(
        self, stream: Stream, content: bytes | memoryview, *, is_last: bool
    ) -> tuple[bytes, bytes | memoryview]:
        """Return a DATA frame, and count it against the windows."""
        size = len(content)
        self.window -= size
        stream.send_window -= size
        self._budgets.answer_frames += 1
        return frames.header(size, DATA, END_STREAM if is_last else 0, stream.id), content

    def _headers(self, stream: Stream, block: bytes, flags: int) -> bytes:
        """Return a block in a HEADERS frame, and in CONTINUATION frames if it is long."""
        self._budgets.answer_frames += 1
        if self.table_update:
            block, self.table_update = self.table_update + block, b""
        if len(block) <= self.max_frame:
            return frames.header(len(block), HEADERS, END_HEADERS | flags, stream.id) + block
        pieces = [block[i : i + self.max_frame] for i in range(0, len(block), self.max_frame)]
        parts = [frames.header(len(pieces[0]), HEADERS, flags, stream.id), pieces[0]]
        for i, piece in enumerate(pieces[1:], 2):
            last = END_HEADERS if i == len(pieces) else 0
            parts += (frames.header(len(piece), frames.CONTINUATION, last, stream.id), piece)
        return b"".join(parts)

    def _done(self, stream: Stream) -> None:
        stream.ending = b""
        self._sent(stream)


def _size_of(piece: memoryview) -> int:
    """Return the bytes in memory of a piece of an answer: all of it, until its end is sent."""
    return memoryview(piece.obj).nbytes
