"""The places of the nodes of a graph in a drawing: in rows, each below all that it follows.

The layout is that of K. Sugiyama, S. Tagawa and M. Toda (1981), in its simplest form: the row of a
node is its longest path from a node that follows none, an edge over several rows has a place in
each of them, and rows are sorted by the mean place of their neighbours, so that few edges cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, GAP = 128, 12  # of a node, and between neighbours
_THIN = 8  # the width of an edge where it passes a row
_SWEEPS = 12  # even, so that the last one goes down

# A node by its name, or a place of the edge between two of them in a row that it passes.
Place = str | tuple[str, str, int]
Edge = tuple[Place, Place]
_Near = dict[Place, list[Place]]


@dataclass(frozen=True)
class Layout:
    """The middle of each place from the left, its row from the top, and edges between rows."""

    width: float
    x: dict[Place, float]
    y: dict[Place, int]
    edges: list[Edge]


def arrange(after: Mapping[str, Sequence[str]]) -> Layout:
    """Return the layout of a graph without circles: by node, the nodes that it follows."""
    rows, edges = _rows({name: tuple(dict.fromkeys(others)) for name, others in after.items()})
    above: _Near = {}
    below: _Near = {}
    for upper, lower in edges:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    for sweep in range(_SWEEPS):
        near, order = (above, rows) if sweep % 2 else (below, rows[::-1])
        for fixed, row in pairwise(order):
            _sort(row, fixed, near)
    x: dict[Place, float] = {}
    for row in rows:
        x |= _apart(row, [0.0] * len(row))
    for sweep in range(_SWEEPS):
        near, order = (above, rows[1:]) if sweep % 2 else (below, rows[-2::-1])
        for row in order:
            x |= _apart(row, [_mean([x[o] for o in near.get(p, ())], x[p]) for p in row])
    left = min(x[place] - _size(place) / 2 for place in x)
    right = max(x[place] + _size(place) / 2 for place in x)
    x = {place: middle - left for place, middle in x.items()}
    y = {place: depth for depth, row in enumerate(rows) for place in row}
    return Layout(right - left, x, y, edges)


def _rows(after: Mapping[str, tuple[str, ...]]) -> tuple[list[list[Place]], list[Edge]]:
    """Return the places of each row, and the edges between places of neighbouring rows."""
    depth: dict[str, int] = {}
    for name in TopologicalSorter(after).static_order():
        depth[name] = max((depth[other] + 1 for other in after[name]), default=0)
    last = max(depth.values())
    read = {other for others in after.values() for other in others}
    depth |= {name: last for name in after if name not in read}
    rows: list[list[Place]] = [[] for _ in range(last + 1)]
    edges: list[Edge] = []
    for name in after:
        rows[depth[name]].append(name)
    for name, others in after.items():
        for other in others:
            passed: list[Place] = []
            for row in range(depth[other] + 1, depth[name]):
                passed.append((other, name, row))
                rows[row].append(passed[-1])
            edges += pairwise([other, *passed, name])
    return rows, edges


def _sort(row: list[Place], fixed: list[Place], near: _Near) -> None:
    """Sort a row by the mean place of its neighbours in the row that is fixed, from 0 to 1."""
    at = {place: n / max(len(fixed) - 1, 1) for n, place in enumerate(fixed)}
    own = {place: n / max(len(row) - 1, 1) for n, place in enumerate(row)}
    row.sort(key=lambda place: _mean([at[other] for other in near.get(place, ())], own[place]))


def _apart(row: list[Place], wanted: list[float]) -> dict[Place, float]:
    """Return the middles nearest to those wanted at which the places of a row do not overlap.

    Without the room of what is before them, the middles have to rise: least squares under this
    condition, by pooling adjacent violators.
    """
    offset = 0.0
    offsets = [offset]
    for before, place in pairwise(row):
        offset += (_size(before) + _size(place)) / 2 + GAP
        offsets.append(offset)
    pools: list[tuple[float, int]] = []
    for target, ahead in zip(wanted, offsets, strict=True):
        mean, count = target - ahead, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return {place: mean + ahead for place, mean, ahead in zip(row, means, offsets, strict=True)}


def _mean(numbers: list[float], default: float) -> float:
    return sum(numbers) / len(numbers) if numbers else default


def _size(place: Place) -> int:
    return WIDTH if isinstance(place, str) else _THIN
