"""Two distributions in one small drawing: that of some rows, and that of others to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.insight.report.bars import stretched
from service.insight.report.elements import element

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

STYLE = """
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:1.2rem 1rem}
.cards>*{margin:0;min-width:0;font-size:.9rem;line-height:1.3}
.cards figcaption{font-weight:600;color:var(--ink);margin-bottom:.3rem}
.cards small{font-weight:400;display:block}
.cards strong{color:var(--b)}
.filled{fill:var(--a);fill-opacity:.5}
.outline{fill:none;stroke:var(--b);stroke-width:2;vector-effect:non-scaling-stroke}
.floor{stroke:var(--soft);vector-effect:non-scaling-stroke}
.twin{width:100%;table-layout:fixed;font-size:.75rem}.twin td{padding:0;border:0;text-align:left}
.ends{display:flex;justify-content:space-between;font-size:.75rem;color:var(--soft)}
"""
_WIDTH, _HEIGHT = 240, 60


def bins(first: Sequence[float], second: Sequence[float] = ()) -> ET.Element:
    """Return a drawing of the shares of the same bins in one group of rows and in another.

    Args:
        first: the shares that are drawn as filled bars.
        second: the shares that are drawn as a line; empty if there is no other group.
    """
    highest = max([*first, *second], default=0.0) or 1.0
    width = _WIDTH / max(len(first), len(second), 1)

    def steps(shares: Sequence[float]) -> str:
        parts = [
            f"V{_HEIGHT - 1 - share / highest * (_HEIGHT - 3):.0f}H{(place + 1) * width:.0f}"
            for place, share in enumerate(shares)
        ]
        return f"M0 {_HEIGHT - 1}{''.join(parts)}V{_HEIGHT - 1}"

    drawn = [element("path", class_="filled", d=steps(first))]
    if second:
        drawn.append(element("path", class_="outline", d=steps(second)))
    floor = _HEIGHT - 1
    drawn.append(element("line", class_="floor", x1=0, x2=_WIDTH, y1=floor, y2=floor))
    return stretched("tall", _WIDTH, _HEIGHT, *drawn)


def categories(
    labels: Sequence[str], first: Sequence[float], second: Sequence[float] = ()
) -> ET.Element:
    """Return a table of categories with two bars each, `first` above `second`."""
    highest = max([*first, *second], default=0.0) or 1.0
    lines = []
    for place, label in enumerate(labels):
        drawn = [
            element("rect", class_=kind, x=0, y=y, height=5, width=_width(shares[place], highest))
            for kind, shares, y in (("bar", first, 1), ("other", second, 7))
            if shares
        ]
        cells = element("td", label), element("td", stretched("thin", _WIDTH, 13, *drawn))
        lines.append(element("tr", *cells))
    return element("table", *lines, class_="twin")


def _width(share: float, highest: float) -> int:
    return round(_WIDTH * share / highest)
