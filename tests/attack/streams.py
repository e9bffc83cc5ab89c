"""The tools of the behaviours over HTTP/2: frames, and connections that send any of them.

The frames are written here and not by a library, since a library refuses to write wrong ones.
"""

from __future__ import annotations

import select
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import hpack

from tests.attack import repository
from tests.attack.hostile import CUT, MAX_READ, WOULD_BLOCK, send
from tests.harness.protobuf import INFER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from tests.attack.hostile import Hostile

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
ACK = END_STREAM = 1
END_HEADERS, PADDED, PRIORITIZED = 4, 8, 32
CANCEL, ENHANCE_YOUR_CALM = 8, 11
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = range(1, 5)
# The window of a stream and of the connection, until another is set.
WINDOW = 65535
LARGEST_FRAME = 16384
LARGEST_WINDOW = 2**31 - 1
HEAD_SIZE = 9
# The pieces that a flood is sent in, and the longest time to send one.
PIECE = 1 << 15
FLOOD_SECONDS = 10.0
# The kinds of paths to try: HTTP/2 hardly depends on them.
KINDS = ("fast", repository.CALL)


class Frame(NamedTuple):
    """A received frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame, however wrong it is."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values: int) -> bytes:
    """Return a SETTINGS frame; the names are those of this module, in lower case."""
    numbers = {name: globals()[name.upper()] for name in values}
    pairs = (struct.pack(">HI", numbers[name], value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, b"".join(pairs))


def reset_stream(stream: int, code: int = CANCEL) -> bytes:
    """Return an RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def widen(stream: int, by: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", by))


def block(headers: Sequence[tuple[str, str]]) -> bytes:
    """Return a header block that neither reads nor changes the dynamic table, to be repeated."""
    return bytes(hpack.Encoder().encode([(name, value, True) for name, value in headers]))


class Asking(NamedTuple):
    """A good request, whose frames are the same on each stream."""

    head: bytes
    body: bytes

    @classmethod
    def of(cls, hostile: Hostile, model: str = repository.MAIN, arrays: Any = None) -> Self:
        """Return a request to this attack's kind of path."""
        rows = repository.rows_for(model) if arrays is None else arrays
        if hostile.kind == repository.CALL:
            return cls.call(hostile, INFER, repository.call(model, rows))
        method, sent = repository.encode(hostile.kind, model, rows)
        given = {name.lower(): value for name, value in sent.headers.items()}
        return cls._made(hostile, method, sent.path, sent.body, given)

    @classmethod
    def call(
        cls, hostile: Hostile, path: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> Self:
        """Return a call by gRPC, whose body has the frames of its messages."""
        given = {"content-type": "application/grpc", "te": "trailers", **(more or {})}
        return cls._made(hostile, "POST", path, body, given)

    @classmethod
    def _made(
        cls, hostile: Hostile, method: str, path: str, body: bytes, given: Mapping[str, str]
    ) -> Self:
        token = {"authorization": f"Bearer {hostile.token}"} if hostile.token else {}
        scheme = "http" if hostile.tls is None else "https"
        pseudo = [(":method", method), (":scheme", scheme), (":path", path), (":authority", "x")]
        return cls(block([*pseudo, *given.items(), *token.items()]), body)

    def opening(self, stream: int) -> bytes:
        """Return the headers, with a body to come."""
        return frame(HEADERS, END_HEADERS, stream, self.head)

    def whole(self, stream: int) -> bytes:
        """Return headers and body."""
        if not self.body:
            return frame(HEADERS, END_HEADERS | END_STREAM, stream, self.head)
        pieces = [
            self.body[start : start + LARGEST_FRAME]
            for start in range(0, len(self.body), LARGEST_FRAME)
        ]
        frames = [
            frame(DATA, END_STREAM if number == len(pieces) else 0, stream, piece)
            for number, piece in enumerate(pieces, 1)
        ]
        return self.opening(stream) + b"".join(frames)


class Peer:
    """A connection over HTTP/2; the frames that came back stay in `heard`."""

    def __init__(self, hostile: Hostile, *, receive: int = 0, **values: int) -> None:
        """Connect, and send the preface and the given settings.

        Args:
            hostile: the attack.
            receive: the size of the receive buffer; 0: the system's.
            values: the settings of HTTP/2.
        """
        self.sock = hostile.connect(alpn="h2", receive=receive)
        self.heard: list[Frame] = []
        self.over = False
        """Whether the service has ended the connection."""
        # What the service lets in: of each new stream, and more of a stream or, by 0, of all.
        self._window = WINDOW
        self._granted: Counter[int] = Counter()
        self._sent = 0
        self._unread = bytearray()
        self._last = -1
        self.send(PREFACE + settings(**values))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()

    def stream(self) -> int:
        """Return the number of a new stream."""
        self._last += 2
        return self._last

    def send(self, data: bytes) -> bool:
        """Send all of the bytes; return false if the service does not take them."""
        return send(self.sock, data)

    def hear(self, seconds: float, until: Sequence[int] = ()) -> list[Frame]:
        """Read for some seconds, or until a frame of some kinds or the end; return what came."""
        deadline, first = time.monotonic() + seconds, len(self.heard)
        while not self.over and (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(max(left, 0.001))
            try:
                self._take(self.sock.recv(MAX_READ))
            except TimeoutError:
                break
            except CUT:
                self.over = True
            if any(one.kind in until for one in self.heard[first:]):
                break
        return self.heard[first:]

    def answer(self, asking: Asking, seconds: float = FLOOD_SECONDS) -> bytes:
        """Send a request, and return the content of its answer."""
        stream, deadline = self.stream(), time.monotonic() + seconds
        self.send(asking.whole(stream))
        content, ended = b"", False
        while not (ended or self.over) and (left := deadline - time.monotonic()) > 0:
            for one in self.hear(left, until=(DATA, HEADERS)):
                if one.stream == stream and one.kind in (DATA, HEADERS):
                    content += one.payload if one.kind == DATA else b""
                    ended = bool(one.flags & END_STREAM)
        return content

    def upload(self, asking: Asking, seconds: float) -> list[Frame]:
        """Send a request within the windows, however large it is; return what came last."""
        stream, deadline, sent = self.stream(), time.monotonic() + seconds, 0
        self.send(asking.opening(stream))
        came = self.hear(seconds, until=(SETTINGS,))
        while not self.over and (left := deadline - time.monotonic()) > 0:
            room = min(
                self._window + self._granted[stream] - sent,
                WINDOW + self._granted[0] - self._sent,
            )
            if room <= 0:
                came = self.hear(left, until=(WINDOW_UPDATE, RST_STREAM, HEADERS))
                if any(one.kind in (RST_STREAM, HEADERS) for one in came):
                    break
                continue
            piece = asking.body[sent : sent + min(room, LARGEST_FRAME)]
            sent += len(piece)
            self._sent += len(piece)
            is_last = sent == len(asking.body)
            self.send(frame(DATA, END_STREAM if is_last else 0, stream, piece))
            if is_last:
                return self.hear(left, until=(RST_STREAM, HEADERS))
        return came

    def flood(self, pieces: Iterable[bytes], seconds: float) -> None:
        """Send pieces as fast as they are taken, and read what comes, until they or time end."""
        self.sock.setblocking(False)
        deadline, waiting = time.monotonic() + seconds, memoryview(b"")
        left = iter(_gathered(pieces))
        while not self.over and time.monotonic() < deadline:
            self._drain()
            if not waiting:
                waiting = memoryview(next(left, b""))
            if not waiting:
                return
            try:
                waiting = waiting[self.sock.send(waiting) :]
            except WOULD_BLOCK:
                select.select([self.sock], [self.sock], [], 0.01)
            except CUT:
                self._drain()
                self.over = True

    def check_over(self, seconds: float = FLOOD_SECONDS) -> set[int]:
        """Check that the service has ended the connection, or does so now; return its reasons."""
        self.hear(seconds)
        reasons = {
            struct.unpack(">I", one.payload[4:8])[0] for one in self.heard if one.kind == GOAWAY
        }
        assert self.over, f"expected the connection to be ended; received GOAWAY {reasons}"
        return reasons

    def check_calmed(self) -> None:
        """Check that the service has ended the connection because of a flood."""
        # A connection that is closed while more arrives may lose the frame with the reason.
        assert (reasons := self.check_over()) <= {ENHANCE_YOUR_CALM}, f"received GOAWAY {reasons}"

    def _drain(self) -> None:
        """Read what is there."""
        try:
            while not self.over:
                self._take(self.sock.recv(MAX_READ))
        except WOULD_BLOCK:
            pass
        except CUT:
            self.over = True

    def _take(self, data: bytes) -> None:
        if not data:
            self.over = True
        self._unread += data
        while len(self._unread) >= HEAD_SIZE:
            end = HEAD_SIZE + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                break
            kind, flags, stream = struct.unpack(">BBI", self._unread[3:HEAD_SIZE])
            one = Frame(kind, flags, stream, bytes(self._unread[HEAD_SIZE:end]))
            del self._unread[:end]
            self.heard.append(one)
            if kind == WINDOW_UPDATE:
                self._granted[stream] += int.from_bytes(one.payload, "big")
            elif kind == SETTINGS:
                found = dict(struct.iter_unpack(">HI", one.payload))
                self._window = found.get(INITIAL_WINDOW_SIZE, self._window)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in larger pieces."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= PIECE:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
