"""Streams of HTTP/2 without a socket, and frames of any kind."""

from __future__ import annotations

import hpack

from service.http.http2 import frames
from service.http.http2.streams import Streams

HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/p"), (b":authority", b"a")]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return any frame, right or wrong."""
    return frames.header(len(payload), kind, flags, stream) + payload


def request(stream: int, *more: tuple[bytes, bytes], ends: bool = False) -> bytes:
    """Return the head of a request, whose block depends on no other."""
    block = hpack.Encoder().encode([*HEAD, *more], huffman=False)
    flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
    return frame(frames.HEADERS, flags, stream, block)


class Recorder:
    """A receiver that notes what streams tell it."""

    def __init__(self):
        self.events = []
        self.sent = b""

    def write(self, data):
        """Take bytes for the client."""
        self.sent += data

    def faults(self):
        """Return the streams that were reset, and 0 if the connection was ended."""
        found, at = [], 0
        while at < len(self.sent):
            high, low, kind, _, stream = frames.HEADER.unpack_from(self.sent, at)
            if kind in (frames.RST_STREAM, frames.GOAWAY):
                found.append(stream)
            at += frames.HEADER_SIZE + (high << 8 | low)
        return found

    def now(self):
        """Return no time."""
        return 0.0

    def opened(self, stream):
        """Note a request."""
        head = stream.header_block
        self.events.append(("request", stream.id, head.method, head.target, head.headers))

    def accept_body(self, stream, content):
        """Note a part of a body."""
        self.events.append(("data", stream.id, content))

    def ended(self, stream):
        """Note the end of a request."""
        self.events.append(("ended", stream.id))

    def gone(self, stream):
        """Ignore the end of a stream, which `faults` shows."""

    def failed(self, fault):
        """Ignore the end of the connection, which `faults` shows."""


BEGIN = [frames.PREFACE, frames.settings({}), frames.SETTINGS_ACK]


def streams():
    """Return streams that have had nothing yet, and their receiver."""
    recorder = Recorder()
    new = Streams(recorder)
    new.begin()
    return new, recorder
