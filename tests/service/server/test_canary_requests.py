"""Shares of requests by every way in: which version answers, and when it is asked no more."""

import json
import logging
import math
import re
import time

import pytest

from service.canary import Split
from service.insight.retreat import LEAST
from tests.harness import exposition, grpc_messages, small
from tests.harness.apps import app_of
from tests.harness.calls import INFER, PREDICT, ROW, client
from tests.harness.changing import FRUIT, point, put
from tests.harness.http2 import Peer
from tests.harness.served import JSON, Served
from tests.harness.shares import BEYOND, WITHIN, gathering, repeating, share
from tests.harness.waiting import until

OIP = {"inputs": [{"name": "fruit", "datatype": "FP32", "shape": [1, 2], "data": [1, 1]}]}
OIP["outputs"] = [{"name": "size"}]
IDS = [f"request-{number}" for number in range(400)]


@pytest.fixture
def models(tmp_path):
    """Return a repository of a model whose stable version is 1."""
    folder = tmp_path / "models"
    for version in (1, 2):
        put(folder, version, models={"fruity": ["size"]})
    point(folder, stable="1")
    return folder


@pytest.fixture
def serve(models):
    """Yield a function that starts a service of the models."""
    started = []

    def start(**settings):
        started.append(Served(models, **settings))
        return started[-1]

    yield start
    for served in started:
        served.stop()


def asked(served, request_id, path="/models/m/predict", body=FRUIT, **headers):
    """Return the version that answers a request, whose answer has to be its own."""
    named = {"X-Request-ID": request_id} if request_id else {}
    content = json.dumps(body).encode()
    status, _, answer = served.ask("POST", path, content, {**JSON, **named, **headers})
    assert status == 200, answer
    found = json.loads(answer)
    if "predictions" in found:
        assert found["predictions"][0]["size"]["value"] == 2.0 * int(found["version"])
        return found["version"]
    assert found["outputs"][0]["data"] == [2.0 * int(found["model_version"])]
    return found["model_version"]


def test_a_share_is_drawn_by_the_request_id(models, serve):
    """The same request gets the same version again, and about the share of all is the canary's."""
    share(models, share=0.3)
    served = serve()
    drawn = {name: asked(served, name) for name in IDS}
    # Six standard deviations.
    assert abs(sum(v == "2" for v in drawn.values()) - 0.3 * len(IDS)) < 55
    assert {name: asked(served, name) for name in IDS[:40]} == {n: drawn[n] for n in IDS[:40]}

    share(models, share=0.6)
    served.front.library.refresh()
    raised = {name: asked(served, name) for name in IDS}
    assert abs(sum(v == "2" for v in raised.values()) - 0.6 * len(IDS)) < 59
    assert all(raised[name] == "2" for name in IDS if drawn[name] == "2")


def test_every_way_in_draws_the_same(models, serve):
    """A request gets the same version by each dialect and protocol, and under WSGI."""
    share(models, share=0.5)
    served = serve(default_model="m")
    flask = app_of(models, default_model="m").test_client()
    ids = IDS[:24]

    def by_http2(connection, name):
        answer = connection.ask(
            "/models/m/predict",
            json.dumps(FRUIT).encode(),
            ("x-request-id", name),
            ("content-type", "application/json"),
        )
        return json.loads(answer.body)["version"]

    def by_flask(name):
        answer = flask.post("/models/m/predict", json=FRUIT, headers={"X-Request-ID": name})
        return answer.get_json()["version"]

    drawn = [asked(served, name) for name in ids]
    assert set(drawn) == {"1", "2"}
    assert [asked(served, name, "/predict") for name in ids] == drawn
    assert [asked(served, name, "/models/m/predict/?x=1") for name in ids] == drawn
    assert [asked(served, name, "/v2/models/m/infer", OIP) for name in ids] == drawn
    assert [by_flask(name) for name in ids] == drawn
    with Peer(served.port) as connection:
        assert [by_http2(connection, name) for name in ids] == drawn
    with client(served.port) as calls:
        for method, answer, message in (
            (INFER, "inference.ModelInferResponse", grpc_messages.infer(ROW, raw=True, name="m")),
            (
                PREDICT,
                "tensorflow.serving.PredictResponse",
                grpc_messages.predict(ROW, content=True, name="m"),
            ),
        ):
            told = [
                calls.ask(method, message, answer, metadata={"x-request-id": name}) for name in ids
            ]
            assert {each.code for each in told} == {"OK"}
            assert [_version(each.answer) for each in told] == drawn


def _version(message):
    """Return the version that a message of gRPC names."""
    if message.DESCRIPTOR.name == "ModelInferResponse":
        return message.model_version
    return str(message.model_spec.version.value)


