"""The Open Inference Protocol in JSON: bodies to arrays and what was asked, arrays to answers."""

import json
import math
import time

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest, NotFound
from service.inference.model import Model
from service.signature import Head, Input, Signature, Tensor
from service.wire import oip
from service.wire.oip import Wanted, quick
from service.wire.oip.request import INPUT_KEYS, KEYS, Known
from service.wire.quick import UnsureError
from tests.harness import small
from tests.harness.decoded import problems, same

MODELS = {name: Model.load(content) for name, content in small.every().items()}
THREE = MODELS["three"].signature
HEADS = ("risk", "size", "digits", "tags")
ARRAYS = {
    "insurance": np.float32([[47, 20]]),
    "insurance.smoker": np.array([["yes"]], object),
    "fruit": np.float32([[1, 2]]),
    "digit": np.float32([[0, 1, 2, 3]]),
}
INSURANCE = {"name": "insurance", "shape": [1, 2], "datatype": "FP32", "data": [47, 20]}
SMOKER = {"name": "insurance.smoker", "shape": [1, 1], "datatype": "BYTES", "data": ["yes"]}
FRUIT = {"name": "fruit", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
DIGIT = {"name": "digit", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}
INPUTS = [INSURANCE, SMOKER, FRUIT, DIGIT]
SIZE = [{"name": "size"}]
NAMES = "insurance, insurance.smoker, fruit, digit"
WORDS = "text, a number, true or false"


def _nowhere(_name):
    """No headers."""
    return ""


def _unsure(*_):
    raise UnsureError


@pytest.fixture(params=[True, False], ids=["fast", "plain"], autouse=True)
def _either_path(request, monkeypatch):
    """Everything here holds for both ways to read JSON."""
    if not request.param:
        monkeypatch.setattr(quick, "parse", _unsure)


def _read(said, signature=THREE):
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return oip.DIALECT.reader(signature)(body, _nowhere)


def _problems(said, signature=THREE):
    """What is wrong with a body: (at, expected, received) each."""
    return problems(_read, said, signature)


def _one(data, shape=(1, 2), datatype="FP32", **more):
    """A body for a model whose input is x."""
    entry = {"name": "x", "shape": list(shape), "datatype": datatype, "data": data}
    return {"inputs": [entry], **more}


def test_its_name_and_what_it_reads():
    """Any content type, as Triton does: its client sends none."""
    assert (oip.DIALECT.name, oip.DIALECT.reads) == ("oip", ())


def test_all_inputs_in_and_all_outputs_asked():
    """Unless some are named; an empty list names none, as for Triton."""
    asked = _read({"inputs": INPUTS})

    assert same(asked.arrays, ARRAYS)
    assert asked.heads == HEADS
    assert asked.wanted == tuple(Wanted(head, binary=False) for head in HEADS)
    assert (asked.id, asked.timeout, asked.imputed) == (None, None, ())
    assert _read({"inputs": INPUTS, "outputs": []}).heads == HEADS


def test_inputs_come_in_any_order():
    """They are told apart by name."""
    assert same(_read({"inputs": INPUTS[::-1]}).arrays, dict(reversed(ARRAYS.items())))


def test_data_may_be_nested():
    """In the shape that is said, for numbers and for texts."""
    nested = [{**entry, "data": ARRAYS[entry["name"]].tolist()} for entry in INPUTS]

    assert same(_read({"inputs": nested}).arrays, ARRAYS)


def test_several_rows_of_several_axes():
    """Flat is row by row, as in the spec's own example."""
    rows = np.arange(12, dtype=np.float32).reshape(2, 2, 1, 3)
    deep = MODELS["deep"].signature

    for data in (rows.reshape(-1).tolist(), rows.tolist()):
        assert same(_read(_one(data, (2, 2, 1, 3)), deep).arrays, {"x": rows})


def test_one_value_a_row():
    """Its shape is the rows alone."""
    asked = _read(_one([1, 2, 3], (3,)), MODELS["scalar"].signature)

    assert same(asked.arrays, {"x": np.float32([1, 2, 3])})


def test_an_axis_of_any_length():
    """Its length is the one that is said."""
    ragged = MODELS["ragged"].signature
    rows = np.float32([[[1, 2], [3, 4], [5, 6]]])

    for data in ([1, 2, 3, 4, 5, 6], rows.tolist()):
        assert same(_read(_one(data, (1, 3, 2)), ragged).arrays, {"x": rows})
    assert _read(_one([], (1, 0, 2)), ragged).arrays["x"].shape == (1, 0, 2)


def test_rows_of_nothing_are_not_as_many_as_one_likes():
    """They are told by their number alone, and the answer has as many."""
    ragged = MODELS["ragged"].signature

    assert _read(_one([], (1024, 0, 2)), ragged).arrays["x"].shape == (1024, 0, 2)
    expected = "[rows, any, 2], with 1 row at least, and no axis above 1024 beside one of 0"
    assert _problems(_one([], (1025, 0, 2)), ragged) == [
        ("inputs[0].shape", expected, "[1025, 0, 2]")
    ]


def test_lists_of_nothing_are_flat():
    """However deep, since below an axis of 0 there is nothing to tell a shape by."""
    ragged = MODELS["ragged"].signature

    assert _problems(_one([[]], (1, 0, 2)), ragged) == [
        (
            "inputs[0].data",
            "0 numbers, flat or as 1 x 0 x 2",
            "a list in the shape 1 x 0",
        )
    ]


def test_many_keys_are_not_looked_up_one_by_one():
    """Simdjson goes through all of them for each, so half a million took hours."""
    keys = {f"k{i}": 1 for i in range(50_000)}
    started = time.thread_time()

    for said in ({"inputs": [], **keys}, {"inputs": [{"name": "fruit", "data": [1], **keys}]}):
        with pytest.raises(BadRequest, match="the unknown key"):
            _read(said)

    assert time.thread_time() - started < 50


def test_named_outputs_need_only_their_inputs():
    """Others may be there, and are checked and left out."""
    asked = _read({"inputs": [FRUIT], "outputs": SIZE})

    assert (asked.heads, list(asked.arrays)) == (("size",), ["fruit"])
    assert list(_read({"inputs": INPUTS, "outputs": SIZE}).arrays) == ["fruit"]
    bad = [FRUIT, {**DIGIT, "data": ["1"] * 4}]
    assert [at for at, _, _ in _problems({"inputs": bad, "outputs": SIZE})] == [
        f"inputs[1].data[{i}]" for i in range(4)
    ]


def test_outputs_come_in_the_order_asked():
    """Not in the graph's."""
    asked = _read({"inputs": INPUTS, "outputs": [{"name": "tags"}, {"name": "risk"}]})

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
    """To the graph's dtype without a loss, to the limits of it."""
    model = MODELS[name]
    signature = model.signature
    asked = _read(_one(data, datatype=datatype), signature)
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


def test_a_whole_float_is_a_whole_number():
    """As some writers write it; 1.5 is not."""
    int8 = MODELS["int8"].signature

    assert _read(_one([1.0, 2], datatype="INT8"), int8).arrays["x"].tolist() == [[1, 2]]
    assert _problems(_one([1.5, 2], datatype="INT8"), int8) == [
        ("inputs[0].data[0]", "a whole number from -128 to 127", "1.5")
    ]


@pytest.mark.parametrize(
    ("name", "datatype", "data", "expected", "received"),
    [
        pytest.param("float", "FP32", "1", "a number", '"1"', id="text for a number"),
        pytest.param("float", "FP32", True, "a number", "true", id="true for a number"),
        pytest.param("float", "FP32", None, "a number", "null", id="null"),
        pytest.param(
            "float", "FP32", 1e39, "a number within ±3.40282e+38", "1e+39", id="too large"
        ),
        pytest.param("bool", "BOOL", 1, "true or false", "1", id="1 for true"),
        pytest.param("string", "BYTES", 1, "text", "1", id="a number for text"),
        pytest.param("string", "BYTES", "\ud800", "text", '"\\ud800"', id="half a character"),
        pytest.param(
            "uint8", "UINT8", 256, "a whole number from 0 to 255", "256", id="past the dtype"
        ),
        pytest.param(
            "uint64",
            "UINT64",
            2**64,
            "a whole number from 0 to 18446744073709551615",
            "18446744073709551616",
            id="past 64 bits",
        ),
    ],
)
def test_what_is_no_value_of_the_dtype(name, datatype, data, expected, received):
    """Is refused at its place, flat or nested."""
    signature = MODELS[name].signature
    good = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)

    assert _problems(_one([good, data], datatype=datatype), signature) == [
        ("inputs[0].data[1]", expected, received)
    ]
    assert _problems(_one([[good, data]], datatype=datatype), signature) == [
        ("inputs[0].data[0][1]", expected, received)
    ]


