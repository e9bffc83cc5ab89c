"""Values that have a field each: how many of them are read where."""

import asyncio

import numpy as np
import pytest

from service.errors import BadRequest
from service.inference.model import Model
from service.wire.body import LongReadError
from service.wire.oip.grpc import GRPC as INFER
from service.wire.packed import ALONE_AT_ONCE, MOST_ALONE
from service.wire.protobuf import LONGEST_HEADER, delimited
from service.wire.tfserving.grpc import GRPC as PREDICT
from tests.harness import small
from tests.harness.decoded import problems
from tests.harness.grpc_messages import infer, predict

FLOAT = Model.load(small.every()["float"]).signature
STRING = Model.load(small.every()["string"]).signature
INT64 = Model.load(small.every()["int64"]).signature


def both(array):
    """Return a message of each protocol with these texts, and its reader."""
    return [
        (INFER.reader(STRING), infer({"x": array}, raw=False).SerializeToString()),
        (PREDICT.reader(STRING), predict({"x": array}, content=False).SerializeToString()),
    ]


def test_an_event_loop_gives_up_a_message_of_many_texts():
    """Each takes a microsecond or two, in which no other request is answered."""
    few = np.full((ALONE_AT_ONCE // 2 - 10, 2), "a", object)
    many = np.full((ALONE_AT_ONCE // 2 + 1, 2), "a", object)

    async def read(reader, message):
        return reader(message, None).arrays["x"].shape

    for reader, message in both(few):
        assert asyncio.run(read(reader, message)) == few.shape
    for reader, message in both(many):
        with pytest.raises(LongReadError):
            asyncio.run(read(reader, message))
        assert reader(message, None).arrays["x"].shape == many.shape


@pytest.mark.parametrize("dialect", [INFER, PREDICT])
def test_many_texts_of_a_large_message_are_not_attempted(dialect):
    """An attempt is made in the event loop, and leaves such a message to a thread."""
    array = np.full((ALONE_AT_ONCE, 2), 1, "int64")
    codec = dialect.codec("int64", "1", INT64)
    message = b"\x18\x01" * array.size
    entry = delimited(1, b"x") + delimited(2, b"INT64") + delimited(5, message)
    if dialect is PREDICT:
        entry = delimited(1, b"x") + delimited(2, b"\x50\x01" * array.size)

    async def attempt():
        return codec.attempt(delimited(5 if dialect is INFER else 2, entry))

    assert asyncio.run(attempt()) is None


def test_values_that_are_not_packed_have_a_limit(monkeypatch):
    """Each takes two bytes of a message, and sixteen of memory until it is read."""
    assert MOST_ALONE * 16 <= 2**25
    monkeypatch.setattr("service.wire.packed.MOST_ALONE", 5)

    for reader, message in both(np.full((1, 2), "a", object)):
        assert reader(message, None).arrays["x"].shape == (1, 2)
    for reader, message in both(np.full((3, 2), "a", object)):
        assert problems(reader, message, None) == [
            ("body", "at most 5 values that are not packed", "one more")
        ]


def test_the_rest_of_a_message_has_a_limit():
    """Axes and names become objects of Python, which take many times their bytes."""
    axes = delimited(3, b"\x01" * LONGEST_HEADER)
    dims = delimited(2, b"".join(delimited(2, b"\x08\x01") for _ in range(LONGEST_HEADER // 4)))
    messages = (
        (INFER.reader(STRING), delimited(5, delimited(1, b"x") + axes)),
        (
            PREDICT.reader(STRING),
            delimited(2, delimited(1, b"x") + delimited(2, dims + b"\x08\x07")),
        ),
    )
    for reader, message in messages:
        ((at, expected, _),) = problems(reader, message, None)
        assert (at, expected) == ("body", f"at most {LONGEST_HEADER} bytes besides the values")


def test_floats_in_half_of_a_value():
    """Packed floats are whole ones."""
    entry = delimited(1, b"x") + delimited(2, b"FP32") + delimited(3, b"\x01\x02")
    message = delimited(5, entry + delimited(5, delimited(6, b"123456789")))

    with pytest.raises(BadRequest, match="whole values, packed, received 9 bytes"):
        INFER.reader(FLOAT)(message, None)
