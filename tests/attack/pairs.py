"""Combinations in which every pair of values of two axes occurs; always the same ones."""

from __future__ import annotations

import heapq
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def pairwise(
    axes: Sequence[Sequence[Any]], allowed: Callable[[tuple[Any, ...]], bool]
) -> list[tuple[Any, ...]]:
    """Choose a few of the allowed combinations, so that all their pairs of values are covered.

    The choice is greedy: the next combination is always the first of those with most uncovered
    pairs.  The number of uncovered pairs of a combination only shrinks, so a combination that is
    still on top of the heap after it was counted again is the best one.

    Args:
        axes: the values of each axis.
        allowed: tells whether a combination, with a value of each axis, is allowed.
    """
    heap = [
        (-len(_pairs(chosen)), number, chosen)
        for number, chosen in enumerate(product(*axes))
        if allowed(chosen)
    ]
    heapq.heapify(heap)
    left = {pair for _, _, chosen in heap for pair in _pairs(chosen)}
    covering = []
    while left:
        _, number, chosen = heapq.heappop(heap)
        adds = len(_pairs(chosen) & left)
        if heap and adds and (-adds, number) > heap[0][:2]:
            heapq.heappush(heap, (-adds, number, chosen))
        elif adds:
            covering.append(chosen)
            left -= _pairs(chosen)
    return covering


def _pairs(chosen: tuple[Any, ...]) -> set[tuple[Any, ...]]:
    """Return the pairs of values of a combination, each with its axes."""
    return set(combinations(enumerate(chosen), 2))