@pytest.mark.parametrize(
    ("word", "received"),
    [
        ("NaN", "NaN"),
        ("Infinity", "Infinity, or a number too large for any float"),
        ("-Infinity", "-Infinity, or a number too large for any float"),
        ("1e999", "Infinity, or a number too large for any float"),
    ],
)
def test_no_infinity_goes_in_as_json(word, received):
    """Nor any NaN: JSON has none."""
    body = json.dumps(_one(["?", 1])).replace('"?"', word).encode()
    ((at, _, said),) = _problems(body, MODELS["float"].signature)

    assert (at, said) == ("inputs[0].data[0]", received)


def test_half_floats_have_no_json():
    """In either direction: binary data carries them."""
    half = MODELS["float16"].signature

    assert _problems(_one([1, 2], datatype="FP16"), half) == [
        (
            "outputs",
            "binary_data for y, which is FP16 and has no form in JSON",
            "no such parameter",
        ),
        ("inputs[0].data", "binary data, since FP16 has no form in JSON", "a list of 2"),
    ]
    named = _one([1, 2], datatype="FP16", outputs=[{"name": "y", "parameters": {"k": 1}}])
    assert [at for at, _, _ in _problems(named, half)] == ["outputs[0]", "inputs[0].data"]


def test_half_floats_have_no_json_whatever_goes_out():
    """Not even by the fast path, which could read them."""
    entry = Input("x", "tensor", (Tensor("x", "float16", (2,)),))
    head = Head("y", "tensor", Tensor("y", "float32", (2,)), inputs=("x",))

    assert _problems(_one([1, 2], datatype="FP16"), Signature({"x": entry}, {"y": head})) == [
        ("inputs[0].data", "binary data, since FP16 has no form in JSON", "a list of 2")
    ]


