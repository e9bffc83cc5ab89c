"""The share of rows that are counted: all of them, or fewer while that takes too long.

A worker may count for a small part of the processor time that it takes.  Rows are taken at random,
so that no pattern in which clients send them is preferred, and the share follows the load within
seconds.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# The part of all time that counting may take anyway: while there is little to do, all is counted.
ANYWAY = 0.002
# The seconds that counting may take in advance, so that a short peak is counted as a whole.
SAVED = 0.01
# The least share: as many rows of a busy model as it takes to see how long they take now.
LEAST = 0.01
_LOOK_SECONDS = 1.0


class Share:
    """The share of rows that a process counts within its part of the time."""

    def __init__(
        self,
        part: float,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        """Count all rows at first.

        Args:
            part: the part of the processor time of this process that counting may take.
            clock: the time in seconds.
            used: the processor time of this process, in seconds.
        """
        self.value = 1.0
        self._part = part
        self._clock = clock
        self._used = used
        self._saved = SAVED
        self._spent = 0.0
        self._looked = clock(), used()

    def takes(self) -> bool:
        """Return whether to count the rows of the next run."""
        return self.value >= 1.0 or random.random() < self.value  # noqa: S311  no secret

    def spend(self, seconds: float) -> None:
        """Note the processor time of counting, and follow the load once a second or sooner."""
        self._spent += seconds
        looked, used = self._looked
        passed = self._clock() - looked
        # At once after a peak, as clients may go on like that.
        if passed < _LOOK_SECONDS and self._spent < SAVED:
            return
        self._looked = self._clock(), self._used()
        allowed = ANYWAY * passed + self._part * (self._looked[1] - used)
        saved = self._saved + allowed - self._spent
        self._saved = min(SAVED, max(-SAVED, saved))
        # What all rows would have taken, and may take until the next look.
        whole = self._spent / self.value
        most = max(0.0, allowed + self._saved)
        self.value = min(1.0, max(LEAST, most / whole)) if whole > 0 else 1.0
        self._spent = 0.0
