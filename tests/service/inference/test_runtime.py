"""Errors of ONNX Runtime: a request's shapes and values are the client's fault, the rest is not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.inference import runtime
from service.inference.model import Model
from tests.harness import small
from tests.harness.both_ways import BothWays

F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
node = helper.make_node
ANY = ("x", F, ["n", "any"])


def built(nodes, inputs, outputs, constants=None):
    """Return the bytes of a foreign file."""
    return small.model(nodes, inputs, outputs, constants).SerializeToString()


GRAPHS = {
    "reshape": (
        built(
            [node("Reshape", ["x", "shape"], ["y"])],
            [ANY],
            [("y", F, ["n", 2, "half"])],
            {"shape": np.array([0, 2, -1])},
        ),
        {"inputs": [[1, 2, 3]]},
        (
            "Reshape: The input tensor cannot be reshaped to the requested shape. "
            "Input shape:{1,3}, requested shape:{1,2,-1} (x [1, 3])"
        ),
    ),
    "pool": (
        built(
            [node("MaxPool", ["x"], ["y"], kernel_shape=[5, 5])],
            [("x", F, ["n", 1, "height", "width"])],
            [("y", F, ["n", 1, "h", "w"])],
        ),
        {"inputs": [[[[1]]]]},
        (
            "MaxPool: Calculated output dimension is negative. Check kernel_shape, pads, strides "
            "and dilations. (x [1, 1, 1, 1])"
        ),
    ),
    "conv": (
        built(
            [node("Conv", ["x", "w"], ["y"])],
            [("x", F, ["n", 1, "height", "width"])],
            [("y", F, ["n", 1, "h", "w"])],
            {"w": np.ones((1, 1, 3, 3), np.float32)},
        ),
        {"inputs": [[[[1]]]]},
        "Conv: Invalid input shape: {1,1} (x [1, 1, 1, 1])",
    ),
    "concat": (
        built(
            [node("Concat", ["x", "z"], ["y"], axis=1)],
            [("x", F, ["n", "a", "b"]), ("z", F, ["n", "c", "d"])],
            [("y", F, ["n", "e", "f"])],
        ),
        {"inputs": {"x": [[[1, 2]]], "z": [[[1]]]}},
        (
            "Concat: Non concat axis dimensions must match: Axis 2 has mismatched dimensions of "
            "1 and 2 (x [1, 1, 2], z [1, 1, 1])"
        ),
    ),
    "gather": (
        built(
            [node("Gather", ["table", "x"], ["y"])],
            [("x", I64, ["n"])],
            [("y", F, ["n"])],
            {"table": np.float32([1, 2])},
        ),
        {"inputs": [9]},
        (
            "Gather: indices element out of data bounds, idx=9 must be within the inclusive range "
            "[-2,1] (x [1])"
        ),
    ),
    "cast": (
        built(
            [node("Cast", ["x"], ["y"], to=F)],
            [("x", S, ["n", 1])],
            [("y", F, ["n", 1])],
        ),
        {"inputs": [["no number"]]},
        "Cast: stod (x [1, 1])",
    ),
    "state": (
        built(
            [node("Add", ["x", "state"], ["y"])],
            [("x", F, ["n", "m"]), ("state", F, [2, "m"])],
            [("y", F, ["n", "m"])],
        ),
        {"inputs": {"x": [[1, 2], [3, 4], [5, 6]], "state": [[1, 2], [3, 4]]}},
        (
            "Add: Attempting to broadcast an axis by a dimension other than 1. 2 by 3 "
            "(x [3, 2], state [2, 2])"
        ),
    ),
}


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    """Serve the graphs of this file."""
    models = tmp_path_factory.mktemp("models")
    for name, (content, _, _) in GRAPHS.items():
        small.put(models, name, 1, content)
    small.put(models, "never", 1, never())
    served = BothWays(models, default_model="reshape")
    yield served
    served.stop()


def never() -> bytes:
    """Return a graph that reshapes rows of two numbers to three, which always fails."""
    return built(
        [
            node("Shape", ["x"], ["shape"]),
            node("Add", ["shape", "more"], ["wrong"]),
            node("Reshape", ["x", "wrong"], ["y"]),
        ],
        [("x", F, ["n", 2])],
        [("y", F, ["n", 3])],
        {"more": np.array([0, 1])},
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_shapes_and_values_that_a_graph_cannot_process_are_a_400(served, name):
    """The message has the operator, the reason and the shape of each input, but no source path."""
    _, body, words = GRAPHS[name]

    asked = served.post(f"/models/{name}/predict", body)

    assert (asked.status, asked.said) == (
        400,
        {"error": f"the model has no answer for these values: {words}"},
    )


def test_a_graph_that_fails_on_any_input_is_a_500(served):
    """The client cannot fix the error, so the log has its details."""
    asked = served.post("/models/never/predict", {"inputs": [[1, 2]]})

    assert asked.status == 500
    assert served.get("/models/never/example").status == 404


def test_a_lack_of_memory_is_not_a_callers_fault():
    """A failed allocation counts as a fault of the service."""
    model = Model.load(
        built(
            [node("Expand", ["x", "shape"], ["y"]), node("Identity", ["x"], ["z"])],
            [("x", F, ["n", 1]), ("shape", I64, [2])],
            [("y", F, ["a", "b"]), ("z", F, ["n", 1])],
        )
    )
    huge = {"x": np.zeros((1, 1), np.float32), "shape": np.array([2**20, 2**25])}

    with pytest.raises(runtime.FAILURES) as failed:
        model.predict(huge, ["y"])

    assert not runtime.is_callers(failed.value)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Loop node."
            " Name:'l' Status Message: Non-zero status code returned while running MatMul node. "
            "Name:'m' Status Message: matmul_helper.h:59 Compute MatMul dimension mismatch",
            "MatMul: MatMul dimension mismatch",
            id="of a node within a node, the inner one",
        ),
        pytest.param(
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running A node. "
            "Name:'' Status Message: /src/op_kernel.cc:87 virtual OrtValue* f(int, const g&) "
            "[ONNXRuntimeError] : 1 : FAIL : tensor.cc:57 Size Tensor shape.Size() must be >= 0\n",
            "A: Tensor shape.Size() must be >= 0",
            id="of a status within a status, the inner one",
        ),
        pytest.param(
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running A node. "
            "Name:'' Status Message: bad file /home/me/models/secret.bin\x1b[31m" + "x" * 999,
            f"A: bad file …?[31m{'x' * 185}…",
            id="no path, no escape, no end",
        ),
        pytest.param("Status Message: ", "it fails", id="nothing"),
    ],
)
def test_reasons_are_one_short_line(message, words):
    """A reason has no error codes and source positions of ONNX Runtime."""
    arrays = {f"x{'y' * 50}": np.zeros((1, 2))} | {f"i{n}": np.zeros(()) for n in range(9)}

    reason = runtime.reason(RuntimeError(message), arrays)

    shapes = f"(x{'y' * 39}… [1, 2], " + ", ".join(f"i{n} []" for n in range(7)) + ", …)"
    assert reason == f"{words} {shapes}"
