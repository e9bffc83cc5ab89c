"""The loop pauses only while one model alone is overrun, and never for long."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from service.inference.batcher import Batcher
from service.inference.lane import Lane
from service.inference.model import Model
from service.server import poll_coalescing as rests
from service.server.poll_coalescing import ALONE_SECONDS, PollCoalescing
from tests.harness import small
from tests.harness.lanes import lane_of, overload, pace
from tests.harness.served import BODY, JSON, Served, post


class Calls:
    """A loop that keeps its callbacks, and a batcher that notes each wait for a run."""

    def __init__(self) -> None:
        self.soon: list[Any] = []
        self.waited: list[float] = []

    def call_soon(self, function: Any, *arguments: Any) -> None:
        """Keep a callback and its arguments."""
        self.soon.append((function, arguments))

    def wait_for_a_run(self, seconds: float) -> None:
        """Note a wait."""
        self.waited.append(seconds)

    def run(self) -> None:
        """Call the kept callbacks."""
        soon, self.soon = self.soon, []
        for function, arguments in soon:
            function(*arguments)


def overrun() -> Lane:
    """Return a lane whose model runs."""
    lane = Lane(Model.load(small.three()))
    lane.running = True
    return lane


@pytest.fixture(name="calls")
def _calls() -> Calls:
    return Calls()


def test_the_loop_pauses_once_for_requests_that_arrive_together(calls):
    """It pauses again for the next ones."""
    rest, lane = PollCoalescing(calls), overrun()
    for _ in range(3):
        for _ in range(5):
            rest.overrun(lane, {lane}, calls)
        calls.run()

    assert calls.waited == [rests.SECONDS] * 3


def test_the_loop_does_not_pause_while_the_model_does_not_run(calls):
    """It does not pause either if the run ends before the pause begins."""
    rest, lane = PollCoalescing(calls), overrun()
    lane.running = False
    rest.overrun(lane, {lane}, calls)
    lane.running = True
    rest.overrun(lane, {lane}, calls)
    lane.running = False
    calls.run()

    assert calls.waited == []


@pytest.mark.parametrize(("before", "pauses"), [(0.1, False), (ALONE_SECONDS + 0.1, True)])
def test_the_loop_does_not_pause_while_other_models_are_asked(calls, before, pauses):
    """A slow model must not delay a fast one."""
    rest, lane, other = PollCoalescing(calls), overrun(), overrun()
    lane.model.asked, other.model.asked = 100.0, 100.0 - before
    rest.overrun(lane, {lane, other}, calls)
    calls.run()

    assert bool(calls.waited) == pauses


@pytest.mark.parametrize(("before", "pauses"), [(0.1, False), (ALONE_SECONDS + 0.1, True)])
def test_the_loop_does_not_pause_while_pages_are_asked(calls, before, pauses):
    """A request for a page needs the loop several times."""
    rest, lane = PollCoalescing(calls), overrun()
    lane.model.asked, rest.page_asked = 100.0, 100.0 - before
    rest.overrun(lane, {lane}, calls)
    calls.run()

    assert bool(calls.waited) == pauses


class Slow(Model):
    """A model that runs until an event is set."""

    go_on = threading.Event()

    def predict(self, arrays: Any, heads: Any) -> Any:
        """Wait for the event, and predict."""
        self.go_on.wait(10)
        return super().predict(arrays, heads)


class Asker:
    """A request that waits for its answer."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()

    def wanted(self) -> bool:
        """Return True: the answer is still wanted."""
        return True

    def may_return(self) -> bool:
        """Return false: no other request follows."""
        return False

    def done(self, result: Any) -> None:
        """Take the answer."""
        del result
        self.answered.set()


