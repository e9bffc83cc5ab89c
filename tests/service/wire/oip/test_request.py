"""Requests of the Open Inference Protocol in JSON: inputs as arrays, and requested outputs."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.wire import oip
from service.wire.oip import Wanted, quick
from service.wire.oip.request import KEYS, Known
from tests.harness.decoded import same
from tests.harness.oip import (
    DIGIT,
    FRUIT,
    HEADS,
    INPUTS,
    JSON,
    MODELS,
    SIZE,
    THREE,
    nowhere,
    one_input,
    problems_of,
    read_body,
    unsure,
)

ARRAYS = {
    "insurance": np.float32([[47, 20]]),
    "insurance.smoker": np.array([["yes"]], object),
    "fruit": np.float32([[1, 2]]),
    "digit": np.float32([[0, 1, 2, 3]]),
}


pytestmark = pytest.mark.usefixtures("either_path")


def test_any_content_type_is_read():
    """The dialect accepts any content type, as Triton does, since Triton's client sends none."""
    assert (oip.DIALECT.name, oip.DIALECT.reads) == ("oip", ())


def test_all_inputs_in_and_all_outputs_asked():
    """A request without outputs, or with an empty list of them, asks for all, as in Triton."""
    asked = read_body({"inputs": INPUTS})

    assert same(asked.arrays, ARRAYS)
    assert asked.heads == HEADS
    assert asked.wanted == tuple(Wanted(head, binary=False) for head in HEADS)
    assert (asked.id, asked.timeout, asked.imputed) == (None, None, ())
    assert read_body({"inputs": INPUTS, "outputs": []}).heads == HEADS


def test_inputs_come_in_any_order():
    """Inputs are identified by name."""
    assert same(read_body({"inputs": INPUTS[::-1]}).arrays, dict(reversed(ARRAYS.items())))


def test_data_may_be_nested():
    """Numbers and strings may be nested in the stated shape."""
    nested = [{**entry, "data": ARRAYS[entry["name"]].tolist()} for entry in INPUTS]

    assert same(read_body({"inputs": nested}).arrays, ARRAYS)


def test_several_rows_of_several_axes():
    """Flat data are in row-major order, as in the specification's example."""
    rows = np.arange(12, dtype=np.float32).reshape(2, 2, 1, 3)
    deep = MODELS["deep"].signature

    for data in (rows.reshape(-1).tolist(), rows.tolist()):
        assert same(read_body(one_input(data, (2, 2, 1, 3)), deep).arrays, {"x": rows})


def test_one_value_a_row():
    """The shape of an input without other axes is [rows]."""
    asked = read_body(one_input([1, 2, 3], (3,)), MODELS["scalar"].signature)

    assert same(asked.arrays, {"x": np.float32([1, 2, 3])})


def test_an_axis_of_any_length():
    """A free axis has the length that the shape states."""
    ragged = MODELS["ragged"].signature
    rows = np.float32([[[1, 2], [3, 4], [5, 6]]])

    for data in ([1, 2, 3, 4, 5, 6], rows.tolist()):
        assert same(read_body(one_input(data, (1, 3, 2)), ragged).arrays, {"x": rows})
    assert read_body(one_input([], (1, 0, 2)), ragged).arrays["x"].shape == (1, 0, 2)


def test_the_number_of_empty_rows_is_limited():
    """The number of empty rows is limited, since the answer has as many rows."""
    ragged = MODELS["ragged"].signature

    assert read_body(one_input([], (1024, 0, 2)), ragged).arrays["x"].shape == (1024, 0, 2)
    expected = "[rows, any, 2], with 1 row at least, and no axis above 1024 beside one of 0"
    assert problems_of(one_input([], (1025, 0, 2)), ragged) == [
        ("inputs[0].shape", expected, "[1025, 0, 2]")
    ]


def test_empty_lists_are_flat():
    """Empty lists count as flat at any depth, since an axis of length 0 hides the axes below it."""
    ragged = MODELS["ragged"].signature

    assert problems_of(one_input([[]], (1, 0, 2)), ragged) == [
        (
            "inputs[0].data",
            "0 numbers, flat or as 1 x 0 x 2",
            "a list in the shape 1 x 0",
        )
    ]


