"""How long a queue may be: long enough for a burst, and short where too much keeps coming.

    a burst         ─▶ up to the limit, from which it drains again
    still too much  ─▶ a fifth of that, or one full run, until all who are refused would fit in it

A queue that stays long has everybody wait, and nobody is answered who would not be otherwise.  Such
a standing queue is told from a burst by how long it stands, as in Nichols and Jacobson, Controlling
Queue Delay (2012).  Callers who each wait for an answer before they ask again can make it no longer
than they are many, so for them it is as long as they need.
"""

from __future__ import annotations

import math

# A queue is long from this part of its limit on.
SHORT = 0.2
# It stands if it is long for so many times its limit: what is there could have been done twice.
STANDING = 1.0
# How long it is short before it is asked whether it still has to be.
LOOK_SECONDS = 0.25


class AdmissionControl:
    """One queue's bound, which knows how the queue has been of late."""

    __slots__ = ("_refused", "_until", "is_short", "long_since")

    def __init__(self) -> None:
        """Begin with an empty queue."""
        self.long_since = math.inf
        # Whether more keeps coming than can be answered.
        self.is_short = False
        # While it is short, when that is looked at, and who has been refused meanwhile.
        self._until = 0.0
        self._refused: set[object] = set()

    def is_full(
        self, wait: float, pace: tuple[float, float], limit: float, caller: object, now: float
    ) -> bool:
        """Whether a request that comes now is refused.

        Args:
            wait: how many seconds of work wait already.
            pace: how many a request is, at least; and a full run: what fills less costs the more.
            limit: how many may wait.
            caller: whose request it is; who has one here waits for its answer.
            now: in seconds by `perf_counter`.
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
        """Forget who was refused once nobody comes any more; to be called now and then."""
        if self.is_short and now >= self._until + LOOK_SECONDS:
            self._look(now, is_over=True)

    def _look(self, now: float, *, is_over: bool) -> None:
        """Go on being short, unless all would fit, or nobody has come for a while."""
        if is_over or now >= self._until + LOOK_SECONDS:
            self.is_short = False
            self.long_since = now
        else:
            self._until = now + LOOK_SECONDS
        self._refused.clear()
