"""Faults: an error in any step of one request costs that request a 500, and no other anything."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from service import prediction
from service.http.access import Access
from service.http.connection import Connection
from service.http.timeouts import Timeouts
from service.inference import batcher as batchers
from service.inference.batcher import Batcher
from service.inference.lane import Lane
from service.inference.model import Model
from service.observability.meter import Meter
from service.prediction import Prediction
from service.server.front import Front
from service.wire.native import answers, reference
from service.wire.native.fast import Decoder
from tests.harness import small
from tests.harness.served import JSON, Served, post

# The value that marks the failing request, and the model's output for it.
MARK = 6661
SIZE = b'"size":{"value":%d.0}'
BROKEN = "POST /predict: an error of the service; it is logged"


def body(value: int) -> bytes:
    """Return a request for the size of one fruit, which is its weight."""
    row = {"instances": [{"fruit": [value, 0]}], "heads": ["size"]}
    return json.dumps(row).encode()


class Fault:
    """A step that fails in the marked request, and the number of its failures."""

    def __init__(self, patch: pytest.MonkeyPatch, error: type[Exception]) -> None:
        self._patch = patch
        self._error = error
        self.times = 0
        # Whether the loop handles the marked request, for steps that do not receive it.
        self._is_marked = False

    def within(self, owner: Any, name: str, is_marked: Any) -> None:
        """Record while a function handles the marked request."""
        function = getattr(owner, name)

        def known(*arguments: Any) -> Any:
            self._is_marked = is_marked(*arguments)
            try:
                return function(*arguments)
            finally:
                self._is_marked = False

        self._patch.setattr(owner, name, known)

    def at(self, owner: Any, name: str, is_marked: Any = None) -> None:
        """Make a function fail."""
        function = getattr(owner, name)

        def faulty(*arguments: Any, **named: Any) -> Any:
            if self._is_marked if is_marked is None else is_marked(*arguments):
                self.times += 1
                raise self._error("injected")
            return function(*arguments, **named)

        self._patch.setattr(owner, name, faulty)

    def in_answer(self, owner: Any, name: str) -> None:
        """Make a function fail that is called while the marked request is admitted."""
        self.within(Front, "answer", lambda _, request: b"%d" % MARK in request.body)
        self.at(owner, name)

    def in_done(self, owner: Any, name: str) -> None:
        """Make a function fail that is called while the marked request is answered."""
        self.within(Prediction, "done", lambda asker, _: b"%d" % MARK in asker.exchange.body)
        self.at(owner, name)


def _has(outputs: Any) -> bool:
    return bool((np.asarray(outputs["size"]) == MARK).any())


def _encode(fault: Fault) -> None:
    fault.at(answers, "_pieces", lambda _, outputs: _has(outputs))
    fault.at(reference, "encode", lambda *arguments: _has(arguments[-1]))


def _words(fault: Fault) -> None:
    """Make the model fail, and then the writing of its error."""
    fault.at(Model, "predict", lambda _, arrays, __: (arrays["fruit"] == MARK).any())
    fault.at(prediction, "encode_error", lambda _, error, __: "POST /predict" in str(error))


STEPS = {
    "check access": lambda fault: fault.in_answer(Access, "check"),
    "admit": lambda fault: fault.in_answer(Lane, "is_full"),
    "make room": lambda fault: fault.in_answer(Prediction, "__init__"),
    "decode": lambda fault: fault.at(Decoder, "decode", lambda _, sent: b"%d" % MARK in sent),
    "submit": lambda fault: fault.at(
        Batcher, "submit", lambda *arguments: b"%d" % MARK in arguments[-1].exchange.body
    ),
    "ask whether it waits": lambda fault: fault.at(
        Prediction, "wanted", lambda asker: b"%d" % MARK in asker.exchange.body
    ),
    "run": lambda fault: fault.at(
        Model, "predict", lambda _, arrays, __: (arrays["fruit"] == MARK).any()
    ),
    "split": lambda fault: fault.at(
        batchers, "Part", lambda run_, start, _: run_.outputs["size"][start] == MARK
    ),
    "encode": _encode,
    "count": lambda fault: fault.in_done(Meter, "answered"),
    "add headers": lambda fault: fault.in_done(Front, "common"),
    "respond": lambda fault: fault.at(
        Connection, "respond", lambda *arguments: SIZE % MARK in arguments[3]
    ),
    "find words": _words,
}


@pytest.fixture(name="served", scope="module", params=[0.0, 1.0], ids=["in loop", "in thread"])
def _served(request, tmp_path_factory):
    """Serve a front whose model runs in the event loop or in a thread."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.three())
    served = Served(models)
    served.seconds = request.param
    served.front.pipeline.guarded = True
    yield served
    served.stop()


