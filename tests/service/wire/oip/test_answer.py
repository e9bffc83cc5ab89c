"""The answers of the Open Inference Protocol in JSON: arrays, and scores as classes."""

import json
import math

import numpy as np
import orjson
import pytest

from service.errors import NotFound
from service.signature import Head, Input, Signature, Tensor
from service.wire import oip
from tests.harness.oip import (
    DIGIT,
    FRUIT,
    HEADS,
    INPUTS,
    MODELS,
    SIZE,
    THREE,
    one_input,
    problems_of,
    read_body,
)

pytestmark = pytest.mark.usefixtures("either_path")


def test_half_floats_have_no_json_in_an_answer():
    """FP16 has no JSON form, on the fast path either."""
    entry = Input("x", "tensor", (Tensor("x", "float16", (2,)),))
    head = Head("y", "tensor", Tensor("y", "float32", (2,)), inputs=("x",))

    assert problems_of(
        one_input([1, 2], datatype="FP16"), Signature({"x": entry}, {"y": head})
    ) == [("inputs[0].data", "binary data, since FP16 has no form in JSON", "a list of 2")]


def test_other_errors_are_a_sentence():
    """Any other error is an object with the one key that clients read."""
    reply = oip.DIALECT.encode_error(NotFound("no such model"))

    assert json.loads(reply.content) == {"error": "no such model"}


def _answer(body, outputs, signature=THREE):
    """Return the answer to a request for these outputs."""
    asked = read_body(body, signature)
    return json.loads(oip.DIALECT.encode(asked, "m", "7", signature, outputs).content)


def test_an_answer_in_full():
    """An answer has the graph's own shapes, with flat data; [rows, 1] stays [rows, 1]."""
    body = {"inputs": INPUTS, "id": "42"}
    asked = read_body(body)
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
    """An answer has no `id` if the request has none."""
    assert "id" not in _answer({"inputs": [FRUIT], "outputs": SIZE}, {"size": np.float32([[3]])})


def test_an_answer_may_be_strided():
    """An output that is a slice of a larger array is written row by row."""
    outputs = {"digits": np.float32([[1, 4], [2, 5], [3, 6]]).T}

    answer = _answer({"inputs": [DIGIT], "outputs": [{"name": "digits"}]}, outputs)

    assert answer["outputs"][0]["data"] == [1, 2, 3, 4, 5, 6]


def test_infinities_have_names_in_an_answer():
    """Infinities are written as Triton's client and Python read them.

    A text that is "null" stays a text.
    """
    logs = MODELS["logs"].signature
    body = one_input([1, 1])
    outputs = {
        "many": np.float32([[math.nan, 0.1], [math.inf, -math.inf]]),
        "best": np.float32([[1, 2], [3, 4]]),
        "first": np.float32([[math.nan], [1]]),
        "whole": np.int64([[1, 2], [3, 4]]),
        "truth": np.array([[True, False], [False, True]]),
        "text": np.array([["null", "a"], ["NaN", ""]], object),
    }
    asked = read_body({**body, "id": "null"}, logs)
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
    """Return the classification of some scores."""
    inputs = INPUTS if signature is THREE else one_input([1, 1])["inputs"]
    body = {
        "inputs": inputs,
        "outputs": [{"name": head, "parameters": {"classification": classes}}],
    }
    (answer,) = _answer(body, {head: output}, signature)["outputs"]
    assert (answer["name"], answer["datatype"]) == (head, "BYTES")
    return answer["shape"], answer["data"]


def test_classes_with_their_labels():
    """Classes come by falling value, with value, index and label; equal ones keep their order."""
    rows = np.float32([[0.1, 0.7, 0.2], [5, -1, 5]])

    assert _classes("digits", rows, 2) == (
        [2, 2],
        ["0.7:1:one", "0.2:2:two", "5.0:0:zero", "5.0:2:two"],
    )


def test_as_many_classes_as_there_are():
    """A request for more classes than a head has returns all of them."""
    assert _classes("tags", np.float32([[0.25, 0.5]]), 9) == (
        [1, 2],
        ["0.5:1:long", "0.25:0:heavy"],
    )


def test_a_binary_head_has_one_class():
    """A binary head returns its value and the label of the row, not a score of the other label."""
    assert _classes("risk", np.float32([[0.75], [0.25], [math.nan]]), 2) == (
        [3, 1],
        ["0.75:0:high", "0.25:0:low", "nan:0"],
    )


def test_classes_without_labels():
    """A class without a label is its value and index, and NaN comes last."""
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
def test_classes_of_integers(head, row, expected):
    """Integers are sorted correctly up to the limits of their dtype."""
    assert _classes(head, row, 2, MODELS["logs"].signature) == (
        [1, 2],
        [f"{value}:{1 - i}" for i, value in enumerate(expected)],
    )
