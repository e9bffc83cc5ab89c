"""Normalizations that were left in training mode, made safe to run more than once.

In training mode ONNX Runtime writes the new running statistics over the old ones, in place.  If
another input reads the same constants, such as a bias that is all zeros like the mean, each run
changes the answers of the next: one client's rows would show in another's.  So the statistics get
constants of their own, which nothing else reads.  A graph in which that is impossible is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import ModelRefused
from service.inference.independence.nodes import every_node, trains

if TYPE_CHECKING:
    import onnx

# An optimizer that would merge equal constants again.
OPTIMIZERS = ("ConstantSharing",)
_MEAN, _VARIANCE = 3, 4


def find(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the normalizations in training mode, including those in branches and functions."""
    return [node for node in every_node(graph) if trains(node)]


def separate(graph: onnx.ModelProto) -> bool:
    """Give running statistics constants of their own, in place.

    Returns:
        Whether the graph was changed.

    Raises:
        ModelRefused: another node uses the running statistics, or they cannot have constants of
            their own, so that answers would change with each run.
    """
    trained = find(graph)
    if not trained:
        return False
    used = {name for node in every_node(graph) for name in node.input}
    used |= {output.name for output in graph.graph.output}
    constants = {entry.name: entry for entry in graph.graph.initializer}
    outermost = [node for node in graph.graph.node if trains(node)]
    if len(trained) > len(outermost):
        raise _refusal(trained[-1], "stands in a branch or a function")
    for number, node in enumerate(outermost):
        if running := [name for name in node.output[1:] if name and name in used]:
            raise _refusal(node, f"its running statistics {running[0]!r} are used")
        for place in (_MEAN, _VARIANCE):
            constant = constants.get(node.input[place])
            if constant is None:
                raise _refusal(node, f"its statistics {node.input[place]!r} are not constants")
            own = graph.graph.initializer.add()
            own.CopyFrom(constant)
            own.name = node.input[place] = f"{constant.name}/triceps/{number}/{place}"
    return True


def _refusal(node: onnx.NodeProto, why: str) -> ModelRefused:
    message = (
        f"BatchNormalization {node.name or node.output[0]!r} is in training mode and {why}: every "
        "run would change the next one's answers. Export it for inference"
    )
    return ModelRefused(message)
