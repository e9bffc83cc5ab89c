"""The status of a call: the lines by which a client learns how it ended.

An error of the service has an HTTP status, for which `service.wire.grpc_status` has the code.  A
call that breaks the rules of gRPC itself is a `BadCall`, whose code those rules say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import HTTPError
from service.wire.grpc_status import CONTENT_TYPE, encode_error

if TYPE_CHECKING:
    from service.errors import RequestError

UNIMPLEMENTED = 12
INTERNAL = 13
CONTENT_TYPE_LINE = f"content-type: {CONTENT_TYPE}\r\n".encode()
"""The header line of every answer; dialects write it into theirs."""
OK = b"grpc-status: 0\r\n"
"""The lines that end a call without an error."""


class BadCall(HTTPError):
    """A call that breaks the rules of gRPC: of its messages, its metadata or its methods."""

    def __init__(
        self, code: int, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Answer `message`.

        Args:
            code: the code that gRPC has for it.
            status: the HTTP status that it is counted under.
            message: the message.
            headers: more metadata of the answer.
        """
        super().__init__(status, message)
        self.code = code
        self.headers = headers


def trailers(error: RequestError) -> bytes:
    """Return the lines that end a call with an error: code, message, details and headers."""
    named = {**dict(encode_error(error).headers), **dict(error.headers)}
    if isinstance(error, BadCall):
        named["grpc-status"] = str(error.code)
    return "".join(f"{name}: {value}\r\n" for name, value in named.items()).encode("latin-1")


def refusal(error: RequestError) -> bytes:
    """Return the header lines of an answer that is only an error."""
    return CONTENT_TYPE_LINE + trailers(error)
