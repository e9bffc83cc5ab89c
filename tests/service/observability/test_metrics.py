"""/metrics: each request is counted once, by any worker, and each worker reports all counts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import weakref
from collections import Counter
from importlib import metadata
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families

from service import __version__, create_app
from service.host.files import write_file
from service.inference.batcher import Batcher
from service.inference.lane import Lane
from service.inference.model import Model
from service.observability import head_counts, timing
from service.observability.exposition import expose
from service.observability.metrics import Metrics
from service.observability.shared_memory import SharedNumbers
from service.repository.assembly import open_repository
from service.run import Part, Run
from service.server.supervisor import SOON_SECONDS
from service.settings import Settings
from service.signature import Head, Tensor
from service.wire.body import Imputed
from service.wire.labels import labels_of
from tests.harness import small
from tests.harness.exposition import samples
from tests.harness.served import BODY, JSON, RIGHT, Served, post
from tests.harness.serving import FLASK, ROOT, Server, free_port

# The scores of `tags` are the sigmoids of these: two rows of RIGHT, and one of defaults.
TAGGED = [0, 1.5, 0, 1.5, 0.5, 1]
PREDICT = "/models/three/predict"


def requests(numbers):
    """Return the number of requests by dialect, model, status and version, without zeros."""
    return {key[1:]: n for key, n in numbers.items() if key[0] == "triceps_requests_total" and n}


def ask(port, body=None, path=PREDICT):
    """Return the text of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, JSON)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def models(tmp_path):
    """Return a repository of two models, one with a view, and of a broken file."""
    small.put(tmp_path / "models", "three", 1, small.three(models={"risky": ["risk"]}))
    small.put(tmp_path / "models", "broken", 4, b"no model")
    small.put(tmp_path / "models", "brittle", 1, small.brittle())
    return tmp_path / "models"


@pytest.fixture
def client(models):
    """Return a client of the Flask app by itself."""
    return create_app(Settings(models=models, max_body=2000)).test_client()


@pytest.fixture
def served(models):
    """Yield the front, in a thread."""
    served = Served(models, max_body=2000)
    yield served
    served.stop()


def read(served):
    """Return the samples of a front's /metrics."""
    return samples(served.ask("GET", "/metrics")[2].decode())


# The text.


def test_one_request_changes_exactly_these_samples(client):
    """All series of a model exist after its first answer, and a request changes only its own."""
    client.post(PREDICT, json={"instances": [RIGHT]})
    before = samples(client.get("/metrics").text)
    client.post(PREDICT, json={"instances": [RIGHT, RIGHT, {**RIGHT, "fruit": {}}]})
    answer = client.get("/metrics")
    after = samples(answer.text)

    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    process = ("triceps_worker_", "triceps_stage_seconds", "triceps_build_info")
    changed = {
        key: value - before.get(key, 0)
        for key, value in after.items()
        if value != before.get(key) and not key[0].startswith(process)
    }
    labels = ("three", "1")
    assert changed == {
        ("triceps_requests_total", "other", "", "200", ""): 1,
        ("triceps_requests_total", "native", "three", "200", "1"): 1,
        ("triceps_rows_total", *labels): 3,
        **{("triceps_batch_rows_bucket", f"{le}.0", *labels): 1 for le in (4, 8, 16, 32, 64, 128)},
        **{("triceps_batch_rows_bucket", le, *labels): 1 for le in ("256.0", "512.0", "+Inf")},
        ("triceps_batch_rows_count", *labels): 1,
        ("triceps_batch_rows_sum", *labels): 3,
        ("triceps_head_labels_total", "risk", "high", *labels): 3,
        ("triceps_head_labels_total", "digits", "two", *labels): 3,
        ("triceps_head_labels_total", "tags", "heavy", *labels): 1,
        ("triceps_head_labels_total", "tags", "long", *labels): 3,
        ("triceps_head_score_count", "risk", *labels): 3,
        ("triceps_head_score_sum", "risk", *labels): pytest.approx(3 / (1 + np.exp(-7))),
        ("triceps_head_score_count", "size", *labels): 3,
        ("triceps_head_score_sum", "size", *labels): 3.5 * 3,
        ("triceps_head_score_count", "digits", *labels): 3,
        ("triceps_head_score_sum", "digits", *labels): 9,
        ("triceps_head_score_count", "tags", *labels): 3,
        ("triceps_head_score_sum", "tags", *labels): pytest.approx(
            sum(1 / (1 + np.exp(-x)) for x in TAGGED) / 2
        ),
        ("triceps_imputed_total", "insurance.smoker", *labels): 3,
        ("triceps_imputed_total", "fruit.weight", *labels): 1,
        ("triceps_imputed_total", "fruit.length", *labels): 1,
    }
    for stage in timing.STAGES:
        assert after["triceps_stage_seconds_count", "three", stage, "1"] == 2
        assert after["triceps_stage_seconds_bucket", "+Inf", "three", stage, "1"] == 2


