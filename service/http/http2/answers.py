"""Header blocks of answers (HPACK, RFC 7541), from header lines as HTTP/1.1 has them.

They refer to the static table alone, and so depend on nothing that was sent before: the lines that
nearly all answers have are encoded once.
"""

from __future__ import annotations

from functools import lru_cache

from hpack.hpack import encode_integer
from hpack.table import HeaderTable

_STATIC = [*enumerate(HeaderTable.STATIC_TABLE, 1)]
# The place of each name in the static table, and of each status there.
_PLACES = {name: i for i, (name, _) in reversed(_STATIC)}
_STATUSES = {int(value): i for i, (name, value) in _STATIC if name == b":status"}
# The first bits of a field that is in a table; a literal without indexing has none.
_INDEXED = 0x80
_BITS_OF_NAME, _BITS_OF_LENGTH = 4, 7


def encode_status(status: int) -> bytes:
    """Return the beginning of an answer's header block."""
    place = _STATUSES.get(status)
    return (
        _encode_field(b":status", b"%d" % status) if place is None else bytes((_INDEXED | place,))
    )


def encode(lines: bytes) -> bytes:
    """Return header lines, each with its line end, as a header block or a part of one."""
    return b"".join(
        [
            # Each has another ID, and would only fill the cache.
            _encode(line) if line.startswith(b"x-request-id") else _encode_again(line)
            for line in lines.split(b"\r\n")[:-1]
        ]
    )


def _encode(line: bytes) -> bytes:
    name, _, value = line.partition(b": ")
    return _encode_field(name.lower(), value)


_encode_again = lru_cache(256)(_encode)


def _encode_field(name: bytes, value: bytes) -> bytes:
    """Return a field as a literal without indexing (6.2.2), and not Huffman-coded."""
    place = _PLACES.get(name, 0)
    first = encode_integer(place, _BITS_OF_NAME)
    if not place:
        first += encode_integer(len(name), _BITS_OF_LENGTH) + name
    return bytes(first + encode_integer(len(value), _BITS_OF_LENGTH) + value)
