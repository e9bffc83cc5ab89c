"""Combinations in which every two values of two axes meet at least once: the same each time."""

from __future__ import annotations

import heapq
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def pairwise(
    axes: Sequence[Sequence[Any]], allowed: Callable[[tuple[Any, ...]], bool]
) -> list[tuple[Any, ...]]:
    """Choose few of the allowed combinations, so that all pairs that any of them has are covered.

    Greedy: the next is always the one with the most pairs that are not covered yet, and of equals
    the first.  What a combination adds only shrinks, so that whichever is still on top of the heap
    once it was counted anew is the best.

    Args:
        axes: by axis, its values.
        allowed: whether a combination, a value of each axis, can be.
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
    """The pairs of a combination, each with the axes that it is of."""
    return set(combinations(enumerate(chosen), 2))