def test_rows_that_are_run_to_explain_others_count_as_runs_alone(served):
    """Nobody asked about them, so neither the rows nor the labels of a model have them."""

    def added(more):
        before = read(served)
        body = json.dumps({"instances": [RIGHT, RIGHT], **more}).encode()
        assert served.ask("POST", PREDICT, body, JSON)[0] == 200
        after = read(served)
        families = ("triceps_rows_total", "triceps_head", "triceps_batch_rows_", "triceps_requests")
        return {
            key: value - before.get(key, 0)
            for key, value in after.items()
            if value != before.get(key) and key[0].startswith(families) and "three" in key
        }

    added({})
    plain, explained = added({}), added({"explain": True})
    run = ("triceps_batch_rows_sum", "three", "1")

    # Six features: the row itself, the reference, and a run for each.
    assert (plain.pop(run), explained.pop(run)) == (2, 2 * 7 + 1)
    buckets = [key for key in plain if key[0] == "triceps_batch_rows_bucket"]
    assert len(buckets) > sum(explained.pop(key, 0) for key in buckets) > 0
    for key in buckets:
        del plain[key]
    assert explained == plain


def test_models_that_nobody_asks_add_little_to_the_page(client):
    """A model has no series of answers before its first one, and then all of them at once."""
    unasked = client.get("/metrics").text
    client.post(PREDICT, json={"instances": [RIGHT]})
    asked = samples(client.get("/metrics").text)

    families = {key[0] for key in samples(unasked) if "three" in key}
    assert families == {"triceps_model_loaded", "triceps_model_batching"}
    assert asked["triceps_head_labels_total", "digits", "zero", "three", "1"] == 0
    assert {key[0] for key in asked if "brittle" in key} == families


def test_loaded_models_and_versions_of_software_are_reported(client, models):
    """The page has the loaded versions, the refused ones, and the software that runs them."""
    numbers = samples(client.get("/metrics").text)

    loaded = {key[1:]: n for key, n in numbers.items() if key[0] == "triceps_model_loaded"}
    assert loaded == dict.fromkeys((("three", "1"), ("risky", "1"), ("brittle", "1")), 1)
    assert numbers["triceps_model_refused", "broken", "4"] == 1
    build = next(key for key in numbers if key[0] == "triceps_build_info")
    assert build[1:] == (
        metadata.version("onnxruntime"),
        sys.version.split()[0],
        __version__,
    )


def test_loaded_models_are_looked_up_each_time(models, tmp_path):
    """Models come and go, and the counts of a removed version go with it.

    Otherwise, where old versions are removed, the page would grow with every version ever loaded.
    """
    small.put(tmp_path / "later", "three", 2, small.three())
    counted = Metrics()
    first, second = (open_repository(models), open_repository(tmp_path / "later"))
    counted.meter(first.served["three"][0], "native").failed(400)

    texts = [expose(counted, repository, "")[0].decode() for repository in (first, second)]

    pages = [samples(text) for text in texts]
    assert [("triceps_model_loaded", "three", "1") in each for each in pages] == [True, False]
    assert pages[1]["triceps_model_loaded", "three", "2"] == 1
    assert requests(pages[0]) == {("native", "three", "400", "1"): 1}
    assert requests(pages[1]) == {}
    assert not [key for key in pages[1] if key[1:3] == ("three", "1")]


def test_the_counts_of_a_version_that_has_to_be_refused_later_stay(models):
    """Another worker may still serve it, and the page is the same whichever worker answers."""
    counted, first = Metrics(), open_repository(models)
    counted.meter(first.served["three"][0], "native").failed(400)
    write_file(models / "three" / "1" / "model.onnx", b"no model")
    second = open_repository(models)

    page = samples(expose(counted, second, "")[0].decode())

    assert page["triceps_model_refused", "three", "1"] == 1
    assert requests(page) == {("native", "three", "400", "1"): 1}


