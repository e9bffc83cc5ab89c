"""The binary tensor data extension: arrays as bytes after the JSON, in both directions."""

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.inference.model import Model
from service.wire import oip
from service.wire.body import MOST_OPENED
from service.wire.oip import Wanted, binary
from tests.harness import small
from tests.harness.decoded import problems

MODELS = {name: Model.load(content) for name, content in small.every().items()}
THREE = MODELS["three"].signature
HEADS = ("risk", "size", "digits", "tags")
LENGTH = "Inference-Header-Content-Length"
ARRAYS = {
    "insurance": np.float32([[47, 20], [30, 1.5]]),
    "insurance.smoker": np.array([["yes"], ["größe"]], object),
    "fruit": np.float32([[1, 2], [3, 4]]),
    "digit": np.float32([[0, 1, 2, 3], [4, 5, 6, 7]]),
}
NEED = "more than 0, for a JSON that says which bytes are what"


def _bytes_of(array):
    """Return a tensor's bytes, computed without the service's code."""
    if array.dtype != object:
        return array.tobytes()
    texts = [text.encode() for text in array.reshape(-1)]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _entry(name, array, **parameters):
    """Return the JSON entry of a tensor in a request."""
    datatype = oip.DATATYPES["string" if array.dtype == object else array.dtype.name]
    content = _bytes_of(array)
    parameters = {"binary_data_size": len(content), **parameters}
    entry = {"name": name, "shape": list(array.shape), "datatype": datatype}
    return {**entry, "parameters": parameters}, content


def _request(arrays, in_json=(), **more):
    """Return a body with all tensors but some as bytes, and the length of its JSON."""
    inputs, tail = [], b""
    for name, array in arrays.items():
        entry, content = _entry(name, array)
        if name in in_json:
            entry["data"] = array.reshape(-1).tolist()
            del entry["parameters"]
        else:
            tail += content
        inputs.append(entry)
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + tail, len(head)


def _read(body, length, signature=THREE, content_type=""):
    """Decode a request."""
    headers = {LENGTH: str(length), "Content-Type": content_type}
    return oip.DIALECT.reader(signature)(body, lambda name: headers.get(name, ""))


def _problems(body, length, signature=THREE, content_type=""):
    """Return the problems of a body as (at, expected, received) tuples."""
    return problems(_read, body, length, signature, content_type)


def _same(arrays, expected):
    """Return whether two sets of arrays are equal."""
    assert set(arrays) == set(expected)
    return all(
        arrays[name].dtype == expected[name].dtype and np.array_equal(arrays[name], expected[name])
        for name in expected
    )


@pytest.mark.parametrize(
    "in_json",
    [
        pytest.param((), id="all as bytes"),
        pytest.param(("fruit",), id="one in JSON"),
        pytest.param(tuple(ARRAYS), id="all in JSON"),
    ],
)
def test_bytes_and_json_in_one_request(in_json):
    """Any of the inputs may be bytes, which follow in the order of the inputs."""
    body, length = _request(ARRAYS, in_json)

    asked = _read(body, length)

    assert _same(asked.arrays, ARRAYS)
    assert asked.heads == HEADS


def test_a_request_again():
    """The layout of a repeated JSON is cached, and the bytes are those of the request."""
    read = oip.DIALECT.reader(THREE)
    more = {name: array[::-1].copy() for name, array in ARRAYS.items()}
    more["insurance.smoker"] = np.array([["größe"], ["yes"]], object)

    for arrays in (ARRAYS, more, ARRAYS):
        body, length = _request(arrays)
        asked = read(body, {LENGTH: str(length)}.get)
        assert _same(asked.arrays, arrays)


def test_a_long_json():
    """A long JSON is read like any other, but not cached."""
    body, length = _request(ARRAYS, id="x" * 5000)

    assert _same(_read(body, length).arrays, ARRAYS)


