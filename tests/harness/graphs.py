"""Graphs like those of public packages, which take whole tensors and no rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.harness import small

F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
node = helper.make_node


def built(nodes: Any, inputs: Any, outputs: Any, constants: Any = None) -> bytes:
    """Return the bytes of a file without a signature."""
    return small.model(nodes, inputs, outputs, constants).SerializeToString()


def voice() -> bytes:
    """Return a voice model: audio [batch, n], a state whose batch is its second axis, a rate.

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
    """Return a model with a fixed batch of 2: y = 2 * x."""
    return built([node("Add", ["x", "x"], ["y"])], [("x", F, [2, 3])], [("y", F, [2, 3])])


def detector() -> bytes:
    """Return a model that finds a box for each value above 0 in a picture of 8 x 8 pixels or more.

    found [boxes, 4] has the places of the boxes; best is the largest value, without axes.
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
    """Return a model without an axis for rows: y = the mean of x, and a constant."""
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
    """Return a model that returns a scalar and a list of its dtype unchanged."""
    return built(
        [node("Identity", ["one"], ["same"]), node("Identity", ["many"], ["all"])],
        [("one", dtype, []), ("many", dtype, ["n"])],
        [("same", dtype, []), ("all", dtype, ["n"])],
    )
