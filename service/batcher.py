"""Requests that wait together run together.

    submit ─▶ queue of (model, heads, shapes) ─▶ one run of the model ─▶ each request's rows of it

Nobody waits for a timer.  A request that comes alone runs at once; what comes while the model is
busy is what the next run gathers.  A cheap model runs in the event loop itself, where handing the
work to a thread would cost more than the work; a dear one has a thread of its own, so that
sockets are read and other models answer meanwhile.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.model import Model

    Arrays = Mapping[str, NDArray[Any]]
    Done = Callable[["Arrays | Exception"], None]
    _Answer = tuple["Arrays | Exception", "Run"]

# A run that takes longer than this has a thread; to hand over costs about a tenth of it.
INLINE_SECONDS = 0.001
# What one run gathers at most: past some dozens of rows nothing is saved by more of them, and
# the first of them waits for the last.
ROWS_A_RUN = 64


@dataclass(slots=True)
class Run:
    """One run of a model: all its rows and what came of them, and its time by `perf_counter`.

    `counted` is for whoever counts runs, and comes to the same one from each of its requests.
    """

    rows: int
    started: float
    ended: float
    outputs: Arrays
    counted: bool = False


@dataclass(slots=True)
class _Waiting:
    """One request: its arrays, and whom to tell."""

    arrays: Arrays
    rows: int
    done: Done
    wanted: Callable[[], bool]


class _Queue:
    """What waits for one model, one set of heads, one set of shapes."""

    __slots__ = ("busy", "heads", "model", "waiting")

    def __init__(self, model: Model, heads: Sequence[str]) -> None:
        self.model = model
        self.heads = heads
        self.waiting: deque[_Waiting] = deque()
        self.busy = False


class _Pace:
    """How long a model's runs take of late, and its thread once that is too long for the loop."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.thread: ThreadPoolExecutor | None = None


class Batcher:
    """All queues of one event loop, which is the only thread that calls it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, gather: bool = True) -> None:
        """Run models for `loop`; each request by itself unless `gather`."""
        self._loop = loop
        self._gather = gather
        self._queues: dict[tuple[Any, ...], _Queue] = {}
        self._paces: WeakKeyDictionary[Model, _Pace] = WeakKeyDictionary()
        self.run = Run(0, 0.0, 0.0, {})
        """While a `done` is called: the run that it hears of."""

    def submit(  # noqa: PLR0913, PLR0917  to wrap them in an object would cost each request
        self,
        model: Model,
        heads: Sequence[str],
        arrays: Arrays,
        done: Done,
        wanted: Callable[[], bool],
        name: str = "",
    ) -> None:
        """Have `heads` computed, and `done` called with them by head, or with the exception.

        Args:
            model: what to run.
            heads: as for `model.predict`.
            arrays: likewise.
            done: called in the event loop.
            wanted: asked just before the run; a request that nobody waits for is dropped.
            name: what was asked, the model or a view of it; each has runs of its own, which can be
                told apart when they are counted.
        """
        rows = len(next(iter(arrays.values())))
        key = (id(model), name, heads, *(array.shape[1:] for array in arrays.values()))
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue(model, heads)
        queue.waiting.append(_Waiting(arrays, rows, done, wanted))
        if not queue.busy:
            queue.busy = True
            # After all sockets that are readable now: their requests join this run.
            self._loop.call_soon(self._run_next, key, queue)

    def _run_next(self, key: tuple[Any, ...], queue: _Queue) -> None:
        batch = self._take(queue)
        if not batch:
            del self._queues[key]
            return
        pace = self._paces.setdefault(queue.model, _Pace())
        if pace.seconds < INLINE_SECONDS:
            self._finish(key, queue, batch, _run(queue, batch))
            return
        if pace.thread is None:
            pace.thread = ThreadPoolExecutor(1, "model")
        pace.thread.submit(self._run_in_thread, key, queue, batch)

    def _take(self, queue: _Queue) -> list[_Waiting]:
        """The next requests to run together; those that nobody waits for are dropped here."""
        batch: list[_Waiting] = []
        rows = 0
        alone = not self._gather or queue.model.signature.batch is not None
        while queue.waiting:
            first = queue.waiting[0]
            if batch and (alone or rows + first.rows > ROWS_A_RUN):
                break
            queue.waiting.popleft()
            if first.wanted():
                batch.append(first)
                rows += first.rows
        return batch

    def _run_in_thread(self, key: tuple[Any, ...], queue: _Queue, batch: list[_Waiting]) -> None:
        self._loop.call_soon_threadsafe(self._finish, key, queue, batch, _run(queue, batch))

    def _finish(
        self,
        key: tuple[Any, ...],
        queue: _Queue,
        batch: list[_Waiting],
        answers: list[_Answer],
    ) -> None:
        pace = self._paces[queue.model]
        # Half of what it was and half of what it is, so that it follows the load in a few runs.
        pace.seconds = (pace.seconds + answers[-1][1].ended - answers[0][1].started) / 2
        for waiting, (answer, self.run) in zip(batch, answers, strict=True):
            waiting.done(answer)
        if queue.waiting:
            self._loop.call_soon(self._run_next, key, queue)
        else:
            del self._queues[key]


def _run(queue: _Queue, batch: Sequence[_Waiting]) -> list[_Answer]:
    """Each request's answer, from one run if that is possible."""
    if len(batch) > 1:
        started = perf_counter()
        arrays = {
            name: np.concatenate([waiting.arrays[name] for waiting in batch])
            for name in batch[0].arrays
        }
        outputs = _try(queue, arrays)
        if not isinstance(outputs, Exception):
            ends = np.cumsum([waiting.rows for waiting in batch]).tolist()
            run = Run(ends[-1], started, perf_counter(), outputs)
            return [
                ({head: output[end - waiting.rows : end] for head, output in outputs.items()}, run)
                for end, waiting in zip(ends, batch, strict=True)
            ]
        # One of them fails the run: alone, it fails only its own.
    return [_run_alone(queue, waiting) for waiting in batch]


def _run_alone(queue: _Queue, waiting: _Waiting) -> _Answer:
    started = perf_counter()
    outputs = _try(queue, waiting.arrays)
    ended = perf_counter()
    kept = {} if isinstance(outputs, Exception) else outputs
    return outputs, Run(waiting.rows, started, ended, kept)


def _try(queue: _Queue, arrays: Arrays) -> Arrays | Exception:
    try:
        return queue.model.predict(arrays, queue.heads)
    except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's to hear
        return error
