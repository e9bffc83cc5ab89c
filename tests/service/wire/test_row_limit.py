"""The limit of rows per request, which holds in every dialect and form."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from service import create_app
from service.inference.model import Model
from service.settings import Settings
from service.wire.body import MOST_ROWS
from tests.harness import small

MANY = MOST_ROWS + 1
LIMIT = f"expected at most {MOST_ROWS} rows in one request"
JSON, CSV = "application/json", "text/csv"


@pytest.fixture(scope="module", name="client")
def _client(tmp_path_factory):
    """Return a client of an app with one model."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.three())
    return create_app(Settings(models=models)).test_client()


def _json(value: Any) -> bytes:
    """Return a value as the bytes of JSON."""
    return json.dumps(value).encode()


OIP = {"name": "fruit", "datatype": "FP32", "shape": [MANY, 2], "data": [0] * 2 * MANY}
CASES = [
    pytest.param("/predict", _json({"instances": [{}] * MANY}), JSON, id="native, by row"),
    pytest.param(
        "/predict",
        _json({"instances": [{"fruit": [1, 2]}] * MANY, "heads": ["size"]}),
        JSON,
        id="native, by row and right",
    ),
    pytest.param(
        "/predict",
        _json({"inputs": {"fruit": [[1, 2]] * MANY}, "heads": ["size"]}),
        JSON,
        id="native, by column",
    ),
    pytest.param("/v2/models/three/infer", _json({"inputs": [OIP]}), JSON, id="oip"),
    pytest.param(
        "/v1/models/three:predict", _json({"instances": [{}] * MANY}), JSON, id="tfserving, rows"
    ),
    pytest.param(
        "/v1/models/three:predict", _json({"inputs": {"fruit": [0] * MANY}}), JSON, id="columns"
    ),
    pytest.param(
        "/v1/models/three:regress", _json({"examples": [{}] * MANY}), JSON, id="tfserving, examples"
    ),
    *(
        pytest.param("/invocations", _json(said), JSON, id=f"mlflow, {form}")
        for form, said in {
            "split": {"dataframe_split": {"columns": ["a"], "data": [[]] * MANY}},
            "records": {"dataframe_records": [{}] * MANY},
            "instances": {"instances": [{}] * MANY},
            "inputs": {"inputs": {"fruit.weight": [1] * MANY}},
        }.items()
    ),
    pytest.param("/invocations", b"a\n" + b"1\n" * MANY, CSV, id="mlflow, CSV"),
]


@pytest.mark.parametrize(("path", "body", "kind"), CASES)
def test_a_request_with_too_many_rows_is_refused(client, path, body, kind, monkeypatch):
    """A request with too many rows is refused quickly, before the model runs."""
    monkeypatch.setattr(Model, "predict", None)
    started = time.perf_counter()

    answer = client.post(path, data=body, content_type=kind)

    assert answer.status_code == 400
    error = answer.get_json()
    problems = [problem["expected"] for problem in error.get("problems", ())]
    assert LIMIT in str(error) or LIMIT.removeprefix("expected ") in problems
    assert time.perf_counter() - started < 10


def test_a_request_at_the_limit_is_answered(client):
    """A request with exactly the allowed number of rows is answered."""
    body = _json({"inputs": {"fruit": [[1, 2]] * MOST_ROWS}, "heads": ["size"]})

    answer = client.post("/predict", data=body, content_type=JSON).get_json()

    assert np.shape(answer["outputs"]["size"]) == (MOST_ROWS,)