def test_the_meter_of_a_version_goes_with_its_last_user(models, tmp_path):
    """Its counts stay, and a request that is still to be counted keeps the meter."""
    small.put(tmp_path / "later", "three", 2, small.three())
    counted = Metrics()
    first = open_repository(models)
    servable = first.served["three"][0]
    meter = counted.meter(servable, "native")
    meter.answered((0.0, 0.0, Run(1, 0.0, 0.0, {}), 0.0, 0.0), ())
    later = open_repository(tmp_path / "later").served["three"][0]
    counted.meter(later, "native")
    assert counted.meter(servable, "native") is meter

    reference = weakref.ref(meter)
    del first, servable, meter
    gc.collect()
    counted.meter(later, "oip")

    assert reference() is None
    assert counted.totals()["requests", "three", "1", "native", "200"][0] == 1


def test_openmetrics_is_sent_on_request(client):
    """Prometheus itself asks for it."""
    client.post(PREDICT, data=BODY, headers=JSON)
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    answer = client.get("/metrics", headers=accept)

    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in open_families(answer.text)}
    assert {"triceps_requests", "triceps_stage_seconds", "triceps_head_score"} <= names


# One count for each request.

WRONG = [
    pytest.param(post(b"{"), ("native", "three", "400", "1"), id="a wrong body"),
    pytest.param(post(BODY, b"Content-Encoding: br"), ("native", "three", "415", "1"), id="415"),
    pytest.param(post(b" " * 2001), ("native", "three", "413", "1"), id="too large"),
    pytest.param(post(BODY, path=b"/models/a/predict"), ("native", "", "404", ""), id="no model"),
    pytest.param(
        post(BODY, path=b"/models/three/versions/7/predict"),
        ("native", "three", "404", ""),
        id="no version",
    ),
    pytest.param(
        post(BODY, path=b"/models/broken/predict"), ("native", "broken", "503", ""), id="refused"
    ),
    pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ("other", "", "200", ""), id="a page"),
    pytest.param(b"PUT /nope HTTP/1.1\r\nHost: x\r\n\r\n", ("other", "", "404", ""), id="nowhere"),
    pytest.param(
        b"GET /models/three/predict HTTP/1.1\r\nHost: x\r\n\r\n",
        ("other", "", "405", ""),
        id="a method",
    ),
    pytest.param(post(BODY, path=b"/models/three/predict/"), None, id="through Flask"),
    pytest.param(post(BODY, path=b"/models/three/predict?x"), None, id="with a query"),
    pytest.param(post(BODY), None, id="a prediction"),
    pytest.param(
        post(b'{"instances":[{"x":[1],"place":9}]}', path=b"/models/brittle/predict"),
        ("native", "brittle", "400", "1"),
        id="no answer for it",
    ),
]


@pytest.mark.parametrize(("request_", "counted"), WRONG)
def test_each_request_is_counted_once_by_its_answer(served, client, request_, counted):
    """The front and the Flask app alone count alike, by model if there is one."""
    request_ = request_.replace(b" /predict ", PREDICT.encode().join((b" ", b" ")))
    method, path = request_.split(b" ")[:2]
    headers = dict(re.findall(rb"(Content-\w+): ([^\r]+)", request_))
    served.raw(request_.replace(b"Host: x", b"Host: x\r\nConnection: close"))
    client.open(
        path.decode(),
        method=method.decode(),
        data=request_.partition(b"\r\n\r\n")[2],
        headers={k.decode(): v.decode() for k, v in headers.items() if k != b"Content-Length"},
    )
    counted = counted or ("native", "three", "200", "1")

    assert requests(read(served)) == {counted: 1}
    assert requests(samples(client.get("/metrics").text)) == {counted: 1}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"nonsense\r\n\r\n", "400", id="no HTTP"),
        pytest.param(
            post(BODY, path=PREDICT.encode()) + b"nonsense\r\n\r\n", "400", id="after one"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 200_000, "431", id="a long header"
        ),
    ],
)
def test_a_malformed_request_is_counted_too(served, request_, status):
    """The front alone answers it, with an error."""
    served.raw(request_[:40], request_[40:], pause=0.02)

    counts = requests(read(served))
    assert counts.pop(("other", "", status, "")) == 1
    assert counts in ({}, {("native", "three", "200", "1"): 1})


