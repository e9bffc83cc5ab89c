"""A lane: one model, the requests that wait for it, and how long its runs take of late."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from service.inference.admission import SHORT, AdmissionControl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from numpy.typing import NDArray

    from service.inference.model import Model
    from service.run import Part
    from service.wire.numbers import Numbers

    # By tensor, [rows, …].
    Given: TypeAlias = Mapping[str, NDArray[Any]] | Numbers
    # One request: whom to tell, its arrays, and how many rows they have.
    Waiting = tuple["Asker", Given, int]

# A run that takes longer than this has a thread; to hand over costs about a tenth of it.
INLINE_SECONDS = 0.001
# What one run gathers at most: past some dozens of rows nothing is saved by more of them, and
# the first of them waits for the last.
ROWS_A_RUN = 64
# And how long it should take: who comes in its middle waits for its end.  Some rows run together
# all the same, since only that shows what a model saves by them.
RUN_SECONDS = 0.01
FEW_ROWS = 16
# So many requests may always wait, however slow the model and however many rows they have: some
# callers side by side, who each wait for their answer, are no overload.
LEAST_WAITING = 8
# After so many runs of a model its pace is known.
PACED_RUNS = 8


class Asker(Protocol):
    """Who waits for a run."""

    def wanted(self) -> bool:
        """Whether it still does; asked just before the run, and if not, it is dropped."""

    def done(self, came: Part | Exception) -> None:
        """Take its rows of a run, or what went wrong; called in the event loop."""


class Queue:
    """What waits for one set of heads, asked by one name, in one set of shapes."""

    __slots__ = ("busy", "heads", "row_seconds", "seen", "since", "turns", "waiting")

    def __init__(self, heads: Sequence[str], row_seconds: float = 0.0) -> None:
        self.heads = heads
        # What a row of its shapes took in the last run, where rows may be of any shape.
        self.row_seconds = row_seconds
        self.waiting: deque[Waiting] = deque()
        self.busy = False
        # Its runs so far; how many the watchdog has seen, and since when.
        self.turns = 0
        self.seen = -1
        self.since = 0.0


class Lane:
    """A model and what waits for it; what its runs take of late; its thread, if it has one."""

    __slots__ = (
        *("_row_seconds", "_runs", "admission", "asked", "coming", "due", "free_shapes", "model"),
        *("queues", "requests", "rows", "running", "seconds", "thread", "whole"),
    )

    def __init__(self, model: Model) -> None:
        self.model = model
        self.queues: dict[tuple[Any, ...], Queue] = {}
        # What waits, in its queues.
        self.requests = 0
        self.rows = 0
        # When it was asked last, and requests that have been let in and are not decoded yet.
        self.asked = 0.0
        self.coming = 0
        self.admission = AdmissionControl()
        self.seconds = 0.0
        self._row_seconds = 0.0
        self._runs = 0
        self.thread: ThreadPoolExecutor | None = None
        # Whether the thread is at a run, and the queues that are to run after it.
        self.running = False
        self.due: deque[Queue] = deque()
        inputs = model.signature.inputs.values()
        # Whether a request is whole tensors, and not rows.
        self.whole = bool(model.signature.tensor)
        self.free_shapes = any(t.size is None for entry in inputs for t in entry.tensors)

    @property
    def wait(self) -> float:
        """How many seconds of work wait, at the pace of late; 0 while that is not known yet."""
        return self.rows * self._row_seconds if self._runs >= PACED_RUNS else 0.0

    def is_full(self, limit: float, caller: object, now: float) -> bool:
        """Whether who comes now is refused, where `limit` seconds of work may wait."""
        self.asked = now
        each = self._row_seconds if self._runs >= PACED_RUNS else 0.0
        # Whoever comes has one row at least.
        wait = self.wait + self.coming * each
        if self.requests + self.coming < LEAST_WAITING:
            # Nobody is refused for the many rows of a few others.
            wait = 0.0
        bound = self.admission
        if wait <= limit * SHORT and not bound.is_short:
            # As nearly always; the bound would say so too.
            bound.long_since = now
            return False
        return bound.is_full(wait, (each, self.most * each), limit, caller, now)

    @property
    def most(self) -> int:
        """How many rows are run together, at most."""
        if self._row_seconds * ROWS_A_RUN <= RUN_SECONDS:
            return ROWS_A_RUN
        return max(FEW_ROWS, int(RUN_SECONDS / self._row_seconds))

    def is_cheap(self, rows: int) -> bool:
        """Whether a run of as many rows may hold up the event loop for as long as it takes."""
        if self.model.loops:
            return False
        return self.seconds < INLINE_SECONDS and rows * self._row_seconds < INLINE_SECONDS

    @property
    def has_work(self) -> bool:
        """Whether anybody waits for a run."""
        return self.running or self.coming > 0 or any(q.busy for q in self.queues.values())

    def note_run(self, seconds: float, rows: int) -> None:
        """Note what a run took.

        That is the processor's time and not the clock's: a run that had to wait for others is no
        dearer, and to give it a thread for that would have it wait even more.
        """
        # Half of what it was and half of what it is, so that it follows the load in a few runs.
        self.seconds = (self.seconds + seconds) / 2
        self.note(seconds / rows)

    def note(self, row_seconds: float) -> None:
        """Note a run's pace.

        A run may be slow for a reason of its own, such as a cut that was made for it: the least of
        the first counts, and later ones make the pace slower only little by little.
        """
        self._runs += 1
        known = self._row_seconds
        if self._runs == 1 or row_seconds < known:
            self._row_seconds = row_seconds
        elif self._runs > PACED_RUNS:
            self._row_seconds += min(row_seconds - known, known) / PACED_RUNS
