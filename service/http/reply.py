"""A dialect's replies as HTTP: header lines, and the body, compressed if the client accepts it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from service.http import content_encoding
from service.http.content_encoding import JSON
from service.wire.grpc_status import CONTENT_TYPE as GRPC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.errors import RequestError
    from service.wire.dialect import Dialect, Reply


def encode_reply(reply: Reply, headers: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return the body and the header lines of a reply to a request with `headers`."""
    content, content_type, more = reply
    lines = JSON
    if content_type != "application/json" or more:
        lines = _typed(content_type)
        if more:
            lines += "".join(f"{name}: {value}\r\n" for name, value in more).encode("latin-1")
    accepted = headers.get(b"accept-encoding")
    if accepted is not None:
        smaller = content_encoding.compress(content, accepted.decode("latin-1"))
        if smaller is not None:
            return smaller, lines + b"content-encoding: gzip\r\n"
    return content, lines


@lru_cache(maxsize=64)
def _typed(content_type: str) -> bytes:
    """Return the header lines of a content type."""
    lines = f"content-type: {content_type}\r\n".encode("latin-1")
    # gRPC has a way of its own to say which encodings a client accepts.
    return lines if content_type == GRPC else lines + b"vary: Accept-Encoding\r\n"


def encode_error(
    dialect: Dialect, error: RequestError, headers: Mapping[bytes, bytes]
) -> tuple[bytes, bytes]:
    """Return the body and the header lines of an error.

    Args:
        dialect: the protocol of the request.
        error: the error; its headers, such as Retry-After, are among the lines.
        headers: the headers of the request.
    """
    content, lines = encode_reply(dialect.encode_error(error), headers)
    lines += "".join(f"{name}: {value}\r\n" for name, value in error.headers).encode()
    return content, lines
