"""TensorFlow Serving's REST API: bodies to arrays, and arrays to answers."""

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from service.errors import BadRequest, NotFound
from service.inference.model import Model
from service.signature import Head, Input, Signature, Tensor
from service.wire import tfserving
from service.wire.tfserving import CLASSIFY, PREDICT, REGRESS
from tests.harness import small
from tests.harness.decoded import both, problems, same

THREE = Model.load(small.three())
LOGS = Model.load(small.logs())
RISKY = THREE.signature.restrict(["risk"])
ROW = {
    "insurance": [47, 20],
    "insurance.smoker": ["yes"],
    "fruit": [1, 2],
    "digit": [0, 1, 2, 3],
}
ARRAYS = {
    "insurance": np.float32([[47, 20]]),
    "insurance.smoker": np.array([["yes"]], object),
    "fruit": np.float32([[1, 2]]),
    "digit": np.float32([[0, 1, 2, 3]]),
}
NAMES = "insurance, insurance.smoker, fruit, digit"
EITHER = 'either "instances" (by row) or "inputs" (by column)'
KEYS = "instances, inputs, signature_name, parameters"
BASE64 = 'text, or {"b64": …} with the base64 of UTF-8'
FLOAT32 = "a number within ±3.40282e+38"
TOO_LARGE = "Infinity, or a number too large for any float"
SCORED = "one of risk, digits, tags, the heads with labels and a score for each"
FEATURES = "age, bmi, insurance, smoker, insurance.smoker, weight, length, fruit, digit"


def _model(dtype=TensorProto.FLOAT, shape=(2,), name="x"):
    """Return a model with these inputs and heads."""
    return Model.load(small.same(dtype, shape, name=name))


X = _model().signature
WORD = _model(TensorProto.STRING).signature


def _decode(request, signature=THREE.signature, dialect=PREDICT):
    """Decode a body that is a text, or a value to be written as JSON."""
    body = request if isinstance(request, str) else json.dumps(request)
    return dialect.reader(signature)(body.encode(), lambda _: "")


def _problems(body, signature=THREE.signature, dialect=PREDICT):
    """Return the problems of a body as (at, expected, received) tuples."""
    return problems(_decode, body, signature, dialect)


def _answer(body, model=THREE, dialect=PREDICT):
    """Decode a body, run the model and return the bytes of the answer."""
    asked = _decode(body, model.signature, dialect)
    outputs = model.predict(asked.arrays, asked.heads)
    reply = dialect.encode(asked, "m", "1", model.signature, outputs)
    assert reply.content_type == "application/json"
    return reply.content


def _encode(arrays, *, by_row=True):
    """Return the answer to a predict request for these arrays."""
    asked = tfserving.Query({}, tuple(arrays), by_row)
    return PREDICT.encode(asked, "m", "1", None, arrays).content


def _both(**parts):
    """Return the same rows as a body by row and as a body by column."""
    return both(ROW, **parts)


@pytest.mark.parametrize(("body", "at"), _both())
def test_both_forms_are_the_same_arrays(body, at):
    """Both forms fill all inputs of the graph and ask for all heads."""
    request = _decode(body)

    assert same(request.arrays, ARRAYS)
    assert request.heads == ("risk", "size", "digits", "tags")
    assert request.by_row == ("instances" in body)
    assert request.imputed == ()


@pytest.mark.parametrize(
    ("more", "signature"),
    [
        pytest.param({"signature_name": "serving_default"}, THREE.signature, id="its name"),
        pytest.param({"signature_name": ""}, THREE.signature, id="no name"),
        pytest.param({"parameters": {}}, THREE.signature, id="no parameters"),
        pytest.param({"parameters": None}, THREE.signature, id="null for parameters"),
    ],
)
def test_a_body_may_name_the_signature_and_hold_empty_parameters(more, signature):
    """A body may name the only signature, and hold the empty `parameters` that Vertex AI adds."""
    assert same(_decode({"instances": [ROW], **more}, signature).arrays, ARRAYS)


