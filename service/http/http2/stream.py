"""One stream: a request as far as it has arrived, and its answer as far as it has been sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.http.timeouts import Progress

if TYPE_CHECKING:
    from collections import deque

    from service.http.http2.fields import HeaderBlock
    from service.http.http2.request import StreamRequest

# Parts of a body that are smaller than this are gathered, beyond the first ones: each would be an
# object of some fifty bytes.
LARGE_PART = 1024
MAX_PARTS = 64


class Stream:
    """A stream that is open, or half closed (RFC 9113, section 5.1)."""

    # Attributes that most streams never change are those of the class until they are set.
    request: StreamRequest
    max_body = 0
    """The bytes of the largest body."""
    received = 0
    """The bytes of the body so far."""
    held = 0
    """The bytes of the body that are counted as held."""
    credit = 0
    """The bytes that the client may send again, and has not been told so yet."""
    has_ended = False
    """True once the client has sent its last frame."""
    is_dropped = False
    """True if frames are dropped, since the request was answered before it had arrived."""
    is_reset = False
    """True once either end has reset it."""
    answered = False
    """True once the header block of the answer has been sent."""
    is_sent = False
    """True once all of the answer has been sent."""
    pending: deque[memoryview] | None = None
    """The pieces of the answer that wait."""
    waiting = 0
    """The bytes of these pieces."""
    ending: bytes | None = None
    """The block of trailers after them: empty for none, `None` if the answer goes on."""
    begun = b""
    """The header lines of an answer in parts, until it ends; for the access log."""
    sent = 0
    """The bytes of these parts."""
    progress: Progress | None = None
    """The progress of the client, once `check` has looked at the stream."""

    def __init__(
        self, number: int, header_block: HeaderBlock, window: int, send_window: int, now: float
    ) -> None:
        """Begin a stream.

        Args:
            number: its number on the connection.
            header_block: the parsed header block of its request.
            window: the bytes that the client may send.
            send_window: the bytes that may be sent to the client.
            now: the time, by the loop's clock.
        """
        self.id = number
        self.header_block = header_block
        self.window = window
        self.send_window = send_window
        self.began = now
        self.parts: list[bytes | bytearray] = []

    def watch(self, now: float) -> Progress:
        """Return the progress of the client, which is watched from now on."""
        if self.progress is None:
            self.progress = Progress(now)
        return self.progress

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
