"""One unary call: `service.exchange.Exchange` to the pipeline.

StreamRequest ─▶ its only message, metadata ─▶ Call ─▶ … ─▶ respond ─▶ a message, or an error
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from service.errors import RequestError, TooLarge, defect
from service.http import content_encoding, request_ids
from service.http.grpc import framing, status
from service.http.grpc.metadata import headers_of
from service.wire.body import wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.http.http2.request import StreamRequest

    # Returns the model, version and alias that the beginning of a message names.
    ReadAddress = Callable[[bytes | memoryview], tuple[str | None, str | None, str | None]]

log = logging.getLogger(__name__)

# The line by which the pipeline says that it has compressed an answer, and the one of gRPC.
_COMPRESSED = b"content-encoding: gzip\r\n"
_GZIP = b"grpc-encoding: gzip\r\n"
_REQUEST_ID = b"x-request-id: "

# The bytes of a compressed message, and those that they inflate to, by which its model is found.
_BEGINNING = 4096
# No file has a longer name, so no model and no version does.
_LONGEST_NAME = 255


class Address(NamedTuple):
    """The target of a prediction: its method, and what its message names.

    It is no path, so that no request of HTTP has it as its target.
    """

    method: str
    name: str
    version: str | None
    alias: str | None


class Call:
    """A unary call, whose message has arrived."""

    __slots__ = ("_stream", "caller", "headers")

    def __init__(self, stream: StreamRequest, largest: int) -> None:
        """Read the framing and the metadata of a call.

        Args:
            stream: the request.
            largest: the bytes of the largest message.

        Raises:
            RequestError: the framing or the metadata are wrong, or the deadline is over.
        """
        compressed, _ = framing.only_message(stream.body, largest)
        self._stream = stream
        self.headers = headers_of(stream.headers, compressed=compressed)
        self.caller = stream.caller

    @property
    def origin(self) -> StreamRequest:
        """The request that carries the call."""
        return self._stream

    @property
    def body(self) -> bytes:
        """The message as it was sent, compressed or not; empty once its stream has ended.

        It is a view of the body of the stream, to save a copy.
        """
        return memoryview(self._stream.body)[framing.PREFIX :]  # type: ignore[return-value]

    @property
    def what(self) -> str:
        """The method, for messages and the log."""
        return what(self._stream)

    @property
    def request_id(self) -> str:
        """The request ID that the client sent; where there is none, a new one at each call."""
        return request_ids.of(self.headers)

    def header(self, name: str) -> str:
        """Return a header's value, or an empty string if the call does not have it."""
        value = self.headers.get(name.lower().encode())
        return "" if value is None else value.decode("latin-1")

    def message(self, largest: int) -> bytes:
        """Return the message without its compression.

        Args:
            largest: the bytes of the largest message, compressed or not.

        Raises:
            TooLarge: it is larger.
            BadRequest: it is not compressed as its encoding says.
        """
        if len(self.body) > largest:
            raise framing.too_large(largest, str(len(self.body)))
        encoding = self.headers.get(b"content-encoding")
        if encoding is None:
            return bytes(self.body)
        try:
            return content_encoding.read(self.body, "", encoding.decode(), largest, ())
        except TooLarge as error:
            raise framing.too_large(largest, "more once inflated") from error

    def is_open(self) -> bool:
        """Return whether the client still waits for an answer."""
        return self._stream.is_open()

    def common(self, request_id: str = "") -> bytes:
        """Return the header lines that every answer to this call has, such as X-Request-ID."""
        return self._stream.common(request_id)

    def respond(self, status_code: int, content: bytes, lines: bytes) -> None:
        """Answer with a message, or with an error.

        Args:
            status_code: the HTTP status; 200 for a message.
            content: the message.
            lines: the header lines; for an error, with its gRPC status.
        """
        if status_code == 200:  # noqa: PLR2004
            compressed = _COMPRESSED in lines
            if compressed:
                lines = lines.replace(_COMPRESSED, _GZIP)
            framed = framing.encode(content, compressed=compressed)
            self._stream.respond_with_trailers(framed, lines, status.OK, status_code)
            return
        if b"grpc-status" not in lines:
            # An error that no dialect of gRPC could write.
            error = defect(self.what, status_code)
            # Its request ID is the one that was logged.
            at = lines.find(_REQUEST_ID)
            common = self.common() if at < 0 else lines[at:]
            lines = status.refusal(error) + common
        self._stream.respond_with_trailers(b"", lines, b"", status_code)

    def abort(self) -> None:
        """Reset the stream."""
        self._stream.abort()


class ModelCall(Call):
    """A call for a prediction, which names a model."""

    __slots__ = ("target",)

    method = b"POST"

    def __init__(
        self,
        stream: StreamRequest,
        largest: int,
        method: str,
        read_address: ReadAddress,
        field: str,
    ) -> None:
        """Read the framing and the metadata of a call, and what its message names.

        Args:
            stream: the request.
            largest: the bytes of the largest message.
            method: the method.
            read_address: returns the model, version and alias in the beginning of a message.
            field: the field that has the name of the model.

        Raises:
            RequestError: as for a call, or the message names no model.
        """
        super().__init__(stream, largest)
        start: bytes | memoryview = self.body
        where = ""
        encoding = self.headers.get(b"content-encoding")
        if encoding is not None:
            start = content_encoding.beginning(
                self.body[:_BEGINNING], encoding.decode(), _BEGINNING
            )
            where = f" in the first {_BEGINNING} bytes of a compressed message"
        name, version, alias = read_address(start)
        if not name:
            raise wrong(field, f"the name of a model{where}", "none")
        self.target = Address(method, name, version, alias)
        longest = max(len(part) for part in self.target if part is not None)
        if longest > _LONGEST_NAME:
            expected = f"names and versions of at most {_LONGEST_NAME} characters"
            raise wrong(field, expected, f"one of {longest}")


def what(stream: StreamRequest) -> str:
    """Return the method of a call, for messages and the log."""
    return f"gRPC {stream.target.decode('latin-1')}"


def refuse(stream: StreamRequest, error: Exception) -> int:
    """Answer a call with an error, before any other answer.

    Returns:
        The HTTP status that it is counted under.
    """
    request_id = stream.request_id
    answered = request_error(what(stream), error, request_id)
    lines = status.refusal(answered) + stream.common(request_id)
    stream.respond_with_trailers(b"", lines, b"", answered.status)
    return answered.status


def request_error(name: str, error: Exception, request_id: str) -> RequestError:
    """Return the error to answer a call with; if it is a bug, log it and tell nothing about it.

    Args:
        name: the call, for the message and the log.
        error: the error.
        request_id: the request ID to log.
    """
    if isinstance(error, RequestError):
        return error
    log.error("%s failed", name, exc_info=error, extra={"request_id": request_id})
    return defect(name)


def drop(piece: bytes, is_last: bool) -> None:  # noqa: FBT001  called by position
    """Drop a piece of a request: its answer does not depend on it."""
