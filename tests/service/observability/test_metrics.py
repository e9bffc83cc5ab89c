"""/metrics: every request counted once, by whichever worker, and told by any of them."""

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
from service.wire.labels import labels_of
from tests.harness import small
from tests.harness.exposition import samples
from tests.harness.served import BODY, JSON, RIGHT, Served, post
from tests.harness.serving import FLASK, ROOT, Server, free_port

# What the scores of `tags` are the sigmoids of: two rows of RIGHT, and one of defaults.
TAGGED = [0, 1.5, 0, 1.5, 0.5, 1]
PREDICT = "/models/three/predict"


def requests(found):
    """How many requests by dialect, model, status and version, where there were any."""
    return {key[1:]: n for key, n in found.items() if key[0] == "triceps_requests_total" and n}


def ask(port, body=None, path=PREDICT):
    """The text of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, JSON)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def models(tmp_path):
    """A repository of one model with a view, and of a file that is none."""
    small.put(tmp_path / "models", "three", 1, small.three(models={"risky": ["risk"]}))
    small.put(tmp_path / "models", "broken", 4, b"no model")
    small.put(tmp_path / "models", "brittle", 1, small.brittle())
    return tmp_path / "models"


@pytest.fixture
def client(models):
    """The Flask app, by itself."""
    return create_app(Settings(models=models, max_body=2000)).test_client()


@pytest.fixture
def served(models):
    """The front, in a thread."""
    served = Served(models, max_body=2000)
    yield served
    served.stop()


def tell(served):
    """What /metrics of a front says."""
    return samples(served.ask("GET", "/metrics")[2].decode())


# What is told.


def test_the_text_is_exactly_this(client):
    """All series of a model are there from the start, and one request changes those it should."""
    before = samples(client.get("/metrics").text)
    client.post(PREDICT, json={"instances": [RIGHT, RIGHT, {**RIGHT, "fruit": {}}]})
    answer = client.get("/metrics")
    after = samples(answer.text)

    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    process = ("triceps_worker_", "triceps_stage_seconds", "triceps_build_info")
    changed = {
        key: value
        for key, value in after.items()
        if value != before.get(key) and not key[0].startswith(process)
    }
    who = ("three", "1")
    assert changed == {
        ("triceps_requests_total", "other", "", "200", ""): 1,
        ("triceps_requests_total", "native", "three", "200", "1"): 1,
        ("triceps_rows_total", *who): 3,
        **{("triceps_batch_rows_bucket", f"{le}.0", *who): 1 for le in (4, 8, 16, 32, 64, 128)},
        **{("triceps_batch_rows_bucket", le, *who): 1 for le in ("256.0", "512.0", "+Inf")},
        ("triceps_batch_rows_count", *who): 1,
        ("triceps_batch_rows_sum", *who): 3,
        ("triceps_head_labels_total", "risk", "high", *who): 3,
        ("triceps_head_labels_total", "digits", "two", *who): 3,
        ("triceps_head_labels_total", "tags", "heavy", *who): 1,
        ("triceps_head_labels_total", "tags", "long", *who): 3,
        ("triceps_head_score_count", "risk", *who): 3,
        ("triceps_head_score_sum", "risk", *who): pytest.approx(3 / (1 + np.exp(-7))),
        ("triceps_head_score_count", "size", *who): 3,
        ("triceps_head_score_sum", "size", *who): 3.5 * 3,
        ("triceps_head_score_count", "digits", *who): 3,
        ("triceps_head_score_sum", "digits", *who): 9,
        ("triceps_head_score_count", "tags", *who): 3,
        ("triceps_head_score_sum", "tags", *who): pytest.approx(
            sum(1 / (1 + np.exp(-x)) for x in TAGGED) / 2
        ),
        ("triceps_imputed_total", "insurance.smoker", *who): 3,
        ("triceps_imputed_total", "fruit.weight", *who): 1,
        ("triceps_imputed_total", "fruit.length", *who): 1,
    }
    for stage in timing.STAGES:
        assert after["triceps_stage_seconds_count", "three", stage, "1"] == 1
        assert after["triceps_stage_seconds_bucket", "+Inf", "three", stage, "1"] == 1


def test_what_is_loaded_and_running_is_told(client, models):
    """Versions that answer, such as do not, and what all of it runs on."""
    found = samples(client.get("/metrics").text)

    loaded = {key[1:]: n for key, n in found.items() if key[0] == "triceps_model_loaded"}
    assert loaded == dict.fromkeys((("three", "1"), ("risky", "1"), ("brittle", "1")), 1)
    assert found["triceps_model_refused", "broken", "4"] == 1
    build = next(key for key in found if key[0] == "triceps_build_info")
    assert build[1:] == (
        metadata.version("onnxruntime"),
        sys.version.split()[0],
        __version__,
    )


def test_what_is_loaded_is_asked_for_each_time(models, tmp_path):
    """Models come and go, and what was counted of a version that was removed goes with it.

    Whoever removes versions as they are superseded would have a page of all that ever were.
    """
    small.put(tmp_path / "later", "three", 2, small.three())
    counted = Metrics()
    first, second = (open_repository(models), open_repository(tmp_path / "later"))
    counted.meter(first.served["three"][0]).failed(400)

    texts = [expose(counted, repository, "")[0].decode() for repository in (first, second)]

    found = [samples(text) for text in texts]
    assert [("triceps_model_loaded", "three", "1") in each for each in found] == [True, False]
    assert found[1]["triceps_model_loaded", "three", "2"] == 1
    assert requests(found[0]) == {("native", "three", "400", "1"): 1}
    assert requests(found[1]) == {}
    assert not [key for key in found[1] if key[1:3] == ("three", "1")]


def test_what_counts_for_a_version_goes_once_nobody_has_it(models, tmp_path):
    """Its counts stay; whoever still has a request to count has the version, too."""
    small.put(tmp_path / "later", "three", 2, small.three())
    counted = Metrics()
    first = open_repository(models)
    servable = first.served["three"][0]
    meter = counted.meter(servable)
    meter.answered((0.0, 0.0, Run(1, 0.0, 0.0, {}), 0.0, 0.0), ())
    later = open_repository(tmp_path / "later").served["three"][0]
    counted.meter(later)
    assert counted.meter(servable) is meter

    there = weakref.ref(meter)
    del first, servable, meter
    gc.collect()
    counted.meter(later, "oip")

    assert there() is None
    assert counted.totals()["requests", "three", "1", "native", "200"][0] == 1


def test_openmetrics_is_told_to_who_asks_for_it(client):
    """Prometheus itself does."""
    client.post(PREDICT, data=BODY, headers=JSON)
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    answer = client.get("/metrics", headers=accept)

    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in open_families(answer.text)}
    assert {"triceps_requests", "triceps_stage_seconds", "triceps_head_score"} <= names


# Each request once.

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
def test_each_request_is_counted_once_by_what_it_got(served, client, request_, counted):
    """By model where there is one; the front and the Flask app alone count alike."""
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

    assert requests(tell(served)) == {counted: 1}
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
def test_what_never_became_a_request_is_counted_too(served, request_, status):
    """It was answered, by the front alone."""
    served.raw(request_[:40], request_[40:], pause=0.02)

    found = requests(tell(served))
    assert found.pop(("other", "", status, "")) == 1
    assert found in ({}, {("native", "three", "200", "1"): 1})


def test_a_bug_is_counted_as_500(served, monkeypatch):
    """With the model that was asked."""
    monkeypatch.setattr("service.wire.native.answers.labels_of", None)
    served.ask("POST", PREDICT, BODY, JSON)

    assert requests(tell(served)) == {("native", "three", "500", "1"): 1}


def test_many_at_once_are_all_counted(served):
    """From many connections, through both ways in: the histograms' counts are the requests'."""

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
        tell(served)
    found = tell(served)

    who = ("three", "1")
    assert requests(found)["native", "three", "200", "1"] == 540
    assert found["triceps_rows_total", *who] == found["triceps_batch_rows_sum", *who] == 1080
    assert found["triceps_head_labels_total", "digits", "two", *who] == 1080
    for stage in timing.STAGES:
        assert found["triceps_stage_seconds_count", "three", stage, "1"] == 540
        buckets = [n for k, n in found.items() if k[0].endswith("s_bucket") and stage in k[2:4]]
        assert buckets
    assert 1 <= found["triceps_batch_rows_count", *who] <= 540
    assert found["triceps_imputed_total", "insurance.smoker", *who] == 1080


def test_who_hung_up_is_counted_as_499(served, monkeypatch):
    """Once for each request that was complete, whether it was being waited for or not yet."""
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

    found = requests(tell(served))
    # One of them may have been run before it was seen that nobody was there any more.
    assert found["native", "three", "200", "1"] + found["native", "three", "499", "1"] == 4
    assert found["native", "three", "499", "1"] >= 2


def test_open_connections_are_told(served):
    """As many as there are when one asks, who asks among them."""
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            sock.sendall(post(BODY, path=PREDICT.encode()))
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert tell(served)["triceps_connections", "0"] == 4


# Times.


def test_server_timing_is_for_who_asks(served, client):
    """The same header on both ways in, and none for anybody else."""
    asked = {**JSON, "X-Server-Timing": "1"}
    answers = [
        served.ask("POST", PREDICT, BODY, asked)[1].get("server-timing"),
        client.post(PREDICT, data=BODY, headers=asked).headers.get("Server-Timing"),
    ]

    for answer in answers:
        assert re.fullmatch(r"(, )?".join(rf"{s};dur=\d+\.\d{{3}}" for s in timing.STAGES), answer)
    assert "server-timing" not in served.ask("POST", PREDICT, BODY, JSON)[1]
    refused = served.ask("POST", PREDICT, BODY, {**asked, "X-Server-Timing": "0"})[1]
    assert "server-timing" not in refused
    assert "Server-Timing" not in client.post(PREDICT, data=BODY, headers=JSON).headers


def test_each_time_falls_into_its_bucket(models):
    """A bound belongs to the bucket below it; what is longer than all of them only to the last."""
    counted = Metrics()
    meter = counted.meter(open_repository(models).served["three"][0])
    outputs = {"size": np.float32([[1]])}
    for seconds in (0, 1 / 16384, 0.25, 0.251, 100):
        meter.answered((0, seconds, Run(1, seconds, seconds, outputs), 0, 0), ())
    counted.flush()

    found = counted.totals()["stage_seconds", "three", "1", "decode"].tolist()
    expected = [0.0] * 17
    for bucket in (0, 1, 11, 12, 15):
        expected[bucket] = 1
    assert found[:-1] == expected[:-1]
    assert found[-1] == pytest.approx(100.501, abs=1e-3)


# Rows, runs and heads.


def test_a_run_is_counted_once_for_all_its_requests(models):
    """One that had to be taken apart is as many as it became."""

    async def main() -> list[Run | None]:
        lane = Lane(open_repository(models).served["brittle"][0].model)
        batcher = Batcher(asyncio.get_running_loop())
        seen: list[Part | Exception] = []

        class Note:
            def wanted(self) -> bool:
                return True

            def done(self, came: Part | Exception) -> None:
                seen.append(came)

        def submit(*places: int) -> None:
            arrays = {"place": np.array(places, np.int64)}
            batcher.submit(lane, "brittle", ("wild",), arrays, Note())

        for places in ((0, 1), (9,), (2,)):
            submit(*places)
        await asyncio.sleep(0.1)
        submit(0)
        submit(1)
        await asyncio.sleep(0.1)
        return [came.run if isinstance(came, Part) else None for came in seen]

    runs = asyncio.run(main())

    assert [run and run.rows for run in runs] == [2, None, 1, 2, 2]
    assert runs[3] is runs[4]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("threshold", [None, 0.25, -0.5, 1.5])
def test_labels_are_counted_as_they_are_answered(kind, dtype, threshold):
    """For any scores, of any number of rows, in any memory layout."""
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
        told = labels_of(head, array)
        flat = [name for label in told for name in (label if isinstance(label, list) else [label])]
        expected = Counter(name for name in flat if name is not None)
        with np.errstate(all="ignore"):
            counts, scores = head_counts._judge(head, array)
        with region.writing() as numbers, np.errstate(all="ignore"):
            noted = head_counts.HeadCounts(region, ("m", str(number)), head)
            for part in (array[:1], np.asfortranarray(array[1:])):
                noted.note({"h": part})
            noted.add(numbers)
            assert numbers[noted._labels].tolist() == counts.tolist()
        assert dict(zip(names, counts.tolist(), strict=True)) == {n: expected[n] for n in names}
        assert len(scores) == len(rows)


def test_what_is_no_number_does_not_spoil_a_mean(models, tmp_path):
    """NaN and infinities are left out; so is a head of text, or of more values than a chart has."""
    small.put(tmp_path / "logs", "logs", 1, small.logs())
    client = create_app(Settings(models=tmp_path / "logs")).test_client()
    client.post("/predict", json={"inputs": {"x": [[0, -1], [1, 1], [0, 1]]}})
    found = samples(client.get("/metrics").text)

    sums = {key[1]: n for key, n in found.items() if key[0] == "triceps_head_score_sum"}
    counts = {key[1]: n for key, n in found.items() if key[0] == "triceps_head_score_count"}
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
    """However the row was written."""
    small.put(tmp_path, "three", 1, small.three(models={"risky": ["risk"]}))
    small.put(tmp_path, "odd_names", 1, small.odd_names())
    client = create_app(Settings(models=tmp_path)).test_client()
    answer = client.post(f"/models/{name}/predict", json=body).get_json()
    found = samples(client.get("/metrics").text)

    counted = {k[1]: n for k, n in found.items() if k[0] == "triceps_imputed_total" and n}
    assert sum(counted.values()) == len(answer.get("imputed", ()))
    assert expected is None or counted == expected


# The shared memory.


def test_regions_are_summed_and_a_successor_goes_on(models):
    """Whoever is asked tells the same; a slot's counts outlive its worker, even one cut short."""
    shared_memory = SharedNumbers(2)
    repository = open_repository(models)
    both = [Metrics(shared_memory, slot) for slot in (0, 1)]
    for counted in both:
        counted.count("", "", "other", 404)
        counted.meter(repository.served["three"][0]).failed(400)
        counted.flush()
    # As if it had been killed while it wrote.
    shared_memory.regions[1].header[0] += 1
    successor = Metrics(shared_memory, 1)
    successor.count("", "", "other", 404)
    successor.meter(repository.served["three"][0]).failed(503)
    successor.flush()

    texts = [expose(each, repository, "")[0].decode() for each in (both[0], successor)]

    for text in texts:
        found = samples(text)
        assert requests(found) == {
            ("other", "", "404", ""): 3,
            ("native", "three", "400", "1"): 2,
            ("native", "three", "503", "1"): 1,
        }
        assert found["triceps_worker_starts_total", "0"] == 1
        assert found["triceps_worker_starts_total", "1"] == 2


