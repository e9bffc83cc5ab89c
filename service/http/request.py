"""One complete HTTP request, and the way back to its client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from service.http import request_ids

if TYPE_CHECKING:
    from collections.abc import Mapping


class Client(Protocol):
    """The connection that a request came on."""

    @property
    def peer(self) -> str:
        """The address of its other end for the access log; empty if there is none."""

    def is_open(self) -> bool:
        """Return whether the client still waits for an answer."""

    def common(self, headers: Mapping[bytes, bytes], request_id: str = "") -> bytes:
        """Return the header lines that every answer to a request with `headers` has."""

    def respond(
        self, request: Request, status: int, content: bytes, lines: bytes, length: int | None
    ) -> None:
        """Send the answer to the oldest request that has none."""

    def abort(self) -> None:
        """Close at once, and drop what has not been sent."""


@dataclass(slots=True)
class Request:
    """One complete request; `service.exchange.Exchange` to the pipeline.

    Header names are in lower case.  Values of a header that is sent more than once are joined by
    commas.
    """

    method: bytes
    version: str
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool
    caller: Client
    note: Any = field(default=None, kw_only=True)
    """Facts for the access log, kept until the request is answered."""

    @property
    def origin(self) -> Request:
        """The request as it came from the client."""
        return self

    @property
    def protocol(self) -> str:
        """The protocol, for the access log."""
        return f"HTTP/{self.version}"

    @property
    def received(self) -> int:
        """The bytes of the body as it was sent."""
        return len(self.body)

    @property
    def what(self) -> str:
        """The method and the target, for messages and the log."""
        return f"{self.method.decode('latin-1')} {self.target.decode('latin-1')}"

    @property
    def request_id(self) -> str:
        """The request ID that the client sent; where there is none, a new one at each call."""
        return request_ids.of(self.headers)

    def header(self, name: str) -> str:
        """Return a header's value, or an empty string if the request does not have it."""
        value = self.headers.get(name.lower().encode())
        return "" if value is None else value.decode("latin-1")

    def is_open(self) -> bool:
        """Return whether the client still waits for an answer."""
        return self.caller.is_open()

    def common(self, request_id: str = "") -> bytes:
        """Return the header lines that every answer to this request has, such as X-Request-ID."""
        return self.caller.common(self.headers, request_id)

    def respond(self, status: int, content: bytes, lines: bytes, length: int | None = None) -> None:
        """Answer this request.

        Args:
            status: the HTTP status.
            content: the body.
            lines: the header lines, without Date, Connection and Content-Length.
            length: the Content-Length, if that is not the length of `content` (HEAD).
        """
        self.caller.respond(self, status, content, lines, length)

    def abort(self) -> None:
        """Close the connection without an answer."""
        self.caller.abort()
