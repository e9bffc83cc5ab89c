"""The loop rests only where one model alone is asked more than it can do, and not for long."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest
import small

from service import rest as rests
from service.batcher import Batcher, Lane
from service.model import Model
from service.rest import ALONE_SECONDS, Rest


class Calls:
    """A loop that keeps what it is to call, and a batcher that notes that it was waited for."""

    def __init__(self) -> None:
        self.soon: list[Any] = []
        self.waited: list[float] = []

    def call_soon(self, function: Any, *arguments: Any) -> None:
        """Keep it."""
        self.soon.append((function, arguments))

    def wait_for_a_run(self, seconds: float) -> None:
        """Note it."""
        self.waited.append(seconds)

    def run(self) -> None:
        """Call what was kept."""
        soon, self.soon = self.soon, []
        for function, arguments in soon:
            function(*arguments)


def overrun() -> Lane:
    """A lane whose model runs."""
    lane = Lane(Model.load(small.three()))
    lane.running = True
    return lane


@pytest.fixture(name="calls")
def _calls() -> Calls:
    return Calls()


def test_it_rests_once_for_all_that_come_together(calls):
    """And again for the next."""
    rest, lane = Rest(calls), overrun()
    for _ in range(3):
        for _ in range(5):
            rest.overrun(lane, {lane}, calls)
        calls.run()

    assert calls.waited == [rests.SECONDS] * 3


def test_it_does_not_rest_while_the_model_does_not_run(calls):
    """Nor once it no longer does."""
    rest, lane = Rest(calls), overrun()
    lane.running = False
    rest.overrun(lane, {lane}, calls)
    lane.running = True
    rest.overrun(lane, {lane}, calls)
    lane.running = False
    calls.run()

    assert calls.waited == []


@pytest.mark.parametrize(("before", "rests_then"), [(0.1, False), (ALONE_SECONDS + 0.1, True)])
def test_it_does_not_rest_while_others_are_asked(calls, before, rests_then):
    """A slow model holds no fast one up."""
    rest, lane, other = Rest(calls), overrun(), overrun()
    lane.asked, other.asked = 100.0, 100.0 - before
    rest.overrun(lane, {lane, other}, calls)
    calls.run()

    assert bool(calls.waited) == rests_then


class Slow(Model):
    """A model that takes until it is told."""

    told = threading.Event()

    def predict(self, arrays: Any, heads: Any) -> Any:
        """Wait, and answer."""
        self.told.wait(10)
        return super().predict(arrays, heads)


class Asker:
    """Who waits for an answer."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()

    def wanted(self) -> bool:
        """Still."""
        return True

    def done(self, came: Any) -> None:
        """Take it."""
        del came
        self.answered.set()


@pytest.mark.parametrize("ends", [True, False])
def test_a_wait_is_over_with_the_run(ends):
    """And at its bound, if the run takes longer; one that is over already is not waited for."""
    Slow.told.set()
    model = Slow.load(small.three())
    Slow.told.clear()

    async def main() -> list[float]:
        lane, batcher, asker = Lane(model), Batcher(asyncio.get_running_loop()), Asker()
        lane.seconds = 1.0
        batcher.submit(lane, "m", ("size",), {"fruit": np.ones((1, 2), np.float32)}, asker)
        await asyncio.sleep(0.05)
        assert lane.running
        if ends:
            threading.Timer(0.05, model.told.set).start()
        took = []
        for _ in range(2):
            started = time.perf_counter()
            batcher.wait_for_a_run(2.0 if ends else 0.05)
            took.append(time.perf_counter() - started)
        model.told.set()
        await asker.answered.wait()
        assert not lane.running
        return took

    first, second = asyncio.run(main())

    assert 0.03 < first < 1
    assert second < 1 if ends else second > 0.03