def test_answers_are_in_the_graphs_own_shapes():
    """By row, each answer is an object of heads; a [batch, 1] head is a list of one value."""
    assert _answer({"instances": [ROW | {"insurance.smoker": ["no"], "insurance": [30, 30]}]}) == (
        b'{"predictions":[{"risk":[0.5],"size":[3.0],"digits":[0.0,1.0,2.0],'
        b'"tags":[0.5,0.7310586]}]}'
    )


def test_columns_are_answered_by_column():
    """An answer by column is an object of lists that are as long as the inputs."""
    body = {"inputs": {name: [value, value] for name, value in ROW.items()}}
    answer = json.loads(_answer(body))

    assert answer.keys() == {"outputs"}
    assert {name: np.shape(value) for name, value in answer["outputs"].items()} == {
        "risk": (2, 1),
        "size": (2, 1),
        "digits": (2, 3),
        "tags": (2, 2),
    }


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param({"instances": [[1, 2], [3, 4]]}, b"predictions", id="bare rows"),
        pytest.param({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, b"predictions", id="named"),
        pytest.param({"inputs": [[1, 2], [3, 4]]}, b"outputs", id="a bare column"),
        pytest.param({"inputs": {"x": [[1, 2], [3, 4]]}}, b"outputs", id="a named column"),
    ],
)
def test_the_name_of_the_only_input_may_be_left_out(body, answer):
    """The answer always leaves out the name of an only output."""
    assert _answer(body, _model()) == b'{"%s":[[1.0,2.0],[3.0,4.0]]}' % answer


@pytest.mark.parametrize("dtype", ["INT64", "UINT64", "BOOL", "FLOAT16", "DOUBLE", "STRING"])
def test_every_dtype_comes_back_as_it_went_in(dtype):
    """Integers come back as integers and strings as strings."""
    values = {"BOOL": [True, False], "STRING": ["größe", ""], "FLOAT16": [0.5, -2.0]}
    rows = [values.get(dtype, [1, 2**53 - 1])]
    model = _model(TensorProto.DataType.Value(dtype))

    assert json.loads(_answer({"instances": rows}, model)) == {"predictions": rows}


def test_a_scalar_a_row_is_bare_both_ways():
    """A [batch] tensor has values without brackets, as in TensorFlow Serving's own example."""
    assert _answer({"instances": [1, 2.5]}, _model(shape=())) == b'{"predictions":[1.0,2.5]}'


def test_any_length_is_taken_where_the_graph_does():
    """A free axis takes any length, which is the same in all rows."""
    model = Model.load(small.ragged())

    assert _answer({"instances": [[[1, 2], [3, 4]]]}, model) == b'{"predictions":[[4.0,6.0]]}'


def test_an_input_that_nothing_needs_may_be_absent():
    """An unneeded input may be in no row or in some, where it has to be right."""
    signature = Model.load(small.idle()).signature

    assert list(_decode({"instances": [{"x": [1]}]}, signature).arrays) == ["x"]
    assert list(_decode({"inputs": {"x": [[1]]}}, signature).arrays) == ["x"]
    assert list(_decode({"inputs": {"x": [[1]], "idle": [[2]]}}, signature).arrays) == ["x"]
    assert _problems({"instances": [{"x": [1]}, {"x": [1], "idle": ["a"]}]}, signature) == [
        ("instances[1].idle[0]", "a number", '"a"')
    ]


@pytest.mark.parametrize("dtype", ["FLOAT", "DOUBLE", "FLOAT16"])
@pytest.mark.parametrize(
    "template", ['{"instances": [%s]}', '{"instances": [{"x": %s}]}', '{"inputs": [%s]}']
)
def test_nan_and_infinities_of_floats_go_both_ways(template, dtype):
    """NaN and infinities use TensorFlow Serving's spelling, which is not JSON."""
    model = _model(TensorProto.DataType.Value(dtype), (2, 2))
    row = "[[NaN,1.5],[Infinity,-Infinity]]"
    answer = _answer(template % row, model).decode()

    assert answer.split(":", 1)[1] == f"[{row}]}}"


