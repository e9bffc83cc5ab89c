"""An HTTP answer as bytes."""

from __future__ import annotations

from http import HTTPStatus

# Every answer begins with these bytes, so they can be sent before its status is known.
FIRST_BYTES = b"HTTP/1.1 "
# The header line that keeps a connection open, by the HTTP version of the request.  In HTTP/1.1
# connections stay open unless an answer says otherwise.
KEEP_ALIVE = {"1.1": b"", "1.0": b"connection: keep-alive\r\n"}
CLOSE = b"connection: close\r\n"

_STATUS_LINES = {
    status.value: b"%b%d %b\r\n" % (FIRST_BYTES, status.value, status.phrase.encode())
    for status in HTTPStatus
}


def encode(status: int, lines: bytes, content: bytes, length: int) -> bytes:
    """Return an answer as it is sent.

    Args:
        status: the HTTP status.
        lines: its header lines without Content-Length, each with its line end.
        content: the body.
        length: the Content-Length, which for HEAD is not the length of `content`.
    """
    size = b"content-length: %d\r\n\r\n" % length
    return b"".join((_STATUS_LINES[status], lines, size, content))
