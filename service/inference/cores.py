"""The processors of all workers: a long run that is alone in the service may use them all.

    a worker's models with long runs to do ─▶ its number in shared memory ─▶ is any other above 0?

Each number has one writer, the event loop of its worker, so no lock is needed.
"""

from __future__ import annotations

from array import array


class Cores:
    """The number of models with long runs to do, of each worker; one worker changes its own."""

    def __init__(self, busy: memoryview | None = None, own: int = 0) -> None:
        """Take the place `own` of the numbers `busy`; without them, there are no other workers."""
        self._busy = memoryview(array("q", [0])) if busy is None else busy
        self._own = own

    def take(self) -> None:
        """Note one more model of this worker that has long runs to do."""
        self._busy[self._own] += 1

    def give_back(self) -> None:
        """Note that a model of this worker has none to do any more."""
        self._busy[self._own] -= 1

    def is_alone(self) -> bool:
        """Return whether no other model of any worker has long runs to do."""
        return sum(self._busy) <= 1