@pytest.mark.parametrize("name", small.returning(MODELS))
def test_every_datatype_there_and_back(name):
    """A graph that returns its input returns the same bytes for every datatype, including FP16."""
    model = MODELS[name]
    array = small.values_for(model)
    body, length = _request({"x": array}, parameters={"binary_data_output": True})

    asked = _read(body, length, model.signature)
    reply = oip.DIALECT.encode(
        asked, name, "1", model.signature, model.predict(asked.arrays, asked.heads)
    )

    assert _same(asked.arrays, {"x": array})
    assert reply.content_type == "application/octet-stream"
    ((header, end),) = reply.headers
    assert header == LENGTH
    assert json.loads(reply.content[: int(end)]) == {
        "model_name": name,
        "model_version": "1",
        "outputs": [
            {
                "name": "y",
                "datatype": oip.DATATYPES["string" if array.dtype == object else str(array.dtype)],
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(_bytes_of(array))},
            }
        ],
    }
    assert reply.content[int(end) :] == _bytes_of(array)


@pytest.mark.parametrize("pad", range(8))
def test_bytes_may_lie_anywhere(pad):
    """JSON of any length may precede the bytes, so an array may have to be aligned."""
    array = np.float64([[1.5, -2.5]])
    body, length = _request({"x": array}, id="x" * pad)

    arrays = _read(body, length, MODELS["double"].signature).arrays["x"]

    assert arrays.flags.aligned
    assert np.array_equal(arrays, array)


def test_nan_and_infinity_are_values():
    """NaN and infinity as bytes reach the model."""
    array = np.float32([[np.nan, -np.inf]])
    body, length = _request({"x": array})

    assert _read(body, length, MODELS["float"].signature).arrays["x"].tobytes() == array.tobytes()


def test_an_axis_of_no_length():
    """A tensor with an axis of length 0 has no bytes."""
    array = np.empty((1, 0, 2), np.float32)
    body, length = _request({"x": array})

    assert _read(body, length, MODELS["ragged"].signature).arrays["x"].shape == (1, 0, 2)


def test_unneeded_inputs_are_skipped():
    """Bytes of an unneeded input are counted and checked, and the next tensor begins after them."""
    body, length = _request(ARRAYS, outputs=[{"name": "digits"}])

    assert _same(_read(body, length).arrays, {"digit": ARRAYS["digit"]})


@pytest.mark.parametrize(
    ("parameters", "outputs", "expected"),
    [
        pytest.param({}, None, [False] * 4, id="none asked"),
        pytest.param({"binary_data_output": True}, None, [True] * 4, id="all asked"),
        pytest.param(
            {"binary_data_output": True},
            [{"name": "size"}, {"name": "risk", "parameters": {"binary_data": False}}],
            [True, False],
            id="all but one",
        ),
        pytest.param(
            {"binary_data_output": False},
            [{"name": "size"}, {"name": "risk", "parameters": {"binary_data": True}}],
            [False, True],
            id="only one",
        ),
    ],
)
def test_an_output_overrides_the_request(parameters, outputs, expected):
    """The `binary_data` of an output takes precedence over the request's."""
    more = {"parameters": parameters} | ({"outputs": outputs} if outputs else {})
    body, length = _request(ARRAYS, **more)

    assert [wanted.binary for wanted in _read(body, length).wanted] == expected


def test_half_floats_as_bytes():
    """FP16 is written as bytes, which is its only form."""
    half = MODELS["float16"].signature
    array = np.float16([[1, 2]])
    body, length = _request({"x": array})

    assert _problems(body, length, half) == [
        ("outputs", "binary_data for y, which is FP16 and has no form in JSON", "no such parameter")
    ]
    classes = [{"name": "y", "parameters": {"classification": 1}}]
    body, length = _request({"x": array}, outputs=classes)
    asked = _read(body, length, half)
    answer = json.loads(oip.DIALECT.encode(asked, "m", "1", half, {"y": array}).content)
    assert answer["outputs"][0]["data"] == ["2.0:1"]


def test_an_answer_of_both():
    """An answer may hold JSON, bytes in the order of the outputs, and classes as strings."""
    outputs = [
        {"name": "digits", "parameters": {"classification": 1, "binary_data": True}},
        {"name": "size"},
        {"name": "tags", "parameters": {"binary_data": True}},
    ]
    body, length = _request(ARRAYS, outputs=outputs)
    arrays = {
        "digits": np.float32([[0, 0.5, 1], [9, 8, 7]]),
        "size": np.float32([[np.nan], [2]]),
        "tags": np.float32([[1, 2], [3, 4]]),
    }

    reply = oip.DIALECT.encode(_read(body, length), "m", "1", THREE, arrays)

    end = int(dict(reply.headers)[LENGTH])
    tail = b"\x09\0\0\0001.0:2:two\x0a\0\0\x009.0:0:zero"
    assert b'"data":[NaN,2.0]' in reply.content[:end]
    assert [
        (part["name"], part["datatype"], part["shape"], part.get("parameters"))
        for part in json.loads(reply.content[:end])["outputs"]
    ] == [
        ("digits", "BYTES", [2, 1], {"binary_data_size": len(tail)}),
        ("size", "FP32", [2, 1], None),
        ("tags", "FP32", [2, 2], {"binary_data_size": 16}),
    ]
    assert reply.content[end:] == tail + arrays["tags"].tobytes()


