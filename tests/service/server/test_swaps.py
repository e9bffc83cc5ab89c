"""`triceps serve` while versions come and go: no request fails, and no memory is lost."""

import contextlib
import json
import os
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.repository.publish import publish
from tests.harness import small, tokens
from tests.harness.changing import BAD, FRUIT, point, put
from tests.harness.served import JSON
from tests.harness.serving import Server
from tests.harness.waiting import until

# This service soon forgets versions that are not asked for.
BRISK = (
    "from service.commands import main; from service.repository import kept; "
    "kept.IDLE_SECONDS = 0.1; main.main()"
)


@pytest.fixture
def models(tmp_path):
    """Return an empty repository."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def serve(models):
    """Yield a function that starts servers which look often; they are killed at the end."""
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            words = ("--models", models, "--watch", "0.05", *arguments)
            server = stack.enter_context(Server(*words, folder=models, program=BRISK))
            server.until_alive()
            return server

        yield start


def test_thousands_of_requests_succeed_across_swaps(serve, models):
    """Each answer is wholly of the version it names, and no connection sees versions go back."""
    put(models, 1)
    point(models, stable="1")
    server = serve("--workers", "2")
    paths = ["/predict", "/models/m/predict", "/models/m/aliases/stable/predict"]
    everything = json.dumps(
        {"instances": [{"fruit": [1, 1], "digit": [1, 2, 3, 4], "insurance": {"bmi": 20}}]}
    )
    stop = threading.Event()
    answers, wrong = Counter(), []

    def ask(path, body, old):
        with contextlib.closing(server.connect()) as connection:
            newest = 0
            while not stop.is_set():
                connection.request("POST", path, body, JSON)
                answer = connection.getresponse()
                content = json.loads(answer.read())
                if answer.status != 200:
                    wrong.append((path, answer.status, content))
                    return
                version = int(content["version"])
                value = content["predictions"][0]["size"]["value"]
                if value != 2 * version or (version < newest and not old):
                    wrong.append((path, version, newest, value))
                newest = version
                answers[path, version] += 1

    # The alias goes back and forth, the versions only forward.
    threads = [
        threading.Thread(target=ask, args=(path, body, "aliases" in path))
        for path in paths
        for body in (json.dumps(FRUIT), everything)
    ]
    for thread in threads:
        thread.start()
    for version in range(2, 8):
        time.sleep(0.35)
        put(models, version)
        if version == 4:
            small.put(models, "m", 100, BAD)
        if version == 5:
            shutil.rmtree(models / "m" / "2")
        point(models, stable=str(1 + version % 2 * 2))
    until(lambda: wrong or (answers["/predict", 7] and answers["/models/m/predict", 7]))
    until(lambda: wrong or answers.total() > 2000)
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert answers.total() > 2000
    assert {version for path, version in answers if path == "/predict"} >= {1, 7}
    assert {version for path, version in answers if "aliases" in path} == {1, 3}


def test_all_workers_follow_an_unload_and_a_load(serve, models):
    """All workers follow, whichever receives the request; so does a worker that starts later."""
    put(models, 1)
    put(models, 1, "other")
    closed = ("--tokens-file", tokens.put(models.parent))
    server = serve("--workers", "2", *closed)
    with contextlib.ExitStack() as stack:
        # Each worker has one of them, since a connection goes to the worker that has fewer.
        both = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(2)]

        def ask(connection, method, path, body=None):
            connection.request(method, path, body, {**JSON, **tokens.header("all")})
            answer = connection.getresponse()
            answer.read()
            return answer.status

        def follow(status):
            for connection in both:
                until(lambda c=connection: ask(c, "GET", "/v2/models/m/ready") == status)
                assert ask(connection, "POST", "/models/m/predict", json.dumps(FRUIT)) == status
                assert ask(connection, "POST", "/models/other/predict", json.dumps(FRUIT)) == 200

        follow(200)
        for asked_on in both:
            for verb, status in (("unload", 503), ("load", 200)):
                assert ask(asked_on, "POST", f"/v2/repository/models/m/{verb}") == 200
                # The worker that received the request has done it before it answers.
                assert ask(asked_on, "GET", "/v2/models/m/ready") == status
                follow(status)
        assert ask(both[0], "POST", "/v2/repository/models/m/unload") == 200
    server.end()

    server = serve("--workers", "1")

    status, report = server.get("/v2/models/m/ready")
    assert (status, report["ready"]) == (503, False)
    assert server.get("/models/other")[0] == 200


def big(scale):
    """Return a model with 4 MB of weights that computes y = scale * 1,000,000 * x."""
    return small.model(
        [
            helper.make_node("Mul", ["x", "w"], ["many"]),
            helper.make_node("ReduceSum", ["many", "last"], ["y"], keepdims=1),
        ],
        [("x", TensorProto.FLOAT, ["n", 1])],
        [("y", TensorProto.FLOAT, ["n", 1])],
        {"w": np.full(1_000_000, scale, np.float32), "last": np.array([1])},
    ).SerializeToString()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux has /proc")
def test_memory_does_not_grow_over_fifty_swaps(serve, models):
    """A leak would take 16 MB and more for each swap."""
    publish(models, "m", big(1))
    server = serve("--workers", "1", "--watch", "0.01")
    [worker] = server.workers()
    resident = []
    for version in range(2, 52):
        publish(models, "m", big(version))
        while server.get("/models/m")[1]["version"] != str(version):
            time.sleep(0.01)
        pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
        resident.append(pages * os.sysconf("SC_PAGESIZE") / 2**20)

    assert max(resident[-10:]) - max(resident[:10]) < 100, resident
