"""Graphs of the kinds that public packages ship, that take whole tensors and no rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.harness import small

F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
node = helper.make_node


def built(nodes: Any, inputs: Any, outputs: Any, constants: Any = None) -> bytes:
    """A foreign file's bytes."""
    return small.model(nodes, inputs, outputs, constants).SerializeToString()


def voice() -> bytes:
    """A voice-activity model: audio [batch, n], a state whose batch is its second axis, a rate.

    speech = the mean of the audio, divided by the rate; next = state + 1; twice = 2 * audio.
    """
    return built(
        [
            node("Cast", ["sr"], ["rate"], to=F),
            node("ReduceMean", ["audio", "last"], ["level"], keepdims=1),
            node("Div", ["level", "rate"], ["speech"]),
            node("Add", ["state", "one"], ["next"]),
            node("Add", ["audio", "audio"], ["twice"]),
        ],
        [("audio", F, ["batch", "n"]), ("state", F, [2, "batch", 4]), ("sr", I64, [])],
        [("speech", F, ["batch", 1]), ("next", F, [2, "batch", 4]), ("twice", F, ["batch", "n"])],
        {"last": np.array([1]), "one": np.float32(1)},
    )


def fixed() -> bytes:
    """A fixed batch of 2: y = 2 * x."""
    return built([node("Add", ["x", "x"], ["y"])], [("x", F, [2, 3])], [("y", F, [2, 3])])


def detector() -> bytes:
    """A picture of any size with 8 x 8 pixels at least, and a box for each value above 0.

    found [boxes, 4] are the places of those; best is the largest value, without axes.
    """
    return built(
        [
            node("MaxPool", ["image"], ["pooled"], kernel_shape=[8, 8]),
            node("Relu", ["pooled"], ["kept"]),
            node("NonZero", ["kept"], ["places"]),
            node("Transpose", ["places"], ["found"], perm=[1, 0]),
            node("ReduceMax", ["image"], ["best"], keepdims=0),
        ],
        [("image", F, [1, 1, "height", "width"])],
        [("found", I64, ["boxes", 4]), ("best", F, [])],
    )


def mean() -> bytes:
    """No axis for rows at all: y = the mean over all of x, and a constant."""
    return built(
        [
            node("ReduceMean", ["x", "rows"], ["y"]),
            node("Identity", ["names"], ["classes"]),
        ],
        [("x", F, ["n", 2])],
        [("y", F, [1, 2]), ("classes", S, [2])],
        {"rows": np.array([0]), "names": np.array(["no", "yes"], object)},
    )


def typed(dtype: int) -> bytes:
    """A scalar and a list of it, and both out again."""
    return built(
        [node("Identity", ["one"], ["same"]), node("Identity", ["many"], ["all"])],
        [("one", dtype, []), ("many", dtype, ["n"])],
        [("same", dtype, []), ("all", dtype, ["n"])],
    )
