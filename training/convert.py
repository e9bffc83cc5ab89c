"""A Keras model becomes an ONNX graph: tf2onnx, then our own words, names and order."""

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
_OURS = "triceps"  # of no layer: they have no dot


def convert(built: Built, heads: Iterable[str], name: str) -> onnx.ModelProto:
    """Turn a Keras model into ONNX: a graph called `name` that answers `heads` in that order.

    Raises:
        ExportError: something in it has no counterpart in ONNX.
    """
    model = built.model
    # Names that TensorFlow certainly takes, and that no layer has; the right ones are set below.
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
    except Exception as error:  # tf2onnx and TensorFlow raise whatever they happen to
        raise ExportError(f"tf2onnx cannot convert it: {objection(error)}") from error
    translate(converted.graph)
    for node in converted.graph.node:
        # tf2onnx leaves an operation that it does not know in the graph as it is.
        if not onnx.defs.has(node.op_type, node.domain):
            raise ExportError(
                f"{_layer(model, node.name)}ONNX has no counterpart of TensorFlow's {node.op_type}"
            )
    renamed = {safe: built.tensors[key] for safe, key in inputs.items()}
    return tidy(converted, name, renamed, outputs)


def _layer(model: keras.Model, node: str) -> str:
    """The layer that a node of the graph comes from, to put in front of a message."""
    parts = {part for path in node.split("/") for part in (path, re.sub(r"_\d+$", "", path))}
    names = [layer.name for layer in every_layer(model) if layer.name in parts]
    return f"layer {names[-1]!r}: " if names else ""