def test_finite_rows_stay_as_they_are_beside_a_nan():
    """Rows beside a NaN keep float32's short decimals, and a bare value stays bare."""
    assert _encode({"y": np.float32([[0.1], [math.nan]])}) == b'{"predictions":[[0.1],[NaN]]}'
    assert _encode({"y": np.float32([0.1, -math.inf])}, by_row=False) == (
        b'{"outputs":[0.1,-Infinity]}'
    )
    assert _encode({"y": np.float32([[0.1]]), "z": np.float64([[math.inf]])}) == (
        b'{"predictions":[{"y":[0.1],"z":[Infinity]}]}'
    )


def test_nan_in_a_text_is_a_text():
    """`NaN` inside a string is part of the text."""
    assert _decode({"instances": [["NaN", "Infinity"]]}, WORD).arrays["x"].tolist() == [
        ["NaN", "Infinity"]
    ]


@pytest.mark.parametrize(
    ("dtype", "text", "problem"),
    [
        pytest.param(
            "INT64",
            "NaN",
            ("a whole number from -9223372036854775808 to 9223372036854775807", "NaN"),
            id="NaN for a whole number",
        ),
        pytest.param("BOOL", "NaN", ("true or false", "NaN"), id="NaN for a boolean"),
        pytest.param("STRING", "-Infinity", ("text", f"-{TOO_LARGE}"), id="infinity for a text"),
        pytest.param("FLOAT", "1e400", (FLOAT32, TOO_LARGE), id="past float64"),
        pytest.param("FLOAT", "1e39", (FLOAT32, "1e+39"), id="past float32"),
    ],
)
def test_only_floats_have_nan_and_infinities_and_only_when_spelled(dtype, text, problem):
    """A number too large for a float does not become infinite, even beside an infinity."""
    signature = _model(TensorProto.DataType.Value(dtype), ()).signature

    assert _problems(f'{{"instances": [{text}]}}', signature) == [("instances[0]", *problem)]


def test_a_number_too_large_is_refused_beside_an_infinity():
    """The reader tells a number that overflows from a spelled infinity."""
    assert _problems('{"instances": [[Infinity, 1e400]]}', X) == [
        ("instances[0][1]", FLOAT32, TOO_LARGE)
    ]


def _b64(text):
    """Return a text as TensorFlow Serving's base64 object."""
    return {"b64": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"instances": [["größe", _b64("größe")]]}, id="by row"),
        pytest.param({"instances": [{"x": ["größe", _b64("größe")]}]}, id="by name"),
        pytest.param({"inputs": [["größe", _b64("größe")]]}, id="by column"),
        pytest.param({"instances": [["größe", {"b64": "Z3LDtsOfZQ"}]]}, id="without padding"),
    ],
)
def test_a_text_may_be_base64(body):
    """A text may be an object whose only key is `b64`."""
    assert _decode(body, WORD).arrays["x"].tolist() == [["größe", "größe"]]


def test_base64_may_be_a_row_of_its_own():
    """The reader tells a base64 object from an object of inputs."""
    signature = _model(TensorProto.STRING, ()).signature

    assert _decode({"instances": [_b64("a"), "b", {"x": _b64("c")}]}, signature).arrays[
        "x"
    ].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param({"b64": "?"}, ("instances[0].x[0].b64", "base64", '"?"'), id="not base64"),
        pytest.param({"b64": "é"}, ("instances[0].x[0].b64", "base64", '"é"'), id="not ASCII"),
        pytest.param(
            {"b64": "/w=="}, ("instances[0].x[0]", BASE64, "bytes that are not UTF-8"), id="UTF-8"
        ),
        pytest.param(
            {"b64": 1}, ("instances[0].x[0]", "text", "an object with 1 key"), id="no text"
        ),
        pytest.param(
            {"b64": "", "x": 1}, ("instances[0].x[0]", "text", "an object with 2 keys"), id="two"
        ),
    ],
)
def test_base64_must_be_of_text(value, problem):
    """The bytes must be UTF-8, as the graph's strings are."""
    assert _problems({"instances": [{"x": [value, "a"]}]}, WORD) == [problem]