def test_a_header_that_is_set_keeps_a_client_with_one_version(models, serve):
    """A request without it is drawn by its own ID; the name of a header has no case."""
    share(models, share=0.5)
    served = serve(canary_header="X-User")
    users = [f"user-{number}" for number in range(12)]
    by_user = {
        user: {asked(served, f"{user}-{n}", **{"x-user": user}) for n in range(6)} for user in users
    }

    assert {len(versions) for versions in by_user.values()} == {1}
    assert set.union(*by_user.values()) == {"1", "2"}
    assert {asked(served, name) for name in IDS[:40]} == {"1", "2"}


def test_an_answer_has_the_id_that_its_version_was_drawn_by(models, serve):
    """So a request without one can be repeated."""
    share(models, share=0.5)
    served = serve()
    body = json.dumps(FRUIT).encode()
    answers = [served.ask("POST", "/models/m/predict", body, JSON) for _ in range(40)]
    wrong = [served.ask("POST", "/models/m/predict", b"{}", JSON) for _ in range(40)]
    drawn = [(head["x-request-id"], json.loads(content)["version"]) for _, head, content in answers]

    assert {version for _, version in drawn} == {"1", "2"}
    assert all(asked(served, name) == version for name, version in drawn)
    assert len({head["x-request-id"] for _, head, _ in [*answers, *wrong]}) == 80


def test_named_versions_are_not_shared(models, serve):
    """A path with a version or an alias is answered by that, whatever the share is."""
    point(models, stable="1", candidate="2")
    share(models, share=1)
    served = serve(default_model="m")

    def versions(path, body=FRUIT):
        return {asked(served, name, path, body) for name in IDS[:8]}

    assert versions("/models/m/predict") == {"2"}
    assert versions("/predict") == {"2"}
    assert versions("/models/m/versions/1/predict") == {"1"}
    assert versions("/models/m/aliases/stable/predict") == {"1"}
    assert versions("/models/m/aliases/candidate/predict") == {"2"}
    assert versions("/v2/models/m/versions/1/infer", OIP) == {"1"}


def test_a_view_is_shared_as_its_model_is(models, serve):
    """A client gets the same version of both."""
    share(models, share=0.5)
    served = serve()
    body = {"instances": [{"fruit": [1, 1]}]}
    ids = IDS[:24]

    assert [asked(served, name, "/models/fruity/predict", body) for name in ids] == [
        asked(served, name) for name in ids
    ]


def test_requests_are_counted_for_the_version_that_answers(models, serve):
    """The usual metrics have both versions; one that is 0 says that the canary is asked."""
    share(models, share=0.5)
    served = serve()
    drawn = [asked(served, name) for name in IDS[:40]]
    counted = exposition.samples(served.ask("GET", "/metrics")[2].decode())

    for version in "12":
        at = ("triceps_requests_total", "native", "m", "200", version)
        assert counted[at] == drawn.count(version)
    assert counted["triceps_canary_retreated", "m", "2"] == 0


@pytest.fixture
def pair(tmp_path):
    """Yield a function that serves a stable version with a canary."""
    started = []

    def start(stable, canary, **more):
        folder = tmp_path / "pair"
        small.put(folder, "m", 1, stable)
        small.put(folder, "m", 2, canary)
        point(folder, stable="1")
        share(folder, **{"share": 0.5, **more})
        started.append(Served(folder))
        return started[-1]

    yield start
    for served in started:
        served.stop()


def ask(served, name, body):
    """Return the status and the version of an answer."""
    content = json.dumps(body).encode()
    status, _, answer = served.ask(
        "POST", "/models/m/predict", content, {**JSON, "X-Request-ID": name}
    )
    return status, json.loads(answer).get("version")


def traffic_of(served):
    """Return what /models/<name> says about the canary."""
    return json.loads(served.ask("GET", "/models/m")[2])["traffic"]["canary"]


FAILS = r"it fails 100 % of \d+ requests, and the stable version 0 % of \d+"
SLOW = (
    r"the median of its \d+ runs takes [\d.]+ ms, and that of the \d+ of the stable version "
    r"[\d.]+ ms"
)
ONE = {"instances": [{"x": 1}]}