@pytest.mark.parametrize(
    ("body", "at", "expected", "received"),
    [
        pytest.param(b"", "body", 'a JSON object with "inputs"', "no body", id="nothing"),
        pytest.param(b" \n", "body", 'a JSON object with "inputs"', "no body", id="white space"),
        pytest.param(b"[]", "body", 'an object with "inputs"', "an empty list", id="no object"),
        pytest.param(
            b"{",
            "body",
            "JSON",
            "something else at line 1, column 2 (Expecting property name enclosed in double "
            "quotes)",
            id="no JSON",
        ),
        pytest.param(
            b'{"inputs": "\xff"}',
            "body",
            "JSON in UTF-8",
            "the byte 0xff at offset 12",
            id="no UTF-8",
        ),
        pytest.param(
            b"\xef\xbb\xbf{}",
            "body",
            "JSON in UTF-8 without a byte order mark",
            "one that begins with it",
            id="a byte order mark",
        ),
        pytest.param(
            b"{}",
            "inputs",
            f"a list of inputs: {NAMES}",
            "nothing",
            id="no inputs",
        ),
        pytest.param(
            b'{"inputs": {}}',
            "inputs",
            f"a list of inputs: {NAMES}",
            "an empty object",
            id="no list",
        ),
        pytest.param(
            b'{"inputs": []}', "inputs", f"all of {NAMES}", f"no {NAMES}", id="an empty list"
        ),
    ],
)
def test_bodies_that_are_none(body, at, expected, received):
    """Each says what is wrong with it as a whole."""
    assert _problems(body) == [(at, expected, received)]


