"""Integer division: no value of a request ends a worker, and other quotients stay the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.inference.integer_division import make_safe
from service.inference.model import Model
from tests.harness.small import model

DTYPES = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}


def divided(op, dtype, constants=None):
    """Return a graph that divides one input by another, or by a constant."""
    inputs = [("x", dtype, ["n", 1])]
    if not constants:
        inputs.append(("z", dtype, ["n", 1]))
    return model(
        [helper.make_node(op, ["x", "z"], ["y"])], inputs, [("y", dtype, ["n", 1])], constants
    )


def in_branch(dtype):
    """Return the same division inside a branch."""
    node = helper.make_node("Div", ["x", "z"], ["q"])
    body = helper.make_graph([node], "b", [], [helper.make_tensor_value_info("q", dtype, None)])
    chosen = helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body)
    inputs = [("x", dtype, ["n", 1]), ("z", dtype, ["n", 1])]
    return model([chosen], inputs, [("y", dtype, ["n", 1])], {"yes": np.array(True)})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_no_divisor_ends_the_process(op, dtype):
    """The first of these rows would crash ONNX Runtime; an overflow wraps as in numpy."""
    kind = DTYPES[dtype]
    least, most = np.iinfo(kind).min, np.iinfo(kind).max
    x = np.array([[least], [least], [most], [7], [-7], [7], [0]], kind)
    z = np.array([[-1], [1], [-1], [-1], [2], [-2], [-1]], kind)
    loaded = Model.load(divided(op, dtype).SerializeToString())

    [came] = loaded.predict({"x": x, "z": z}, ["y"]).values()

    expected = {
        "Div": [least, least, -most, -7, -3, -3, 0],
        "Mod": [0, 0, 0, 0, 1, -1, 0],
    }
    assert came.ravel().tolist() == expected[op]
    assert loaded.batching.mode == "rows"


def test_a_branch_is_made_safe_too():
    """Both branches are made safe."""
    graph = in_branch(TensorProto.INT64)
    least = np.iinfo(np.int64).min
    arrays = {"x": np.array([[least], [9]]), "z": np.array([[-1], [2]])}

    [came] = Model.load(graph.SerializeToString()).predict(arrays, ["y"]).values()

    assert came.ravel().tolist() == [least, 4]


@pytest.mark.parametrize(
    ("graph", "is_rewritten"),
    [
        pytest.param(divided("Div", TensorProto.FLOAT), False, id="floats"),
        pytest.param(
            divided("Div", TensorProto.INT64, {"z": np.array([[2]])}), False, id="by a constant"
        ),
        pytest.param(divided("Div", TensorProto.INT64, {"z": np.array([[-1]])}), True, id="by -1"),
        pytest.param(divided("Div", TensorProto.INT64), True, id="by what comes"),
    ],
)
def test_only_what_may_be_divided_by_minus_one_is_rewritten(graph, is_rewritten):
    """All other divisions stay as they were exported."""
    before = graph.SerializeToString()

    assert make_safe(graph) is is_rewritten
    assert (graph.SerializeToString() != before) is is_rewritten
    onnx.checker.check_model(graph)
