"""The page of a model about drift: the figures of `triceps drift`, for rows that were answered."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from service.app import create_app
from service.commands.main import main
from service.insight.drift.counting import Layout
from service.insight.serving import drift_meter
from service.observability.shared_memory import SharedNumbers
from service.settings import Settings
from tests.harness import drifting, graphs, small
from tests.harness.exposition import samples

PAGE = "/models/three/drift"


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    """Return a repository: `three` with a reference and a view, and others without one."""
    folder = tmp_path_factory.mktemp("models")
    small.put(folder, "three", 1, drifting.three(models={"sized": ["size"]}))
    small.put(folder, "plain", 1, small.three())
    small.put(folder, "whole", 1, graphs.mean())
    return folder


def serve(models, setting="features"):
    """Return the client of a service, and its app."""
    app = create_app(Settings(models=models, drift=setting, default_model="three"))
    return app.test_client()


def predict(client, rows, path="/models/three/predict", step=7, **more):
    """Request rows in several requests."""
    for start in range(0, len(rows), step):
        body = {"instances": rows[start : start + step], **more}
        assert client.post(path, json=body).status_code == 200


def found(client, path=PAGE):
    """Return what the page tells."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.get_json()
    return answer.get_json()


def by_command(models, rows, tmp_path):
    """Return what `triceps drift` finds in the same rows."""
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"instances": rows}))
    command = ["drift", "three", "--in", str(file), "--models", str(models), "--json"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_the_figures_are_those_of_the_command(models, tmp_path):
    """All rows are counted, with missing values, unseen texts and other ages."""
    rows = drifting.instances(600, 2, older=6)
    for row in rows[::3]:
        del row["insurance"]["age"]
        row["insurance"]["smoker"] = "perhaps"
    for row in rows[::5]:
        row["insurance"]["smoker"] = None
        row["fruit"] = [None, 2]
    client = serve(models)
    predict(client, rows)

    told = found(client)
    expected = by_command(models, rows, tmp_path)

    assert (told["rows"], told["share"], told["window"]) == (600, 1.0, "24h")
    assert told["features"] == expected["features"]
    assert told["heads"] == expected["heads"]
    assert {one["feature"] for one in told["features"]} == set(drifting.FEATURES)
    ages = next(one for one in told["features"] if one["feature"] == "insurance.age")
    assert ages["missing"] == 1 / 3


def test_a_shifted_feature_is_named_first(models):
    """The others, which have not changed, have no drift."""
    client = serve(models)
    predict(client, drifting.instances(700, 3, older=20))

    first, *others = found(client)["features"]

    assert (first["feature"], first["verdict"]) == ("insurance.age", "drift")
    assert {one["verdict"] for one in others} == {"no drift"}


@pytest.mark.parametrize("window", ["1h", "24h", "all"])
def test_every_window_has_the_rows_of_now(models, window):
    """It says since when they are counted."""
    client = serve(models)
    before = found(client, f"{PAGE}?window={window}")
    predict(client, drifting.instances(5, 4))
    after = found(client, f"{PAGE}?window={window}")

    assert (before["since"], before["rows"], before["window"]) == (None, 0, window)
    assert after["rows"] == 5
    assert after["since"] > "2026"
    assert {one["rows"] for one in (*after["features"], *after["heads"])} == {5}


def test_answers_alone_are_counted_by_default(models, tmp_path):
    """The figures of heads are the same, and there are none of features."""
    rows = drifting.instances(300, 5, older=10)
    client = serve(models, Settings().drift)
    predict(client, rows)

    told = found(client)

    assert (told["rows"], told["features"]) == (300, [])
    assert told["heads"] == by_command(models, rows, tmp_path)["heads"]
    numbers = samples(client.get("/metrics").text)
    assert not [name for name in numbers if name[0].startswith("triceps_feature_bin")]


def test_some_heads_and_views_are_counted_too(models):
    """A request for some heads counts those, and their features; a view has counts of its own."""
    client = serve(models)
    rows = [{"fruit": row["fruit"]} for row in drifting.instances(9, 6)]
    predict(client, rows, heads=["size"])
    predict(client, rows[:4], "/models/sized/predict")

    told, view = found(client), found(client, "/models/sized/drift")
    counted = {one["head"]: one["rows"] for one in told["heads"]}
    features = {one["feature"]: one["rows"] for one in told["features"]}

    assert counted == {head: 9 if head == "size" else 0 for head in drifting.HEADS}
    assert features == {f: 9 if f.startswith("fruit") else 0 for f in drifting.FEATURES}
    assert [(one["head"], one["rows"]) for one in view["heads"]] == [("size", 4)]


@pytest.mark.parametrize("method", ["occlusion", "shapley"])
def test_rows_of_explanations_are_not_counted(models, method, tmp_path):
    """Those that are explained are, once each, with their missing values."""
    rows = drifting.instances(40, 7)
    for row in rows[::4]:
        del row["insurance"]["age"]
    client = serve(models)
    predict(client, rows, explain={"heads": ["risk", "size"], "method": method, "samples": 4})

    told = found(client)
    expected = by_command(models, rows, tmp_path)

    assert told["rows"] == 40
    assert (told["features"], told["heads"]) == (expected["features"], expected["heads"])


def test_counters_have_a_bin_for_each_row(models):
    """They are beside those of the reference, so that PSI can be computed of them."""
    client = serve(models)
    rows = drifting.instances(30, 8)
    rows[0]["insurance"]["age"] = None
    rows[1]["insurance"]["smoker"] = "perhaps"
    rows[2]["insurance"]["age"] = 1000
    predict(client, rows)

    numbers = samples(client.get("/metrics").text)

    for side, names, total in (("head", drifting.HEADS, 30), ("feature", drifting.FEATURES, 30)):
        for name in names:
            of = [
                {
                    key[1]: value
                    for key, value in numbers.items()
                    if key[0] == family and name in key
                }
                for family in (f"triceps_{side}_bin_total", f"triceps_{side}_bin_reference")
            ]
            assert of[0].keys() == of[1].keys()
            assert (sum(of[0].values()), sum(of[1].values())) == (total, 2000)
    of_age = "insurance.age", "three", "1"
    assert numbers["triceps_feature_bin_total", "missing", *of_age] == 1
    assert numbers["triceps_feature_bin_total", "above", *of_age] == 1
    of_smoker = "insurance.smoker", "three", "1"
    assert numbers["triceps_feature_bin_total", "unseen", *of_smoker] == 1
    assert numbers["triceps_head_bin_reference", "low", "risk", "three", "1"] > 0


def test_gauges_are_those_of_the_page(models):
    """A quantity with too few rows for a verdict has none."""
    client = serve(models)
    predict(client, drifting.instances(500, 9, older=20), step=50)
    predict(client, [{"fruit": [1, 1]}] * 5, heads=["size"])

    numbers = samples(client.get("/metrics").text)
    for window in ("1h", "24h"):
        told = found(client, f"{PAGE}?window={window}")
        drifting_now = 0
        for side, family in (("feature", "drift_psi"), ("head", "head_drift_psi")):
            for one in told[f"{side}s"]:
                gauge = numbers.get((f"triceps_{family}", one[side], "three", "1", window))
                assert gauge == (None if one["verdict"].startswith("too few") else one["psi"])
                drifting_now += one["verdict"] == "drift"
        assert numbers["triceps_drift_found", "three", "1", window] == drifting_now > 0
        assert numbers["triceps_drift_share", "three", "1", window] == 1.0


def test_a_large_request_is_counted_in_part(models):
    """What is counted of it takes a bounded time, and the share says how much that was."""
    client = serve(models)
    rows = drifting.instances(500, 10)
    for row in rows[::2]:
        del row["insurance"]["age"]
    body = {"instances": rows * 80}
    assert client.post("/models/three/predict", json=body).status_code == 200

    told = found(client)
    by_name = {one["feature"]: one for one in told["features"]}

    assert told["rows"] < 40_000 / 4
    assert told["share"] == told["rows"] / 40_000
    assert {one["rows"] for one in told["features"]} == {told["rows"]}
    # Every n-th row is taken, so n decides which values are; of very many, it is an estimate.
    missing = by_name["insurance.age"]["missing"]
    assert missing <= 1
    assert any(missing == pytest.approx(share, abs=0.15) for share in (0, 0.5, 1))
    assert by_name["insurance.age"]["psi"] is not None


def test_numbers_that_are_none_are_missing(models):
    """A NaN that comes in binary has no default."""
    client = serve(models)
    answer = client.post(
        "/v2/models/three/infer",
        json={
            "inputs": [
                {"name": "fruit", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
            ],
            "outputs": [{"name": "size"}],
        },
    )

    assert answer.status_code == 200
    assert found(client)["rows"] == 2


def test_nothing_is_counted_if_it_is_off(models):
    """There are no metrics, and the page says why there is nothing on it."""
    client = serve(models, "off")
    predict(client, drifting.instances(5, 11))

    answer = client.get(PAGE)

    assert answer.status_code == 404
    assert answer.get_json()["error"] == (
        "model 'three', version 1: drift is not counted: TRICEPS_DRIFT is off"
    )
    text = client.get("/metrics").text
    assert "drift" not in text
    assert "_bin" not in text


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param(
            "plain",
            "its signature has no reference to compare with, which training records and "
            "triceps sign FILE.onnx --reference ROWS.csv adds",
            id="no reference",
        ),
        pytest.param("whole", "it takes whole tensors, which are no rows", id="whole tensors"),
    ],
)
def test_models_without_counts_say_why(models, model, reason):
    """The page is 404 for them, with and without a version."""
    client = serve(models)

    for path in (f"/models/{model}/drift", f"/models/{model}/versions/1/drift"):
        answer = client.get(path)
        assert answer.status_code == 404
        message = f"model {model!r}, version 1: drift is not counted: {reason}"
        assert answer.get_json()["error"] == message


