"""The distributions of features: their bins, what is missing, and which differences are marked."""

import numpy as np
import pytest

from service.insight.report.document import document
from tests.training.report.made import data
from training.report.distributions import differs, distributions
from training.report.features import features

FEW, MANY = (45, 15), (400, 100)


def _numbers(rng, rows, shift=0.0):
    return rng.lognormal(shift, 1.0, rows)


def _whole(rng, rows, shift=0.0):
    return rng.poisson(2 + shift, rows).astype(float)


def _texts(rng, rows, shift=0.0):
    weights = np.array([1.0, 2.0 + 20 * shift, *[0.5] * 30])
    return rng.choice([f"text {n}" for n in range(32)], rows, p=weights / weights.sum()).astype(
        object
    )


@pytest.mark.parametrize("rows", [(20, 5), FEW, MANY])
@pytest.mark.parametrize("draw", [_numbers, _whole, _texts])
def test_chance_is_hardly_ever_marked(draw, rows):
    """Of 500 features without a difference, at most the promised share is marked."""
    rng = np.random.default_rng(1)
    marked = sum(differs(draw(rng, rows[0]), draw(rng, rows[1]), 0.01) for _ in range(500))

    assert marked <= 10


@pytest.mark.parametrize("draw", [_numbers, _whole, _texts])
def test_a_clear_difference_is_marked(draw):
    """A shift by about one deviation shows among a few hundred rows."""
    rng = np.random.default_rng(2)
    marked = sum(differs(draw(rng, MANY[0]), draw(rng, MANY[1], 1.0), 0.01 / 20) for _ in range(50))

    assert marked >= 35


def test_features_have_their_kind_bins_and_missing_cells():
    """Missing cells are counted by side, and have no place in the bins."""
    train, held_out, test = data(200), data(80, 1), data(40, 2)
    train.sources["people.csv"].arrays["people"][:20] = 1e6  # where the cells are missing
    sides = {"training": train, "held-out": held_out, "test": test}

    age, city, picture = distributions(sides)

    assert (age.name, age.kind, age.differs) == ("people.age", "number", False)
    assert age.missing == {"training": 0.1, "held-out": 0.1, "test": 0.1}
    assert [end[0] for end in age.labels] == ["≤", "≥"]
    assert len(age.first) == len(age.second) == 12
    assert max(age.first) < 0.3  # the bins do not reach to 1e6
    assert (city.name, city.kind, city.missing) == ("people.city", "3 categories", {})
    assert sum(city.first) == pytest.approx(1)
    assert picture.kind == "image, 4 × 6"  # noqa: RUF001  (a multiplication sign)
    assert [mean.shape for mean in picture.pictures] == [(4, 6), (4, 6)]


def test_a_difference_to_the_rows_that_judge_the_model_is_marked():
    """Test people are older by a deviation; nothing else differs."""
    sides = {"training": data(200), "held-out": data(80, 2), "test": data(80, 1, shift=1.0)}

    found = distributions(sides)

    assert [one.differs for one in found] == [True, False, False]


def test_a_run_without_held_out_rows_has_the_training_rows_alone():
    """There is nothing to compare, and nothing is marked."""
    found = distributions({"training": data(200)})

    assert [one.second for one in found] == [(), (), ()]
    assert not any(one.differs for one in found)
    assert len(found[2].pictures) == 1


def test_a_number_with_few_values_has_a_bin_for_each():
    """One value is one bin; a value that only held-out rows have goes to the nearest."""
    train, held_out = data(200), data(80, 1)
    ages = train.sources["people.csv"].arrays["people"]
    ages[:] = np.arange(200).reshape(-1, 1) % 3

    age = distributions({"training": train, "held-out": held_out})[0]
    ages[:] = 7
    same = distributions({"training": train, "held-out": held_out})[0]

    assert (age.labels, len(age.first)) == (("0", "2"), 3)
    assert (same.labels, same.first, same.second) == (("7",), (1.0,), (1.0,))


def test_rare_categories_are_one():
    """The commonest texts have bars of their own, and all others have one together."""
    texts = np.array([f"text {n}" for n in range(9) for _ in range(20 - n)], object)
    train = data(len(texts), columns=("age", "city"))
    train.sources["people.csv"].arrays["people.city"] = texts.reshape(-1, 1)

    city = distributions({"training": train})[1]

    assert city.labels == (*(f"text {n}" for n in range(6)), "3 others")
    assert sum(city.first) == pytest.approx(1)


@pytest.mark.parametrize("known", [["held-out", "test"], ["held-out"], []])
def test_a_feature_may_have_no_value_among_training_rows(known):
    """Of a number that few rows have, all may be held out."""
    sides = {"training": data(50), "held-out": data(9, 1), "test": data(9, 2)}
    for side, rows in sides.items():
        source = rows.sources["people.csv"]
        source.missing["people.age"] = np.full(source.rows, side not in known)

    age = distributions(sides)[0]

    assert (age.first, age.differs) == ((), False)
    assert sum(age.second) == pytest.approx(1 if "test" in known else 0)
    assert len(age.labels) == (2 if "test" in known else 0)
    assert b"</figure>" in document("m", *features(sides))


def test_numbers_at_the_ends_of_float32_have_bins():
    """Their sums and differences are beyond it."""
    train = data(200)
    ages = train.sources["people.csv"].arrays["people"]
    ages[:] = np.linspace(-3.4e38, 3.4e38, len(ages), dtype=np.float64).reshape(-1, 1)

    with np.errstate(all="raise"):
        many = distributions({"training": train})[0]
        ages[:] = np.where(np.arange(len(ages)) % 2, np.float32(3.4e38), 3e38).reshape(-1, 1)
        two = distributions({"training": train})[0]

    assert len(many.first) == 12
    assert max(many.first) < 0.2
    assert len(two.first) == 2


def test_large_pictures_are_made_small():
    """A mean image has at most 28 x 28 parts, each of them the mean of its pixels."""
    train = data(4)
    entry = train.inputs["picture"]
    object.__setattr__(entry, "size", (100, 30, 3))
    pixels = np.zeros((4, 100, 30, 3), np.float32)
    pixels[:, :4] = 255
    train.sources["people.csv"].arrays["picture"] = pixels.reshape(4, -1)

    [mean] = distributions({"training": train})[2].pictures

    assert mean.shape == (25, 15)
    assert mean[0].tolist() == [1] * 15
    assert mean[1:].max() == 0
