"""Features of large numbers that no layer scales."""

import pytest

from service.signature import Feature, Input, Statistics, tabular
from tests.training.spec_text import GOOD
from training import spec as specs
from training.scaling import advice, unscaled

TABLE = """
name = "m"
[inputs.a]
csv = "a.csv"
{layers}
[heads.x]
after = "{after}"
kind = "binary"
target = "a"
"""


def _inputs(**largest):
    """Return a table `a` of features with these largest values."""
    features = [
        Feature(name, "", statistics=Statistics(-1.0, value, 0.0, 1.0))
        for name, value in largest.items()
    ]
    return {"a": tabular("a", [*features, Feature("plan", "", vocabulary=("x", "y"))])}


def _layers(*kinds):
    """Return a chain of layers behind the input `a`."""
    names = ["a", *(f"l{n}" for n in range(len(kinds)))]
    return "".join(
        f'[layers.{name}]\nafter = "{before}"\n{kind}\n'
        for before, name, kind in zip(names, names[1:], kinds, strict=False)
    )


@pytest.fixture(name="load")
def _load(tmp_path):
    def load(*kinds):
        after = f"l{len(kinds) - 1}" if kinds else "a"
        path = tmp_path / "spec.toml"
        path.write_text(TABLE.format(layers=_layers(*kinds), after=after))
        return specs.load(path)

    return load


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        pytest.param((), True, id="a head alone"),
        pytest.param(("Dense = { units = 2 }",), True, id="dense"),
        pytest.param(("Dropout = { rate = 0.1 }", "Dense = { units = 2 }"), True, id="dropout"),
        pytest.param(("Normalization = {}", "Dense = { units = 2 }"), False, id="normalised"),
        pytest.param(("Rescaling = { scale = 0.1 }",), False, id="rescaled"),
        pytest.param(("Dense = { units = 2 }", "BatchNormalization = {}"), False, id="later"),
    ],
)
def test_a_large_feature_is_unscaled_if_a_way_to_a_head_has_no_layer_that_scales(
    load, kinds, expected
):
    """Layers that scale end the way; all others let large numbers through."""
    assert bool(unscaled(load(*kinds), _inputs(income=250000.0))) == expected


def test_the_largest_feature_comes_first_and_small_ones_are_left_out(load):
    """Ages below 100 and text columns are no problem."""
    [one] = unscaled(load(), _inputs(age=90.0, grams=6300.0, income=250000.0))

    assert one.features == (("income", 250000.0), ("grams", 6300.0))
    assert str(one) == "'a.income' gets as large as 250,000, 'a.grams' as 6,300"
    [many] = unscaled(load(), _inputs(**{f"f{n}": 1000.0 - n for n in range(6)}))
    assert str(many).endswith(", 'a.f3' as 997 (and 2 more of 'a')")
    assert unscaled(load(), _inputs(age=90.0)) == []


def test_a_path_beside_the_layer_that_scales_counts(tmp_path):
    """A head that reads the raw input too gets large numbers, and its place is named."""
    text = GOOD.replace('after = ["a", "b"]\nDense', 'after = "b"\nRescaling', 1)
    text = text.replace("Rescaling = { units = 3 }", "Rescaling = { scale = 0.1 }")
    text = text.replace('after = "h"', 'after = ["h", "b", "a"]', 1)
    (tmp_path / "spec.toml").write_text(text)
    spec = specs.load(tmp_path / "spec.toml")
    image = Input("b", "image", (), size=(2, 2), statistics=Statistics(0.0, 255.0, 9.0, 9.0))

    assert advice(spec, {"b": image}) == (
        ".  The likely cause: 'b' gets as large as 255, and no layer scales it, so that float32"
        " loses the last digits of sums.  The cure: [layers.b_scaled] with"
        ' after = "b" and Normalization = {}, and "b_scaled" in place of "b" in the after of'
        " layers.h and heads.x"
    )
    assert advice(spec, {}) == ""
