"""The reference that training records, and the rows that it is of."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.inference.model import Model  # noqa: E402  (after the check above)
from tests.harness import tiny  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, fit_spec, run  # noqa: E402  (after the check above)
from training.reference import independent_rows, reference  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


def test_features_are_of_training_rows_and_answers_of_held_out_rows(everything):
    """Features, summaries of pictures, labels and numbers are in the file, each row once."""
    _, models, _ = everything
    found = Model.load(models / "everything/1/model.onnx").signature.reference

    assert found.rows == {"inputs": "training", "heads": "held-out"}
    # A quarter of 24 people, 18 fruits and 20 pictures is held out.
    assert sum(found.inputs["people"]["age"].counts) == 18
    assert found.inputs["people"]["smoker"].unseen is not None
    assert list(found.inputs["picture"]) == ["mean", "deviation", "ink"]
    assert sum(found.inputs["picture"]["ink"].counts) == 15
    assert found.heads["bought"][""].texts == ("no", "yes")
    assert list(found.heads["size"]) == ["0", "1"]
    assert list(found.heads["marks"]) == ["ripe", "big"]


@pytest.mark.parametrize(
    ("of_short", "expected"),
    [
        pytest.param(1.0, 30, id="all-from-the-short-file"),
        pytest.param(0.0, 3000, id="nothing-from-it"),
        pytest.param(0.5, 60, id="half-of-the-variance"),
    ],
)
def test_repeated_rows_of_a_short_file_count_as_what_they_are(of_short, expected):
    """The 30 rows of one file are paired with 3,000 of another, and decide a part of the answer."""
    rng = np.random.default_rng(1)
    place = np.tile(np.arange(30), 100)
    answers = np.sqrt(of_short) * rng.normal(size=30)[place]
    answers += np.sqrt(1 - of_short) * rng.normal(size=3000)
    sources = [SimpleNamespace(lines=place), SimpleNamespace(lines=np.arange(3000))]

    rows = [
        independent_rows(answers[:, None], sources, SimpleNamespace(align=align))
        for align in ("sample", "position")
    ]

    assert rows[0] == pytest.approx(expected, rel=0.35)
    assert rows[1] == 3000


def test_a_constant_answer_counts_with_all_rows():
    """It has no variance that could be divided."""
    sources = [SimpleNamespace(lines=np.arange(60) % 3)]

    assert independent_rows(np.ones((60, 1)), sources, SimpleNamespace(align="sample")) == 60


def test_without_held_out_rows_the_answers_are_those_to_training_rows(tmp_path):
    """The reference says so, since a model may answer its own training rows too well."""
    _, rows, fitted = fit_spec(tmp_path, SMALL, people=tiny.people(40))
    signature = Model.load(_published(tmp_path)).signature

    found = reference(signature, rows, fitted.answered)

    assert found.rows == {"inputs": "training", "heads": "training"}
    assert found == signature.reference
    labels = found.heads["bought"][""]
    assert (labels.texts, sum(labels.counts)) == (("0", "1"), 40)


def _published(folder):
    done = run("train", folder / "tiny.toml", "--models", folder / "models", "--no-report")
    assert done.exit_code == 0, done.output
    return folder / "models/small/1/model.onnx"


def test_missing_cells_are_counted_apart(tmp_path):
    """Their default, the median, does not make the bins of an average age fuller."""
    lines = tiny.people(40).splitlines()
    lines[5:15] = [",".join(["", *line.split(",")[1:]]) for line in lines[5:15]]
    _, rows, fitted = fit_spec(tmp_path, SMALL, people="\n".join(lines) + "\n")
    signature = replace(Model.load(_published(tmp_path)).signature, reference=None)

    age = reference(signature, rows, fitted.answered).inputs["people"]["age"]

    assert (age.missing, sum(age.counts)) == (10, 30)
    assert np.max(age.counts) == 3
