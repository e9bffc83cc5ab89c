"""A model whose queue is stuck is noticed, and the requests that wait for it end in time."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import threading
import time
from typing import Any

import pytest

from service.inference.lane import Lane, Queue
from service.inference.model import Model
from service.server.watchdog import Bounds, Watchdog
from tests.harness import small
from tests.harness.changing import point
from tests.harness.exposition import samples
from tests.harness.lanes import lane_of
from tests.harness.served import BODY, JSON, Served, post
from tests.harness.shares import share


class Calls:
    """A batcher that counts the calls of the watchdog."""

    def __init__(self) -> None:
        self.dropped = 0
        self.nudged = 0

    def drop_unwanted(self, _: Lane) -> None:
        """Count a call."""
        self.dropped += 1

    def nudge(self, _: Lane) -> None:
        """Count a call."""
        self.nudged += 1


@pytest.fixture(name="lane")
def _lane() -> Lane:
    """Return a lane with one queue, which has work."""
    lane = Lane(Model.load(small.three()))
    queue = lane.queues["small",] = Queue(("size",))
    queue.busy = True
    return lane


@pytest.mark.parametrize(
    ("running", "usual", "bound"),
    [
        pytest.param(False, 0.0, Bounds().idle, id="idle"),
        pytest.param(True, 0.01, Bounds().running, id="running"),
        pytest.param(True, 30.0, 30.0 * Bounds().usual_runs, id="running a slow model"),
    ],
)
def test_a_queue_without_a_turn_is_noticed_once_it_is_over_its_bound(
    lane, running, usual, bound, caplog
):
    """The queue is logged once beyond its bound, and again once it has had a turn."""
    calls, [queue] = Calls(), lane.queues.values()
    lane.running, lane.seconds = running, usual
    watched = Watchdog(calls)
    assert watched.look([(lane, "m")], 100) == {"m": 0}
    assert watched.look([(lane, "m")], 100 + bound) == {"m": bound}
    assert (watched.reason, calls.nudged) == ("", 0)

    for late in range(1, 4):
        assert watched.look([(lane, "m")], 100 + bound + late) == {"m": bound + late}
        expected = f"model 'm': its requests wait, and it has begun no run for {bound + late:.0f} s"
        assert (watched.reason, calls.nudged) == (expected, late)
    assert caplog.text.count("its requests wait") == 1

    queue.turns += 1
    assert watched.look([(lane, "m")], 1000) == {"m": 0}
    assert watched.reason == ""
    assert caplog.text.count("model 'm' runs again") == 1


def test_a_queue_that_has_turns_or_no_work_has_no_age(lane):
    """Such a queue has no age, although each look finds requests in it."""
    calls, [queue] = Calls(), lane.queues.values()
    watched = Watchdog(calls)
    for now in range(0, 1000, 100):
        queue.turns += 1
        assert watched.look([(lane, "m")], now) == {"m": 0}
    queue.busy = False
    for now in range(1000, 2000, 100):
        assert watched.look([(lane, "m")], now) == {"m": 0}
    queue.busy = True
    assert watched.look([(lane, "m")], 2000) == {"m": 0}
    assert calls.dropped == 0


@pytest.fixture(name="hung")
def _hung(tmp_path, monkeypatch):
    """Yield a front whose model hangs in a thread, and the event that lets it go on."""
    small.put(tmp_path, "three", 1, small.three())
    small.put(tmp_path, "other", 1, small.three(2.0))
    go_on = threading.Event()
    served = Served(tmp_path, default_model="three", watch=0)
    served.front.watchdog.bounds = Bounds(running=0.5, usual_runs=0)
    lane = lane_of(served)
    predict = Model.predict

    def wait(self: Model, arrays: Any, heads: Any) -> Any:
        if self is lane.model:
            go_on.wait(20)
        return predict(self, arrays, heads)

    monkeypatch.setattr(Model, "predict", wait)
    lane.seconds = 1.0
    yield served, go_on
    go_on.set()
    served.stop()


def _ask(served: Served, statuses: list[int], **headers: str) -> threading.Thread:
    """Send a request to the model that hangs, in a thread."""

    def ask() -> None:
        statuses.append(served.ask("POST", "/predict", BODY, {**JSON, **headers})[0])

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def _until(true: Any) -> None:
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _ready(served: Served) -> tuple[int, Any]:
    status, _, content = served.ask("GET", "/readyz")
    return status, json.loads(content)


def test_a_model_that_hangs_is_not_ready_until_it_goes_on(hung, caplog):
    """Its requests end at their deadlines, other models answer, and it recovers by itself."""
    served, go_on = hung
    statuses: list[int] = []
    lane = lane_of(served)
    threads = [_ask(served, statuses)]
    _until(lambda: lane.running)
    late: list[int] = []
    threads.append(_ask(served, late, **{"X-Request-Timeout": "0.1"}))
    with contextlib.closing(socket.create_connection(("127.0.0.1", served.port))) as s:
        s.sendall(post(BODY))
        _until(lambda: lane.rows == 2)

    # Neither of the two needs a run to end.
    _until(lambda: lane.rows == 0 and late == [504])
    _until(lambda: _ready(served)[0] == 503)
    report = _ready(served)[1]
    assert report["status"] == "not ready"
    assert report["reason"].startswith("model 'three': its requests wait, and it has begun no run")
    assert [served.ask("GET", path)[0] for path in ("/v2/health/ready", "/ping")] == [503, 503]
    assert served.ask("GET", "/livez")[0] == 200
    assert served.ask("POST", "/models/other/predict", BODY, JSON)[0] == 200

    def numbers() -> dict[Any, float]:
        return samples(served.ask("GET", "/metrics")[2].decode())

    _until(lambda: ("triceps_queue_seconds", "other") in numbers())
    assert numbers()["triceps_queue_seconds", "three"] >= 1
    assert numbers()["triceps_queue_seconds", "other"] == 0

    go_on.set()
    for thread in threads:
        thread.join(10)
    assert statuses == [200]
    _until(lambda: _ready(served)[0] == 200)
    numbers = samples(served.ask("GET", "/metrics")[2].decode())
    assert numbers["triceps_queue_seconds", "three"] == 0
    assert caplog.text.count("its requests wait") == 1
    assert caplog.text.count("model 'three' runs again") == 1


def test_a_model_that_was_replaced_is_watched_while_it_has_work(hung, tmp_path):
    """It is no longer watched after its last request, since its memory may be reused."""
    served, go_on = hung
    statuses: list[int] = []
    former = lane_of(served)
    threads = [_ask(served, statuses)]
    _until(lambda: former.running)
    threads.append(_ask(served, statuses, **{"X-Request-Timeout": "0.1"}))
    _until(lambda: former.rows == 1)
    small.put(tmp_path, "three", 2, small.three(3.0))
    shutil.rmtree(tmp_path / "three" / "1")
    served.app.extensions["triceps"].refresh()
    _until(lambda: lane_of(served) is not former)

    _until(lambda: statuses == [504])
    assert former in served.front.table.watched
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
    go_on.set()
    for thread in threads:
        thread.join(10)
    _until(lambda: former not in served.front.table.watched)
    assert statuses == [504, 200]


def test_a_canary_that_hangs_is_asked_no_more_and_the_service_stays_ready(tmp_path, monkeypatch):
    """It does so too once the share ends, until the version is the stable one."""
    for version in (1, 2):
        small.put(tmp_path, "three", version, small.three(float(version)))
    point(tmp_path, "three", stable="1")
    share(tmp_path, "three", share=1.0)
    served = Served(tmp_path, default_model="three", watch=0)
    served.front.watchdog.bounds = Bounds(running=0.5, usual_runs=0)
    canary = served.front.table.find(b"/predict").canary
    go_on = threading.Event()
    predict = Model.predict

    def wait(self: Model, arrays: Any, heads: Any) -> Any:
        if self is canary.servable.model:
            go_on.wait(20)
        return predict(self, arrays, heads)

    def traffic() -> dict[str, Any]:
        return json.loads(served.ask("GET", "/models/three")[2])["traffic"]["canary"]

    def waits() -> float:
        return samples(served.ask("GET", "/metrics")[2].decode())["triceps_queue_seconds", "three"]

    monkeypatch.setattr(Model, "predict", wait)
    canary.lane.seconds = 1.0
    statuses: list[int] = []
    try:
        threads = [_ask(served, statuses)]
        _until(lambda: "reason" in traffic())
        assert re.fullmatch(
            r"it is asked no more, since a run of it has not ended for [\d.]+ m?s",
            traffic()["reason"],
        )
        assert traffic()["retreat"]["canary"]["runs"] == 1
        assert [served.ask("POST", "/predict", BODY, JSON)[0] for _ in range(3)] == [200] * 3
        assert _ready(served)[0] == 200

        share(tmp_path, "three")
        served.front.library.refresh()
        before = waits()
        _until(lambda: waits() > before + 1)  # the watchdog has looked since
        assert _ready(served)[0] == 200

        point(tmp_path, "three", stable="2")
        served.front.library.refresh()
        threads.append(_ask(served, statuses))
        _until(lambda: _ready(served)[0] == 503)
    finally:
        go_on.set()
        served.stop()
    for thread in threads:
        thread.join(10)