def test_the_page_is_in_the_openapi_document(models):
    """Only of models that have one, and only if something is counted."""
    client, off = serve(models), serve(models, "off")
    paths = client.get("/openapi.json").get_json()["paths"]
    pages = [path for path in paths if path.endswith("/drift")]

    assert sorted(pages) == [
        *("/models/sized/drift", "/models/sized/versions/1/drift"),
        *("/models/three/drift", "/models/three/versions/1/drift"),
    ]
    assert {client.get(path).status_code for path in pages} == {200}
    assert "/drift" not in "".join(off.get("/openapi.json").get_json()["paths"])


def test_a_description_says_what_is_counted(models):
    """So that the console asks only where there is something."""
    counted = {
        (model, setting): serve(models, setting).get(f"/models/{model}").get_json().get("drift")
        for model in ("three", "plain")
        for setting in ("off", "heads", "features")
    }

    assert {key: value for key, value in counted.items() if value is not None} == {
        ("three", "heads"): "heads",
        ("three", "features"): "features",
    }


def test_versions_that_nobody_asks_have_no_series(models):
    """Their cells are not even laid out: there may be a thousand of them."""
    client = serve(models)

    assert "triceps_head_bin_total{" not in client.get("/metrics").text
    predict(client, drifting.instances(1, 15))
    assert 'model="sized"' not in "".join(
        line for line in client.get("/metrics").text.splitlines() if "_bin_" in line
    )


