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
_REQUEST_ID = b"x-request-id: "
_NEXT_REQUEST_ID = b"\r\n" + _REQUEST_ID


def encode_status(status: int) -> bytes:
    """Return the beginning of an answer's header block."""
    place = _STATUSES.get(status)
    return (
        _encode_field(b":status", b"%d" % status) if place is None else bytes((_INDEXED | place,))
    )


def encode(lines: bytes) -> bytes:
    """Return header lines, each with its line end, as a header block or a part of one."""
    at = 0
    if not lines.startswith(_REQUEST_ID):
        # Other lines may have it in their values.
        at = lines.find(_NEXT_REQUEST_ID) + len(b"\r\n")
        if at < len(b"\r\n"):
            return _encode(lines)
    # Each answer has another ID; the lines before and after it were most likely encoded before.
    start, end = at + len(_REQUEST_ID), lines.find(b"\r\n", at)
    value = lines[start:end]
    size = _integer(len(value), _BITS_OF_LENGTH)
    return b"".join((_encode(lines[:at]), _NAME_OF_ID, size, value, _encode(lines[end + 2 :])))


@lru_cache(512)
def _encode(lines: bytes) -> bytes:
    fields = (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])
    return b"".join([_encode_field(name.lower(), value) for name, _, value in fields])


def _encode_field(name: bytes, value: bytes) -> bytes:
    return b"".join((_encode_name(name), _integer(len(value), _BITS_OF_LENGTH), value))


def _encode_name(name: bytes) -> bytes:
    """Return the beginning of a literal without indexing (6.2.2), which is not Huffman-coded."""
    place = _PLACES.get(name, 0)
    first = _integer(place, _BITS_OF_NAME)
    return first if place else b"".join((first, _integer(len(name), _BITS_OF_LENGTH), name))


@lru_cache(512)
def _integer(value: int, bits: int) -> bytes:
    return bytes(encode_integer(value, bits))


_NAME_OF_ID = _encode_name(_REQUEST_ID.removesuffix(b": "))