@pytest.mark.parametrize(
    "place",
    [
        '{"id": "a", "id": "b", "inputs": []}',
        '{"inputs": [], "inputs": []}',
        '{"inputs": [{"name": "x", "name": "x"}]}',
        json.dumps(_one([3, 4]))[:-3] + ', "data": [1, 2]}]}',
        '{"inputs": [{"name": "x", "parameters": {"a": 1, "a": 2}}]}',
        '{"inputs": [], "outputs": [{"name": "y", "name": "y"}]}',
        '{"inputs": [], "parameters": {"timeout": 1, "timeout": 2}}',
    ],
)
def test_no_key_twice(place):
    """Wherever: readers differ in which of the two counts."""
    ((at, expected, received),) = _problems(place.encode(), MODELS["float"].signature)

    assert (at, expected) == ("body", "each key of an object once")
    assert received.endswith(" twice")


def _with(entry=INSURANCE, **changes):
    """All four inputs with one of them changed; `...` takes a key away."""
    changed = {**entry, **changes}
    kept = {key: value for key, value in changed.items() if value is not ...}
    return {"inputs": [kept if other is entry else other for other in INPUTS]}


@pytest.mark.parametrize(
    ("said", "problems"),
    [
        pytest.param(
            _with(name="insuranse"),
            [
                (
                    "inputs[0].name",
                    f"one of {NAMES} (did you mean 'insurance'?)",
                    '"insuranse"',
                ),
                ("inputs", f"all of {NAMES}", "no insurance"),
            ],
            id="an unknown name",
        ),
        pytest.param(
            _with(name=...),
            [
                ("inputs[0].name", f"one of {NAMES}", "nothing"),
                ("inputs", f"all of {NAMES}", "no insurance"),
            ],
            id="no name",
        ),
        pytest.param(
            _with(name=["insurance"]),
            [
                ("inputs[0].name", f"one of {NAMES}", "a list of 1"),
                ("inputs", f"all of {NAMES}", "no insurance"),
            ],
            id="a name that is none",
        ),
        pytest.param(
            {"inputs": [*INPUTS, FRUIT]},
            [("inputs[4].name", "each name once", '"fruit" again')],
            id="twice",
        ),
        pytest.param(
            {"inputs": INPUTS[:2]},
            [("inputs", f"all of {NAMES}", "no fruit, digit")],
            id="missing",
        ),
        pytest.param(
            {"inputs": [*INPUTS, 7]},
            [("inputs[4]", "an object of name, shape, datatype, parameters, data", "7")],
            id="no object",
        ),
        pytest.param(
            _with(dtype="FP32"),
            [
                (
                    "inputs[0].dtype",
                    "one of name, shape, datatype, parameters, data (did you mean 'datatype'?)",
                    'the unknown key "dtype"',
                )
            ],
            id="an unknown key of an input",
        ),
        pytest.param(
            {"inputs": INPUTS, "output": SIZE},
            [
                (
                    "output",
                    f"one of {', '.join(KEYS)} (did you mean 'outputs'?)",
                    'the unknown key "output"',
                )
            ],
            id="an unknown key",
        ),
        pytest.param(
            _with(datatype="FP64"),
            [("inputs[0].datatype", "FP32", '"FP64"')],
            id="another datatype",
        ),
        pytest.param(
            _with(datatype=...), [("inputs[0].datatype", "FP32", "nothing")], id="no datatype"
        ),
        pytest.param(
            _with(shape=[1, 3]),
            [("inputs[0].shape", "[rows, 2], with 1 row at least", "[1, 3]")],
            id="another shape",
        ),
        pytest.param(
            _with(shape=[2]),
            [("inputs[0].shape", "[rows, 2], with 1 row at least", "[2]")],
            id="too few axes",
        ),
        pytest.param(
            _with(shape=[0, 2], data=[]),
            [("inputs[0].shape", "[rows, 2], with 1 row at least", "[0, 2]")],
            id="no row",
        ),
        pytest.param(
            _with(shape=[True, 2]),
            [("inputs[0].shape", "[rows, 2], with 1 row at least", "[true, 2]")],
            id="true is no length",
        ),
        pytest.param(
            _with(shape=[1] * 9),
            [("inputs[0].shape", "[rows, 2], with 1 row at least", "a list of 9")],
            id="too many axes to show",
        ),
        pytest.param(
            _with(shape=...),
            [("inputs[0].shape", "[rows, 2], with 1 row at least", "nothing")],
            id="no shape",
        ),
        pytest.param(
            _with(FRUIT, shape=[2, 2], data=[1, 2, 3, 4]),
            [("inputs[2].shape[0]", "1 row, as inputs[0] has", "2 rows")],
            id="rows that do not line up",
        ),
        pytest.param(
            _with(data=...),
            [
                (
                    "inputs[0].data",
                    "the values, flat or nested, or the parameter binary_data_size",
                    "nothing",
                )
            ],
            id="no data",
        ),
        pytest.param(
            _with(data=None),
            [
                (
                    "inputs[0].data",
                    "the values, flat or nested, or the parameter binary_data_size",
                    "null",
                )
            ],
            id="null for data",
        ),
        pytest.param(
            _with(data=5),
            [("inputs[0].data", "2 numbers, flat or as 1 x 2", "5, not in a list")],
            id="no list",
        ),
        pytest.param(
            _with(data=[1, 2, 3]),
            [("inputs[0].data", "2 numbers, flat or as 1 x 2", "3 numbers")],
            id="too many values",
        ),
        pytest.param(
            _with(DIGIT, data=[[0, 1], [2, 3]]),
            [("inputs[3].data", "4 numbers, flat or as 1 x 4", "a list in the shape 2 x 2")],
            id="nested otherwise",
        ),
        pytest.param(
            {
                "inputs": [
                    {**entry, "shape": [2, *entry["shape"][1:]], "data": entry["data"] * 2}
                    for entry in INPUTS[:3]
                ]
                + [{**DIGIT, "shape": [2, 4], "data": [[0, 1, 2], [3, 4, 5, 6, 7]]}]
            },
            [
                ("inputs[3].data", "8 numbers, flat or as 2 x 4", "a list in the shape 2 x 3"),
            ],
            id="crooked",
        ),
        pytest.param(
            _with(parameters={"binary_data_size": 8}, data=...),
            [
                (
                    "inputs[0].parameters.binary_data_size",
                    "a header Inference-Header-Content-Length that says where the JSON ends",
                    "none",
                )
            ],
            id="bytes that nobody finds",
        ),
        pytest.param(
            _with(parameters={"shared_memory_region": "r"}),
            [
                (
                    "inputs[0].parameters.shared_memory_region",
                    "tensors in the bodies",
                    "shared memory, which is not served",
                )
            ],
            id="shared memory",
        ),
        pytest.param(
            _with(parameters={"a b": [1], "c": None, "d": {}}),
            [
                ('inputs[0].parameters["a b"]', WORDS, "a list of 1"),
                ("inputs[0].parameters.c", WORDS, "null"),
                ("inputs[0].parameters.d", WORDS, "an empty object"),
            ],
            id="parameters that are none",
        ),
        pytest.param(
            _with(parameters=[]),
            [("inputs[0].parameters", "an object", "an empty list")],
            id="no object of parameters",
        ),
    ],
)
def test_inputs_that_are_wrong(said, problems):
    """All of it at once, each with its place, what belongs there and what came."""
    assert _problems(said) == problems


