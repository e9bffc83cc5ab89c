"""A request on a stream: its client may give it up, or be answered in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from service.http.request import Client, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.http.http2.stream import Stream


class StreamClient(Client, Protocol):
    """The connection that a stream belongs to."""

    def reset(self, stream: Stream) -> None:
        """End a stream without an answer."""

    def answer_with_trailers(
        self, request: StreamRequest, content: bytes, lines: bytes, trailers: bytes, counted: int
    ) -> None:
        """Send a whole answer with status 200.

        Args:
            request: the request.
            content: the body.
            lines: the header lines.
            trailers: the trailer lines.
            counted: the status that the request is counted under.
        """

    def begin_answer(self, request: StreamRequest, lines: bytes) -> None:
        """Send the header block of an answer with status 200."""

    def send_part(self, stream: Stream, content: bytes) -> None:
        """Send a part of an answer that has begun."""

    def end_answer(self, request: StreamRequest, trailers: bytes) -> None:
        """Send the end of an answer that has begun."""


@dataclass(slots=True, eq=False)
class StreamRequest(Request):
    """One request of HTTP/2; `caller` is its connection, which has other requests beside it."""

    caller: StreamClient
    stream: Stream
    receive: Callable[[bytes, bool], None] | None = None
    """Takes each piece of the body and whether it is the last, if the handler reads pieces."""
    on_gone: Callable[[], None] | None = None
    """Called if the client gives the request up before its answer has ended."""

    @property
    def protocol(self) -> str:
        """The protocol, for the access log."""
        return "gRPC" if self.stream.header_block.is_grpc else "HTTP/2"

    @property
    def received(self) -> int:
        """The bytes of the body as it was sent, so far."""
        return self.stream.received

    def is_open(self) -> bool:
        """Return whether the client still waits for an answer; for any thread."""
        return not self.stream.is_reset and self.caller.is_open()

    def abort(self) -> None:
        """End the stream without an answer."""
        self.caller.reset(self.stream)

    def respond_with_trailers(
        self, content: bytes, lines: bytes, trailers: bytes, counted: int
    ) -> None:
        """Answer with status 200.

        Args:
            content: the body, which may be empty.
            lines: the header lines.
            trailers: the trailer lines.
            counted: the status that the request is counted under.
        """
        self.caller.answer_with_trailers(self, content, lines, trailers, counted)

    def begin(self, lines: bytes) -> None:
        """Begin an answer of several parts, with status 200 and header lines."""
        self.caller.begin_answer(self, lines)

    def send(self, content: bytes) -> None:
        """Send a part of the answer."""
        self.caller.send_part(self.stream, content)

    def end(self, trailers: bytes) -> None:
        """End the answer with trailer lines."""
        self.caller.end_answer(self, trailers)
