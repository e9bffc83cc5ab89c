"""The section about the network: the inputs, layers and heads of the spec, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.insight.report.document import listed
from service.insight.report.elements import element
from service.insight.report.network import Node, network

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree import ElementTree as ET

    from service.signature import Input
    from training.head_spec import HeadSpec
    from training.spec import LayerSpec, Spec

    Shapes = Mapping[str, tuple[int | None, ...]]


def graph(spec: Spec, inputs: Mapping[str, Input], shapes: Shapes) -> list[ET.Element]:
    """Return the section.

    Args:
        spec: the spec of the model.
        inputs: the description of each input.
        shapes: the shape of a row at each layer and head.
    """
    nodes = list(_nodes(spec, inputs, shapes))
    said = "Data flows from the inputs (blue) down to the heads (orange)"
    if any("shared" in node.kinds for node in nodes):
        said += "; tinted: used by several heads"
    if any("again" in node.kinds for node in nodes):
        said += "; dashed: the weights of another layer, used again"
    drawn = network(nodes, f"The network of {spec.name}")
    views = [f"{name} is served with {', '.join(heads)}" for name, heads in spec.models.items()]
    return [
        *([] if drawn is None else [element("p", f"{said}."), _scrolled(drawn)]),
        *(listed(list(map(_line, nodes))) if drawn is None else []),
        *(listed(views) if views else []),
    ]


def _scrolled(drawn: ET.Element) -> ET.Element:
    return element("figure", element("div", drawn, class_="wide"), class_="network")


def _nodes(spec: Spec, inputs: Mapping[str, Input], shapes: Shapes) -> Iterator[Node]:
    followers: list[LayerSpec | HeadSpec] = [*spec.layers.values(), *spec.heads.values()]
    after = {
        follower.name: tuple(text.partition(".")[0] for text in follower.after)
        for follower in followers
    }
    heads = {name: {name} & spec.heads.keys() for name in (*spec.inputs, *after)}
    for head in spec.heads:
        waiting = [head]
        while waiting:
            for other in after.get(waiting.pop(), ()):
                if head not in heads[other]:
                    heads[other].add(head)
                    waiting.append(other)
    shared = {name: ("shared",) if len(heads[name]) > 1 else () for name in heads}
    for name, entry in inputs.items():
        count = len(entry.features)
        tabular = "1 feature" if count == 1 else f"{count} features"
        about = ("image", _shape(entry.size)) if entry.size else ("table", tabular)
        yield Node(name, about, (), ("input", *shared[name]))
    for name, layer in spec.layers.items():
        again = ("again",) if layer.share else ()
        what = f"{layer.share}, again" if layer.share else layer.kind
        about = (what, _shape(shapes[name]))
        yield Node(name, about, after[name], ("layer", *again, *shared[name]))
    for name, head_spec in spec.heads.items():
        about = (head_spec.kind, _shape(shapes[name]))
        yield Node(name, about, after[name], ("head", *shared[name]))


def _shape(shape: tuple[int | None, ...]) -> str:
    """Return the shape of a row as text."""
    return " × ".join("any" if axis is None else str(axis) for axis in shape)  # noqa: RUF001  (a multiplication sign)


def _line(node: Node) -> str:
    follows = f", after {', '.join(node.after)}" if node.after else ""
    return f"{node.name}: {' '.join(node.about)}{follows}"
