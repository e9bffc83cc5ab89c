"""The pace of an answer, so that a store that only drips is left."""

from __future__ import annotations

import time

from service.stores.store import Interrupted

# A store that sends less than this many bytes a second, for so many seconds, has stalled.
SLOWEST, WINDOW_SECONDS = 1000, 60


class Pace:
    """The bytes of the last minute."""

    def __init__(self) -> None:
        """Begin to count."""
        self._since = time.monotonic()
        self._bytes = 0

    def count(self, size: int, name: str) -> None:
        """Count bytes.

        Args:
            size: their number.
            name: what is read, for messages.

        Raises:
            Interrupted: there were too few for a minute.
        """
        self._bytes += size
        passed = time.monotonic() - self._since
        if passed >= WINDOW_SECONDS:
            if self._bytes < SLOWEST * passed:
                raise Interrupted(f"{name}: less than {SLOWEST} bytes a second were received")
            self._since, self._bytes = time.monotonic(), 0