@pytest.mark.parametrize(
    ("outputs", "problems"),
    [
        pytest.param(
            {},
            [("outputs", "a list of outputs: risk, size, digits, tags", "an empty object")],
            id="no list",
        ),
        pytest.param(
            ["size"], [("outputs[0]", "an object of name, parameters", '"size"')], id="names"
        ),
        pytest.param(
            [{"name": "sice"}],
            [
                (
                    "outputs[0].name",
                    "one of risk, size, digits, tags (did you mean 'size'?)",
                    '"sice"',
                )
            ],
            id="unknown",
        ),
        pytest.param(
            [{"name": "size"}, {"name": "size"}],
            [("outputs[1].name", "each name once", '"size" again')],
            id="twice",
        ),
        pytest.param(
            [{"name": "size", "datatype": "FP32"}],
            [
                (
                    "outputs[0].datatype",
                    "one of name, parameters",
                    'the unknown key "datatype"',
                )
            ],
            id="an unknown key",
        ),
        pytest.param(
            [{"name": "size", "parameters": {"binary_data": 1}}],
            [("outputs[0].parameters.binary_data", "true or false", "1")],
            id="binary 1",
        ),
        pytest.param(
            [{"name": "size", "parameters": {"classification": 0}}],
            [
                (
                    "outputs[0].parameters.classification",
                    "how many classes, a whole number from 1",
                    "0",
                )
            ],
            id="no class",
        ),
        pytest.param(
            [{"name": "size", "parameters": {"classification": True}}],
            [
                (
                    "outputs[0].parameters.classification",
                    "how many classes, a whole number from 1",
                    "true",
                )
            ],
            id="true classes",
        ),
    ],
)
def test_outputs_that_are_wrong(outputs, problems):
    """Each at its place."""
    assert _problems({"inputs": INPUTS, "outputs": outputs}) == problems