def test_a_bug_is_counted_as_500(served, monkeypatch):
    """The count has the model that was requested."""
    monkeypatch.setattr("service.wire.native.answers.labels_of", None)
    served.ask("POST", PREDICT, BODY, JSON)

    assert requests(read(served)) == {("native", "three", "500", "1"): 1}


def test_simultaneous_requests_are_all_counted(served):
    """The histograms count as many as the requests, over many connections and both ways in."""

    def client(number):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as c:
            for i in range(60):
                rows = 1 + (i + number) % 3
                body = json.dumps({"instances": [RIGHT] * rows})
                c.request("POST", PREDICT + "/" * (i % 10 == 0), body, JSON)
                c.getresponse().read()

    threads = [threading.Thread(target=client, args=(n,)) for n in range(9)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        read(served)
    numbers = read(served)

    labels = ("three", "1")
    assert requests(numbers)["native", "three", "200", "1"] == 540
    assert (
        numbers["triceps_rows_total", *labels] == numbers["triceps_batch_rows_sum", *labels] == 1080
    )
    assert numbers["triceps_head_labels_total", "digits", "two", *labels] == 1080
    for stage in timing.STAGES:
        assert numbers["triceps_stage_seconds_count", "three", stage, "1"] == 540
        buckets = [n for k, n in numbers.items() if k[0].endswith("s_bucket") and stage in k[2:4]]
        assert buckets
    assert 1 <= numbers["triceps_batch_rows_count", *labels] <= 540
    assert numbers["triceps_imputed_total", "insurance.smoker", *labels] == 1080


def test_a_closed_connection_is_counted_as_499(served, monkeypatch):
    """Each complete request of the connection is counted once."""
    predict = Model.predict

    def slow(self: Model, arrays: Any, heads: Any) -> Any:
        time.sleep(0.2)
        return predict(self, arrays, heads)

    monkeypatch.setattr(Model, "predict", slow)
    request = post(BODY, path=PREDICT.encode())
    with socket.create_connection(("127.0.0.1", served.port)) as first:
        first.sendall(request)
        time.sleep(0.05)
        gone = socket.create_connection(("127.0.0.1", served.port))
        gone.sendall(request * 3)
        gone.close()
        assert first.recv(1000).startswith(b"HTTP/1.1 200 OK")
    time.sleep(0.3)

    counts = requests(read(served))
    # One of them may run before the service sees that the connection is closed.
    assert counts["native", "three", "200", "1"] + counts["native", "three", "499", "1"] == 4
    assert counts["native", "three", "499", "1"] >= 2


def test_open_connections_are_reported(served):
    """The connection of the request for /metrics counts as well."""
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            sock.sendall(post(BODY, path=PREDICT.encode()))
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert read(served)["triceps_connections", "0"] == 4


# Times.


def test_server_timing_is_sent_on_request(served, client):
    """Both ways in send the same header, and only if the request asks for it."""
    with_timing = {**JSON, "X-Server-Timing": "1"}
    answers = [
        served.ask("POST", PREDICT, BODY, with_timing)[1].get("server-timing"),
        client.post(PREDICT, data=BODY, headers=with_timing).headers.get("Server-Timing"),
    ]

    for answer in answers:
        assert re.fullmatch(r"(, )?".join(rf"{s};dur=\d+\.\d{{3}}" for s in timing.STAGES), answer)
    assert "server-timing" not in served.ask("POST", PREDICT, BODY, JSON)[1]
    refused = served.ask("POST", PREDICT, BODY, {**with_timing, "X-Server-Timing": "0"})[1]
    assert "server-timing" not in refused
    assert "Server-Timing" not in client.post(PREDICT, data=BODY, headers=JSON).headers


def test_each_time_falls_into_its_bucket(models):
    """A bound belongs to the bucket below it; a time beyond all bounds counts in the last alone."""
    counted = Metrics()
    servable = open_repository(models).served["three"][0]
    meter = counted.meter(servable, "native")
    outputs = {"size": np.float32([[1]])}
    for seconds in (0, 1 / 16384, 0.25, 0.251, 100):
        meter.answered((0, seconds, Run(1, seconds, seconds, outputs), 0, 0), ())
    counted.flush()

    counts = counted.totals()["stage_seconds", "three", "1", "decode"].tolist()
    expected = [0.0] * 17
    for bucket in (0, 1, 11, 12, 15):
        expected[bucket] = 1
    assert counts[:-1] == expected[:-1]
    assert counts[-1] == pytest.approx(100.501, abs=1e-3)


def test_notes_are_counted_before_there_are_many(models):
    """Each note has a place and a text, so that few of them are kept until they are counted."""
    counted = Metrics()
    servable = open_repository(models).served["three"][0]
    meter = counted.meter(servable, "native")
    run = Run(1, 0.0, 0.0, {"size": np.float32([[1]])})
    for _ in range(3):
        imputed = [
            Imputed(f"instances[{i}].insurance.age", 38, "insurance.age") for i in range(2000)
        ]
        meter.answered((0, 0, run, 0, 0), imputed)

    assert counted.totals()["imputed", "three", "1", "insurance.age"] == 6000


# Rows, runs and heads.


def test_a_run_counts_once_for_all_its_requests(models):
    """A run that is repeated request by request counts as each of the repetitions."""

    async def main() -> list[Run | None]:
        lane = Lane(open_repository(models).served["brittle"][0].model)
        batcher = Batcher(asyncio.get_running_loop())
        results: list[Part | Exception] = []

        class Note:
            def wanted(self) -> bool:
                return True

            def may_return(self) -> bool:
                return False

            def done(self, result: Part | Exception) -> None:
                results.append(result)

        def submit(*places: int) -> None:
            arrays = {"place": np.array(places, np.int64)}
            batcher.submit(lane, "brittle", ("wild",), arrays, Note())

        for places in ((0, 1), (9,), (2,)):
            submit(*places)
        await asyncio.sleep(0.1)
        submit(0)
        submit(1)
        await asyncio.sleep(0.1)
        return [result.run if isinstance(result, Part) else None for result in results]

    runs = asyncio.run(main())

    assert [run and run.rows for run in runs] == [2, None, 1, 2, 2]
    assert runs[3] is runs[4]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("threshold", [None, 0.25, -0.5, 1.5])
def test_labels_are_counted_as_they_are_answered(kind, dtype, threshold):
    """This holds for any scores, any number of rows and any memory layout."""
    drawn = random.Random(0)
    width = {"binary": 1}.get(kind, 3)
    names = ("no", "yes") if kind == "binary" else ("a", "b", "c")
    head = Head("h", kind, Tensor("h", dtype, (width,)), names, threshold)
    region = SharedNumbers(1).regions[0]
    for number in range(200):
        values = [0, 0.25, 0.5, 1, -1, float("nan"), float("inf"), -float("inf")]
        values = values if "float" in dtype else [0, 1, 2] if dtype == "uint8" else [-1, 0, 1, 2]
        rows = [[drawn.choice(values) for _ in range(width)] for _ in range(drawn.randint(1, 6))]
        array = np.array(rows, dtype)
        labels = labels_of(head, array)
        flat = [
            name for label in labels for name in (label if isinstance(label, list) else [label])
        ]
        expected = Counter(name for name in flat if name is not None)
        with np.errstate(all="ignore"):
            counts, scores = head_counts._judge(head, array)
        with region.writing() as numbers, np.errstate(all="ignore"):
            counter = head_counts.HeadCounts(region, ("m", str(number)), head)
            for part in (array[:1], np.asfortranarray(array[1:])):
                counter.note({"h": part})
            counter.add(numbers)
            assert numbers[counter._labels].tolist() == counts.tolist()
        assert dict(zip(names, counts.tolist(), strict=True)) == {n: expected[n] for n in names}
        assert len(scores) == len(rows)


def test_nan_and_infinities_do_not_spoil_a_mean(models, tmp_path):
    """They are left out, and so are heads of text and heads of more values than a chart has."""
    small.put(tmp_path / "logs", "logs", 1, small.logs())
    client = create_app(Settings(models=tmp_path / "logs")).test_client()
    client.post("/predict", json={"inputs": {"x": [[0, -1], [1, 1], [0, 1]]}})
    numbers = samples(client.get("/metrics").text)

    sums = {key[1]: n for key, n in numbers.items() if key[0] == "triceps_head_score_sum"}
    counts = {key[1]: n for key, n in numbers.items() if key[0] == "triceps_head_score_count"}
    assert sums == {"many": 0, "best": 0, "first": 0, "whole": 1, "truth": 2}
    assert counts == {"many": 1, "best": 2, "first": 1, "whole": 3, "truth": 3}


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        pytest.param("three", {"instances": [{}]}, {}, id="refused: bmi has no default"),
        pytest.param(
            "three",
            {"instances": [{"fruit": [None, 1]}, {"fruit": {}}], "heads": ["size"]},
            {"fruit.weight": 2, "fruit.length": 1},
            id="by row",
        ),
        pytest.param(
            "three",
            {"inputs": {"fruit": [{"length": None}, [1, None]]}, "heads": ["size"]},
            {"fruit.weight": 1, "fruit.length": 2},
            id="by column",
        ),
        pytest.param(
            "risky",
            {"instances": [{"bmi": 1}, [None, "no", 1]]},
            {"insurance.age": 2, "insurance.smoker": 1},
            id="bare rows",
        ),
        pytest.param(
            "risky",
            {"inputs": [{"bmi": 1}, [1, None, 1]]},
            {"insurance.age": 1, "insurance.smoker": 2},
            id="a bare column",
        ),
        pytest.param(
            "odd_names",
            {"instances": [{}]},
            None,
            id="names that no path writes as they are",
        ),
    ],
)
def test_defaults_are_counted_by_feature(tmp_path, name, body, expected):
    """The form of the row makes no difference."""
    small.put(tmp_path, "three", 1, small.three(models={"risky": ["risk"]}))
    small.put(tmp_path, "odd_names", 1, small.odd_names())
    client = create_app(Settings(models=tmp_path)).test_client()
    answer = client.post(f"/models/{name}/predict", json=body).get_json()
    numbers = samples(client.get("/metrics").text)

    counted = {k[1]: n for k, n in numbers.items() if k[0] == "triceps_imputed_total" and n}
    assert sum(counted.values()) == len(answer.get("imputed", ()))
    assert expected is None or counted == expected


