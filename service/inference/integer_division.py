"""The rewriting of integer divisions that could crash a worker.

The smallest int32 or int64 divided by -1 is larger than the largest.  ONNX Runtime leaves that to
the processor, which ends the process: one client's row would cost all other clients of the worker
their answers.  Where a divisor may be -1, the graph divides by 1 instead and negates the result:

    Div(x, z)  ─▶  Where(z = -1, -x, Div(x, Where(z = -1, 1, z)))
    Mod(x, z)  ─▶  Mod(x, Where(z = -1, 1, z))          0 for both divisors
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable

# The first operator set that has `Where`.
_LEAST_VERSION = 9
_WIDE: dict[int, type[np.signedinteger[Any]]] = {
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
}
_DIVIDE = ("Div", "Mod")


def make_safe(graph: onnx.ModelProto) -> bool:
    """Rewrite the integer divisions of a graph and of its branches, in place.

    Divisions in the model's functions, and those of unknown type, stay as they are.

    Returns:
        Whether the graph was changed.
    """
    version = max((e.version for e in graph.opset_import if e.domain in ("", "ai.onnx")), default=0)
    if version < _LEAST_VERSION or not any(_divides(node) for node in graph.graph.node):
        return False
    return _rewrite(graph.graph, _types(graph), _constants(graph.graph))


def _divides(node: onnx.NodeProto) -> bool:
    return _is_division(node) or any(
        _divides(inner) for body in _bodies(node) for inner in body.node
    )


def _bodies(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g


def _types(graph: onnx.ModelProto) -> dict[str, int]:
    """Return the element types of a graph's values by name, as far as ONNX infers them."""
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    types: dict[str, int] = {}
    try:
        bodies = [onnx.shape_inference.infer_shapes(bare).graph]
    except Exception:  # noqa: BLE001  it raises many kinds; without types, nothing is rewritten
        return types
    while bodies:
        body = bodies.pop()
        for value in (*body.input, *body.output, *body.value_info):
            types[value.name] = value.type.tensor_type.elem_type
        types |= {tensor.name: tensor.data_type for tensor in body.initializer}
        bodies.extend(inner for node in body.node for inner in _bodies(node))
    return types


def _constants(body: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    constants = {tensor.name: tensor for tensor in body.initializer}
    for node in body.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    return constants


def _rewrite(
    body: onnx.GraphProto, types: dict[str, int], constants: dict[str, onnx.TensorProto]
) -> bool:
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in body.node:
        for inner in _bodies(node):
            changed |= _rewrite(inner, types, constants | _constants(inner))
        dtype = _WIDE.get(types.get(node.input[1], 0)) if _is_division(node) else None
        if dtype is None or _is_never_minus_one(constants.get(node.input[1])):
            nodes.append(node)
        else:
            nodes.extend(_safe(node, dtype))
            changed = True
    if changed:
        del body.node[:]
        body.node.extend(nodes)
    return changed


def _is_division(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in _DIVIDE


def _is_never_minus_one(divisor: onnx.TensorProto | None) -> bool:
    if divisor is None or divisor.data_location == TensorProto.EXTERNAL:
        return False
    return not (numpy_helper.to_array(divisor) == -1).any()


def _safe(node: onnx.NodeProto, dtype: type[np.signedinteger[Any]]) -> list[onnx.NodeProto]:
    """Return the nodes that replace a division; the prefix keeps new names from colliding."""
    dividend, divisor = node.input
    [result] = node.output
    minus, one, which, safe, quotient, negated = (
        f"{result}/triceps/{part}"
        for part in ("minus", "one", "which", "safe", "quotient", "negated")
    )
    divided = onnx.NodeProto()
    divided.CopyFrom(node)
    divided.input[1] = safe
    nodes = [
        _constant(minus, dtype(-1)),
        _constant(one, dtype(1)),
        helper.make_node("Equal", [divisor, minus], [which]),
        helper.make_node("Where", [which, one, divisor], [safe]),
        divided,
    ]
    if node.op_type == "Div":
        divided.output[0] = quotient
        nodes.append(helper.make_node("Neg", [dividend], [negated]))
        nodes.append(helper.make_node("Where", [which, negated, quotient], [result]))
    return nodes


def _constant(name: str, value: np.signedinteger[Any]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))
