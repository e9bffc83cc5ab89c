"""The shap package, which asks the service as a black box: its Shapley values are those of ours."""

import json
import warnings

import numpy as np
import pytest
from onnx import helper

from service.app import create_app
from service.settings import Settings
from service.signature import Feature, Head, Signature, Tensor, tabular
from tests.harness import small

with warnings.catch_warnings():
    # The packages under it have warnings of their own.
    warnings.simplefilter("ignore")
    import shap

JSON = {"Content-Type": "application/json"}
# With so few, all combinations are run; with so many, orders are sampled.
SIZES = {"exact": 6, "sampled": 12}


def weights(size):
    """Return the weights of single features, and of products of two neighbours."""
    random = np.random.default_rng(size)
    return random.normal(size=size).astype("f"), random.normal(size=size).astype("f")


def model(size):
    """Return a model of a table, with a head of each form that the truth is known of.

    line = w x + 3; pairs = line + the sum of v[i] x[i] x[i + 1], around a ring; curve = sigmoid of
    pairs.
    """
    single, double = weights(size)
    nodes = [
        helper.make_node("MatMul", ["x", "single"], ["plain"]),
        helper.make_node("Add", ["plain", "three"], ["line"]),
        helper.make_node("Gather", ["x", "next"], ["neighbours"], axis=1),
        helper.make_node("Mul", ["x", "neighbours"], ["products"]),
        helper.make_node("MatMul", ["products", "double"], ["weighed"]),
        helper.make_node("Add", ["line", "weighed"], ["pairs"]),
        helper.make_node("Sigmoid", ["pairs"], ["curve"]),
    ]
    names = ("line", "pairs", "curve")
    constants = {
        "single": single[:, None],
        "double": double[:, None],
        "three": np.float32(3),
        "next": np.roll(np.arange(size), -1),
    }
    outputs = [(name, small.F, ["n", 1]) for name in names]
    made = small.model(nodes, [("x", small.F, ["n", size])], outputs, constants)
    table = tabular("x", [Feature(f"f{i}", "", default=i / size) for i in range(size)])
    heads = {name: Head(name, "regression", Tensor(name, "float32", (1,))) for name in names}
    return small.signed(made, Signature({"x": table}, heads))


@pytest.fixture(name="client", scope="module")
def _client(tmp_path_factory):
    """Return a client of the models."""
    models = tmp_path_factory.mktemp("models")
    for name, size in SIZES.items():
        small.put(models, name, 1, model(size))
    return create_app(Settings(models=models)).test_client()


def post(client, name, body):
    """Return the answer to a body."""
    answer = client.post(f"/models/{name}/predict", data=json.dumps(body), headers=JSON)
    assert answer.status_code == 200, answer.data
    return answer.get_json()


def rows_of(size):
    """Return some rows, and the reference."""
    return np.random.default_rng(1).normal(size=(4, size)), np.arange(size)[None] / size


def ours(client, name, head, method="shapley"):
    """Return the parts of some rows by head, [rows, features], and whether they are exact."""
    rows, _ = rows_of(SIZES[name])
    explain = {"heads": [head], "method": method}
    answer = post(client, name, {"instances": rows.tolist(), "explain": explain})
    explained = [row["explanations"][head] for row in answer["predictions"]]
    parts = np.array([list(row["parts"].values()) for row in explained])
    return parts, answer["explained"].get("exact")


def theirs(client, name, head):
    """Return the same by shap, which sends the rows that it wants answered."""
    rows, reference = rows_of(SIZES[name])

    def function(inputs):
        body = {"instances": np.asarray(inputs).tolist(), "heads": [head]}
        return np.array([row[head]["value"] for row in post(client, name, body)["predictions"]])

    masker = shap.maskers.Independent(reference, max_samples=1)
    return shap.explainers.ExactExplainer(function, masker)(rows)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("head", ["line", "pairs"])
def test_linear_models_and_products_of_two_have_the_values_of_shap(client, name, head):
    """An order and its reverse share a product equally, so even a sample has the exact values."""
    parts, exact = ours(client, name, head)
    expected = theirs(client, name, head)

    assert exact == (name == "exact")
    assert np.abs(parts - expected.values).max() < 1e-5
    assert expected.base_values[0] == pytest.approx(
        post(client, name, {"instances": rows_of(SIZES[name])[1].tolist()})["predictions"][0][head][
            "value"
        ],
        abs=1e-5,
    )


@pytest.mark.parametrize("method", ["occlusion", "shapley"])
@pytest.mark.parametrize("name", SIZES)
def test_each_method_has_the_parts_of_a_linear_model(client, name, method):
    """The weight, times the way from the reference: as shap's own explainer of such models says."""
    rows, reference = rows_of(SIZES[name])
    single, _ = weights(SIZES[name])
    masker = shap.maskers.Independent(reference, max_samples=1)
    expected = shap.explainers.LinearExplainer((single, 3.0), masker)(rows).values

    parts, _ = ours(client, name, "line", method)

    assert np.abs(parts - expected).max() < 1e-5
    assert np.abs(expected - single * (rows - reference)).max() < 1e-5


def test_exact_values_of_any_model_are_those_of_shap(client):
    """A sigmoid mixes all features."""
    parts, exact = ours(client, "exact", "curve")

    assert exact
    assert np.abs(parts - theirs(client, "exact", "curve").values).max() < 1e-5


def test_sampled_values_of_any_model_are_near_those_of_shap(client):
    """The largest difference is a few hundredths of a probability."""
    parts, exact = ours(client, "sampled", "curve")

    assert not exact
    assert np.abs(parts - theirs(client, "sampled", "curve").values).max() < 0.05
