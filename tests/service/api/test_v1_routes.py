"""The pages of TensorFlow Serving and KServe v1 besides predictions, and those that both share."""

import json

import pytest

from service import settings as all_settings
from service.app import create_app
from tests.harness import small

OK = {"error_code": "OK", "error_message": ""}
BROKEN = "it is not an ONNX file, or not the whole of one"
NO_VERB = "expected one of :predict, :classify, :regress, :explain at its end"


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    """Return a repository: a model with a broken third version, another one and an empty folder.

    These tests do not change it.
    """
    models = tmp_path_factory.mktemp("models")
    for version in (1, 2, 10):
        small.put(models, "three", version, small.three(version, models={"risky": ["risk"]}))
    (models / "three/10/model.onnx").write_bytes(b"junk")
    (models / "three/aliases.json").write_text(json.dumps({"canary": "2", "next": "10"}))
    small.put(models, "v2.x-y_z", 1, small.same(small.F))
    (models / "empty").mkdir()
    return models


@pytest.fixture(name="client")
def _client(models):
    """Return a client of a new service, since a request for a version loads it."""
    return create_app(all_settings.load({}, models=models)).test_client()


def _status(version, state, code="OK", message=""):
    """Return the status of a version as TensorFlow Serving writes it."""
    return {
        "version": version,
        "state": state,
        "status": {"error_code": code, "error_message": message},
    }


GIVEN_UP = _status("10", "END", "FAILED_PRECONDITION", BROKEN)


def test_kserve_lists_names(client):
    """KServe's list has the models that can be requested."""
    assert client.get("/v1/models").json == {"models": ["risky", "three", "v2.x-y_z"]}


def test_one_object_answers_both_protocols(client):
    """It has TensorFlow Serving's states of all versions, newest first, and KServe's readiness."""
    answer = client.get("/v1/models/three")

    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.json == {
        "model_version_status": [
            GIVEN_UP,
            _status("2", "AVAILABLE"),
            _status("1", "START"),
        ],
        "name": "three",
        "ready": True,
    }


@pytest.mark.parametrize(
    ("path", "listed", "ready"),
    [
        pytest.param("versions/2", _status("2", "AVAILABLE"), True, id="the one that serves"),
        pytest.param("versions/1", _status("1", "AVAILABLE"), True, id="one on demand: loaded"),
        pytest.param("versions/10", GIVEN_UP, False, id="one that is refused"),
        pytest.param("labels/canary", _status("2", "AVAILABLE"), True, id="an alias"),
    ],
)
def test_a_versions_state(client, path, listed, ready):
    """A version is named by its number or by an alias, which is a label in this protocol."""
    answer = client.get(f"/v1/models/three/{path}")

    assert answer.status_code == 200
    assert answer.json == {"model_version_status": [listed], "name": "three", "ready": ready}


def test_a_view_has_the_states_of_its_model(client):
    """A view has the known states of its model's versions."""
    answer = client.get("/v1/models/risky").json

    assert [entry["version"] for entry in answer["model_version_status"]] == ["2", "1"]
    assert answer["ready"] is True


def test_a_model_without_a_version_that_serves_is_not_ready(tmp_path):
    """The model is listed with the reason."""
    small.put(tmp_path, "m", 1, b"junk")
    client = create_app(all_settings.load({}, models=tmp_path)).test_client()
    answer = client.get("/v1/models/m")

    assert answer.status_code == 200
    assert answer.json == {
        "model_version_status": [_status("1", "END", "FAILED_PRECONDITION", BROKEN)],
        "name": "m",
        "ready": False,
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        pytest.param(
            "GET",
            "nope",
            404,
            "model 'nope': there is none of that name. Available: risky, three, v2.x-y_z",
            id="no such model",
        ),
        pytest.param(
            "GET",
            "three/versions/7",
            404,
            "model 'three' has no version '7'. Available: 1, 2",
            id="no such version",
        ),
        pytest.param(
            "GET",
            "three/labels/canaries",
            404,
            "model 'three' has no alias 'canaries' (did you mean 'canary'?). Available: canary",
            id="no such label",
        ),
        pytest.param(
            "GET",
            "three/labels/next",
            503,
            "model 'three': alias 'next' names version 10, which is refused: " + BROKEN,
            id="a label of what is refused",
        ),
        pytest.param(
            "GET",
            "empty",
            503,
            "model 'empty': refused, it has no version: expected empty/1/model.onnx",
            id="a model without versions",
        ),
        pytest.param(
            "GET",
            "three/versions/10/metadata",
            503,
            f"model 'three', version 10: refused, {BROKEN}",
            id="metadata of what is refused",
        ),
        pytest.param(
            "POST",
            "nope:predict",
            404,
            "model 'nope': there is none of that name. Available: risky, three, v2.x-y_z",
            id="a prediction of no model",
        ),
        pytest.param(
            "POST",
            "three:generate",
            400,
            f"Malformed request: POST /v1/models/three:generate: {NO_VERB}",
            id="an unknown verb",
        ),
        pytest.param(
            "POST",
            "three/versions/1:predicts",
            400,
            "Malformed request: POST /v1/models/three/versions/1:predicts: "
            f"{NO_VERB} (did you mean 'predict'?)",
            id="a slip of the hand",
        ),
        pytest.param(
            "GET",
            "three:",
            400,
            f"Malformed request: GET /v1/models/three:: {NO_VERB}",
            id="a colon too many",
        ),
    ],
)
def test_unknown_names_and_versions(client, method, path, status, error):
    """Unknown names get errors in the protocol's shape and codes."""
    answer = client.open(f"/v1/models/{path}", method=method)

    assert answer.status_code == status
    assert answer.content_type == "application/json"
    assert answer.json == {"error": error}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        pytest.param("GET", "three:predict", ["POST"], id="a prediction"),
        pytest.param("DELETE", "three/labels/canary:classify", ["POST"], id="of a label"),
        pytest.param("POST", "three", ["GET"], id="a page"),
        pytest.param("PUT", "three/versions/2/metadata", ["GET"], id="metadata"),
    ],
)
def test_another_method(client, method, path, allowed):
    """A wrong method gets 405 with the right one."""
    answer = client.open(f"/v1/models/{path}", method=method)

    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == set(allowed)
    assert answer.json == {"error": f"{method} /v1/models/{path}: expected {allowed[0]}"}


