"""Request IDs: the one that a client sends, or a new one.

X-Request-ID, if it is well formed ─▶ else the trace-id of a traceparent (W3C) ─▶ else random
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from random import getrandbits
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = "X-Request-ID"
# The ID of the request that this thread or task is answering, for log lines; empty if none is.
current: ContextVar[str] = ContextVar("request_id", default="")

# No blanks, quotes or other characters that could forge a log line or a header.
_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)


def name(request_id: str, traceparent: str) -> str:
    """Return the ID of a request; a new one if its headers have none.

    Args:
        request_id: its X-Request-ID header; empty without one.
        traceparent: its traceparent header; empty without one.
    """
    if request_id and _ID.fullmatch(request_id):
        return request_id
    if traceparent:
        match = _TRACEPARENT.fullmatch(traceparent)
        # Version 00 ends after the flags; later versions may add fields.
        if match is not None and (match["more"] is None or match["version"] != "00"):
            return match["trace"]
    return make()


def of(headers: Mapping[bytes, bytes]) -> str:
    """Return the ID of a request, by its headers, whose names are in lower case."""
    request_id, traceparent = headers.get(b"x-request-id"), headers.get(b"traceparent")
    if request_id is None and traceparent is None:
        return make()
    return name((request_id or b"").decode("latin-1"), (traceparent or b"").decode("latin-1"))


def make() -> str:
    """Return a new ID, as random as a trace-id; it is not a secret, so a cheap source is enough."""
    # Python seeds its generator anew in a fork, so no two workers make the same IDs.
    return f"{getrandbits(128):032x}"


def line(request_id: str) -> bytes:
    """Return the header line that tells a client the request ID."""
    return f"x-request-id: {request_id}\r\n".encode("latin-1")


def line_of(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the header line for the ID of a request, by its headers as `of` takes them."""
    if b"x-request-id" in headers or b"traceparent" in headers:
        return line(of(headers))
    return b"x-request-id: %032x\r\n" % getrandbits(128)
