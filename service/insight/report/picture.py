"""A picture in shades of grey, in SVG: a page with an image in it could not be shown inert."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from service.insight.report.elements import element

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

STYLE = """
.picture{width:45%;max-width:7rem;height:auto;margin:.2rem .4rem .2rem 0}
.picture{stroke:#fff;shape-rendering:crispEdges}
.picture rect{fill:#000;stroke:none}
"""
_SHADES = 12


def picture(rows: Sequence[Sequence[float]], what: str) -> ET.Element:
    """Return a picture.

    Args:
        rows: the rows of its pixels, each from 0 (black) to 1 (white).
        what: the text for readers that do not see the picture.
    """
    height, width = len(rows), len(rows[0])
    paths: dict[int, list[str]] = {}
    for y, row in enumerate(rows):
        x = 0
        for shade, run in groupby(round(value * _SHADES) for value in row):
            length = len(list(run))
            if shade:
                paths.setdefault(shade, []).append(f"M{x} {y}h{length}")
            x += length
    drawn = [
        element("path", d="".join(parts), stroke_opacity=f"{shade / _SHADES:.2f}")
        for shade, parts in sorted(paths.items())
    ]
    # A stroke of width 1 lies around its line, by half a pixel above and below it.
    lines = element("g", *drawn, transform="translate(0 .5)")
    ground = element("rect", width=width, height=height)
    box = {"viewBox": f"0 0 {width} {height}"}
    return element(
        "svg", element("title", what), ground, lines, class_="picture", role="img", **box
    )
