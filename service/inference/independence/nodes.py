"""The nodes of a graph: how to visit them, and their names, domains and attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import AttributeProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# The characters of a name that a message shows.
LONGEST = 80
GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def trains(node: onnx.NodeProto) -> bool:
    """Return whether a node is a BatchNormalization in training mode.

    Before operator set 14 had an attribute for it, nodes that output statistics were.
    """
    return node.op_type == "BatchNormalization" and (
        any(node.output[1:])
        or any(entry.name == "training_mode" and entry.i for entry in node.attribute)
    )


def every_node(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node of a model, including those in branches and functions."""
    yield from _every_node(model.graph.node)
    for function in model.functions:
        yield from _every_node(function.node)


def axis_names(model: onnx.ModelProto) -> list[str]:
    """Return the names of the inputs' first axes, each once; axes without a name are left out."""
    constants = {entry.name for entry in model.graph.initializer}
    names = [
        entry.type.tensor_type.shape.dim[0].dim_param
        for entry in model.graph.input
        if entry.name not in constants and entry.type.tensor_type.shape.dim
    ]
    return [name[:LONGEST] for name in dict.fromkeys(names) if name]


def _every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            if attribute.type in GRAPHS:
                for graph in (attribute.g, *attribute.graphs):
                    waiting.extend(graph.node)


def domain_of(entry: onnx.NodeProto | onnx.OperatorSetIdProto) -> str:
    """Return the domain of a node or an operator set; "" for ONNX's own, which has two names."""
    return "" if entry.domain == "ai.onnx" else entry.domain


def versions_of(imported: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Return the operator set of each domain; 0, which does not exist, for is_same with several."""
    versions: dict[str, int] = {}
    for entry in imported:
        domain = domain_of(entry)
        is_same = versions.setdefault(domain, entry.version) == entry.version
        versions[domain] = entry.version if is_same else 0
    return versions


def name_of(node: onnx.NodeProto) -> str:
    """Return the name of a node for messages: its own, or that of its first named output."""
    return next((name[:LONGEST] for name in (node.name, *node.output) if name), "")


def inner_attributes(function: onnx.FunctionProto) -> Iterator[AttributeProto]:
    """Yield the attributes of all nodes of a function, in branches too."""
    for node in _every_node(function.node):
        yield from node.attribute


def needed_nodes(nodes: Sequence[onnx.NodeProto], wanted: Iterable[str]) -> set[str]:
    """Return the names of the values that the `wanted` ones depend on, and of these themselves."""
    makers = {name: node for node in nodes for name in node.output if name}
    needed: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers:
            waiting.extend(makers[name].input)
            for attribute in makers[name].attribute:
                if attribute.type in GRAPHS:
                    for inner in _every_node(attribute.g.node):
                        waiting.extend(inner.input)
                    waiting.extend(output.name for output in attribute.g.output)
    needed.discard("")
    return needed


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's numbers, lists of numbers, text and tensor attributes, by name."""
    attributes = {}
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.INT, AttributeProto.FLOAT):
            attributes[attribute.name] = helper.get_attribute_value(attribute)
        elif attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
            attributes[attribute.name] = list(helper.get_attribute_value(attribute))
        elif attribute.type == AttributeProto.STRING:
            attributes[attribute.name] = attribute.s.decode(errors="replace")
        elif attribute.type == AttributeProto.TENSOR:
            attributes[attribute.name] = attribute.t
    return attributes