def _ask_on(served: Served, values: list[int], came: dict[int, tuple[int, bytes]]) -> None:
    """Ask for values, one after another on one connection."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)) as c:
        for value in values:
            c.request("POST", "/predict", body(value), JSON)
            with c.getresponse() as answer:
                came[value] = answer.status, answer.read()


def _settle(front: Front) -> None:
    """Wait until all requests are answered, and check that every counter is zero."""
    lanes = [route.lane for route in front.table.routes.values()]
    deadline = time.monotonic() + 5
    while any(lane.running or any(q.busy for q in lane.queues.values()) for lane in lanes):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert front.connections.bodies.held == front.pipeline.room.held == 0
    assert not front.arrived
    for lane in lanes:
        assert (lane.coming, lane.requests, lane.rows, len(lane.due)) == (0, 0, 0, 0)
        assert (lane.sliced_requests, lane.sliced_rows) == (0, 0)
        assert not any(queue.waiting for queue in lane.queues.values())


@pytest.mark.parametrize("error", [ValueError, MemoryError, RecursionError])
@pytest.mark.parametrize("step", STEPS)
def test_an_error_costs_one_request_a_500(served, step, error, monkeypatch, caplog):
    """Requests beside it, before it, and after it on the same connection are answered in full."""
    fault = Fault(monkeypatch, error)
    STEPS[step](fault)
    for route in served.front.table.routes.values():
        route.lane.seconds = served.seconds
    # Each client asks several times, so that some requests coincide with the marked one.
    asked = [[*range(n * 100, n * 100 + 20)] for n in range(1, 5)]
    asked[0][10] = MARK
    came: dict[int, tuple[int, bytes]] = {}
    threads = [threading.Thread(target=_ask_on, args=(served, v, came)) for v in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    _settle(served.front)

    status, content = came.pop(MARK)
    assert status == 500
    # A fault that prevents an answer may prevent the message of its error as well.
    is_short = step in {"find words", "add headers"}
    assert json.loads(content) == {"error": BROKEN.partition(": ")[2] if is_short else BROKEN}
    assert b"injected" not in content
    assert error.__name__ in caplog.text
    assert fault.times
    assert len(came) == 79
    for value, (status, content) in came.items():
        assert (status, SIZE % value in content) == (200, True)


def test_a_fault_beside_others_that_came_together(served, monkeypatch):
    """The requests of one run, one per connection, are answered in order."""
    STEPS["run"](Fault(monkeypatch, ValueError))
    for route in served.front.table.routes.values():
        route.lane.seconds = served.seconds
    bodies = [body(value) for value in (1, MARK, 3)]
    answer = served.raw(
        b"".join(post(each) for each in bodies) + post(body(4), b"Connection: close")
    )

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"500", b"200", b"200"]
    _settle(served.front)


def test_a_connection_that_cannot_be_answered_at_all_is_closed(served, monkeypatch, caplog):
    """The connection is closed, and the next one is answered."""
    fault = Fault(monkeypatch, ValueError)
    fault.at(Connection, "respond", lambda _, request, *__: b"%d" % MARK in request.body)

    assert served.raw(post(body(MARK))) == b""
    assert served.ask("POST", "/predict", body(1), JSON)[0] == 200
    _settle(served.front)
    assert "is closed" in caplog.text


def test_an_answered_request_is_not_answered_again(served, monkeypatch, caplog):
    """An error after the answer closes the connection without a second answer."""
    fault = Fault(monkeypatch, ValueError)
    fault.at(Connection, "_close", lambda *_: True)

    answer = served.raw(post(body(1), b"Connection: close"))

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200"]
    assert (fault.times, "is closed" in caplog.text) == (1, True)


def test_an_answer_that_is_not_bytes_is_a_500(served, monkeypatch):
    """An answer that is not bytes is a 500, and the bytes of its request are released once."""
    monkeypatch.setattr(
        "service.prediction.encode_reply", lambda reply, _: (reply[0].decode(), b"")
    )
    with monkeypatch.context() as patch:
        words = b"{}", b"content-type: application/json\r\n"
        patch.setattr("service.prediction.encode_error", lambda *_: words)
        assert served.ask("POST", "/predict", body(1), JSON)[0] == 500
    _settle(served.front)


def test_a_thread_that_cannot_be_started_costs_one_request(tmp_path, monkeypatch):
    """The executor may still run the request that it has queued; it is not answered twice."""
    served = Served(tmp_path)
    start = threading.Thread.start
    request = b"GET /models HTTP/1.1\r\nHost: x\r\n"

    def fail(_: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    try:
        monkeypatch.setattr(threading.Thread, "start", fail)
        answer = served.raw((request + b"\r\n") * 2, request + b"Connection: close\r\n\r\n")
    finally:
        served.stop()

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"500", b"200", b"200"]


def test_a_clock_goes_on_ticking(tmp_path, monkeypatch):
    """A tick follows also after one that failed."""
    ticks = threading.Semaphore(0)

    def fail(*_: object) -> None:
        ticks.release()
        raise ValueError("no clock")

    served = Served(tmp_path)
    try:
        monkeypatch.setattr(served.front.metrics, "flush", fail)
        for _ in range(2):
            assert ticks.acquire(timeout=10)
        monkeypatch.undo()
    finally:
        served.stop()


def test_a_connection_that_cannot_be_checked_costs_no_other_its_check(tmp_path, monkeypatch):
    """The connection is closed, and other idle connections are still closed on time."""
    served = Served(tmp_path)
    served.front.connections.timeouts = Timeouts(idle=0.1)
    check = Connection.check
    try:
        with contextlib.ExitStack() as stack:
            quiet = [
                stack.enter_context(
                    socket.create_connection(("127.0.0.1", served.port), timeout=10)
                )
                for _ in range(3)
            ]
            broken = quiet[1].getsockname()

            def fail(self: Connection, now: float) -> None:
                if self._transport.get_extra_info("peername") == broken:
                    raise ValueError("no check")
                check(self, now)

            monkeypatch.setattr(Connection, "check", fail)
            for sock in quiet:
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(1) == b""
    finally:
        served.stop()
