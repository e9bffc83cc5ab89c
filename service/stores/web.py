"""https://: one file of a web server, by ranges of its bytes where the server has them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import netrc
import os
import re
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from service import __version__
from service.errors import printable
from service.repository.publish import FILE
from service.stores.store import Entry, Interrupted, Offer, Reading, Replaced, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

    Answer = http.client.HTTPResponse

# A server that sends nothing for so long has stalled.
STALLED_SECONDS = 30
_PIECE = 2**18
# The characters that a path or a query may have as they are.
_SAFE = "/%?:@!$&'()*+,;=~-._"
# Statuses after which another attempt may succeed.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")


class Web:
    """A file of a web server."""

    def __init__(self, url: str, shown: str, number: str | None) -> None:
        """Keep the URL, without a request.

        Args:
            url: the URL, which may have secrets.
            shown: the URL without them, for messages.
            number: the number of the version, if the URL names it.
        """
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        # What is escaped already stays as it is.
        path, query = quote(parts.path, _SAFE), quote(parts.query, _SAFE)
        self._url = parts._replace(netloc=host, path=path, query=query, fragment="").geturl()
        self._shown, self._number = shown, number
        self._headers = {
            "User-Agent": f"triceps/{__version__}",
            # A length and a digest are those of the file, and not of its compressed form.
            "Accept-Encoding": "identity",
        }
        self._authorization = _authorization(parts.username, parts.password, parts.hostname)
        self._opener = _opener()

    def look(self) -> Offer:
        """Return the file by its headers.

        It asks for the first byte, since a signed URL may allow GET and not HEAD.
        """
        with contextlib.closing(self._ask({"Range": "bytes=0-0"}, {416})) as answer:
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
        answer = self._ask(asked, {416})
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
            raise StoreError(
                f"{self._shown}: expected a Content-Length, so that a cut connection is noticed, "
                "received none: --sha256 DIGEST makes sure of the content"
            )
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            return Reading(0, self._pieces(answer))
        if place is None or int(place[1]) != start or place[3] not in ("*", str(entry.size)):
            answer.close()
            received = printable(headers.get("Content-Range", "none"))[:80]
            raise StoreError(
                f"{self._shown}: expected the bytes from {start} of {entry.size}, received "
                f"Content-Range: {received}"
            )
        return Reading(start, self._pieces(answer))

    def _ask(self, headers: dict[str, str], allowed: set[int]) -> Answer:
        """Send a request, and return an answer of 200, 206 or an allowed status."""
        request = urllib.request.Request(self._url, headers=self._headers | headers)  # noqa: S310  https alone, by the opener
        if self._authorization:
            # Not sent to another host that the server may redirect to.
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            answer: Any = self._opener.open(request, timeout=STALLED_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code in allowed:
                return error  # type: ignore[return-value]  # it is an answer, too
            error.close()
            raise self._refused(error) from None
        except urllib.error.URLError as error:
            raise Interrupted(f"{self._shown}: cannot be reached: {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            answer.close()
            raise StoreError(
                f"{self._shown}: expected the file as it is, received it compressed "
                f"({printable(answer.headers['Content-Encoding'])[:80]})"
            )
        return answer  # type: ignore[no-any-return]

    def _pieces(self, answer: Answer) -> Iterator[bytes]:
        try:
            with contextlib.closing(answer):
                while piece := answer.read1(_PIECE):
                    yield piece
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error) from error

    def _refused(self, error: urllib.error.HTTPError) -> StoreError:
        message = f"{self._shown}: expected a file, received {error.code}"
        if error.code in _PASSING:
            return Interrupted(message, _after(error.headers))
        if error.code in (401, 403):
            message += (
                ": it needs credentials, or others: a line for the host in ~/.netrc (or in the "
                "file that NETRC names), or a signed URL that is still valid"
            )
        elif 300 <= error.code < 400:  # noqa: PLR2004
            message += ": a redirect is followed from https to https, five times at most"
        return StoreError(message)

    def _broken(self, error: Exception) -> Interrupted:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Interrupted(f"{self._shown}: the connection failed: {printable(what)[:200]}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects of an encrypted request to another one that is encrypted, and no others."""

    max_redirections = 5

    def redirect_request(  # noqa: PLR0913, PLR0917  (as urllib calls it)
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request for the new URL."""
        scheme = urlsplit(newurl).scheme
        if scheme not in (req.type, "https"):
            raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)
        new = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        before = req.get_header("Authorization")
        if new is not None and before and (new.type, new.host) == (req.type, req.host):
            new.add_unredirected_header("Authorization", before)
        return new


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener of HTTP and HTTPS alone: no file, no FTP, no data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _authorization(user: str | None, password: str | None, host: str | None) -> str:
    """Return the header for the credentials in a URL, or else for those in ~/.netrc, if any."""
    if user is None:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            known = netrc.netrc(os.environ.get("NETRC") or None).authenticators(host or "")
            if known is not None:
                user, _, password = known
    else:
        user, password = unquote(user), unquote(password or "")
    if user is None:
        return ""
    return "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()


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


def _after(headers: Message) -> float:
    """Return the seconds that a server asks to wait for."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text[:6])
    with contextlib.suppress(ValueError, TypeError):
        left = parsedate_to_datetime(text) - datetime.now(UTC)
        return max(0.0, left.total_seconds())
    return 0.0
