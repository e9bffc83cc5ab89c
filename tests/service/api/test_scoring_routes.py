"""The pages that MLflow, SageMaker and Vertex AI require of a container."""

import gzip
import json

import pytest
from flask import Flask

from service import __version__
from service import settings as all_settings
from service.api import scoring
from service.app import create_app
from service.repository.reloader import Library
from tests.harness import small

BODY = {
    "dataframe_split": {
        "columns": ["age", "smoker", "bmi", "weight", "length", "digit"],
        "data": [[30, "no", 30, 1, 1, [0, 1, 0, 9]], [None, "yes", 12, 2, 0.5, [3, 2, 1, 0]]],
    }
}
TEXT = 'age,smoker,bmi,weight,length,digit\n30,no,30,1,1,"[0, 1, 0, 9]"\n'
FIRST = {"risk": [0.5], "size": [2.0], "digits": [0.0, 1.0, 0.0], "tags": [0.5, 0.5]}
CSV = {"content_type": "text/csv"}


@pytest.fixture
def models(tmp_path):
    """Return an empty repository."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def client(models):
    """Return a client of the service over one model."""
    small.put(models, "three", 1, small.three())
    return create_app(all_settings.load({}, models=models)).test_client()


def _pages(library, *arguments):
    """Return a client of these pages alone."""
    app = Flask(__name__)
    app.register_blueprint(scoring.pages(library, *arguments))
    return app.test_client()


@pytest.mark.parametrize("path", ["/ping", "/health", "/v1/endpoints/7/deployedModels/8"])
def test_health_is_the_status_of_the_page(models, path):
    """The health page has MLflow's body, also at the path of Vertex AI."""
    small.put(models, "three", 1, small.three())
    answer = _pages(Library(models), "/v1/endpoints/7/deployedModels/8").get(path)

    assert (answer.status_code, answer.data) == (200, b"\n")
    assert answer.content_type == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_health_gives_the_reason(models, path):
    """The page gives the reason until a model is there, and then needs no restart."""
    library = Library(models)
    client = _pages(library)
    before = client.get(path)
    small.put(models, "three", 1, small.three())
    library.refresh()

    assert before.status_code == 503
    assert before.get_json() == {
        "error_code": "TEMPORARILY_UNAVAILABLE",
        "message": "the model repository is empty: train or publish a model into it",
    }
    assert client.get(path).status_code == 200


def test_health_is_that_of_the_default_model(models):
    """Health is that of the default model; several models without a default are unhealthy."""
    small.put(models, "three", 1, small.three())
    small.put(models, "plant", 1, small.plant())

    answer = _pages(Library(models)).get("/ping")

    assert answer.status_code == 503
    assert answer.get_json()["message"].startswith("no model was named, and none is the default")
    assert _pages(Library(models, "plant")).get("/ping").status_code == 200
    assert _pages(Library(models, "plan")).get("/ping").status_code == 503


@pytest.mark.parametrize("health", ["/ping", "/health"])
def test_vertex_may_look_where_others_do(models, health):
    """Vertex AI may use the other health paths, as its user configures it."""
    small.put(models, "three", 1, small.three())

    assert _pages(Library(models), health).get(health).status_code == 200


def test_the_version_is_ours(models):
    """The version of Triceps is the whole body, as text."""
    answer = _pages(Library(models)).get("/version")

    assert (answer.status_code, answer.text) == (200, __version__)
    assert answer.content_type == "text/plain; charset=utf-8"


def test_the_service_has_these_pages(client):
    """The service serves these pages, and their errors have the protocol's form."""
    assert client.get("/ping").data == b"\n"
    assert client.get("/health").data == b"\n"
    assert client.get("/version").text == __version__
    wrong = client.post("/ping")
    assert wrong.status_code == 405
    assert wrong.get_json() == {"error_code": "BAD_REQUEST", "message": "POST /ping: expected GET"}


