"""Sub-graphs cut out of a graph: what some heads need of it, and nothing else."""

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

    from service.inference.session import Ready
    from service.signature import Signature, Tensor


def proven_cut(
    graph: onnx.ModelProto,
    signature: Signature,
    tried: Sequence[trial.Tried],
    heads: frozenset[str],
) -> tuple[Ready, int]:
    """Make a cut, and hold it against what a trial of the whole graph has run.

    Raises:
        Distrusted: rows have other answers in it.
    """
    (session, names), size = cut(graph, signature, heads)
    for entry in tried:
        asked = sorted(heads)
        came = session.run(asked, {name: entry.arrays[name] for name in names})
        expected = {head: entry.answers[head] for head in asked}
        if trial.differs(dict(zip(asked, came, strict=True)), expected) is not None:
            raise Distrusted
    return (session, names), size


def cut(graph: onnx.ModelProto, signature: Signature, heads: frozenset[str]) -> tuple[Ready, int]:
    """The session of what some heads need of a graph, and its bytes."""
    needed = signature.restrict(heads).inputs.values()
    subgraph = Extractor(graph).extract_model(
        [tensor.name for entry in needed for tensor in entry.tensors], sorted(heads)
    )
    content = subgraph.SerializeToString()
    return ready(start(content, subgraph)), len(content)


def weight(graph: onnx.ModelProto) -> int:
    """The bytes of all weights, about: as if each were a float32.

    To ask protobuf would be to have it write them all.
    """
    return 4 * sum(math.prod(tensor.dims) for tensor in graph.graph.initializer)


def needs(
    graph: onnx.ModelProto, every: set[str], outputs: Sequence[Tensor], *, cuttable: bool
) -> dict[str, set[str]]:
    """By output, the inputs that it depends on: all of them, where nobody can tell."""
    return {
        tensor.name: every & reachable(graph, tensor.name) if cuttable else every
        for tensor in outputs
    }


def cuttable(graph: onnx.ModelProto) -> bool:
    """Whether `Extractor` can cut the graph: it does not look into the branches of an If."""
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
    """The values of the graph that one of its outputs depends on, inputs among them."""
    # An input or output that is left out has the empty name, which joins nothing.
    makers = {name: node for node in graph.graph.node for name in node.output if name}
    seen: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(makers[name].input if name in makers else ())
    return seen
