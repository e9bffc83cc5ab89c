"""A table whose rows are bars: a name, a bar with its spread, and the number.

Names and numbers are text of the page, and only the bars are drawn: so they are as large on a phone
as anything else, and a bar is as wide as there is room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.insight.report.elements import element

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

STYLE = """
.bars{width:100%;max-width:48rem;table-layout:fixed;font-size:.9rem;margin:1.2rem 0 .4rem}
.bars caption{text-align:left;font-weight:600}
.bars td{padding:.1rem .4rem;border:0;vertical-align:middle}
.bars td:first-child{padding-left:0;width:34%}.bars td:last-child{width:8.5em}
.bars .part td:first-child{padding-left:1.2em}.bars .whole td{padding-top:.6rem;font-weight:600}
.thin,.tall{display:block;width:100%;max-width:none}.thin{height:.9rem}.tall{height:4.5rem}
.bars .faint td{color:var(--soft);font-weight:400}
rect.bar{fill:var(--a);fill-opacity:.5}.other{fill:var(--b)}.faint .bar{fill:var(--soft)}
.zero,.spread{stroke:var(--ink);vector-effect:non-scaling-stroke}.zero{stroke:var(--soft)}
"""
_WIDTH, _HEIGHT = 1000, 10
_DIGITS = 3  # of the largest number; all have as many decimals


@dataclass(frozen=True)
class Bar:
    """A row: `value` with `spread` around it; a faint one is within chance.

    `level` is "whole", "part" (of the whole above it), or empty.
    """

    name: str
    value: float
    spread: float = 0.0
    faint: bool = False
    level: str = ""


def bars(rows: Sequence[Bar], what: str) -> ET.Element:
    """Return the rows as a table, on one scale.

    Args:
        rows: the bars; those whose value is not finite have a dash.
        what: the text for readers that do not see the table.
    """
    finite = [row for row in rows if math.isfinite(row.value)]
    low = min([0.0, *(row.value - row.spread for row in finite)])
    high = max([0.0, *(row.value + row.spread for row in finite)])
    largest = max(-low, high)
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(largest))) if largest else 0

    def x(value: float) -> int:
        return round(_WIDTH * (value - low) / (high - low)) if high > low else 0

    lines = []
    for row in rows:
        begin, end = sorted((x(0), x(row.value if row in finite else 0.0)))
        height = _HEIGHT - 2
        drawn = [element("rect", class_="bar", x=begin, y=1, width=end - begin, height=height)]
        if row.spread:
            ends = {"x1": x(row.value - row.spread), "x2": x(row.value + row.spread)}
            middle = _HEIGHT / 2
            drawn.append(element("line", class_="spread", y1=middle, y2=middle, **ends))
        drawn.append(element("line", class_="zero", x1=x(0), x2=x(0), y1=0, y2=_HEIGHT))
        cells = (element("td", row.name), element("td", stretched("thin", _WIDTH, _HEIGHT, *drawn)))
        kind = " ".join(filter(None, (row.level, "faint" * row.faint)))
        level = {"class": kind} if kind else {}
        text = _text(row, decimals)
        lines.append(element("tr", *cells, element("td", text), **level))
    return element("table", element("caption", what), *lines, class_="bars")


def stretched(kind: str, width: int, height: int, *drawn: ET.Element) -> ET.Element:
    """Return a drawing without text, which fills any width and is "thin" or "tall"; it is silent.

    A screen reader passes over it: what it shows is in the text beside it, too.
    """
    box = {"viewBox": f"0 0 {width} {height}", "preserveAspectRatio": "none"}
    return element("svg", *drawn, **box, class_=kind, aria_hidden="true")


def _text(row: Bar, decimals: int) -> str:
    if not math.isfinite(row.value):
        return "–"  # noqa: RUF001  (a dash)
    shown = round(row.value, decimals) or 0.0  # not -0.0
    value = f"{shown:,.{decimals}f}".replace("-", "−")  # noqa: RUF001  (a minus sign)
    return f"{value} ± {row.spread:,.{decimals}f}" if row.spread else value
