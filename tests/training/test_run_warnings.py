"""The warnings at the end of a run: below the table, in the signature, and with `--strict`."""

import json
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.inference.model import Model  # noqa: E402  (after the check above)
from service.metadata import METADATA_KEY  # noqa: E402  (after the check above)
from tests.harness import tiny  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, fit_spec, run  # noqa: E402  (after the check above)
from training import run_warnings  # noqa: E402  (after the check above)
from training.errors import RejectedError  # noqa: E402  (after the check above)
from training.rows import split  # noqa: E402  (after the check above)
from training.scores import Score  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras

# A table in which `age` decides, `noise` does not, `same` never varies, and `income` is unscaled.
WARNED = """
name = "warned"
[inputs.people]
csv = "people.csv"
columns = ["age", "noise", "same"]
[inputs.raw]
csv = "people.csv"
columns = ["income"]
[layers.n]
after = "people"
Normalization = {}
[layers.h]
after = "n"
Dense = { units = 8, activation = "relu" }
[heads.bought]
after = "h"
kind = "binary"
target = "people.bought"
labels = ["no", "yes"]
[heads.salary]
after = ["h", "raw"]
kind = "regression"
target = "people.salary"
[fit]
epochs = 20
learning_rate = 0.02
validation_split = 0.2
patience = 20
"""
FINE = """
name = "fine"
[inputs.people]
csv = "people.csv"
columns = ["age"]
[layers.n]
after = "people"
Normalization = {}
[heads.bought]
after = "n"
kind = "binary"
target = "people.bought"
[fit]
epochs = 30
learning_rate = 0.1
validation_split = 0.3
"""


def _people(rows=300):
    rng = np.random.default_rng(4)
    age = rng.integers(20, 60, rows)
    lines = [
        f"{a},{rng.normal():.3f},7,{rng.integers(20000, 90000)},{int(a > 40)},{a * 1000}"
        for a in age
    ]
    return "\n".join(["age,noise,same,income,bought,salary", *lines]) + "\n"


def _codes(warnings):
    return [(warning.code, warning.head) for warning in warnings]


@pytest.fixture(scope="module", name="warned")
def _warned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warned")
    path = tiny.write(folder, WARNED, people=_people())
    return path, run("train", path, "--models", folder / "models"), folder / "models"


def test_warnings_are_below_the_table_and_in_the_signature(warned):
    """Each warning is a line with its code, and an entry with code, head and message."""
    _, done, models = warned
    file = models / "warned/1/model.onnx"

    assert done.exit_code == 0, (done.output, done.exception)
    notes = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    stored = json.loads(notes[METADATA_KEY])["warnings"]
    lines = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert lines == [f"warning: {entry['message']} ({entry['code']})" for entry in stored]
    codes = [(entry["code"], entry.get("head", "")) for entry in stored]
    assert ("below_baseline", "salary") in codes
    assert codes[-5:] == [
        ("losses_apart", ""),
        ("constant_feature", ""),
        ("unscaled_feature", ""),
        ("unused_feature", ""),
        ("chosen_epoch", ""),
    ]
    messages = {entry["code"]: entry["message"] for entry in stored}
    assert "people.same" in messages["constant_feature"]
    assert "'raw.income' gets as large as 8" in messages["unscaled_feature"]
    assert "people.noise" in messages["unused_feature"]
    assert "people.age" not in messages["unused_feature"]
    assert "people.same" not in messages["unused_feature"]
    assert "held out (chose epoch)" in done.stdout


def test_the_signature_of_a_view_has_the_warnings_about_its_heads(warned):
    """Warnings about other heads, and about the whole model, may name what the view hides."""
    *_, models = warned
    signature = Model.load(models / "warned/1/model.onnx").signature

    view = signature.restrict(["bought"])

    assert {entry.get("head") for entry in signature.warnings} >= {"salary", None}
    assert {entry.get("head") for entry in view.warnings} <= {"bought"}


def test_strict_publishes_nothing_where_there_are_warnings(warned):
    """The exit code is 1, and no version is added."""
    path, _, models = warned

    done = run("train", path, "--models", models, "--strict", "--epochs", 1)

    assert isinstance(done.exception, RejectedError)
    assert done.exception.exit_code == 1
    assert str(done.exception).startswith("--strict allows for no warnings, received ")
    assert str(done.exception).endswith("; nothing was published")
    assert [folder.name for folder in (models / "warned").glob("[0-9]*")] == ["1"]


