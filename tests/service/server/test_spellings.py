"""A path that predicts has one meaning, however it is spelled: the same answers and bounds."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from typing import Any

import pytest

from service.http.request import Request
from service.inference.lane import Lane
from service.inference.model import Model
from service.server import wsgi
from tests.harness import small, tokens
from tests.harness.lanes import lane_of, pace
from tests.harness.served import BODY, JSON, Served, post
from tests.harness.waiting import until

SPELLINGS = [
    pytest.param(lambda path: path, id="as it is"),
    pytest.param(lambda path: path + "?x=1", id="a query"),
    pytest.param(lambda path: path + "?", id="an empty query"),
    pytest.param(lambda path: path + "/", id="a slash"),
    pytest.param(lambda path: path + "/?a=b&c=/", id="a slash and a query"),
    pytest.param(lambda path: "/%" + f"{ord(path[1]):02x}" + path[2:], id="escaped"),
    pytest.param(
        lambda path: "/" + "".join(f"%{ord(c):02X}" for c in path[1:]), id="all of it escaped"
    ),
    pytest.param(lambda path: path.replace("/", "%2F").replace("%2F", "/", 1), id="its slashes"),
    pytest.param(lambda path: "http://anywhere:80" + path, id="absolute"),
    pytest.param(lambda path: "//" + path, id="slashes before it"),
    pytest.param(lambda path: path + "?" + "x" * 3000, id="a long query"),
    pytest.param(lambda path: "/" * 3000 + path, id="long"),
]
# Each of these names another path than it seems to.
OTHERS = [
    pytest.param(lambda path: path + "//", id="two slashes"),
    pytest.param(lambda path: path.replace("/p", "//p").replace("/i", "//i"), id="two inside"),
    pytest.param(lambda path: path.replace("p", "%2570").replace("f", "%2566"), id="escaped twice"),
    pytest.param(lambda path: path + "%3Fx=1", id="an escaped query"),
    pytest.param(lambda path: path + "%00", id="NUL"),
    pytest.param(lambda path: path + "%ff", id="no UTF-8"),
    pytest.param(lambda path: path + ";x=1", id="a parameter"),
    pytest.param(lambda path: path + "%", id="half an escape"),
    pytest.param(lambda path: path.upper(), id="capitals"),
    pytest.param(lambda path: "/models/.." + path, id="dots"),
    pytest.param(lambda path: "/." + path, id="a dot"),
    pytest.param(lambda path: path + "/..", id="dots after it"),
]
PATHS = [
    "/predict",
    "/my/predict",
    "/models/three/predict",
    "/models/three/versions/2/predict",
    "/models/three/versions/1/predict",
    "/models/three/aliases/old/predict",
    "/models/risky/predict",
    "/v1/models/three/versions/1:predict",
    "/v2/models/three/infer",
    "/v2/models/three/versions/1/infer",
    "/invocations",
]
# The name of a token for the model `three` alone.
SOME = "some"
WRONG = b'{"instances":[{"fruit":[1]}],"heads":["size"]}'


@pytest.fixture(name="served", scope="module", params=[False, True], ids=["open", "closed"])
def _served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spelled")
    for version in (1, 2):
        views = {"risky": ["risk"]}
        small.put(folder / "models", "three", version, small.three(version, models=views))
    small.put(folder / "models", "secret", 1, small.three())
    (folder / "models" / "three" / "aliases.json").write_text('{"old": "2"}')
    closed = {"tokens_file": tokens.put(folder)} if request.param else {}
    served = Served(
        folder / "models", default_model="three", predict_route="/my/predict/", **closed
    )
    yield served
    served.stop()


@pytest.fixture(name="app_calls")
def _app_calls(monkeypatch):
    """Return the targets of the requests that went through the Flask app."""
    calls: list[bytes] = []
    call = wsgi.call

    def counted(app: Any, request: Any) -> Any:
        calls.append(request.target)
        return call(app, request)

    monkeypatch.setattr(wsgi, "call", counted)
    return calls


def ask(served: Served, path: str, body: bytes, *, token: str) -> tuple[int, bytes]:
    """Send a request to a path as it is spelled, and return the status and body of the answer."""
    lines = [f"{name}: {value}".encode() for name, value in tokens.header(token).items()]
    answer = served.raw(post(body, b"Connection: close", *lines, path=path.encode()))
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), content


def ask_app(served: Served, path: str, body: bytes) -> tuple[int, bytes]:
    """Send the same request to the Flask app alone."""
    lines = {**JSON, **tokens.header("some")}.items()
    headers = {name.lower().encode(): value.encode() for name, value in lines}
    request = Request(b"POST", "1.1", path.encode(), headers, body, True, None)
    answer = wsgi.call(served.app.wsgi_app, request)
    return answer.status, answer.content


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("path", PATHS)
def test_every_spelling_is_answered_alike_and_by_the_queue(served, path, spell, app_calls):
    """This holds for versions that are loaded on demand, and the app answers the same."""
    for body in (BODY, WRONG, b"{"):
        expected = ask(served, path, body, token=SOME)
        assert ask(served, spell(path), body, token=SOME) == expected
        assert app_calls == []
        assert ask_app(served, spell(path), body) == expected
        app_calls.clear()


@pytest.mark.parametrize("spell", [*SPELLINGS, *OTHERS])
@pytest.mark.parametrize("path", [path.replace("three", "secret") for path in PATHS if "2" in path])
def test_no_spelling_gets_past_the_authorization(served, path, spell):
    """A token for another model is refused, or the path is not found."""
    if served.front.connections.guarded:
        for token in ("some", "metrics", "guess"):
            status, content = ask(served, spell(path), BODY, token=token)
            assert status in (400, 401, 403, 404, 405), content
            assert b"predictions" not in content


@pytest.mark.parametrize("spell", OTHERS)
@pytest.mark.parametrize("path", PATHS)
def test_any_other_spelling_is_another_path(served, path, spell):
    """The front answers another path as the app does."""
    spelled = spell(path)
    # Werkzeug accepts any number of slashes at the beginning of a path, and a second one after a
    # rule that ends with one.
    if spelled.lstrip("/") != path.lstrip("/") and spelled != "/my/predict//":
        status, content = ask(served, spelled, BODY, token=SOME)
        assert status in (400, 403, 404, 405)
        assert (status, content) == ask_app(served, spelled, BODY)


def test_health_is_answered_at_once_however_it_is_spelled(served):
    """Health checks are answered even while all threads are busy."""
    release = threading.Event()
    hold = [served.front.threads.submit(release.wait, 10) for _ in range(8)]
    try:
        for path in ("/livez?probe=1", "/livez/", "/%6civez", "/v2/health/live/?x"):
            assert served.ask("GET", path)[0] == 200
    finally:
        release.set()
    assert all(future.result() for future in hold)


@pytest.fixture(name="slow")
def _slow(tmp_path, monkeypatch):
    """Yield a service of two versions, its runs, a function that slows it, and an event.

    The runs wait for the event once the function has been called.
    """
    for version in (1, 2):
        small.put(tmp_path, "three", version, small.three(version))
    served = Served(tmp_path)
    runs: list[int] = []
    release = threading.Event()
    predict = Model.predict

    def slowly(self: Model, arrays: Any, heads: Any) -> Any:
        runs.append(len(next(iter(arrays.values()))))
        release.wait(20)
        return predict(self, arrays, heads)

    def slow_down() -> None:
        """Let the queue expect 20 ms for each row, in a thread."""
        monkeypatch.setattr(Model, "predict", slowly)
        for lane in {lane_of(served), *served.front.table.lanes}:
            pace(lane, 0.02)
            lane.seconds = 0.02

    yield served, runs, slow_down, release
    release.set()
    monkeypatch.undo()
    served.stop()


SLOW_PATHS = [
    "/predict",
    "/predict?x=1",
    "/predict/",
    "/pr%65dict",
    "/models/three/versions/1/predict",
    "/v2/models/three/versions/1/infer?x=1",
]


@pytest.mark.parametrize("path", SLOW_PATHS)
def test_every_spelling_has_the_same_bounds(slow, path, app_calls):
    """Of a hundred requests, most are answered 429 at once, and the others 200, or 504 too late."""
    served, runs, slow_down, release = slow
    body = BODY if "v2" not in path else json.dumps(V2).encode()
    assert served.ask("POST", path, body, JSON)[0] == 200
    app_calls.clear()
    slow_down()
    statuses = []

    def call() -> None:
        headers = {**JSON, "X-Request-Timeout": "0.2"}
        statuses.append(served.ask("POST", path, body, headers)[0])

    callers = [threading.Thread(target=call) for _ in range(100)]
    for caller in callers:
        caller.start()
    # On a busy machine, some of the admitted requests may have expired already.
    until(lambda: statuses.count(429) > 80)
    assert set(statuses) <= {429, 504}
    time.sleep(0.3)
    release.set()
    for caller in callers:
        caller.join()

    assert len(runs) == 1
    assert statuses.count(200) == sum(runs) < 10
    assert set(statuses) == {200, 429, 504}
    assert app_calls == []


@pytest.mark.parametrize("path", SLOW_PATHS)
@pytest.mark.parametrize("seconds", ["soon", "0", "nan"])
def test_every_spelling_reads_the_same_headers(slow, path, seconds):
    """A timeout that is not a number above 0 is refused."""
    served, *_ = slow
    body = BODY if "v2" not in path else json.dumps(V2).encode()
    status, _, content = served.ask("POST", path, body, {**JSON, "X-Request-Timeout": seconds})
    assert (status, b"X-Request-Timeout: expected a number" in content) == (400, True)


V2 = {
    "inputs": [{"name": "fruit", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}],
    "outputs": [{"name": "size"}],
}


@pytest.mark.parametrize("path", SLOW_PATHS)
def test_a_closed_connection_costs_no_run_in_any_spelling(slow, path):
    """This holds for a path with a query, and for versions that are loaded on demand."""
    served, runs, slow_down, release = slow
    body = BODY if "v2" not in path else json.dumps(V2).encode()
    assert served.ask("POST", path, body, JSON)[0] == 200
    slow_down()
    with contextlib.ExitStack() as stack:
        for count in range(1, 6):
            c = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
            stack.enter_context(contextlib.closing(c))
            c.request("POST", path, body, JSON)
            until(lambda: sum(lane.rows for lane in served.front.table.lanes) + len(runs) == count)  # noqa: B023
    until(
        lambda: all(
            connection._half_close is not None for connection in [*served.front.connections.open]
        )
    )
    release.set()
    assert served.ask("POST", path, body, JSON)[0] == 200
    assert runs == [1, 1]


def test_a_version_is_loaded_off_the_loop_and_once(slow, monkeypatch):
    """Other requests are answered meanwhile; waiting for the load counts to the deadline."""
    served, *_ = slow
    library = served.app.extensions["triceps"]
    release, loads = threading.Event(), []
    having = library.having

    def slowly(name: str, version: str, alias: str | None) -> Any:
        loads.append((name, version, alias))
        release.wait(10)
        return having(name, version, alias)

    monkeypatch.setattr(library, "having", slowly)
    path = "/models/three/versions/1/predict"
    answers = []

    def call(headers: dict[str, str]) -> None:
        answers.append(served.ask("POST", path, BODY, {**JSON, **headers})[0])

    callers = [
        threading.Thread(target=call, args=(headers,))
        for headers in [{}] * 10 + [{"X-Request-Timeout": "0.05"}] * 5
    ]
    for caller in callers:
        caller.start()
    until(lambda: sum(map(len, served.front.on_demand.waiting.values())) == 15)
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
    assert served.ask("GET", "/models")[0] == 200
    time.sleep(0.1)
    release.set()
    for caller in callers:
        caller.join()

    assert sorted(answers) == [200] * 10 + [504] * 5
    assert loads == [("three", "1", None)]
    assert served.front.on_demand.waiting == {}
    assert "1" in {route.servable.version for route in served.front.table.kept_routes}


def test_a_load_that_fails_is_answered_and_tried_again(slow, monkeypatch, caplog):
    """The app answers the waiting request, and its own attempt to load succeeds."""
    served, *_ = slow
    library = served.app.extensions["triceps"]
    having = library.having

    def fail(*_: object) -> None:
        monkeypatch.setattr(library, "having", having)
        raise ZeroDivisionError

    monkeypatch.setattr(library, "having", fail)

    assert served.ask("POST", "/models/three/versions/1/predict", BODY, JSON)[0] == 200
    assert "loading three/1 failed" in caplog.text
    assert served.front.on_demand.waiting == {}


def test_a_kept_version_stays_while_it_is_asked_for(slow):
    """The fast way notes each request too, so that the version is not forgotten."""
    served, *_ = slow
    path = "/models/three/versions/1/predict"
    library = served.app.extensions["triceps"]
    served.ask("POST", path, BODY, JSON)
    first = time.monotonic()
    time.sleep(0.5)

    assert served.ask("POST", path, BODY, JSON)[0] == 200

    # The first request is longer ago than that, and the second is not.
    library.kept.idle_seconds = time.monotonic() - first
    library.refresh()
    assert library.current.catalog.kept
    library.kept.idle_seconds = 0.0
    library.refresh()
    until(lambda: not served.front.table.kept_routes)
    assert served.ask("POST", path, BODY, JSON)[0] == 200


def test_a_bug_behind_a_load_costs_one_connection(slow, monkeypatch, caplog):
    """A bug in an answer after a load closes its connection; all others are served."""
    served, *_ = slow

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(served.front.on_demand, "_answer", fail)
    with pytest.raises(http.client.RemoteDisconnected):
        served.ask("POST", "/models/three/versions/1/predict", BODY, JSON)
    monkeypatch.undo()

    assert "could not be answered" in caplog.text
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
    assert all(isinstance(lane, Lane) and lane.coming == 0 for lane in served.front.table.lanes)
