"""A parser of HTTP requests on llhttp, stricter than llhttp, which bounds all that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import httptools

from service.errors import HTTPError
from service.http.request import Client, Request
from service.http.response import KEEP_ALIVE

if TYPE_CHECKING:
    from service.errors import RequestError

MAX_HEADER_BYTES = 64 * 1024
# A body in more parts than this is gathered in one buffer: a small chunk takes less memory than
# the object that holds it.
MAX_PARTS = 64
# The bytes of chunk framing that each byte of a body may bring; a chunk of one byte has five.
_MAX_FRAMING = 8
_PROTOCOL = b" HTTP/"
_SHORTEST_METHOD = len(b"POST ")
# The headers that are removed from a request that offers another protocol.
_OFFER = (b"upgrade", b"connection", b"http2-settings", b"expect")


class Receiver(Client, Protocol):
    """The connection that requests are parsed for."""

    def begin_request(self) -> None:
        """Note that a request has begun."""

    def accept_headers(self, size: int) -> None:
        """Refuse a body that will not be read, before it is sent.

        Args:
            size: the Content-Length; 0 without one.
        """

    def accept_body(self, size: int, total: int) -> bool:
        """Make room for a part of a body, or refuse the request.

        Args:
            size: the bytes of this part.
            total: the bytes of the body so far, with this part.
        """

    def accept_request(self, request: Request) -> None:
        """Answer a complete request."""

    def refuse(self, error: RequestError) -> None:
        """Answer with an error, and call the parser's `stop`."""


