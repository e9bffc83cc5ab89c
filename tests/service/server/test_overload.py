"""Requests that exceed the queue are refused at once, and expired requests are not run."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from service.http.connection import Connection
from service.http.request import Request
from service.inference.lane import LEAST_WAITING, PACED_RUNS, Lane
from service.inference.model import Model
from service.wire import limits
from tests.harness import small
from tests.harness.lanes import lane_of, overload, pace
from tests.harness.served import BODY, JSON, Served, post

V2 = {
    "inputs": [
        {"name": "fruit", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
    ],
    "outputs": [{"name": "size"}],
}
FULL = (
    "model 'three': its queue is full (TRICEPS_QUEUE is 0.1 s of work); this request was not run, "
    "try again a little later"
)


@pytest.fixture(name="served")
def _served(tmp_path):
    small.put(tmp_path, "three", 1, small.three())
    served = Served(tmp_path, max_body=1_000_000, max_in_flight=2_000_000, threads=1)
    yield served
    served.stop()


@pytest.fixture(name="full")
def _full(served, monkeypatch):
    """Queue 100 s of work, and return the wait in a list so that a test can change it."""
    waits = [100.0]
    lane_of(served).requests = LEAST_WAITING
    monkeypatch.setattr(Lane, "wait", property(lambda _: waits[0]))
    monkeypatch.setattr("service.wire.native.fast.Decoder.decode", None)
    return waits


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        pytest.param("/predict", BODY, {"error": FULL}, id="native"),
        pytest.param("/v2/models/three/infer", json.dumps(V2).encode(), {"error": FULL}, id="oip"),
        pytest.param("/v1/models/three:predict", BODY, {"error": FULL}, id="tfserving"),
        pytest.param(
            "/invocations",
            BODY,
            {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": FULL},
            id="mlflow",
        ),
    ],
)
def test_a_full_queue_refuses_before_it_decodes(served, full, path, body, answer):
    """A refusal has the form of the dialect's errors, and says when to try again."""
    status, headers, content = served.ask("POST", path, body, JSON)

    assert (status, json.loads(content)) == (429, answer)
    assert headers["retry-after"] == "1"
    assert served.ask("GET", "/readyz")[0] == 200


def test_a_refused_connection_is_answered_once_the_queue_is_shorter(served, full, monkeypatch):
    """A refusal does not close the connection: later requests on it are answered."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)) as c:
        statuses = []
        for wait in (100.0, 0.0, 100.0, 0.05):
            full[0] = wait
            if wait < 1:
                monkeypatch.undo()
                monkeypatch.setattr(Lane, "wait", property(lambda _: full[0]))
            c.request("POST", "/predict", BODY, JSON)
            with c.getresponse() as answer:
                answer.read()
            statuses.append(answer.status)
    assert statuses == [429, 200, 429, 200]


def test_requests_that_arrive_together_count_before_they_are_decoded(served):
    """Each request counts from its admission, so none is decoded only to be refused."""
    lane = lane_of(served)
    admitted: list[int] = []

    def ask() -> None:
        pace(lane, 0.011)
        connection = Connection(served.front.connections, served.front, lambda: None)
        request = Request(b"POST", "1.1", b"/predict", {}, BODY, True, connection)
        for _ in range(20):
            served.front.answer(request)
        admitted.append(len(served.front.arrived))
        admitted.append(lane.coming)
        served.loop.call_soon(decoded)

    def decoded() -> None:
        admitted.append(lane.coming)
        done.set()

    done = threading.Event()
    served.loop.call_soon_threadsafe(ask)
    assert done.wait(5)

    assert admitted == [10, 10, 0]


class Caller:
    """A connection that notes the statuses of its answers."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def is_open(self) -> bool:
        """Return True: the connection stays open."""
        return True

    def common(self, *_: Any) -> bytes:
        """Return no header lines."""
        return b""

    def respond(self, request: Request, status: int, *_: Any) -> None:
        """Note the status of an answer."""
        del request
        self.statuses.append(status)


