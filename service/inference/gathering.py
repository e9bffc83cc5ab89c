"""Gathering: the next run of a slow model waits a moment for the clients that were just answered.

    a run ends ─▶ its clients are answered ─▶ their next requests come ─▶ the next run has them all
                                               └─ or the wait is over ──▶ it has those that came

Without that wait, the first client that returns starts a run of its own, and all others wait for
its end: runs of eight rows fall apart into runs of one and seven, two and six, and so on.
"""

from __future__ import annotations

# The longest wait, as a share of the usual time of a run: at least one tick of the event loop's
# timers, which count milliseconds, and in seconds no more than any client needs to return.
SHARE = 0.2
TICK = 0.001
MOST = 0.05
# Waits in a row that were in vain, after which a queue runs at once.
LOST_WAITS = 4
# The runs after which such a queue tries one wait again.
RUNS_WITHOUT = 32


class Gathering:
    """The wait of one queue, and whether its waits have been in vain.

    Clients that send their next request when they have an answer are worth a wait.  Requests that
    come at times of their own are not: then waits end by time, and the queue stops waiting.
    """

    __slots__ = ("_lost", "_runs")

    def __init__(self) -> None:
        self._lost = 0
        self._runs = 0

    def expected(self, returning: int, waiting: int) -> int:
        """Return the requests to wait for after a run; 0 to run at once.

        Args:
            returning: the clients that the run answered, and that may send another request.
            waiting: the requests that wait already.
        """
        count = returning + waiting
        if returning == 0 or count == 1:
            return 0
        if self._lost >= LOST_WAITS:
            self._runs += 1
            if self._runs < RUNS_WITHOUT:
                return 0
            self._runs = 0
        return count

    def ended(self, *, in_time: bool) -> None:
        """Note whether all expected requests came before the wait was over."""
        self._lost = 0 if in_time else min(self._lost + 1, LOST_WAITS)


def longest(seconds: float) -> float:
    """Return the longest wait before a run that usually takes `seconds`, in seconds."""
    return min(max(SHARE * seconds, TICK), MOST)
