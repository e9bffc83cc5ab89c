"""What HTTP does to a body on its way: its type, its compression, both ways."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header, parse_options_header

from service.errors import NotJSON, TooLarge
from service.wire.body import wrong

# The header lines of nearly every answer.
JSON = b"content-type: application/json\r\nvary: Accept-Encoding\r\n"
# Below this an answer is not worth compressing: it fits one packet either way.
SMALLEST_GZIP = 1024
# zlib's word for each encoding that a body may come in; RFC 9110's deflate is what zlib calls zlib.
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def read(
    body: bytes, content_type: str, encoding: str, max_body: int, kinds: tuple[str, ...]
) -> bytes:
    """A request's body, inflated where it came compressed.

    Args:
        body: as sent.
        content_type: the header of that name; empty without one.
        encoding: the Content-Encoding; empty without one.
        max_body: the most bytes that are taken, as sent and once inflated.
        kinds: content types that are read; none: any is.

    Raises:
        NotJSON: it is said to be of another kind, or is compressed in a way that is not read.
        TooLarge: it has more than `max_body` bytes, or inflates to more.
        BadRequest: it is not the gzip it is said to be.
    """
    if len(body) > max_body:
        raise too_large(max_body)
    if not body:
        return body
    if kinds and not _is_one_of(content_type, kinds):
        expected, received = " or ".join(kinds), content_type or "none"
        raise NotJSON(f"Content-Type: expected {expected}, in UTF-8, received {received}")
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOWS:
        raise NotJSON(f"Content-Encoding: expected gzip, deflate or none, received {encoding}")
    return _inflate(body, encoding, max_body)


@lru_cache(maxsize=64)
def _is_one_of(content_type: str, kinds: tuple[str, ...]) -> bool:
    kind, options = parse_options_header(content_type.lower())
    if kind.startswith("application/") and kind.endswith("+json"):
        # A type of one's own that is JSON (RFC 6839).
        kind = "application/json"
    return kind in kinds and options.get("charset", "utf-8") in ("utf-8", "utf8")


def _inflate(body: bytes, encoding: str, max_body: int) -> bytes:
    inflater = zlib.decompressobj(wbits=_WINDOWS[encoding])
    said = "as Content-Encoding says"
    try:
        inflated = inflater.decompress(body, max_body + 1)
    except zlib.error as error:
        raise wrong("body", f"{encoding}, {said}", "bytes that are not") from error
    if len(inflated) > max_body:
        raise too_large(max_body, " once inflated")
    if not inflater.eof:
        raise wrong("body", f"{encoding}, {said}", "only the beginning of it")
    if inflater.unused_data:
        received = f"{len(inflater.unused_data)} bytes after its end"
        raise wrong("body", f"{encoding} of one piece, {said}", received)
    return inflated


def too_large(max_body: int, when: str = "") -> TooLarge:
    """The error for a body that is over the limit."""
    limit = f"body: expected at most {max_body} bytes (TRICEPS_MAX_BODY)"
    return TooLarge(f"{limit}, received more{when}")


def compress(content: bytes, accepted: str) -> bytes | None:
    """An answer as gzip, where its caller takes that and it is worth it; else `None`.

    Args:
        content: the answer.
        accepted: the request's Accept-Encoding; empty without one.
    """
    if len(content) < SMALLEST_GZIP or not _takes_gzip(accepted):
        return None
    # Level 1: the service's time is dearer than the last few bytes.  No time stamp: the same
    # answer is the same bytes.
    return gzip.compress(content, compresslevel=1, mtime=0)


@lru_cache(maxsize=64)
def _takes_gzip(accepted: str) -> bool:
    return parse_accept_header(accepted, Accept)["gzip"] > 0
