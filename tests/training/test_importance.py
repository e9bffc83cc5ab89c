"""Permutation importance: the rise of each head's loss by feature and by input."""

import math

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from tests.training.runs import fit_spec  # noqa: E402  (after the check above)
from training import importance  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras

# `age` and its twin `months` decide, `noise` does not; 40 rows have the target of `rare`.
TWINS = """
name = "twins"
[inputs.people]
csv = "people.csv"
columns = ["age", "months"]
[inputs.other]
csv = "people.csv"
columns = ["noise"]
[layers.n]
after = ["people", "other"]
Normalization = {}
[heads.bought]
after = "n"
kind = "binary"
target = "people.bought"
[heads.rare]
after = "n"
kind = "regression"
target = "people.rare"
missing = "skip"
[fit]
epochs = 20
learning_rate = 0.1
"""


def _people(rows):
    rng = np.random.default_rng(4)
    lines = [
        f"{age},{12 * age},{rng.normal():.3f},{int(age > 40)},{age if row < 40 else ''}"
        for row, age in enumerate(rng.integers(20, 60, rows))
    ]
    return "\n".join(["age,months,noise,bought,rare", *lines]) + "\n"


@pytest.fixture(scope="module", name="measured")
def _measured(tmp_path_factory):
    *_, fitted = fit_spec(tmp_path_factory.mktemp("twins"), TWINS, people=_people(300))
    return fitted.importance


def test_a_feature_that_decides_raises_the_loss_and_noise_does_not(measured):
    """Each rise is a mean with its spread over five repeats."""
    rises = measured.features["bought"]

    assert (measured.side, measured.rows, measured.repeats) == ("training", 300, 5)
    assert list(rises) == [("people", "age"), ("people", "months"), ("other", "noise")]
    assert rises["people", "age"].clear
    assert 0 < rises["people", "age"].spread < rises["people", "age"].mean
    assert not rises["other", "noise"].clear
    assert importance.unused(measured) == {}  # of `rare`, nothing can be said


def test_features_that_say_the_same_count_once_they_are_shuffled_together(measured):
    """Each of two twins stands in for the other, so that only their input shows what they say."""
    alone = [measured.features["bought"]["people", name].mean for name in ("age", "months")]

    assert measured.inputs["bought"]["people"].mean > 1.5 * max(alone)
    assert measured.inputs["bought"]["other"] == measured.features["bought"]["other", "noise"]


def test_of_few_rows_nothing_is_said(measured, tmp_path):
    """Chance among 40 rows with a target, or in all, is larger than most importance."""
    *_, fitted = fit_spec(tmp_path, TWINS, people=_people(49))

    assert math.isnan(measured.features["rare"]["people", "age"].mean)
    assert fitted.importance == importance.Importance("training", 49)
