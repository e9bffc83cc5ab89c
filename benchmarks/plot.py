"""The plots of a result as one SVG: throughput and latency by connections, and cost by rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.results import Cell, Result

COLOURS = {
    "triceps": "#0b63ce",
    "naive": "#8a8a8a",
    "fastapi": "#0a9a83",
    "robyn": "#b1740f",
    "mosec": "#c2347a",
    "limit": "#222222",
}
_WIDTH, _HEIGHT = 340, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 40, 44


@dataclass(frozen=True)
class Line:
    """The points of a program; `dashed` for the second of a pair."""

    group: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """A plot with logarithmic axes, so that equal ratios are equal distances."""

    title: str
    across: str
    lines: Sequence[Line]


def draw(result: Result) -> str:
    """Return the text of the SVG."""
    plots = [plot for plot in _plots(result) if any(line.points for line in plot.lines)]
    width, height = _WIDTH * max(1, len(plots)), _HEIGHT + 34
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}>',
        # A background of its own, since the page may be dark.
        f'<rect {size} fill="#fff"/>',
        '<g font-family="sans-serif" font-size="11">',
        *_legend(_groups(result)),
    ]
    for i, plot in enumerate(plots):
        parts.append(f'<g transform="translate({i * _WIDTH} 34)">')
        parts += _draw(plot)
        parts.append("</g>")
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _groups(result: Result) -> list[str]:
    """Return the measured programs that answer JSON, which the plots are about."""
    return [group for group in result.groups if group in COLOURS]


def _plots(result: Result) -> Iterable[Plot]:
    single = [
        cell for cell in result.cells if (cell.model, cell.body, cell.beside) == ("seed", "W1", "")
    ]
    heavy = [cell for cell in result.cells if cell.model == "heavy"]
    for name, cells in (("W1", single), ("heavy model", heavy)):
        lines = [Line(group, _points(result, group, cells, "rate")) for group in _groups(result)]
        yield Plot(f"{name}: requests/s", "connections", lines)
    lines = [
        Line(group, _points(result, group, single, figure), dashed=figure == "p99")
        for group in _groups(result)
        for figure in ("p50", "p99")
    ]
    yield Plot("W1: p50 and (dashed) p99, ms", "connections", lines)
    lines = [Line(group, _costs(result, group)) for group in _groups(result)]
    yield Plot("seed: processor time a row, µs", "rows a request", lines)


def _points(
    result: Result, group: str, cells: Sequence[Cell], figure: str
) -> list[tuple[float, float]]:
    found = ((cell.connections, result.figures(group, cell)) for cell in cells)
    return [(x, getattr(figures, figure)) for x, figures in found if figures is not None]


def _costs(result: Result, group: str) -> list[tuple[float, float]]:
    """Return the cost by rows, from the cells with several connections."""
    from benchmarks.models import BODIES

    points = {}
    for cell in result.cells:
        figures = result.figures(group, cell)
        if cell.model == "seed" and cell.connections in (8, 16) and figures and not cell.beside:
            rows = BODIES[cell.body]
            points[float(rows)] = figures.cpu / rows
    return sorted(points.items())


def _legend(groups: Sequence[str]) -> Iterable[str]:
    for i, group in enumerate(groups):
        x = _LEFT + i * 90
        yield f'<path d="M{x} 20h22" stroke="{COLOURS[group]}" stroke-width="3"/>'
        yield f'<text x="{x + 28}" y="24">{escape(group)}</text>'


def _draw(plot: Plot) -> Iterable[str]:
    points = [point for line in plot.lines for point in line.points if point[1] > 0]
    xs = sorted({x for x, _ in points})
    low, high = (f(y for _, y in points) for f in (min, max))
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + 12 + _share(x, xs[0], xs[-1]) * (right - _LEFT - 24),
            bottom - _share(y, low, high) * (bottom - _TOP),
        )

    yield f'<text x="{_LEFT}" y="24" font-size="13" font-weight="bold">{escape(plot.title)}</text>'
    for tick in ticks:
        y = place(xs[0], tick)[1]
        yield f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:,g}</text>'
    for x in xs:
        at = place(x, low)[0]
        yield f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{x:g}</text>'
    middle = (_LEFT + right) / 2
    yield f'<text x="{middle}" y="{bottom + 34}" text-anchor="middle">{escape(plot.across)}</text>'
    for line in plot.lines:
        colour = COLOURS[line.group]
        placed = [place(*point) for point in line.points if point[1] > 0]
        if not placed:
            continue
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        dashes = ' stroke-dasharray="4 4"' if line.dashed else ""
        thick = 2.5 if line.group == "triceps" else 1.5
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{thick}"{dashes}/>'
        for x, y in placed:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'


def _share(value: float, low: float, high: float) -> float:
    """Return the place of a value between low and high on a logarithmic axis, from 0 to 1."""
    return 0.5 if low == high else math.log(value / low) / math.log(high / low)


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times each power of ten, or only the powers if these are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 200 * low else (1,)
    # Rounded, since ten to a negative power is not exactly its decimal.
    every = sorted(float(f"{step * 10.0**power:.6g}") for power in powers for step in steps)
    within = [tick for tick in every if low <= tick <= high]
    first = max((tick for tick in every if tick < low), default=every[0])
    last = min((tick for tick in every if tick > high), default=every[-1])
    return [first, *within, last]
