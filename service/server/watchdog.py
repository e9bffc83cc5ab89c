"""The watchdog, which notices a model that has work and has stopped running.

    once a second, each queue with work ─▶ has it had a turn since the last look? ─▶ if not, its age
    older than its bound ─▶ not ready, an error in the log ─▶ ready again once it has had a turn

No error should leave a queue without runs, and no run should take forever.  A simple probe would
not notice either, since requests for other models and for pages are answered as usual.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from service.inference.batcher import Batcher
    from service.inference.lane import Lane
    from service.inference.model import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The longest times for a queue without a turn."""

    idle: float = 10.0
    """The seconds while its model is idle; a few milliseconds are usual."""
    running: float = 60.0
    """The seconds while its model runs."""
    usual_runs: int = 10
    """The number of its model's usual runs, if they take longer than that."""

    def of(self, lane: Lane) -> float:
        """Return the longest time, in seconds, that a queue of a model may have no turn."""
        others = sum(queue.busy for queue in lane.queues.values())
        least = self.running if lane.running else self.idle
        return max(least, self.usual_runs * lane.seconds * others)


class Watchdog:
    """The watchdog of the queues of one event loop; its `look` is called once a second."""

    def __init__(
        self, batcher: Batcher, may_hang: Callable[[Model, float], bool] = lambda *_: False
    ) -> None:
        """Watch the queues that `batcher` runs.

        Args:
            batcher: the batcher.
            may_hang: is told of a model without a turn for so many seconds, and returns whether the
                service is as ready without it.
        """
        self._batcher = batcher
        self._may_hang = may_hang
        self.bounds = Bounds()
        self._stalled: dict[str, float] = {}

    def look(self, lanes: Iterable[tuple[Lane, str]], now: float) -> dict[str, float]:
        """Check each lane, and return the seconds of work that wait for each model, by its name.

        For a model that has begun no run for longer than that, it is the time without a run.

        Args:
            lanes: the lanes to check, with their models' names.
            now: the time in seconds, by any clock.
        """
        waits: dict[str, float] = {}
        stalled: dict[str, float] = {}
        for lane, name in lanes:
            age = _age(lane, now)
            waits[name] = max(waits.get(name, 0.0), lane.backlog, age)
            if age > 0:
                self._batcher.drop_unwanted(lane)
            if age > self.bounds.of(lane):
                self._batcher.nudge(lane)
                if not self._may_hang(lane.model, age):
                    stalled[name] = age
        for name in stalled.keys() - self._stalled.keys():
            message = "model %r: its requests wait, and it has begun no run for %.0f s; not ready"
            log.error(message, name, stalled[name])
        for name in self._stalled.keys() - stalled.keys():
            log.warning("model %r runs again", name)
        self._stalled = stalled
        return waits

    @property
    def reason(self) -> str:
        """The reason why the worker is not ready; empty if all models run."""
        if not self._stalled:
            return ""
        name, age = max(self._stalled.items(), key=lambda item: item[1])
        return f"model {name!r}: its requests wait, and it has begun no run for {age:.0f} s"


def _age(lane: Lane, now: float) -> float:
    """Return the longest time, in seconds, that a queue of a model has had work and no turn."""
    longest = 0.0
    for queue in lane.queues.values():
        if not queue.busy:
            queue.seen = -1
        elif queue.seen != queue.turns:
            queue.seen, queue.since = queue.turns, now
        else:
            longest = max(longest, now - queue.since)
    return longest
