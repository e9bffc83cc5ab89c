"""Wrong requests of the Open Inference Protocol in JSON, and the messages for them."""

import json
import math

import pytest

from service.errors import BadRequest
from service.wire import oip
from service.wire.oip.request import KEYS
from tests.harness.oip import (
    DIGIT,
    FRUIT,
    INPUTS,
    INSURANCE,
    MODELS,
    SIZE,
    one_input,
    problems_of,
    read_body,
)

NAMES = "insurance, insurance.smoker, fruit, digit"
WORDS = "text, a number, true or false"


pytestmark = pytest.mark.usefixtures("either_path")


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
def test_values_that_do_not_fit_the_dtype(name, datatype, data, expected, received):
    """A value that does not fit the dtype is refused at its place, flat or nested."""
    signature = MODELS[name].signature
    good = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)

    assert problems_of(one_input([good, data], datatype=datatype), signature) == [
        ("inputs[0].data[1]", expected, received)
    ]
    assert problems_of(one_input([[good, data]], datatype=datatype), signature) == [
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
    """Infinities and NaN are refused, since JSON has none."""
    body = json.dumps(one_input(["?", 1])).replace('"?"', word).encode()
    ((at, _, shown),) = problems_of(body, MODELS["float"].signature)

    assert (at, shown) == ("inputs[0].data[0]", received)


def test_half_floats_have_no_json():
    """FP16 is refused in JSON in both directions; it needs binary data."""
    half = MODELS["float16"].signature

    assert problems_of(one_input([1, 2], datatype="FP16"), half) == [
        (
            "outputs",
            "binary_data for y, which is FP16 and has no form in JSON",
            "no such parameter",
        ),
        ("inputs[0].data", "binary data, since FP16 has no form in JSON", "a list of 2"),
    ]
    named = one_input([1, 2], datatype="FP16", outputs=[{"name": "y", "parameters": {"k": 1}}])
    assert [at for at, _, _ in problems_of(named, half)] == ["outputs[0]", "inputs[0].data"]


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
def test_wrong_bodies(body, at, expected, received):
    """The message says what is wrong with the body as a whole."""
    assert problems_of(body) == [(at, expected, received)]


@pytest.mark.parametrize(
    "place",
    [
        '{"id": "a", "id": "b", "inputs": []}',
        '{"inputs": [], "inputs": []}',
        '{"inputs": [{"name": "x", "name": "x"}]}',
        json.dumps(one_input([3, 4]))[:-3] + ', "data": [1, 2]}]}',
        '{"inputs": [{"name": "x", "parameters": {"a": 1, "a": 2}}]}',
        '{"inputs": [], "outputs": [{"name": "y", "name": "y"}]}',
        '{"inputs": [], "parameters": {"timeout": 1, "timeout": 2}}',
    ],
)
def test_no_key_twice(place):
    """A repeated key is refused anywhere, since parsers differ in which value counts."""
    ((at, expected, received),) = problems_of(place.encode(), MODELS["float"].signature)

    assert (at, expected) == ("body", "each key of an object once")
    assert received.endswith(" twice")


def _with(entry=INSURANCE, **changes):
    """Return the four inputs with one of them changed; `...` removes a key."""
    changed = {**entry, **changes}
    kept = {key: value for key, value in changed.items() if value is not ...}
    return {"inputs": [kept if other is entry else other for other in INPUTS]}


@pytest.mark.parametrize(
    ("body", "problems"),
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
            id="true is not a length",
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
            id="bytes that belong to no tensor",
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
def test_inputs_that_are_wrong(body, problems):
    """All problems are reported, each with its place, the expected and the received value."""
    assert problems_of(body) == problems


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
    """Each wrong output is refused at its place."""
    assert problems_of({"inputs": INPUTS, "outputs": outputs}) == problems


def test_texts_have_no_highest():
    """Texts cannot be classified, since they have no highest value."""
    body = one_input(
        ["a", "b"], datatype="BYTES", outputs=[{"name": "y", "parameters": {"classification": 2}}]
    )

    assert problems_of(body, MODELS["string"].signature) == [
        (
            "outputs[0].parameters.classification",
            "numbers to choose the highest of, and y is BYTES",
            "2",
        )
    ]


@pytest.mark.parametrize("timeout", [0, -1, 1.5, "1", True, 2**63])
def test_wrong_timeouts(timeout):
    """A timeout is an integer above 0."""
    assert problems_of({"inputs": INPUTS, "parameters": {"timeout": timeout}}) == [
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
def test_other_mistakes(more, problems):
    """Other mistakes of a request are refused, whatever its inputs are."""
    assert problems_of({"inputs": INPUTS, **more}) == problems


def test_problems_are_reported_all_at_once():
    """The message has the first problem, and a list beside it has all of them."""
    with pytest.raises(BadRequest) as caught:
        read_body(
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