class RequestParser:
    """The requests of one connection, one after another."""

    def __init__(self, receiver: Receiver) -> None:
        """Parse for `receiver`."""
        self._receiver = receiver
        self._llhttp = httptools.HttpRequestParser(self)
        self.stopped = False
        """True once a request was refused: nothing after it is parsed."""
        self.in_request = False
        self.version = ""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.received = 0
        """The bytes of a request, without the chunk that it began in."""
        self._in_headers = False
        self._header_bytes = 0
        # The chunks of the current header block so far; the first may begin before it.
        self._block = b""
        self._length = 0
        self._parts: list[bytes] = []
        # The bytes after the first `MAX_PARTS` parts.
        self._rest = bytearray()
        self._size = 0

    @property
    def missing(self) -> int:
        """The bytes of a body that are still to come; 0 or less if none were announced."""
        return self._length - self._size if self.in_request and not self._in_headers else 0

    def count(self, size: int) -> bool:
        """Count `size` bytes more of a request that has begun, or refuse it.

        This bounds chunk framing and trailers, which the bounds of the body do not count.
        """
        self.received += size
        if self.received <= size + MAX_HEADER_BYTES + _MAX_FRAMING * self._size:
            return True
        message = (
            "body: expected larger chunks or shorter trailers, "
            f"received over {MAX_HEADER_BYTES} bytes of chunk framing"
        )
        self._receiver.refuse(HTTPError(400, message))
        return False

    def feed(self, data: bytes) -> None:
        """Parse bytes; errors in them are answered by `Receiver.refuse`."""
        while data:
            if self._in_headers or not self.in_request:
                self._header_bytes += len(data)
            self._block = self._block + data if self._in_headers else data
            rest = b""
            try:
                self._llhttp.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                rest = self._decline_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                message = f"request: expected HTTP/1.1, received something else: {error}"
                self._receiver.refuse(HTTPError(400, message))
            # Not before parsing: the chunk that ends a header block may also have a long body.
            if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
                message = f"headers: expected at most {MAX_HEADER_BYTES} bytes, received more"
                self._receiver.refuse(HTTPError(431, message))
            if not self._in_headers:
                self._block = b""
            data = b"" if self.stopped else rest

    def begun(self) -> Request:
        """Return the request that has begun, without its body; an empty one between two requests.

        Between them, the parser still has the target and the headers of the last one.
        """
        if not (self.in_request and self.target):
            return Request(b"", "1.1", b"", {}, b"", False, self._receiver)
        method, version = self._llhttp.get_method(), "1.1" if self._in_headers else self.version
        return Request(method, version, self.target, self.headers, b"", False, self._receiver)

    def stop(self) -> int:
        """Stop parsing; return the number of bytes of the body that are dropped."""
        self.stopped = True
        return self._drop_body()

    def abandon(self) -> int:
        """Drop an unfinished request; return the number of bytes of its body that are dropped."""
        self.in_request = False
        return self._drop_body()

    def _drop_body(self) -> int:
        size = sum(map(len, self._parts)) + len(self._rest)
        self._parts, self._rest = [], bytearray()
        return size

    def _decline_upgrade(self, rest: bytes) -> bytes:
        """Return the bytes to parse in place of a request that offers another protocol.

        After such an offer, of HTTP/2 for example, llhttp leaves the rest of the connection to
        that protocol.  So a new parser is fed the header block without the offer.
        """
        method = self._llhttp.get_method()
        if method == b"CONNECT":
            message = "request: expected no tunnel, received CONNECT, which is not supported"
            self._receiver.refuse(HTTPError(400, message))
            return b""
        self._llhttp = httptools.HttpRequestParser(self)
        # A client that waits for 100 Continue has received it.
        lines = [b"%s %s HTTP/1.1" % (method, self.target)]
        lines += [b"%s: %s" % line for line in self.headers.items() if line[0] not in _OFFER]
        return b"\r\n".join([*lines, b"", b""]) + rest

    # llhttp calls these.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.in_request = self._in_headers = True
        self.target = b""
        self.headers = {}
        self._parts = []
        self._size = self.received = 0
        self._receiver.begin_request()

    def on_url(self, url: bytes) -> None:
        """Add a piece of the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; ignore trailers, which come after the body."""
        if not self._in_headers:
            return
        name = name.lower()
        # llhttp keeps trailing whitespace, which is not part of the value (RFC 9110, 5.5).
        value = value.rstrip(b" \t")
        former = self.headers.get(name)
        if former is not None and name == b"host":
            self._receiver.refuse(HTTPError(400, "Host: expected one, received several"))
        self.headers[name] = value if former is None else former + b"," + value

    def on_headers_complete(self) -> None:
        """Check what HTTP/1.1 requires of a header block, and have the receiver check the rest."""
        self._in_headers = False
        self._header_bytes = 0
        length = self.headers.get(b"content-length")
        self._length = 0 if length is None else int(length)
        self.version = self._llhttp.get_http_version()
        # llhttp also takes other versions, and other protocols that look like HTTP.  The first
        # test, for POST, is there for speed: it looks in one place only.
        if self.version not in KEEP_ALIVE or not (
            self._block.startswith(_PROTOCOL, len(self.target) + _SHORTEST_METHOD)
            or self.target + _PROTOCOL in self._block
        ):
            message = "request: expected HTTP/1.1, received another protocol, or another version"
            self._receiver.refuse(HTTPError(400, message))
        elif b"host" not in self.headers and self.version == "1.1":
            self._receiver.refuse(HTTPError(400, "Host: expected one, received none"))
        else:
            self._receiver.accept_headers(self._length)

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        if self.stopped:
            return
        self._size += len(body)
        if not self._receiver.accept_body(len(body), self._size):
            return
        if len(self._parts) < MAX_PARTS:
            self._parts.append(body)
        else:
            self._rest += body

    def on_message_complete(self) -> None:
        """Hand over the request."""
        if self._llhttp.should_upgrade():
            return
        self.in_request = False
        if self.stopped:
            return
        parts, rest = self._parts, self._rest
        self._parts = []
        if rest:
            self._rest = bytearray()
        self._receiver.accept_request(
            Request(
                self._llhttp.get_method(),
                self.version,
                self.target,
                self.headers,
                parts[0] if len(parts) == 1 and not rest else b"".join((*parts, rest)),
                self._llhttp.should_keep_alive(),
                self._receiver,
            )
        )