def _in_loop(served: Served, function: Any) -> None:
    """Call a function in the event loop, and wait until the work that it starts is done."""
    done = threading.Event()
    served.loop.call_soon_threadsafe(function)
    served.loop.call_soon_threadsafe(lambda: served.loop.call_later(0.1, done.set))
    assert done.wait(5)


class Again(Caller):
    """A connection that asks again after each answer, for a number of times."""

    def __init__(self, served: Served, times: int) -> None:
        super().__init__()
        self._served = served
        self._times = times

    def ask(self) -> None:
        """Send a request for one row."""
        headers = {b"content-type": b"application/json"}
        self._served.front.answer(Request(b"POST", "1.1", b"/predict", headers, BODY, True, self))

    def respond(self, request: Request, status: int, *more: Any) -> None:
        """Note the answer, and ask again."""
        super().respond(request, status, *more)
        if len(self.statuses) < self._times:
            self._served.loop.call_soon(self.ask)


@pytest.mark.parametrize("row_seconds", [0.1, 1.0])
@pytest.mark.parametrize("is_short", [False, True])
def test_eight_callers_side_by_side_are_never_refused(served, row_seconds, is_short, monkeypatch):
    """Eight clients are not an overload, however slow the model seems: its pace may be wrong."""
    monkeypatch.setattr(Lane, "note_run", lambda *_: None)
    lane = lane_of(served)
    callers = [Again(served, 5) for _ in range(8)]

    def begin() -> None:
        pace(lane, row_seconds)
        if is_short:
            overload(lane)
        for caller in callers:
            caller.ask()

    served.loop.call_soon_threadsafe(begin)
    _until(lambda: all(len(caller.statuses) == 5 for caller in callers))

    assert [caller.statuses for caller in callers] == [[200] * 5] * 8


def test_rows_are_known_once_they_are_decoded(served):
    """When two large requests arrive together, the second is refused after it is decoded."""
    lane = lane_of(served)
    body = json.dumps({"instances": [json.loads(BODY)["instances"][0]] * 20}).encode()
    caller = Caller()

    def ask() -> None:
        pace(lane, 0.01)
        for _ in range(2):
            headers = {b"content-type": b"application/json"}
            request = Request(b"POST", "1.1", b"/predict", headers, body, True, caller)
            served.front.answer(request)
        assert len(served.front.arrived) == 2

    _in_loop(served, ask)

    assert sorted(caller.statuses) == [200, 429]


def test_the_rows_of_one_caller_refuse_no_other(served):
    """A large request makes the queue long; a small request beside it waits, and is answered."""
    lane = lane_of(served)
    large = json.dumps({"instances": [json.loads(BODY)["instances"][0]] * 200}).encode()
    caller = Caller()

    def ask() -> None:
        pace(lane, 0.01)
        for body in (large, BODY, BODY):
            headers = {b"content-type": b"application/json"}
            request = Request(b"POST", "1.1", b"/predict", headers, body, True, caller)
            served.front.answer(request)

    _in_loop(served, ask)

    assert caller.statuses == [200, 200, 200]


def test_a_lasting_overload_is_reported_to_poll_coalescing(served, monkeypatch):
    """In a lasting overload, each further request is reported to poll coalescing."""
    overruns: list[Any] = []
    monkeypatch.setattr(served.front.poll_coalescing, "overrun", lambda *a: overruns.append(a))
    lane = lane_of(served)
    served.ask("POST", "/predict", BODY, JSON)
    assert not overruns

    overload(lane)
    served.ask("POST", "/predict", BODY, JSON)

    assert overruns == [(lane, {lane}, served.front.executor)]


def test_a_stopping_service_says_that_it_is_stopping(served, full):
    """A stopping service refuses predictions with 503, is not ready, and closes its connections."""
    served.front.drain()

    assert served.ask("POST", "/predict", BODY, JSON)[0] == 503
    status, headers, content = served.ask("GET", "/readyz")
    assert (status, json.loads(content)) == (
        503,
        {"status": "not ready", "reason": "it is stopping"},
    )
    assert headers["connection"] == "close"
    for path in ("/v2/health/ready", "/ping"):
        assert served.ask("GET", path)[0] == 503


