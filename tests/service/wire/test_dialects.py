"""The same rows in every dialect and form: they give the same numbers and the same error messages.

Each case goes to the Flask app and, over a real socket, to the front.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service import settings
from service.app import create_app
from service.inference.model import Model
from tests.harness import small
from tests.harness.forms import (
    DATATYPES,
    FORMS,
    HEADS,
    Sent,
    mlflow_csv,
    oip_binary,
    oip_mixed,
    outputs_of,
    rows_of,
)
from tests.harness.served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = Model.load(small.three())


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the model of all dialects."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.three())
    served = Served(models)
    yield served
    served.stop()


def ask(served: Served, sent: Sent, way: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request to the app or the front; return status, headers in lower case and body."""
    if way == "front":
        return served.ask("POST", sent.path, sent.body, sent.headers)
    answer = served.app.test_client().post(sent.path, data=sent.body, headers=dict(sent.headers))
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return answer.status_code, headers, answer.data


@pytest.mark.parametrize("way", ["front", "flask"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("rows", [1, 7])
def test_numbers_are_equal_in_all_dialects(served, form, rows, way):
    """All dialects return the same values, bit for bit, for the same rows."""
    arrays = rows_of(rows, rows)
    expected = MODEL.predict(arrays, HEADS)

    status, headers, content = ask(served, form(arrays), way)

    assert status == 200, content
    outputs = outputs_of(headers, content)
    assert list(outputs) == list(HEADS)
    for head in HEADS:
        assert np.array_equal(outputs[head], expected[head]), head


# A mistake in one row: its tensor, the place of its value, and the messages for it.
FAULTS = [
    pytest.param("fruit", 1, "x", '"x"', id="a text for a number"),
    pytest.param("fruit", 1, True, "true", id="a boolean for a number"),
    pytest.param("digit", 2, 1e39, "1e+39", id="a number past float32"),
    pytest.param("insurance.smoker", 0, 1, "1", id="a number for a text"),
]
WRITTEN = [form for form in FORMS if form not in (oip_binary, oip_mixed, mlflow_csv)]


@pytest.mark.parametrize("way", ["front", "flask"])
@pytest.mark.parametrize("form", WRITTEN, ids=lambda form: form.__name__)
@pytest.mark.parametrize(("tensor", "place", "value", "received"), FAULTS)
def test_faults_have_the_same_messages_in_all_dialects(  # noqa: PLR0917
    served, form, tensor, place, value, received, way, monkeypatch
):
    """The message names the expected and the received value, and the model does not run."""
    arrays = {name: array.astype(object) for name, array in rows_of(0, 2).items()}
    arrays[tensor][1, place] = value
    kinds = {name: str(array.dtype) for name, array in rows_of(0, 1).items()}
    monkeypatch.setattr(
        "tests.harness.forms._oip_input",
        lambda name, array: {
            "name": name,
            "datatype": DATATYPES[kinds[name]],
            "shape": list(array.shape),
        },
    )
    monkeypatch.setattr("tests.harness.forms.float", lambda number: number, raising=False)
    runs: list[Any] = []
    monkeypatch.setattr(Model, "predict", lambda *given: runs.append(given))

    status, _, content = ask(served, form(arrays), way)

    error = json.loads(content)
    message = error.get("error") or error["message"]
    assert status == 400
    assert message.endswith(f", received {received}"), message
    assert ("expected text" in message) == (tensor == "insurance.smoker"), message
    assert ("expected a number" in message) == (tensor != "insurance.smoker"), message
    assert runs == []


@pytest.mark.parametrize("way", ["front", "flask"])
@pytest.mark.parametrize(
    ("form", "cut"),
    # A CSV whose last line has no line end is complete.
    [(form, cut) for form in FORMS for cut in (1, 30) if (form, cut) != (mlflow_csv, 1)],
)
def test_half_a_body_never_reaches_the_model(served, form, cut, way, monkeypatch):
    """In every dialect, an incomplete body is answered by 400 in the dialect's form."""
    runs: list[Any] = []
    monkeypatch.setattr(Model, "predict", lambda *given: runs.append(given))
    sent = form(rows_of(0, 1))

    status, headers, content = ask(served, Sent(sent.path, sent.body[:-cut], sent.headers), way)

    assert status == 400
    assert headers["content-type"] == "application/json"
    assert json.loads(content).keys() >= ({"message"} if form.__name__[0] == "m" else {"error"})
    assert runs == []


@pytest.mark.parametrize("name", small.every())
@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("native", "/models/{}/predict"),
        ("oip", "/v2/models/{}/infer"),
        ("tfserving", "/v1/models/{}:predict"),
        ("mlflow", "/invocations"),
    ],
)
def test_the_example_of_every_dialect_works(tmp_path, name, dialect, path):
    """The example of a model can be fetched and posted back unchanged."""
    small.put(tmp_path, name, 1, small.every()[name])
    client = create_app(settings.load({}, models=tmp_path)).test_client()

    example = client.get(f"/models/{name}/example?dialect={dialect}")
    answer = client.post(path.format(name), data=example.data, content_type="application/json")

    if (dialect, name) == ("oip", "float16"):
        assert example.status_code == 404
        assert b"FP16" in example.data
    else:
        assert (example.status_code, answer.status_code) == (200, 200), answer.data


def test_an_unknown_dialect_is_refused(served):
    """The message lists the dialects."""
    status, _, content = served.ask("GET", "/models/three/example?dialect=oipp")

    assert status == 400
    assert json.loads(content)["error"] == (
        "dialect: expected one of mlflow, native, oip, tfserving (did you mean 'oip'?), "
        'received "oipp"'
    )