def test_base64_is_for_texts_alone():
    """A number in base64 is refused."""
    assert _problems({"instances": [{"x": [_b64("1"), 2]}]}, X) == [
        ("instances[0].x[0]", "a number", "an object with 1 key")
    ]


def test_an_output_whose_name_says_bytes_is_base64():
    """A text output whose name ends in `_bytes` is written in base64."""
    texts = np.array([["größe", ""]], object)

    assert _encode({"image_bytes": texts}) == (
        b'{"predictions":[[{"b64":"Z3LDtsOfZQ=="},{"b64":""}]]}'
    )
    assert _encode({"image_bytes": np.float32([[1]])}) == b'{"predictions":[[1.0]]}'


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        pytest.param({}, [("body", EITHER, "neither")], id="neither form"),
        pytest.param({"instances": [ROW], "inputs": {}}, [("body", EITHER, "both")], id="both"),
        pytest.param(
            {"instances": [ROW], "signature_name": "risk"},
            [("signature_name", '"serving_default", or no such key', '"risk"')],
            id="another signature",
        ),
        pytest.param(
            {"instances": [ROW], "signature_name": None},
            [("signature_name", '"serving_default", or no such key', "null")],
            id="no signature",
        ),
        pytest.param(
            {"instances": [ROW], "parameters": {"top": 3}},
            [("parameters", "none, since there are none to set", "an object with 1 key")],
            id="parameters",
        ),
        pytest.param(
            {"instance": [ROW]},
            [
                (
                    "instance",
                    f"one of {KEYS} (did you mean 'instances'?)",
                    'the unknown key "instance"',
                ),
                ("body", EITHER, "neither"),
            ],
            id="a key that there is none of",
        ),
        pytest.param(
            {"instances": []},
            [("instances", "a list of at least one row", "an empty list")],
            id="no rows",
        ),
        pytest.param(
            {"instances": ROW},
            [("instances", "a list of at least one row", "an object with 4 keys")],
            id="a row that is not in a list",
        ),
        pytest.param(
            {"instances": [ROW, [1, 2]]},
            [("instances[1]", f"an object of inputs: {NAMES}", "a list of 2")],
            id="a bare row for several inputs",
        ),
        pytest.param(
            {"instances": [{**ROW, "digits": [1]}]},
            [
                (
                    "instances[0].digits",
                    f"one of {NAMES} (did you mean 'digit'?)",
                    'the unknown input "digits"',
                )
            ],
            id="an input that there is none of",
        ),
        pytest.param(
            {"inputs": [[1]]},
            [("inputs", f"an object of inputs: {NAMES}", "a list of 1")],
            id="a bare column for several inputs",
        ),
        pytest.param(
            {"inputs": {}},
            [("inputs", f"an object of inputs: {NAMES}", "an empty object")],
            id="no columns",
        ),
        pytest.param(
            {"inputs": {**{name: [value] for name, value in ROW.items()}, "fruit": [], "digit": 1}},
            [
                ("inputs.fruit", "a list of at least one row", "an empty list"),
                ("inputs.digit", "a list of at least one row", "1"),
            ],
            id="columns that are none",
        ),
        pytest.param(
            {"inputs": {**{name: [value] for name, value in ROW.items()}, "fruit": [[1, 2]] * 2}},
            [("inputs.fruit", "1 row, as inputs.insurance has", "2 rows")],
            id="columns of different heights",
        ),
        pytest.param(
            {"inputs": {"insurance": [[1, 2]], "fruit": [[1, 2]], "digit": [[1, 2, 3, 4]]}},
            [('inputs["insurance.smoker"]', "a list of at least one row", "nothing")],
            id="a column too few",
        ),
    ],
)
def test_a_body_that_is_no_request(body, problems):
    """The error names every problem with its place."""
    assert _problems(body) == problems


