"""A cache of parsed header blocks.

Most clients send the same header block with every request.  A request whose block was parsed
before, by any connection of the worker, is not parsed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from service.http.request import Request

MAX_BLOCKS = 1024
MAX_BLOCK_BYTES = 4096

# A block with one of these headers is not kept: it announces a body of unknown length, requests an
# interim answer, holds a secret, or differs with each request.
_NOT_CACHED = (
    *(b"transfer-encoding", b"expect", b"authorization", b"cookie"),
    *(b"x-request-id", b"traceparent"),
)


class HeaderBlock(NamedTuple):
    """A parsed header block, and the number of bytes in the body that follows it."""

    method: bytes
    version: str
    target: bytes
    headers: dict[bytes, bytes]
    size: int


class HeaderCache(dict[bytes, HeaderBlock]):
    """Parsed header blocks by their bytes."""

    def remember(self, block: bytes, size: int, request: Request) -> None:
        """Keep the header block of a request, if that is possible.

        Args:
            block: the bytes of the header block, if the chunk that the request began in had all of
                them; else empty.
            size: the number of bytes that followed the block in that chunk.
            request: the request.
        """
        if (
            size == len(request.body)
            and request.keep_alive
            and 0 < len(block) <= MAX_BLOCK_BYTES
            and not any(name in request.headers for name in _NOT_CACHED)
        ):
            if len(self) >= MAX_BLOCKS:
                self.clear()
            self[block] = HeaderBlock(
                request.method, request.version, request.target, request.headers, size
            )
