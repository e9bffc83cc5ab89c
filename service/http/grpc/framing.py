"""The framing of messages in a call: 5 bytes, and the message.

0 or 1, whether the message is compressed ‖ its length in 4 bytes, big-endian ‖ the message
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from service.errors import TooLarge
from service.http.grpc.status import INTERNAL, UNIMPLEMENTED, BadCall
from service.wire.body import count

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = Struct(">BI")
PREFIX = _PREFIX.size


def encode(message: bytes, *, compressed: bool = False) -> bytes:
    """Return a message with its prefix."""
    return b"".join((_PREFIX.pack(compressed, len(message)), message))


def only_message(body: bytes, largest: int) -> tuple[bool, memoryview]:
    """Return the only message of a call, and whether it is compressed.

    Args:
        body: what the client has sent, from its beginning to its end.
        largest: the bytes of the largest message.

    Raises:
        BadCall: there is not exactly one message, or its prefix is wrong.
        TooLarge: it is larger than `largest`.
    """
    if not body:
        raise _not_one("none")
    compressed, length = _prefix(body, largest, " (TRICEPS_MAX_BODY)")
    left = len(body) - PREFIX
    if left < length:
        received = f"only {left} of them"
        raise _broken(f"the {count(length, 'byte')} that its prefix says", received)
    if left > length:
        raise _not_one(f"{count(left - length, 'byte')} after the first")
    return compressed, memoryview(body)[PREFIX:]


class Messages:
    """The messages of a stream, cut from the pieces that it comes in."""

    def __init__(self, largest: int) -> None:
        """Accept messages of up to `largest` bytes."""
        self._largest = largest
        self._rest = b""

    def cut(self, piece: bytes) -> Iterator[bytes]:
        """Yield the messages that are complete with the next piece.

        Raises:
            BadCall: a prefix is wrong, or a message is compressed.
            TooLarge: a message is larger than the largest.
        """
        rest = self._rest + piece
        while len(rest) >= PREFIX:
            compressed, length = _prefix(rest, self._largest)
            if compressed:
                message = "message: expected it as it is, in a stream; received it compressed"
                raise BadCall(UNIMPLEMENTED, 400, message, (("grpc-accept-encoding", "identity"),))
            if len(rest) < PREFIX + length:
                break
            yield rest[PREFIX : PREFIX + length]
            rest = rest[PREFIX + length :]
        self._rest = rest

    def end(self) -> None:
        """Check that the stream does not end within a message.

        Raises:
            BadCall: it does.
        """
        if self._rest:
            raise _broken("the bytes that its prefix says", "only the first of them")


def too_large(largest: int, received: str, setting: str = "") -> TooLarge:
    """Return the error for a message of more than `largest` bytes, which `setting` says."""
    return TooLarge(f"message: expected at most {largest} bytes{setting}, received {received}")


def _prefix(data: bytes, largest: int, setting: str = "") -> tuple[bool, int]:
    """Return whether the message at the beginning of `data` is compressed, and its length."""
    if len(data) < PREFIX:
        raise _broken(f"a prefix of {PREFIX} bytes", f"only {len(data)} of them")
    flag, length = _PREFIX.unpack_from(data)
    if flag > 1:
        raise _broken("a prefix that begins with 0 or 1, for compressed", str(flag))
    if length > largest:
        raise too_large(largest, str(length), setting)
    return flag == 1, length


def _not_one(received: str) -> BadCall:
    message = f"request: expected one message, since the method is unary, received {received}"
    return BadCall(UNIMPLEMENTED, 400, message)


def _broken(expected: str, received: str) -> BadCall:
    return BadCall(INTERNAL, 400, f"message: expected {expected}, received {received}")