# The shared memory.


def test_regions_are_summed_and_a_successor_goes_on(models):
    """Each worker reports the same; the counts of a slot survive a worker killed in a write."""
    shared_memory = SharedNumbers(2)
    repository = open_repository(models)
    both = [Metrics(shared_memory, slot) for slot in (0, 1)]
    for counted in both:
        counted.count("", "", "other", 404)
        counted.meter(repository.served["three"][0], "native").failed(400)
        counted.flush()
    # As if the worker had been killed in a write.
    shared_memory.regions[1].header[0] += 1
    successor = Metrics(shared_memory, 1)
    successor.count("", "", "other", 404)
    successor.meter(repository.served["three"][0], "native").failed(503)
    successor.flush()

    texts = [expose(each, repository, "")[0].decode() for each in (both[0], successor)]

    for text in texts:
        numbers = samples(text)
        assert requests(numbers) == {
            ("other", "", "404", ""): 3,
            ("native", "three", "400", "1"): 2,
            ("native", "three", "503", "1"): 1,
        }
        assert numbers["triceps_worker_starts_total", "0"] == 1
        assert numbers["triceps_worker_starts_total", "1"] == 2


def test_the_region_of_a_killed_writer_is_still_read(models):
    """The reader waits for the writer for a moment only."""
    shared_memory = SharedNumbers(2)
    Metrics(shared_memory, 0).count("", "", "other", 404)
    shared_memory.regions[0].header[0] += 1

    assert Metrics(shared_memory, 1).totals()["requests", "", "", "other", "404"].tolist() == [1]