def test_texts_have_no_highest():
    """So there is no classification of them."""
    said = _one(
        ["a", "b"], datatype="BYTES", outputs=[{"name": "y", "parameters": {"classification": 2}}]
    )

    assert _problems(said, MODELS["string"].signature) == [
        (
            "outputs[0].parameters.classification",
            "numbers to choose the highest of, and y is BYTES",
            "2",
        )
    ]


def test_what_else_a_request_may_say():
    """An id is kept, parameters of one's own change nothing; KServe's client repeats the model."""
    parameters = {"a": "b", "c": 1, "d": 1.5, "e": True, "priority": 3, "sequence_id": "s"}
    more = {"id": "42", "parameters": parameters, "model_name": "three", "model_version": None}

    asked = _read({"inputs": INPUTS, **more})

    assert asked.id == "42"
    assert same(asked.arrays, ARRAYS)


def test_null_is_absence():
    """Of what may be absent, as writers with an optional field write it."""
    nothing = {"id": None, "parameters": None, "outputs": None}
    inputs = [{**entry, "parameters": None} for entry in INPUTS]

    asked = _read({"inputs": inputs, **nothing})

    assert (asked.id, asked.heads) == (None, HEADS)
    assert same(asked.arrays, ARRAYS)


def test_a_timeout_is_in_microseconds():
    """And in seconds once it is read."""
    assert _read({"inputs": INPUTS, "parameters": {"timeout": 1_500_000}}).timeout == 1.5


@pytest.mark.parametrize("timeout", [0, -1, 1.5, "1", True, 2**63])
def test_timeouts_that_are_none(timeout):
    """They are whole and above 0."""
    assert _problems({"inputs": INPUTS, "parameters": {"timeout": timeout}}) == [
        (
            "parameters.timeout",
            "a whole number of microseconds, from 1",
            json.dumps(timeout),
        )
    ]


@pytest.mark.parametrize(
    ("more", "problems"),
    [
        pytest.param({"id": 42}, [("id", "text", "42")], id="a number for an id"),
        pytest.param({"id": "\ud800"}, [("id", "text", '"\\ud800"')], id="half a character"),
        pytest.param(
            {"parameters": {"triton_x": 1, "headers": "a"}},
            [
                (
                    f"parameters.{name}",
                    "other names than headers and triton_…, which Triton keeps for itself",
                    "one of those",
                )
                for name in ("triton_x", "headers")
            ],
            id="reserved",
        ),
        pytest.param(
            {"parameters": {"binary_data_output": "yes"}},
            [("parameters.binary_data_output", "true or false", '"yes"')],
            id="binary yes",
        ),
        pytest.param({"parameters": 1}, [("parameters", "an object", "1")], id="no parameters"),
        pytest.param(
            {"parameters": {"a": math.nan}}, [("parameters.a", WORDS, "NaN")], id="a parameter NaN"
        ),
    ],
)
def test_what_else_is_wrong(more, problems):
    """Whatever the inputs are."""
    assert _problems({"inputs": INPUTS, **more}) == problems


