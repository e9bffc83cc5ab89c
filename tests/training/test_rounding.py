"""The rounding error of float32, and what a file may differ by because of it."""

import numpy as np
import onnx
import pytest
from onnx import helper

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.inference.arrays import difference  # noqa: E402  (after the check above)
from service.inference.model import SERVING_TOLERANCE, Model  # noqa: E402  (after the check above)
from service.metadata import METADATA_KEY  # noqa: E402  (after the check above)
from service.signature import LARGEST_TOLERANCE  # noqa: E402  (after the check above)
from tests.harness import small, tiny  # noqa: E402  (after the check above)
from tests.training.runs import fit_spec, run  # noqa: E402  (after the check above)
from training import export  # noqa: E402  (after the check above)
from training.errors import ExportError  # noqa: E402  (after the check above)
from training.rounding import rounding  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras

# The first spec that comes to mind: raw columns into a Dense layer, and two heads.
RAW = """
name = "raw"
[inputs.penguin]
csv = "penguins.csv"
[layers.h]
after = "penguin"
Dense = { units = 64, activation = "relu" }
[heads.species]
after = "h"
kind = "multiclass"
target = "penguin.species"
[heads.sex]
after = "h"
kind = "binary"
target = "penguin.sex"
[fit]
epochs = 12
"""
SCALED = RAW.replace(
    '[layers.h]\nafter = "penguin"',
    '[layers.s]\nafter = "penguin"\nNormalization = {}\n[layers.h]\nafter = "s"',
)


def _penguins(rows=240):
    """Return a table with weights in grams and incomes, which are large and are not scaled."""
    rng = np.random.default_rng(3)
    species = rng.integers(0, 3, rows)
    grams = np.array([3700, 3730, 5070])[species] + rng.normal(0, 450, rows).round()
    flipper = np.array([190, 196, 217])[species] + rng.normal(0, 6, rows).round()
    bill = np.array([38.8, 48.8, 47.5])[species] + rng.normal(0, 2.7, rows).round(1)
    sex = np.where(grams + rng.normal(0, 300, rows) > 4100, "male", "female")
    cells = zip(bill.round(1), flipper, grams, np.array(["A", "C", "G"])[species], sex, strict=True)
    lines = [",".join(map(str, row)) for row in cells]
    return "\n".join(["bill,flipper,grams,species,sex", *lines]) + "\n"


def _dense(weights, scale=1.0):
    """Return a graph y = sigmoid(x · weights / scale), and its tensors."""
    values = np.array(weights, np.float32).reshape(-1, 1)
    return small.model(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Mul", ["z", "s"], ["d"]),
            helper.make_node("Sigmoid", ["d"], ["y"]),
        ],
        [("x", small.F, ["batch", len(values)])],
        [("y", small.F, ["batch", 1])],
        {"w": values, "s": np.float32(1 / scale)},
    )


def test_large_numbers_that_cancel_each_other_have_a_larger_error():
    """A difference of two millions loses digits; the same weights on small numbers do not."""
    graph = _dense([1.0, -1.0])

    small_numbers = rounding(graph, {"x": np.array([[1.0, 1.5]], np.float32)})
    large_numbers = rounding(graph, {"x": np.array([[3e4, 3e4]], np.float32)})

    assert small_numbers["y"] < 1e-6
    assert 1e-4 < large_numbers["y"] < 1e-2


def test_the_error_covers_every_order_of_additions():
    """Sums of 784 pixels in float32 in other orders differ by less than the error."""
    rng = np.random.default_rng(5)
    weights = rng.normal(size=784).astype(np.float32) / 28
    x = rng.integers(0, 256, (33, 784)).astype(np.float32)
    exact = x.astype(np.float64) @ weights.astype(np.float64)
    orders = [
        np.add.accumulate((x * weights)[:, rng.permutation(784)], axis=1, dtype=np.float32)[:, -1]
        for _ in range(10)
    ]

    error = rounding(_dense(weights, 100.0), {"x": x})["y"]

    answers = [1 / (1 + np.exp(-order.astype(np.float64) / 100)) for order in orders]
    right = 1 / (1 + np.exp(-exact / 100))
    assert max(difference(answer, right) for answer in answers) < error < 1e-5


def test_a_graph_without_dot_products_has_no_error():
    """Without sums, programs do not differ."""
    edge = ["batch", 2]
    relu = helper.make_node("Relu", ["x"], ["y"])
    graph = small.model([relu], [("x", small.F, edge)], [("y", small.F, edge)])

    assert rounding(graph, {"x": np.ones((3, 2), np.float32)}) == {"y": 0.0}


@pytest.mark.parametrize("seed", range(5))
def test_large_unscaled_columns_are_published_with_every_seed(tmp_path, seed):
    """What float32 allows for is accepted, stated in the file, and accepted when it is served."""
    path = tiny.write(tmp_path, RAW, penguins=_penguins())

    done = run("train", path, "--models", tmp_path / "models", "--seed", seed)

    assert done.exit_code == 0, (done.output, done.exception)
    golden = Model.load(tmp_path / "models/raw/1/model.onnx").signature.golden
    assert golden.tolerances.keys() == golden.differences.keys()
    for head, tolerance in golden.tolerances.items():
        assert golden.differences[head] <= tolerance <= LARGEST_TOLERANCE


@pytest.mark.parametrize("text", [pytest.param(RAW, id="raw"), pytest.param(SCALED, id="scaled")])
def test_a_wrong_conversion_is_refused_whatever_the_scale(tmp_path, monkeypatch, text):
    """A head that is off by 1e-3 on scaled inputs, or by 2e-2 on any, is not published."""
    off = 1e-3 if text == SCALED else 2e-2
    loaded, seen, fitted = fit_spec(tmp_path, text, penguins=_penguins())
    predict = export.predict
    monkeypatch.setattr(
        export, "predict", lambda *given: {h: a + off for h, a in predict(*given).items()}
    )

    with pytest.raises(ExportError) as raised:
        export.export(loaded, fitted, seen)

    message = str(raised.value)
    assert "head 'species' does not answer" in message
    # Only the unscaled table is named as a cause, with the way out.
    assert ("The cure: [layers.penguin_scaled]" in message) == (text == RAW)


def test_a_scaled_model_states_nothing_and_keeps_the_usual_tolerance(tmp_path):
    """The signature of a model with scaled inputs has no tolerances."""
    loaded, seen, fitted = fit_spec(tmp_path, SCALED, penguins=_penguins())

    content = export.export(loaded, fitted, seen).content

    model = Model.load(content)
    assert model.signature.golden.tolerances == {}
    assert model.check_golden(1e-5) < SERVING_TOLERANCE
    notes = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert "tolerances" not in notes[METADATA_KEY]
