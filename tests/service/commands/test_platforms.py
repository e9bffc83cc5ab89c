"""`triceps serve` in the containers of KServe and Knative: their variables, mounts and probes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.harness import small
from tests.harness.calls import client
from tests.harness.serving import PROGRAM, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIME = Path(__file__).parents[3] / "deploy" / "kserve" / "runtime.yaml"
# What KServe and Knative add to the variables of the runtime's container.
ADDED = {"K_SERVICE": "churn-predictor", "K_REVISION": "churn-predictor-00001"}
ROW = {"insurance": [47, 20], "insurance.smoker": ["yes"], "fruit": [1, 2], "digit": [0, 1, 2, 3]}
KINDS = {"insurance.smoker": "BYTES"}


@pytest.fixture
def mount(tmp_path) -> Path:
    """Return the folder in place of /mnt/models."""
    (tmp_path / "mnt" / "models").mkdir(parents=True)
    return tmp_path / "mnt" / "models"


def variables(mount: Path, name: str) -> dict[str, str]:
    """Return the variables of the runtime's container, as KServe fills them in."""
    [container] = yaml.safe_load(RUNTIME.read_text())["spec"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert given["TRICEPS_MODELS"] == "/mnt/models"
    filled = {key: value.replace("{{.Name}}", name) for key, value in given.items()}
    return {**ADDED, **filled, "TRICEPS_MODELS": str(mount), "TRICEPS_CACHE": "off"}


@pytest.fixture
def serve(tmp_path, mount) -> Iterator[Any]:
    """Return a function that starts the service for an InferenceService `churn`."""
    started: list[Server] = []

    def begin(environment: dict[str, str] | None = None) -> Server:
        given = variables(mount, "churn") if environment is None else environment
        started.append(Server(folder=tmp_path, environment=given))
        return started[-1]

    yield begin
    for server in started:
        server.stop()


def ask(server: Server, path: str, body: Any) -> tuple[int, Any]:
    """Post a body of JSON; return the status and the answer."""
    connection = server.connect()
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def inputs() -> list[dict[str, Any]]:
    """Return the inputs of a request of the Open Inference Protocol."""
    return [
        {"name": name, "shape": [1, len(row)], "datatype": KINDS.get(name, "FP32"), "data": row}
        for name, row in ROW.items()
    ]


def test_a_model_in_the_mount_itself_has_the_name_of_its_inference_service(serve, mount):
    """KServe's clients know no other name, in version 1, version 2 and by gRPC on the one port."""
    (mount / "model.onnx").write_bytes(small.three())
    server = serve()
    server.until_ready()

    v1 = ask(server, "/v1/models/churn:predict", {"instances": [ROW]})
    v2 = ask(server, "/v2/models/churn/infer", {"inputs": inputs()})
    with client(server.port) as calls:
        live = calls.oip("ServerReady").answer.ready
        ready = calls.oip("ModelReady", name="churn").answer.ready

    assert (v1[0], v2[0]) == (200, 200), (v1, v2)
    assert v2[1]["model_name"] == "churn"
    assert (live, ready) == (True, True)
    assert server.get("/v1/models") == (200, {"models": ["churn"]})
    assert server.get("/v1/models/churn")[1]["ready"] is True
    assert [server.status(path) for path in ("/v2/models/churn/ready", "/v2/health/ready")] == [
        200,
        200,
    ]


def test_a_container_without_the_runtime_has_the_name_that_kserve_sets(serve, mount):
    """`INFERENCE_SERVICE_NAME` is set in every container of an InferenceService."""
    (mount / "model.onnx").write_bytes(small.three())
    server = serve({"TRICEPS_MODELS": str(mount), "INFERENCE_SERVICE_NAME": "churn"})
    server.until_ready()

    assert server.get("/readyz") == (200, {"status": "ready", "models": ["churn"]})


def test_a_repository_in_the_mount_keeps_the_names_of_its_folders(serve, mount):
    """The name is that of one model, so several models are not renamed."""
    small.put(mount, "three", 1, small.three())
    small.put(mount, "other", 2, small.three())
    server = serve()
    server.until_ready()

    assert server.get("/readyz")[1]["models"] == ["other", "three"]


def test_a_file_has_the_name_too_and_commands_know_it(serve, tmp_path):
    """`triceps show` in the container finds the model under the name that the service gives it."""
    (tmp_path / "v7.onnx").write_bytes(small.three())
    given = {"TRICEPS_MODELS": str(tmp_path / "v7.onnx"), "TRICEPS_MODEL_NAME": "churn"}
    server = serve(given)
    server.until_ready()
    shown, checked = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM, command, "churn", "--json"],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        for command in ("show", "check")
    )

    assert server.get("/readyz")[1]["models"] == ["churn"]
    assert (shown.returncode, checked.returncode) == (0, 0), shown.stderr + checked.stderr
    assert json.loads(shown.stdout)["name"] == json.loads(checked.stdout)["name"] == "churn"


def test_the_name_stays_when_the_file_is_replaced(serve, mount):
    """All workers look at the file again under the same name."""
    (mount / "model.onnx").write_bytes(small.three())
    server = serve({**variables(mount, "churn"), "TRICEPS_WATCH": "0.05", "TRICEPS_WORKERS": "2"})
    server.until_ready()
    row = server.get("/models/churn/example")[1]

    def answer() -> Any:
        return ask(server, "/models/churn/predict", row)[1]["predictions"]

    before = answer()
    new = mount / ".new"
    new.write_bytes(small.three(3.0))
    new.rename(mount / "model.onnx")
    server.until(lambda: answer() != before)

    assert server.get("/readyz")[1]["models"] == ["churn"]


def test_a_mount_may_be_a_link(serve, mount, tmp_path):
    """A model that is an image itself is mounted by a link to the files of its process."""
    (mount / "model.onnx").write_bytes(small.three())
    shutil.move(mount, tmp_path / "elsewhere")
    mount.symlink_to(tmp_path / "elsewhere")
    server = serve()
    server.until_ready()

    assert server.get("/readyz")[1]["models"] == ["churn"]


def test_a_mount_that_is_missing_ends_the_start(serve, mount):
    """The models of the image are no substitute for those that were asked for."""
    mount.rmdir()
    code, _, said = serve().result()

    assert code == 2
    assert f"{mount}: there is nothing there" in said


def test_the_readiness_probe_of_the_runtime_is_that_of_the_protocol(serve, mount):
    """An empty mount is not ready, and is waited for; the probe needs no model's name."""
    [container] = yaml.safe_load(RUNTIME.read_text())["spec"]["containers"]
    probe = container["readinessProbe"]["httpGet"]["path"]
    server = serve()
    server.until_alive()
    before = server.status(probe)
    (mount / ".new").write_bytes(small.three())
    (mount / ".new").rename(mount / "model.onnx")
    server.until(lambda: server.status(probe) == 200)

    assert before == 503
    assert server.get("/readyz")[1]["models"] == ["churn"]
