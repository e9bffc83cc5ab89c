"""The routes of the Flask app, over HTTP, for repositories as they are."""

import shutil
import weakref

import numpy as np
import onnx
import pytest

from service import __version__
from service.prediction import Pipeline
from tests.harness import small
from tests.harness.apps import BODY, NAMES, ROW, SIZE, app_of, error_of, post_json


# Pages.
def test_the_home_page_names_models_and_links(client):
    """The page has the status, the version of the service, the models and the next pages."""
    response = client.get("/")

    assert response.status_code == 200
    assert response.get_json() == {
        "status": "alive",
        "service": f"triceps {__version__}",
        "models": NAMES,
        "links": {
            "models": "/models",
            "openapi": "/openapi.json",
            "live": "/livez",
            "ready": "/readyz",
        },
    }


def test_liveness_and_readiness_are_separate(client):
    """Liveness is about the process, readiness about its models."""
    assert client.get("/livez").get_json() == {"status": "alive"}
    assert client.get("/readyz").get_json() == {"status": "ready", "models": NAMES}


def test_the_models_are_listed_with_versions_heads_and_refusals(client):
    """The newest version that serves is the one that answers."""
    page = client.get("/models").get_json()
    batching = client.get("/models/three").get_json()["batching"]

    assert batching["mode"] == "rows"
    assert page["default"] == "three"
    assert [entry["name"] for entry in page["models"]] == NAMES
    assert [entry for entry in page["models"] if entry["name"] in ("risky", "three")] == [
        {
            "name": "risky",
            "version": "2",
            "versions": {"1": "on demand", "2": "loaded"},
            "aliases": {},
            "heads": ["risk"],
            "batching": batching,
        },
        {
            "name": "three",
            "version": "2",
            "versions": {"1": "on demand", "2": "loaded"},
            "aliases": {},
            "heads": ["risk", "size", "digits", "tags"],
            "batching": batching,
        },
    ]
    assert page["refused"] == [
        {
            "name": "three",
            "version": "3",
            "reason": "it is not an ONNX file, or not the whole of one",
        }
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_every_model_works_when_posted(client, name):
    """The example works for the model and for each of its versions, and has pages of its own."""
    described = client.get(f"/models/{name}").get_json()

    assert client.get(f"/models/{name}/example").get_json() == described["example"]
    for version in described["versions"]:
        path = f"/models/{name}/versions/{version}"
        # Of a version that is loaded on demand, this page is the first to be asked for.
        of_version = client.get(f"{path}/example").get_json()
        assert client.get(path).get_json()["example"] == of_version
        response = post_json(client, of_version, f"{path}/predict")
        assert response.status_code == 200, response.get_data(as_text=True)
    response = post_json(client, described["example"], f"/models/{name}/predict")
    (answer,) = response.get_json()["predictions"]
    assert list(answer) == list(described["heads"])
    assert "imputed" not in response.get_json()


# One request.
@pytest.mark.parametrize(
    ("path", "name", "version", "size"),
    [
        pytest.param("/predict", "three", "2", 6.0, id="default"),
        pytest.param("/models/three/predict", "three", "2", 6.0, id="name"),
        pytest.param("/models/three/versions/1/predict", "three", "1", 3.0, id="older-version"),
        pytest.param("/models/three/versions/2/predict", "three", "2", 6.0, id="version"),
        pytest.param("/models/fruity/predict", "fruity", "2", 6.0, id="view"),
        pytest.param("/models/fruity/versions/1/predict", "fruity", "1", 3.0, id="version-of-view"),
        pytest.param("/predict/", "three", "2", 6.0, id="trailing-slash"),
        pytest.param("/models/three/predict/", "three", "2", 6.0, id="trailing-slash-of-a-model"),
    ],
)
def test_the_path_chooses_the_model_and_its_version(client, path, name, version, size):
    """The answer names the model and the version."""
    response = post_json(client, SIZE, path)

    assert response.status_code == 200
    assert response.get_json() == {
        "model": name,
        "version": version,
        "predictions": [{"size": {"value": size}}],
    }


def test_one_request_answers_every_head_by_row(client):
    """The answer has values, labels, and the defaults that were used."""
    rows = [ROW, {"insurance": {"smoker": None, "bmi": 12}, "digit": [[5, 1], [2, 9]]}]

    response = post_json(client, {"instances": rows})

    assert response.status_code == 200
    first, second = response.get_json()["predictions"]
    half = 1 / (1 + np.exp(-1))
    assert first == {
        "risk": {"value": pytest.approx(1 / (1 + np.exp(-17))), "label": "high"},
        "size": {"value": 6.0},
        "digits": {"value": [0.0, 1.0, 2.0], "label": "two"},
        "tags": {"value": [0.5, pytest.approx(half)], "label": ["long"]},
    }
    assert second == {
        "risk": {"value": pytest.approx(1 / (1 + np.exp(10)), rel=1e-3), "label": "low"},
        "size": {"value": 7.0},
        "digits": {"value": [5.0, 1.0, 2.0], "label": "zero"},
        "tags": {
            "value": [pytest.approx(1 / (1 + np.exp(-0.5))), pytest.approx(half)],
            "label": ["heavy", "long"],
        },
    }
    assert response.get_json()["imputed"] == [
        {"at": "instances[1].insurance.age", "value": 38},
        {"at": "instances[1].insurance.smoker", "value": "no"},
        {"at": "instances[1].fruit.weight", "value": 1.5},
        {"at": "instances[1].fruit.length", "value": 2},
    ]


def test_one_request_answers_every_head_by_column(client):
    """The lists hold the same values as the answers by row."""
    rows = [ROW, {**ROW, "insurance": [None, "never seen", 20]}]
    by_row = post_json(client, {"instances": rows}).get_json()["predictions"]

    response = post_json(client, {"inputs": {name: [row[name] for row in rows] for name in ROW}})

    assert response.status_code == 200
    assert response.get_json() == {
        "model": "three",
        "version": "2",
        "outputs": {head: [row[head]["value"] for row in by_row] for head in by_row[0]},
        "labels": {
            head: [row[head]["label"] for row in by_row] for head in ("risk", "digits", "tags")
        },
        "imputed": [{"at": "inputs.insurance[1][0]", "value": 38}],
        "unseen": [{"at": "inputs.insurance[1][1]", "received": "never seen"}],
    }


@pytest.mark.parametrize(
    ("body", "key"),
    [
        pytest.param({"instances": [{"x": [7], "place": 99}]}, "predictions", id="by-row"),
        pytest.param({"inputs": {"x": [[7]], "place": [99]}}, "outputs", id="by-column"),
        pytest.param({"instances": [{"x": [7]}]}, "predictions", id="not-even-asked-for"),
    ],
)
def test_only_the_requested_part_of_the_graph_is_computed(client, body, key):
    """A branch that would fail for this row does no harm if its head is not requested."""
    response = post_json(client, {**body, "heads": ["calm"]}, "/models/brittle/predict")

    assert response.status_code == 200
    calm = {"calm": [7.0]} if key == "outputs" else [{"calm": {"value": 7.0}}]
    assert response.get_json()[key] == calm


def test_an_input_that_no_head_needs_is_never_required(tmp_path):
    """The graph declares the input, and no node uses it."""
    small.put(tmp_path, "idle", 1, small.idle())
    client = app_of(tmp_path).test_client()

    for row in ({"x": [1]}, {"x": [1], "idle": [2]}):
        response = post_json(client, {"instances": [row]})
        assert response.get_json()["predictions"] == [{"y": {"value": 1.0}}]


def test_values_without_an_answer_are_an_error_of_the_client(client):
    """Only the graph knows the length of its lists, so its own message is in the error."""
    body = {"instances": [{"x": [7], "place": 99}], "heads": ["wild"]}

    status, error = error_of(post_json(client, body, "/models/brittle/predict"))

    assert status == 400
    assert error.startswith("the model has no answer for these values: ")
    assert "99" in error


def test_a_model_that_takes_one_row_at_a_time_answers_many(client):
    """The rows run one after another, and are answered together."""
    response = post_json(client, {"inputs": [[1, 2], [3, 4], [5, 6]]}, "/models/alone/predict")

    assert response.get_json()["outputs"] == {"y": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}


@pytest.mark.parametrize("name", ["ragged", "alone_ragged"])
def test_rows_of_a_free_length_have_one_length_per_request(client, name):
    """Two lengths in one request are refused by place; in two requests they are fine."""
    path = f"/models/{name}/predict"

    assert error_of(post_json(client, {"instances": [[[1, 2]], [[1, 2], [3, 4]]]}, path)) == (
        400,
        "instances[1]: expected the shape of instances[0], 1 x 2, received 2 x 2",
    )
    assert post_json(client, {"instances": [[[1, 2], [3, 4]]] * 3}, path).status_code == 200


@pytest.mark.parametrize(
    ("name", "row"),
    [
        pytest.param("float", [1.5, -3.25e38], id="float32"),
        pytest.param("double", [1e300, 0.1], id="float64"),
        pytest.param("float16", [65504.0, -0.5], id="float16"),
        pytest.param("bool", [True, False], id="bool"),
        pytest.param("string", ["größe 🍎", ""], id="string"),
        pytest.param("int8", [-128, 127], id="int8"),
        pytest.param("int16", [-(2**15), 2**15 - 1], id="int16"),
        pytest.param("int32", [-(2**31), 2**31 - 1], id="int32"),
        pytest.param("int64", [-(2**63), 2**63 - 1], id="int64"),
        pytest.param("uint8", [0, 255], id="uint8"),
        pytest.param("uint16", [0, 2**16 - 1], id="uint16"),
        pytest.param("uint32", [0, 2**32 - 1], id="uint32"),
        pytest.param("uint64", [0, 2**64 - 1], id="uint64"),
        pytest.param("deep", [[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]], id="rank-four"),
        pytest.param("scalar", 7.5, id="rank-one"),
    ],
)
def test_a_foreign_model_of_any_dtype_and_shape_is_served(client, name, row):
    """The answer has exactly the values of the request, in both forms."""
    path = f"/models/{name}/predict"

    by_row = post_json(client, {"instances": [row, {"x": row}]}, path).get_json()
    by_column = post_json(client, {"inputs": {"x": [row, row]}}, path).get_json()

    assert by_row["predictions"] == [{"y": {"value": row}}] * 2
    assert by_column["outputs"] == {"y": [row, row]}
    assert "labels" not in by_column


def test_odd_names_are_served_as_they_are(client):
    """Names may have dots, slashes, colons, quotes, spaces and umlauts."""
    row = {name: [i] for i, name in enumerate(small.ODD_NAMES)}

    response = post_json(
        client, {"instances": [row], "heads": ["größe!", "a.b/c:0!"]}, "/models/odd_names/predict"
    )

    assert response.get_json()["predictions"] == [
        {"größe!": {"value": 2.0}, "a.b/c:0!": {"value": 0.0}}
    ]


def test_nan_is_null_and_has_no_label(client):
    """JSON has no NaN, and a label for it would be invented."""
    response = post_json(client, {"instances": [[-1, 7], [0, 1]]}, "/models/logs/predict")

    log7 = pytest.approx(float(np.log(np.float32(7))))
    assert response.get_json()["predictions"] == [
        {
            "many": {"value": [None, log7], "label": None},
            "best": {"value": [None, log7], "label": None},
            "first": {"value": None, "label": None},
            "whole": {"value": [-1, 7]},
            "truth": {"value": [True, True]},
            "text": {"value": ["-1", "7"]},
        },
        {
            "many": {"value": [None, 0.0], "label": []},
            "best": {"value": [None, 0.0], "label": "b"},
            "first": {"value": None, "label": "no"},
            "whole": {"value": [0, 1]},
            "truth": {"value": [False, True]},
            "text": {"value": ["0", "1"]},
        },
    ]


# Repositories without a model that serves, and the default model.
def test_an_empty_repository_is_alive_and_not_ready(tmp_path):
    """A trainer will fill the repository; until then each answer says that it is empty."""
    client = app_of(tmp_path).test_client()
    reason = "the model repository is empty: train or publish a model into it"

    ready = client.get("/readyz")

    assert client.get("/livez").status_code == 200
    assert (ready.status_code, ready.get_json()) == (503, {"status": "not ready", "reason": reason})
    assert client.get("/models").get_json() == {
        "default": None,
        "policy": "latest",
        "models": [],
        "refused": [],
    }
    assert client.get("/").get_json()["models"] == []
    assert client.get("/openapi.json").status_code == 200
    assert error_of(post_json(client, BODY)) == (503, reason)
    assert error_of(post_json(client, BODY, "/models/x/predict")) == (
        404,
        "model 'x': there is none of that name. Available: none yet",
    )


def test_a_repository_of_refused_models_is_not_ready(tmp_path):
    """The reason names the model and says why it was refused."""
    small.put(tmp_path, "broken", 7, b"no model")
    client = app_of(tmp_path).test_client()
    reason = "it is not an ONNX file, or not the whole of one"

    ready = client.get("/readyz")

    assert (ready.status_code, ready.get_json()) == (
        503,
        {"status": "not ready", "reason": f"no model is usable: broken, version 7: {reason}"},
    )
    assert error_of(post_json(client, BODY)) == (
        503,
        f"model 'broken', version 7: refused, {reason}",
    )
    assert client.get("/models").get_json() == {
        "default": "broken",
        "policy": "latest",
        "models": [],
        "refused": [{"name": "broken", "version": "7", "reason": reason}],
    }


def test_a_model_that_does_not_answer_its_golden_rows_does_not_serve(tmp_path):
    """The older version keeps serving."""
    small.put(tmp_path, "three", 1, small.three())
    wrong = small.signed(onnx.load_from_string(small.three(2.0)), small.three_signature(1.0))
    small.put(tmp_path, "three", 2, wrong)
    client = app_of(tmp_path).test_client()

    assert post_json(client, SIZE).get_json()["version"] == "1"
    (refused,) = client.get("/models").get_json()["refused"]
    assert refused["version"] == "2"
    assert refused["reason"].startswith(
        "head 'size' does not answer its golden rows as it did when it was made: "
    )


@pytest.mark.parametrize(
    ("names", "wanted", "default"),
    [
        pytest.param(["only"], "", "only", id="the-only-one"),
        pytest.param(["other", "triceps"], "", "triceps", id="triceps"),
        pytest.param(["other", "triceps"], "other", "other", id="as-set"),
        pytest.param(["other", "triceps"], "risky", "risky", id="a-view-as-set"),
    ],
)
def test_the_default_model_is_the_one_set_or_the_obvious_one(tmp_path, names, wanted, default):
    """The views of a file do not make its model less obvious."""
    for name in names:
        views = {"risky": ["risk"]} if name != "triceps" else None
        small.put(tmp_path, name, 1, small.three(models=views))
    client = app_of(tmp_path, default_model=wanted).test_client()

    assert client.get("/models").get_json()["default"] == default
    body = {"instances": [{"insurance": ROW["insurance"]}], "heads": ["risk"]}
    assert post_json(client, body).get_json()["model"] == default


def test_without_an_obvious_model_the_client_has_to_name_one(tmp_path):
    """The error says how to name a model, and which ones there are."""
    small.put(tmp_path, "a", 1, small.three())
    small.put(tmp_path, "b", 1, small.three())

    status, error = error_of(post_json(app_of(tmp_path).test_client(), BODY))

    assert status == 404
    assert error == (
        "no model was named, and none is the default: ask /models/<name>/predict, set "
        "TRICEPS_DEFAULT_MODEL, or mark a model by an empty file <name>/default. Available: a, b"
    )


def test_a_route_is_made_once_for_each_state_of_the_repository(tmp_path, monkeypatch):
    """The second request for a version uses the route of the first, until models change."""
    routes = []
    route = Pipeline.route
    monkeypatch.setattr(Pipeline, "route", lambda *a: routes.append(1) or route(*a))
    small.put(tmp_path, "three", 1, small.three())
    app = app_of(tmp_path)
    client = app.test_client()

    def ask():
        return [client.post("/predict", json=SIZE).get_json()["version"] for _ in range(3)]

    versions = ask()
    small.put(tmp_path, "three", 2, small.three(2.0))
    app.extensions["triceps"].refresh()
    versions += ask()

    assert versions == ["1"] * 3 + ["2"] * 3
    assert len(routes) == 2


@pytest.mark.parametrize("asked", [False, True])
def test_a_removed_version_is_freed(tmp_path, asked):
    """No route keeps a model whose version is gone, not even where Flask answers nothing."""
    small.put(tmp_path, "three", 1, small.three())
    app = app_of(tmp_path, watch=0)
    library = app.extensions["triceps"]
    if asked:
        assert app.test_client().post("/predict", json=BODY).status_code == 200
    model = weakref.ref(library.current.find("three").model)
    assert model() is not None

    shutil.rmtree(tmp_path / "three")
    library.refresh()

    assert model() is None
