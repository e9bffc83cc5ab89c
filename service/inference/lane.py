"""A lane: one model, the requests that wait for it, and its pace, the recent time per row."""

from __future__ import annotations

from collections import deque
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, Protocol

from service.inference.admission import SHORT, AdmissionControl
from service.inference.gathering import Gathering

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from concurrent.futures import ThreadPoolExecutor

    from service.inference.model import Model
    from service.run import Part
    from service.wire.numbers import Tensors

    # A request in a queue: the way to its answer, its arrays, and the number of their rows.
    Waiting = tuple["Asker", Tensors, int]

# A run that takes longer than this runs in a thread; the hand-over costs about a tenth of it.
INLINE_SECONDS = 0.001
# The most rows in a batch: beyond some dozens, further rows save nothing, and the first request
# waits for the last.
ROWS_A_RUN = 64
# The seconds that a batch should take, since a request that arrives during a run waits for its end.
# A slow model still runs this few rows together: only that shows what batching saves it.
RUN_SECONDS = 0.01
FEW_ROWS = 16
# A run that takes longer than this may use all processors, if it is alone and its model may.
WIDE_SECONDS = 0.01
# The requests that may always wait, however slow the model and however many rows they have: a few
# concurrent clients that each wait for their answer are not an overload.
LEAST_WAITING = 8
# The runs after which the pace of a model is considered known.
PACED_RUNS = 8


class Asker(Protocol):
    """A request that waits for a run."""

    def wanted(self) -> bool:
        """Return whether the answer is still wanted; called just before the run."""

    def done(self, result: Part | Exception) -> None:
        """Take the request's part of a run, or the exception; called in the event loop."""

    def may_return(self) -> bool:
        """Return whether the client, which was answered, may send another request."""


class Queue:
    """The requests of a lane that name the same model or view and heads, in the same shapes."""

    __slots__ = (
        *("busy", "expected", "gathering", "heads", "row_seconds", "seen", "since", "timer"),
        *("turns", "waiting"),
    )

    def __init__(self, heads: Sequence[str], row_seconds: float = 0.0) -> None:
        self.heads = heads
        # The seconds per row in the last run, if rows may have any shape.
        self.row_seconds = row_seconds
        self.waiting: deque[Waiting] = deque()
        self.busy = False
        # The requests that the next run waits for, if it does, and the end of that wait.
        self.expected = 0
        self.timer: asyncio.TimerHandle | None = None
        self.gathering = Gathering()
        # The runs so far; the number that the watchdog saw last, and since when it is the same.
        self.turns = 0
        self.seen = -1
        self.since = 0.0


class NoteRuns(Protocol):
    """Notes that a run begins, or is over."""

    def __call__(self, *, now: bool) -> None:
        """Note it."""


class Lane:
    """A model in one event loop, with its queues, its pace and, if it is slow, its thread."""

    __slots__ = (
        *("_row_seconds", "_runs", "admission", "clock", "coming", "due", "free_shapes"),
        *("is_long", "model", "note_runs", "queues", "requests", "rows", "running", "seconds"),
        *("sliced_requests", "sliced_rows", "thread", "whole"),
    )

    def __init__(self, model: Model) -> None:
        self.model = model
        # The clock of its runs: with another provider, this thread waits while others compute.
        self.clock = thread_time if model.execution.is_cpu else perf_counter
        # Told before and after each run, if somebody has to know that one ends the process.
        self.note_runs: NoteRuns | None = None
        self.queues: dict[tuple[Any, ...], Queue] = {}
        # The requests in all queues, and their rows.
        self.requests = 0
        self.rows = 0
        # The requests that run in slices, and their rows that are not in the queues yet.
        # The threads of a WSGI server do not count exactly, and use neither number.
        self.sliced_requests = 0
        self.sliced_rows = 0
        # The number of admitted requests that are not decoded yet.
        self.coming = 0
        self.admission = AdmissionControl()
        self.seconds = 0.0
        self._row_seconds = 0.0
        self._runs = 0
        self.thread: ThreadPoolExecutor | None = None
        # Whether the thread is running a batch, and the queues whose turn comes after it.
        self.running = False
        # Whether it is counted among the models that have long runs to do.
        self.is_long = False
        self.due: deque[Queue] = deque()
        inputs = model.signature.inputs.values()
        # Whether requests are whole tensors, and not rows.
        self.whole = bool(model.signature.tensor)
        self.free_shapes = any(t.size is None for entry in inputs for t in entry.tensors)

    @property
    def wait(self) -> float:
        """The seconds of work in the queues, at the recent pace; 0 until the pace is known."""
        return self.rows * self._row_seconds if self._runs >= PACED_RUNS else 0.0

    @property
    def backlog(self) -> float:
        """The seconds of all work that waits: in the queues, and slices that come after those."""
        rows = self.rows + self.sliced_rows
        return rows * self._row_seconds if self._runs >= PACED_RUNS else 0.0

    def is_full(self, limit: float, caller: object, now: float) -> bool:
        """Return whether a request that arrives now is refused.

        Args:
            limit: the seconds of work that may wait.
            caller: the client's connection, as for `AdmissionControl.is_full`.
            now: the time by `perf_counter`.
        """
        self.model.asked = now
        each = self._row_seconds if self._runs >= PACED_RUNS else 0.0
        # A request that is not decoded yet has at least one row.
        wait = self.wait + self.coming * each
        if self.requests + self.coming < LEAST_WAITING:
            # No request is refused because a few others have many rows.
            wait = 0.0
        bound = self.admission
        if wait <= limit * SHORT and not bound.is_short:
            # The usual case, decided here to save a call; `is_full` would decide the same.
            bound.long_since = now
            return False
        return bound.is_full(wait, (each, self.most * each), limit, caller, now)

    @property
    def most(self) -> int:
        """The most rows of a batch: those of the model's settings, or by the recent pace."""
        if self.model.rows:
            return self.model.rows
        if self._row_seconds * ROWS_A_RUN <= RUN_SECONDS:
            return ROWS_A_RUN
        return max(FEW_ROWS, int(RUN_SECONDS / self._row_seconds))

    def is_cheap(self, rows: int) -> bool:
        """Return whether a run of this many rows is short enough for the event loop."""
        if self.model.loops:
            return False
        return self.seconds < INLINE_SECONDS and rows * self._row_seconds < INLINE_SECONDS

    @property
    def has_work(self) -> bool:
        """True if a request is queued or running, or is admitted and not decoded yet."""
        return self.running or self.coming > 0 or any(q.busy for q in self.queues.values())

    def note_run(self, seconds: float, rows: int) -> None:
        """Record the time of a run.

        The time is the thread's CPU time and not the clock's: a run that had to wait for a
        processor is no more expensive, and in a thread it would wait even longer.

        Args:
            seconds: the CPU time of the run.
            rows: the rows of the run.
        """
        # The average of the old estimate and this run, so that it follows the load in a few runs.
        self.seconds = (self.seconds + seconds) / 2
        self.note(seconds / rows)

    def note(self, row_seconds: float) -> None:
        """Record the pace of a run, in seconds per row.

        A single run may be slow for reasons of its own, such as a sub-graph that was cut for it.
        So the fastest of the first runs counts, and later runs slow the pace down only gradually.
        """
        self._runs += 1
        known = self._row_seconds
        if self._runs == 1 or row_seconds < known:
            self._row_seconds = row_seconds
        elif self._runs > PACED_RUNS:
            self._row_seconds += min(row_seconds - known, known) / PACED_RUNS
