"""Gathering: the clients that a run answered are expected in the next, and nobody else is."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import numpy as np
import pytest

from service.inference import gathering
from service.inference.batcher import Batcher
from service.inference.gathering import LOST_WAITS, RUNS_WITHOUT, TICK, Gathering
from service.inference.lane import FEW_ROWS, Lane
from service.inference.model import SET, Model
from tests.harness import small

# A model's usual time that makes a wait long enough to be seen, and to be cut short.
SECONDS = 5.0
ROW = np.ones((1, 2), np.float32)


class Watched(Model):
    """A model that takes some time, and records the rows of each run."""

    runs: ClassVar[list[int]] = []

    def predict(self, arrays: Any, heads: Any) -> Any:
        """Record the run, and predict."""
        self.runs.append(len(next(iter(arrays.values()))))
        time.sleep(0.005)
        return super().predict(arrays, heads)


class Asked:
    """A waiting request of a client that stays, or not."""

    def __init__(self, *, stays: bool = True) -> None:
        self.answered = asyncio.Event()
        self._stays = stays

    def wanted(self) -> bool:
        """Return True: the answer is still wanted."""
        return True

    def may_return(self) -> bool:
        """Return whether the client stays."""
        return self._stays

    def done(self, result: Any) -> None:
        """Take the answer."""
        assert not isinstance(result, Exception)
        self.answered.set()


@pytest.fixture
def lane(monkeypatch):
    """Return the lane of a slow model, whose waits are long enough for a busy machine."""
    monkeypatch.setattr(gathering, "MOST", SECONDS)
    model = Watched.load(small.three())
    model.runs = []
    lane = Lane(model)
    lane.seconds = 2 * SECONDS
    return lane


def submit(
    batcher: Batcher, lane: Lane, *, stays: bool = True, head: str = "size", rows: int = 1
) -> asyncio.Event:
    """Submit a request; return the event of its answer."""
    asked = Asked(stays=stays)
    batcher.submit(lane, "small", (head,), {"fruit": ROW.repeat(rows, 0)}, asked)
    return asked.answered


async def answered(*events: asyncio.Event) -> None:
    """Wait for answers, for longer than any wait should be."""
    await asyncio.wait_for(asyncio.gather(*(event.wait() for event in events)), 4)


def test_the_clients_of_a_run_share_the_next(lane):
    """Clients that return one after another run together, as soon as the last is back."""

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop())
        await answered(*(submit(batcher, lane) for _ in range(4)))
        lane.seconds = SECONDS
        again = []
        for _ in range(4):
            await asyncio.sleep(0.002)
            again.append(submit(batcher, lane))
        await answered(*again)

    started = time.monotonic()
    asyncio.run(main())
    assert lane.model.runs == [4, 4]
    assert time.monotonic() - started < 0.9 * gathering.longest(SECONDS) + 1


def test_requests_that_waited_during_the_run_are_counted(lane):
    """The next run has those that were answered and those that came meanwhile."""

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop())
        first = [submit(batcher, lane) for _ in range(2)]
        await asyncio.sleep(0)
        assert lane.running
        meanwhile = [submit(batcher, lane) for _ in range(3)]
        await answered(*first)
        await asyncio.sleep(0.01)
        assert lane.model.runs == [2]
        await answered(*(submit(batcher, lane) for _ in range(2)), *meanwhile)

    asyncio.run(main())
    assert lane.model.runs == [2, 5]


def test_nobody_else_is_waited_for(lane):
    """A lone client, and one whose connection is closed, delay no run."""

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop())
        for _ in range(3):
            await answered(submit(batcher, lane))
        await answered(*(submit(batcher, lane, stays=False) for _ in range(3)))
        for queue in lane.queues.values():
            assert (queue.expected, queue.timer, queue.busy) == (0, None, False)
        await answered(submit(batcher, lane))

    asyncio.run(main())
    assert lane.model.runs == [1, 1, 1, 3, 1]


def test_a_wait_ends_by_time(lane):
    """Those that came run when the wait is over, and a queue in which nobody waits is idle."""

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop())
        await answered(*(submit(batcher, lane) for _ in range(3)))
        lane.seconds = 0.02
        queue = next(iter(lane.queues.values()))
        await answered(submit(batcher, lane))
        await asyncio.sleep(0.05)
        assert not queue.busy

    lane.seconds = 0.3
    asyncio.run(main())
    assert lane.model.runs == [3, 1]


def test_a_full_run_waits_for_nobody(lane):
    """A run of as many rows as a run may have starts although more clients are expected."""

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop())
        lane.note(1.0)
        assert lane.most == FEW_ROWS
        await answered(*(submit(batcher, lane, rows=4) for _ in range(4)))
        await answered(*(submit(batcher, lane, rows=8) for _ in range(2)))

    asyncio.run(main())
    assert lane.model.runs == [16, 16]


def test_other_heads_are_not_delayed(lane):
    """While one queue of a model waits, another one runs."""

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop())
        await answered(*(submit(batcher, lane) for _ in range(2)))
        waiting = submit(batcher, lane)
        await answered(submit(batcher, lane, head="tags"))
        assert not waiting.is_set()
        await answered(submit(batcher, lane), waiting)

    asyncio.run(main())
    assert lane.model.runs == [2, 1, 2]


def test_a_queue_whose_turn_is_forced_runs_once(lane):
    """The watchdog's turn ends the wait, and the end of the wait is no second turn."""

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop())
        await answered(*(submit(batcher, lane) for _ in range(2)))
        waiting = submit(batcher, lane)
        batcher.nudge(lane)
        await answered(waiting)
        assert next(iter(lane.queues.values())).turns == 2

    asyncio.run(main())
    assert lane.model.runs == [2, 1]


def test_requests_that_share_no_run_wait_for_none(lane):
    """A model that runs each request alone has nothing to gather."""

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop())
        await answered(*(submit(batcher, lane) for _ in range(2)))
        assert all(queue.expected == 0 for queue in lane.queues.values())

    lane.model.batching = SET
    asyncio.run(main())
    assert lane.model.runs == [1, 1]


def test_waits_in_vain_are_given_up_and_tried_again():
    """After some lost waits a queue runs at once; every few dozen runs it tries one."""
    queue = Gathering()
    for _ in range(LOST_WAITS):
        assert queue.expected(3, 1) == 4
        queue.ended(in_time=False)

    tried = []
    for run in range(2 * RUNS_WITHOUT):
        if queue.expected(3, 1):
            tried.append(run)
            queue.ended(in_time=False)

    assert tried == [RUNS_WITHOUT - 1, 2 * RUNS_WITHOUT - 1]
    while not queue.expected(3, 1):
        pass
    queue.ended(in_time=True)
    assert queue.expected(2, 0) == 2


def test_a_wait_has_bounds():
    """It is a fifth of the usual time of a run, from a tick of the timers to a twentieth second."""
    assert gathering.longest(0.05) == pytest.approx(0.01)
    assert gathering.longest(0.001) == TICK
    assert gathering.longest(30) == gathering.MOST == pytest.approx(0.05)
