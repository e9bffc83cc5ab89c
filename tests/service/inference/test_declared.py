"""What comes of a run is what its graph declares, in dtype and shape, or it is nobody's answer."""

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
    """A label of a row as skl2onnx has it, [batch] in int64, and the same without a sign."""
    made = small.model(
        [
            node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
            node("Cast", ["label"], ["count"], to=U64),
        ],
        [("x", F, ["n", 3])],
        [("label", I64, ["n"]), ("count", U64, ["n"])],
    )
    return made.SerializeToString()


def wide() -> bytes:
    """`y`, declared as two values a row, is twice what came in: of one value as declared."""
    made = small.model(
        [node("Concat", ["x", "x"], ["y"], axis=1), node("Identity", ["x"], ["calm"])],
        [("x", F, ["n", "any"])],
        [("y", F, ["n", 2]), ("calm", F, ["n", "any"])],
    )
    return made.SerializeToString()


def fewer() -> bytes:
    """`y`, declared as a number a row, is those of x that are not below 0."""
    made = small.model(
        [
            node("GreaterOrEqual", ["x", "zero"], ["kept"]),
            node("Compress", ["x", "kept"], ["y"], axis=0),
        ],
        [("x", F, ["n"])],
        [("y", F, ["n"])],
        {"zero": np.float32(0)},
    )
    return made.SerializeToString()


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
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
def test_a_whole_number_a_row_is_answered_in_every_dialect(served, path, body, answer):
    """ONNX Runtime has them as C's `long long`, which is another type to whoever writes JSON."""
    asked = served.post(path, body)

    assert asked.status == 200, asked.content
    assert {key: asked.said[key] for key in answer} == answer


@pytest.mark.parametrize("name", ["label", "count"])
def test_a_head_has_the_very_dtype_that_is_declared(name):
    """Not one that is equal to it and has another name."""
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
    """Its caller learns nothing of it, the log all; and the model answers on."""
    asked = served.post(f"/models/{name}/predict", body)

    assert (asked.status, asked.said) == (
        500,
        {"error": f"POST /models/{name}/predict: an error of the service; it is logged"},
    )
    assert caplog.text.count(words) >= 2  # by the front, and by the app
    assert served.post(f"/models/{name}/predict", {"inputs": [[1]] if name == "wide" else [1]})
    assert served.get("/metrics").status == 200


def test_a_head_that_nobody_lies_about_is_answered_beside_one_that_is(served):
    """Only what was asked for is held against its declaration."""
    asked = served.post("/models/wide/predict", {"inputs": [[1, 2]], "heads": ["calm"]})

    assert (asked.status, asked.said["outputs"]) == (200, {"calm": [[1.0, 2.0]]})


def test_another_dtype_than_declared_is_no_answer(monkeypatch):
    """ONNX Runtime sees to that itself; whatever takes its place may not."""
    model = Model.load(small.same(F, (2,)))
    monkeypatch.setitem(model._heads, "y", (np.dtype("float64"), (2,)))

    with pytest.raises(UndeclaredAnswer, match="expected float64, as its graph declares, received"):
        model.predict({"x": np.zeros((1, 2), np.float32)}, ["y"])
