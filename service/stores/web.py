"""https://: one file of a web server, by ranges of its bytes where the server has them."""

from __future__ import annotations

import base64
import contextlib
import http
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from service.errors import printable
from service.repository.publish import FILE
from service.stores.client import Client
from service.stores.credentials import web_authorization
from service.stores.store import Entry, Interrupted, Offer, Reading, Replaced, StoreError

if TYPE_CHECKING:
    from email.message import Message

    from service.stores.client import Answer

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")
# The characters that a path or a query may have as they are.
_SAFE = "/%?:@!$&'()*+,;=~-._"
# There is no such range; an answer, too.
_OUTSIDE = frozenset({416})
_CREDENTIALS = (
    "a line for the host in ~/.netrc (or in the file that NETRC names), or a signed URL that is "
    "still valid"
)


class Web:
    """A file of a web server."""

    def __init__(self, url: str, shown: str, number: str | None, authorization: str = "") -> None:
        """Keep the URL, without a request.

        Args:
            url: the URL, which may have secrets.
            shown: the URL without them, for messages.
            number: the number of the version, if the URL names it.
            authorization: the header for the server, in place of the credentials that it is
                known to need.
        """
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        # What is escaped already stays as it is.
        path, query = quote(parts.path, _SAFE), quote(parts.query, _SAFE)
        self._url = parts._replace(netloc=host, path=path, query=query, fragment="").geturl()
        self._shown, self._number = shown, number
        self._authorization = authorization or web_authorization(
            parts.username, parts.password, parts.hostname
        )
        self._client = Client(shown, _CREDENTIALS)

    def look(self) -> Offer:
        """Return the file by its headers.

        It asks for the first byte, since a signed URL may allow GET and not HEAD.
        """
        with contextlib.closing(self._ask({"Range": "bytes=0-0"})) as answer:
            headers = answer.headers
            if answer.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise StoreError(f"{self._shown}: expected a file, received an empty one")
            place = _RANGE.fullmatch(headers.get("Content-Range", ""))
            if place is not None:
                size = None if place[3] == "*" else int(place[3])
            else:
                size = _length(headers)
            tag = headers.get("ETag") or headers.get("Last-Modified") or ""
            return Offer(self._number, (Entry(FILE, self._url, size, tag, _sha256(headers)),))

    def read(self, entry: Entry, start: int) -> Reading:
        """Return the bytes of the file from `start` on, or all, if the server has no ranges."""
        asked = {}
        # A weak tag, or a time, may be that of two files.
        if start and entry.tag.startswith('"'):
            asked = {"Range": f"bytes={start}-", "If-Range": entry.tag}
        answer = self._ask(asked)
        headers = answer.headers
        place = _RANGE.fullmatch(headers.get("Content-Range", ""))
        tag = headers.get("ETag") or headers.get("Last-Modified") or ""
        size = entry.size if answer.status == http.HTTPStatus.PARTIAL_CONTENT else _length(headers)
        if answer.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or (
            tag != entry.tag or (None not in (size, entry.size) and size != entry.size)
        ):
            answer.close()
            raise Replaced(f"{self._shown}: was replaced while it was read")
        if size is None and not answer.chunked and entry.sha256 is None:
            answer.close()
            # A connection that was cut within the headers looks the same.
            raise Interrupted(
                f"{self._shown}: expected a Content-Length, so that a cut connection is noticed, "
                "received none: --sha256 DIGEST makes sure of the content"
            )
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            return Reading(0, self._client.pieces(answer))
        if place is None or int(place[1]) != start or place[3] not in ("*", str(entry.size)):
            answer.close()
            received = printable(headers.get("Content-Range", "none"))[:80]
            raise (Interrupted if place is None else StoreError)(
                f"{self._shown}: expected the bytes from {start} of {entry.size}, received "
                f"Content-Range: {received}"
            )
        return Reading(start, self._client.pieces(answer))

    def _ask(self, headers: dict[str, str]) -> Answer:
        return self._client.ask(self._url, headers, self._authorization, _OUTSIDE)


def _length(headers: Message) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() and len(text) < 20 else None  # noqa: PLR2004


def _sha256(headers: Message) -> str | None:
    """Return the digest of the whole file that a server states (RFC 9530), if it does."""
    match = _DIGEST.search(headers.get("Repr-Digest", ""))
    if match is None:
        return None
    with contextlib.suppress(ValueError):
        digest = base64.b64decode(match[1], validate=True)
        return digest.hex() if len(digest) == 32 else None  # noqa: PLR2004
    return None
