"""Conversion of a Keras model to an ONNX graph: by tf2onnx, then with our names and order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import onnx

from training.built import every_layer, objection
from training.errors import ExportError
from training.graph import tidy
from training.operations import translate
from training.quiet import keras, mute, tf, tf2onnx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.built import Built

OPSET = 18  # the highest that tf2onnx writes
_WAY_OUT = "replace the layer that needs it by others of Keras"
_OURS = "triceps"  # a prefix that no layer has, as a dot follows it


def convert(built: Built, heads: Iterable[str], name: str) -> onnx.ModelProto:
    """Convert a Keras model to an ONNX graph called `name` with `heads` as outputs, in this order.

    Raises:
        ExportError: a part of the model has no counterpart in ONNX.
    """
    model = built.model
    # Names that TensorFlow accepts and no layer has; `tidy` sets the right ones.
    inputs = {f"{_OURS}.in{position}": key for position, key in enumerate(built.tensors)}
    outputs = {f"{_OURS}.out{position}": head for position, head in enumerate(heads)}
    whole = keras.Model(
        model.input,
        {
            safe: keras.layers.Identity(name=safe)(model.output[key])
            for safe, key in outputs.items()
        },
        name=_OURS,
    )
    tensors = {
        key: tf.TensorSpec(model.input[key].shape, model.input[key].dtype, name=safe)
        for safe, key in inputs.items()
    }
    try:
        with mute():
            converted, _ = tf2onnx.convert.from_keras(whole, [tensors], opset=OPSET)
    except Exception as error:  # tf2onnx and TensorFlow raise exceptions of any class
        raise ExportError(f"tf2onnx cannot convert it: {objection(error)}; {_WAY_OUT}") from error
    translate(converted.graph)
    for node in converted.graph.node:
        # tf2onnx leaves operations that it does not know in the graph.
        if not onnx.defs.has(node.op_type, node.domain):
            raise ExportError(
                f"{_layer(model, node.name)}ONNX has no counterpart of TensorFlow's {node.op_type};"
                f" {_WAY_OUT}"
            )
    renamed = {safe: built.tensors[key] for safe, key in inputs.items()}
    return tidy(converted, name, renamed, outputs)


def _layer(model: keras.Model, node: str) -> str:
    """Return the beginning of a message: the layer that a node of the graph comes from."""
    parts = {part for path in node.split("/") for part in (path, re.sub(r"_\d+$", "", path))}
    names = [layer.name for layer in every_layer(model) if layer.name in parts]
    return f"layer {names[-1]!r}: " if names else ""
