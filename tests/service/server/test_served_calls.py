"""gRPC calls of a real service: its workers, its stop, TLS and tokens, by grpcio's channels."""

from __future__ import annotations

import json
import queue
import signal
import threading

import grpc
import numpy as np
import pytest

from tests.harness import certificates, grpc_messages, small, tokens
from tests.harness.calls import INFER, Client, client
from tests.harness.served import JSON
from tests.harness.serving import Server
from tests.harness.waiting import PATIENCE, until

ANSWER = "inference.ModelInferResponse"
SERVING, NOT_SERVING = 1, 2
FRUIT = {"fruit": np.float32([[1, 2]])}


def asked(version=""):
    """Return a request for one head."""
    made = grpc_messages.infer(FRUIT, raw=True, model_version=version)
    made.outputs.add(name="size")
    return made


@pytest.fixture(name="models")
def _models(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for version in (1, 2):
        small.put(models, "three", version, small.three(version))
    return models


def test_all_workers_answer_calls(models, tmp_path):
    """Each connection has a worker; a version is loaded in each one that is asked for it."""
    with Server("--workers", 2, "--models", models, folder=tmp_path) as server:
        server.until_ready()
        clients = [
            Client(server.port, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)
        ]
        answers = [
            each.ask(INFER, asked(version), ANSWER).answer.model_version
            for each in clients
            for version in ("", "1")
        ]
        for each in clients:
            each.close()
        # The numbers of the other worker are there a second later.
        until(lambda: counted(server) == len(answers))

    assert answers == ["2", "1"] * 4


def counted(server):
    """Return the calls that all workers have answered."""
    _, _, content = server.ask("GET", "/metrics")
    lines = [line for line in content.decode().splitlines() if 'dialect="oip_grpc"' in line]
    return sum(float(line.split()[-1]) for line in lines if "requests_total" in line)


def test_a_stopping_service_tells_its_watches_and_answers_during_the_grace(models, tmp_path):
    """Load balancers stop sending; what they still send is answered."""
    with Server("--models", models, "--grace", 2, folder=tmp_path) as server:
        server.until_ready()
        with client(server.port) as calls:
            statuses = queue.Queue()
            watching = threading.Thread(target=_collect, args=(calls.watch("three"), statuses))
            watching.start()
            first = statuses.get(timeout=PATIENCE)
            server.process.send_signal(signal.SIGTERM)
            second = statuses.get(timeout=PATIENCE)
            with client(server.port, options=[("grpc.use_local_subchannel_pool", 1)]) as late:
                told = late.ask(INFER, asked(), ANSWER)
                ready = late.oip("ServerReady").answer.ready
            end = statuses.get(timeout=PATIENCE)
            watching.join()
        code = server.process.wait(PATIENCE)

    assert (first, second) == (SERVING, NOT_SERVING)
    assert (told.code, ready) == ("OK", False)
    assert end == ("UNAVAILABLE", "watch: the service stops")
    assert code == 0


def _collect(call, statuses):
    try:
        for status in call:
            statuses.put(status)
    except grpc.RpcError as error:
        statuses.put((error.code().name, error.details()))


def test_tls_and_tokens_are_those_of_the_port(models, tmp_path):
    """The same certificate, and the same tokens, as for HTTP."""
    with Server("--models", models, folder=tmp_path, encrypted=True, guarded=True) as server:
        server.until_ready()
        trusted = grpc.ssl_channel_credentials(certificates.A.encode())
        token = grpc.access_token_call_credentials(tokens.secret("predict"))
        made = grpc.secure_channel(
            f"localhost:{server.port}", grpc.composite_channel_credentials(trusted, token)
        )
        call = made.unary_unary(
            INFER, lambda m: m.SerializeToString(), grpc_messages.InferResponse.FromString
        )
        answer = call(asked(), PATIENCE)
        made.close()
        without = grpc.secure_channel(f"localhost:{server.port}", trusted)
        with pytest.raises(grpc.RpcError) as refused:
            without.unary_unary(INFER, lambda m: m.SerializeToString())(asked(), PATIENCE)
        without.close()

    assert answer.model_version == "2"
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused.value.details() == "Authorization: expected Bearer and a token, received none"


def test_without_http2_there_is_no_grpc(models, tmp_path):
    """A setting turns both off."""
    environment = {"TRICEPS_PROTOCOLS": "http1"}
    with Server("--models", models, folder=tmp_path, environment=environment) as server:
        server.until_ready()
        with client(server.port) as calls:
            told = calls.ask(INFER, asked(), ANSWER, timeout=5)
        body = json.dumps({"instances": [{"fruit": [1, 2]}], "heads": ["size"]}).encode()
        status = server.ask("POST", "/predict", body, JSON)[0]

    assert told.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert status == 200


def test_a_watch_is_told_of_a_new_version_by_every_worker(models, tmp_path):
    """A model that is published is known to all workers at once."""
    with Server("--workers", 2, "--models", models, "--watch", 0.1, folder=tmp_path) as server:
        server.until_ready()
        options = [("grpc.use_local_subchannel_pool", 1)]
        clients = [Client(server.port, options=options) for _ in range(2)]
        watches = [each.watch("new") for each in clients]
        first = [next(iter(watch)) for watch in watches]
        small.put(models, "new", 1, small.three())
        second = [next(iter(watch)) for watch in watches]
        for watch in watches:
            watch.cancel()
        for each in clients:
            each.close()
        until(lambda: server.status("/v2/models/new/ready") == 200)

    assert (first, second) == ([3, 3], [SERVING, SERVING])
