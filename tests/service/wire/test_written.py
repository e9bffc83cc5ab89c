"""The writing of arrays as JSON: NaN and infinities become names or `null`."""

import json
import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.errors import BadRequest, NotFound, Problem
from service.wire import written


@pytest.mark.parametrize(
    ("output", "text"),
    [
        pytest.param(np.float32([[0.1], [2]]), "[[0.1],[2.0]]", id="short decimals"),
        pytest.param(np.float32([[1, 2], [3, 4]]).T, "[[1.0,3.0],[2.0,4.0]]", id="strided"),
        pytest.param(np.array([["ü"], ["null"]], object), '[["ü"],["null"]]', id="texts"),
        pytest.param(np.array([[True], [False]]), "[[true],[false]]", id="booleans"),
        pytest.param(np.float16([0.5, 1]), "[0.5,1.0]", id="no axis"),
    ],
)
def test_finite_values_are_the_same_either_way(output, text):
    """Finite values are written as numpy has them, row by row."""
    assert written.write(written.plain(output)).decode() == text
    assert written.write(written.rows(output)).decode() == text


def test_values_that_are_not_finite_are_null_or_a_name():
    """Rows beside a value that is not finite stay unchanged."""
    output = np.float32([[[0.1], [math.nan]], [[1], [2]], [[math.inf], [-math.inf]]])

    assert written.write(output) == b"[[[0.1],[null]],[[1.0],[2.0]],[[null],[null]]]"
    assert written.write(written.rows(output)) == (
        b"[[[0.1],[NaN]],[[1.0],[2.0]],[[Infinity],[-Infinity]]]"
    )
    assert written.write(written.spelled(output[0])) == b"[[0.1],[NaN]]"


@given(
    st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
        lambda dtype: arrays(dtype, array_shapes(max_dims=3, max_side=3))
    )
)
def test_values_written_as_names_read_back_the_same(output):
    """Python's reader reads every number, NaN and infinity back, in any shape."""
    for text in (written.rows(output), written.spelled(output)):
        back = np.array(json.loads(written.write(text)), output.dtype)
        np.testing.assert_array_equal(back, output)


@pytest.mark.parametrize("length", [0, 1, 256, 257, 1000])
def test_a_list_may_be_written_as_a_text(length):
    """A parameter of a protocol can only be a text; a long list is written in short calls."""
    values = [{"at": f"inputs[{i}]", "received": 'é"\\\n\U0001f600'} for i in range(length)]

    content = written.write({"unseen": written.as_text(values)})

    assert json.loads(json.loads(content)["unseen"]) == values


def test_an_error_lists_the_problems_of_a_body():
    """A refusal lists the shown problems and counts all; other errors have no list."""
    problem = Problem("a", "1", "2")

    assert written.problems(BadRequest([problem], 3)) == {
        "problems": [{"at": "a", "expected": "1", "received": "2"}],
        "count": 3,
    }
    assert written.problems(NotFound("none")) == {}


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(np.float32([[0.5, math.nan, -math.inf]] * 30_000), id="rows"),
        pytest.param(np.arange(70_000.0).reshape(1, -1), id="one long row"),
        pytest.param(np.float16([[[1, math.inf]] * 40_000, [[2, 3]] * 40_000]), id="two deep rows"),
        pytest.param(np.arange(70_000, dtype=np.int64), id="no axis"),
        pytest.param(np.zeros((0, 3), np.float32), id="no rows"),
        pytest.param(np.array([["a", "null"]] * 700, object), id="texts"),
    ],
)
def test_a_large_array_is_written_in_pieces_to_the_same_bytes(output):
    """Writing in pieces gives the same bytes as writing in one call."""
    nulls = written.write(written.plain(output))
    words = json.dumps(output.tolist(), separators=(",", ":")).encode()

    assert written.write(written.in_pieces(written.plain(output))) == nulls
    assert written.write(written.whole(output)) == words
    assert written.write(written.rows(output)) == words


def test_a_large_output_is_written_in_short_calls(monkeypatch):
    """No call of orjson is long, since no other thread runs during it."""
    sizes = []
    dumps = orjson.dumps

    def noted(value, option):
        sizes.append(value.size if isinstance(value, np.ndarray) else 0)
        return dumps(value, option=option)

    monkeypatch.setattr(written.orjson, "dumps", noted)
    for output in (np.zeros((2**11, 2**8)), np.full((1, 2**19), math.nan)):
        written.write({"y": written.whole(output)})

    assert max(sizes) <= written.VALUES_AT_ONCE
    assert sum(sizes) == 2**20
