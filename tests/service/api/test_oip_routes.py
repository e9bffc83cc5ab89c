"""The Open Inference Protocol's pages besides predictions, as KServe and Triton have them."""

import errno
import json
import shutil

import pytest
from flask import Flask

from service import __version__
from service import settings as all_settings
from service.api import oip
from service.app import create_app
from service.errors import RequestError
from service.inference.batching import MOST_ROWS_WHOLE
from service.observability.metrics import Metrics
from service.repository.reloader import Library
from service.wire.oip import DIALECT
from tests.harness import mixers, small, tokens

BROKEN = "it is not an ONNX file, or not the whole of one"
ON_DEMAND = "it is loaded once it is asked for by its version"
INPUTS = [
    {"name": "insurance", "datatype": "FP32", "shape": [-1, 2]},
    {"name": "insurance.smoker", "datatype": "BYTES", "shape": [-1, 1]},
    {"name": "fruit", "datatype": "FP32", "shape": [-1, 2]},
    {"name": "digit", "datatype": "FP32", "shape": [-1, 4]},
]
OUTPUTS = [
    {"name": name, "datatype": "FP32", "shape": [-1, size]}
    for name, size in (("risk", 1), ("size", 1), ("digits", 3), ("tags", 2))
]
NONE = {"count": 0, "ns": 0}


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    """Return a repository: a model with a broken third version, two others and an empty folder."""
    models = tmp_path_factory.mktemp("models")
    for version in (1, 2, 10):
        small.put(models, "three", version, small.three(version, models={"risky": ["risk"]}))
    (models / "three/10/model.onnx").write_bytes(b"junk")
    small.put(models, "ragged", 1, small.ragged())
    small.put(models, "bad", 1, b"junk")
    (models / "empty").mkdir()
    return models


@pytest.fixture(name="client")
def _client(models):
    """Return a client of a new service, since a request for a version loads it."""
    return create_app(all_settings.load({}, models=models)).test_client()


def _allowing(models):
    """Return a client of the pages without the gate, so that every request may load models."""
    library = Library.of(all_settings.load({}, models=models))
    app = Flask(__name__)
    app.register_blueprint(oip.pages(library, Metrics()))

    @app.errorhandler(RequestError)
    def refuse(error):
        return json.loads(DIALECT.encode_error(error).content), error.status

    return app.test_client()


def _of_an_admin(folder, models, **more):
    """Return a service, and a client with a token for everything, in a tokens file in `folder`."""
    settings = all_settings.load({}, models=models, tokens_file=tokens.put(folder), **more)
    return tokens.bring(create_app(settings).test_client(), "all")


def _loaded(client, name, version):
    """Return whether the index lists a version as loaded."""
    index = client.post("/v2/repository/index", json={"ready": True}).json
    return (name, version) in {(entry["name"], entry["version"]) for entry in index}


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server(client, path):
    """The page has the server's name, its version and the supported extensions."""
    answer = client.get(path)

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == {
        "name": "triceps",
        "version": __version__,
        "extensions": [
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
            "statistics",
        ],
    }


def test_health(client, tmp_path):
    """The service is live without a model, and ready with one."""
    bare = create_app(all_settings.load({}, models=tmp_path)).test_client()

    for each, status in ((client, 200), (bare, 503)):
        assert each.get("/v2/health/live").json == {"live": True}
        answer = each.get("/v2/health/ready")
        assert (answer.status_code, answer.json) == (status, {"ready": status == 200})


def test_the_list_of_models(client):
    """KServe's list has the models that can be requested."""
    assert client.get("/v2/models").json == {"models": ["ragged", "risky", "three"]}


@pytest.mark.parametrize("path", ["/v2/models/three", "/v2/models/three/versions/1"])
def test_a_model(client, path):
    """The page has the versions, and the tensors with the graph's shapes; -1 is a free axis."""
    assert client.get(path).json == {
        "name": "three",
        "versions": ["1", "2"],
        "platform": "onnx_onnxv1",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
    }


