"""The batcher of an event loop: requests that wait together run together.

    submit ─▶ queue of (model, heads, shapes) ─▶ one run of the model ─▶ each request's rows of it

A request that arrives alone runs at once; the requests that arrive while the model is busy are the
next batch.  A cheap model runs in the event loop itself, since a hand-over to a thread would cost
more than the run.  An expensive model has a thread of its own, so that sockets are read and other
models answer meanwhile.  Its next run waits a moment for the clients that were just answered
(`gathering`).  The file is long with the way of a request from its queue into a run and back, and
is one idea.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from service.inference import gathering
from service.inference.cores import Cores
from service.inference.lane import INLINE_SECONDS, WIDE_SECONDS, Queue
from service.run import Part, Run
from service.wire.numbers import Numbers, join

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from service.inference.lane import Asker, Lane, Waiting
    from service.inference.model import Model
    from service.wire.numbers import Tensors


log = logging.getLogger(__name__)

# Each shape of rows has a queue of its own; above this number, the empty queues are removed.
MAX_QUEUES = 64
# The requests that are dropped in one turn of the event loop: each drop is answered, which takes
# time that other connections need.
DROPPED_AT_ONCE = 64


class Batcher:
    """An executor for one event loop; all methods are called in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cores: Cores | None = None) -> None:
        """Run models for `loop`; `cores` tells what other workers do, if there are any."""
        self._loop = loop
        self._cores = Cores() if cores is None else cores
        # The lanes whose threads have ended a run that the loop has not handled yet, and an event
        # that is set when one is added.
        self._over: deque[Lane] = deque()
        self._is_over = Event()

    def submit(
        self, lane: Lane, name: str, heads: Sequence[str], arrays: Tensors, asker: Asker
    ) -> None:
        """Queue a request; its answer goes to `asker.done`.

        Args:
            lane: the lane of the model.
            name: the model or the view that the request names; each has runs of its own, so that
                they can be counted separately.
            heads: the heads to compute, as for `model.predict`.
            arrays: the request's arrays, as for `model.predict`.
            asker: the request.
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
            # The run comes after all sockets that are readable now, so that their requests join
            # it.  It is scheduled before the request is queued: if scheduling fails, the request
            # is answered with that error and must not be in the queue as well.
            self._loop.call_soon(self._run_next, lane, queue)
            queue.busy = True
        queue.waiting.append((asker, arrays, rows))
        lane.requests += 1
        lane.rows += rows
        if queue.expected and (len(queue.waiting) >= queue.expected or lane.rows >= lane.most):
            queue.gathering.ended(in_time=True)
            _stop_waiting(queue)
            self._loop.call_soon(self._run_next, lane, queue)

    def wait_for_a_run(self, seconds: float) -> None:
        """Block the event loop until a thread has ended a run, for at most `seconds`."""
        self._is_over.clear()
        if not self._over:
            self._is_over.wait(seconds)

    def _run_next(self, lane: Lane, queue: Queue) -> None:
        _stop_waiting(queue)
        if lane.running:
            # The queue keeps gathering; requests past their deadline are dropped when it runs.
            lane.due.append(queue)
            return
        batch: list[Waiting] = []
        try:
            batch, rows = self._take(lane, queue)
            if not batch:
                return
            queue.turns += 1
            if lane.is_cheap(rows) and rows * queue.row_seconds < INLINE_SECONDS:
                began = lane.clock()
                results = _run(lane, lane.model, queue, batch, rows)
                _note(lane, queue, lane.clock() - began, rows)
                _hand_on(batch, results)
            else:
                self._start_in_thread(lane, queue, batch, rows)
        except Exception as error:
            log.exception("a run could not be made")
            _hand_on(batch, [error] * len(batch))
        finally:
            # Even after an error: a queue that stays busy would never run again.
            if not lane.running:
                self._go_on(lane, queue)

    def _go_on(self, lane: Lane, queue: Queue) -> None:
        """End a queue's turn, and give the next one to the queue that has waited longest."""
        if queue.waiting:
            lane.due.append(queue)
        else:
            queue.busy = False
            if lane.is_long and not lane.due:
                lane.is_long = False
                self._cores.give_back()
        if lane.due:
            self._loop.call_soon(self._run_next, lane, lane.due[0])
            lane.due.popleft()

    def _take(self, lane: Lane, queue: Queue) -> tuple[list[Waiting], int]:
        """Take the next batch from a queue, and drop the requests that are no longer wanted.

        Returns:
            The requests to run together, and the number of their rows.
        """
        batch: list[Waiting] = []
        rows = dropped = 0
        alone = lane.model.runs_alone
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
            except Exception as error:  # noqa: BLE001  logged; the request is answered with it
                is_wanted = _is_lost(first, error)
            if is_wanted:
                batch.append(first)
                rows += first[2]
            else:
                dropped += 1
        return batch, rows

    def drop_unwanted(self, lane: Lane) -> None:
        """Drop the requests of a model that are no longer wanted, in case no run does so."""
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
        """Schedule a turn for each queue that has work, in case its turn was lost."""
        if not lane.running:
            for queue in lane.queues.values():
                if queue.busy:
                    self._loop.call_soon(self._run_next, lane, queue)

    def _start_in_thread(self, lane: Lane, queue: Queue, batch: list[Waiting], rows: int) -> None:
        if lane.thread is None:
            lane.thread = ThreadPoolExecutor(1, "model")
        lane.running = True
        if not lane.is_long:
            lane.is_long = True
            self._cores.take()
        model, wide = lane.model, lane.model.wide
        if wide is not None and lane.seconds > WIDE_SECONDS and self._cores.is_alone():
            model = wide
        try:
            lane.thread.submit(self._run_in_thread, lane, queue, batch, rows, model)
        except BaseException:
            lane.running = False
            # The executor queues the run before it starts its thread.  If the system has no thread
            # to give, the run stays in that queue although its requests are answered with an error
            # now.  So the executor is discarded with it.
            lane.thread = None
            raise

    def _run_in_thread(
        self, lane: Lane, queue: Queue, batch: list[Waiting], rows: int, model: Model
    ) -> None:
        results: list[Part | Exception] = []
        seconds = 0.0
        try:
            began = lane.clock()
            results = _run(lane, model, queue, batch, rows)
            # The work of one thread counts, of which others have done a part.
            parts = 1 if model is lane.model else model.execution.threads
            seconds = (lane.clock() - began) * parts
        except BaseException:
            # The future's exception is never read, so the error has to be logged here.
            log.exception("a run ended without an answer")
        finally:
            self._over.append(lane)
            self._is_over.set()
            self._loop.call_soon_threadsafe(
                self._end_in_thread, lane, queue, batch, results, (seconds, rows)
            )

    def _end_in_thread(
        self,
        lane: Lane,
        queue: Queue,
        batch: list[Waiting],
        results: list[Part | Exception],
        pace: tuple[float, int],
    ) -> None:
        lane.running = False
        self._over.popleft()
        try:
            if results:
                _note(lane, queue, *pace)
            else:
                results = [RuntimeError("a run ended without an answer")] * len(batch)
        finally:
            _hand_on(batch, results)
            if not self._gather(lane, queue, batch):
                self._go_on(lane, queue)

    def _gather(self, lane: Lane, queue: Queue, batch: list[Waiting]) -> bool:
        """Let the next run of a queue wait for the clients of the last; return whether it does."""
        try:
            # Another queue's turn is not delayed, and requests gather while it runs.
            if lane.due or lane.model.runs_alone or lane.rows >= lane.most:
                return False
            returning = sum(asker.may_return() for asker, _, _ in batch)
            expected = queue.gathering.expected(returning, len(queue.waiting))
            if expected:
                wait = gathering.longest(lane.seconds)
                queue.timer = self._loop.call_later(wait, self._end_wait, lane, queue)
                queue.expected = expected
        except Exception:
            log.exception("the next run of a model does not wait for more requests")
            return False
        return bool(expected)

    def _end_wait(self, lane: Lane, queue: Queue) -> None:
        queue.gathering.ended(in_time=False)
        self._run_next(lane, queue)


