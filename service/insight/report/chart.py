"""A chart of lines in SVG of our own: plotting libraries write files of several times the size.

Colours come from the page's style sheet, by class, so that one chart suits dark and light.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from service.insight.report.elements import element, rounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from xml.etree import ElementTree as ET

WIDTH, HEIGHT = 480, 200
LEFT, RIGHT, TOP, BOTTOM = 72, 14, 12, 30
_DIGIT = 8  # the width of a digit
MOST_POINTS = 100


def lines(series: Mapping[str, Sequence[float]], mark: int, what: str) -> ET.Element:
    """Return a chart of numbers by epoch, from 1, with a vertical line at one epoch.

    Args:
        series: the numbers by the CSS class of their line; numbers that are not finite are left
            out, and so are most of more than `MOST_POINTS`.
        mark: the epoch to mark.
        what: the text for readers that do not see the chart.
    """
    values = [v for numbers in series.values() for v in numbers if math.isfinite(v)] or [0.0]
    low, high = min(values), max(values)
    count = max(map(len, series.values()), default=1)
    # Cut numbers would be wrong ones.
    left = max(LEFT, 6 + _DIGIT * max(len(rounded(value)) for value in (low, high)))

    def x(epoch: float) -> str:
        share = (epoch - 1) / (count - 1) if count > 1 else 0.5
        return f"{left + share * (WIDTH - left - RIGHT):.1f}"

    def y(value: float) -> str:
        share = (value - low) / (high - low) if high > low else 0.5
        return f"{HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [element("title", what)]
    for value in dict.fromkeys((low, high)):
        parts.append(
            element("line", class_="grid", x1=left, x2=WIDTH - RIGHT, y1=y(value), y2=y(value))
        )
        parts.append(
            element("text", rounded(value), x=left - 6, y=y(value), text_anchor="end", dy=5)
        )
    parts += [
        element("text", str(epoch), x=x(epoch), y=HEIGHT - 10, text_anchor="middle")
        for epoch in dict.fromkeys((1, count))
    ]
    parts.append(element("line", class_="mark", x1=x(mark), x2=x(mark), y1=TOP, y2=HEIGHT - BOTTOM))
    for kind, numbers in series.items():
        points = [
            (x(place + 1), y(numbers[place]))
            for place in _chosen(len(numbers))
            if math.isfinite(numbers[place])
        ]
        parts.append(element("polyline", class_=kind, points=" ".join(map(",".join, points))))
        if len(points) == 1:
            [(across, down)] = points
            parts.append(element("circle", class_=kind, cx=across, cy=down, r=3))
    box = f"0 0 {WIDTH} {HEIGHT}"
    return element("svg", *parts, class_="curve", viewBox=box, role="img")


def _chosen(count: int) -> list[int]:
    """Return at most `MOST_POINTS` places among `count`, with the first and the last."""
    if count <= MOST_POINTS:
        return list(range(count))
    return [place * (count - 1) // (MOST_POINTS - 1) for place in range(MOST_POINTS)]
