"""Requests that wait together run together.

    submit ─▶ queue of (model, heads, shapes) ─▶ one run of the model ─▶ each request's rows of it

Nobody waits for a timer.  A request that comes alone runs at once; what comes while the model is
busy is what the next run gathers.  A cheap model runs in the event loop itself, where handing the
work to a thread would cost more than the work; a dear one has a thread of its own, so that
sockets are read and other models answer meanwhile.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, Literal, Protocol

from service.inference.admission import SHORT, AdmissionControl
from service.run import Part, Run
from service.wire.numbers import Numbers, join

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.inference.model import Model

    # By tensor, [rows, …].
    Given = Mapping[str, NDArray[Any]] | Numbers
    # One request: whom to tell, its arrays, and how many rows they have.
    _Waiting = tuple["Asker", Given, int]

log = logging.getLogger(__name__)

# A run that takes longer than this has a thread; to hand over costs about a tenth of it.
INLINE_SECONDS = 0.001
# Shapes of rows that differ are queues of their own; past so many, those that are empty go.
MAX_QUEUES = 64
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
# So many requests are dropped at once: each is answered, and the loop has others to serve.
DROPPED_AT_ONCE = 64
# After so many runs of a model its pace is known.
PACED_RUNS = 8


class Asker(Protocol):
    """Who waits for a run."""

    def wanted(self) -> bool:
        """Whether it still does; asked just before the run, and if not, it is dropped."""

    def done(self, came: Part | Exception) -> None:
        """Take its rows of a run, or what went wrong; called in the event loop."""


class _Queue:
    """What waits for one set of heads, asked by one name, in one set of shapes."""

    __slots__ = ("busy", "heads", "row_seconds", "seen", "since", "turns", "waiting")

    def __init__(self, heads: Sequence[str], row_seconds: float = 0.0) -> None:
        self.heads = heads
        # What a row of its shapes took in the last run, where rows may be of any shape.
        self.row_seconds = row_seconds
        self.waiting: deque[_Waiting] = deque()
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
        self.queues: dict[tuple[Any, ...], _Queue] = {}
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
        self.due: deque[_Queue] = deque()
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


class Batcher:
    """Runs models for one event loop, whose thread is the only one that calls it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, gather: bool = True) -> None:
        """Run models for `loop`; each request by itself unless `gather`."""
        self._loop = loop
        self._gather = gather
        # Runs that a thread has done and the loop has not seen yet; and whether there are any.
        self._over: deque[Lane] = deque()
        self._is_over = Event()

    def submit(
        self, lane: Lane, name: str, heads: Sequence[str], arrays: Given, asker: Asker
    ) -> None:
        """Have `heads` computed from `arrays`, and `asker` told.

        Args:
            lane: of the model.
            name: what was asked, the model or a view of it; each has runs of its own, which can be
                told apart when they are counted.
            heads: as for `model.predict`.
            arrays: likewise.
            asker: whom to tell.
        """
        key: tuple[Any, ...] = (name, heads)
        if isinstance(arrays, Numbers):
            rows = arrays.rows
        else:
            rows = 1 if lane.whole else len(next(iter(arrays.values())))
            if lane.free_shapes:
                start = 0 if lane.whole else 1
                key += tuple(array.shape[start:] for array in arrays.values())
        queue = lane.queues.get(key)
        if queue is None:
            queue = _add_queue(lane, key, heads)
        if not queue.busy:
            # After all sockets that are readable now: their requests join this run.  First of all,
            # since a request that is refused by an error here must not be waiting as well.
            self._loop.call_soon(self._run_next, lane, queue)
            queue.busy = True
        queue.waiting.append((asker, arrays, rows))
        lane.requests += 1
        lane.rows += rows

    def wait_for_a_run(self, seconds: float) -> None:
        """Hold the loop up until a thread has done a run, for so long at most."""
        self._is_over.clear()
        if not self._over:
            self._is_over.wait(seconds)

    def _run_next(self, lane: Lane, queue: _Queue) -> None:
        if lane.running:
            # It gathers on meanwhile, and what is too late by then is not run.
            lane.due.append(queue)
            return
        batch: list[_Waiting] = []
        try:
            batch, rows = self._take(lane, queue)
            if not batch:
                return
            queue.turns += 1
            if lane.is_cheap(rows) and rows * queue.row_seconds < INLINE_SECONDS:
                began = thread_time()
                came = run_batch(lane.model, queue.heads, batch, rows)
                _note(lane, queue, thread_time() - began, rows)
                _hand_on(batch, came)
            else:
                self._start_in_thread(lane, queue, batch, rows)
        except Exception as error:
            log.exception("a run could not be made")
            _hand_on(batch, [error] * len(batch))
        finally:
            # Whatever was raised: a queue left busy would never run again.
            if not lane.running:
                self._go_on(lane, queue)

    def _go_on(self, lane: Lane, queue: _Queue) -> None:
        """End a queue's turn, and give the next one to the queue that has waited longest."""
        if queue.waiting:
            lane.due.append(queue)
        else:
            queue.busy = False
        if lane.due:
            self._loop.call_soon(self._run_next, lane, lane.due[0])
            lane.due.popleft()

    def _take(self, lane: Lane, queue: _Queue) -> tuple[list[_Waiting], int]:
        """The next requests to run together, and their rows; who waits no more is dropped here."""
        batch: list[_Waiting] = []
        rows = dropped = 0
        alone = not self._gather or lane.model.runs_alone
        waiting = queue.waiting
        most = lane.most
        while waiting and dropped < DROPPED_AT_ONCE:
            if batch and (alone or rows + waiting[0][2] > most):
                break
            first = waiting.popleft()
            lane.requests -= 1
            lane.rows -= first[2]
            try:
                is_wanted = first[0].wanted()
            except Exception as error:  # noqa: BLE001  it is logged, and the request hears of it
                is_wanted = _is_lost(first, error)
            if is_wanted:
                batch.append(first)
                rows += first[2]
            else:
                dropped += 1
        return batch, rows

    def drop_unwanted(self, lane: Lane) -> None:
        """Drop who waits no more in the queues of a model, whose turn may never come."""
        for queue in lane.queues.values():
            kept: list[_Waiting] = []
            waiting, dropped = queue.waiting, 0
            while waiting and dropped < DROPPED_AT_ONCE:
                first = waiting.popleft()
                try:
                    is_wanted = first[0].wanted()
                except Exception as error:  # noqa: BLE001  as in `_take`
                    is_wanted = _is_lost(first, error)
                if is_wanted:
                    kept.append(first)
                else:
                    lane.requests -= 1
                    lane.rows -= first[2]
                    dropped += 1
            waiting.extendleft(reversed(kept))
            if dropped == DROPPED_AT_ONCE:
                self._loop.call_soon(self.drop_unwanted, lane)
                return

    def nudge(self, lane: Lane) -> None:
        """Give each queue that has work a turn, in case that it was forgotten."""
        if not lane.running:
            for queue in lane.queues.values():
                if queue.busy:
                    self._loop.call_soon(self._run_next, lane, queue)

    def _start_in_thread(self, lane: Lane, queue: _Queue, batch: list[_Waiting], rows: int) -> None:
        if lane.thread is None:
            lane.thread = ThreadPoolExecutor(1, "model")
        lane.running = True
        try:
            lane.thread.submit(self._run_in_thread, lane, queue, batch, rows)
        except BaseException:
            lane.running = False
            # The executor queues the run before it starts its thread.  Where the system has none
            # to give, another executor must not find there what is answered with an error now.
            lane.thread = None
            raise

    def _run_in_thread(self, lane: Lane, queue: _Queue, batch: list[_Waiting], rows: int) -> None:
        came: list[Part | Exception] = []
        seconds = 0.0
        try:
            began = thread_time()
            came = run_batch(lane.model, queue.heads, batch, rows)
            seconds = thread_time() - began
        except BaseException:
            # Nobody looks at what ends a thread's work, so it is said here.
            log.exception("a run ended without an answer")
        finally:
            self._over.append(lane)
            self._is_over.set()
            self._loop.call_soon_threadsafe(
                self._end_in_thread, lane, queue, batch, came, (seconds, rows)
            )

    def _end_in_thread(
        self,
        lane: Lane,
        queue: _Queue,
        batch: list[_Waiting],
        came: list[Part | Exception],
        pace: tuple[float, int],
    ) -> None:
        lane.running = False
        self._over.popleft()
        try:
            if came:
                _note(lane, queue, *pace)
            else:
                came = [RuntimeError("a run ended without an answer")] * len(batch)
        finally:
            _hand_on(batch, came)
            self._go_on(lane, queue)


