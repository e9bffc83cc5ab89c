"""The rules for estimators and encoders, most of them of ai.onnx.ml; see `rules`."""

from __future__ import annotations

from service.inference.independence.pictures import keeps_rows_first
from service.inference.independence.values import Node, Value, first_axis, product

MATRIX = 2


def table(node: Node) -> list[Value]:
    """Follow an operator that treats each row of a matrix by itself and keeps the shape."""
    _matrix(node)
    return keeps_rows_first(node)


def _matrix(node: Node) -> None:
    """Check that the first input is a matrix, since anything else may be taken for one row."""
    _, shape, _ = node.first()
    if len(shape) != MATRIX:
        node.mixes("takes all rows as one, since they are not a matrix")


def estimator(node: Node) -> list[Value]:
    """Follow an estimator of each row of a matrix: a classifier's labels and scores, or targets."""
    _matrix(node)
    _, shape, axis = node.first()
    first_axis(node, axis)
    scores = Value((shape[0], node.fresh()), 0)
    if node.op.endswith("Classifier"):
        return [Value((shape[0],), 0), scores]
    return [scores]


def encode(node: Node) -> list[Value]:
    """Follow a OneHotEncoder, which adds a last axis for the categories."""
    _, shape, axis = node.first()
    return [Value((*shape, node.fresh()), axis)]


def features(node: Node) -> list[Value]:
    """Follow a FeatureVectorizer, which joins matrices row by row."""
    lengths = set()
    for value in node.inputs:
        if value is None or value.shape is None or len(value.shape) != MATRIX or value.axis != 0:
            node.mixes("has an input that is not a matrix of rows")
        lengths.add(value.shape[0])
    if len(lengths) != 1:
        node.unknown("has operands whose rows differ in length")
    return [Value((lengths.pop(), node.fresh()), 0)]


def extract(node: Node) -> list[Value]:
    """Follow an ArrayFeatureExtractor of constant columns, or of each row's indices from a list."""
    data, indices = node.inputs
    if data is None or indices is None or data.shape is None or indices.shape is None:
        node.unknown("has an operand of an unknown shape")
    if data.axis is not None:
        node.constant(1)
        if len(data.shape) < MATRIX or data.axis == len(data.shape) - 1:
            node.mixes("takes some of the rows by their index")
        return [Value((*data.shape[:-1], node.fresh()), data.axis)]
    if len(data.shape) != 1 or product(indices.shape[: indices.axis]) != 1:
        node.unknown("looks up in more than one list")
    # All indices become one list, behind an axis of length 1.
    return [Value((1, product(indices.shape)), 1)]


def distances(node: Node) -> list[Value]:
    """Follow a CDist, the distances of each row from constants."""
    node.constant(1)
    _, shape, axis = node.first()
    first_axis(node, axis)
    return [Value((shape[0], node.fresh()), 0)]
