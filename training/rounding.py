"""The rounding error of float32: how far the answers of a graph to given rows may move by it.

Float32 rounds after every addition, so programs that add up a dot product in different orders
differ, and all are right.  A rounded dot product of n terms is the exact one of other weights, each
of them off by about √n·u of its size, where u = 2**-24 (Higham and Mary, "A new approach to
probabilistic rounding error analysis", 2019).  So the weights of all dot products are moved by
that much, each up or down at random, and the largest change of the answers is the error.

It depends on graph and rows alone, not on Keras, so that a wrong conversion has no larger one.
With inputs of about 1 it is below 1e-5.  It is larger where large numbers nearly cancel each other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx

from service.errors import CannotRun, ModelRefused
from service.inference.arrays import difference
from service.inference.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.rows import Arrays

DRAWS = 8
UNIT = 2.0**-24  # u: the largest relative error of one operation in float32


def rounding(graph: onnx.ModelProto, arrays: Arrays) -> dict[str, float]:
    """Return the rounding error of each head, in the measure of `difference`.

    Args:
        graph: the converted graph, with or without its signature.
        arrays: the rows to answer, by tensor.
    """
    rng = np.random.default_rng(0)
    plain = onnx.ModelProto()
    plain.CopyFrom(graph)
    del plain.metadata_props[:]  # golden rows of the signature have other answers
    terms = _terms(plain.graph)
    try:
        answers = _answers(plain, arrays)
        moved = [_answers(_moved(plain, terms, rng), arrays) for _ in range(DRAWS if terms else 0)]
    except (CannotRun, ModelRefused):
        # Without its signature, the graph cannot be served by rows; then nothing is allowed for.
        return dict.fromkeys((value.name for value in graph.graph.output), 0.0)
    return {
        head: max((difference(other[head], answer) for other in moved), default=0.0)
        for head, answer in answers.items()
    }


def _answers(graph: onnx.ModelProto, arrays: Arrays) -> Arrays:
    model = Model.load(graph.SerializeToString())
    return model.predict(arrays, model.signature.head_names)


def _terms(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the number of terms of the dot products of each weight, by the weight's name."""
    shapes = {
        constant.name: list(constant.dims)
        for constant in graph.initializer
        if constant.data_type == onnx.TensorProto.FLOAT and len(constant.dims) > 1
    }
    terms: dict[str, int] = {}
    for node in graph.node:
        for name in node.input if node.op_type in _COUNT else ():
            if name in shapes:
                terms[name] = max(terms.get(name, 1), _COUNT[node.op_type](node, shapes[name]))
    return terms


def _is_turned(node: onnx.NodeProto) -> bool:
    return any(entry.name == "transB" and entry.i for entry in node.attribute)


# The number of terms of a dot product, by operator, from the node and the shape of its weights.
_COUNT: dict[str, Callable[[onnx.NodeProto, list[int]], int]] = {
    "Conv": lambda _, shape: math.prod(shape[1:]),
    "ConvTranspose": lambda _, shape: shape[0] * math.prod(shape[2:]),
    "Gemm": lambda node, shape: shape[1 if _is_turned(node) else 0],
    "GRU": lambda _, shape: shape[-1],
    "LSTM": lambda _, shape: shape[-1],
    "MatMul": lambda _, shape: shape[-2],
    "RNN": lambda _, shape: shape[-1],
}


def _moved(
    graph: onnx.ModelProto, terms: dict[str, int], rng: np.random.Generator
) -> onnx.ModelProto:
    """Return a copy of the graph whose weights are off by their rounding error."""
    moved = onnx.ModelProto()
    moved.CopyFrom(graph)
    for constant in moved.graph.initializer:
        if constant.name in terms:
            values = onnx.numpy_helper.to_array(constant).astype(np.float64)
            # Less than two units would be rounded away again.
            error = max(math.sqrt(terms[constant.name]), 2.0) * UNIT
            signs = rng.integers(0, 2, values.shape, np.int8) * 2 - 1
            new = (values * (1.0 + error * signs)).astype(np.float32)
            constant.CopyFrom(onnx.numpy_helper.from_array(new, constant.name))
    return moved
