"""Batching: the answer to a client depends on that client's rows alone, for any model."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from service.commands.main import main
from service.inference.batching import MOST_ROWS_WHOLE
from service.inference.model import Model
from service.inference.runner import MOST_ROWS
from service.observability.logs import Lines, Text
from service.repository.reloader import Library
from tests.harness import mixers, small
from tests.harness.served import JSON, Served

CALLERS = 8
ROUNDS = 3


def rows(model_, seed, count):
    """Return rows of a mixing model, by tensor, with values of a thousand beside small ones."""
    random = np.random.default_rng(seed)
    scale = 10.0 ** (seed % 4)
    return {
        tensor.name: (random.normal(size=(count, *tensor.shape)) * scale).astype(np.float32)
        for entry in model_.signature.inputs.values()
        for tensor in entry.tensors
    }


def directly(content, arrays):
    """Return the output of one ONNX Runtime run over all rows."""
    # Otherwise a mean and a bias of zero become one constant, which training mode overwrites.
    session = onnxruntime.InferenceSession(content, disabled_optimizers=["ConstantSharing"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, arrays), strict=True))


def body(arrays):
    """Return a request for the rows, by column."""
    return json.dumps({"inputs": {name: a.tolist() for name, a in arrays.items()}}).encode()


def at_once(server, path, bodies):
    """Send requests that all wait before the first one runs; return statuses and bodies."""
    hold, held = threading.Event(), threading.Event()

    def wait():
        held.set()
        assert hold.wait(10)

    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(
                contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10))
            )
            for _ in bodies
        ]
        for connection in connections:
            connection.connect()
        server.loop.call_soon_threadsafe(wait)
        assert held.wait(10)
        for connection, sent in zip(connections, bodies, strict=True):
            connection.request("POST", path, sent, JSON)
        hold.set()
        answers = [connection.getresponse() for connection in connections]
        return [(answer.status, answer.read()) for answer in answers]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve all mixing models, as graphs."""
    folder = tmp_path_factory.mktemp("mixers")
    contents = {name: make().SerializeToString() for name, make in mixers.MIXERS.items()}
    for name, content in contents.items():
        small.put(folder, name, 1, content)
    server = Served(folder)
    yield server, contents
    server.stop()


@pytest.mark.parametrize("name", mixers.MIXERS)
def test_rows_of_a_joint_model_never_meet_other_requests(served, name):
    """Concurrent clients get the same bits as a client alone."""
    server, contents = served
    loaded = Model.load(contents[name])
    asked = [rows(loaded, seed, 1 + seed % 3) for seed in range(CALLERS)]
    expected = [directly(contents[name], arrays) for arrays in asked]

    for _ in range(ROUNDS):
        answers = at_once(server, f"/models/{name}/predict", [body(a) for a in asked])
        for (status, answer), right in zip(answers, expected, strict=True):
            assert status == 200, answer
            for head, values in right.items():
                got = np.float32(json.loads(answer)["outputs"][head])
                assert np.array_equal(got.ravel(), values.ravel(), equal_nan=True)


@pytest.mark.parametrize("name", mixers.MIXERS)
def test_a_large_request_of_a_joint_model_is_one_run(served, name):
    """The event loop and Flask run the request whole."""
    server, contents = served
    arrays = rows(Model.load(contents[name]), 1, MOST_ROWS + 44)
    expected = directly(contents[name], arrays)

    answers = [
        server.ask("POST", f"/models/{name}/predict{query}", body(arrays), JSON)
        for query in ("", "?x=1")
    ]

    for status, _, answer in answers:
        assert status == 200, answer
        outputs = json.loads(answer)["outputs"]
        for head, right in expected.items():
            assert np.array_equal(np.float32(outputs[head]).ravel(), right.ravel())


@pytest.mark.parametrize("name", mixers.MIXERS)
def test_a_joint_model_has_its_evidence(name):
    """The evidence names the operator."""
    verdict = Model.load(mixers.MIXERS[name]().SerializeToString()).batching

    assert (verdict.mode, verdict.evidence) == ("joint", "operators")
    assert verdict.reason


def test_a_request_that_does_not_fit_one_run_is_refused(served):
    """A request that cannot be cut has a maximum number of rows, which the message names."""
    server, contents = served
    arrays = rows(Model.load(contents["centred"]), 1, MOST_ROWS_WHOLE + 1)

    for query in ("", "?x=1"):
        path = f"/models/centred/predict{query}"
        status, _, answer = server.ask("POST", path, body(arrays), JSON)
        assert status == 413
        assert json.loads(answer)["error"] == (
            f"body: expected at most {MOST_ROWS_WHOLE} rows in one request, received "
            f"{MOST_ROWS_WHOLE + 1}: this model runs each request whole (joint), since "
            "ReduceMean 'mean' reduces axis 0, the batch axis"
        )


def test_every_description_of_a_model_has_its_batching_mode(served, caplog):
    """The model's page shows mode and reason, the metrics the mode, and the log both."""
    server, _ = served

    _, _, page = server.ask("GET", "/models/centred")
    _, _, metrics = server.ask("GET", "/metrics")
    with caplog.at_level("INFO"):
        Library(server.settings.models)

    verdict = {
        "mode": "joint",
        "evidence": "operators",
        "reason": "ReduceMean 'mean' reduces axis 0, the batch axis",
    }
    assert json.loads(page)["batching"] == verdict
    series = b'triceps_model_batching{mode="joint",model="centred",version="1"} 1.0'
    assert series in metrics
    [record] = [r for r in caplog.records if r.getMessage() == "serving centred, version 1"]
    mode = "joint (operators): ReduceMean 'mean' reduces axis 0, the batch axis"
    assert json.loads(Lines().format(record))["batching"] == mode
    assert Text().format(record).endswith(f"serving centred, version 1; batching: {mode}")


def test_show_and_sign_print_the_batching_mode(tmp_path):
    """`triceps show` and `triceps sign` print the batching mode before a model is served."""
    file = tmp_path / "centred.onnx"
    file.write_bytes(mixers.centred().SerializeToString())

    shown = CliRunner().invoke(main, ["show", str(file)])
    signed = CliRunner().invoke(main, ["sign", str(file), "--out", str(tmp_path / "signed.onnx")])

    line = "batching: joint (operators): ReduceMean 'mean' reduces axis 0, the batch axis"
    assert line in shown.stdout.splitlines()
    assert signed.stdout.splitlines()[0] == line