def _stop_waiting(queue: Queue) -> None:
    """Forget the requests that a queue waited for, if it did."""
    queue.expected = 0
    if queue.timer is not None:
        queue.timer.cancel()
        queue.timer = None


def _is_lost(waiting: Waiting, error: Exception) -> Literal[False]:
    """Answer a request whose `wanted` failed with that error; return that it is not wanted."""
    log.error("a waiting request cannot tell whether its answer is still wanted", exc_info=error)
    _hand_on([waiting], [error])
    return False


def _hand_on(batch: list[Waiting], results: list[Part | Exception]) -> None:
    """Give each request its result; an error in one must not keep the others waiting."""
    for (asker, _, _), result in zip(batch, results, strict=True):
        try:
            asker.done(result)
        except Exception:
            log.exception("an answer could not be handed on")


def _add_queue(lane: Lane, key: tuple[Any, ...], heads: Sequence[str]) -> Queue:
    if len(lane.queues) >= MAX_QUEUES:
        lane.queues = {key: queue for key, queue in lane.queues.items() if queue.busy}
    # A row of a new shape may take any time, so it runs in a thread until its pace is known.
    queue = lane.queues[key] = Queue(heads, math.inf if lane.free_shapes else 0.0)
    return queue


def _note(lane: Lane, queue: Queue, seconds: float, rows: int) -> None:
    lane.note_run(seconds, rows)
    if lane.free_shapes:
        queue.row_seconds = seconds / rows


def _run(
    lane: Lane, model: Model, queue: Queue, batch: Sequence[Waiting], rows: int
) -> list[Part | Exception]:
    note = lane.note_runs
    if note is None:
        return run_batch(model, queue.heads, batch, rows)
    note(now=True)
    try:
        return run_batch(model, queue.heads, batch, rows)
    finally:
        note(now=False)


def run_batch(
    model: Model, heads: Sequence[str], batch: Sequence[Waiting], rows: int
) -> list[Part | Exception]:
    """Run a batch, in one run of all its rows if that is possible.

    If that run fails, each request is run by itself, so that an error costs only its own request.

    Args:
        model: the model to run.
        heads: the heads to compute, as for `model.predict`.
        batch: the requests.
        rows: the number of rows of all requests.

    Returns:
        For each request in order, its part of the run, or the exception.
    """
    started = perf_counter()
    try:
        inputs = join([arrays for _, arrays, _ in batch])
        outputs = model.predict(inputs, heads)
        run = Run(rows, started, perf_counter(), outputs, inputs=inputs)
        results: list[Part | Exception] = []
        start = 0
        for _, _, own in batch:
            results.append(Part(run, start, start + own))
            start += own
    except Exception as error:  # noqa: BLE001  the request is answered with it
        if len(batch) == 1:
            return [error]
        return [run_batch(model, heads, [request], request[2])[0] for request in batch]
    return results
