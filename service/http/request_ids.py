"""A name for each request: the one that it comes with, or one that is made.

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
# What is being answered in this thread or task, for whatever is logged meanwhile; empty: nothing.
current: ContextVar[str] = ContextVar("request_id", default="")

# Neither blanks, nor quotes, nor anything that a log or a header could be led astray by.
_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)


def name(request_id: str, traceparent: str) -> str:
    """What a request is called.

    Args:
        request_id: its X-Request-ID; empty without one.
        traceparent: the header of that name; empty without one.
    """
    if request_id and _ID.fullmatch(request_id):
        return request_id
    if traceparent:
        found = _TRACEPARENT.fullmatch(traceparent)
        # Version 00 ends there; what a later one adds is its own.
        if found is not None and (found["more"] is None or found["version"] != "00"):
            return found["trace"]
    return make()


def of(headers: Mapping[bytes, bytes]) -> str:
    """What a request is called, by its headers as they came, with names in lower case."""
    request_id, traceparent = headers.get(b"x-request-id"), headers.get(b"traceparent")
    if request_id is None and traceparent is None:
        return make()
    return name((request_id or b"").decode("latin-1"), (traceparent or b"").decode("latin-1"))


def make() -> str:
    """A new name, as random as a trace-id has to be; it is no secret, so that may be cheap."""
    # Python seeds this anew in a fork: no two workers make the same ones.
    return f"{getrandbits(128):032x}"


def line(request_id: str) -> bytes:
    """The header that tells a caller the name, as it goes out."""
    return f"x-request-id: {request_id}\r\n".encode("latin-1")


def line_of(headers: Mapping[bytes, bytes]) -> bytes:
    """`line` of what a request is called, by its headers as `of` takes them."""
    if b"x-request-id" in headers or b"traceparent" in headers:
        return line(of(headers))
    return b"x-request-id: %032x\r\n" % getrandbits(128)
