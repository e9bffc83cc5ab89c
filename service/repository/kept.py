"""The kept versions, which are loaded only because clients request them, by last request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from service.repository.catalog import Key

# A version is unloaded after this long without a request; and if there are more kept versions than
# this, those with the oldest last request are.
IDLE_SECONDS = 60.0
MOST_KEPT = 8


class Kept:
    """The time of the last request of each kept version."""

    def __init__(self) -> None:
        self.idle_seconds = IDLE_SECONDS
        """The time without a request after which a version is unloaded."""
        self._used: dict[Key, float] = {}

    def note(self, key: Key) -> None:
        """Note a request for a version."""
        self._used[key] = time.monotonic()

    def become(self, keys: Collection[Key]) -> None:
        """Set the kept versions; a new one counts as requested now."""
        used, now = self._used, time.monotonic()
        self._used = {key: used.get(key, now) for key in keys}

    def idle(self) -> set[Key]:
        """Return the kept versions that are to be unloaded."""
        now = time.monotonic()
        newest_first = sorted(self._used.items(), key=lambda item: item[1], reverse=True)
        return {
            key
            for place, (key, used) in enumerate(newest_first)
            if place >= MOST_KEPT or now - used > self.idle_seconds
        }