def test_a_view_and_an_axis_of_any_length(client):
    """A view has its own heads and only the inputs that they need."""
    risky = client.get("/v2/models/risky").json
    ragged = client.get("/v2/models/ragged").json

    assert (risky["inputs"], risky["outputs"]) == (INPUTS[:2], OUTPUTS[:1])
    assert ragged["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1, 2]}]


@pytest.mark.parametrize("end", ["", "/ready", "/config", "/stats"])
def test_what_is_not_there(client, end):
    """An unknown name is refused with the nearest one, an unknown version with the known ones."""
    unknown = client.get(f"/v2/models/thre{end}")
    version = client.get(f"/v2/models/three/versions/7{end}")

    assert (unknown.status_code, unknown.json) == (
        404,
        {
            "error": "model 'thre': there is none of that name (did you mean 'three'?). "
            "Available: ragged, risky, three"
        },
    )
    assert (version.status_code, version.json) == (
        404,
        {"error": "model 'three' has no version '7'. Available: 1, 2"},
    )


@pytest.mark.parametrize("path", ["three", "three/versions/2", "three/versions/1", "risky"])
def test_a_model_is_ready(client, path):
    """The readiness of a version on demand is found by loading it."""
    answer = client.get(f"/v2/models/{path}/ready")

    assert answer.status_code == 200
    assert answer.json == {"name": path.split("/")[0], "ready": True}


@pytest.mark.parametrize(
    ("path", "version"), [("bad", ", version 1"), ("three/versions/10", ", version 10")]
)
def test_a_model_is_not_ready(client, path, version):
    """The answer has the reason besides the protocol's own fields."""
    answer = client.get(f"/v2/models/{path}/ready")

    name = path.split("/")[0]
    assert answer.status_code == 503
    assert answer.json == {
        "name": name,
        "ready": False,
        "error": f"model {name!r}{version}: refused, {BROKEN}",
    }


def test_the_configuration_of_a_joint_model_has_its_own_bound(tmp_path):
    """A joint model has a bound, since it refuses requests of more rows."""
    small.put(tmp_path, "centred", 1, mixers.centred().SerializeToString())
    client = create_app(all_settings.Settings(models=tmp_path)).test_client()

    assert client.get("/v2/models/centred/config").json["max_batch_size"] == MOST_ROWS_WHOLE


@pytest.mark.parametrize("path", ["three", "three/versions/1"])
def test_a_configuration(client, path):
    """The page has what perf_analyzer reads; the axis of rows is left out of shapes."""
    config = client.get(f"/v2/models/{path}/config").json

    assert config == {
        "name": "three",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": 2**17,
        "input": [
            {"name": "insurance", "data_type": "TYPE_FP32", "dims": [2]},
            {"name": "insurance.smoker", "data_type": "TYPE_STRING", "dims": [1]},
            {"name": "fruit", "data_type": "TYPE_FP32", "dims": [2]},
            {"name": "digit", "data_type": "TYPE_FP32", "dims": [4]},
        ],
        "output": [
            {"name": "risk", "data_type": "TYPE_FP32", "dims": [1]},
            {"name": "size", "data_type": "TYPE_FP32", "dims": [1]},
            {"name": "digits", "data_type": "TYPE_FP32", "dims": [3]},
            {"name": "tags", "data_type": "TYPE_FP32", "dims": [2]},
        ],
        "dynamic_batching": {},
    }


def test_the_index(client):
    """The index has every version with state and reason, and models that are refused as a whole."""
    assert client.post("/v2/repository/index").json == [
        {"name": "bad", "version": "1", "state": "UNAVAILABLE", "reason": BROKEN},
        {
            "name": "empty",
            "state": "UNAVAILABLE",
            "reason": client.get("/models").json["refused"][0]["reason"],
        },
        {"name": "ragged", "version": "1", "state": "READY", "reason": ""},
        {"name": "risky", "version": "1", "state": "UNAVAILABLE", "reason": ON_DEMAND},
        {"name": "risky", "version": "2", "state": "READY", "reason": ""},
        {"name": "three", "version": "1", "state": "UNAVAILABLE", "reason": ON_DEMAND},
        {"name": "three", "version": "10", "state": "UNAVAILABLE", "reason": BROKEN},
        {"name": "three", "version": "2", "state": "READY", "reason": ""},
    ]


def test_the_index_of_ready_versions(client):
    """The index may be limited to versions that are ready."""
    for body in ({}, {"ready": False}):
        assert len(client.post("/v2/repository/index", json=body).json) == 8
    ready = client.post("/v2/repository/index", json={"ready": True}).json
    assert {entry["name"] for entry in ready} == {"ragged", "risky", "three"}
    assert {entry["state"] for entry in ready} == {"READY"}


def test_a_version_whose_file_became_invalid_stays_ready(tmp_path):
    """A version whose file has become invalid stays ready, with the reason against the file."""
    small.put(tmp_path, "x", 1, small.same(small.F))
    app = create_app(all_settings.load({}, models=tmp_path))
    (tmp_path / "x/1/model.onnx").write_bytes(b"junk")
    app.extensions["triceps"].refresh()

    assert app.test_client().post("/v2/repository/index").json == [
        {"name": "x", "version": "1", "state": "READY", "reason": BROKEN}
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "body: expected an object, or no body, received an empty list"),
        (b'{"ready": 1}', "ready: expected true or false, received 1"),
        (
            b'{"ready": 1, "ready": 1}',
            'body: expected each key of an object once, received "ready"',
        ),
    ],
)
def test_a_wrong_index_request(client, body, message):
    """The errors are those of a prediction."""
    answer = client.post("/v2/repository/index", data=body)

    assert answer.status_code == 400
    assert answer.json["error"].startswith(message)


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_loading_needs_a_token(client, models, tmp_path, verb):
    """Loading needs a token for it; without a tokens file it is refused with an explanation."""
    path = f"/v2/repository/models/three/{verb}"
    answer = client.post(path, json={})
    other = tokens.bring(_of_an_admin(tmp_path, models), "predict").post(path, json={})

    assert (answer.status_code, answer.json) == (
        403,
        {
            "error": "this needs a token with the scope 'admin', and this service knows none: make "
            "one by `triceps token NAME --scope admin`, and start the service with "
            "TRICEPS_TOKENS_FILE"
        },
    )
    assert (other.status_code, other.json) == (
        403,
        {
            "error": "token 'predict': expected one with the scope 'admin', received one with "
            "predict"
        },
    )
    assert not (models / "three" / "unloaded").exists()


