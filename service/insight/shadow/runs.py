"""The runs of candidates: rows that were answered, run by another version, and compared.

    Handed ─ its pair, loaded ─▶ run of the candidate ─ insight.comparison ─▶ figures
                  │                      │
                  └── stopped, and why ◀─┘

A process of its own calls this (`server.shadow_process`).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.insight import comparison
from service.insight.shadow import figures, loading, stops
from service.insight.shadow.stops import StopError
from service.observability.shared_memory import RUNNING

if TYPE_CHECKING:
    from pathlib import Path

    from service.inference.model import Model
    from service.insight.comparison import Comparison
    from service.insight.shadow.feeds import Arrays
    from service.insight.shadow.figures import Pair
    from service.insight.shadow.handed import Handed
    from service.insight.shadow.loading import LoadedPair
    from service.observability.shared_memory import Region

# One of so many runs is timed beside a run of the stable version.
TIMED = 16
# The interval at which files are looked at for a pair that is not known.
LOOK_SECONDS = 1.0
# The time after which a pair of which no rows come any more is unloaded.
IDLE_SECONDS = 300.0
_SINCE = "shadow_since_timestamp_seconds"


@dataclass
class _State:
    """A pair, with what was handed over last; it has stopped if it is not loaded."""

    pair: Pair
    files: str
    file: str
    loaded: LoadedPair | None = None
    runs: int = 0
    failures: int = 0
    seconds: deque[float] = field(default_factory=deque)
    asked: float = 0.0


class Runs:
    """The pairs of one process, each loaded for its first rows."""

    def __init__(self, models: Path, provider: str, room: float, region: Region) -> None:
        """Prepare to run candidates.

        Args:
            models: the repository.
            provider: the execution provider of models whose settings name none.
            room: the bytes that all pairs together may take.
            region: the region for the figures; this process has joined it.
        """
        self._models = models
        self._provider = provider
        self._room = room
        self._region = region
        self._states: dict[str, _State] = {}
        # The time of the last look at the files, by model.
        self._looked: dict[str, float] = {}
        # When the run in progress began: by the processor time of this thread, and by the clock.
        self._began: tuple[float, float] | None = None
        self._current: _State | None = None
        self._blame()

    def handle(self, handed: Handed) -> float:
        """Run the candidate for some rows, unless it has stopped, and compare its answers.

        Returns:
            The seconds that this took, without those of loading the pair.
        """
        state = self._states.get(handed.pair.model)
        if state is None or (state.pair, state.files, state.file) != handed[:3]:
            state = self._begin(handed, state)
            if state is None:
                figures.count(self._region, handed.pair, figures.DROPPED, handed.rows)
                return 0.0
        state.asked = time.monotonic()
        began = time.perf_counter()
        if state.loaded is not None:
            try:
                self._run(state, state.loaded, handed)
            except StopError as stop:
                self._stop(state, stop)
        return time.perf_counter() - began

    def is_endless(self, processor_time: float) -> bool:
        """Return whether the run in progress takes too long; another thread may call this.

        Args:
            processor_time: the processor time of the thread that runs candidates.  The clock says
                little at the lowest priority: others may take all processors for long.
        """
        began = self._began
        return began is not None and (
            processor_time - began[0] > stops.RUN_SECONDS
            or time.perf_counter() - began[1] > stops.WAIT_SECONDS
        )

    def give_up(self) -> None:
        """Stop the pair whose run does not end; a thread calls this before it ends the process."""
        if self._current is not None:
            message = f"a run took longer than {stops.RUN_SECONDS:g} s"
            self._stop(self._current, StopError("slow", message))
        self._region.header[RUNNING] = 0

    def _blame(self) -> None:
        """Stop the pair during whose run the process before this one ended, if it did."""
        running = self._region.header[RUNNING]
        if not running:
            return
        self._region.header[RUNNING] = 0
        before = figures.stopped(self._region)
        with self._region.writing() as numbers:
            numbers[running - 1] = 1
        figures.tell(self._region)
        for pair in figures.stopped(self._region).keys() - before.keys():
            stops.report(pair, stops.REASONS["ended"])

    def _begin(self, handed: Handed, former: _State | None) -> _State | None:
        """Load a pair; return `None` if its files are not those that the worker has."""
        now = time.monotonic()
        model = handed.pair.model
        if now - self._looked.get(model, -LOOK_SECONDS) < LOOK_SECONDS:
            return None
        self._looked[model] = now
        found = loading.find(self._models, self._provider, handed.pair, handed.files)
        if found is None:
            return None
        state = self._states[model] = _State(*handed[:3], asked=now)
        self._count_anew(state, former)
        self._unload_idle(now)
        if state.pair in figures.stopped(self._region):
            return state
        room = self._room - sum(s.loaded.size for s in self._states.values() if s.loaded)
        self._mark(state)
        try:
            state.loaded = loading.load_pair(found, room)
        except StopError as stop:
            self._stop(state, stop)
        finally:
            self._region.header[RUNNING] = 0
        return state

    def _count_anew(self, state: _State, former: _State | None) -> None:
        """Begin the figures of a pair, or go on with those of the process before this one."""
        region, pair = self._region, state.pair
        if former is not None and (former.pair, former.files) != (pair, state.files):
            with region.writing() as numbers:
                numbers[region.place(_SINCE, *former.pair)] = 0
            figures.restart(region, pair)
        elif former is not None:
            # Its shares were set again.
            region.clear(lambda name: figures.is_of(pair, name) and name[0] == "shadow_stopped")
        with region.writing() as numbers:
            place = region.place(_SINCE, *pair)
            numbers[place] = numbers[place] or time.time()
        figures.tell(region)

    def _run(self, state: _State, loaded: LoadedPair, handed: Handed) -> None:
        feeds = loaded.feeds
        heads = tuple(
            head
            for head in handed.outputs
            if head in loaded.heads and feeds.can(head, handed.arrays)
        )
        if not heads:
            return
        self._mark(state)
        try:
            arrays = feeds.of(handed.arrays, heads, handed.rows)
            outputs, seconds = self._timed(loaded.candidate.model, arrays, heads)
            compared = _compared(loaded, heads, handed.outputs, outputs)
            if state.runs % TIMED == 1:
                self._compare_seconds(state, loaded, (handed, arrays), heads)
        except Exception as error:
            figures.count(self._region, state.pair, figures.FAILED, handed.rows)
            state.failures += 1
            if state.failures < stops.MOST_FAILURES:
                return
            message = f"{state.failures} runs in succession failed, the last one with: {error}"
            raise StopError("failed", message) from error
        finally:
            self._region.header[RUNNING] = 0
        state.failures = 0
        state.runs += 1
        figures.add(self._region, state.pair, handed.rows, compared)
        _check_pace(state, seconds)

    def _compare_seconds(
        self,
        state: _State,
        loaded: LoadedPair,
        rows: tuple[Handed, Arrays],
        heads: tuple[str, ...],
    ) -> None:
        """Time both versions for the same rows, in this process.

        A run of the service is no measure, since it may have the rows of others, too.  Both run
        twice, and the second runs count: the first ones bring what they need into the processor's
        caches.  In turns the one or the other comes first.
        """
        handed, arrays = rows
        runs = [
            (figures.STABLE, loaded.stable.model, handed.arrays),
            (figures.CANDIDATE, loaded.candidate.model, arrays),
        ]
        if state.runs // TIMED % 2:
            runs.reverse()
        seconds: dict[str, float] = {}
        for _ in range(2):
            seconds |= {of: self._timed(model, own, heads)[1] for of, model, own in runs}
        figures.add_seconds(self._region, state.pair, handed.rows, seconds)

    def _timed(self, model: Model, arrays: Arrays, heads: tuple[str, ...]) -> tuple[Arrays, float]:
        """Run a model, and return its answers with the seconds that it took."""
        clock = time.thread_time if model.execution.is_cpu else time.perf_counter
        self._began, began = (time.thread_time(), time.perf_counter()), clock()
        try:
            return model.predict(arrays, heads), clock() - began
        finally:
            self._began = None

    def _mark(self, state: _State) -> None:
        """Note that a run of a candidate begins, for the process after this one."""
        self._current = state
        with self._region.writing():
            place = self._region.place("shadow_stopped", *state.pair, "ended")
        self._region.header[RUNNING] = place + 1

    def _stop(self, state: _State, stop: StopError) -> None:
        state.loaded = None
        stops.note(self._region, state.pair, stop)

    def _unload_idle(self, now: float) -> None:
        """Unload pairs whose rows do not come any more."""
        for model, state in list(self._states.items()):
            if now - state.asked > IDLE_SECONDS and state.loaded is not None:
                del self._states[model]


def _compared(
    loaded: LoadedPair, heads: tuple[str, ...], answers: Arrays, others: Arrays
) -> dict[str, Comparison]:
    """Return the comparison of some rows, by head."""
    of_stable, of_candidate = loaded.stable.signature.heads, loaded.candidate.signature.heads
    return {
        head: comparison.tally(
            comparison.differences(of_stable[head], of_candidate[head], answers[head], others[head])
        )
        for head in heads
    }


def _check_pace(state: _State, seconds: float) -> None:
    """Note the time of a run.

    Raises:
        StopError: the last runs were too slow.
    """
    state.seconds.append(seconds)
    if len(state.seconds) < stops.SLOW_RUNS:
        return
    if sum(state.seconds) > stops.SLOW_RUNS * stops.SLOW_SECONDS:
        mean = f"the mean of {stops.SLOW_RUNS} runs was above {stops.SLOW_SECONDS:g} s"
        raise StopError("slow", mean)
    state.seconds.popleft()
