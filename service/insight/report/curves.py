"""Curves of shares by shares: ROC, precision by recall, and calibration."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from service.insight.report.elements import element
from service.insight.report.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

    Points = Sequence[tuple[float, float]]

MOST_POINTS = 120
_PLANE = Plane()
_SMALL, _LARGE = 2.0, 8.0  # the radius of a dot


def roc(points: Points, at: tuple[float, float], what: str) -> ET.Element:
    """Return a ROC curve, with a dot where the threshold of the head is."""
    parts = [_PLANE.diagonal(), _curve(points), _dot(*at, 4)]
    return _PLANE.drawn(what, "false positive rate", "true positive rate", parts)


def precision_recall(
    points: Points, at: tuple[float, float] | None, guess: float, what: str
) -> ET.Element:
    """Return the precision by the recall, with a dot where the threshold of the head is.

    Args:
        points: recall and precision.
        at: recall and precision at the threshold, if it says yes to any row.
        guess: the precision of a guess, a line to compare with.
        what: the text for readers that do not see the drawing.
    """
    parts = [_PLANE.line(0, guess, 1, guess), _curve(points)]
    return _PLANE.drawn(what, "recall", "precision", [*parts, *([_dot(*at, 4)] if at else [])])


def calibration(bins: Sequence[tuple[float, float, int]], what: str) -> ET.Element:
    """Return the share that came true by the probability; a larger dot stands for more rows.

    Args:
        bins: mean probability, share that came true, and number of rows of each bin that has some.
        what: the text for readers that do not see the drawing.
    """
    most = max((rows for *_, rows in bins), default=1)
    dots = [
        _dot(mean, share, _SMALL + (_LARGE - _SMALL) * math.sqrt(rows / most))
        for mean, share, rows in bins
    ]
    parts = [_PLANE.diagonal(), _curve([(mean, share) for mean, share, _ in bins]), *dots]
    return _PLANE.drawn(what, "probability", "share that came true", parts)


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """Return at most `most` points, spread evenly along the curve, with the first and the last."""
    if len(points) <= most:
        return points
    steps = [abs(x2 - x1) + abs(y2 - y1) for (x1, y1), (x2, y2) in pairwise(points)]
    along = list(accumulate(steps, initial=0.0))
    kept, place = [0], 0
    for number in range(1, most - 1):
        wanted = along[-1] * number / (most - 1)
        while along[place] < wanted:
            place += 1
        kept.append(place)
    return [points[place] for place in dict.fromkeys([*kept, len(points) - 1])]


def _curve(points: Points) -> ET.Element:
    places = " ".join(f"{_PLANE.x(x)},{_PLANE.y(y)}" for x, y in thinned(points))
    return element("polyline", class_="line", points=places)


def _dot(x: float, y: float, radius: float) -> ET.Element:
    return element("circle", class_="dot", cx=_PLANE.x(x), cy=_PLANE.y(y), r=f"{radius:.1f}")