@pytest.mark.parametrize(("body", "at"), _both(fruit=[1, "2"], digit=[1, 2]))
def test_values_that_do_not_fit(body, at):
    """The messages are those of the native format."""
    assert _problems(body) == [
        (f"{at('fruit')}[1]", "a number", '"2"'),
        (at("digit"), "4 numbers", "2 numbers"),
    ]


@pytest.mark.parametrize(("body", "at"), _both(fruit=[True, None]))
def test_nothing_is_converted(body, at):
    """Values are not converted, and no default stands in for a null."""
    assert _problems(body) == [
        (f"{at('fruit')}[0]", "a number", "true"),
        (f"{at('fruit')}[1]", "a number", "null"),
    ]


def test_a_missing_input_is_an_error():
    """Only the native format uses defaults for missing inputs."""
    row = {name: value for name, value in ROW.items() if name != "fruit"}

    assert _problems({"instances": [row]}) == [("instances[0].fruit", "2 numbers", "nothing")]


def test_a_number_alone_is_no_list_of_one():
    """A [batch, 1] input takes lists, as in TensorFlow Serving."""
    assert _problems({"instances": [1]}, _model(shape=(1,)).signature) == [
        ("instances[0]", "1 number", "1, not in a list")
    ]


@pytest.mark.parametrize("depth", [50, 400, 900])
def test_brackets_without_end_are_a_problem_like_others(depth):
    """Nesting of any depth is refused, whatever it holds."""
    for text in ("NaN", '{"b64": ""}', "1"):
        for signature in (X, WORD):
            body = f'{{"instances": [{"[" * depth}{text}{"]" * depth}]}}'
            with pytest.raises(BadRequest):
                _decode(body, signature)


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        pytest.param(PREDICT, 'object with "instances" or "inputs"', id="predict"),
        pytest.param(CLASSIFY, 'object with "examples"', id="classify"),
        pytest.param(REGRESS, 'object with "examples"', id="regress"),
    ],
)
def test_a_body_that_is_no_object(dialect, expected):
    """Bytes that are not JSON are refused as in every dialect."""
    assert _problems("", dialect=dialect) == [("body", f"a JSON {expected}", "no body")]
    assert _problems([1], dialect=dialect) == [("body", f"an {expected}", "a list of 1")]
    assert _problems('{"a":}', dialect=dialect)[0][:2] == ("body", "JSON")
    assert _problems('{"a": 1, "a": 2}', dialect=dialect) == [
        ("body", "each key of an object once", '"a" twice')
    ]


def test_errors_have_the_protocols_shape():
    """An error has one key, and its message is that of the other dialects."""
    with pytest.raises(BadRequest) as caught:
        _decode({"instances": [{"x": ["a", "b"]}]}, X)
    reply = PREDICT.encode_error(caught.value)

    assert reply.content_type == "application/json"
    assert json.loads(reply.content) == {
        "error": 'instances[0].x[0]: expected a number, received "a" (and 1 more)'
    }
    assert json.loads(CLASSIFY.encode_error(NotFound("none")).content) == {"error": "none"}


EXAMPLE = {"age": 30, "smoker": "no", "bmi": 30}


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(EXAMPLE, id="features"),
        pytest.param({"age": [30], "smoker": ["no"], "bmi": [30]}, id="features in lists"),
        pytest.param({"insurance": [30, 30], "insurance.smoker": "no"}, id="tensors"),
        pytest.param({"insurance": [30, 30], "smoker": _b64("no")}, id="one of each, in base64"),
        pytest.param({**EXAMPLE, "fruit": "ignored"}, id="and what the head does not need"),
    ],
)
def test_an_example_names_features_or_tensors(example):
    """A binary head has scores for both labels, in their order."""
    body = {"signature_name": "risk", "examples": [example]}

    assert _answer(body, dialect=CLASSIFY) == b'{"results":[[["low",0.5],["high",0.5]]]}'