_TORN = """
import os, sys, time
import numpy as np
from pathlib import Path
from service.run import Run
from service.wire.body import Imputed
from service.observability.shared_memory import SharedNumbers
from service.observability.metrics import Metrics
from service.repository.assembly import open_repository

board = SharedNumbers(2)
servable = open_repository(Path(sys.argv[1])).served["three"][0]
writer = os.fork()
if writer == 0:
    mine = Metrics(board, 0)
    meter = mine.meter(servable, "native")
    while os.getppid() != 1:
        for _ in range(20):
            meter.answered((0, 0, Run(1, 0, 0, {"risk": np.float32([[1]])}), 0, 0), ())
        mine.flush()
        time.sleep(0.0002)
reader = Metrics(board, 1)
seen = set()
while len(seen) < 100:
    found = reader.totals()
    if ("rows", "three", "1") in found:
        heads = found["head_score", "three", "1", "risk"].tolist()
        counts = {*heads, *found["rows", "three", "1"].tolist()}
        counts |= set(found["requests", "three", "1", "native", "200"].tolist())
        assert len(counts) == 1, counts
        seen |= counts
os.kill(writer, 9)
"""


def test_a_reader_sees_all_of_a_flush_or_nothing(models):
    """Counts that belong together are told together, by another process while they are written."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    subprocess.run([sys.executable, "-c", _TORN, models], check=True, env=environment, timeout=20)


def test_a_full_region_is_logged_once_and_counts_on(caplog):
    """A series without room is left out, and all others are right."""
    counted = Metrics(SharedNumbers(names=200))
    for i in range(20):
        counted.count("", "", "other", 400 + i)

    totals = counted.totals()
    assert 0 < len(totals) < 20
    assert {numbers.tolist()[0] for numbers in totals.values()} == {1}
    assert caplog.text.count("no room for more series") == 1


def test_requests_are_answered_though_there_is_no_room_for_their_counts(models, caplog):
    """This may happen after thousands of versions; series that have room are still reported."""
    served = Served(models, Metrics(SharedNumbers(numbers=8 * 100)))
    try:
        for path in (PREDICT, "/v2/models/three/infer", "/models/brittle/predict"):
            body = json.dumps({"instances": [RIGHT]}).encode()
            status = served.ask("POST", path, body, {"Content-Type": "application/json"})[0]
            assert status == (200 if path == PREDICT else 400)
        numbers = read(served)
        assert served.ask("GET", "/readyz")[0] == 200
    finally:
        served.stop()

    assert numbers["triceps_model_loaded", "three", "1"] == 1
    assert 0 < len(requests(numbers)) < 3
    assert caplog.text.count("no room for more series") == 1


def test_an_answer_that_cannot_be_counted_costs_no_other_count(models, caplog):
    """Other heads and models are counted; the error is logged once, and nothing piles up."""
    counted, served = Metrics(), open_repository(models).served
    wide, beside = (counted.meter(served[name][0], "native") for name in ("three", "brittle"))
    for _ in range(3):
        # Five scores where the graph declares three a row.
        outputs = {"digits": np.zeros((1, 5), np.float32), "risk": np.float32([[1]])}
        wide.answered((0, 0, Run(1, 0, 0, outputs), 0, 0), ())
        beside.answered((0, 0, Run(1, 0, 0, {}), 0, 0), ())
        counted.flush()

    totals = counted.totals()
    assert totals["requests", "three", "1", "native", "200"].tolist() == [3]
    assert totals["requests", "brittle", "1", "native", "200"].tolist() == [3]
    assert totals["head_score", "three", "1", "risk"].tolist() == [3, 3]
    assert totals["head_score", "three", "1", "digits"].tolist() == [0, 0]
    assert caplog.text.count("three, version 1: not all answers are counted") == 1

    # A right answer is counted alone, and not with what is left of those.
    wide.answered((0, 0, Run(1, 0, 0, {**outputs, "digits": np.zeros((1, 3), "f4")}), 0, 0), ())
    counted.flush()
    assert counted.totals()["head_score", "three", "1", "digits"].tolist() == [1, 0]


def test_a_broken_meter_costs_no_other_its_count(models, caplog):
    """A bug in one meter is logged once, and its notes are dropped."""
    counted, served = Metrics(), open_repository(models).served
    broken, beside = (counted.meter(served[name][0], "native") for name in ("three", "brittle"))
    for turn in range(3):
        for meter in (broken, beside):
            meter.answered((0, 0, Run(1, 0, 0, {}), 0, 0), ())
        broken._series = broken._series._replace(stages=None) if turn else broken._series
        counted.flush()

    assert counted.totals()["requests", "brittle", "1", "native", "200"].tolist() == [3]
    assert (broken._moments, broken._runs) == ([], [])
    assert caplog.text.count("not all answers are counted") == 1


def test_a_version_whose_series_find_no_place_answers_all_the_same(models, caplog, monkeypatch):
    """Its answers are not counted, which is logged once, until there is room."""
    counted, servable = Metrics(), open_repository(models).served["three"][0]
    meter = counted.meter(servable, "native")

    def full(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(type(meter), "_place", full)
        for _ in range(2):
            meter.answered((0, 0, Run(1, 0, 0, {}), 0, 0), ())
    meter.answered((0, 0, Run(1, 0, 0, {}), 0, 0), ())
    counted.flush()

    assert counted.totals()["requests", "three", "1", "native", "200"].tolist() == [1]
    assert caplog.text.count("not all answers are counted") == 1


def test_a_file_that_changed_and_kept_its_version_has_a_meter_of_its_own(models):
    """The notes of the former meter are not lost."""
    counted = Metrics()
    outputs = {"risk": np.float32([[1]])}
    for _ in range(2):
        servable = open_repository(models).served["three"][0]
        meter = counted.meter(servable, "native")
        assert counted.meter(servable, "native") is meter
        meter.answered((0, 0, Run(1, 0, 0, outputs), 0, 0), ())
    counted.flush()

    assert counted.totals()["rows", "three", "1"].tolist() == [2]


# Real processes.


@pytest.fixture
def serve(models, tmp_path):
    """Yield a function that starts a server over the models."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, **more):
            environment = {"TRICEPS_MODELS": str(models)}
            server = stack.enter_context(
                Server(*arguments, folder=tmp_path, environment=environment, **more)
            )
            server.until_alive()
            return server

        yield start


