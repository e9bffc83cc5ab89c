"""The metadata of a call as the headers that the pipeline reads.

    grpc-timeout   ─▶ X-Request-Timeout
    grpc-encoding  ─▶ Content-Encoding, if the message is compressed
                   ─▶ Accept-Encoding, if the client takes a compressed answer as well

So a compressed message is inflated where bodies are, within the same limits; and its answer is
compressed if it is worth it.  All other metadata stay as they are: `authorization`, `x-request-id`,
`traceparent` and `x-server-timing` mean what they mean as headers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from service.errors import TooLate
from service.http.grpc.status import INTERNAL, UNIMPLEMENTED, BadCall
from service.wire.body import wrong

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ENCODINGS = (b"gzip", b"deflate")
# The metadata that are changed if they are there.
_CHANGED = frozenset((b"content-encoding", b"accept-encoding", b"grpc-timeout"))
_PROTO = b"application/grpc+proto"
ACCEPTED = "identity, deflate, gzip"


def check_form(method: bytes, metadata: Mapping[bytes, bytes]) -> None:
    """Check that a call is a POST, and that its messages are protobuf.

    Raises:
        BadCall: it is another method of HTTP, or they are something else.
    """
    if method != b"POST":
        received = method.decode("latin-1")
        raise BadCall(UNIMPLEMENTED, 405, f"gRPC: expected POST, received {received}")
    content_type = metadata.get(b"content-type", b"")
    if content_type == b"application/grpc":
        return
    if content_type.partition(b";")[0].rstrip() not in (b"application/grpc", _PROTO):
        received = content_type.decode("latin-1")
        message = f"content-type: expected application/grpc or {_PROTO.decode()}"
        raise BadCall(UNIMPLEMENTED, 415, f"{message}, received {received}")


def headers_of(metadata: Mapping[bytes, bytes], *, compressed: bool) -> Mapping[bytes, bytes]:
    """Return the headers for the pipeline.

    Args:
        metadata: the headers of the request.
        compressed: whether its message is.

    Raises:
        TooLate: the client's deadline is over.
        BadRequest: grpc-timeout is no time.
        BadCall: the message's encoding is unknown, or not said.
    """
    if not compressed and not _CHANGED.intersection(metadata):
        return metadata
    headers = dict(metadata)
    # They belong to HTTP, and would apply to the framing of the messages too.
    headers.pop(b"content-encoding", None)
    headers.pop(b"accept-encoding", None)
    timeout = headers.get(b"grpc-timeout")
    if timeout is not None:
        headers[b"x-request-timeout"] = b"%.9g" % _seconds(timeout)
    if compressed:
        encoding = headers[b"content-encoding"] = _encoding(headers)
        accepted = headers.get(b"grpc-accept-encoding", encoding)
        if b"gzip" in accepted.replace(b" ", b"").split(b","):
            headers[b"accept-encoding"] = b"gzip"
    return headers


def _seconds(timeout: bytes) -> float:
    """Return the seconds of grpc-timeout."""
    match = _TIMEOUT.fullmatch(timeout)
    if match is None:
        expected = "at most 8 digits and one of H, M, S, m, u and n"
        raise wrong("grpc-timeout", expected, repr(timeout.decode("latin-1")))
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not seconds:
        raise TooLate("request: expected some time to run it in (grpc-timeout), received none")
    return seconds


def _encoding(metadata: Mapping[bytes, bytes]) -> bytes:
    """Return the encoding of a compressed message."""
    encoding = metadata.get(b"grpc-encoding", b"").strip().lower()
    if encoding in (b"", b"identity"):
        expected = "grpc-encoding to say how, since the prefix of the message says that it is"
        received = "identity" if encoding else "none"
        raise BadCall(
            INTERNAL, 400, f"compressed message: expected {expected}, received {received}"
        )
    if encoding not in _ENCODINGS:
        received = encoding.decode("latin-1")
        message = f"grpc-encoding: expected one of {ACCEPTED}, received {received}"
        raise BadCall(UNIMPLEMENTED, 415, message, (("grpc-accept-encoding", ACCEPTED),))
    return encoding
