"""The answer to a text that training never saw, which lies near the mean of the known ones."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from tests.training.runs import SMALL, fit_spec  # noqa: E402  (after the check above)
from training.built import predict  # noqa: E402  (after the check above)
from training.unseen import SHARE, UNSEEN, mask  # noqa: E402  (after the check above)

# The rent of a flat of 50 square metres by city; London has the most rows, and Lima the fewest.
RENTS = {"London": 132, "Rome": 120, "Oslo": 110, "Lima": 97}
ROWS = {"London": 120, "Rome": 90, "Oslo": 60, "Lima": 30}
MEAN = sum(RENTS[city] * rows for city, rows in ROWS.items()) / sum(ROWS.values())

BY_INPUT = """
[layers.scaled]
after = "flat"
Normalization = {}
"""
BY_NAME = """
[layers.number]
after = "flat.city"
StringLookup = {}
[layers.vector]
after = "number"
Embedding = { input_dim = 5, output_dim = 3 }
[layers.place]
after = "vector"
Flatten = {}
[layers.size]
after = "flat"
Normalization = {}
[layers.scaled]
after = ["size", "place"]
Activation = { activation = "linear" }
"""
SPEC = """
name = "rent"
[inputs.flat]
csv = "flat.csv"
{layers}
[layers.hidden]
after = "scaled"
Dense = {{ units = 16, activation = "relu" }}
[heads.rent]
after = "hidden"
kind = "regression"
target = "flat"
[fit]
epochs = 40
learning_rate = 0.03
seed = {seed}
"""


def flats():
    """Return a table of flats: the rent follows from the city and, a little, from the size."""
    cities = [city for city, rows in ROWS.items() for _ in range(rows)]
    sizes = [20 + n * 7 % 61 for n in range(len(cities))]
    rows = zip(cities, sizes, strict=True)
    return "city,size,rent\n" + "".join(
        f"{city},{size},{RENTS[city] + 0.2 * (size - 50):.1f}\n" for city, size in rows
    )


@pytest.mark.keras
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "layers",
    [pytest.param(BY_INPUT, id="a whole input"), pytest.param(BY_NAME, id="an embedding")],
)
def test_an_unseen_text_is_answered_near_the_mean_of_the_known_ones(tmp_path, layers, seed):
    """The effect of an unseen text is neutral, whichever layer reads it and whatever the seed."""
    _, _, fitted = fit_spec(tmp_path, SPEC.format(layers=layers, seed=seed), flat=flats())
    cities = np.array([*RENTS, "Paris", ""], object).reshape(-1, 1)
    sizes = np.full(cities.shape, 50, np.float32)

    *known, paris, empty = predict(fitted.built, {"flat": sizes, "flat.city": cities})["rent"][:, 0]

    assert known == pytest.approx(list(RENTS.values()), abs=4)
    assert paris == pytest.approx(MEAN, abs=6)
    assert min(known) < paris < max(known)
    assert empty == paris


@pytest.mark.keras
def test_the_known_texts_of_a_batch_are_masked_anew_in_each_epoch(tmp_path):
    """A small share of the cells is masked, others in each epoch, and the same with one seed."""
    from tests.harness import tiny
    from training import build, fit

    text = SMALL.replace("[fit]", "[fit]\nbatch_size = 1000")
    loaded, rows = tiny.load(tmp_path, text, people=tiny.people(600))
    fit.seed(0)
    built = build.build(loaded, rows)

    def epochs():
        batches = fit.Batches(loaded, built, rows, {"bought": None})
        for _ in range(2):
            x, _ = batches[0]
            yield [text.decode() for text in x["people.smoker"].numpy()[:, 0]]
            batches.on_epoch_begin()

    first, second = epochs()

    assert {*first} == {*second} == {"yes", "no", UNSEEN}
    assert 0 < first.count(UNSEEN) / 600 < 2 * SHARE
    assert first != second
    assert list(epochs()) == [first, second]
    assert {*rows.sources["people.csv"].arrays["people.smoker"][:, 0]} == {"yes", "no"}


def test_numbers_are_not_masked():
    """Rows without texts stay as they are, and draw no random number."""
    arrays = {"a": np.zeros((3, 2), np.float32)}
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state

    assert mask(arrays, rng)["a"] is arrays["a"]
    assert rng.bit_generator.state == before
