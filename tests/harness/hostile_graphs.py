"""Graphs that use too much memory or time."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests.harness import small

ROOT = Path(__file__).parents[2]
F = TensorProto.FLOAT
X, Y = ("x", F, ["n", 2]), ("y", F, ["n", 2])
GOOD = small.three()
node = helper.make_node


def built(nodes, inputs=(X,), outputs=(Y,), constants=None):
    """Return the bytes of a file without a signature."""
    return small.model(nodes, inputs, outputs, constants).SerializeToString()


def own_function(*nodes):
    """Return a file with a function of its own that consists of `nodes`."""
    made = small.model([node("f", ["x"], ["y"], domain="own")], [X], [Y])
    opsets = [helper.make_opsetid("own", 1), helper.make_opsetid("", 18)]
    made.opset_import.append(opsets[0])
    made.functions.append(helper.make_function("own", "f", ["a"], ["b"], list(nodes), opsets))
    return made.SerializeToString()


def looping(times):
    """Return a file that doubles x `times` times, also in its trial."""
    body = helper.make_graph(
        [node("Identity", ["on"], ["again"]), node("Add", ["a", "a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", F, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", F, None),
        ],
    )
    nodes = [node("Loop", ["times", "on", "x"], ["y"], body=body)]
    return built(nodes, constants={"times": np.array(times), "on": np.array(True)})


def spread(megabytes):
    """Return a small file that needs `megabytes` of memory for every answer."""
    return built(
        [
            node("ConstantOfShape", ["size"], ["many"], value=helper.make_tensor("v", F, [1], [1])),
            node("ReduceSum", ["many"], ["sum"], keepdims=0),
            node("Add", ["x", "sum"], ["y"]),
        ],
        constants={"size": np.array([megabytes * 2**18])},
    )


def large(megabytes):
    """Return a file with weights of `megabytes`."""
    return built(
        [
            # The row depends on x, or ONNX Runtime would drop all other rows at the load.
            node("ReduceMin", ["x"], ["least"], keepdims=0),
            node("Mul", ["least", "nought"], ["zero"]),
            node("Cast", ["zero"], ["place"], to=TensorProto.INT64),
            node("Gather", ["w", "place"], ["taken"]),
            node("Add", ["x", "taken"], ["y"]),
        ],
        constants={
            "w": np.ones((megabytes * 2**17, 2), np.float32),
            "nought": np.float32(0),
        },
    )
