"""Requests to web servers, encrypted ones that stay so, and what is wrong with their answers."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from service import __version__
from service.errors import printable
from service.stores.pace import WINDOW_SECONDS, Pace
from service.stores.store import Interrupted, StoreError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from email.message import Message

    Answer = http.client.HTTPResponse

# A server that sends nothing for so long has stalled.
STALLED_SECONDS = 30
_PIECE = 2**18
# Statuses after which another attempt may succeed.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {
    "User-Agent": f"triceps/{__version__}",
    # A length and a digest are those of the file, and not of its compressed form.
    "Accept-Encoding": "identity",
}


class Client:
    """Requests for one source."""

    def __init__(self, shown: str, credentials: str) -> None:
        """Keep the source, and where its credentials may come from, for messages."""
        self._shown, self._credentials = shown, credentials
        self._opener = _opener()

    def ask(
        self,
        url: str,
        headers: Mapping[str, str],
        authorization: str = "",
        allowed: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send a request, and return an answer of 200, 206 or an allowed status.

        Raises:
            Interrupted: another attempt may succeed.
            StoreError: it would not.
        """
        request = urllib.request.Request(url, headers={**_HEADERS, **headers})  # noqa: S310  http and https alone, by the opener
        if authorization:
            # Not sent to another host that the server may redirect to.
            request.add_unredirected_header("Authorization", authorization)
        try:
            answer: Any = self._opener.open(request, timeout=STALLED_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code in allowed:
                return error  # type: ignore[return-value]  # it is an answer, too
            error.close()
            raise self._refused(error) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise StoreError(
                    f"{self._shown}: its certificate is not trusted: {error.reason.verify_message}"
                    "; SSL_CERT_FILE names those that are"
                ) from error
            raise Interrupted(f"{self._shown}: cannot be reached: {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error
        except ValueError:
            # The error has the header, which may be a password.
            raise StoreError(
                f"{self._shown}: the request cannot be sent, since its address, or a credential, "
                f"has a line break or another character that neither may have: {self._credentials}"
            ) from None
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            answer.close()
            raise StoreError(
                f"{self._shown}: expected the file as it is, received it compressed "
                f"({printable(answer.headers['Content-Encoding'])[:80]})"
            )
        return answer  # type: ignore[no-any-return]

    def pieces(self, answer: Answer) -> Generator[bytes]:
        """Yield the body of an answer."""
        try:
            with contextlib.closing(answer):
                while piece := answer.read1(_PIECE):
                    yield piece
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error) from error

    def whole(self, answer: Answer, most: int) -> bytes:
        """Return the body of an answer, which is closed then, up to `most` bytes.

        Raises:
            Interrupted: the connection was cut.
        """
        # Of a connection that was cut within the headers, none of the rest is missed.
        is_bounded = answer.length is not None or answer.chunked
        content = b""
        pace = Pace()
        with contextlib.closing(self.pieces(answer)) as pieces:
            for piece in pieces:
                content += piece
                pace.count(len(piece), self._shown)
                if len(content) >= most:
                    return content[:most]
        if answer.length or not is_bounded:
            raise Interrupted(f"{self._shown}: the connection was cut")
        return content

    def _refused(self, error: urllib.error.HTTPError) -> StoreError:
        message = f"{self._shown}: expected a file, received {error.code}"
        if error.code in _PASSING:
            return Interrupted(message, _after(error.headers))
        if error.code in (401, 403):
            message += f": it needs credentials, or others: {self._credentials}"
        elif 300 <= error.code < 400:  # noqa: PLR2004
            message += ": a redirect is followed from https to https, five times at most"
        return StoreError(message)

    def _broken(self, error: Exception) -> Interrupted:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Interrupted(f"{self._shown}: the connection failed: {printable(what)[:200]}")


def split(url: str) -> SplitResult:
    """Return the parts of a URL that others have named; empty ones if it is none."""
    with contextlib.suppress(ValueError):
        return urlsplit(url)
    return urlsplit("")


class _Answer(http.client.HTTPResponse):
    """An answer whose headers arrive in time: each byte of them may take as long as a timeout."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._connection = sock

    def begin(self) -> None:
        """Read the headers, and those of any answers before, which only ask for patience."""
        timer = threading.Timer(WINDOW_SECONDS, _cut, (self._connection,))
        timer.daemon = True
        timer.start()
        try:
            super().begin()
        finally:
            timer.cancel()
            del self._connection


def _cut(connection: socket.socket) -> None:
    """End a connection: the one below that of TLS, whose other end would have to agree."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _InTime(urllib.request.AbstractHTTPHandler):
    """Connections whose answers are of that kind."""

    def do_open(self, http_class: Any, req: urllib.request.Request, **more: Any) -> Any:
        """Send a request, and return its answer."""
        in_time: Any = type("Connection", (http_class,), {"response_class": _Answer})
        return super().do_open(in_time, req, **more)


class _Http(_InTime, urllib.request.HTTPHandler):
    pass


class _Https(_InTime, urllib.request.HTTPSHandler):
    pass


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
        scheme = split(newurl).scheme
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
        _Http(),
        _Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _after(headers: Message) -> float:
    """Return the seconds that a server asks to wait for."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text[:6])
    with contextlib.suppress(ValueError, TypeError):
        left = parsedate_to_datetime(text) - datetime.now(UTC)
        return max(0.0, left.total_seconds())
    return 0.0
