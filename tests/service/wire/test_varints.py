"""Many varints at once, compared with those of protobuf."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire import varints
from service.wire.messages import message_class
from service.wire.protobuf import as_varint
from tests.harness.decoded import problems

Contents = message_class("inference.InferTensorContents")
EDGES = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**31, 2**32 - 1, 2**63 - 1]
SIGNED = st.one_of(st.sampled_from([*EDGES, -1, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
UNSIGNED = st.one_of(st.sampled_from([*EDGES, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1))


@given(numbers=st.lists(SIGNED, max_size=20))
def test_signed_numbers_there_and_back(numbers):
    """Protobuf reads what is written, and what it writes is read; a negative number has 64 bits."""
    array = np.array(numbers, np.int64)
    written = varints.write(array)
    theirs = Contents(int64_contents=numbers).SerializeToString()

    assert theirs.endswith(written)
    assert np.array_equal(varints.read(written).view(np.int64), array)
    assert varints.count_in(written) == len(numbers)


@given(numbers=st.lists(UNSIGNED, max_size=20))
def test_unsigned_numbers_there_and_back(numbers):
    """Numbers have up to ten bytes."""
    array = np.array(numbers, np.uint64)
    written = varints.write(array)

    assert written == b"".join(map(as_varint, numbers))
    assert np.array_equal(varints.read(written), array)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint32"])
def test_other_dtypes(dtype):
    """Small numbers and booleans are numbers of as many bytes as they need."""
    array = np.array([0, 1, 1, 0], dtype)

    assert varints.write(array) == b"\x00\x01\x01\x00"


def test_many_numbers_are_read_and_written_in_parts():
    """Parts end where numbers do, whatever the lengths of these."""
    array = np.random.default_rng(1).integers(0, 2**63, 300_000, np.int64)
    array >>= np.random.default_rng(2).integers(0, 63, 300_000)
    written = varints.write(array)

    assert written == b"".join(varints.write(part) for part in np.array_split(array, 1000))
    assert np.array_equal(varints.read(written).view(np.int64), array)


def test_a_longer_form_of_a_number():
    """A number may have more bytes than it needs, up to ten."""
    assert varints.read(b"\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00\x02").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"\x01\x80", "packed numbers, of which the last has no end"),
        (b"\x01" + b"\x80" * 10 + b"\x00", "packed numbers, one of more than ten bytes"),
        (b"\x80" * 2**20 + b"\x00", "packed numbers, one of more than ten bytes"),
        (
            b"\x01" * (2**18 - 1) + b"\x80" * 12 + b"\x01",
            "packed numbers, one of more than ten bytes",
        ),
    ],
)
def test_bytes_that_are_no_numbers(content, received):
    """The last number has an end, and none has more than ten bytes."""
    assert problems(varints.read, content) == [("body", "a protobuf message", received)]
