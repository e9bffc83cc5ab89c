"""Budgets for what a peer may send for nothing: frames that cost work and bring no request.

    a frame of a kind ─▶ within a share for every connection ─┐
                         or paid for by the peer's answers ───┴─ else ─▶ ENHANCE_YOUR_CALM

Clients need all of these frames: they cancel, measure the round trip (gRPC sends a PING for nearly
each answer), and widen windows while they read.  So what a client may send grows with what it is
sent, and a client that sends nothing else runs out of it.
"""

from __future__ import annotations

from typing import NamedTuple

from service.http.http2.faults import ConnectionFault
from service.http.http2.frames import ENHANCE_YOUR_CALM


class Budget(NamedTuple):
    """The frames of one kind that a peer may send."""

    what: str
    """The kind, for messages."""
    share: int
    """The number that every connection may send at once."""
    each_second: int
    """The number by which a used share recovers each second."""
    each_answer: int
    """The number for each frame of an answer that was sent meanwhile."""


# Streams that the peer resets, or has the service reset (CVE-2023-44487, CVE-2025-8671).
RESETS = 0
BUDGETS = (
    Budget("resets", 1000, 50, 1),
    Budget("settings", 32, 1, 0),
    Budget("pings", 100, 10, 2),
    Budget("empty frames", 100, 10, 1),
    Budget("priorities", 200, 20, 4),
    Budget("unknown frames", 100, 10, 1),
    Budget("window updates", 1000, 100, 8),
    Budget("header bytes", 256 * 1024, 16 * 1024, 16 * 1024),
)
_, SETTINGS, PINGS, EMPTY, PRIORITIES, UNKNOWN, WINDOW_UPDATES, HEADER_BYTES = range(len(BUDGETS))


class Budgets:
    """The frames that the peer of one connection has sent for nothing, against its budgets."""

    __slots__ = ("_spent", "answer_frames")

    def __init__(self) -> None:
        self._spent = [0] * len(BUDGETS)
        self.answer_frames = 0
        """The frames of answers that were sent since the last `tick`."""

    def spend(self, kind: int, count: int = 1) -> None:
        """Count `count` of a kind.

        Raises:
            ConnectionFault: there are too many.
        """
        spent = self._spent[kind] = self._spent[kind] + count
        budget = BUDGETS[kind]
        if spent > budget.share and spent > budget.share + budget.each_answer * self.answer_frames:
            message = f"expected fewer {budget.what} for the requests that were answered"
            raise ConnectionFault(ENHANCE_YOUR_CALM, message)

    def tick(self) -> None:
        """Let the budgets recover; to be called once a second."""
        answered, self.answer_frames = self.answer_frames, 0
        for kind, budget in enumerate(BUDGETS):
            if self._spent[kind]:
                recovered = budget.each_second + budget.each_answer * answered
                self._spent[kind] = max(0, self._spent[kind] - recovered)
