"""The canonical form of a converted graph, the same for every conversion of a model.

tf2onnx numbers names with a counter and orders nodes by the order of sets, so that two runs of one
training would give two different files.  Here names and order follow from the graph alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    from collections.abc import Mapping

PRODUCER = "triceps"
BATCH = "batch"


def tidy(
    model: onnx.ModelProto, name: str, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> onnx.ModelProto:
    """Return the same computation with the right names and in canonical order.

    Args:
        model: the model as tf2onnx converted it.
        name: the name of the graph.
        inputs: new names of the inputs by their old ones, in the order that they are to have.
        outputs: new names of the outputs, likewise.
    """
    graph = model.graph
    nodes, constants, names = _order(graph, list(outputs), {**inputs, **outputs}, "")
    tidied = onnx.helper.make_graph(
        nodes=nodes,
        name=name,
        inputs=[_edge(graph.input, old, names) for old in inputs],
        outputs=[_edge(graph.output, old, names) for old in outputs],
        initializer=constants,
    )
    opsets = sorted(model.opset_import, key=lambda entry: entry.domain)
    return onnx.helper.make_model(
        tidied, opset_imports=opsets, ir_version=model.ir_version, producer_name=PRODUCER
    )


def _order(
    graph: onnx.GraphProto, outputs: list[str], outer: Mapping[str, str], prefix: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], dict[str, str]]:
    """Return nodes, constants and new names of one graph in the order of a walk from its outputs.

    Args:
        graph: the model's graph, or a branch of an If or the body of a Loop.
        outputs: the names at which the walk begins.
        outer: new names that are fixed: of inputs and outputs, and of all around a sub-graph.
        prefix: the beginning of every new name.
    """
    names = dict(outer)
    makers = {output: node for node in graph.node for output in node.output if output}
    constants = {constant.name: constant for constant in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    kept: list[onnx.TensorProto] = []
    done: set[int] = set()
    # Depth first without recursion: a graph may be deeper than Python's stack.
    waiting = [(name, False) for name in reversed(outputs)]
    while waiting:
        value, ready = waiting.pop()
        node = makers.get(value)
        if node is None:
            if value in constants:
                constant = _copy(constants.pop(value))
                constant.name = names.setdefault(value, f"{prefix}constant_{len(kept)}")
                constant.doc_string = ""
                kept.append(constant)
        elif id(node) in done:
            continue
        elif not ready:
            waiting.append((value, True))
            waiting += [(name, False) for name in reversed(_reads(node))]
        else:
            done.add(id(node))
            nodes.append(_renamed(node, names, f"{prefix}{node.op_type}_{len(nodes)}"))
    return nodes, kept, names


def _reads(node: onnx.NodeProto) -> list[str]:
    """Return the values that a node reads: its inputs, and what its sub-graphs use from outside."""
    names = [name for name in node.input if name]
    for subgraph in _subgraphs(node):
        inside = {value.name for value in subgraph.input}
        inside |= {constant.name for constant in subgraph.initializer}
        inside |= {output for inner in subgraph.node for output in inner.output}
        used = [name for inner in subgraph.node for name in _reads(inner)]
        used += [value.name for value in subgraph.output]
        names += [name for name in used if name not in inside]
    return names


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _renamed(node: onnx.NodeProto, names: dict[str, str], name: str) -> onnx.NodeProto:
    renamed = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=name)
    renamed.input.extend(names.get(value, value) for value in node.input)
    for position, value in enumerate(node.output):
        suffix = f"_{position}" if position else ""
        renamed.output.append(names.setdefault(value, f"{name}{suffix}") if value else "")
    node = _sort_table(node)
    for attribute in sorted(node.attribute, key=lambda entry: entry.name):
        copied = renamed.attribute.add()
        copied.CopyFrom(attribute)
        copied.doc_string = ""
        if attribute.HasField("g"):
            copied.g.CopyFrom(_inner(attribute.g, names, f"{name}/{attribute.name}/"))
    return renamed


def _sort_table(node: onnx.NodeProto) -> onnx.NodeProto:
    """Sort the table of a look-up by its numbers; tf2onnx takes it from a hash table."""
    if node.op_type != "CategoryMapper":
        return node
    node = _copy(node)
    lists = {attribute.name: attribute for attribute in node.attribute}
    texts, numbers = lists["cats_strings"].strings, lists["cats_int64s"].ints
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    texts[:], numbers[:] = [texts[i] for i in order], [numbers[i] for i in order]
    return node


def _inner(graph: onnx.GraphProto, outer: Mapping[str, str], prefix: str) -> onnx.GraphProto:
    inputs = {value.name: f"{prefix}in_{n}" for n, value in enumerate(graph.input)}
    nodes, constants, names = _order(
        graph, [value.name for value in graph.output], {**outer, **inputs}, prefix
    )
    return onnx.helper.make_graph(
        nodes=nodes,
        name=prefix.rstrip("/"),
        inputs=[_edge(graph.input, value.name, names) for value in graph.input],
        outputs=[_edge(graph.output, value.name, names) for value in graph.output],
        initializer=constants,
    )


def _edge(values: Any, old: str, names: Mapping[str, str]) -> onnx.ValueInfoProto:
    """Return an input or output with its new name and, as first free axis, the shared batch."""
    value: onnx.ValueInfoProto = _copy(next(value for value in values if value.name == old))
    value.name = names.get(old, old)
    value.doc_string = ""
    for position, axis in enumerate(value.type.tensor_type.shape.dim):
        if not axis.HasField("dim_value"):
            axis.dim_param = f"{value.name}_{position}" if position else BATCH
    return value


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
