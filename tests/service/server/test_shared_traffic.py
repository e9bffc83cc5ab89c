"""Shares of traffic in several workers: while they change, and while workers are killed."""

import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import threading
import time
from collections import Counter

import pytest

from tests.harness import small
from tests.harness.changing import FRUIT, point, put
from tests.harness.served import JSON
from tests.harness.serving import PROGRAM, Server
from tests.harness.shares import BEYOND, gathering, share
from tests.harness.waiting import until

# A service whose workers end when the second version answers, as by a fault in a library.
CRASHING = (
    """
import os
from service.inference import batcher

run_batch = batcher.run_batch

def end(*arguments):
    parts = run_batch(*arguments)
    if any((part.run.outputs["size"] == 4).any() for part in parts):
        os.kill(os.getpid(), 9)
    return parts

batcher.run_batch = end
"""
    + PROGRAM
)


@pytest.fixture
def models(tmp_path):
    """Return an empty repository."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def serve(models):
    """Yield a function that starts services of two workers, which are killed at the end."""
    with contextlib.ExitStack() as stack:

        def start():
            words = ("--models", models, "--watch", "0.05", "--workers", "2")
            server = stack.enter_context(Server(*words, folder=models))
            server.until_ready()
            return server

        yield start


def send(connection, body, name):
    """Return the status and the JSON of an answer on a connection."""
    headers = {**JSON, "X-Request-ID": name}
    connection.request("POST", "/models/m/predict", json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("kills", [False, True], ids=["changes", "changes and kills"])
def test_no_request_is_lost_while_shares_change(serve, models, kills):
    """Each answer is wholly of the version it names.

    Only requests that a killed worker has on its connections are lost.
    """
    for version in (1, 2, 3, 4):
        put(models, version)
    point(models, stable="1")
    share(models, share=0.5)
    server = serve()
    stop = threading.Event()
    answers, wrong, lost = Counter(), [], []

    def ask(client):
        connection = server.connect()
        for number in itertools.count():
            if stop.is_set():
                break
            try:
                status, content = send(connection, FRUIT, f"{client}-{number}")
            except (OSError, http.client.HTTPException) as error:
                lost.append(error)
                connection.close()
                connection = server.connect()
                continue
            version = content.get("version", "0")
            value = content.get("predictions", [{"size": {"value": 0}}])[0]["size"]["value"]
            if status != 200 or value != 2.0 * int(version):
                wrong.append((status, content))
                break
            answers[version] += 1
        connection.close()

    threads = [threading.Thread(target=ask, args=(f"client-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        time.sleep(0.2)
        share(models, version=str(2 + turn % 3), share=(turn % 4 + 1) / 4)
        if turn % 3 == 2:
            point(models, stable=str(1 + turn % 2))
        if kills and turn % 4 == 1:
            os.kill(server.workers()[turn % 2], signal.SIGKILL)
            until(lambda: len(server.workers()) == 2)
    # A busy machine may not have followed each of these changes.
    for version in ("2", "3", "4"):
        share(models, version=version, share=0.5)
        until(lambda version=version: wrong or answers[version])
    until(lambda: wrong or answers.total() > 2000)
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert set(answers) == {"1", "2", "3", "4"}
    # Each kill breaks at most the connections that there are.
    assert len(lost) <= (3 * len(threads) if kills else 0)


def test_a_retreat_is_that_of_all_workers_and_outlives_them(serve, models):
    """It is logged once; a worker that is killed, even the leader, changes nothing."""
    small.put(models, "m", 1, gathering(10))
    small.put(models, "m", 2, gathering(3))
    point(models, stable="1")
    share(models, share=0.5)
    server = serve()
    names = map("request-{}".format, itertools.count())

    def statuses(connection, count=40):
        return Counter(send(connection, BEYOND, next(names))[0] for _ in range(count))

    def both():
        """Return connections to either worker, since a new one goes to that with fewer."""
        return [stack.enter_context(contextlib.closing(server.connect())) for _ in range(2)]

    def is_over(connection):
        return statuses(connection) == {200: 40}

    with contextlib.ExitStack() as stack:
        first, second = both()
        # The requests of one worker alone would do; the other follows.
        until(lambda: is_over(first))
        until(lambda: is_over(second))
    for victim in server.workers():
        os.kill(victim, signal.SIGKILL)
        until(lambda victim=victim: victim not in server.workers() and len(server.workers()) == 2)
        server.until_ready()
    with contextlib.ExitStack() as stack:
        until(lambda: all(is_over(connection) for connection in both()))
        [after] = {json.dumps(send(connection, BEYOND, "x")[1]["version"]) for connection in both()}

    assert after == '"1"'
    reason = server.get("/models/m")[1]["traffic"]["canary"]["reason"]
    assert reason.startswith("it is asked no more, since it fails 100 % of ")
    assert server.said().count("the canary is asked no more") == 1
    server.end()

    again = serve()
    assert "reason" not in again.get("/models/m")[1]["traffic"]["canary"]
    with contextlib.closing(again.connect()) as connection:
        assert set(statuses(connection)) == {200, 400}


def test_a_canary_that_ends_its_workers_is_asked_no_more(models):
    """Otherwise the service would give up, as after any workers that end again and again."""
    for version in (1, 2):
        put(models, version)
    point(models, stable="1")
    share(models, share=0.5)
    names = map("request-{}".format, itertools.count())
    words = ("--models", models, "--workers", "2")
    with Server(*words, folder=models, program=CRASHING) as server:
        server.until_ready()

        def versions():
            with contextlib.closing(server.connect()) as connection:
                return {send(connection, FRUIT, next(names))[1]["version"] for _ in range(20)}

        def is_over():
            with contextlib.suppress(OSError, http.client.HTTPException):
                return versions() == {"1"}

        server.until(is_over)
        assert versions() == {"1"}
        reason = server.get("/models/m")[1]["traffic"]["canary"]["reason"]
        expected = r"it is asked no more, since the process that ran it has ended \d times"
        assert re.fullmatch(expected, reason)
