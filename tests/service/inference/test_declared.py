"""The outputs of a run have the dtype and shape that the graph declares, or are not answered."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.errors import UndeclaredAnswer
from service.inference.model import Model
from tests.harness import small
from tests.harness.both_ways import BothWays

F, I64, U64 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT64
node = helper.make_node


def whole_numbers() -> bytes:
    """Return a graph with [batch] labels in int64, as skl2onnx writes them, and in uint64."""
    model = small.model(
        [
            node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
            node("Cast", ["label"], ["count"], to=U64),
        ],
        [("x", F, ["n", 3])],
        [("label", I64, ["n"]), ("count", U64, ["n"])],
    )
    return model.SerializeToString()


def wide() -> bytes:
    """Return a graph whose `y` is declared with two values per row and is twice its input."""
    model = small.model(
        [node("Concat", ["x", "x"], ["y"], axis=1), node("Identity", ["x"], ["calm"])],
        [("x", F, ["n", "any"])],
        [("y", F, ["n", 2]), ("calm", F, ["n", "any"])],
    )
    return model.SerializeToString()


def fewer() -> bytes:
    """Return a graph whose `y`, declared as a value per row, holds only those of 0 or more."""
    model = small.model(
        [
            node("GreaterOrEqual", ["x", "zero"], ["kept"]),
            node("Compress", ["x", "kept"], ["y"], axis=0),
        ],
        [("x", F, ["n"])],
        [("y", F, ["n"])],
        {"zero": np.float32(0)},
    )
    return model.SerializeToString()


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    """Serve the graphs of this file."""
    models = tmp_path_factory.mktemp("models")
    for name, content in (("whole", whole_numbers()), ("wide", wide()), ("fewer", fewer())):
        small.put(models, name, 1, content)
    served = BothWays(models, default_model="whole")
    yield served
    served.stop()


ROWS = [[0, 5, 1], [9, 0, 0]]


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        pytest.param(
            "/predict",
            {"instances": ROWS},
            {
                "predictions": [
                    {"label": {"value": 1}, "count": {"value": 1}},
                    {"label": {"value": 0}, "count": {"value": 0}},
                ]
            },
            id="native rows",
        ),
        pytest.param(
            "/predict",
            {"inputs": ROWS, "heads": ["label"]},
            {"outputs": {"label": [1, 0]}},
            id="native columns",
        ),
        pytest.param(
            "/v1/models/whole:predict",
            {"instances": ROWS},
            {"predictions": [{"label": 1, "count": 1}, {"label": 0, "count": 0}]},
            id="TensorFlow Serving",
        ),
        pytest.param(
            "/v1/models/whole:regress",
            {"examples": [{"x": row} for row in ROWS], "signature_name": "label"},
            {"results": [1, 0]},
            id="regress",
        ),
        pytest.param(
            "/invocations",
            {"instances": ROWS},
            {"predictions": [{"label": 1, "count": 1}, {"label": 0, "count": 0}]},
            id="MLflow",
        ),
    ],
)
def test_an_integer_per_row_is_answered_in_every_dialect(served, path, body, answer):
    """ONNX Runtime returns C's `long long`, which JSON writers may not recognize as int64."""
    asked = served.post(path, body)

    assert asked.status == 200, asked.content
    assert {key: asked.said[key] for key in answer} == answer


@pytest.mark.parametrize("name", ["label", "count"])
def test_a_head_has_the_very_dtype_that_is_declared(name):
    """The dtype is the declared object, not an equal one of another name."""
    answers = Model.load(whole_numbers()).predict({"x": np.zeros((2, 3), np.float32)}, [name])

    assert answers[name].dtype.char == {"label": "l", "count": "L"}[name]


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        pytest.param(
            "wide",
            {"inputs": [[1, 2]]},
            "model 'wide', version 1, head 'y': expected the shape [1, 2], as its graph declares, "
            "received the shape [1, 4]",
            id="wider rows",
        ),
        pytest.param(
            "fewer",
            {"inputs": [1, -1, 2]},
            "model 'fewer', version 1, head 'y': expected the shape [3], as its graph declares, "
            "received the shape [2]",
            id="fewer rows",
        ),
    ],
)
def test_an_answer_in_another_shape_than_declared_is_a_plain_500(served, caplog, name, body, words):
    """The client gets no details and the log gets all; the model keeps serving."""
    asked = served.post(f"/models/{name}/predict", body)

    assert (asked.status, asked.said) == (
        500,
        {"error": f"POST /models/{name}/predict: an error of the service; it is logged"},
    )
    assert caplog.text.count(words) >= 2  # The front and the app answer alike.
    assert served.post(f"/models/{name}/predict", {"inputs": [[1]] if name == "wide" else [1]})
    assert served.get("/metrics").status == 200


def test_a_rightly_declared_head_is_answered_beside_a_wrong_one(served):
    """Only the requested heads are compared with their declarations."""
    asked = served.post("/models/wide/predict", {"inputs": [[1, 2]], "heads": ["calm"]})

    assert (asked.status, asked.said["outputs"]) == (200, {"calm": [[1.0, 2.0]]})


def test_another_dtype_than_declared_is_no_answer(monkeypatch):
    """ONNX Runtime guarantees the dtype; a replacement for it may not."""
    model = Model.load(small.same(F, (2,)))
    monkeypatch.setitem(model._heads, "y", (np.dtype("float64"), (2,)))

    with pytest.raises(UndeclaredAnswer, match="expected float64, as its graph declares, received"):
        model.predict({"x": np.zeros((1, 2), np.float32)}, ["y"])
