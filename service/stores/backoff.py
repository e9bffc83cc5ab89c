"""Another attempt at what was interrupted, after a pause that grows and is never the same."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from service.stores.store import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LONGEST_SECONDS = 30.0
# A store that asks for more patience gets this much.
_LONGEST_ASKED = 60.0


@dataclass(frozen=True)
class Backoff:
    """The pauses between attempts, about a minute in all before a pull gives up."""

    tell: Callable[[str], None]
    """Takes messages for people, about attempts and the like."""
    attempts: int = 8
    """The attempts that may fail in a row."""
    first_seconds: float = 0.5

    def pause(self, failures: int, error: Interrupted) -> None:
        """Wait before another attempt, or raise the error if there were enough.

        Raises:
            Interrupted: the attempts are used up.
        """
        if failures >= self.attempts:
            raise error
        # Replicas that were interrupted at one moment must not come back at one moment.
        longest = min(_LONGEST_SECONDS, self.first_seconds * 2 ** (failures - 1))
        seconds = longest * random.uniform(0.5, 1)  # noqa: S311  it spreads clients, and hides nothing
        seconds += min(error.after, _LONGEST_ASKED)
        self.tell(f"{error}; another attempt in {seconds:.1f} s")
        time.sleep(seconds)

    def result(self, work: Callable[[], T]) -> T:
        """Return the result of the work, which may be interrupted a few times.

        Raises:
            StoreError: it failed, or was interrupted too often.
        """
        failures = 0
        while True:
            try:
                return work()
            except Interrupted as error:
                failures += 1
                self.pause(failures, error)
