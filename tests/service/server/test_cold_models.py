"""Clients that request versions that are not loaded, beside clients of those that are."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.repository import reloader
from service.repository.changes import without
from service.server import wsgi
from tests.harness import calls, grpc_messages, small
from tests.harness.served import BODY, JSON, Served, post
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

COLD = "/models/three/versions/1"


class Loads:
    """Loads that wait until they are let go."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self.threads: list[threading.Thread] = []
        self.go = threading.Event()


@pytest.fixture(name="loads")
def _loads(monkeypatch):
    """Return the loads on request, of which none ends before `go` is set."""
    loads, load = Loads(), reloader.load

    def slowly(found: Any, *arguments: Any) -> Any:
        loads.threads.append(threading.current_thread())
        loads.begun.append(found.key)
        loads.go.wait(20)
        return load(found, *arguments)

    monkeypatch.setattr(reloader, "load", slowly)
    yield loads
    loads.go.set()


@pytest.fixture(name="served")
def _served(tmp_path, loads):
    """Yield a service of a model whose fifth version serves, and the others are not loaded."""
    del loads
    for version in range(1, 6):
        small.put(tmp_path, "three", version, small.three(version))
    served = Served(tmp_path)
    yield served
    served.stop()


PAGES = [
    COLD,
    f"{COLD}/example",
    f"{COLD}/?x=1",
    f"/v1{COLD}",
    f"/v1{COLD}/metadata",
    f"/v2{COLD}",
    f"/v2{COLD}/ready",
    f"/v2{COLD}/config",
    "/v2/m%6fdels/three/versions/1",
]


@pytest.mark.parametrize("path", PAGES)
def test_pages_of_versions_that_are_loaded_hold_up_no_other_page(served, loads, path):
    """However many requests wait for a load, other pages are answered meanwhile."""
    statuses = []
    callers = [
        threading.Thread(target=lambda: statuses.append(served.ask("GET", path)[0]))
        for _ in range(2 * served.settings.threads)
    ]
    for caller in callers:
        caller.start()
    until(lambda: loads.begun)
    until(lambda: len(served.front.connections.open) == len(callers))

    other: list[int] = []
    asking = threading.Thread(target=lambda: other.append(served.ask("GET", "/models")[0]))
    asking.start()
    asking.join(5)
    was_answered = list(other)
    loads.go.set()
    for caller in [*callers, asking]:
        caller.join()

    assert was_answered == [200]
    assert set(statuses) == {200}