def test_many_keys_are_not_looked_up_one_by_one():
    """Reading half a million keys takes little time.

    Simdjson scans all keys for each look-up, which once took hours.
    """
    keys = {f"k{i}": 1 for i in range(50_000)}
    started = time.thread_time()

    for body in ({"inputs": [], **keys}, {"inputs": [{"name": "fruit", "data": [1], **keys}]}):
        with pytest.raises(BadRequest, match="the unknown key"):
            read_body(body)

    assert time.thread_time() - started < 50


def test_named_outputs_need_only_their_inputs():
    """Other inputs may be sent; they are checked and left out."""
    asked = read_body({"inputs": [FRUIT], "outputs": SIZE})

    assert (asked.heads, list(asked.arrays)) == (("size",), ["fruit"])
    assert list(read_body({"inputs": INPUTS, "outputs": SIZE}).arrays) == ["fruit"]
    bad = [FRUIT, {**DIGIT, "data": ["1"] * 4}]
    assert [at for at, _, _ in problems_of({"inputs": bad, "outputs": SIZE})] == [
        f"inputs[1].data[{i}]" for i in range(4)
    ]


def test_outputs_come_in_the_order_asked():
    """Outputs come in the order of the request, not in that of the graph."""
    asked = read_body({"inputs": INPUTS, "outputs": [{"name": "tags"}, {"name": "risk"}]})

    assert asked.heads == ("tags", "risk")


@pytest.mark.parametrize(
    ("name", "datatype", "data"),
    [
        pytest.param("float", "FP32", [0.1, -3e38], id="FP32"),
        pytest.param("double", "FP64", [0.1, 1e308], id="FP64"),
        pytest.param("bool", "BOOL", [True, False], id="BOOL"),
        pytest.param("string", "BYTES", ["größe", ""], id="BYTES"),
        pytest.param("int8", "INT8", [-128, 127], id="INT8"),
        pytest.param("int16", "INT16", [-(2**15), 2**15 - 1], id="INT16"),
        pytest.param("int32", "INT32", [-(2**31), 2**31 - 1], id="INT32"),
        pytest.param("int64", "INT64", [-(2**63), 2**63 - 1], id="INT64"),
        pytest.param("uint8", "UINT8", [0, 255], id="UINT8"),
        pytest.param("uint16", "UINT16", [0, 2**16 - 1], id="UINT16"),
        pytest.param("uint32", "UINT32", [0, 2**32 - 1], id="UINT32"),
        pytest.param("uint64", "UINT64", [0, 2**64 - 1], id="UINT64"),
    ],
)
def test_every_datatype_there_and_back(name, datatype, data):
    """Values of every datatype survive the round trip, to the limits of the dtype."""
    model = MODELS[name]
    signature = model.signature
    asked = read_body(one_input(data, datatype=datatype), signature)
    outputs = model.predict(asked.arrays, asked.heads)
    reply = oip.DIALECT.encode(asked, name, "1", signature, outputs)

    dtype = signature.inputs["x"].tensors[0].dtype
    assert same(asked.arrays, {"x": np.array([data], object if dtype == "string" else dtype)})
    (output,) = json.loads(reply.content)["outputs"]
    assert {key: output[key] for key in ("name", "datatype", "shape")} == {
        "name": "y",
        "datatype": datatype,
        "shape": [1, 2],
    }
    back = np.array(output["data"], asked.arrays["x"].dtype).reshape(1, 2)
    assert np.array_equal(back, asked.arrays["x"])


def test_a_whole_float_is_an_integer():
    """An integer may be written as 2.0, but not as 1.5."""
    int8 = MODELS["int8"].signature

    assert read_body(one_input([1.0, 2], datatype="INT8"), int8).arrays["x"].tolist() == [[1, 2]]
    assert problems_of(one_input([1.5, 2], datatype="INT8"), int8) == [
        ("inputs[0].data[0]", "a whole number from -128 to 127", "1.5")
    ]


def test_other_fields_of_a_request():
    """An id is kept, unknown parameters are ignored, and the model may be named as by KServe."""
    parameters = {"a": "b", "c": 1, "d": 1.5, "e": True, "priority": 3, "sequence_id": "s"}
    more = {"id": "42", "parameters": parameters, "model_name": "three", "model_version": None}

    asked = read_body({"inputs": INPUTS, **more})

    assert asked.id == "42"
    assert same(asked.arrays, ARRAYS)


