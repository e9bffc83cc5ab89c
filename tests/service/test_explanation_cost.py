"""What explanations cost: bounded runs and memory, beside others, and nothing after their end."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import TooLarge
from service.inference.lane import LEAST_WAITING, Lane
from service.inference.model import Model
from service.insight import explanations
from service.insight.explanations import plan as plan_module
from service.wire import dialect, native
from tests.harness import small
from tests.harness.lanes import lane_of, pace
from tests.harness.served import JSON, Served

PREDICT = "/models/three/predict"
ROW = {"insurance": [47, "yes", 20], "fruit": [1, 2.5], "digit": [0, 3, 2, 3]}
STEPS = {
    "plan": (explanations.Plan, "of"),
    "expand": (plan_module.Plan, "expand"),
    "run": (Model, "predict"),
    "fold": (plan_module.Plan, "fold"),
    "encode": (native.reference, "encode"),
}


def body(explain, rows=1):
    """Return a request for explanations of some rows."""
    return json.dumps({"instances": [ROW] * rows, "explain": explain}).encode()


@pytest.fixture(name="served", scope="module")
def _served(tmp_path_factory):
    """Serve a front."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.three())
    small.put(models, "long", 1, small.long())
    served = Served(models)
    yield served
    served.stop()


def settle(served):
    """Wait until nothing waits or runs, and check that nothing is held or counted."""
    lane, room = lane_of(served, PREDICT), served.front.pipeline.room
    deadline = time.monotonic() + 10
    while lane.has_work or room.held or lane.sliced_requests:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert (lane.rows, lane.sliced_rows, lane.requests) == (0, 0, 0)


@pytest.mark.parametrize("rows", [1, 300], ids=["in the loop", "apart"])
@pytest.mark.parametrize("step", STEPS)
def test_an_error_in_any_step_of_an_explanation_is_a_500(served, step, rows, monkeypatch):
    """Nothing of the request stays behind, and the next one is answered."""
    asked = body({"method": "shapley"}, rows)
    assert served.ask("POST", PREDICT, asked, JSON)[0] == 200
    with monkeypatch.context() as patch:

        def fail(*_):
            raise MemoryError("injected")

        patch.setattr(*STEPS[step], fail)
        if step == "encode":
            # A dialect keeps the function that it had.
            route = served.front.table.find(PREDICT.encode())
            patch.setattr(dialect.Dialect, "__setattr__", object.__setattr__)
            patch.setattr(route.dialect, "encode", fail)
        status, _, content = served.ask("POST", PREDICT, asked, JSON)
        by_app = served.app.test_client().post(PREDICT, data=asked, headers=JSON)

    assert (status, b"injected" in content) == (500, False)
    assert (by_app.status_code, by_app.data) == (status, content)
    settle(served)
    assert served.ask("POST", PREDICT, asked, JSON)[0] == 200


def test_an_explanation_ends_with_its_deadline(served, monkeypatch):
    """The slices that are left are not run."""
    runs = []
    predict = Model.predict

    def slow(self, arrays, heads):
        runs.append(len(arrays["fruit"]))
        time.sleep(0.05)
        return predict(self, arrays, heads)

    monkeypatch.setattr(Model, "predict", slow)
    asked = body({"method": "shapley"}, 1000)
    headers = {**JSON, "X-Request-Timeout": "2"}
    status, _, content = served.ask("POST", PREDICT, asked, headers)

    assert status == 504
    assert b"expected to be run within 2 s" in content
    settle(served)
    assert 0 < sum(runs) < 1000 * 63 / 2
    pace(lane_of(served, PREDICT), 1e-6)


def test_a_client_that_goes_costs_no_more_runs(served, monkeypatch):
    """Nobody wants the slices that are left."""
    began = threading.Event()
    runs = []
    predict = Model.predict

    def slow(self, arrays, heads):
        runs.append(len(arrays["fruit"]))
        began.set()
        time.sleep(0.05)
        return predict(self, arrays, heads)

    monkeypatch.setattr(Model, "predict", slow)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as client:
        client.request("POST", PREDICT, body({"method": "shapley"}, 1000), JSON)
        assert began.wait(10)
    settle(served)

    assert 0 < sum(runs) < 1000 * 63 / 2
    pace(lane_of(served, PREDICT), 1e-6)


def test_others_are_answered_between_the_slices_of_a_large_explanation(served):
    """They wait for a slice, and not for tens of thousands of runs."""
    seen = []
    lane = lane_of(served, PREDICT)
    done = threading.Event()

    def explain():
        status, _, _ = served.ask("POST", PREDICT, body({"method": "shapley"}, 1000), JSON)
        seen.append((status, "explained"))
        done.set()

    thread = threading.Thread(target=explain)
    thread.start()
    while not lane.sliced_requests and not done.is_set():
        time.sleep(0.0005)
    while not done.is_set():
        status, _, _ = served.ask("POST", PREDICT, json.dumps({"instances": [ROW]}).encode(), JSON)
        seen.append((status, "plain"))
    thread.join()

    assert {status for status, _ in seen} == {200}
    assert seen.index((200, "explained")) > 0
    settle(served)


