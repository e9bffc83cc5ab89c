"""Standardised heads: they learn numbers of about 1, and answer in the unit of their column."""

import re

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.inference.model import Model  # noqa: E402  (after the check above)
from tests.harness import tiny  # noqa: E402  (after the check above)
from tests.training.runs import fit_spec, run  # noqa: E402  (after the check above)
from training import build  # noqa: E402  (after the check above)
from training.rows import known  # noqa: E402  (after the check above)
from training.standardized import StandardizedLoss, rescaling  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras

# A salary in whole units drowns the other head of a shared layer: its loss is in the billions.
SALARIES = """
name = "salaries"
[inputs.people]
csv = "people.csv"
columns = ["age"]
[layers.n]
after = "people"
Normalization = {}
[layers.h]
after = "n"
Dense = { units = 8, activation = "relu" }
[heads.salary]
after = "h"
kind = "regression"
target = "people.salary"
standardize = true
[heads.bought]
after = "h"
kind = "binary"
target = "people.bought"
[fit]
learning_rate = 0.02
batch_size = 12
epochs = 40
"""


def _people(rows=60):
    lines = ["age,salary,bought"]
    for row in range(rows):
        age = 20 + row * 40 // rows
        lines.append(f"{age},{20000 + 1500 * (age - 20) + row % 7 * 100},{int(age > 40)}")
    return "\n".join(lines) + "\n"


def test_a_standardized_head_learns_beside_another_and_answers_in_its_unit(tmp_path):
    """A salary of tens of thousands is learnt in a few epochs, and its neighbour too."""
    path = tiny.write(tmp_path, SALARIES, people=_people())

    done = run("train", path, "--models", tmp_path / "models")

    assert done.exit_code == 0, (done.output, done.exception)
    model = Model.load(tmp_path / "models/salaries/1/model.onnx")
    scores = model.signature.provenance["scores"]
    assert scores["salary"]["metric"] == "mae"
    assert scores["salary"]["train"] < scores["salary"]["baseline"] / 5
    assert scores["salary"]["baseline"] > 10000
    assert scores["bought"]["train"] > 0.9
    answer = model.predict({"people": np.array([[30.0]], np.float32)}, ["salary"])["salary"]
    assert abs(answer[0, 0] - 35000) < 5000
    # The losses of both heads have the same size from the first epoch on.
    first = next(line for line in done.stderr.splitlines() if line.startswith("epoch"))
    loss = float(first.split("salary loss ")[1].split()[0])
    assert loss < 10


def test_loss_and_weight_are_of_standardized_values_and_the_metric_is_not(tmp_path):
    """The loss is that of (value - mean) / deviation, for each of several targets."""
    text = SALARIES.replace(
        'target = "people.salary"', 'target = ["people.salary", "people.age2"]\nloss_weight = 2'
    )
    lines = _people().splitlines()
    table = "\n".join(
        [f"{lines[0]},age2", *(f"{line},{n / 9}" for n, line in enumerate(lines[1:]))]
    )
    _, seen, fitted = fit_spec(tmp_path, text, people=table)
    [source] = seen.sources.values()
    targets = source.targets["salary"]
    answers = np.asarray(fitted.built.model(source.arrays)["salary"])

    loss = fitted.built.model.loss["salary"]

    mean, deviation = targets.mean(axis=0), targets.std(axis=0)
    expected = np.mean(np.square((targets - answers) / deviation))
    assert float(loss(targets, answers)) == pytest.approx(expected, rel=1e-3)
    layer = fitted.built.model.get_layer("salary")
    assert np.allclose(layer.offset, mean, rtol=1e-5)
    assert np.allclose(layer.scale, deviation, rtol=1e-5)
    assert fitted.scores["salary"].train == pytest.approx(
        np.abs(targets - answers).mean(), rel=1e-3
    )


@pytest.mark.parametrize("name", ["mean_absolute_error", "MeanAbsoluteError", "huber"])
def test_every_form_of_a_loss_is_standardized(name):
    """Functions and classes of Keras are taken alike."""
    targets = np.array([[0.0], [200.0]], np.float32)

    loss = StandardizedLoss(keras.losses.get(name), rescaling(targets, "y"))

    # Mean and deviation are 100, so an answer of the mean is one deviation off in each row.
    expected = 0.5 if name == "huber" else 1.0
    assert float(loss(targets, np.full((2, 1), 100, np.float32))) == pytest.approx(expected)
    weights = np.array([0.0, 1.0], np.float32)
    assert float(loss(targets, targets + 100, weights)) == pytest.approx(expected / 2)


@pytest.mark.parametrize("value", [0.1, 12345.678, 0.0, 3e38])
def test_a_target_that_never_varies_stays_finite(value):
    """Its deviation is taken to be 1, though float32 rounds its mean."""
    layer = rescaling(np.full((24, 1), value, np.float32), "y")

    assert (layer.scale, layer.offset) == (1, np.float32(value))


def test_statistics_are_of_training_rows_alone(tmp_path):
    """Held-out rows say nothing about the mean."""
    text = SALARIES.replace("epochs = 40", "epochs = 1\nvalidation_split = 0.5")
    _, seen, fitted = fit_spec(tmp_path, text, people=_people())
    [source] = seen.sources.values()

    offset = fitted.built.model.get_layer("salary").offset

    assert np.allclose(offset, source.targets["salary"].mean(axis=0), rtol=1e-6)


def test_statistics_and_losses_leave_out_rows_without_the_target(tmp_path):
    """A head that skips such rows is standardised by the others, and its losses stay numbers."""
    text = SALARIES.replace("standardize = true", 'standardize = true\nmissing = "skip"')
    text = text.replace("epochs = 40", "epochs = 1")
    lines = _people().splitlines()
    lines[1::3] = [re.sub(",[0-9]+,", ",,", line) for line in lines[1::3]]

    _, seen, fitted = fit_spec(tmp_path, text, people="\n".join(lines))

    [source] = seen.sources.values()
    there = source.targets["salary"][known(source.targets["salary"])]
    assert there.shape == (40, 1)
    layer = fitted.built.model.get_layer("salary")
    assert np.allclose(layer.offset, there.mean(axis=0), rtol=1e-6)
    assert fitted.scores["salary"].rows == 40
    assert np.isfinite(fitted.scores["salary"].train)


def test_a_layer_may_follow_a_standardized_head(tmp_path):
    """It reads the answer in the column's unit."""
    text = SALARIES.replace(
        '[heads.bought]\nafter = "h"', '[heads.bought]\nafter = ["h", "salary"]'
    )
    loaded, rows = tiny.load(tmp_path, text, people=_people())

    model = build.build(loaded, rows).model

    assert [layer.name for layer in model.layers][-2:] == ["bought.all", "bought"]
