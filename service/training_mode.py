"""Graphs with a normalization that was left in training mode, made safe to run more than once.

In training mode ONNX Runtime writes the new running statistics over the old ones, in place.  Where
those are constants that something else reads too, as a bias that is all zeros like the mean, each
run changes what the next one answers: one caller's rows would show in another's.  So the
statistics get constants of their own, which nothing else reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import ModelRefused

if TYPE_CHECKING:
    import onnx

# It would make one constant of equal ones again.
OPTIMIZERS = ("ConstantSharing",)
_MEAN, _VARIANCE = 3, 4


def find(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The normalizations of a graph that are in training mode."""
    return [
        node
        for node in graph.graph.node
        if node.op_type == "BatchNormalization"
        and any(entry.name == "training_mode" and entry.i for entry in node.attribute)
    ]


def separate(graph: onnx.ModelProto) -> bool:
    """Give running statistics constants of their own, in place; whether there are any.

    Raises:
        ModelRefused: a head is made of running statistics, so its answers change with each run.
    """
    trained = find(graph)
    if not trained:
        return False
    used = {name for node in graph.graph.node for name in node.input}
    used |= {output.name for output in graph.graph.output}
    constants = {entry.name: entry for entry in graph.graph.initializer}
    for number, node in enumerate(trained):
        running = [name for name in node.output[1:] if name and name in used]
        if running:
            message = (
                f"BatchNormalization {node.name or node.output[0]!r} is in training mode and its "
                f"running statistics {running[0]!r} are used: every run would change the next "
                "one's answers. Export it for inference"
            )
            raise ModelRefused(message)
        for place in (_MEAN, _VARIANCE):
            constant = constants.get(node.input[place])
            if constant is not None:
                own = graph.graph.initializer.add()
                own.CopyFrom(constant)
                own.name = node.input[place] = f"{constant.name}/triceps/{number}/{place}"
    return True