def test_an_invocation_is_answered(client):
    """A table in JSON is answered, and its missing values are counted."""
    answer = client.post("/invocations", json=BODY)

    assert answer.status_code == 200
    assert answer.get_json()["predictions"][0] == FIRST
    assert len(answer.get_json()["predictions"]) == 2
    counted = client.get("/metrics").text
    assert 'dialect="mlflow",model="three",status="200",version="1"} 1.0' in counted
    assert 'imputed_total{feature="insurance.age",model="three",version="1"} 1.0' in counted


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="any"),
        pytest.param({"Accept": "application/json"}, id="json"),
        pytest.param({"Accept": "text/csv"}, id="csv"),
        pytest.param({"X-Amzn-SageMaker-Custom-Attributes": "a=b"}, id="sagemaker"),
    ],
)
def test_an_answer_is_json_whatever_is_accepted(client, headers):
    """Answers are JSON whatever `Accept` says, as in MLflow, and have that content type."""
    answer = client.post("/invocations", data=TEXT, headers=headers, **CSV)

    assert answer.content_type == "application/json"
    assert answer.get_json() == {"predictions": [FIRST]}


def test_a_csv_may_come_compressed(client):
    """A CSV may have a content encoding, as any body."""
    packed = gzip.compress(TEXT.encode())
    answer = client.post("/invocations", data=packed, headers={"Content-Encoding": "gzip"}, **CSV)

    assert answer.get_json() == {"predictions": [FIRST]}


@pytest.mark.parametrize(
    ("kind", "received"),
    [
        pytest.param(None, "none", id="none"),
        pytest.param("application/x-parquet", "application/x-parquet", id="another"),
        pytest.param("text/csv; charset=latin-1", "text/csv; charset=latin-1", id="latin"),
    ],
)
def test_another_content_type_is_refused(client, kind, received):
    """The error is JSON, whereas MLflow's is text; MLflow's clients show it either way."""
    answer = client.post("/invocations", data=TEXT, content_type=kind)

    assert answer.status_code == 415
    assert answer.get_json() == {
        "error_code": "BAD_REQUEST",
        "message": (
            f"Content-Type: expected application/json or text/csv, in UTF-8, received {received}"
        ),
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            b"[1]",
            'body: expected an object with exactly one of "dataframe_split", '
            '"dataframe_records", "instances", "inputs", received a list of 1',
            id="a-list",
        ),
        pytest.param(
            b'{"inputs": {"password": ["secret"]',
            "body: expected JSON, received something else at line 1, column 35 "
            "(Expecting ',' delimiter)",
            id="no-json",
        ),
    ],
)
def test_a_bad_request_is_reported_without_its_body(client, body, message):
    """The error holds neither the body nor a stack trace, unlike MLflow's."""
    answer = client.post("/invocations", data=body, content_type="application/json")

    assert answer.status_code == 400
    assert answer.get_json()["error_code"] == "BAD_REQUEST"
    assert answer.get_json()["message"] == message
    assert answer.get_json().keys() == {"error_code", "message", "problems", "count"}


def test_values_that_the_graph_refuses_are_a_bad_request(models):
    """Values of the right type that the model cannot process are a 400."""
    small.put(models, "brittle", 1, small.brittle())
    client = create_app(all_settings.load({}, models=models)).test_client()
    answer = client.post("/invocations", json={"inputs": {"x": [1], "place": [9]}})

    assert answer.status_code == 400
    assert answer.get_json().keys() == {"error_code", "message"}
    assert answer.get_json()["error_code"] == "BAD_REQUEST"


def test_an_invocation_without_a_model_is_refused(models):
    """No model yet is a 503, and several without a default are a 404."""
    empty = create_app(all_settings.load({}, models=models)).test_client()
    none = empty.post("/invocations", json=BODY)
    small.put(models, "three", 1, small.three())
    small.put(models, "plant", 1, small.plant())
    several = create_app(all_settings.load({}, models=models)).test_client()
    unclear = several.post("/invocations", json=BODY)

    assert none.status_code == 503
    assert none.get_json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert unclear.status_code == 404
    assert unclear.get_json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_nan_of_a_table_is_missing_over_http(client):
    """NaN, as pandas and Python's json write it, counts as missing."""
    rows = json.dumps(BODY).replace("null", "NaN")
    answer = client.post("/invocations", data=rows, content_type="application/json")

    assert answer.status_code == 200