class Slow(Model):
    """A model that takes 0.3 s a run, and notes the rows of each run."""

    def predict(self, arrays: Any, heads: Any) -> Any:
        """Predict as a model does, but slowly."""
        self.runs: list[int]
        time.sleep(0.3)
        self.runs.append(len(next(iter(arrays.values()))))
        return super().predict(arrays, heads)


@pytest.fixture(name="slow")
def _slow(served, monkeypatch):
    """Return the rows of each run; a run takes 0.3 s, in a thread as for slow models."""
    runs: list[int] = []
    predict = Model.predict

    def slowly(self: Model, arrays: Any, heads: Any) -> Any:
        time.sleep(0.3)
        runs.append(len(next(iter(arrays.values()))))
        return predict(self, arrays, heads)

    monkeypatch.setattr(Model, "predict", slowly)
    lane_of(served).seconds = 1.0
    return runs


def _while_busy(served: Served, ask: Any) -> Any:
    """Return the result of `ask` while another request runs."""
    busy = threading.Thread(target=served.ask, args=("POST", "/predict", BODY, JSON))
    busy.start()
    time.sleep(0.1)
    try:
        return ask()
    finally:
        busy.join()


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        pytest.param("/predict", BODY, {"X-Request-Timeout": "0.05"}, id="by header"),
        pytest.param(
            "/v2/models/three/infer",
            json.dumps({**V2, "parameters": {"timeout": 50_000}}).encode(),
            {},
            id="by OIP, in microseconds",
        ),
        pytest.param(
            "/v2/models/three/infer",
            json.dumps({**V2, "parameters": {"timeout": 5_000_000}}).encode(),
            {"X-Request-Timeout": "0.05"},
            id="by header before OIP",
        ),
    ],
)
def test_an_expired_request_is_dropped_before_it_runs(served, slow, path, body, headers):
    """An expired request is answered 504; the request that runs beside it is answered."""
    status, _, content = _while_busy(
        served, lambda: served.ask("POST", path, body, {**JSON, **headers})
    )

    assert (status, json.loads(content)) == (
        504,
        {
            "error": "request: expected to be run within 0.05 s (X-Request-Timeout, grpc-timeout "
            "or TRICEPS_TIMEOUT), and was not; dropped"
        },
    )
    assert slow == [1]


def test_an_expired_body_is_not_read(served, monkeypatch):
    """A thread has others to read, which are still waited for."""
    read, hold, executor = [], threading.Event(), served.front.executor
    reader = limits.read
    monkeypatch.setattr(limits, "read", lambda *given: read.append(1) or reader(*given))
    for size in (limits.AT_ONCE, limits.QUICK + 1):
        executor.apart(size, lambda: hold.wait(20), lambda _: None)
    headers = {**JSON, "X-Request-Timeout": "0.05"}
    threading.Timer(0.5, hold.set).start()

    status, _, _ = served.ask("POST", "/predict", b"[".ljust(limits.AT_ONCE + 1), headers)

    assert status == 504
    assert not read


def test_a_request_without_a_deadline_has_that_of_the_settings(served, slow):
    """A request that states no timeout has that of the settings."""
    for route in served.front.table.routes.values():
        object.__setattr__(route, "timeout", 0.05)

    status, _, _ = _while_busy(served, lambda: served.ask("POST", "/predict", BODY, JSON))

    assert status == 504


def test_a_request_within_its_deadline_is_answered(served, slow):
    """A request that waits, but not past its deadline, is answered."""
    headers = {**JSON, "X-Request-Timeout": "5"}

    status, _, _ = _while_busy(served, lambda: served.ask("POST", "/predict", BODY, headers))

    assert status == 200
    assert slow == [1, 1]


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_timeout_that_is_no_number_above_0_is_refused(served, seconds):
    """A timeout that cannot be read is refused rather than taken for another."""
    status, _, content = served.ask(
        "POST", "/predict", BODY, {**JSON, "X-Request-Timeout": seconds}
    )

    assert status == 400
    assert json.loads(content)["error"] == (
        f"X-Request-Timeout: expected a number of seconds above 0, received {seconds!r}"
    )


