"""A loaded model answers and refuses generated rows as the service does by HTTP."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import service
from service.errors import BadRequest, RequestError, UndeclaredAnswer
from tests.harness import mixers, small
from tests.harness.apps import NAMES, app_of, post_json
from tests.harness.native_bodies import bodies

MODELS = {
    **small.every(),
    "refusing": small.refusing(),
    "joint": mixers.softmax().SerializeToString(),
}
EVERY = sorted({*NAMES, *MODELS})


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, content in MODELS.items():
        small.put(folder, name, 1, content)
    return folder


@pytest.fixture(scope="module", name="client")
def _client(folder):
    return app_of(folder).test_client()


@pytest.fixture(scope="module", name="models")
def _models(folder):
    return {name: service.load(name, folder) for name in EVERY}


def without_nan(value: Any) -> Any:
    """Return a body without NaN, which JSON does not have, and which is missing in a table here."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_nan(part) for part in value]
    return math.inf if isinstance(value, float) and math.isnan(value) else value


def posted(client: Any, name: str, body: Any) -> Any:
    """Send a body; an infinity is a number too large for any float, and not a word."""
    content = json.dumps(body).replace("Infinity", "1e999").encode()
    return post_json(client, content, f"/models/{name}/predict")


def by_http(client: Any, name: str, body: Any) -> Any:
    """Return the outcome of a request: the answers by head and its notes, or the error."""
    response = posted(client, name, body)
    said = response.get_json()
    if response.status_code == 500:
        return 500
    if response.status_code != 200:
        return response.status_code, said
    if "outputs" in said:
        heads = {
            head: (values, said.get("labels", {}).get(head))
            for head, values in said["outputs"].items()
        }
    else:
        rows = said["predictions"]
        heads = {
            head: (
                [row[head]["value"] for row in rows],
                [row[head]["label"] for row in rows] if "label" in rows[0][head] else None,
            )
            for head in rows[0]
        }
    noted = [
        Counter(re.search(r"\[(\d+)\]", entry["at"])[1] for entry in said.get(key, []))
        for key in ("imputed", "unseen")
    ]
    return heads, *noted


def by_call(model: Any, body: Any) -> Any:
    """Return the outcome of a call, in the form of `by_http`."""
    try:
        answers = model.predict(**body)
    except UndeclaredAnswer:
        return 500
    except RequestError as error:
        said = {"error": str(error)}
        if isinstance(error, BadRequest):
            said |= {"problems": [vars(p) for p in error.problems], "count": error.count}
        return error.status, said
    heads = {
        name: (_listed(answer.value), None if answer.label is None else answer.label.tolist())
        for name, answer in answers.items()
    }
    noted = [
        Counter(str(row) for rows in places.values() for row in rows.tolist())
        for places in (answers.imputed, answers.unseen)
    ]
    return heads, *noted


EXPLAINS = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["occlusion", "shapley", "shap"]),
        "samples": st.sampled_from([1, 2, 5, 64, 0, 1.5]),
    },
)


def explained_by_http(client: Any, name: str, body: Any) -> Any:
    """Return the outcome of a request for explanations: by head, and how they were made."""
    response = posted(client, name, body)
    said = response.get_json()
    if response.status_code != 200:
        return response.status_code, None if response.status_code == 500 else said
    rows = said.get("explanations") or [row["explanations"] for row in said["predictions"]]
    return rows, said["explained"]


def explained_by_call(model: Any, body: Any, explain: Any) -> Any:
    """Return the outcome of a call, in the form of `explained_by_http`."""
    try:
        explained = model.explain(**body, **explain)
    except UndeclaredAnswer:
        return 500, None
    except RequestError as error:
        said = {"error": str(error)}
        if isinstance(error, BadRequest):
            said |= {"problems": [vars(p) for p in error.problems], "count": error.count}
        return error.status, said
    about = {"method": explained.method, "exact": explained.exact, "runs": explained.runs}
    rows = [
        {
            name: {
                **({} if one.label is None else {"label": one.label[i]}),
                "reference": _listed(one.reference)[i],
                "answer": _listed(one.answer)[i],
                "parts": dict(zip(one.features, _listed(one.parts)[i], strict=True)),
            }
            for name, one in explained.items()
        }
        for i in range(len(next(iter(explained.values())).parts))
    ]
    return rows, {name: value for name, value in about.items() if value is not None}


def _listed(values: Any) -> Any:
    if values.dtype == object:
        return values.tolist()
    # The shortest text of a number, which no other number of its dtype has.
    return json.loads(orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY))


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_generated_rows_have_the_same_outcome(models, client, name, data):
    """Answers are equal bit for bit, and errors problem for problem; notes name the same rows."""
    body = without_nan(data.draw(bodies(models[name].signature)))

    assert by_call(models[name], body) == by_http(client, name, body)


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_generated_rows_have_the_same_explanations(models, client, name, data):
    """Explanations are equal bit for bit, and so are the errors of those that cannot be given."""
    body = without_nan(data.draw(bodies(models[name].signature)))
    explain = data.draw(EXPLAINS)
    heads = body.get("heads", [])
    known = heads and len({*heads}) == len(heads) and {*heads} <= {*models[name].signature.heads}
    wanted = {"method": "occlusion", "samples": 64, **explain} | ({"heads": heads} if known else {})

    outcome = explained_by_call(models[name], body, explain)

    assert outcome == explained_by_http(client, name, {**body, "explain": wanted})