def test_to_load_is_to_look(tmp_path):
    """A load request scans the repository: new versions serve at once, missing ones are errors."""
    small.put(tmp_path, "one", 1, small.same(small.F))
    client = _allowing(tmp_path)
    small.put(tmp_path, "two", 1, small.same(small.F))
    small.put(tmp_path, "bad", 1, b"junk")

    assert not _loaded(client, "two", "1")
    answer = client.post("/v2/repository/models/two/load")
    assert (answer.status_code, answer.json) == (200, {"name": "two", "load": True})
    assert _loaded(client, "two", "1")
    assert client.post("/v2/repository/models/one/load", json={"parameters": {}}).status_code == 200
    assert client.post("/v2/repository/models/three/load", data=b"").status_code == 404
    bad = client.post("/v2/repository/models/bad/load")
    assert (bad.status_code, bad.json) == (
        503,
        {"error": f"model 'bad', version 1: refused, {BROKEN}"},
    )


def test_to_load_from_a_repository_that_is_gone(tmp_path):
    """The answer says that the repository is gone, and loaded models keep serving."""
    models = tmp_path / "models"
    small.put(models, "one", 1, small.same(small.F))
    client = _allowing(models)
    shutil.rmtree(models)

    for verb in ("load", "unload"):
        answer = client.post(f"/v2/repository/models/one/{verb}")

        assert answer.status_code == 503
        assert answer.json["error"].startswith(f"{verb} 'one': ")
        assert str(models) in answer.json["error"]
    assert _loaded(client, "one", "1")


def test_a_model_comes_from_the_repository(models):
    """A load request may neither contain a model nor change its configuration."""
    body = {"parameters": {"config": json.dumps({"max_batch_size": 1})}}

    answer = _allowing(models).post("/v2/repository/models/three/load", json=body)

    assert (answer.status_code, answer.json) == (
        501,
        {
            "error": "load 'three': its files are the repository's, and no parameters change them: "
            "expected none, received an object with 1 key"
        },
    )


@pytest.fixture(name="own")
def _own(tmp_path):
    """Return a repository to change, and a client of a service that may do so."""
    models = tmp_path / "models"
    for version in (1, 2):
        small.put(models, "three", version, small.three(version, models={"risky": ["risk"]}))
    small.put(models, "other", 1, small.same(small.F))
    return models, _of_an_admin(tmp_path, models)


UNLOADED = (
    "model 'three': it is unloaded. The file three/unloaded of the repository says so: "
    "POST /v2/repository/models/three/load, or remove the file"
)


def _unload(client, name, **body):
    """Unload a model; return the answer."""
    return client.post(f"/v2/repository/models/{name}/unload", **body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"json": {}},
        {"json": {"parameters": None}},
        {"json": {"parameters": {"unload_dependents": True}}},
    ],
    ids=["none", "empty", "no parameters", "Triton's"],
)
def test_to_unload_and_to_load(own, body):
    """A model stops at once and comes back unchanged; repeating a request is not an error."""
    models, client = own
    for _ in range(2):
        answer = _unload(client, "three", **body)
        assert (answer.status_code, answer.json) == (200, {"name": "three", "unload": True})
        assert (models / "three" / "unloaded").read_bytes() == b""

    assert not _loaded(client, "three", "2")
    for _ in range(2):
        answer = client.post("/v2/repository/models/three/load")
        assert (answer.status_code, answer.json) == (200, {"name": "three", "load": True})
        assert not (models / "three" / "unloaded").exists()

    assert _loaded(client, "three", "2")
    assert _loaded(client, "risky", "2")


