"""The walk over the fields of a protobuf message, compared with protobuf itself."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.wire.messages import message_class
from service.wire.protobuf import MOST_FIELDS, as_varint, delimited, fields, varint
from tests.harness.decoded import problems

# A message without fields, in which every field is unknown.
Empty = message_class("inference.ServerLiveRequest")


def walk(content):
    """Return the fields of a message as (number, kind, content)."""
    found = fields(content, 0, len(content))
    return [(tag >> 3, tag & 7, content[start:stop]) for tag, _, start, stop in found]


def test_every_kind_of_field():
    """Numbers, bytes, and groups with anything in them; the content of each is its bytes."""
    content = b"".join(
        (
            bytes((1 << 3 | 0, 0xAC, 0x02)),
            bytes((2 << 3 | 1,)) + b"12345678",
            delimited(3, b"text"),
            bytes((4 << 3 | 5,)) + b"1234",
            bytes((5 << 3 | 3, 1 << 3, 7, 6 << 3 | 3, 6 << 3 | 4, 5 << 3 | 4)),
            as_varint(2**29 - 1 << 3) + b"\x01",
        )
    )

    assert walk(content) == [
        (1, 0, b"\xac\x02"),
        (2, 1, b"12345678"),
        (3, 2, b"text"),
        (4, 5, b"1234"),
        (5, 3, bytes((1 << 3, 7, 6 << 3 | 3, 6 << 3 | 4, 5 << 3 | 4))),
        (2**29 - 1, 0, b"\x01"),
    ]
    assert walk(memoryview(content)) == walk(content)


def test_a_part_of_a_buffer():
    """The walk begins and ends where it is told, and places are those in the buffer."""
    content = b"xx" + delimited(1, b"ab") + b"yy"

    assert list(fields(content, 2, 6)) == [(10, 2, 4, 6)]


AT = "a protobuf message"


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"\x0a", "a number that goes on after the end, at offset 1"),
        (b"\x0a\x05abc", "a field that goes on after the end, at offset 0"),
        (b"\x0a\xff\xff\xff\xff\x7f", "a field that goes on after the end, at offset 0"),
        (b"\x0a" + b"\xff" * 9, "a number of more than 5 bytes, at offset 6"),
        (b"\x08" + b"\xff" * 11, "a number of more than 10 bytes, at offset 11"),
        (b"\x08\x80", "a number that goes on after the end, at offset 2"),
        (b"\x8a\x80\x80\x80\x80\x00", "a number of more than 5 bytes, at offset 5"),
        (b"\x09123", "a field that goes on after the end, at offset 0"),
        (b"\x0d123", "a field that goes on after the end, at offset 0"),
        (b"\x00\x01", "a field without a valid number, at offset 0"),
        (
            b"\x0e",
            "a field of an unknown kind, or the end of a group that did not begin, at offset 1",
        ),
        (
            b"\x0c",
            "a field of an unknown kind, or the end of a group that did not begin, at offset 1",
        ),
        (b"\x0b\x14", "the end of another group, at offset 2"),
        (b"\x0b\x08\x01", "a number that goes on after the end, at offset 3"),
        (b"\x0b\x0a\x7f", "a number that goes on after the end, at offset 130"),
        (b"\x0b\x09\x0c", "a number that goes on after the end, at offset 10"),
        (
            b"\x0b" * 200 + b"\x0c" * 200,
            "a field without a valid number, or groups nested too deeply, at offset 102",
        ),
    ],
)
def test_bytes_that_are_no_message(content, received):
    """The message says what is wrong and where, and protobuf refuses these bytes too."""
    assert problems(walk, content) == [("body", AT, received)]
    if content[0]:
        with pytest.raises(DecodeError):
            Empty.FromString(content)


def test_too_many_fields_are_refused_before_they_are_read():
    """Two bytes are a field, and each takes a few tenths of a microsecond."""
    content = b"\x0a\x00" * MOST_FIELDS

    assert len(walk(content)) == MOST_FIELDS
    assert problems(walk, content + b"\x0a\x00") == [
        ("body", f"messages of at most {MOST_FIELDS} fields each", "one of more")
    ]


def test_fields_of_groups_count_too():
    """A message may skip as many fields in groups as it may have."""
    group = b"\x0b" + b"\x08\x01" * (MOST_FIELDS // 2) + b"\x0c"

    assert len(walk(group)) == 1
    assert problems(walk, group * 2)[0][1] == f"messages of at most {MOST_FIELDS} fields each"
    many = b"\x0b" * 90 + b"\x08\x01" * MOST_FIELDS + b"\x0c" * 90
    assert problems(walk, many)[0][1] == f"messages of at most {MOST_FIELDS} fields each"


NUMBERS = st.sampled_from([1, 2, 3, 15, 16, 2047, 2**29 - 1])
VARINTS = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1)).map(as_varint)


def _tagged(kind, contents):
    return st.builds(
        lambda number, content: as_varint(number << 3 | kind) + content, NUMBERS, contents
    )


def _group(inner):
    return st.builds(
        lambda number, content: as_varint(number << 3 | 3) + content + as_varint(number << 3 | 4),
        NUMBERS,
        inner,
    )


FIELDS = st.recursive(
    st.one_of(
        _tagged(0, VARINTS),
        _tagged(1, st.binary(min_size=8, max_size=8)),
        _tagged(2, st.binary(max_size=4).map(lambda content: as_varint(len(content)) + content)),
        _tagged(5, st.binary(min_size=4, max_size=4)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(b"".join), _group(inner)),
    max_leaves=6,
)


@given(content=FIELDS, other=FIELDS, at=st.integers(0, 100), by=st.binary(max_size=3))
def test_a_message_is_one_where_protobuf_says_so(content, other, at, by):
    """Whatever bytes are changed, the walk refuses what protobuf refuses, and takes the rest."""
    changed = content[:at] + by + (content + other)[at + len(by) :]
    try:
        Empty.FromString(changed)
        expected = True
    except DecodeError:
        expected = False

    taken, refusal = _taken(changed)

    # The number 0 is reserved.  Protobuf for Python skips it; in other languages it refuses it.
    assert taken == expected or "valid number" in refusal


def _taken(content):
    """Return whether the walk takes a message, or why not."""
    try:
        walk(content)
    except BadRequest as error:
        return False, str(error)
    return True, ""


@given(value=st.integers(0, 2**64 - 1))
def test_a_varint_there_and_back(value):
    """A number is read as it was written, and no byte more."""
    written = as_varint(value)

    assert varint(b"x" + written + b"x", 1, len(written) + 2) == (value, len(written) + 1)


@given(content=st.binary(max_size=300), number=st.integers(1, 100))
def test_a_field_is_written_as_protobuf_reads_it(content, number):
    """A delimited field has its number and its content."""
    assert walk(delimited(number, content)) == [(number, 2, content)]
