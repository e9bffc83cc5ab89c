"""Small graphs in which the answer to a row depends on other rows, each in a different way."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from tests.harness.small import F, model

if TYPE_CHECKING:
    from onnx import ModelProto

WIDTH = 4
X = ("x", F, ["n", WIDTH])
Y = ("y", F, ["n", WIDTH])


def _one(op: str, *more: str, **attributes: Any) -> ModelProto:
    node = helper.make_node(op, ["x", *more], ["y"], **attributes)
    return model([node], [X], [Y], {"zero": np.array([0]), "first": np.array(0)})


def softmax() -> ModelProto:
    """Return a softmax over the batch."""
    return _one("Softmax", axis=0)


def centred() -> ModelProto:
    """Return a graph that subtracts the mean of a column from each value."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "zero"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return model(nodes, [X], [Y], {"zero": np.array([0])})


def summed() -> ModelProto:
    """Return a graph of sums along the batch."""
    return _one("CumSum", "first")


def scaled() -> ModelProto:
    """Return a graph that divides each value by the largest of all."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Div", ["x", "most"], ["y"]),
    ]
    return model(nodes, [X], [Y])


def trained() -> ModelProto:
    """Return a normalization that was left in training mode."""
    node = helper.make_node(
        "BatchNormalization",
        ["x", "scale", "bias", "mean", "variance"],
        ["y", "new_mean", "new_variance"],
        training_mode=1,
    )
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    constants = {"scale": ones, "bias": zeros, "mean": zeros, "variance": ones}
    return model([node], [X], [Y], constants)


def crossed() -> ModelProto:
    """Return a product of the rows of two inputs, whose axes have different names."""
    nodes = [
        helper.make_node("Transpose", ["q"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["products"]),
        helper.make_node("ReduceMax", ["products", "one"], ["y"], keepdims=1),
    ]
    inputs = [("x", F, ["b", WIDTH]), ("q", F, ["k", WIDTH])]
    return model(nodes, inputs, [("y", F, ["b", 1])], {"one": np.array([1])})


def reversed_() -> ModelProto:
    """Return a graph that reverses the rows of each column."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Expand", ["rows", "width"], ["lengths"]),
        helper.make_node("ReverseSequence", ["x", "lengths"], ["y"], batch_axis=1, time_axis=0),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "width": np.array([WIDTH])}
    return model(nodes, [X], [Y], constants)


def quantized() -> ModelProto:
    """Return a layer as `quantize_dynamic` makes it: its scale comes from the whole batch."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    weights = np.random.default_rng(1).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    layer = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [X], [Y], {"w": weights})
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        onnx.save(layer, before)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8)
        return onnx.load(io.BytesIO(after.read_bytes()))


MIXERS = {
    "softmax": softmax,
    "centred": centred,
    "summed": summed,
    "scaled": scaled,
    "trained": trained,
    "crossed": crossed,
    "reversed": reversed_,
    "quantized": quantized,
}
