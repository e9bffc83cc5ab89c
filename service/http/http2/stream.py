"""One stream: a request as far as it has arrived, and its answer as far as it has been sent."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from service.http.timeouts import Progress

if TYPE_CHECKING:
    from service.http.http2.fields import Head
    from service.http.http2.request import StreamRequest

# Parts of a body that are smaller than this are gathered, beyond the first ones: each would be an
# object of some fifty bytes.
LARGE_PART = 1024
MAX_PARTS = 64


class Stream:
    """A stream that is open, or half closed (RFC 9113, section 5.1)."""

    __slots__ = (
        *("answered", "began", "credit", "ending", "has_ended", "head", "held", "id", "is_dropped"),
        *("is_reset", "is_sent", "parts", "pending", "progress", "received", "request", "waiting"),
        *("send_window", "window"),
    )

    def __init__(self, number: int, head: Head, window: int, send_window: int, now: float) -> None:
        """Begin a stream.

        Args:
            number: its number on the connection.
            head: the head of its request.
            window: the bytes that the client may send.
            send_window: the bytes that may be sent to the client.
            now: the time, by the loop's clock.
        """
        self.id = number
        self.head = head
        self.request: StreamRequest
        # The body so far, its bytes, and the bytes that are counted as held.
        self.parts: list[bytes | bytearray] = []
        self.received = 0
        self.held = 0
        self.window = window
        # Bytes that the client may send again, and has not been told so yet.
        self.credit = 0
        # Whether the client has sent its last frame; and whether its frames are dropped, since the
        # request was answered before it had arrived.
        self.has_ended = False
        self.is_dropped = False
        # Whether either end has reset it.
        self.is_reset = False
        # Whether the head of the answer has been sent.
        self.answered = False
        # Whether all of the answer has been sent.
        self.is_sent = False
        self.send_window = send_window
        # The rest of the answer: its pieces, their bytes, and the block of trailers after them:
        # empty for none, `None` if the answer goes on.
        self.pending: deque[memoryview] = deque()
        self.waiting = 0
        self.ending: bytes | None = None
        self.began = now
        self.progress = Progress(now)

    def add(self, part: bytes) -> None:
        """Add a part to the body."""
        if len(part) >= LARGE_PART or len(self.parts) < MAX_PARTS:
            self.parts.append(part)
        elif isinstance(last := self.parts[-1], bytearray):
            last += part
        else:
            self.parts.append(bytearray(part))

    def take_body(self) -> bytes:
        """Return the body, and keep it no longer."""
        parts, self.parts = self.parts, []
        if len(parts) == 1 and isinstance(parts[0], bytes):
            return parts[0]
        return b"".join(parts)
