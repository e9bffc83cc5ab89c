"""A plane with two axes in SVG, on which curves, bars and squares are drawn.

As in `chart`, colours come from the page's style sheet, by class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from service.insight.report.elements import element, rounded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree import ElementTree as ET

WIDTH, HEIGHT = 320, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 10, 44
_NAME, _DIGIT = 26, 7  # the widths of the upright name of an axis and of a digit
_LONGEST = 10  # characters of three numbers side by side


@dataclass(frozen=True)
class Plane:
    """The ends of both axes, in the units of what is drawn; an end is above its beginning."""

    left: float = 0.0
    right: float = 1.0
    bottom: float = 0.0
    top: float = 1.0

    @cached_property
    def margin(self) -> int:
        """The room for the numbers of the axis from bottom to top; cut ones would be wrong ones."""
        middle = (self.bottom + self.top) / 2
        longest = max(len(rounded(value)) for value in (self.bottom, middle, self.top))
        return max(LEFT, _NAME + _DIGIT * longest)

    def x(self, value: float) -> str:
        """Return the place of a value across the drawing."""
        share = (value - self.left) / (self.right - self.left)
        return f"{self.margin + share * (WIDTH - self.margin - RIGHT):.1f}"

    def y(self, value: float) -> str:
        """Return the place of a value down the drawing."""
        share = (value - self.bottom) / (self.top - self.bottom)
        return f"{HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM):.1f}"

    def diagonal(self) -> ET.Element:
        """Return the line of equal values, of a plane whose axes have the same ends."""
        return self.line(self.left, self.bottom, self.right, self.top)

    def line(self, x1: float, y1: float, x2: float, y2: float) -> ET.Element:
        """Return a line to compare with."""
        ends = {"x1": self.x(x1), "y1": self.y(y1), "x2": self.x(x2), "y2": self.y(y2)}
        return element("line", class_="guide", **ends)

    def drawn(
        self, what: str, across: str, up: str, parts: Iterable[ET.Element], *, counts: bool = False
    ) -> ET.Element:
        """Return the drawing of some parts on the plane.

        Args:
            what: the text for readers that do not see the drawing.
            across: the name of the axis from left to right.
            up: the name of the axis from bottom to top.
            parts: what is drawn.
            counts: whether the axis from bottom to top counts rows, and so has no middle.
        """
        left = self.margin
        middle_x, middle_y = (self.left + self.right) / 2, (self.bottom + self.top) / 2
        ticks_y = (self.bottom, self.top) if counts else (self.bottom, middle_y, self.top)
        ends_x, ends_y = (self.x(self.left), self.x(self.right)), (self.y(self.bottom), TOP)
        axes = [
            element("line", class_="grid", x1=ends_x[0], x2=ends_x[1], y1=ends_y[0], y2=ends_y[0]),
            element("line", class_="grid", x1=left, x2=left, y1=ends_y[0], y2=ends_y[1]),
        ]
        # The last one ends at its value, since a long number would not fit beyond it.
        ticks_x = ((self.left, "middle"), (middle_x, "middle"), (self.right, "end"))
        axes += [
            element("text", rounded(value), x=self.x(value), y=HEIGHT - 28, text_anchor=anchor)
            for value, anchor in ticks_x
            if value != middle_x or len(rounded(middle_x)) <= _LONGEST
        ]
        axes += [
            element("text", rounded(value), x=left - 6, y=self.y(value), text_anchor="end", dy=4)
            for value in ticks_y
        ]
        turned = f"rotate(-90 12 {(HEIGHT - BOTTOM) / 2:.0f})"
        names = [
            element("text", across, x=(WIDTH + left) / 2, y=HEIGHT - 8, text_anchor="middle"),
            element(
                "text",
                up,
                x=12,
                y=f"{(HEIGHT - BOTTOM) / 2:.0f}",
                text_anchor="middle",
                transform=turned,
            ),
        ]
        return element(
            "svg",
            element("title", what),
            *axes,
            *parts,
            *names,
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
        )