def test_null_is_absence():
    """Null counts as absent for optional fields, as some clients write them."""
    nothing = {"id": None, "parameters": None, "outputs": None}
    inputs = [{**entry, "parameters": None} for entry in INPUTS]

    asked = read_body({"inputs": inputs, **nothing})

    assert (asked.id, asked.heads) == (None, HEADS)
    assert same(asked.arrays, ARRAYS)


def test_a_timeout_is_in_microseconds():
    """The timeout of a request is read as seconds."""
    assert read_body({"inputs": INPUTS, "parameters": {"timeout": 1_500_000}}).timeout == 1.5


@st.composite
def _bodies(draw):
    """Draw bodies that are right or nearly right."""
    rows = draw(st.integers(1, 3))
    number = st.one_of(
        st.floats(width=32), st.integers(-5, 300), st.floats(-2, 2), st.booleans(), JSON
    )
    kind = draw(st.sampled_from(["good", "good", "bad"]))
    inputs = []
    for tensor in MODELS["three"].signature.inputs.values():
        for t in tensor.tensors:
            size = rows * t.size
            good = (
                st.text("ab:[ö", max_size=3) if t.dtype == "string" else st.floats(-9, 9, width=32)
            )
            value = good if kind == "good" else number
            data = draw(st.lists(value, min_size=size, max_size=size))
            if draw(st.booleans()):
                data = [data[i : i + t.size] for i in range(0, size, t.size)]
                if kind == "bad" and draw(st.booleans()):
                    data = draw(st.permutations([*data, []]))
                elif kind == "bad":
                    data[0].append(data[-1].pop())
            entry = {
                "name": t.name,
                "shape": [rows, t.size],
                "datatype": oip.DATATYPES[t.dtype],
                "data": data,
            }
            inputs.append(entry)
    body = {"inputs": inputs}
    if draw(st.booleans()):
        body["outputs"] = [{"name": name} for name in draw(st.lists(st.sampled_from(HEADS)))]
    if kind == "bad":
        body |= draw(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=1))
    return body


def _outcome(body, signature):
    """Return the result of a reader in a form that can be compared."""
    try:
        asked = oip.DIALECT.reader(signature)(body, nowhere)
    except BadRequest as error:
        return "error", error.problems, error.count
    arrays = {
        name: (array.dtype.str, array.shape, array.tolist()) for name, array in asked.arrays.items()
    }
    return arrays, asked.heads, asked.wanted, asked.id, asked.timeout


@given(_bodies() | JSON)
def test_both_paths_agree(request):
    """Both readers return the same arrays, outputs and messages."""
    try:
        body = json.dumps(request).encode()
    except UnicodeEncodeError:
        return
    fast = _outcome(body, THREE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "parse", unsure)
        assert _outcome(body, THREE) == fast


@given(
    st.integers(1, 4).flatmap(
        lambda rows: st.lists(
            st.floats(allow_nan=False, allow_infinity=False, width=32),
            min_size=2 * rows,
            max_size=2 * rows,
        )
    ),
    st.booleans(),
)
def test_written_arrays_are_read_back(values, nested):
    """Float32 survives JSON exactly."""
    array = np.float32(values).reshape(-1, 2)
    data = (array if nested else array.reshape(-1)).tolist()
    asked = read_body(one_input(data, array.shape), MODELS["float"].signature)

    assert asked.arrays["x"].tobytes() == array.tobytes()


def test_the_fast_path_is_taken():
    """Flat and nested data, with all other fields of a request, take the fast path."""
    known = Known(THREE).tensors
    nested = [{**entry, "data": ARRAYS[entry["name"]].tolist()} for entry in INPUTS[2:]]
    body = {"id": "a", "inputs": INPUTS[:2] + nested, "outputs": SIZE, "parameters": {"timeout": 1}}

    if quick.parse is not unsure:
        document = quick.parse(json.dumps(body).encode(), known)
        assert [type(entry["data"]) for entry in document["inputs"]] == [
            np.ndarray,
            list,
            np.ndarray,
            np.ndarray,
        ]