def test_a_request_for_an_unloaded_model_is_explained(own):
    """In any protocol and for any version, the answer explains the state and the way out."""
    _, client = own
    _unload(client, "three")

    for path in (
        *("/models/three", "/models/three/versions/2", "/models/three/aliases/stable"),
        *("/v2/models/three", "/v2/models/three/config", "/v2/models/three/versions/1/stats"),
        *("/v1/models/three/metadata", "/v1/models/three/versions/1/metadata"),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json["error"]) == (503, UNLOADED), path
    for path in ("/models/three/predict", "/v2/models/three/infer", "/v1/models/three:predict"):
        answer = client.post(path, json={})
        assert (answer.status_code, answer.json["error"]) == (503, UNLOADED), path
    for path in ("/v2/models/three/ready", "/v2/models/three/versions/1/ready"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.json == {"name": "three", "ready": False, "error": UNLOADED}
    assert client.get("/v2/models/three/versions/7").status_code == 404
    answer = client.get("/v2/models/risky")
    assert answer.status_code == 503
    assert answer.json["error"].startswith("model 'risky': it is a view of a model that is")


def test_an_unloaded_model_is_listed_as_unloaded(own):
    """The index lists an unloaded model by version; lists of available models leave it out."""
    _, client = own
    _unload(client, "three")

    assert client.get("/models").json["models"][1] == {
        "name": "three",
        "version": None,
        "versions": {"1": "unloaded", "2": "unloaded"},
        "aliases": {},
        "heads": [],
    }
    assert client.get("/models").json["refused"] == []
    assert client.post("/v2/repository/index").json == [
        {"name": "other", "version": "1", "state": "READY", "reason": ""},
        {"name": "three", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "three", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    status = client.get("/v1/models/three")
    assert (status.status_code, status.json["ready"]) == (200, False)
    assert [entry["state"] for entry in status.json["model_version_status"]] == ["END", "END"]
    assert client.get("/v2/models").json == {"models": ["other"]}
    assert client.get("/v1/models").json == {"models": ["other"]}
    assert {entry["name"] for entry in _stats(client, "stats")} == {"other"}
    assert not [path for path in client.get("/openapi.json").json["paths"] if "three" in path]
    assert 'triceps_model_loaded{model="three"' not in client.get("/metrics").text


def test_a_service_is_ready_while_any_model_serves(tmp_path):
    """Without its default model the service is ready; without any model it is not."""
    small.put(tmp_path, "three", 1, small.three())
    small.put(tmp_path, "other", 1, small.same(small.F))
    client = _of_an_admin(tmp_path, tmp_path, default_model="three")

    _unload(client, "three")
    assert client.get("/readyz").json == {"status": "ready", "models": ["other"]}
    assert client.get("/v2/health/ready").status_code == 200
    # A request without a model is for the default model, and no other replaces it.
    assert client.get("/ping").status_code == 503
    assert client.post("/predict", json={}).json == {"error": UNLOADED}
    _unload(client, "other")
    assert client.get("/v2/health/ready").status_code == 503
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (
        503,
        {
            "status": "not ready",
            "reason": "no model is usable: other: it is unloaded. The file other/unloaded of the "
            "repository says so: POST /v2/repository/models/other/load, or remove the file",
        },
    )
    assert client.post("/v2/repository/models/three/load").status_code == 200
    assert client.get("/ping").status_code == 200


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        pytest.param(
            "risky",
            400,
            "unload 'risky': it is a view of a model, and goes and comes with that: unload the "
            "model",
            id="a view",
        ),
        pytest.param("thre", 404, "did you mean 'three'", id="no model"),
        pytest.param("..", 404, "model '..': there is none of that name", id="no name"),
        pytest.param("empty", 503, "refused, it has no version", id="no version"),
    ],
)
def test_models_that_cannot_be_unloaded(own, name, status, message):
    """The answer has the reason, and no file is written."""
    models, client = own
    (models / "empty").mkdir()

    answer = _unload(client, name)

    assert (answer.status_code, message in answer.json["error"]) == (status, True), answer.json
    assert not [*models.parent.rglob("unloaded")]


def test_a_model_that_cannot_serve_can_be_unloaded(own):
    """The unloaded model no longer counts as refused."""
    models, client = own
    small.put(models, "bad", 1, b"junk")

    assert _unload(client, "bad").status_code == 200
    assert client.get("/models").json["refused"] == []
    assert client.post("/v2/repository/models/bad/load").status_code == 503
    assert client.get("/models").json["refused"][0]["name"] == "bad"


def test_unknown_parameters_are_refused(own):
    """Unknown parameters are refused, and no model is unloaded."""
    _, client = own
    for body in ({"now": True}, ["now"]):
        answer = _unload(client, "three", json={"parameters": body})
        assert answer.status_code == 400
        assert answer.json["error"].startswith("parameters: expected none but unload_dependents")

    assert _loaded(client, "three", "2")


@pytest.mark.parametrize("path", ["one", "one/model.onnx"])
def test_one_file_cannot_be_unloaded(tmp_path, path):
    """A single file has no folder for the mark, and no other model to serve."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "model.onnx").write_bytes(small.same(small.F))
    client = _of_an_admin(tmp_path, tmp_path / path)
    (name,) = client.get("/v2/models").json["models"]

    answer = _unload(client, name)

    assert (answer.status_code, answer.json) == (
        409,
        {
            "error": f"unload {name!r}: {tmp_path / path} is one model and no repository of "
            "models, so nothing else would be left: stop the service"
        },
    )
    assert client.post(f"/v2/repository/models/{name}/load").status_code == 200


def test_a_repository_that_may_not_be_written(own, monkeypatch):
    """The answer names the missing permission and the way out, and the state stays the same."""
    models, client = own
    file = models / "three" / "unloaded"

    def fail(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        answer = _unload(client, "three")
    assert (answer.status_code, answer.json) == (
        409,
        {
            "error": f"unload 'three': {file}: cannot be written: Read-only file system. Let the "
            "service write into its repository, or put an empty file of that name there yourself"
        },
    )
    assert _loaded(client, "three", "2")

    _unload(client, "three")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", fail)
        answer = client.post("/v2/repository/models/three/load")
        # If there is nothing to remove, nothing is removed.
        assert client.post("/v2/repository/models/other/load").status_code == 200
    assert (answer.status_code, answer.json) == (
        409,
        {
            "error": f"load 'three': {file}: cannot be removed: Read-only file system. Let the "
            "service write into its repository, or remove that file yourself"
        },
    )
    assert not _loaded(client, "three", "2")


def _stats(client, path):
    """Return the statistics of a version."""
    answer = client.get(f"/v2/models/{path}")
    assert answer.status_code == 200
    return answer.json["model_stats"]


def test_statistics(client):
    """Statistics hold requests, rows, runs and their times, or zero where nothing is measured."""
    row = {"insurance": [47, "yes", 20], "fruit": [1, 2], "digit": [0, 1, 2, 3]}
    for rows in (1, 3):
        assert (
            client.post("/models/three/predict", json={"instances": [row] * rows}).status_code
            == 200
        )
    assert client.post("/models/three/predict", json={"instances": []}).status_code == 400

    (stats,) = _stats(client, "three/versions/2/stats")

    inference = stats.pop("inference_stats")
    assert stats == {
        "name": "three",
        "version": "2",
        "inference_count": 4,
        "execution_count": 2,
        "batch_stats": [],
    }
    spent = [
        inference[stage] for stage in ("queue", "compute_input", "compute_infer", "compute_output")
    ]
    assert inference["success"]["count"] == 2
    assert inference["success"]["ns"] == sum(stage["ns"] for stage in spent)
    assert {stage["count"] for stage in spent} == {2}
    assert all(0 <= stage["ns"] < 60e9 for stage in spent)
    assert inference["compute_infer"]["ns"] > 0
    assert inference["fail"] == {"count": 1, "ns": 0}
    assert (inference["cache_hit"], inference["cache_miss"]) == (NONE, NONE)


def test_statistics_of_an_unused_version(client):
    """Statistics of an unused version are zero, and reading them loads nothing."""
    (stats,) = _stats(client, "three/versions/1/stats")

    assert (stats["inference_count"], stats["execution_count"]) == (0, 0)
    assert {tuple(counted.values()) for counted in stats["inference_stats"].values()} == {(0, 0)}
    assert not _loaded(client, "three", "1")


def test_statistics_of_several(client):
    """Statistics may cover all versions of a model, or all models."""

    def versions(path):
        return [(entry["name"], entry["version"]) for entry in _stats(client, path)]

    three = [("three", "1"), ("three", "2")]
    assert versions("three/stats") == three
    assert versions("stats") == [("ragged", "1"), ("risky", "1"), ("risky", "2"), *three]
