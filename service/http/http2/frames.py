"""The frames of HTTP/2 as bytes (RFC 9113, sections 4 and 6).

length (24 bits) ‖ type (8) ‖ flags (8) ‖ stream (1 reserved bit, 31) ‖ payload
"""

from __future__ import annotations

from struct import Struct

# A client begins with these bytes (3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)

# Flags; ACK and END_STREAM are the same bit, in different frames.
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

# Error codes (7).
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT = range(5)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)
ENHANCE_YOUR_CALM = 0xB

# Settings (6.5.2), and their values before any are received.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = range(1, 5)
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6
DEFAULT_TABLE = 4096
DEFAULT_WINDOW = 65535
DEFAULT_FRAME = 16384
LARGEST_FRAME = 2**24 - 1
LARGEST_WINDOW = 2**31 - 1

HEADER = Struct(">HBBBI")
"""The header of a frame: length (the upper 16 bits, then the lower 8), type, flags, stream."""
HEADER_SIZE = HEADER.size
SETTING = Struct(">HI")
NUMBER = Struct(">I")
_TWO = Struct(">II")


def header(size: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the header of a frame whose payload has `size` bytes."""
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join(SETTING.pack(*item) for item in values.items())
    return header(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK = header(0, SETTINGS, ACK, 0)


def window_update(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return header(4, WINDOW_UPDATE, 0, stream) + NUMBER.pack(increment)


def ping_ack(payload: bytes) -> bytes:
    """Return the answer to a PING frame with 8 bytes of payload."""
    return header(8, PING, ACK, 0) + payload


def rst_stream(stream: int, code: int) -> bytes:
    """Return an RST_STREAM frame."""
    return header(4, RST_STREAM, 0, stream) + NUMBER.pack(code)


def goaway(last: int, code: int, message: str = "") -> bytes:
    """Return a GOAWAY frame; `last` is the last stream whose request is or may be answered."""
    payload = _TWO.pack(last, code) + message.encode()
    return header(len(payload), GOAWAY, 0, 0) + payload