def test_more_explanations_than_can_run_together_are_refused(served):
    """A request that needs none is still admitted."""
    lane = lane_of(served, PREDICT)
    pace(lane, 1e-3)
    lane.sliced_requests, lane.sliced_rows = LEAST_WAITING, 1000
    backlog = lane.backlog
    try:
        explained = served.ask("POST", PREDICT, body(True), JSON)
        plain = served.ask("POST", PREDICT, json.dumps({"instances": [ROW]}).encode(), JSON)
    finally:
        lane.sliced_requests, lane.sliced_rows = 0, 0
        pace(lane, 1e-6)

    assert (explained[0], plain[0]) == (429, 200)
    assert explained[1]["retry-after"] == "1"
    assert backlog == pytest.approx(1.0, rel=0.1)
    assert b"its queue is full" in explained[2]


def test_explanations_that_come_together_are_refused_too(served, monkeypatch):
    """Those that begin while others are made are counted when they would run."""
    lane = lane_of(served, PREDICT)
    pace(lane, 1e-3)
    monkeypatch.setattr(Lane, "note_run", lambda *_: None)
    asked = body({"method": "shapley"}, 30)
    statuses = []

    def ask():
        statuses.append(served.ask("POST", PREDICT, asked, JSON)[0])

    threads = [threading.Thread(target=ask) for _ in range(4 * LEAST_WAITING)]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, lane.sliced_requests)
        time.sleep(0.0002)
    settle(served)
    monkeypatch.undo()
    pace(lane, 1e-6)

    assert set(statuses) == {200, 429}
    assert 0 < most <= LEAST_WAITING


def test_the_memory_of_an_explanation_counts(served):
    """Where others hold all the room, it is refused before anything is made."""
    room = served.front.pipeline.room
    room.held = room.limit
    try:
        status, _, content = served.ask("POST", PREDICT, body(True), JSON)
    finally:
        room.held = 0

    assert status == 429
    assert b"TRICEPS_MAX_IN_FLIGHT" in content


@pytest.mark.parametrize("way", ["served", "app"])
def test_a_long_answer_is_kept_for_a_row_and_not_for_its_runs(served, way):
    """Its head is not explained, and only the row's own answer to it is of use."""
    row = list(range(8))
    asked = json.dumps({"instances": [row], "explain": {"method": "shapley"}}).encode()
    path = "/models/long/predict"
    tracemalloc.start()
    try:
        if way == "served":
            status, _, content = served.ask("POST", path, asked, JSON)
        else:
            answer = served.app.test_client().post(path, data=asked, headers=JSON)
            status, content = answer.status_code, answer.data
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert status == 200
    found = json.loads(content)
    [answers] = found["predictions"]
    assert answers["long"]["value"] == row * 20_000
    assert list(answers["explanations"]["y"]["parts"].values()) == row
    assert found["explained"]["runs"] == 2**8
    # All runs have 164 MB of answers.
    assert peak < 2**26


@pytest.mark.parametrize(
    "text", ["a" * 3_000_000, "\N{GRINNING FACE}" * 700_000], ids=["a", "emoji"]
)
def test_the_bytes_of_texts_count(served, text):
    """Each run copies them, so a long one makes a request too large to explain, and not to run."""
    row = {**ROW, "insurance": [47, text, 20]}
    asked = {"instances": [row], "heads": ["risk", "size"]}
    asked_plain = json.dumps(asked).encode()
    asked_explained = json.dumps({**asked, "explain": {"method": "shapley"}}).encode()

    assert served.ask("POST", PREDICT, asked_plain, JSON)[0] == 200
    status, _, content = served.ask("POST", PREDICT, asked_explained, JSON)
    assert (status, b"runs of this model in one request" in content) == (413, True)
    settle(served)


@given(st.integers(1, 400), st.sampled_from(["occlusion", "shapley"]), st.integers(1, 1024))
def test_no_plan_is_larger_than_its_bounds(rows, method, samples):
    """A request that would be is refused; the rows of any other, as they are run, are within."""
    model = PICTURES
    query = native.interpret(
        {
            "instances": [[0] * 784] * rows,
            "explain": {"method": method, "samples": samples},
        },
        model.signature,
    )
    most = plan_module.most_rows(model.signature, query, model)
    if rows > most:
        with pytest.raises(TooLarge, match="ask in several requests"):
            explanations.Plan.of(model.signature, query, model)
        return
    plan = explanations.Plan.of(model.signature, query, model)

    assert plan.total <= plan_module.MOST_RUNS
    assert plan.total * (784 * 4 + 8) == plan.size <= plan_module.MOST_BYTES
    if plan.size < 2**22:
        assert {name: array.shape for name, array in plan.expand().items()} == {
            "x": (plan.total, 784)
        }


def _pictures():
    nodes = [small.helper.make_node("ReduceMean", ["x", "last"], ["y"], keepdims=1)]
    axes = ["n", 784]
    made = small.model(
        nodes,
        [("x", small.F, axes)],
        [("y", small.F, ["n", 1])],
        {"last": np.array([1])},
    )
    return Model.load(made.SerializeToString())


PICTURES = _pictures()
