"""CORS: the headers that let pages of other origins read answers in a browser.

The rules are those of the Fetch standard.  The service reads no cookies: a page sends its token
itself, so no answer allows credentials.
"""

from __future__ import annotations

import re

EVERY = "*"
MAX_AGE = 600
# The request headers that pages may send, and the answer headers that they may read, besides those
# that browsers always allow.
_REQUEST_HEADERS = (
    "Authorization, Content-Encoding, Content-Type, Inference-Header-Content-Length, traceparent, "
    "X-Request-ID, X-Request-Timeout, X-Server-Timing"
)
_ANSWER_HEADERS = (
    "Content-Encoding, Inference-Header-Content-Length, Retry-After, Server-Timing, "
    "WWW-Authenticate, X-Request-ID"
)
# An origin as browsers write it: without a path, capitals or a default port.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")
_DEFAULT_PORT = re.compile(r"http:.*:80|https:.*:443")
EXPECTED = (
    "origins such as https://app.example.com with commas in between, without paths, capitals and "
    f"the ports 80 and 443, or {EVERY}"
)

Headers = tuple[tuple[str, str], ...]


def parse(text: str) -> tuple[str, ...]:
    """Return the origins in a list that is separated by commas or blanks.

    Raises:
        ValueError: the list has an item that no browser would send as an origin.
    """
    origins = tuple(dict.fromkeys(text.replace(",", " ").split()))
    for origin in origins:
        if origin != EVERY and (not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin)):
            raise ValueError(f"expected {EXPECTED}, received {origin!r}")
    return origins


def headers(origin: str, allowed: tuple[str, ...]) -> Headers:
    """Return the CORS headers of an answer.

    Args:
        origin: the Origin header of the request; empty without one.
        allowed: the origins that may read answers; with `EVERY` among them, all may.
    """
    if not allowed:
        return ()
    if EVERY in allowed:
        return (
            ("Access-Control-Allow-Origin", EVERY),
            ("Access-Control-Expose-Headers", _ANSWER_HEADERS),
        )
    # A cache must not give the answer for one origin to another, so all answers have this header.
    vary = ("Vary", "Origin")
    if origin not in allowed:
        return (vary,)
    return (
        vary,
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", _ANSWER_HEADERS),
    )


def preflight(method: str, origin: str, asked: str, allowed: tuple[str, ...]) -> Headers | None:
    """Return the headers that answer a preflight request; `None` for any other request.

    Args:
        method: the method of the request.
        origin: its Origin header; empty without one.
        asked: its Access-Control-Request-Method header; empty without one.
        allowed: the origins that may read answers, as for `headers`.
    """
    if method != "OPTIONS" or not asked or not (EVERY in allowed or origin in allowed):
        return None
    return (
        *headers(origin, allowed),
        ("Access-Control-Allow-Methods", "GET, POST"),
        ("Access-Control-Allow-Headers", _REQUEST_HEADERS),
        ("Access-Control-Max-Age", str(MAX_AGE)),
    )


def lines(origin: str, allowed: tuple[str, ...]) -> bytes:
    """Return the CORS headers of an answer as header lines; see `headers`."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers(origin, allowed)).encode()