def test_no_such_route_is_in_the_protocols_shape(client):
    """Every unknown path under the prefix gets an error in the protocol's shape."""
    answer = client.get("/v1/nothing")

    assert answer.status_code == 404
    assert answer.json.keys() == {"error"}


@pytest.mark.parametrize(
    ("path", "version"),
    [("three", "2"), ("three/versions/1", "1"), ("three/labels/canary", "2")],
)
def test_metadata_has_the_signature_def(client, path, version):
    """The signature is that of the requested version."""
    answer = client.get(f"/v1/models/{path}/metadata")

    assert answer.status_code == 200
    assert answer.json["model_spec"] == {
        "name": "three",
        "signature_name": "",
        "version": version,
    }
    signatures = answer.json["metadata"]["signature_def"]["signature_def"]
    assert list(signatures) == ["serving_default"]
    assert signatures["serving_default"]["inputs"]["insurance.smoker"] == {
        "dtype": "DT_STRING",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
            "unknown_rank": False,
        },
        "name": "insurance.smoker",
    }
    assert list(signatures["serving_default"]["outputs"]) == ["risk", "size", "digits", "tags"]


FRUIT = {"weight": 1, "length": 2}
ROW = {
    "insurance": [30, 30],
    "insurance.smoker": ["no"],
    "fruit": [1, 2],
    "digit": [0, 1, 2, 3],
}


@pytest.mark.parametrize(
    ("path", "scale"),
    [("three", 2), ("three/versions/1", 1), ("three/versions/2", 2), ("three/labels/canary", 2)],
)
def test_every_verb_at_every_place(client, path, scale):
    """Every verb works for models, versions and labels, with any content type, as curl sends it."""
    asked = {
        "predict": {"instances": [ROW]},
        "classify": {"signature_name": "tags", "examples": [FRUIT]},
        "regress": {"examples": [FRUIT]},
        "explain": {"inputs": {n: [v] for n, v in ROW.items()}, "explain": {"heads": ["size"]}},
    }
    answers = {
        verb: client.post(
            f"/v1/models/{path}:{verb}",
            data=json.dumps(body),
            content_type="application/x-www-form-urlencoded",
        )
        for verb, body in asked.items()
    }

    assert {answer.status_code for answer in answers.values()} == {200}
    assert answers["predict"].json == {
        "predictions": [
            {"risk": [0.5], "size": [3.0 * scale], "digits": [0, 1, 2], "tags": [0.5, 0.7310586]}
        ]
    }
    assert answers["classify"].json == {"results": [[["heavy", 0.5], ["long", 0.7310586]]]}
    assert answers["regress"].json == {"results": [3.0 * scale]}
    assert answers["explain"].json["outputs"]["size"] == [[3.0 * scale]]
    [explained] = answers["explain"].json["explanations"]
    assert explained == {
        "size": {
            "reference": 3.5 * scale,
            "answer": 3.0 * scale,
            "parts": {"fruit.weight": -0.5 * scale, "fruit.length": 0.0},
        }
    }


def test_a_name_may_hold_dots_and_dashes(client):
    """The colon, escaped or not, ends the name."""
    for colon in (":", "%3A"):
        answer = client.post(f"/v1/models/v2.x-y_z{colon}predict", data='{"instances": [[1, 2]]}')
        assert answer.json == {"predictions": [[1.0, 2.0]]}


def test_a_bad_body_gets_an_error_in_the_protocols_shape(client):
    """A wrong body gets an error with the right status."""
    answer = client.post("/v1/models/three:predict", data="{}")

    assert answer.status_code == 400
    assert answer.json == {
        "error": 'body: expected either "instances" (by row) or "inputs" (by column), '
        "received neither"
    }


def test_options_lists_the_methods(client):
    """OPTIONS lists the methods, as elsewhere."""
    assert "POST" in client.options("/v1/models/three:predict").headers["Allow"]
