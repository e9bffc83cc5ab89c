"""A matrix of classes by answers as a table, each cell shaded by its share of the line's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.insight.report.elements import element

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

SHADES = 5


def matrix(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> ET.Element:
    """Return the rows by their class, down, and by the answer, across.

    Args:
        labels: the classes.
        counts: the rows by class and by answer.
    """
    corner = element("th", "target ↓ answer →")
    top = element("tr", corner, *(element("th", label, scope="col") for label in labels))
    lines = [
        element("tr", element("th", label, scope="row"), *_cells(line))
        for label, line in zip(labels, counts, strict=True)
    ]
    return element("div", element("table", top, *lines, class_="matrix"), class_="wide")


def _cells(line: Sequence[int]) -> list[ET.Element]:
    total = sum(line)
    cells = []
    for count in line:
        share = count / total if total else 0.0
        shade = {"class_": f"f{max(1, round(share * SHADES))}"} if count else {}
        percent = element("small", f"{share:.0%}" if total else "–")  # noqa: RUF001  (a dash)
        cells.append(element("td", element("b", str(count)), percent, **shade))
    return cells