def test_what_the_context_has_holds_for_every_example():
    """A value in the context applies to every example, so that a client writes it once."""
    body = {
        "signature_name": "tags",
        "context": {"length": 1},
        "examples": [{"weight": 1}, {"weight": [1]}],
    }

    assert _answer(body, dialect=CLASSIFY) == (
        b'{"results":[[["heavy",0.5],["long",0.5]],[["heavy",0.5],["long",0.5]]]}'
    )


def test_a_multiclass_head_has_all_its_classes_scored():
    """Scores come in the order of the labels, and may be NaN."""
    body = {"signature_name": "digits", "examples": [{"digit": [0.1, 1, 2, 3]}]}

    assert _answer(body, dialect=CLASSIFY) == (
        b'{"results":[[["zero",0.1],["one",1.0],["two",2.0]]]}'
    )
    body = {"signature_name": "best", "examples": [{"x": [-1, 0]}]}
    assert _answer(body, LOGS, CLASSIFY) == b'{"results":[[["a",NaN],["b",-Infinity]]]}'


@pytest.mark.parametrize(
    "name", [{}, {"signature_name": ""}, {"signature_name": tfserving.SIGNATURE}]
)
def test_the_only_head_that_fits_need_not_be_named(name):
    """A view or a model with one head of the kind needs no head name."""
    assert _decode({"examples": [EXAMPLE], **name}, RISKY, CLASSIFY).heads == ("risk",)
    assert _answer({"examples": [{"weight": 1, "length": [2]}], **name}, dialect=REGRESS) == (
        b'{"results":[3.0]}'
    )


@pytest.mark.parametrize("model", [Model.load(small.counted()), _model(TensorProto.INT8, (1, 1))])
def test_a_regression_is_a_float(model):
    """The result is one float per row, whatever the dtype and shape of the head."""
    example = {"up": 1, "down": [2]} if "total" in model.signature.heads else {"x": 3}

    assert _answer({"examples": [example]}, model, REGRESS) == b'{"results":[3.0]}'


def test_a_value_of_a_scalar_tensor_may_be_in_a_list():
    """A scalar may be a list of one value, as in TensorFlow's examples."""
    assert _answer({"examples": [{"x": [1.5]}, {"x": math.nan}]}, _model(shape=()), REGRESS) == (
        b'{"results":[1.5,NaN]}'
    )


def test_a_name_that_two_things_have_goes_after_its_input():
    """If an input is named like one of its features, the feature is `plant.plant`."""
    model = Model.load(small.plant())
    heads = {
        "weight": Head("weight", "tensor", Tensor("weight", "float32", (1,)), inputs=("plant",))
    }
    signature = Signature(model.signature.inputs, heads)
    example = {"height": 1, "plant.plant": 2, "colour": "red"}

    asked = _decode({"examples": [example, {"plant": [3, 4], "colour": "red"}]}, signature, REGRESS)
    assert asked.arrays["plant"].tolist() == [[1, 2], [3, 4]]
    assert _problems(
        {"examples": [{"plant": 2, "height": 1, "colour": "red"}]}, signature, REGRESS
    ) == [
        ("examples[0].plant", "either it or height", "both"),
        ("examples[0].plant", "2 numbers", "2, not in a list"),
    ]