def test_a_region_whose_writer_was_killed_is_told_all_the_same(models):
    """After a moment of waiting for it."""
    shared_memory = SharedNumbers(2)
    Metrics(shared_memory, 0).count("", "", "other", 404)
    shared_memory.regions[0].header[0] += 1

    assert Metrics(shared_memory, 1).totals()["requests", "", "", "other", "404"].tolist() == [1]


_TORN = """
import os, sys, time
import numpy as np
from pathlib import Path
from service.run import Run
from service.observability.shared_memory import SharedNumbers
from service.observability.metrics import Metrics
from service.repository.assembly import open_repository

board = SharedNumbers(2)
servable = open_repository(Path(sys.argv[1])).served["three"][0]
writer = os.fork()
if writer == 0:
    mine = Metrics(board, 0)
    meter = mine.meter(servable)
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


def test_a_full_region_says_so_once_and_counts_on(caplog):
    """What has no room is not told, and nothing else is harmed."""
    counted = Metrics(SharedNumbers(names=200))
    for i in range(20):
        counted.count("", "", "other", 400 + i)

    found = counted.totals()
    assert 0 < len(found) < 20
    assert {numbers.tolist()[0] for numbers in found.values()} == {1}
    assert caplog.text.count("no room for more series") == 1


def test_where_there_is_no_room_for_numbers_requests_are_answered_all_the_same(models, caplog):
    """As after thousands of versions; what has had room before is still told."""
    served = Served(models, Metrics(SharedNumbers(numbers=8 * 100)))
    try:
        for path in (PREDICT, "/v2/models/three/infer", "/models/brittle/predict"):
            body = json.dumps({"instances": [RIGHT]}).encode()
            status = served.ask("POST", path, body, {"Content-Type": "application/json"})[0]
            assert status == (200 if path == PREDICT else 400)
        found = tell(served)
        assert served.ask("GET", "/readyz")[0] == 200
    finally:
        served.stop()

    assert found["triceps_model_loaded", "three", "1"] == 1
    assert 0 < len(requests(found)) < 3
    assert caplog.text.count("no room for more series") == 1


def test_what_cannot_be_counted_costs_nothing_else_its_count(models, caplog):
    """Neither another head, nor another model; it is logged once, and nothing piles up."""
    counted, served = Metrics(), open_repository(models).served
    wide, beside = (counted.meter(served[name][0]) for name in ("three", "brittle"))
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
    assert not any(head._noted for head in wide._heads)
    assert caplog.text.count("three, version 1: not all answers are counted") == 1


def test_a_meter_that_cannot_count_costs_no_other_its_count(models, caplog):
    """Whatever is wrong with it."""
    counted, served = Metrics(), open_repository(models).served
    broken, beside = (counted.meter(served[name][0]) for name in ("three", "brittle"))
    broken._stages = None
    for _ in range(2):
        for meter in (broken, beside):
            meter.answered((0, 0, Run(1, 0, 0, {}), 0, 0), ())
        counted.flush()

    assert counted.totals()["requests", "brittle", "1", "native", "200"].tolist() == [2]
    assert (broken._moments, broken._runs) == ([], [])
    assert caplog.text.count("not all answers are counted") == 1


def test_a_file_that_changed_and_kept_its_version_has_a_meter_of_its_own(models):
    """What is noted by the one before it is not lost."""
    counted = Metrics()
    outputs = {"risk": np.float32([[1]])}
    for _ in range(2):
        servable = open_repository(models).served["three"][0]
        meter = counted.meter(servable)
        assert counted.meter(servable) is meter
        meter.answered((0, 0, Run(1, 0, 0, outputs), 0, 0), ())
    counted.flush()

    assert counted.totals()["rows", "three", "1"].tolist() == [2]


# Real processes.


@pytest.fixture
def serve(models, tmp_path):
    """Start a server of some kind over the models."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, **more):
            environment = {"TRICEPS_MODELS": str(models)}
            server = stack.enter_context(
                Server(*arguments, folder=tmp_path, environment=environment, **more)
            )
            server.until_alive()
            return server

        yield start


