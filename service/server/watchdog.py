"""Noticing that a model with work has stopped running.

    once a second, each queue with work ─▶ has it had a turn since the last look? ─▶ if not, its age
    older than its bound ─▶ not ready, an error in the log ─▶ ready again once it has had a turn

No error should leave a queue that nobody runs, and no run should take for ever.  A probe would not
notice: all that is asked for other models, or for none, is answered as ever.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.inference.batcher import Batcher
    from service.inference.lane import Lane

log = logging.getLogger(__name__)

# How long a queue may be without a turn while its model is idle: a few milliseconds are usual.
IDLE_SECONDS = 10.0
# And while its model runs: that long, or so many times as long as its runs usually take.
RUNNING_SECONDS = 60.0
USUAL_RUNS = 10


class Watchdog:
    """What is known of the queues of one event loop; to be asked once a second."""

    def __init__(self, batcher: Batcher) -> None:
        """Watch the queues that `batcher` runs."""
        self._batcher = batcher
        self._stalled: dict[str, float] = {}

    def look(self, lanes: Iterable[tuple[Lane, str]], now: float) -> dict[str, float]:
        """How many seconds of work wait for each model, by its name; at least for how long.

        Args:
            lanes: of the models, and the models' names.
            now: in seconds, by any clock.
        """
        waits: dict[str, float] = {}
        stalled: dict[str, float] = {}
        for lane, name in lanes:
            age = _age(lane, now)
            waits[name] = max(waits.get(name, 0.0), lane.wait, age)
            if age > 0:
                self._batcher.drop_unwanted(lane)
            if age > _bound(lane):
                stalled[name] = age
                self._batcher.nudge(lane)
        for name in stalled.keys() - self._stalled.keys():
            message = "model %r: its requests wait, and it has begun no run for %.0f s; not ready"
            log.error(message, name, stalled[name])
        for name in self._stalled.keys() - stalled.keys():
            log.warning("model %r runs again", name)
        self._stalled = stalled
        return waits

    @property
    def reason(self) -> str:
        """Why nothing should be asked now; empty if all is well."""
        if not self._stalled:
            return ""
        name, age = max(self._stalled.items(), key=lambda item: item[1])
        return f"model {name!r}: its requests wait, and it has begun no run for {age:.0f} s"


def _age(lane: Lane, now: float) -> float:
    """For how long a queue of a model has had work and no turn; of several, the longest."""
    longest = 0.0
    for queue in lane.queues.values():
        if not queue.busy:
            queue.seen = -1
        elif queue.seen != queue.turns:
            queue.seen, queue.since = queue.turns, now
        else:
            longest = max(longest, now - queue.since)
    return longest


def _bound(lane: Lane) -> float:
    """How long a queue of a model may be without a turn."""
    others = sum(queue.busy for queue in lane.queues.values())
    least = RUNNING_SECONDS if lane.running else IDLE_SECONDS
    return max(least, USUAL_RUNS * lane.seconds * others)