def _classify(example, **more):
    """Return the answer to a classify request."""
    return {"signature_name": "risk", "examples": [example], **more}


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        pytest.param(
            {"examples": [EXAMPLE]},
            [("signature_name", SCORED, "nothing")],
            id="which head",
        ),
        pytest.param(
            {"examples": [EXAMPLE], "signature_name": "risks"},
            [("signature_name", f"{SCORED} (did you mean 'risk'?)", '"risks"')],
            id="no such head",
        ),
        pytest.param(
            {"examples": [EXAMPLE], "signature_name": "size"},
            [("signature_name", SCORED, '"size"')],
            id="a head that does not fit",
        ),
        pytest.param(
            {"examples": [EXAMPLE], "signature_name": None},
            [("signature_name", SCORED, "null")],
            id="null for a head",
        ),
        pytest.param(
            {"examples": [EXAMPLE], "signature_name": ["risk"]},
            [("signature_name", SCORED, "a list of 1")],
            id="no name",
        ),
        pytest.param(
            {"instances": [EXAMPLE], "signature_name": "risk"},
            [
                (
                    "instances",
                    "one of examples, context, signature_name",
                    'the unknown key "instances"',
                ),
                ("examples", "a list of at least one example", "nothing"),
            ],
            id="another form",
        ),
        pytest.param(
            {"examples": [], "signature_name": "risk"},
            [("examples", "a list of at least one example", "an empty list")],
            id="no examples",
        ),
        pytest.param(
            _classify([1, 2]),
            [("examples[0]", f"an object of features: {FEATURES}", "a list of 2")],
            id="an example that is none",
        ),
        pytest.param(
            _classify(EXAMPLE, context=[]),
            [("context", f"an object of features: {FEATURES}", "an empty list")],
            id="a context that is none",
        ),
        pytest.param(
            _classify({**EXAMPLE, "ages": 1}),
            [
                (
                    "examples[0].ages",
                    f"one of {FEATURES} (did you mean 'age'?)",
                    'the unknown feature "ages"',
                )
            ],
            id="no such feature",
        ),
        pytest.param(
            _classify({"age": 30}, context={"smoker": "no"}),
            [("examples[0].bmi", "a number", "nothing")],
            id="a feature too few",
        ),
        pytest.param(
            _classify({"age": 30, "bmi": 30}),
            [("examples[0].smoker", "text", "nothing")],
            id="a text too few",
        ),
        pytest.param(
            _classify({"age": "30", "smoker": 1, "bmi": [1, 2]}),
            [
                ("examples[0].age", "a number", '"30"'),
                ("examples[0].bmi", "a number", "a list of 2"),
                ("examples[0].smoker", "text", "1"),
            ],
            id="values that do not fit",
        ),
        pytest.param(
            _classify({**EXAMPLE, "age": 10**400}),
            [("examples[0].age", FLOAT32, f"1{'0' * 38}…")],
            id="a number too large",
        ),
        pytest.param(
            _classify({**EXAMPLE, "insurance": [1, 2]}),
            [("examples[0].insurance", "either it or age, bmi", "both")],
            id="a tensor and its features",
        ),
        pytest.param(
            _classify({**EXAMPLE, "insurance.smoker": "no"}),
            [("examples[0].smoker", "either it or insurance.smoker", "both")],
            id="a feature by both its names",
        ),
        pytest.param(
            _classify(EXAMPLE, context={"age": 30}),
            [("examples[0].age", 'what "context" does not have', "it again")],
            id="what the context has already",
        ),
    ],
)
def test_examples_that_do_not_fit(body, problems):
    """The error names every problem with its place."""
    assert _problems(body, dialect=CLASSIFY) == problems


def test_a_missing_tensor_without_features():
    """The message asks for the tensor by its name."""
    assert _problems({"signature_name": "digits", "examples": [{}]}, dialect=CLASSIFY) == [
        ("examples[0].digit", "4 numbers", "nothing")
    ]