def test_a_strided_output_comes_row_by_row():
    """An output that is a slice of a larger array is written row by row."""
    assert binary.write(np.float32([[1, 3], [2, 4]]).T) == np.float32([1, 2, 3, 4]).tobytes()


@pytest.mark.parametrize("length", ["-1", "x", "1.5", "1,1", "²", "9" * 30, "{too_much}"])
def test_wrong_header_lengths_are_refused(length):
    """A header length that is not a number, or is past the end of the body, is refused."""
    body, end = _request(ARRAYS)
    length = length.replace("{too_much}", str(len(body) + 1))

    assert _problems(body, length) == [
        (LENGTH, f"the bytes of the JSON, a number from 0 to the {len(body)} of the body", length)
    ]
    assert end < len(body)


def test_a_length_of_the_whole_body():
    """A header length equal to that of the body is valid."""
    body, _ = _request(ARRAYS, tuple(ARRAYS))

    assert _same(_read(body, len(body)).arrays, ARRAYS)


def test_a_length_that_cuts_the_json():
    """A header length that cuts the JSON is refused."""
    body, length = _request(ARRAYS)

    assert [at for at, _, _ in _problems(body, length - 1)] == ["body"]


def test_bytes_without_a_header_length_are_refused():
    """The message for bytes without a header length explains that they are probably tensors."""
    body, _ = _request(ARRAYS)

    assert _problems(body, "", content_type="application/octet-stream") == [
        (LENGTH, "the bytes of the JSON", "no such header")
    ]
    assert _problems(body, "")[0][0] == "body"


def test_other_bytes_are_refused_as_no_json():
    """Other bytes that are not JSON are refused with the usual message."""
    assert _problems(b'{"a":1,"a":2}rest', 13) == [
        ("body", "each key of an object once", '"a" twice')
    ]
    assert _problems(b"[1]rest", 3) == [("body", 'an object with "inputs"', "a list of 1")]
    assert _problems(b"  rest", 2) == [("body", 'a JSON object with "inputs"', "no body")]


@pytest.mark.parametrize("more", [-1, 1])
def test_bytes_too_few_or_too_many(more):
    """The sizes of the tensors must add up to the rest of the body."""
    body, length = _request({"x": np.float32([[1, 2]])})
    body = body[:more] if more < 0 else body + b"!" * more

    assert _problems(body, length, MODELS["float"].signature) == [
        ("body", "8 bytes after the JSON, the sum of binary_data_size", str(8 + more))
    ]


def _sized(size, datatype="FP32", shape=(1, 2), **more):
    """Return a request whose tensor states this size."""
    entry = {"name": "x", "shape": shape, "datatype": datatype, **more}
    entry["parameters"] = {"binary_data_size": size}
    return json.dumps({"inputs": [entry]}).encode()


@pytest.mark.parametrize(
    ("name", "size", "expected", "received"),
    [
        pytest.param("float", 7, "8, the bytes of float32[1 x 2]", "7", id="fewer"),
        pytest.param("float", -8, "8, the bytes of float32[1 x 2]", "-8", id="negative"),
        pytest.param("float", 8.0, "8, the bytes of float32[1 x 2]", "8.0", id="no whole number"),
        pytest.param("float", "8", "8, the bytes of float32[1 x 2]", '"8"', id="text"),
        pytest.param("float", True, "8, the bytes of float32[1 x 2]", "true", id="true"),
        pytest.param("string", 7, "at least 8, the bytes of string[1 x 2]", "7", id="texts"),
    ],
)
def test_a_size_is_that_of_the_shape(name, size, expected, received):
    """The stated size must be that of the shape; a text has at least four bytes."""
    signature = MODELS[name].signature
    head = _sized(size, "BYTES" if name == "string" else "FP32")

    assert _problems(head + b"12345678", len(head), signature) == [
        ("inputs[0].parameters.binary_data_size", expected, received)
    ]


