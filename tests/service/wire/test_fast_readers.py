"""The parts that the fast readers share; their results are tested with each dialect."""

import pytest
import simdjson

from service.wire import quick


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        pytest.param("[1, 2]", (2,), id="flat"),
        pytest.param("[[1, 2, 3], [4, 5, 6]]", (2, 3), id="two axes"),
        pytest.param("[[[1], [2], [3]], [[4], [5], [6]]]", (2, 3, 1), id="three uneven axes"),
    ],
)
def test_a_list_has_the_brackets_of_its_shape(text, shape):
    """The number of brackets shows whether a list is nested in the expected shape."""
    assert quick.is_nested(simdjson.Parser().parse(text.encode()), shape)
    assert quick.brackets(shape) == text.count("[")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        pytest.param("[1, 2, 3]", (2,), id="too long"),
        pytest.param("[[1, 2], [3]]", (2, 2), id="crooked"),
        pytest.param("[[1, 2], 3]", (2, 2), id="a number among lists"),
    ],
)
def test_a_list_in_another_shape_is_none(text, shape):
    """A list in another shape is rejected, although simdjson would flatten it alike."""
    assert not quick.is_nested(simdjson.Parser().parse(text.encode()), shape)


@pytest.mark.parametrize("size", [0, 10, quick.FEW - 1, quick.FEW, 10**6])
def test_brackets_are_counted_in_bodies_of_any_size(size):
    """Both ways of counting brackets give the same number."""
    body = (b'["[",{[' * size)[:size]

    assert quick.count(body, b"[") == body.count(b"[")


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint32", "int64"])
def test_numbers_past_a_dtype_are_left(dtype):
    """The fast reader leaves numbers out of range to the reference reader, which names them."""
    number = "1e39" if dtype.startswith("float") else str(2**32)
    kind = quick.kind_of(dtype)
    numbers = simdjson.Parser().parse(f"[{number}]".encode()).as_buffer(of_type=kind)

    if dtype == "int64":
        assert quick.narrow(dtype, numbers).tolist() == [2**32]
    else:
        with pytest.raises(quick.UnsureError):
            quick.narrow(dtype, numbers)


def test_a_body_of_too_many_values_is_left():
    """The fast reader leaves a body of very many values to the reference reader.

    It would parse the body in one call, during which no other thread runs; the reference reader
    takes it in pieces.
    """
    for number, piece in ((quick.MOST_VALUES, b"1,"), (2**20, b"1.25,")):
        body = b'{"a":[' + piece * (number - 1) + b"1]}"

        assert len(quick.parse(body + b" " * quick.LARGE)["a"]) == number

    with pytest.raises(quick.UnsureError):
        quick.parse(b'{"a":[' + b"1," * quick.MOST_VALUES + b"1]}" + b" " * quick.LARGE)