def test_a_model_without_such_a_head_sends_to_predict():
    """The message points to `:predict`.

    So it does where a head's threshold shows that its value is not a probability.
    """
    fits = "a head with labels and a score for each, and there is none: ask :predict"
    assert _problems({"examples": [{"x": [1, 2]}]}, X, CLASSIFY) == [
        ("signature_name", fits, "nothing")
    ]
    first = LOGS.signature.restrict(["first"])
    assert _problems({"examples": [{"x": [1, 2]}]}, first, CLASSIFY)[0][1] == fits
    assert _problems({"examples": [{"x": ["a", "b"]}]}, WORD, REGRESS) == [
        ("signature_name", "a head of one number a row, and there is none: ask :predict", "nothing")
    ]


def test_the_signature_def_is_tensorflows():
    """Tensors are listed by name with their dtypes, and shapes begin with the batch axis."""
    entry = Input("x", "tensor", (Tensor("x", "float16", (None, 2)),))
    head = Head("y", "tensor", Tensor("y", "uint8", ()))
    batch = {"size": "-1", "name": ""}

    assert tfserving.signature_def(Signature({"x": entry}, {"y": head})) == {
        "inputs": {
            "x": {
                "dtype": "DT_HALF",
                "tensor_shape": {
                    "dim": [batch, batch, {"size": "2", "name": ""}],
                    "unknown_rank": False,
                },
                "name": "x",
            }
        },
        "outputs": {
            "y": {
                "dtype": "DT_UINT8",
                "tensor_shape": {"dim": [batch], "unknown_rank": False},
                "name": "y",
            }
        },
        "method_name": "tensorflow/serving/predict",
    }


_FLOATS = st.floats(width=32)
_ROW = st.fixed_dictionaries(
    {
        "insurance": st.lists(_FLOATS, min_size=2, max_size=2),
        "insurance.smoker": st.lists(
            st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=1
        ),
        "fruit": st.lists(_FLOATS, min_size=2, max_size=2),
        "digit": st.lists(_FLOATS, min_size=4, max_size=4),
    }
)


@given(st.lists(_ROW, min_size=1, max_size=3), st.booleans())
def test_whatever_the_rows_both_forms_hold_them(rows, as_base64):
    """Both forms hold any rows, including NaN, infinities and both spellings of strings."""
    columns = {
        name: np.array([row[name] for row in rows], object if "." in name else np.float32)
        for name in ROW
    }
    request = [
        {**row, "insurance.smoker": list(map(_b64, row["insurance.smoker"]))} if as_base64 else row
        for row in rows
    ]
    by_column = {name: [row[name] for row in request] for name in ROW}
    for body in ({"instances": request}, {"inputs": by_column}):
        arrays = _decode(body).arrays
        assert arrays.keys() == columns.keys()
        for name, column in columns.items():
            assert arrays[name].dtype == column.dtype
            np.testing.assert_array_equal(arrays[name], column)


@given(st.lists(st.lists(_FLOATS, min_size=2, max_size=2), min_size=1, max_size=3))
def test_whatever_the_answer_it_reads_back_the_same(rows):
    """An answer is read back to the same float32 bits, also as a body of the same protocol."""
    array = np.float32(rows)
    for by_row in (True, False):
        answer = json.loads(_encode({"y": array}, by_row=by_row))
        np.testing.assert_array_equal(np.float32(next(iter(answer.values()))), array)


_KEYS = st.sampled_from(
    ["instances", "inputs", "examples", "context", "signature_name", *ROW, *EXAMPLE, "x", "b64"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("risk"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_KEYS, _JSON, max_size=4), st.sampled_from([PREDICT, CLASSIFY, REGRESS]))
def test_whatever_the_body_it_is_read_or_refused(body, dialect):
    """Any body is read into the graph's shapes or refused with a `BadRequest`."""
    for signature in (THREE.signature, RISKY, X, WORD):
        try:
            request = _decode(body, signature, dialect)
        except BadRequest:
            continue
        tensors = {t.name: t for entry in signature.inputs.values() for t in entry.tensors}
        assert len({len(array) for array in request.arrays.values()}) == 1
        for name, array in request.arrays.items():
            assert array.shape[1:] == tensors[name].shape
