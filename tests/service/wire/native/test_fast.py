"""The fast reader, which gives the same arrays and messages as the reference reader."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import BadRequest
from service.inference.model import Model
from service.wire import native, quick
from service.wire.native import fast
from service.wire.numbers import join
from tests.harness import fast_way, small
from tests.harness.native_bodies import bodies

MODELS = {**small.every(), "refusing": small.refusing()}
SIGNATURES = {name: Model.load(content).signature for name, content in MODELS.items()}
THREE = SIGNATURES["three"]


def outcome(decode: Any, body: bytes, signature: Any) -> Any:
    """Return the result of a decoder in a form that can be compared."""
    try:
        request = decode(body, signature)
    except BadRequest as error:
        return (str(error), error.problems, error.count)
    arrays = {
        name: (
            array.dtype,
            array.shape,
            array.tolist() if array.dtype == object else array.tobytes(),
        )
        for name, array in request.arrays.items()
    }
    noted = [*request.imputed, *request.unseen]
    return (arrays, request.heads, request.by_row, noted)


@pytest.mark.parametrize("name", SIGNATURES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_generated_bodies_have_the_same_outcome(name, data):
    """Both readers return the same arrays or the same problems for generated bodies."""
    signature = SIGNATURES[name]
    body = json.dumps(data.draw(bodies(signature))).encode()

    assert outcome(fast_way.decode, body, signature) == outcome(native.decode, body, signature)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    body=bodies(THREE).map(lambda body: json.dumps(body).encode()),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1, max_size=4),
)
def test_mutated_bytes_have_the_same_outcome(body, cuts):
    """Both readers give the same outcome for mutated bytes."""
    for place, piece in cuts:
        at = int(place * len(body))
        body = body[:at] + piece + body[at + 1 :]

    assert outcome(fast_way.decode, body, THREE) == outcome(native.decode, body, THREE)


RIGHT = {
    "insurance": {"age": 47, "smoker": "yes", "bmi": 20},
    "fruit": [1, 2.5],
    "digit": [1, 2, 3, 4],
}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"instances": [RIGHT]}, id="objects and lists"),
        pytest.param({"instances": [{**RIGHT, "digit": [[1, 2], [3, 4]]}]}, id="a nested image"),
        pytest.param(
            {"instances": [{**RIGHT, "insurance": [47, "no", 1]}] * 3}, id="table rows as lists"
        ),
        pytest.param({"instances": [RIGHT], "heads": ["size", "risk"]}, id="some heads"),
        pytest.param(
            {"instances": [{"fruit": [1, 2]}], "heads": ["size"]}, id="needed inputs alone"
        ),
        pytest.param(
            {"inputs": {name: [value] * 2 for name, value in RIGHT.items()}}, id="by column"
        ),
        pytest.param({"inputs": {"fruit": [[1, 2]]}, "heads": ["tags"]}, id="some columns"),
    ],
)
def test_common_bodies_take_the_fast_path(body, monkeypatch):
    """Bodies as clients usually send them do not fall back to the reference reader."""
    sent = json.dumps(body).encode()
    expected = outcome(native.decode, sent, THREE)
    monkeypatch.setattr(fast.reference, "decode", lambda *_: pytest.fail("it fell back"))

    assert outcome(fast_way.decode, sent, THREE) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"inputs": {"age": [30, 4.5], "visits": [2, 3], "city": ["a", "b"]}}, id="in"),
        pytest.param({"instances": [{"age": 30, "visits": 2, "city": "a"}] * 2}, id="by row"),
        pytest.param({"inputs": {"age": [[30]], "visits": [[2]], "city": ["a"]}}, id="in brackets"),
    ],
)
def test_bare_values_take_the_fast_path(body, monkeypatch):
    """A bare number or text, for an input of one value, does not fall back."""
    signature, sent = SIGNATURES["per_column"], json.dumps(body).encode()
    expected = outcome(native.decode, sent, signature)
    monkeypatch.setattr(fast.reference, "decode", lambda *_: pytest.fail("it fell back"))

    assert outcome(fast_way.decode, sent, signature) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"instances":[{"fruit":[1,2],"fruit":[3,4]}],"heads":["size"]}', id="input"),
        pytest.param(
            b'{"instances":[{"fruit":[1,2]}],"heads":["size"],"heads":["size"]}', id="key"
        ),
        pytest.param(b'{"inputs":{"fruit":[[1,2]],"fruit":[[1,2]]},"heads":["size"]}', id="column"),
        pytest.param(
            b'{"instances":[{"fruit":{"weight":1,"weight":2}}],"heads":["size"]}', id="feature"
        ),
    ],
)
def test_repeated_keys_are_refused_by_both(body):
    """Both readers refuse a repeated key.

    Simdjson finds the first of two values and other readers the last.
    """
    result = outcome(fast_way.decode, body, THREE)

    assert result == outcome(native.decode, body, THREE)
    assert "twice" in result[0]


def test_a_text_is_no_list_of_heads():
    """A text is refused as the list of heads.

    Here each of its letters is a head, and a bracket elsewhere balances the count of brackets.
    """
    body = b'{"instances":[[1,[2]]],"heads":"y"}'
    result = outcome(fast_way.decode, body, SIGNATURES["uint32"])

    assert result == outcome(native.decode, body, SIGNATURES["uint32"])
    assert result[0].startswith("heads: expected a list")


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_many_keys_are_not_looked_up_one_by_one(key):
    """Reading half a million keys takes little time.

    Simdjson scans all keys for each look-up, which once took hours.
    """
    keys = ",".join(f'"k{i}":[1]' for i in range(100_000))
    body = f'{{"{key}":{{{keys}}}}}'.encode()
    started = time.thread_time()

    assert outcome(fast_way.decode, body, THREE) == outcome(native.decode, body, THREE)
    assert time.thread_time() - started < 50


def test_a_byte_order_mark_is_refused_by_both():
    """Both readers refuse a byte order mark, which simdjson would skip."""
    body = b"\xef\xbb\xbf" + json.dumps({"instances": [RIGHT]}).encode()

    assert outcome(fast_way.decode, body, THREE) == outcome(native.decode, body, THREE)


def test_an_error_that_is_kept_does_not_block_the_parser():
    """A kept traceback may hold a parsed document; the next body gets another parser."""
    body = json.dumps({"instances": [RIGHT]}).encode()
    held = quick.parse(body)

    assert outcome(fast_way.decode, body, THREE) == outcome(native.decode, body, THREE)
    assert held is not None


def test_arrays_outlive_the_next_body():
    """The arrays are not views of a buffer that the parser uses again."""
    first = fast_way.decode(json.dumps({"instances": [RIGHT]}).encode(), THREE).arrays
    other = {**RIGHT, "digit": [9, 9, 9, 9], "fruit": [9, 9]}
    fast_way.decode(json.dumps({"instances": [other]}).encode(), THREE)

    np.testing.assert_array_equal(first["digit"], np.array([[1, 2, 3, 4]], np.float32))
    np.testing.assert_array_equal(first["fruit"], np.array([[1, 2.5]], np.float32))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9])
def test_large_bodies_are_read_in_pieces(rows):
    """A large body gives the same arrays, and its parser is not kept."""
    digits = [[i + j / 8 for j in range(4)] for i in range(rows)]
    for shape in ((rows, 4), (rows, 2, 2)):
        columns = {
            "insurance": [[47, "yes", 20]] * rows,
            "fruit": [[1, 2]] * rows,
            "digit": np.reshape(digits, shape).tolist(),
        }
        body = json.dumps({"inputs": columns}).encode() + b" " * quick.LARGE
        query = fast.Decoder(THREE, block=8).attempt(body)
        assert query is not None

        joined = join([query.arrays])

        expected = native.decode(body, THREE).arrays
        assert joined.keys() == expected.keys()
        for name, array in expected.items():
            assert np.array_equal(joined[name], array)
            assert joined[name].dtype == array.dtype


WHOLE = st.one_of(st.integers(0, 255), st.integers(-(2**63), 2**64 - 1))
EDGES = st.sampled_from([2**53 + 1, -(2**53) - 1, 2**54 + 2**30 + 1, 2**63 - 1, 2**63, 0.5, 3.4e38])


@given(rows=st.lists(st.lists(WHOLE | EDGES, min_size=4, max_size=4), min_size=3, max_size=9))
def test_whole_numbers_of_any_size_are_rounded_as_the_reference_reader_rounds(rows):
    """Blocks of whole numbers, and of others among them, become the reference reader's arrays."""
    body = json.dumps({"inputs": {"digit": rows}, "heads": ["digits"]}).encode()
    query = fast.Decoder(THREE, block=8).attempt(body)
    assert query is not None

    read = join([query.arrays])["digit"]

    assert read.tobytes() == native.decode(body, THREE).arrays["digit"].tobytes()


def test_a_large_body_with_a_fault_is_left_to_the_plain_path():
    """A fault in any piece of a large body sends it to the reference reader."""
    for place in (0, 5, 8):
        digits: list[Any] = [[0, 1, 2, 3]] * 9
        digits[place] = [0, 1e39, 2, 3]
        body = json.dumps({"inputs": {"digit": digits}, "heads": ["digits"]}).encode()
        with pytest.raises(BadRequest, match=rf"inputs.digit\[{place}\]\[1\]"):
            fast.Decoder(THREE, block=8).decode(body)
