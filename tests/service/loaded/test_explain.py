"""Explanations of a loaded model: arrays by head and feature, of any number of rows."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

import service
import service.prediction  # which imports what explains
from service.errors import BadRequest, TooLarge
from tests.harness import graphs, mixers, small

# The package has a function of the same name.
planning = sys.modules["service.insight.explanations.plan"]


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small.put(folder, "three", 1, small.three())
    small.put(folder, "voice", 1, graphs.voice())
    small.put(folder, "joint", 1, mixers.softmax().SerializeToString())
    return folder


@pytest.fixture(scope="module", name="model")
def _model(folder):
    return service.load("three", folder)


FRUIT = pd.DataFrame({"weight": [1.5, 4.0, 2.5], "length": [2.0, 3.0, np.nan]}, index=[7, 8, 9])


@pytest.mark.parametrize("method", ["occlusion", "shapley"])
def test_parts_say_how_far_each_feature_moves_the_answer(model, method):
    """Of a sum, each feature has its difference to the default; a missing value has none."""
    size = model.explain(FRUIT, "size", method=method)["size"]

    assert size.features == ("fruit.weight", "fruit.length")
    assert size.parts.tolist() == [[0, 0], [2.5, 1], [1, 0]]
    assert size.parts.dtype == np.float64
    assert size.answer.tolist() == [3.5, 7, 4.5]
    assert size.reference.tolist() == [3.5] * 3
    assert size.label is None


def test_all_heads_that_can_be_are_explained(model):
    """By default; a head that cannot be, and is named, is a mistake with its reason."""
    row = {"insurance": {"bmi": 20}, "fruit": [1, 2], "digit": [0, 1, 2, 3]}

    explained = model.explain(row)

    assert list(explained) == ["risk", "size", "digits"]
    assert explained["digits"].label.tolist() == ["two"]
    assert explained["digits"].answer.tolist() == [2]
    with pytest.raises(BadRequest, match="tags"):
        model.explain(row, ["size", "tags"])
    with pytest.raises(BadRequest) as caught:
        model.explain(row, ["size", "tag"])
    assert [problem.at for problem in caught.value.problems] == ["heads[1]"]


def test_parts_are_a_table_with_the_index_of_the_rows(model):
    """A column for each feature, to sort and to draw."""
    table = model.explain(FRUIT, "size")["size"].frame()

    assert table.columns.tolist() == ["fruit.weight", "fruit.length"]
    assert table.loc[8].tolist() == [2.5, 1]


def test_more_rows_than_one_request_may_explain_are_several(model, monkeypatch):
    """Their parts are joined in order, and all runs are counted."""
    monkeypatch.setattr(planning, "MOST_RUNS", 50)
    rows = np.random.default_rng(0).integers(0, 100, (77, 2)).astype(np.float32)

    explained = model.explain(inputs={"fruit": rows}, heads="size")

    assert np.array_equal(explained["size"].parts, rows - np.float32([1.5, 2]))
    assert explained.runs >= 77 * 3
    monkeypatch.setattr(planning, "MOST_RUNS", 3)
    with pytest.raises(TooLarge, match="at most 3 runs"):
        model.explain(inputs={"fruit": rows}, heads="size")


def test_an_explanation_has_the_time_that_it_takes(tmp_path):
    """The timeout of a model is for the clients of a service."""
    small.put(tmp_path, "three", 1, small.three())
    (tmp_path / "three" / "settings.toml").write_text("timeout = 0.0001\n")
    model = service.load("three", tmp_path)

    assert len(model.explain([{"fruit": [1, 2]}] * 3000, "size")["size"].parts) == 3000


def test_labels_of_several_requests_are_joined(model, monkeypatch):
    """Each row has the label that it was answered with."""
    monkeypatch.setattr(planning, "MOST_RUNS", 10)
    images = np.eye(4)[[0, 1, 2] * 3]

    digits = model.explain(inputs={"digit": images}, heads="digits")["digits"]

    assert digits.label.tolist() == ["zero", "one", "two"] * 3
    assert digits.features == ("digit[0:2,0:2]",)


@pytest.mark.parametrize("name", ["joint", "voice"])
def test_models_without_rows_of_their_own_are_refused(folder, name):
    """Rows that depend on each other, and whole tensors, cannot be explained."""
    model = service.load(name, folder)
    zeros = {
        tensor.name: np.zeros([1 if axis is None else axis for axis in tensor.shape], tensor.dtype)
        for entry in model.signature.inputs.values()
        for tensor in entry.tensors
    }
    if name == "joint":
        zeros = {tensor: zero[None] for tensor, zero in zeros.items()}

    with pytest.raises(BadRequest, match="explain: expected"):
        model.explain(inputs=zeros)


def test_mistakes_of_the_call_are_reported_once(model, monkeypatch):
    """However many pieces its rows are read in, and with those of the rows."""
    monkeypatch.setattr("service.loaded.reading.ROWS_AT_ONCE", 2)
    rows = [{"fruit": [1, "x" if i == 4 else 2]} for i in range(9)]

    with pytest.raises(BadRequest) as caught:
        model.explain(rows, "size", method="shap", samples=0)

    assert [problem.at for problem in caught.value.problems] == [
        "explain.method",
        "explain.samples",
        "instances[4].fruit[1]",
    ]
    assert caught.value.count == 3


def test_explanations_are_printed_in_short(model):
    """What was explained, and how."""
    assert repr(model.explain(FRUIT, "size")) == "size: 3 rows, 2 features\nocclusion, 10 runs"
    shapley = model.explain(FRUIT[:1], "size", method="shapley")
    assert repr(shapley) == "size: 1 row, 2 features\nshapley, exact, 4 runs"