def test_data_stand_in_one_place():
    """A tensor has its data in the JSON or after it, not both."""
    head = _sized(8, data=[1, 2])

    assert _problems(head + b"12345678", len(head), MODELS["float"].signature) == [
        (
            "inputs[0].data",
            "no data in the JSON, since binary_data_size says that it follows",
            "a list of 2",
        )
    ]


def test_a_huge_shape_takes_no_memory():
    """A huge shape is refused before an array is allocated."""
    head, more = _sized(8, shape=(2**17, 2)), _sized(8, shape=(2**40, 2))

    assert _problems(head + b"12345678", len(head), MODELS["float"].signature) == [
        ("inputs[0].parameters.binary_data_size", "1048576, the bytes of float32[131072 x 2]", "8")
    ]
    assert _problems(more + b"12345678", len(more), MODELS["float"].signature) == [
        ("inputs[0].shape[0]", "at most 131072 rows in one request", "1099511627776 rows")
    ]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        pytest.param("bool", np.full((1000, 2), 2, np.uint8), id="booleans"),
        pytest.param("string", np.full((1000, 2), b"\xff", object), id="texts"),
    ],
)
def test_of_many_problems_the_first_are_shown(name, array):
    """The message has the first problems and counts all.

    Messages for millions of problems took 11 s and 760 MB.
    """
    content = array.tobytes() if name == "bool" else struct.pack("<I", 1) + b"\xff"
    content *= 1 if name == "bool" else array.size
    entry = {
        "name": "x",
        "datatype": {"bool": "BOOL", "string": "BYTES"}[name],
        "shape": list(array.shape),
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"inputs": [entry]}).encode()

    with pytest.raises(BadRequest) as caught:
        _read(head + content, len(head), MODELS[name].signature)

    assert caught.value.count == array.size
    assert [problem.at for problem in caught.value.problems] == [
        f"inputs[0].data[{i}]" for i in range(len(caught.value.problems))
    ]


def test_a_long_head_is_counted_before_it_is_built():
    """Brackets of the JSON are counted before it is parsed.

    Parsing 16 MB of brackets took half a gigabyte in one call.
    """
    head = b'{"inputs":[' + b"[]," * MOST_OPENED + b"[]]}"

    assert "lists and objects" in str(_problems(head, len(head)))


def test_more_entries_than_tensors_are_refused_at_once():
    """More entries than the model has tensors are refused at once; millions took 45 s."""
    head = json.dumps({"inputs": [1] * 1000}).encode()

    assert _problems(head, len(head))[0] == (
        "inputs",
        "each of insurance, insurance.smoker, fruit, digit once",
        "a list of 1000",
    )


def test_a_boolean_is_0_or_1():
    """A BOOL byte other than 0 or 1 is refused."""
    head = _sized(2, "BOOL")

    assert _problems(head + b"\x02\xff", len(head), MODELS["bool"].signature) == [
        ("inputs[0].data[0]", "0 or 1 in a byte", "2"),
        ("inputs[0].data[1]", "0 or 1 in a byte", "255"),
    ]


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        pytest.param(
            b"\1\0\0\0a\xff\0\0\0b",
            [
                (
                    "inputs[0].data[1]",
                    "a length in 4 bytes, and 255 bytes of text",
                    "5 bytes to the end",
                )
            ],
            id="a length past the end",
        ),
        pytest.param(
            b"\4\0\0\0abcd\0\0",
            [
                (
                    "inputs[0].data[1]",
                    "a length in 4 bytes, and 0 bytes of text",
                    "2 bytes to the end",
                )
            ],
            id="half a length",
        ),
        pytest.param(
            b"\1\0\0\0a\1\0\0\0bxyz",
            [("inputs[0].data", "2 texts and nothing else", "3 bytes after them")],
            id="bytes after the last",
        ),
        pytest.param(
            b"\2\0\0\0a\xff\1\0\0\0\xfe",
            [
                ("inputs[0].data[0]", "text in UTF-8", "the byte 0xff at offset 1"),
                ("inputs[0].data[1]", "text in UTF-8", "the byte 0xfe at offset 0"),
            ],
            id="no text",
        ),
    ],
)
def test_wrong_texts_are_refused(content, problems):
    """Each text that is not UTF-8, or whose length is wrong, is refused at its place."""
    head = _sized(len(content), "BYTES")

    assert _problems(head + content, len(head), MODELS["string"].signature) == problems


