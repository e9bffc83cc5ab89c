"""`triceps pull mlflow:…` from a real MLflow server, whose answers a proxy cuts."""

import json
import os
import socket
import subprocess
import sys
import urllib.request

import pytest

from service.stores.store import StoreError
from tests.harness import small
from tests.harness.cutting_proxy import Proxy, answer
from tests.harness.stores import Puller, visible
from tests.harness.waiting import until

ONE, TWO = small.three(), small.three(2.0)
SERVER = """
import os, signal, sys
signal.alarm(900)
folder = sys.argv[1]
os.environ |= {
    "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
    "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{folder}/mlflow.db",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/artifacts",
}
from mlflow.server import app
app.run("127.0.0.1", int(sys.argv[2]))
"""


class Registry:
    """The REST API of the server."""

    def __init__(self, port):
        """Keep its address."""
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path, **body):
        """Send an object, and return the answer."""
        sent = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(sent, timeout=60) as received:
            return json.load(received)

    def register(self, name, source=None, **files):
        """Register a version with files, and return its number."""
        run = self.post("runs/create", experiment_id="0")["run"]["info"]
        for file, content in files.items():
            place = run["artifact_uri"].partition(":/")[2].strip("/")
            url = f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{place}/model/"
            put = urllib.request.Request(url + file.replace("_", "."), content, method="PUT")
            urllib.request.urlopen(put, timeout=60).close()
        place = source or f"{run['artifact_uri']}/model"
        version = self.post("model-versions/create", name=name, source=place, run_id=run["run_id"])
        return version["model_version"]["version"]

    def alias(self, name, alias, version):
        """Let an alias name a version."""
        self.post("registered-models/alias", name=name, alias=alias, version=version)


@pytest.fixture(scope="module", name="port")
def _port(tmp_path_factory):
    """Yield the port of a server, which ends with the tests."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, folder, str(port)], stdout=log, stderr=log, cwd=folder
        )
        try:
            until(lambda: socket.create_connection(("127.0.0.1", port)).close() is None, 120)
            yield port
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(name="registry")
def _registry(port):
    """Return the API of the server, with the model `churn` of this test."""
    return Registry(port)


@pytest.fixture(name="proxy")
def _proxy(port, monkeypatch):
    """Yield a proxy in front of the server, which the environment names."""
    proxy = Proxy(port)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{proxy.port}")
    yield proxy
    proxy.close()


def test_versions_have_the_numbers_of_the_registry(registry, proxy, tmp_path):
    """The newest, one by its number, or one by its alias; an older one is not published."""
    registry.post("registered-models/create", name="churn")
    registry.register("churn", model_onnx=ONE, MLmodel=b"flavors: {}")
    registry.register("churn", model_onnx=TWO, MLmodel=b"flavors: {}")
    registry.alias("churn", "champion", "1")
    first = Puller(tmp_path / "models", "mlflow:churn@champion")

    assert (first.pull().version, first.pull().outcome) == ("1", "unchanged")
    assert Puller(tmp_path / "models", "mlflow:churn").pull().version == "2"
    assert Puller(tmp_path / "other", "mlflow:churn/2").pull().version == "2"
    assert Puller(tmp_path / "other", "mlflow:churn/champion").pull().outcome == "older"
    assert (first.content("1"), first.content("2")) == (ONE, TWO)
    assert visible(tmp_path / "other") == [
        *("churn", "churn/2", "churn/2/MLmodel", "churn/2/model.onnx", "churn/2/source.json")
    ]


def test_cuts_and_throttling_are_waited_for(registry, proxy, tmp_path):
    """What was received of a file is not asked for again."""
    registry.post("registered-models/create", name="large model")
    weights = bytes(range(256)) * 2**13
    registry.register("large model", model_onnx=ONE, weights_bin=weights)
    proxy.troubles = {
        "weights.bin": [None, None, 300_000, answer(503), 400_000],
        "/api/2.0/mlflow/": [answer(429), 20],
    }
    puller = Puller(tmp_path / "models", "mlflow:large%20model/1")

    assert puller.pull().outcome == "published"
    assert (tmp_path / "models/large_model/1/weights.bin").read_bytes() == weights
    assert len(puller.said) == 5
    assert len([line for line in proxy.ranges if "0-0" not in line]) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mlflow:nothing", "the model has no version"),
        ("mlflow:nothing/3", "not found"),
        ("mlflow:nothing/champion", "not found"),
    ],
)
def test_what_there_is_not_is_named(proxy, tmp_path, source, message):
    """The message is that of the server."""
    with pytest.raises(StoreError, match=f"{source}: .*{message}"):
        Puller(tmp_path, source).pull()


def test_a_version_without_a_graph_is_an_error(registry, proxy, tmp_path):
    """The message says what there is."""
    registry.post("registered-models/create", name="pickled")
    registry.register("pickled", model_pkl=b"1")

    with pytest.raises(StoreError, match=r"expected model.onnx .*, found model.pkl"):
        Puller(tmp_path, "mlflow:pickled").pull()


def test_the_credentials_are_those_of_mlflow(proxy, tmp_path, monkeypatch):
    """A server is named by MLflow's own variables."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "covert")
    proxy.troubles = {"": [answer(401)]}
    with pytest.raises(StoreError, match=r"received 401: it needs credentials.*MLFLOW_TRACKING_T"):
        Puller(tmp_path, "mlflow:churn").pull()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(StoreError, match="expected the address of a server in MLFLOW_TRACKING_U"):
        Puller(tmp_path, "mlflow:churn").pull()
