"""Our own layers: a log scale, and pieces between quantiles."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.inference.model import Model  # noqa: E402  (after the check above)
from tests.harness import tiny  # noqa: E402  (after the check above)
from training.built import predict  # noqa: E402  (after the check above)
from training.convert import convert  # noqa: E402  (after the check above)
from training.errors import SpecError  # noqa: E402  (after the check above)
from training.layers import Log, PiecewiseLinear  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


def _column(*values):
    """Return one column of numbers."""
    return np.array(values, np.float32).reshape(-1, 1)


def test_a_log_scale_bends_at_small_positive_values():
    """The unit is a small value of each column, whatever the column's size."""
    layer = Log()
    column = np.concatenate([_column(0, 0), _column(*range(100, 301))])
    layer.adapt(np.concatenate([column, column / 1e6], axis=1))

    small, large = np.asarray(layer(np.array([[110, 0.00011], [-5, 0]], np.float32)))

    assert layer.unit == pytest.approx([110, 0.00011])
    assert small == pytest.approx(np.log([2, 2]))
    assert large.tolist() == [0, 0]


def test_a_log_scale_of_nothing_positive_has_a_unit():
    """A column without a positive value does not divide by zero."""
    layer = Log()
    layer.adapt(_column(0, 0, -1))

    assert np.asarray(layer(_column(1))) == pytest.approx(np.log(2))


def test_pieces_lie_between_quantiles():
    """A value is 1 in the pieces below it, linear in its own, and 0 above."""
    layer = PiecewiseLinear(pieces=4)
    layer.adapt(_column(*range(101)))

    answers = np.asarray(layer(_column(-9, 0, 30, 75, 999)))

    assert answers == pytest.approx(
        np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0.2, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    )


@pytest.mark.parametrize(
    ("values", "pieces"),
    [
        pytest.param([0, 1, 2] * 9, 2, id="a piece between each two of few values"),
        pytest.param([0] * 90 + list(range(1, 11)), 4, id="one common value takes one boundary"),
        pytest.param([0, 1] * 50, 0, id="two values have no bend"),
        pytest.param([7] * 9, 0, id="a constant"),
    ],
)
def test_pieces_of_few_values(values, pieces):
    """Boundaries are always different, and a column without a bend is left out."""
    layer = PiecewiseLinear(pieces=4)
    layer.adapt(np.concatenate([_column(*values), _column(*range(len(values)))], axis=1))

    answers = np.asarray(layer(np.zeros((1, 2), np.float32)))

    assert answers.shape == (1, pieces + 4)
    assert np.isfinite(answers).all()


def test_pieces_of_nothing_but_two_values():
    """Rows of a table may be left out until no column has more than two values."""
    layer = PiecewiseLinear(pieces=4)
    layer.adapt(_column(3, 5, 3))

    assert np.asarray(layer(_column(3, 4, 5))).tolist() == [[0], [0.5], [1]]


def test_pieces_may_be_given():
    """Boundaries in the spec take the place of quantiles."""
    layer = PiecewiseLinear(boundaries=[[0, 10, 20], [5, 6]])

    assert np.asarray(layer(np.array([[15, 5.5]], np.float32))) == pytest.approx(
        np.array([[1, 0.5, 0.5]])
    )


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        pytest.param(
            "PiecewiseLinear = { pieces = 0 }",
            "layers.h.PiecewiseLinear: pieces: expected a whole number, 1 or more, received 0",
            id="no pieces",
        ),
        pytest.param(
            "PiecewiseLinear = {}",
            "layers.h.PiecewiseLinear: no column has two different values; remove the layer",
            id="no bend",
        ),
        pytest.param(
            "PiecewiseLinea = {}",
            "layers.h.PiecewiseLinea: Keras has no such layer (did you mean 'PiecewiseLinear'?)",
            id="misspelt",
        ),
    ],
)
def test_a_wrong_layer_is_refused_by_its_key(tmp_path, layer, expected):
    """The message has the key of the spec, as for a layer of Keras."""
    text = f"""
name = "tiny"
[inputs.a]
csv = "a.csv"
[layers.h]
after = "a"
{layer}
[heads.y]
after = "h"
kind = "binary"
target = "a"
"""
    table = "p,t\n" + "1,0\n1,1\n" * 4

    with pytest.raises(SpecError) as raised:
        tiny.built(tmp_path, text, a=table)

    assert str(raised.value) == f"{tmp_path / 'tiny.toml'}: {expected}"


def test_our_layers_convert_and_keep_rows_apart(tmp_path):
    """The file answers as Keras does, and its operators prove that rows are independent."""
    text = """
name = "tiny"
[inputs.people]
csv = "people.csv"
[layers.log]
after = "people.age"
Log = {}
[layers.pieces]
after = ["people", "log"]
PiecewiseLinear = { pieces = 3 }
[heads.bought]
after = ["pieces", "log"]
kind = "binary"
target = "people"
"""
    built = tiny.built(tmp_path, text, people=tiny.people())
    rows = {
        "people": np.array([[20], [44.5], [1e30], [-3]], np.float32),
        "people.smoker": np.array([["yes"], ["no"], ["?"], ["no"]], object),
    }

    model = Model.load(convert(built, ["bought"], "tiny").SerializeToString())
    answers = model.predict(rows, ["bought"])

    assert answers["bought"] == pytest.approx(predict(built, rows)["bought"], abs=1e-6)
    assert str(model.batching).startswith("rows (operators)")