def test_problems_are_told_all_at_once():
    """The first in the sentence, and all of them beside it."""
    with pytest.raises(BadRequest) as caught:
        _read(
            {
                "inputs": [{**DIGIT, "data": [1, 2, 3, "4"]}],
                "id": 1,
                "outputs": [{"name": "digits"}],
            }
        )
    reply = oip.DIALECT.encode_error(caught.value)

    assert reply.content_type == "application/json"
    assert json.loads(reply.content) == {
        "error": "id: expected text, received 1 (and 1 more)",
        "problems": [
            {"at": "id", "expected": "text", "received": "1"},
            {"at": "inputs[0].data[3]", "expected": "a number", "received": '"4"'},
        ],
        "count": 2,
    }


def test_other_errors_are_a_sentence():
    """The one key that clients read."""
    reply = oip.DIALECT.encode_error(NotFound("no such model"))

    assert json.loads(reply.content) == {"error": "no such model"}


def _answer(said, outputs, signature=THREE):
    asked = _read(said, signature)
    return json.loads(oip.DIALECT.encode(asked, "m", "7", signature, outputs).content)


def test_an_answer_in_full():
    """In the graph's own shapes: a [rows, 1] output stays that, and comes flat."""
    said = {"inputs": INPUTS, "id": "42"}
    asked = _read(said)
    reply = oip.DIALECT.encode(asked, "m", "7", THREE, MODELS["three"].predict(asked.arrays, HEADS))

    assert (reply.content_type, reply.headers) == ("application/json", ())
    answer = json.loads(reply.content)
    assert answer["outputs"][0].pop("data") == [pytest.approx(1 / (1 + math.exp(-17)))]
    assert answer["outputs"].pop()["data"] == [0.5, pytest.approx(1 / (1 + math.exp(-1)))]
    assert answer == {
        "model_name": "m",
        "model_version": "7",
        "id": "42",
        "outputs": [
            {"name": "risk", "datatype": "FP32", "shape": [1, 1]},
            {"name": "size", "datatype": "FP32", "shape": [1, 1], "data": [3.0]},
            {"name": "digits", "datatype": "FP32", "shape": [1, 3], "data": [0.0, 1.0, 2.0]},
        ],
    }


def test_no_id_no_echo():
    """An id that nobody gave is none."""
    assert "id" not in _answer({"inputs": [FRUIT], "outputs": SIZE}, {"size": np.float32([[3]])})


def test_an_answer_may_be_strided():
    """As a slice of a larger array is; it comes out row by row."""
    outputs = {"digits": np.float32([[1, 4], [2, 5], [3, 6]]).T}

    answer = _answer({"inputs": [DIGIT], "outputs": [{"name": "digits"}]}, outputs)

    assert answer["outputs"][0]["data"] == [1, 2, 3, 4, 5, 6]


def test_infinities_are_words_in_an_answer():
    """As Triton's client and Python read them; and a text that is "null" stays that."""
    logs = MODELS["logs"].signature
    said = _one([1, 1])
    outputs = {
        "many": np.float32([[math.nan, 0.1], [math.inf, -math.inf]]),
        "best": np.float32([[1, 2], [3, 4]]),
        "first": np.float32([[math.nan], [1]]),
        "whole": np.int64([[1, 2], [3, 4]]),
        "truth": np.array([[True, False], [False, True]]),
        "text": np.array([["null", "a"], ["NaN", ""]], object),
    }
    asked = _read({**said, "id": "null"}, logs)
    content = oip.DIALECT.encode(asked, "null", "1", logs, outputs).content

    assert b'"data":[NaN,0.1,Infinity,-Infinity]' in content
    data = {output["name"]: output["data"] for output in json.loads(content)["outputs"]}
    assert data["best"] == [1, 2, 3, 4]
    assert math.isnan(data["first"][0])
    assert data["truth"] == [True, False, False, True]
    assert data["text"] == ["null", "a", "NaN", ""]
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(content)


def _classes(head, output, classes, signature=THREE):
    inputs = INPUTS if signature is THREE else _one([1, 1])["inputs"]
    said = {
        "inputs": inputs,
        "outputs": [{"name": head, "parameters": {"classification": classes}}],
    }
    (answer,) = _answer(said, {head: output}, signature)["outputs"]
    assert (answer["name"], answer["datatype"]) == (head, "BYTES")
    return answer["shape"], answer["data"]


