"""Explanations of all small models: whatever is asked, the answer is an explanation or a 4xx."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.settings import Settings
from service.wire.explanations import METHODS
from tests.harness import small

MODELS = small.every()
HEADS = ["size", "risk", "digits", "tags", "y", "total", "best", "first", "weight", "calm"]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
EXPLAIN = st.fixed_dictionaries(
    {},
    optional={
        "heads": st.lists(st.sampled_from(HEADS), max_size=3) | ANY,
        "method": st.sampled_from(METHODS) | ANY,
        "samples": st.integers(-1, 1030) | ANY,
        "head": ANY,
    },
)


@pytest.fixture(name="app", scope="module")
def _app(tmp_path_factory):
    """Return an app of all small models."""
    models = tmp_path_factory.mktemp("models")
    for name, content in MODELS.items():
        small.put(models, name, 1, content)
    return create_app(Settings(models=models, default_model="three"))


@settings(deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.booleans() | EXPLAIN | ANY, st.booleans())
def test_whatever_is_asked_is_explained_or_refused(app, name, explain, by_verb):
    """A mistake is the client's, and an explanation adds up if it says so."""
    client = app.test_client()
    native, v1 = f"/models/{name}/predict", f"/v1/models/{name}:explain"
    dialect = "tfserving" if by_verb else "native"
    example = client.get(f"/models/{name}/example?dialect={dialect}").get_json()
    content = json.dumps({**example, "explain": explain})
    answer = client.post(v1 if by_verb else native, data=content, content_type="application/json")

    assert answer.status_code in (200, 400, 413), answer.data
    if answer.status_code != 200 or not explain or answer.get_json().get("explained") is None:
        return
    said = json.loads(answer.data)
    rows = said["explanations"] if by_verb else [r["explanations"] for r in said["predictions"]]
    for row in rows:
        for of_head in row.values():
            values = [of_head["answer"], of_head["reference"], *of_head["parts"].values()]
            if said["explained"]["method"] == "shapley" and None not in values:
                size = max(1.0, abs(of_head["answer"]))
                total = of_head["answer"] - of_head["reference"]
                parts = sum(of_head["parts"].values())
                assert math.isclose(parts, total, abs_tol=1e-5 * size), of_head


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_is_explained_or_says_why_not(app, name):
    """The answer to a row is that of a request without explanations."""
    client = app.test_client()
    example = client.get(f"/models/{name}/example").get_json()
    plain = client.post(f"/models/{name}/predict", json=example).get_json()
    answer = client.post(f"/models/{name}/predict", json={**example, "explain": True})

    if answer.status_code == 400:
        assert "explain: expected a head that can be explained" in answer.get_json()["error"]
        return
    [row] = answer.get_json()["predictions"]
    explained = row.pop("explanations")
    assert json.dumps(row) == json.dumps(plain["predictions"][0])
    for head, of_head in explained.items():
        value = np.ravel(row[head]["value"])
        assert of_head["answer"] in value.tolist()
