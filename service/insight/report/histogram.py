"""Rows counted by a number in bars, and by two numbers in shaded squares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from service.insight.report.elements import element
from service.insight.report.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

SHADES = 5


def histogram(counts: Sequence[int], edges: Sequence[float], across: str, what: str) -> ET.Element:
    """Return a bar for each count, between two edges.

    Args:
        counts: the rows in each bin.
        edges: the ends of the bins, one more than there are bins.
        across: the name of the numbers.
        what: the text for readers that do not see the drawing.
    """
    low, high = edges[0], edges[-1]
    if not low < high:
        margin = max(abs(low), 1.0) / 2
        edges = [low - margin, high + margin]
    plane = Plane(edges[0], edges[-1], 0, max(counts))
    parts = []
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        if count:
            x, y = float(plane.x(left)), float(plane.y(count))
            size = {"width": f"{float(plane.x(right)) - x:.1f}"}
            size["height"] = f"{float(plane.y(0)) - y:.1f}"
            parts.append(element("rect", class_="bar", x=x, y=y, **size))
    if plane.left <= 0 <= plane.right:
        parts.append(plane.line(0, 0, 0, plane.top))
    return plane.drawn(what, across, "rows", parts, counts=True)


def squares(
    counts: Sequence[Sequence[int]], low: float, high: float, names: tuple[str, str], what: str
) -> ET.Element:
    """Return a square plane, stronger in colour the more rows are in a place, with its diagonal.

    Args:
        counts: the rows by place across and then by place up.
        low: the beginning of both axes.
        high: the end of both axes.
        names: the names of the axes, across and up.
        what: the text for readers that do not see the drawing.
    """
    plane = Plane(low, high, low, high)
    step = (high - low) / len(counts)
    width = f"{float(plane.x(low + step)) - float(plane.x(low)):.1f}"
    height = f"{float(plane.y(low)) - float(plane.y(low + step)):.1f}"
    most = max(max(line) for line in counts)
    # One path for each shade: a rectangle for each place would be four times as long.
    paths: dict[int, list[str]] = {}
    for across, line in enumerate(counts):
        for up, count in enumerate(line):
            if count:
                shade = _shade(count, most)
                corner = f"M{plane.x(low + across * step)} {plane.y(low + (up + 1) * step)}"
                paths.setdefault(shade, []).append(f"{corner}h{width}v{height}h-{width}z")
    parts = [
        element("path", class_=f"bar f{shade}", d="".join(paths[shade])) for shade in sorted(paths)
    ]
    return plane.drawn(what, *names, [*parts, plane.diagonal()])


def _shade(count: int, most: int) -> int:
    """Return the shade of a place, by the logarithm of its rows, so that single rows are seen."""
    return SHADES if most == 1 else 1 + int((SHADES - 1) * math.log(count) / math.log(most))
