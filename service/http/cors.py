"""Which pages of other origins may read answers in a browser (CORS, of the Fetch standard).

No cookie is ever looked at: a page has to bring its token itself, so nothing needs credentials.
"""

from __future__ import annotations

import re

EVERY = "*"
MAX_AGE = 600
# What clients send besides what browsers let pass anyway, and what they may read of an answer.
_ASKED = (
    "Authorization, Content-Encoding, Content-Type, Inference-Header-Content-Length, traceparent, "
    "X-Request-ID, X-Request-Timeout, X-Server-Timing"
)
_EXPOSED = (
    "Content-Encoding, Inference-Header-Content-Length, Retry-After, Server-Timing, "
    "WWW-Authenticate, X-Request-ID"
)
# As browsers write it: no path, no capitals, and no port that goes without saying.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")
_SILENT = re.compile(r"http:.*:80|https:.*:443")
EXPECTED = (
    "origins such as https://app.example.com with commas in between, without paths, capitals and "
    f"the ports 80 and 443, or {EVERY}"
)

Headers = tuple[tuple[str, str], ...]


def parse(text: str) -> tuple[str, ...]:
    """The origins of a list with commas or blanks in between.

    Raises:
        ValueError: something is among them that no browser would send.
    """
    origins = tuple(dict.fromkeys(text.replace(",", " ").split()))
    for origin in origins:
        if origin != EVERY and (not _ORIGIN.fullmatch(origin) or _SILENT.fullmatch(origin)):
            raise ValueError(f"expected {EXPECTED}, received {origin!r}")
    return origins


def headers(origin: str, allowed: tuple[str, ...]) -> Headers:
    """What an answer says to the browser of a page.

    Args:
        origin: the header of that name; empty without one.
        allowed: those that may read; `EVERY` among them: all may.
    """
    if not allowed:
        return ()
    if EVERY in allowed:
        return (
            ("Access-Control-Allow-Origin", EVERY),
            ("Access-Control-Expose-Headers", _EXPOSED),
        )
    # A cache must not give the answer for one origin to another, so this is said to all.
    vary = ("Vary", "Origin")
    if origin not in allowed:
        return (vary,)
    return (
        vary,
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", _EXPOSED),
    )


def preflight(method: str, origin: str, asked: str, allowed: tuple[str, ...]) -> Headers | None:
    """What the answer to a browser says that asks beforehand; `None` if this is no such request.

    Args:
        method: of the request.
        origin: the header of that name; empty without one.
        asked: its Access-Control-Request-Method; empty without one.
        allowed: as for `headers`.
    """
    if method != "OPTIONS" or not asked or not (EVERY in allowed or origin in allowed):
        return None
    return (
        *headers(origin, allowed),
        ("Access-Control-Allow-Methods", "GET, POST"),
        ("Access-Control-Allow-Headers", _ASKED),
        ("Access-Control-Max-Age", str(MAX_AGE)),
    )


def lines(origin: str, allowed: tuple[str, ...]) -> bytes:
    """`headers`, as they go out."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers(origin, allowed)).encode()
