"""The nodes of a graph: all of them, those that are needed, and what each says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import AttributeProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# A name in a message is cut after so many characters.
LONGEST = 80
GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def trains(node: onnx.NodeProto) -> bool:
    """Whether a node is a normalization that was left in training mode.

    Before there was an attribute for it, one that gives the statistics of the batch was.
    """
    return node.op_type == "BatchNormalization" and (
        any(node.output[1:])
        or any(entry.name == "training_mode" and entry.i for entry in node.attribute)
    )


def every_node(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model, in branches and functions too."""
    yield from _every_node(model.graph.node)
    for function in model.functions:
        yield from _every_node(function.node)


def axis_names(model: onnx.ModelProto) -> list[str]:
    """What the inputs' first axes are called, each name once; those without one are left out."""
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
    """Return the domain of a node or an operator set; ONNX's own has two names, and here one."""
    return "" if entry.domain == "ai.onnx" else entry.domain


def versions_of(imported: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """The operator set of each domain; 0, which is none, where two are named."""
    versions: dict[str, int] = {}
    for entry in imported:
        domain = domain_of(entry)
        one = versions.setdefault(domain, entry.version) == entry.version
        versions[domain] = entry.version if one else 0
    return versions


def name_of(node: onnx.NodeProto) -> str:
    """Return what a message calls a node: by its name, or by that of its first output."""
    return next((name[:LONGEST] for name in (node.name, *node.output) if name), "")


def inner_attributes(function: onnx.FunctionProto) -> Iterator[AttributeProto]:
    """Yield the attributes of all nodes of a function, in branches too."""
    for node in _every_node(function.node):
        yield from node.attribute


def needed_nodes(nodes: Sequence[onnx.NodeProto], wanted: Iterable[str]) -> set[str]:
    """The values on the way to those that are wanted; the rest is run for nobody."""
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
    """A node's attributes, but for those that are graphs or tables."""
    said = {}
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.INT, AttributeProto.FLOAT):
            said[attribute.name] = helper.get_attribute_value(attribute)
        elif attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
            said[attribute.name] = list(helper.get_attribute_value(attribute))
        elif attribute.type == AttributeProto.STRING:
            said[attribute.name] = attribute.s.decode(errors="replace")
        elif attribute.type == AttributeProto.TENSOR:
            said[attribute.name] = attribute.t
    return said