def _is_lost(waiting: _Waiting, error: Exception) -> Literal[False]:
    """Tell a request that could not say whether it still waits; it does not, from then on."""
    log.error("a request that waits cannot be asked whether it still does", exc_info=error)
    _hand_on([waiting], [error])
    return False


def _hand_on(batch: list[_Waiting], came: list[Part | Exception]) -> None:
    """Hand on what came; a bug of one is not to keep the others, and all who come, waiting."""
    for (asker, _, _), part in zip(batch, came, strict=True):
        try:
            asker.done(part)
        except Exception:
            log.exception("an answer could not be handed on")


def _add_queue(lane: Lane, key: tuple[Any, ...], heads: Sequence[str]) -> _Queue:
    if len(lane.queues) >= MAX_QUEUES:
        lane.queues = {key: queue for key, queue in lane.queues.items() if queue.busy}
    # A row of another shape may take any time, and is run in a thread until that is known.
    queue = lane.queues[key] = _Queue(heads, math.inf if lane.free_shapes else 0.0)
    return queue


def _note(lane: Lane, queue: _Queue, seconds: float, rows: int) -> None:
    lane.note_run(seconds, rows)
    if lane.free_shapes:
        queue.row_seconds = seconds / rows


def run_batch(
    model: Model, heads: Sequence[str], batch: Sequence[_Waiting], rows: int
) -> list[Part | Exception]:
    """What came for each request, from one run of all rows if that is possible."""
    started = perf_counter()
    try:
        outputs = model.predict(join([given for _, given, _ in batch]), heads)
        run = Run(rows, started, perf_counter(), outputs)
        came: list[Part | Exception] = []
        start = 0
        for _, _, own in batch:
            came.append(Part(run, start, start + own))
            start += own
    except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's to hear
        if len(batch) == 1:
            return [error]
        # One of them fails the run: alone, it fails only its own.
        return [run_batch(model, heads, [request], request[2])[0] for request in batch]
    return came