@pytest.mark.parametrize("ends", [True, False])
def test_a_pause_ends_with_the_run(ends):
    """A pause ends at its bound if the run takes longer; there is none after the run."""
    Slow.go_on.set()
    model = Slow.load(small.three())
    Slow.go_on.clear()

    async def main() -> list[float]:
        lane, batcher, asker = Lane(model), Batcher(asyncio.get_running_loop()), Asker()
        lane.seconds = 1.0
        batcher.submit(lane, "m", ("size",), {"fruit": np.ones((1, 2), np.float32)}, asker)
        await asyncio.sleep(0.05)
        assert lane.running
        if ends:
            threading.Timer(0.05, model.go_on.set).start()
        took = []
        for _ in range(2):
            started = time.perf_counter()
            batcher.wait_for_a_run(2.0 if ends else 0.05)
            took.append(time.perf_counter() - started)
        model.go_on.set()
        await asker.answered.wait()
        assert not lane.running
        return took

    first, second = asyncio.run(main())

    assert 0.03 < first < 1
    assert second < 1 if ends else second > 0.03


def _attack(served: Served, stop: threading.Event) -> None:
    """Ask for more than the model can do, until `stop` is set."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock:
        while not stop.is_set():
            sock.sendall(post(BODY, path=b"/models/hung/predict"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 429 ")


def _ask(served: Served, method: str, path: str, body: bytes | None = None) -> float:
    """Return the seconds that an answer takes when nothing of its kind was requested lately."""
    for route in served.front.table.routes.values():
        if route.servable.name == "other":
            route.lane.model.asked = -math.inf
    served.front.poll_coalescing.page_asked = -math.inf
    started = time.perf_counter()
    assert served.ask(method, path, body, JSON)[0] == 200
    return time.perf_counter() - started


@pytest.fixture(name="attacked")
def _attacked(tmp_path, monkeypatch):
    """Yield a front with a model that hangs and is overrun, and its pauses so far."""
    for name in ("hung", "other"):
        small.put(tmp_path, name, 1, small.three())
    served = Served(tmp_path, watch=0)
    hung = lane_of(served, "/models/hung/predict")
    go_on, stop = threading.Event(), threading.Event()
    waited: list[float] = []
    predict, wait_for_a_run = Model.predict, served.front.executor.wait_for_a_run

    def hang(self: Model, arrays: Any, heads: Any) -> Any:
        if self is hung.model:
            go_on.wait(20)
        return predict(self, arrays, heads)

    def wait(seconds: float) -> None:
        waited.append(seconds)
        wait_for_a_run(seconds)

    def overrun_it() -> None:
        hung.requests, hung.rows = 1000, 1000
        pace(hung, 1.0)
        overload(hung)

    monkeypatch.setattr(Model, "predict", hang)
    monkeypatch.setattr(served.front.executor, "wait_for_a_run", wait)
    hung.seconds = 1.0
    threads = [threading.Thread(target=_ask, args=(served, "POST", "/models/hung/predict", BODY))]
    threads[0].start()
    _until(lambda: hung.running)
    served.loop.call_soon_threadsafe(overrun_it)
    threads += [threading.Thread(target=_attack, args=(served, stop)) for _ in range(4)]
    for thread in threads[1:]:
        thread.start()
    _until(lambda: waited)
    yield served, waited
    stop.set()
    go_on.set()
    for thread in threads:
        thread.join(10)
    served.stop()


def _until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(("GET", "/livez"), id="health"),
        pytest.param(("GET", "/models"), id="a page"),
        pytest.param(("POST", "/models/other/predict", BODY), id="another model"),
        pytest.param(("POST", "/models/other/predict", b" " * 4_000_000 + BODY), id="a large body"),
    ],
)
def test_an_overrun_model_delays_no_other_request_for_long(attacked, asked):
    """This holds although the model hangs, so that each pause is as long as it may be."""
    served, waited = attacked
    before = len(waited)
    took = [_ask(served, *asked) for _ in range(5)]

    assert len(waited) > before
    # One pause for each time that the loop is needed: to accept, to read and to answer.
    assert min(took) < 25 * rests.SECONDS