@pytest.mark.parametrize(
    ("versions", "body", "why"),
    [
        pytest.param((gathering(10), gathering(3)), BEYOND, FAILS, id="failures"),
        pytest.param((repeating(0), repeating(60)), ONE, SLOW, id="times"),
    ],
)
def test_a_canary_that_leaves_its_bounds_is_asked_no_more(pair, caplog, versions, body, why):
    """The log, the pages and a metric say so, until the file is written anew."""
    caplog.set_level(logging.WARNING)
    served = pair(*versions)
    names = iter(range(10**6))

    def is_over():
        for _ in range(LEAST):
            ask(served, f"request-{next(names)}", body)
        return "reason" in traffic_of(served)

    until(is_over)
    until(lambda: served.front.pipeline.splits.of(served.front.library.current, "m").retreat)
    after = [ask(served, f"request-{next(names)}", body) for _ in range(2 * LEAST)]
    said = traffic_of(served)
    [listed] = json.loads(served.ask("GET", "/models")[2])["models"]

    assert listed["traffic"] == {"canary": said}
    assert after == [(200, "1")] * 2 * LEAST
    assert re.fullmatch(f"it is asked no more, since {why}", said["reason"])
    assert said["retreat"]["canary"]["runs" if why == SLOW else "requests"] >= LEAST
    counted = exposition.samples(served.ask("GET", "/metrics")[2].decode())
    assert counted["triceps_canary_retreated", "m", "2"] == 1
    [line] = [record.getMessage() for record in caplog.records if "canary" in record.getMessage()]
    assert re.fullmatch(
        rf"m, version 2: the canary is asked no more, since {why} \(fail 1 %, slower 2\); the "
        "stable version answers all requests",
        line,
    )
    # A version that is named answers as before.
    status, _, _ = served.ask(
        "POST", "/models/m/versions/2/predict", json.dumps(body).encode(), JSON
    )
    assert status == (400 if "fails" in why else 200)

    (served.settings.models / "m/traffic.json").write_text("{")
    served.front.library.refresh()
    broken = {ask(served, f"request-{next(names)}", body) for _ in range(LEAST)}
    share(served.settings.models, share=1.0)
    served.front.library.refresh()
    again = ask(served, f"request-{next(names)}", body)

    assert broken == {(200, "1")}
    assert again == ((400, None) if "fails" in why else (200, "2"))
    assert "reason" not in traffic_of(served)


def test_what_troubles_both_versions_is_no_reason(pair):
    """Requests that neither version has an answer for are mistakes of clients."""
    served = pair(gathering(3), gathering(3))
    answers = [ask(served, name, BEYOND) for name in IDS[:200]]
    served.front.pipeline.splits._next_look = 0.0
    served.front.loop.call_soon_threadsafe(served.front.pipeline.look)
    drawn = {version for _, version in (ask(served, name, WITHIN) for name in IDS[:40])}

    assert {status for status, _ in answers} == {400}
    assert drawn == {"1", "2"}
    assert "reason" not in traffic_of(served)


def test_a_deadline_that_a_client_sets_is_no_reason(pair):
    """It could be a microsecond, and any client could end a share, or hide failures by it."""
    served = pair(gathering(3), gathering(3), share=1.0)
    body, hasty = json.dumps(WITHIN).encode(), {**JSON, "X-Request-Timeout": "0.000001"}
    answers = [
        served.ask("POST", "/models/m/predict", body, {**hasty, "X-Request-ID": name})[0]
        for name in IDS[:60]
    ]
    served.front.pipeline.splits._next_look = 0.0

    assert set(answers) == {504}
    assert ask(served, "another", WITHIN) == (200, "2")
    assert ask(served, "one more", WITHIN) == (200, "2")
    assert "reason" not in traffic_of(served)


def test_the_deadline_of_the_service_is_a_reason(pair):
    """All requests that were too late by it are counted, although a sum of times is rounded."""
    now = time.perf_counter()
    timeout = next(s for n in range(10, 99) if (now + (s := n * 1e-7)) - now < s)
    served = pair(gathering(3), gathering(3), share=1.0)
    splits = served.front.pipeline.splits
    splits._next_look = math.inf
    (served.settings.models / "m/settings.toml").write_text(f"timeout = {timeout:.7f}\n")
    served.front.library.refresh()
    answers = [ask(served, name, WITHIN)[0] for name in IDS[:60]]
    splits._next_look = 0.0
    ask(served, "another", WITHIN)

    assert set(answers) == {504}
    assert traffic_of(served)["retreat"]["canary"] == {"requests": 60, "failed": 1.0}


def test_requests_without_shares_are_not_drawn(models, serve, monkeypatch):
    """They cost nothing: no hash is made of them."""
    point(models)
    served = serve()
    monkeypatch.setattr(Split, "is_drawn", lambda *_: pytest.fail("a draw"))

    assert asked(served, "request-1") == "2"
    assert served.front.table.routes[b"/models/m/predict"].canary is None


def test_under_wsgi_a_canary_is_asked_no_more(tmp_path, monkeypatch):
    """Each process of another server decides by its own requests."""
    small.put(tmp_path, "m", 1, gathering(10))
    small.put(tmp_path, "m", 2, gathering(3))
    point(tmp_path, stable="1")
    share(tmp_path, share=0.5)
    monkeypatch.setattr("service.canary.LOOK_SECONDS", 0.0)
    client = app_of(tmp_path).test_client()

    def ask(name):
        answer = client.post("/models/m/predict", json=BEYOND, headers={"X-Request-ID": name})
        return answer.status_code

    first = [ask(name) for name in IDS[:200]]

    assert {*first[:20]} == {200, 400}
    assert first.count(400) < 40
    assert {*first[100:]} == {200}
    said = client.get("/models/m").get_json()["traffic"]["canary"]
    assert said["reason"].startswith("it is asked no more, since it fails 100 % of ")