def test_bytes_alone_are_one_row():
    """A body of bytes alone is one row of the only input, and all outputs come back as bytes."""
    asked = _read(np.float32([1, 2]).tobytes(), 0, MODELS["float"].signature)

    assert _same(asked.arrays, {"x": np.float32([[1, 2]])})
    assert asked.wanted == (Wanted("y", binary=True),)


def test_bytes_alone_say_one_length():
    """The number of bytes gives the length of the only free axis."""
    ragged = MODELS["ragged"].signature
    rows = np.float32([[[1, 2], [3, 4], [5, 6]]])

    assert _same(_read(rows.tobytes(), 0, ragged).arrays, {"x": rows})
    assert _problems(rows.tobytes()[:-1], 0, ragged) == [
        ("body", "a multiple of 8 bytes: x is float32[any x 2] a row", "23")
    ]
    assert [at for at, _, _ in _problems(b"", 0, ragged)] == ["body"]


def test_bytes_alone_are_one_text():
    """For an input of strings, the body is one string without its length."""
    signature = Model.load(small.same(small.S, (1,))).signature

    assert _read("größe".encode(), 0, signature).arrays["x"].tolist() == [["größe"]]
    assert _problems(b"\xff", 0, signature) == [
        ("body[0]", "text in UTF-8", "the byte 0xff at offset 0")
    ]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        pytest.param(
            THREE,
            f"{NEED}: the model has 4 inputs (insurance, insurance.smoker, fruit, digit)",
            id="several inputs",
        ),
        pytest.param(
            MODELS["string"].signature, f"{NEED}: x is string[2] a row", id="several texts"
        ),
        pytest.param(
            Model.load(small.same(small.F, (None, None))).signature,
            f"{NEED}: x is float32[any x any] a row",
            id="two lengths",
        ),
    ],
)
def test_bytes_alone_are_refused_where_they_are_ambiguous(signature, expected):
    """Bytes alone are refused where they do not determine the inputs and their shape."""
    assert _problems(b"1234", 0, signature) == [(LENGTH, expected, "0")]


def test_bytes_alone_are_all_of_a_row():
    """A body of bytes alone must have the length of one row."""
    assert _problems(b"123456789", 0, MODELS["float"].signature) == [
        ("body", "8 bytes: x is float32[2] a row", "9")
    ]


@st.composite
def _arrays(draw):
    """Draw arrays for every input."""
    rows = draw(st.integers(1, 4))
    arrays = {}
    for name, array in ARRAYS.items():
        size = rows * array.shape[1]
        values = st.text(max_size=5) if array.dtype == object else st.floats(width=32)
        listed = draw(st.lists(values, min_size=size, max_size=size))
        arrays[name] = np.array(listed, array.dtype).reshape(rows, -1)
    return arrays


@given(_arrays(), st.text("a:é", max_size=3))
def test_written_arrays_are_read_back(arrays, name):
    """Arrays are read back bit for bit, whatever the id."""
    body, length = _request(arrays, id=name)
    asked = _read(body, length)

    assert {key: _bytes_of(array) for key, array in asked.arrays.items()} == {
        key: _bytes_of(array) for key, array in arrays.items()
    }
    assert asked.id == name


@given(
    st.sampled_from(["float", "string", "ragged", "bool"]),
    st.integers(0, 140),
    st.binary(max_size=4),
    st.integers(-2, 2),
)
def test_whatever_comes_is_read_or_refused(name, place, wrong, shift):
    """A damaged body or header length raises nothing but `BadRequest`."""
    array = {"string": np.array([["a", "b"]], object), "bool": np.array([[True, False]])}.get(
        name, np.float32([[1, 2]])
    )
    array = array.reshape(1, 1, 2) if name == "ragged" else array
    body, length = _request({"x": array})
    body = body[:place] + wrong + body[place + len(wrong) :]

    with contextlib.suppress(BadRequest):
        _read(body, length + shift, MODELS[name].signature)
    with contextlib.suppress(BadRequest):
        _read(body, 0, MODELS[name].signature)