def test_an_unknown_window_is_refused(models):
    """The message lists the windows."""
    answer = serve(models).get(f"{PAGE}?window=2h")

    assert answer.status_code == 400
    assert answer.get_json()["error"] == 'window: expected one of 1h, 24h, all, received "2h"'


def test_an_error_is_logged_once_and_costs_no_answer(models, monkeypatch, caplog):
    """Rows that cannot be counted are left out."""

    def fail(*_):
        raise RuntimeError("no count")

    client = serve(models)
    monkeypatch.setattr(Layout, "count", fail)
    for _ in range(3):
        predict(client, drifting.instances(20, 12))
        assert found(client)["rows"] == 0

    [record] = [one for one in caplog.records if "drift" in one.message]
    assert record.message == "three, version 1: not all rows are counted for drift"
    assert record.exc_info[1].args == ("no count",)


def test_a_full_memory_costs_no_answer(models, monkeypatch):
    """A service with many versions goes on without the counts of the last."""
    monkeypatch.setattr("service.observability.metrics.SharedNumbers", _Little)
    client = serve(models)
    predict(client, drifting.instances(20, 13))

    assert found(client)["rows"] == 0


class _Little(SharedNumbers):
    """Shared memory without room for vectors."""

    def __init__(self):
        super().__init__(vectors=2**10)


def test_a_model_of_many_features_takes_little_memory(tmp_path, monkeypatch):
    """Quantities beyond the bound are left out, and what waits to be counted is bounded."""
    monkeypatch.setattr(drift_meter, "MOST_CELLS", 60)
    small.put(tmp_path, "three", 1, drifting.three())
    client = serve(tmp_path)
    predict(client, drifting.instances(20, 14))

    told = found(client)

    assert [one["head"] for one in told["heads"]]
    assert 0 < len(told["features"]) < len(drifting.FEATURES)
    assert {one["rows"] for one in (*told["heads"], *told["features"])} == {20}
    assert np.isfinite(told["share"])