def ask_and_reset(served: Served, request: bytes, arrived: Callable[[], object]) -> None:
    """Send a request, and reset its connection once it has arrived."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as sock:
        sock.sendall(request)
        until(arrived)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: not served.front.connections.open)


def held(served: Served) -> int:
    """Return the bytes of the bodies of the requests that wait for loads."""
    waiting = list(served.front.on_demand.waiting.values())
    return sum(len(request.body) for requests in waiting for request, *_ in requests)


def test_clients_that_hang_up_while_a_version_is_loaded_leave_no_bodies(served, loads):
    """However many there are, and whatever the load takes, their bodies take no memory."""
    size = 2**20
    body = post(BODY + b" " * size, path=f"{COLD}/predict".encode())
    most = 0
    for _ in range(60):
        ask_and_reset(served, body, lambda: served.front.connections.bodies.held > size)
        most = max(most, held(served))

    assert most <= 16 * size + 2 * size
    until(lambda: not held(served))
    assert loads.begun == [("three", "1")]


def test_a_version_is_not_loaded_for_clients_that_have_gone(served, loads):
    """Clients that hang up and come again do not fill the queue of loads."""
    for version in (1, 2, 3, 4):
        path = f"/models/three/versions/{version}/predict"
        request = post(BODY, path=path.encode())
        ask_and_reset(served, request, lambda: len(served.front.on_demand.waiting) == version)  # noqa: B023
    loads.go.set()
    until(lambda: not served.front.on_demand.waiting)

    assert sorted(loads.begun) == [("three", "1"), ("three", "2")]
    assert served.ask("POST", "/models/three/versions/4/predict", BODY, JSON)[0] == 200


def test_a_version_that_has_to_give_way_at_once_answers_whom_it_was_loaded_for(
    served, loads, monkeypatch
):
    """It answers by the queue and in time, and is not loaded once more by a thread for pages."""
    library = served.app.extensions["triceps"]
    loads.go.set()
    load = library._load

    def load_and_let_go(found: Any, admit: Any) -> Any:
        repository = load(found, admit)
        library._swap(lambda now: without(now, {found.key}, library._choice))
        return repository

    monkeypatch.setattr(library, "_load", load_and_let_go)
    monkeypatch.setattr(wsgi, "call", lambda *_: pytest.fail("the app answered"))
    for number in (1, 2, 3):
        status, _, content = served.ask("POST", f"{COLD}/predict", BODY, JSON)
        answer = json.loads(content)
        assert (status, answer["version"]) == (200, "1")
        assert len(loads.begun) == number

    until(lambda: served.front.table.watched.keys() == served.front.table.lanes)
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200


def infer(version: int) -> Any:
    """Return a call for a version: its method, its message and the type of its answer."""
    value = np.float32([[1, 2]])
    asked = grpc_messages.infer({"fruit": value}, raw=True, model_version=str(version))
    asked.outputs.add(name="size")
    return calls.INFER, asked, "inference.ModelInferResponse"


def test_a_call_is_answered_by_a_version_that_has_to_give_way_at_once(served, loads, monkeypatch):
    """It is what the call has waited for, as for a request of HTTP."""
    library = served.app.extensions["triceps"]
    loads.go.set()
    load = library._load

    def load_and_let_go(found: Any, admit: Any) -> Any:
        repository = load(found, admit)
        library._swap(lambda now: without(now, {found.key}, library._choice))
        return repository

    monkeypatch.setattr(library, "_load", load_and_let_go)
    with calls.client(served.port) as client:
        for number in (1, 2, 3):
            told = client.ask(*infer(1))
            assert (told.code, told.answer.model_version) == ("OK", "1")
            assert len(loads.begun) == number

    until(lambda: served.front.table.watched.keys() == served.front.table.lanes)


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig"])
def test_calls_about_versions_that_are_loaded_hold_up_no_other_call(served, loads, method):
    """They wait without a thread, as the pages do, and for one load."""
    with calls.client(served.port) as client:
        told: list[Any] = []
        callers = [
            threading.Thread(
                target=lambda: told.append(client.oip(method, name="three", version="1"))
            )
            for _ in range(2 * served.settings.threads)
        ]
        for caller in callers:
            caller.start()
        until(lambda: loads.begun)
        other = client.oip("ModelMetadata", name="three")
        loads.go.set()
        for caller in callers:
            caller.join()

    assert other.code == "OK"
    assert {each.code for each in told} == {"OK"}
    assert loads.begun == [("three", "1")]


def test_a_version_is_not_loaded_for_calls_that_are_cancelled(served, loads):
    """Calls that wait for it are dropped, with their messages."""
    with calls.client(served.port) as client:
        for version in (1, 2, 3, 4):
            method, asked, _ = infer(version)
            made = client.channel.unary_unary(method, lambda m: m.SerializeToString())
            call = made.future(asked, 20)
            until(lambda: len(served.front.on_demand.waiting) == version)  # noqa: B023
            call.cancel()
        until(lambda: not held(served))
        loads.go.set()
        until(lambda: not served.front.on_demand.waiting)
        answer = client.ask(*infer(4))

    assert sorted(loads.begun) == [("three", "1"), ("three", "2"), ("three", "4")]
    assert answer.answer.model_version == "4"


def test_a_call_that_has_waited_too_long_is_too_late(served, loads):
    """Its deadline counts from its arrival, and holds while its version is loaded."""
    body = calls.prefixed(infer(1)[1].SerializeToString())
    raw: list[Any] = []
    headers = [("grpc-timeout", "50m")]
    asking = threading.Thread(
        target=lambda: raw.append(calls.send(served.port, calls.INFER, body, headers=headers))
    )
    asking.start()
    asking.join()

    assert loads.begun == [("three", "1")]
    assert raw[0].code == 4
    expected = "request: expected its model to be loaded within 0.05 s (X-Request-Timeout, "
    assert raw[0].text.startswith(expected)


def test_a_call_about_a_version_waits_for_its_load_as_long_as_it_may(served, loads):
    """The page that answers it is refused like any other."""
    del loads
    (served.settings.models / "three" / "settings.toml").write_text("timeout = 0.1")
    served.app.extensions["triceps"].refresh()
    with calls.client(served.port) as client:
        told = client.oip("ModelMetadata", name="three", version="1")

    assert told.code == "DEADLINE_EXCEEDED"
    assert "expected its model to be loaded within 0.1 s" in told.text


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_request_waits_for_a_load_as_long_as_it_may(served, loads, method):
    """It is answered with 504 then, by its header or its model's settings; the load goes on."""
    path = f"{COLD}/predict" if method == "POST" else COLD
    status, _, content = served.ask(method, path, BODY, {**JSON, "X-Request-Timeout": "0.2"})
    assert status == 504
    assert b"expected its model to be loaded within 0.2 s (X-Request-Timeout, " in content
    assert loads.begun == [("three", "1")]

    folder = served.settings.models / "three"
    (folder / "settings.toml").write_text("timeout = 0.3")
    served.app.extensions["triceps"].refresh()
    status, _, content = served.ask(method, path, BODY, JSON)
    assert status == 504
    assert b"within 0.3 s" in content
    assert held(served) == 0
    loads.go.set()
    until(lambda: not served.front.on_demand.waiting)

    assert served.ask(method, path, BODY, {**JSON, "X-Request-Timeout": "20"})[0] == 200


@pytest.mark.parametrize("path", ["/ping", "/health", "/ping/?x=1"])
def test_health_checks_that_need_the_default_model_do_not_load_it_in_the_loop(served, loads, path):
    """The default model may be a view of a model that was beyond the first ones, or too large."""
    library = served.app.extensions["triceps"]
    library._swap(lambda now: without(now, {("three", "5")}, library._choice))
    statuses: list[int] = []
    asking = threading.Thread(target=lambda: statuses.append(served.ask("GET", path)[0]))
    asking.start()
    until(lambda: loads.begun)

    assert loads.threads != [served.thread]
    assert served.ask("GET", "/livez")[0] == 200
    assert served.ask("GET", "/models")[0] == 200

    loads.go.set()
    asking.join()
    assert statuses == [200]