def test_a_model_without_fault_has_no_warnings(tmp_path):
    """Strict or not, it is published, and its signature has no key for warnings."""
    path = tiny.write(tmp_path, FINE, people=_people())

    done = run("train", path, "--models", tmp_path / "models", "--strict")

    assert done.exit_code == 0, (done.output, done.exception)
    assert "warning" not in done.stdout
    file = tmp_path / "models/fine/1/model.onnx"
    notes = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert "warnings" not in json.loads(notes[METADATA_KEY])


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        pytest.param(Score("accuracy", 99, 0, 0.5, None, 0.5), ["below_baseline"], id="equal"),
        pytest.param(
            Score("accuracy", 29, 0, 12 / 29, None, 12 / 29), ["below_baseline"], id="equal parts"
        ),
        pytest.param(Score("accuracy", 99, 0, 0.6, None, 0.5), [], id="better"),
        pytest.param(Score("mae", 99, 0, 5.0, None, 4.0), ["below_baseline"], id="larger error"),
        pytest.param(Score("mae", 99, 0, 3.0, None, 4.0), [], id="smaller error"),
        pytest.param(Score("auc", 9, 9, 0.9, np.nan, 0.5), ["below_baseline"], id="no number"),
        pytest.param(Score("accuracy", 99, 99, 0.99, 0.7, 0.5), ["far_apart"], id="apart"),
        pytest.param(Score("accuracy", 99, 99, 0.9, 0.85, 0.5), [], id="near"),
        pytest.param(Score("accuracy", 99, 9, 0.99, 0.7, 0.5), [], id="luck of nine rows"),
        pytest.param(Score("accuracy", 99, 99, 0.7, 0.99, 0.5), [], id="better on new rows"),
        pytest.param(Score("mae", 99, 99, 1.0, 2.0, 4.0), ["far_apart"], id="error apart"),
        pytest.param(Score("mae", 99, 99, 1.0, 1.4, 4.0), [], id="error near"),
    ],
)
def test_scores_are_compared_with_the_baseline_and_with_each_other(score, expected):
    """Less is better of an error; a gap that the luck of few rows explains is none."""
    found = [*run_warnings._baseline("o", score), *run_warnings._gap("o", score)]

    assert _codes(found) == [(code, "o") for code in expected]


@pytest.mark.parametrize(
    ("losses", "apart"),
    [
        pytest.param({"a": (900.0, 800.0), "b": (0.7, 0.5)}, True, id="always"),
        pytest.param({"a": (0.7, 0.5), "b": (0.7, 0.0001)}, False, id="one learnt better"),
        pytest.param({"a": (900.0, 0.5), "b": (0.7, 0.5)}, False, id="at first"),
        pytest.param({"a": (900.0, 800.0), "b": (0.0, 0.0)}, False, id="no loss"),
        pytest.param({"a": (900.0, 800.0)}, False, id="one head"),
        pytest.param({}, False, id="none"),
    ],
)
def test_losses_that_stay_far_apart_are_warned_of(tmp_path, losses, apart):
    """A head that ends with a small loss does not drown; one that begins with a large one does."""
    _, _, fitted = fit_spec(tmp_path)

    found = list(run_warnings._losses(replace(fitted, losses=losses)))

    assert [warning.code for warning in found] == ["losses_apart"] * apart


def test_classes_with_few_held_out_rows_are_named(tmp_path):
    """Six held-out rows are too few of both classes."""
    spec, rows = tiny.load(tmp_path, SMALL, people=tiny.people())
    _, held_out = split(rows, 0.25, 0)

    [warning] = run_warnings._few(spec, "bought", held_out, "held-out")

    assert (warning.code, warning.head) == ("few_rows", "bought")
    assert "fewer than 10 held-out rows of 0 (" in warning.message


def test_a_class_that_only_rows_held_out_have_is_warned_of(tmp_path):
    """Its rows cannot be answered rightly; a class that no row has is no news to who named it."""
    lines = [f"{n},{'rare' if n == 7 else 'ab'[n % 2]}" for n in range(40)]
    labels = '"people.bought"\nlabels = ["a", "b", "none", "rare"]'
    text = FINE.replace("binary", "multiclass").replace('"people.bought"', labels)
    spec, rows = tiny.load(tmp_path, text, people="\n".join(["age,bought", *lines]) + "\n")

    for seed in range(8):
        train, held_out = split(rows, 0.5, seed)
        found = list(run_warnings._unlearned(spec, "bought", train, [held_out, None]))

        is_held = (held_out.sources["people.csv"].targets["bought"] == 3).any()
        assert [warning.code for warning in found] == ["unlearned_class"] * int(is_held)
        assert all("no training row is rare, and what no" in w.message for w in found)


def test_of_few_rows_nothing_is_said_about_features(tmp_path):
    """Chance is larger than importance among 24 rows."""
    _, seen, fitted = fit_spec(tmp_path)

    assert list(run_warnings._unused(fitted, seen)) == []


def test_test_rows_are_scored_beside_those_that_chose_the_epoch(tmp_path):
    """The fit watches 60 held-out rows; 30 test rows judge the heads, and no epoch was chosen."""
    text = FINE.replace("validation_split = 0.3", "validation_split = 0.2\npatience = 9")
    path = tiny.write(tmp_path, f"{text}\ntest_split = 0.1\n", people=_people())

    done = run("train", path, "--models", tmp_path / "models", "--min-score", "bought=1.5")
    published = run("train", path, "--models", tmp_path / "models")

    assert "on test rows is" in str(done.exception)
    assert "chosen_epoch" not in published.stdout
    lines = [re.split(" {2,}", line.strip()) for line in published.stdout.splitlines()]
    [heads] = [line for line in lines if line[0] == "head"]
    [row] = [line for line in lines if line[0] == "bought"]
    assert row[1] == "210 + 60 + 30"
    assert heads[3:6] == ["training", "held out (chose epoch)", "test"]
    model = Model.load(tmp_path / "models/fine/1/model.onnx")
    score = model.signature.provenance["scores"]["bought"]
    assert (score["rows"], score["held_out_rows"], score["test_rows"]) == (210, 60, 30)
    assert row[5] == f"{score['test']:.4f}"