def test_each_worker_reports_the_counts_of_all_and_of_killed_ones(serve):
    """The sums are right within a second; SIGKILL loses no count that was flushed."""
    server = serve("--workers", "2")
    alive = time.monotonic()
    with contextlib.ExitStack() as stack:
        # A connection goes to the worker that has the fewest.
        first, second = (
            stack.enter_context(contextlib.closing(server.connect())) for _ in range(2)
        )

        def send(connection, method, path, body=None):
            connection.request(method, path, body, JSON)
            return connection.getresponse().read().decode()

        def count(connection):
            numbers = samples(send(connection, "GET", "/metrics"))
            return numbers["triceps_requests_total", "native", "three", "200", "1"], numbers

        for connection, times in ((first, 3), (second, 5)):
            for _ in range(times):
                send(connection, "POST", PREDICT, BODY)
        assert count(first)[0] in (3, 8)
        assert count(second)[0] == 8
        time.sleep(1.1)
        of_first, numbers = count(first)
        assert of_first == 8
        assert {k[1] for k in numbers if k[0] == "triceps_connections"} == {"0", "1"}
        assert all(numbers["triceps_worker_resident_memory_bytes", w] > 1e7 for w in ("0", "1"))
        assert all(numbers["triceps_worker_cpu_seconds_total", w] > 0 for w in ("0", "1"))
        assert all(numbers["triceps_worker_open_files", w] > 3 for w in ("0", "1"))

        victim = server.workers()[0]
        # A worker that dies as soon as it has started is not replaced.
        time.sleep(max(0, SOON_SECONDS + 0.1 - (time.monotonic() - alive)))
        os.kill(victim, signal.SIGKILL)
        survivors = []
        for connection in (first, second):
            with contextlib.suppress(OSError, http.client.HTTPException):
                survivors.append((connection, count(connection)[0]))
        assert [n for _, n in survivors] == [8]
        starts = [("triceps_worker_starts_total", w) for w in ("0", "1")]
        deadline = time.monotonic() + 5
        while sum(count(survivors[0][0])[1][key] for key in starts) < 3:
            assert time.monotonic() < deadline
        successor = stack.enter_context(contextlib.closing(server.connect()))
        send(successor, "POST", PREDICT, BODY)
        assert count(successor)[0] == 9
        time.sleep(1.1)
        assert count(survivors[0][0])[0] == 9


def test_flask_run_has_metrics_too(serve):
    """`flask run` is one process."""
    port = free_port()
    serve("--port", port, port=port, command=FLASK)
    for _ in range(3):
        ask(port, BODY)

    numbers = samples(ask(port, path="/metrics"))
    assert numbers["triceps_requests_total", "native", "three", "200", "1"] == 3
    assert numbers["triceps_stage_seconds_count", "three", "run", "1"] == 3
    assert ("triceps_connections", "0") not in numbers


def test_the_page_under_another_server_says_whose_requests_it_counts(tmp_path):
    """Under another WSGI server, no process sees what another one has counted."""
    small.put(tmp_path, "three", 1, small.three())
    page = create_app(Settings(models=tmp_path)).test_client().get("/metrics").text

    assert "each process counts and reports only its own requests" in page
