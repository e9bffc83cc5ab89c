"""The counts of a version over time, in one vector: since its first row, of an hour, and of a day.

    [since, …]  [slot of five minutes, …] x 12  [slot of two hours, …] x 12

Each worker adds to a vector of its own, in memory that all workers read, so that whichever is asked
gives the same numbers, and the counts of one that died stay.  A slot has the number of its period
and what was counted in it, and is used again when twelve periods have passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

SLOTS = 12
_LINES = 1 + 2 * SLOTS


@dataclass(frozen=True)
class Window:
    """A window of time: `SLOTS` periods of `seconds` each, or all time if they are 0.

    `line` is that of its first slot.
    """

    name: str
    seconds: int = 0
    line: int = 0


ALL, HOUR, DAY = Window("all"), Window("1h", 300, 1), Window("24h", 7200, 1 + SLOTS)
WINDOWS = {window.name: window for window in (HOUR, DAY, ALL)}


def width(numbers: int) -> int:
    """Return the length of the vector of so many numbers over time."""
    return _LINES * (1 + numbers)


def add(vector: Vector, numbers: NDArray[Any], wall: float, now: float) -> None:
    """Add numbers of now.

    Args:
        vector: of `width(len(numbers))`.
        numbers: what was counted.
        wall: the time of day, in seconds since 1970.
        now: the time by a clock that is never set, and which all workers share.
    """
    lines = vector.reshape(_LINES, -1)
    lines[0, 0] = lines[0, 0] or wall
    lines[0, 1:] += numbers
    for window in (HOUR, DAY):
        period = now // window.seconds
        slot = lines[window.line + int(period % SLOTS)]
        if slot[0] != period:
            slot[:] = 0
            slot[0] = period
        slot[1:] += numbers


def read(
    vectors: Sequence[Vector], window: Window, wall: float, now: float
) -> tuple[float | None, Vector]:
    """Return since when all workers have counted in a window, and what; `None` if they never have.

    Args:
        vectors: those of all workers.
        window: the window, which ends now; its first period is whole.
        wall: the time of day, in seconds since 1970.
        now: the time by the clock of `add`.
    """
    lines = [vector.reshape(_LINES, -1) for vector in vectors]
    begun = [float(each[0, 0]) for each in lines if each[0, 0]]
    if not begun:
        return None, np.zeros(0)
    since = min(begun)
    if not window.seconds:
        return since, np.sum([each[0, 1:] for each in lines], axis=0)
    last = now // window.seconds
    first = last - SLOTS + 1
    slots = np.concatenate([each[window.line : window.line + SLOTS] for each in lines])
    inside = slots[(first <= slots[:, 0]) & (slots[:, 0] <= last), 1:]
    # Slots are zero before their first use; so early after the start of a machine, they add zeros.
    return max(since, wall - (now - first * window.seconds)), inside.sum(axis=0)
