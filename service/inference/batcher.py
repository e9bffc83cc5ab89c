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
from typing import TYPE_CHECKING, Any, Literal

from service.inference.lane import INLINE_SECONDS, Queue
from service.run import Part, Run
from service.wire.numbers import Numbers, join

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from service.inference.lane import Asker, Given, Lane, Waiting
    from service.inference.model import Model


log = logging.getLogger(__name__)

# Shapes of rows that differ are queues of their own; past so many, those that are empty go.
MAX_QUEUES = 64
# So many requests are dropped at once: each is answered, and the loop has others to serve.
DROPPED_AT_ONCE = 64


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

    def _run_next(self, lane: Lane, queue: Queue) -> None:
        if lane.running:
            # It gathers on meanwhile, and what is too late by then is not run.
            lane.due.append(queue)
            return
        batch: list[Waiting] = []
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

    def _go_on(self, lane: Lane, queue: Queue) -> None:
        """End a queue's turn, and give the next one to the queue that has waited longest."""
        if queue.waiting:
            lane.due.append(queue)
        else:
            queue.busy = False
        if lane.due:
            self._loop.call_soon(self._run_next, lane, lane.due[0])
            lane.due.popleft()

    def _take(self, lane: Lane, queue: Queue) -> tuple[list[Waiting], int]:
        """The next requests to run together, and their rows; who waits no more is dropped here."""
        batch: list[Waiting] = []
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
            kept: list[Waiting] = []
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

    def _start_in_thread(self, lane: Lane, queue: Queue, batch: list[Waiting], rows: int) -> None:
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

    def _run_in_thread(self, lane: Lane, queue: Queue, batch: list[Waiting], rows: int) -> None:
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
        queue: Queue,
        batch: list[Waiting],
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


def _is_lost(waiting: Waiting, error: Exception) -> Literal[False]:
    """Tell a request that could not say whether it still waits; it does not, from then on."""
    log.error("a request that waits cannot be asked whether it still does", exc_info=error)
    _hand_on([waiting], [error])
    return False


def _hand_on(batch: list[Waiting], came: list[Part | Exception]) -> None:
    """Hand on what came; a bug of one is not to keep the others, and all who come, waiting."""
    for (asker, _, _), part in zip(batch, came, strict=True):
        try:
            asker.done(part)
        except Exception:
            log.exception("an answer could not be handed on")


def _add_queue(lane: Lane, key: tuple[Any, ...], heads: Sequence[str]) -> Queue:
    if len(lane.queues) >= MAX_QUEUES:
        lane.queues = {key: queue for key, queue in lane.queues.items() if queue.busy}
    # A row of another shape may take any time, and is run in a thread until that is known.
    queue = lane.queues[key] = Queue(heads, math.inf if lane.free_shapes else 0.0)
    return queue


def _note(lane: Lane, queue: Queue, seconds: float, rows: int) -> None:
    lane.note_run(seconds, rows)
    if lane.free_shapes:
        queue.row_seconds = seconds / rows


def run_batch(
    model: Model, heads: Sequence[str], batch: Sequence[Waiting], rows: int
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
