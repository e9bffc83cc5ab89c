"""Content types and content encodings: how bodies and answers are typed and compressed."""

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
# An answer of fewer bytes is not worth compressing: it fits into one packet either way.
SMALLEST_GZIP = 1024
# zlib's window bits for each content encoding that a body may have; RFC 9110's deflate is zlib's
# own format.
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_CLAIM = "as Content-Encoding says"


def read(
    body: bytes, content_type: str, encoding: str, max_body: int, kinds: tuple[str, ...]
) -> bytes:
    """Return the body of a request, inflated if it is compressed.

    Args:
        body: the bytes as sent.
        content_type: the Content-Type header; empty without one.
        encoding: the Content-Encoding header; empty without one.
        max_body: the largest body, in bytes, both as sent and once inflated.
        kinds: the content types that are accepted; if there are none, any type is.

    Raises:
        NotJSON: the content type or the content encoding is not accepted.
        TooLarge: the body has more than `max_body` bytes, or inflates to more.
        BadRequest: the body is not compressed as Content-Encoding says.
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
        # A media type with the suffix +json is JSON (RFC 6839).
        kind = "application/json"
    return kind in kinds and options.get("charset", "utf-8") in ("utf-8", "utf8")


def beginning(body: bytes, encoding: str, size: int) -> bytes:
    """Return up to `size` bytes of what the beginning of a compressed body inflates to.

    Raises:
        BadRequest: it is not compressed with `encoding`, which is gzip or deflate.
    """
    return _start(zlib.decompressobj(wbits=_WINDOWS[encoding]), body, encoding, size)


def _inflate(body: bytes, encoding: str, max_body: int) -> bytes:
    inflater = zlib.decompressobj(wbits=_WINDOWS[encoding])
    inflated = _start(inflater, body, encoding, max_body + 1)
    if len(inflated) > max_body:
        raise too_large(max_body, " once inflated")
    if not inflater.eof:
        raise wrong("body", f"{encoding}, {_CLAIM}", "only the beginning of it")
    if inflater.unused_data:
        received = f"{len(inflater.unused_data)} bytes after its end"
        raise wrong("body", f"{encoding} of one piece, {_CLAIM}", received)
    return inflated


def _start(inflater: zlib._Decompress, body: bytes, encoding: str, size: int) -> bytes:
    try:
        return inflater.decompress(body, size)
    except zlib.error as error:
        raise wrong("body", f"{encoding}, {_CLAIM}", "bytes that are not") from error


def too_large(max_body: int, when: str = "") -> TooLarge:
    """Return the error for a body that is over the limit.

    Args:
        max_body: the limit in bytes.
        when: added to the message, such as " once inflated".
    """
    limit = f"body: expected at most {max_body} bytes (TRICEPS_MAX_BODY)"
    return TooLarge(f"{limit}, received more{when}; split the request")


def compress(content: bytes, accepted: str) -> bytes | None:
    """Return an answer as gzip; `None` if the client does not accept gzip, or it is not worth it.

    Args:
        content: the answer.
        accepted: the request's Accept-Encoding header; empty without one.
    """
    if len(content) < SMALLEST_GZIP or not _takes_gzip(accepted):
        return None
    # Level 1, since the service's time costs more than the last few bytes; no time stamp, so that
    # equal answers have equal bytes.
    return gzip.compress(content, compresslevel=1, mtime=0)


@lru_cache(maxsize=64)
def _takes_gzip(accepted: str) -> bool:
    return parse_accept_header(accepted, Accept)["gzip"] > 0
