"""Translation of TensorFlow operations that tf2onnx leaves in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper

if TYPE_CHECKING:
    import onnx


def translate(graph: onnx.GraphProto) -> None:
    """Replace every TensorFlow operation that is known here by ONNX nodes; others stay."""
    nodes = [made for node in graph.node for made in _WORDS.get(node.op_type, _as_it_is)(node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _as_it_is(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [node]


def _erfc(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Translate 1 - erf(x), which gelu consists of."""
    [x], [y] = node.input, node.output
    erf, number, one = f"{y}/erf", f"{y}/number", f"{y}/one"
    return [
        helper.make_node("Erf", [x], [erf]),
        helper.make_node("Constant", [], [number], value_float=1.0),
        helper.make_node("CastLike", [number, x], [one]),
        helper.make_node("Sub", [one, erf], [y]),
    ]


def _bucketize(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Translate the count of boundaries that a value has reached, which is Discretization."""
    [x], [y], [boundaries] = node.input, node.output, node.attribute
    names = ("float", "last", "column", "limits", "reached", "ones")
    number, last, column, limits, reached, ones = (f"{y}/{name}" for name in names)
    return [
        helper.make_node("Cast", [x], [number], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], [last], value_ints=[-1]),
        helper.make_node("Unsqueeze", [number, last], [column]),
        helper.make_node("Constant", [], [limits], value_floats=list(boundaries.floats)),
        helper.make_node("GreaterOrEqual", [column, limits], [reached]),
        helper.make_node("Cast", [reached], [ones], to=TensorProto.INT32),
        helper.make_node("ReduceSum", [ones, last], [y], keepdims=0),
    ]


_WORDS = {"Bucketize": _bucketize, "Erfc": _erfc}
