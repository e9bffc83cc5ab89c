"""The fields of a protobuf message, located without reading their contents.

    message ─ fields ─▶ (tag, begin, start, stop) …

A tag is the number of a field and the kind of its bytes.  Fields that a message does not define are
skipped, as protobuf does, whatever their kind.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from service.wire.body import wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.errors import BadRequest
    from service.wire.raw import Buffer

# The kinds of bytes that a field may have.  VARINT is a number of 7 bits in each byte, lowest
# first; DELIMITED is a length, as a VARINT, and so many bytes.
VARINT, FIXED64, DELIMITED, GROUP, GROUP_END, FIXED32 = range(6)
_SIZES = {FIXED64: 8, FIXED32: 4}
# A byte below this one is the last of a VARINT.
GOES_ON = 128
# The fields that a message may have at a level, with those of its groups, and without repeated
# values: some milliseconds.
MOST_FIELDS = 2**13
# The bytes that a message may have besides its values: they become objects of Python.
LONGEST_HEADER = 2**20
# The levels that protobuf's own readers follow.
_DEEPEST = 100
_TAGS = range(1 << 3, 2**32)
# The bytes that a tag or a length may have.
_SHORT = 5
_64_BITS = 2**64 - 1


def fields(
    message: Buffer, start: int, stop: int, most: int = MOST_FIELDS
) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field: its tag, where the field begins, and where its content starts and stops.

    Args:
        message: the bytes that hold the message.
        start: where the message starts.
        stop: where it stops.
        most: the number of fields that it may have.

    Raises:
        BadRequest: the bytes are no message, or it has too many fields.
    """
    at, left = start, most
    while at < stop:
        left -= 1
        if left < 0:
            raise _too_many(most)
        begin = at
        tag = message[at]
        at += 1
        if tag >= GOES_ON:
            tag, at = varint(message, begin, stop, _SHORT)
        kind = tag & 7
        if kind == DELIMITED:
            # One byte is the length of most fields.
            if at < stop and (size := message[at]) < GOES_ON:
                at += 1
            else:
                size, at = varint(message, at, stop, _SHORT)
            content, at = at, at + size
        else:
            content = at
            if kind == GROUP:
                at, left = _after_group(message, begin, stop, left)
            else:
                at = _after(message, tag, at, stop)
        if at > stop:
            _refuse(begin, "a field that goes on after the end")
        if tag not in _TAGS:
            _refuse(begin, "a field without a valid number")
        yield tag, begin, content, at


def _after(message: Buffer, tag: int, at: int, stop: int) -> int:
    """Return the place after a field, which starts at `at`, and is not delimited."""
    kind = tag & 7
    if kind == VARINT:
        return varint(message, at, stop)[1]
    if kind in _SIZES:
        return at + _SIZES[kind]
    raise _wrong(at, "a field of an unknown kind, or the end of a group that did not begin")


def _after_group(message: Buffer, at: int, stop: int, left: int) -> tuple[int, int]:
    """Return the place after a group, and how many fields are left for the rest of the message.

    No protocol here has groups, but protobuf skips them.
    """
    tag, at = varint(message, at, stop, _SHORT)
    opened = [tag]
    while opened:
        left -= 1
        if left < 0:
            raise _too_many(MOST_FIELDS)
        inner, at = varint(message, at, stop, _SHORT)
        kind = inner & 7
        if inner not in _TAGS or len(opened) > _DEEPEST:
            _refuse(at, "a field without a valid number, or groups nested too deeply")
        elif kind == GROUP:
            opened.append(inner)
        elif kind == GROUP_END:
            if opened.pop() >> 3 != inner >> 3:
                _refuse(at, "the end of another group")
        elif kind == DELIMITED:
            size, at = varint(message, at, stop, _SHORT)
            at += size
        else:
            at = _after(message, inner, at, stop)
    return at, left


def varint(message: Buffer, at: int, stop: int, longest: int = 10) -> tuple[int, int]:
    """Return a number of 64 bits, and the place after it.

    Raises:
        BadRequest: it does not end before `stop`, or has more than `longest` bytes.
    """
    value = 0
    for shift in range(0, 7 * longest, 7):
        if at >= stop:
            _refuse(at, "a number that goes on after the end")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < GOES_ON:
            return value & _64_BITS, at
    raise _wrong(at, f"a number of more than {longest} bytes")


def _too_many(most: int) -> BadRequest:
    return wrong("body", f"messages of at most {most} fields each", "one of more")


def _refuse(at: int, received: str) -> NoReturn:
    raise _wrong(at, received)


def _wrong(at: int, received: str) -> BadRequest:
    return wrong("body", "a protobuf message", f"{received}, at offset {at}")


def header_too_long(size: int) -> BadRequest:
    """Return the error for a message that has too many bytes besides its values."""
    return wrong("body", f"at most {LONGEST_HEADER} bytes besides the values", str(size))


def as_varint(value: int) -> bytes:
    """Return a whole number from 0 as a varint."""
    if value < GOES_ON:
        return bytes((value,))
    written = bytearray()
    while value >= GOES_ON:
        written.append(value & 127 | GOES_ON)
        value >>= 7
    written.append(value)
    return bytes(written)


def delimited(number: int, content: Buffer) -> bytes:
    """Return a field of a text, of bytes, of a message or of packed values."""
    return b"".join((tag_and_size(number, len(content)), content))


@lru_cache(256)
def tag_and_size(number: int, size: int) -> bytes:
    """Return the tag and the size of a delimited field, which its content follows."""
    return as_varint(number << 3 | DELIMITED) + as_varint(size)