def _until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_bodies_in_flight_have_a_bound(served):
    """A body beyond the bound is refused, and accepted once there is room again."""
    large = b" " * 500_000
    with served.half(900_000), served.half(300_000):
        _until(lambda: served.front.connections.bodies.held == 1_199_998)
        announced = served.raw(post(large)[:200])
        chunks = b"Transfer-Encoding: chunked\r\n\r\n" + b"7a120\r\n" + large + b"\r\n0\r\n\r\n"
        chunked = served.raw(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + chunks)
        small_one = served.ask("POST", "/predict", BODY, JSON)[0]
    _until(lambda: served.front.connections.bodies.held == 0)

    for answer in (announced, chunked):
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert b"expected at most 2000000 bytes in all bodies that a process holds" in answer
    assert small_one == 200
    assert served.ask("POST", "/predict", large, JSON)[0] == 400


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([post(BODY)], id="answered"),
        pytest.param([post(BODY) * 3], id="one after another"),
        pytest.param([post(b"{") * 2], id="refused"),
        pytest.param([post(BODY) + b"nonsense\r\n\r\n"], id="and then nonsense"),
        pytest.param([post(BODY, b"Content-Length: 9")], id="nonsense"),
        pytest.param([post(b" " * 999_999)[:-1]], id="cut"),
        pytest.param([post(b" " * 1_000_001)], id="too large"),
        pytest.param(
            [b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"], id="for Flask"
        ),
    ],
)
def test_no_byte_stays_counted_after_its_request(served, pieces):
    """However a request ends, the bytes that it held are released."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as sock:
        for piece in pieces:
            with contextlib.suppress(OSError):
                sock.sendall(piece)
        time.sleep(0.1)
    _until(lambda: not served.front.connections.open)

    assert served.front.connections.bodies.held == 0
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200


def test_who_asks_for_its_health_waits_for_no_thread(served, monkeypatch):
    """All of them may be busy, with loading on demand for example."""
    release = threading.Event()
    served.front.threads.submit(release.wait, 10)
    try:
        assert [
            served.ask("GET", path)[0]
            for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/ping")
        ] == [200] * 5
    finally:
        release.set()


def test_a_lane_knows_its_wait_once_it_knows_its_pace():
    """One slow run among the first counts for nothing, and each later one for little."""
    lane = Lane(Model.load(small.three()))
    lane.rows = 100
    for seconds in [0.5, *[0.001] * (PACED_RUNS - 2)]:
        lane.note(seconds)
        assert lane.wait == 0

    lane.note(0.002)
    assert lane.wait == pytest.approx(0.1)
    lane.note(1.0)
    assert lane.wait == pytest.approx(0.1 * (1 + 1 / PACED_RUNS))
    for _ in range(100):
        lane.note(0.01)
    assert lane.wait == pytest.approx(1, rel=0.01)
    lane.note(0.001)
    assert lane.wait == pytest.approx(0.1)


def test_rows_wait_until_they_run(served, slow):
    """The rows of each request count as waiting until they have run, or have been dropped."""
    lane = lane_of(served)
    bodies = [json.dumps({"instances": [[1, 2]] * n, "heads": ["size"]}) for n in (2, 3)]
    assert lane.rows == 0

    def look() -> int:
        threads = [
            threading.Thread(target=served.ask, args=("POST", "/predict", body.encode(), JSON))
            for body in bodies
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        waiting = lane.rows
        for thread in threads:
            thread.join()
        return waiting

    small_bodies = json.dumps({"instances": [{"fruit": [1, 2]}] * 2, "heads": ["size"]})
    bodies[0] = small_bodies
    bodies[1] = json.dumps({"instances": [{"fruit": [1, 2]}] * 3, "heads": ["size"]})
    assert _while_busy(served, look) in (2, 3, 5)
    assert lane.rows == 0
    assert np.sum(slow) == 6
