"""Admission control: a bound for the queue that is long for bursts and short under overload.

    a burst   ─▶ up to the limit, from which the queue drains by itself
    overload  ─▶ a fifth of the limit, or one full run, until all refused clients would fit in it

A queue that stays long makes every client wait, and no more requests are answered than from a
short one.  This standing queue differs from a burst in how long it lasts (Nichols and Jacobson,
Controlling Queue Delay, 2012).  Clients that wait for each answer before their next request cannot
make the queue longer than their number, so for them the bound is as long as they need.
"""

from __future__ import annotations

import math

# The part of the limit above which a queue is long.
SHORT = 0.2
# A queue that has been long for this many times its limit is a standing queue: in that time, all
# the work that may wait could have been done.
STANDING = 1.0
# The seconds for which the bound is short before it is reconsidered.
LOOK_SECONDS = 0.25


class AdmissionControl:
    """The bound of one queue, which depends on the recent lengths of that queue."""

    __slots__ = ("_refused", "_until", "is_short", "long_since")

    def __init__(self) -> None:
        """Start with an empty queue."""
        self.long_since = math.inf
        # Whether there is overload, so that the bound is short.
        self.is_short = False
        # While the bound is short: when it is reconsidered, and the clients refused since.
        self._until = 0.0
        self._refused: set[object] = set()

    def is_full(
        self, wait: float, pace: tuple[float, float], limit: float, caller: object, now: float
    ) -> bool:
        """Return whether a request that arrives now is refused.

        Args:
            wait: the seconds of work that wait already.
            pace: the seconds of one row, and those of a full run.  Even the short bound has room
                for a full run, since a smaller one costs more per row.
            limit: the seconds of work that may wait.
            caller: the client's connection, or another object that stands for the client.
            now: the time by `perf_counter`.
        """
        each, run = pace
        short = min(limit, max(limit * SHORT, run))
        if wait <= short:
            self.long_since = now
            if not self.is_short:
                return False
        if self.is_short and now >= self._until:
            self._look(now, is_over=wait + len(self._refused) * each <= limit)
        if self.is_short:
            if wait <= short:
                return False
            self._refused.add(caller)
            return True
        if wait <= limit:
            return False
        if now - self.long_since > limit * STANDING:
            self.is_short = True
            self._until = now + LOOK_SECONDS
        return True

    def calm(self, now: float) -> None:
        """End a short bound once no request has come for a while; to be called now and then."""
        if self.is_short and now >= self._until + LOOK_SECONDS:
            self._look(now, is_over=True)

    def _look(self, now: float, *, is_over: bool) -> None:
        """Reconsider the short bound: end it if `is_over` or if no request came for a while."""
        if is_over or now >= self._until + LOOK_SECONDS:
            self.is_short = False
            self.long_since = now
        else:
            self._until = now + LOOK_SECONDS
        self._refused.clear()
