"""A drawing of a network: its nodes as boxes, from the inputs at the top down to the heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.insight.report.elements import cut, element
from service.insight.report.layout import WIDTH, arrange

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

    from service.insight.report.layout import Edge, Layout

STYLE = """
.network svg{display:block;width:auto;height:auto;max-width:100%;margin:0 auto}
.network text{font-size:11px;text-anchor:middle}.network .name{font-weight:600}
.network .about{fill:var(--soft)}
.box{fill:var(--paper);stroke:var(--soft)}.box.shared{fill:var(--tint)}
.box.input{stroke:var(--a)}.box.head{stroke:var(--b)}.box.input,.box.head{stroke-width:2}
.box.again{stroke-dasharray:4 3}
.edge{fill:none;stroke:var(--soft)}
@media print{.network svg{min-width:0!important}}
"""
MOST_NODES, MOST_EDGES = 60, 400  # an edge counts for each row that it passes
_HEIGHT, _DOWN = 46, 20  # of a box, and between rows
_NAME, _ABOUT = 17, 20  # characters
_SHRINK = 0.8  # of its width, before a drawing is scrolled


@dataclass(frozen=True)
class Node:
    """A node with its name, two lines about it, and the nodes that it follows.

    `kinds` are classes of the style sheet: "input", "layer" or "head", and "shared" or "again".
    """

    name: str
    about: tuple[str, str]
    after: tuple[str, ...]
    kinds: tuple[str, ...]


def network(nodes: Sequence[Node], what: str) -> ET.Element | None:
    """Return a drawing of nodes whose edges form no circle; `None` if it would be too large.

    Args:
        nodes: the nodes, each with another name.
        what: the text for readers that do not see the drawing.
    """
    if len(nodes) > MOST_NODES:
        return None
    layout = arrange({node.name: node.after for node in nodes})
    if len(layout.edges) > MOST_EDGES:
        return None
    edges = [element("path", class_="edge", d=_curve(edge, layout)) for edge in layout.edges]
    boxes = [_box(node, layout.x[node.name], _top(layout.y[node.name])) for node in nodes]
    width, height = round(layout.width) + 4, _top(max(layout.y.values())) + _HEIGHT + 2
    inside = element("g", *edges, *boxes, transform="translate(2 0)")
    sizes: dict[str, str | float] = {"width": width, "height": height}
    sizes["viewBox"] = f"0 0 {width} {height}"
    sizes["style"] = f"min-width:{round(width * _SHRINK)}px"
    return element("svg", element("title", what), inside, role="img", **sizes)


def _top(row: int) -> int:
    return row * (_HEIGHT + _DOWN) + 2


def _curve(edge: Edge, layout: Layout) -> str:
    """Return the path of an edge from the bottom of one place to the top of the next."""
    upper, lower = edge
    begin, end = _top(layout.y[upper]) + _HEIGHT, _top(layout.y[lower])
    x, to = round(layout.x[upper]), round(layout.x[lower])
    # Past the row of the upper place, if it is not a node.
    start = f"M{x} {begin}" if isinstance(upper, str) else f"M{x} {begin - _HEIGHT}V{begin}"
    middle = (begin + end) // 2
    return f"{start}V{end}" if x == to else f"{start}C{x} {middle} {to} {middle} {to} {end}"


def _box(node: Node, middle: float, top: int) -> ET.Element:
    left, line = round(middle - WIDTH / 2), round(middle)
    size = {"x": left, "y": top, "width": WIDTH, "height": _HEIGHT, "rx": 6}
    first, second = node.about
    return element(
        "g",
        element("title", f"{node.name}: {first} {second}"),
        element("rect", class_=" ".join(("box", *node.kinds)), **size),
        element("text", cut(node.name, _NAME), class_="name", x=line, y=top + 15),
        element("text", cut(first, _ABOUT), class_="about", x=line, y=top + 28),
        element("text", cut(second, _ABOUT), class_="about", x=line, y=top + 41),
    )
