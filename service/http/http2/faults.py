"""The errors of a peer: of its connection, which ends, or of one stream (RFC 9113, section 5.4)."""

from __future__ import annotations

from service.errors import TricepsError


class ConnectionFault(TricepsError):
    """An error after which nothing on the connection can be understood, or is wanted."""

    def __init__(self, code: int, message: str) -> None:
        """Have the connection ended by a GOAWAY frame with `code` and `message`."""
        super().__init__(message)
        self.code = code


class StreamFault(TricepsError):
    """An error in one stream; the others go on."""

    def __init__(self, stream: int, code: int, message: str) -> None:
        """Have the stream `stream` ended by an RST_STREAM frame with `code`."""
        super().__init__(message)
        self.stream = stream
        self.code = code
