"""Lanes whose model is slow, or overloaded, as far as its queue knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.inference.lane import Lane
    from tests.harness.served import Served


def lane_of(served: Served, path: str = "/predict") -> Lane:
    """Return the lane of a path, whose route is made for its first request, or here."""
    route = served.front.table.find(path.encode())
    assert route is not None, path
    return route.lane


def pace(lane: Lane, row_seconds: float) -> None:
    """Note runs at one pace until no other is known."""
    # A pace becomes slower only little by little.
    for _ in range(1000):
        lane.note(row_seconds)


def overload(lane: Lane) -> None:
    """Have the queue of a lane kept short for the next minute."""
    later = time.perf_counter() + 60
    limit = 0.1
    # It is long twice, with more than its limit between.
    for wait, now in ((0.0, later - 10 * limit), (2 * limit, later)):
        lane.admission.is_full(wait, (0.0, 0.0), limit, None, now)
    assert lane.admission.is_short