def test_classes_with_their_labels():
    """The highest first, with the value, the index and the label; equal ones in their order."""
    rows = np.float32([[0.1, 0.7, 0.2], [5, -1, 5]])

    assert _classes("digits", rows, 2) == (
        [2, 2],
        ["0.7:1:one", "0.2:2:two", "5.0:0:zero", "5.0:2:two"],
    )


def test_as_many_classes_as_there_are():
    """More are not there to be returned."""
    assert _classes("tags", np.float32([[0.25, 0.5]]), 9) == (
        [1, 2],
        ["0.5:1:long", "0.25:0:heavy"],
    )


def test_a_binary_head_has_one_class():
    """Its only value, and the label that the row has: no score of the other is made up."""
    assert _classes("risk", np.float32([[0.75], [0.25], [math.nan]]), 2) == (
        [3, 1],
        ["0.75:0:high", "0.25:0:low", "nan:0"],
    )


def test_classes_without_labels():
    """The value and the index; a NaN comes last."""
    assert _classes("size", np.float32([[3.5]]), 1) == ([1, 1], ["3.5:0"])
    many = _classes("many", np.float32([[math.nan, -math.inf]]), 2, MODELS["logs"].signature)
    assert many == ([1, 2], ["-inf:1:b", "nan:0:a"])


@pytest.mark.parametrize(
    ("head", "row", "expected"),
    [
        pytest.param("whole", np.int64([[-(2**63), 2**63 - 1]]), [2**63 - 1, -(2**63)], id="int64"),
        pytest.param("truth", np.array([[False, True]]), [1, 0], id="booleans"),
    ],
)
def test_classes_of_what_is_no_float(head, row, expected):
    """To the limits of the dtype."""
    assert _classes(head, row, 2, MODELS["logs"].signature) == (
        [1, 2],
        [f"{value}:{1 - i}" for i, value in enumerate(expected)],
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, *INPUT_KEYS]), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def _bodies(draw):
    """Bodies that are right, or nearly."""
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
    said = {"inputs": inputs}
    if draw(st.booleans()):
        said["outputs"] = [{"name": name} for name in draw(st.lists(st.sampled_from(HEADS)))]
    if kind == "bad":
        said |= draw(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=1))
    return said


def _outcome(body, signature):
    try:
        asked = oip.DIALECT.reader(signature)(body, _nowhere)
    except BadRequest as error:
        return "error", error.problems, error.count
    arrays = {
        name: (array.dtype.str, array.shape, array.tolist()) for name, array in asked.arrays.items()
    }
    return arrays, asked.heads, asked.wanted, asked.id, asked.timeout


@given(_bodies() | JSON)
def test_both_paths_agree(said):
    """On every array, on what was asked, and on every word of what is wrong."""
    try:
        body = json.dumps(said).encode()
    except UnicodeEncodeError:
        return
    fast = _outcome(body, THREE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "parse", _unsure)
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
def test_what_was_written_is_what_is_read(values, nested):
    """Float32 survives its way through JSON exactly."""
    array = np.float32(values).reshape(-1, 2)
    data = (array if nested else array.reshape(-1)).tolist()
    asked = _read(_one(data, array.shape), MODELS["float"].signature)

    assert asked.arrays["x"].tobytes() == array.tobytes()


def test_the_fast_path_is_taken():
    """Or none of it is fast: nested and flat, and with all that a request may say."""
    known = Known(THREE).tensors
    nested = [{**entry, "data": ARRAYS[entry["name"]].tolist()} for entry in INPUTS[2:]]
    said = {"id": "a", "inputs": INPUTS[:2] + nested, "outputs": SIZE, "parameters": {"timeout": 1}}

    if quick.parse is not _unsure:
        found = quick.parse(json.dumps(said).encode(), known)
        assert [type(entry["data"]) for entry in found["inputs"]] == [
            np.ndarray,
            list,
            np.ndarray,
            np.ndarray,
        ]
