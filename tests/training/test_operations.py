"""Translations of operations that tf2onnx does not know, which compute what TensorFlow does."""

import math

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from training.operations import translate

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def _compute(node, dtypes, values):
    """Translate an operation and run it."""
    graph = helper.make_graph(
        [node, helper.make_node("Identity", ["t"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", dtypes[0], [None, 2])],
        [helper.make_tensor_value_info("y", dtypes[1], [None, 2])],
    )
    translate(graph)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [answer] = session.run(["y"], {"x": values})
    return answer


def test_erfc_is_one_minus_erf():
    """Erfc is computed in the precision of its input."""
    values = np.array([[-2, 0], [0.5, 3]], np.float32)

    answer = _compute(helper.make_node("Erfc", ["x"], ["t"]), (FLOAT, FLOAT), values)

    assert answer.dtype == np.float32
    assert np.allclose(answer, np.vectorize(math.erfc)(values), atol=1e-6)


def test_bucketize_counts_the_boundaries_that_are_reached():
    """A value on a boundary is in the bin above it, for floats and integers."""
    node = helper.make_node("Bucketize", ["x"], ["t"], boundaries=[0.0, 1.5, 2.0])

    floats = _compute(node, (FLOAT, INT32), np.array([[-1, 0], [1.6, 2]], np.float32))
    wholes = _compute(node, (INT64, INT32), np.array([[-1, 0], [1, 2]]))

    assert floats.dtype == np.int32
    assert floats.tolist() == [[0, 1], [2, 3]]
    assert wholes.tolist() == [[0, 1], [1, 3]]


def test_an_unknown_operation_stays():
    """An operation without a translation is left unchanged."""
    graph = helper.make_graph([helper.make_node("Hash", ["x"], ["y"])], "one", [], [])

    translate(graph)

    assert [node.op_type for node in graph.node] == ["Hash"]
