"""Extraction of sub-graphs: the part of a graph that some heads need, as a session."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
from onnx.utils import Extractor

from service.inference.independence import trial
from service.inference.session import ready, start
from service.inference.subgraphs import Distrusted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.inference.execution import Execution
    from service.inference.runnable import Cuttable
    from service.inference.session import Ready
    from service.signature import Signature, Tensor


def proven_cut(
    cuttable: Cuttable,
    signature: Signature,
    tried: Sequence[trial.Tried],
    execution: Execution,
    heads: frozenset[str],
) -> tuple[Ready, int]:
    """Make a cut, and compare its answers with those of the whole graph in its trial.

    Returns:
        The cut, and its size in bytes.

    Raises:
        Distrusted: the cut answers some of these rows differently, or there is nothing any more
            that it could be cut out of.
    """
    graph = cuttable.read()
    if graph is None:
        raise Distrusted
    (session, names), size = cut(graph, signature, heads, execution)
    del graph
    for entry in tried:
        ordered = sorted(heads)
        outputs = session.run(ordered, {name: entry.arrays[name] for name in names})
        expected = {head: entry.answers[head] for head in ordered}
        if trial.differs(dict(zip(ordered, outputs, strict=True)), expected) is not None:
            raise Distrusted
    return (session, names), size


def cut(
    graph: onnx.ModelProto, signature: Signature, heads: frozenset[str], execution: Execution
) -> tuple[Ready, int]:
    """Return a session of the part of a graph that some heads need, and its size in bytes."""
    needed = signature.restrict(heads).inputs.values()
    subgraph = Extractor(graph).extract_model(
        [tensor.name for entry in needed for tensor in entry.tensors], sorted(heads)
    )
    content = subgraph.SerializeToString()
    return ready(start(content, subgraph, execution)), len(content)


def weight(graph: onnx.ModelProto) -> int:
    """Return the approximate size of all weights in bytes, as if each were a float32.

    Protobuf would have to serialize all of them to tell.
    """
    return 4 * sum(math.prod(tensor.dims) for tensor in graph.graph.initializer)


def needs(
    graph: onnx.ModelProto, every: set[str], outputs: Sequence[Tensor], *, cuttable: bool
) -> dict[str, set[str]]:
    """Return the inputs that each output depends on: all inputs, if the graph is not cuttable."""
    return {
        tensor.name: every & reachable(graph, tensor.name) if cuttable else every
        for tensor in outputs
    }


def cuttable(graph: onnx.ModelProto) -> bool:
    """Return whether `Extractor` can cut the graph: it ignores graphs inside nodes, as of an If."""
    beyond_it = (
        graph.graph.sparse_initializer,
        graph.graph.quantization_annotation,
        [function for function in graph.functions if function.overload],
    )
    return not any(beyond_it) and not any(
        attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        for node in graph.graph.node
        for attribute in node.attribute
    )


def reachable(graph: onnx.ModelProto, output: str) -> set[str]:
    """Return the names of all values that an output depends on, the graph's inputs included."""
    # An optional input or output that is left out has the empty name, which connects nothing.
    makers = {name: node for node in graph.graph.node for name in node.output if name}
    seen: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(makers[name].input if name in makers else ())
    return seen