def test_all_workers_are_told_by_each_and_outlive_their_death(serve):
    """The sums are right whoever is asked, within a second; SIGKILL takes no flushed count."""
    server = serve("--workers", "2")
    alive = time.monotonic()
    with contextlib.ExitStack() as stack:
        # Connections go to the worker with the fewest.
        first, second = (
            stack.enter_context(contextlib.closing(server.connect())) for _ in range(2)
        )

        def send(connection, method, path, body=None):
            connection.request(method, path, body, JSON)
            return connection.getresponse().read().decode()

        def count(connection):
            found = samples(send(connection, "GET", "/metrics"))
            return found["triceps_requests_total", "native", "three", "200", "1"], found

        for connection, times in ((first, 3), (second, 5)):
            for _ in range(times):
                send(connection, "POST", PREDICT, BODY)
        assert count(first)[0] in (3, 8)
        assert count(second)[0] == 8
        time.sleep(1.1)
        of_first, found = count(first)
        assert of_first == 8
        assert {k[1] for k in found if k[0] == "triceps_connections"} == {"0", "1"}
        assert all(found["triceps_worker_resident_memory_bytes", w] > 1e7 for w in ("0", "1"))
        assert all(found["triceps_worker_cpu_seconds_total", w] > 0 for w in ("0", "1"))
        assert all(found["triceps_worker_open_files", w] > 3 for w in ("0", "1"))

        victim = server.workers()[0]
        # One that dies as soon as it has started would be no accident, and not be replaced.
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


def test_flask_run_has_them_too(serve):
    """In the one process that it is."""
    port = free_port()
    serve("--port", port, port=port, command=FLASK)
    for _ in range(3):
        ask(port, BODY)

    found = samples(ask(port, path="/metrics"))
    assert found["triceps_requests_total", "native", "three", "200", "1"] == 3
    assert found["triceps_stage_seconds_count", "three", "run", "1"] == 3
    assert ("triceps_connections", "0") not in found


def test_the_page_says_whose_requests_it_counts(tmp_path):
    """Under a WSGI server that is not ours no process sees what another has counted."""
    small.put(tmp_path, "three", 1, small.three())
    page = create_app(Settings(models=tmp_path)).test_client().get("/metrics").text

    assert "each process counts and reports only its own requests" in page
