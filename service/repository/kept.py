"""Versions that nothing but an earlier request keeps loaded, and when each was last asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from service.repository.catalog import Key

# One goes after so long without another request; and the longest unasked for goes where there are
# more of them than that.
IDLE_SECONDS = 60.0
MOST_KEPT = 8


class Kept:
    """By version that is kept, when it was last asked for."""

    def __init__(self) -> None:
        self._used: dict[Key, float] = {}

    def note(self, key: Key) -> None:
        """Note that a version is asked for now."""
        self._used[key] = time.monotonic()

    def become(self, keys: Collection[Key]) -> None:
        """Have these kept and no others; a new one counts as asked for now."""
        used, now = self._used, time.monotonic()
        self._used = {key: used.get(key, now) for key in keys}

    def idle(self) -> set[Key]:
        """Return those that nobody asks for any more."""
        now = time.monotonic()
        asked = sorted(self._used.items(), key=lambda item: item[1], reverse=True)
        return {
            key
            for place, (key, used) in enumerate(asked)
            if place >= MOST_KEPT or now - used > IDLE_SECONDS
        }
