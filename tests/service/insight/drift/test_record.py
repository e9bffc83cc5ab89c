"""The recording of a reference: bins of numbers, and counts of texts and labels."""

import numpy as np
import pytest

from service.insight.drift.quantities import NO_CODE, Quantity
from service.insight.drift.record import distribution, numbers, texts
from service.reference import Categories, Numbers


def _words(**counts):
    return np.array([text for text, rows in counts.items() for _ in range(rows)], object)


@pytest.mark.parametrize("rows", [11, 100, 999, 10_000])
def test_bins_have_about_equally_many_values(rows):
    """Of different values, each of ten bins has a tenth, to within one row."""
    values = np.random.default_rng(rows).lognormal(size=rows).astype(np.float32)

    one = numbers(values)

    assert len(one.counts) == 10
    assert sum(one.counts) == rows
    assert max(one.counts) - min(one.counts) <= 1
    assert np.float32(one.edges[0]) == values.min()
    assert np.float32(one.edges[-1]) == values.max()


@pytest.mark.parametrize("values", [[7], [0, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])
def test_few_different_values_have_a_bin_each(values):
    """A bin begins with its value, and a constant has one bin."""
    one = numbers(np.repeat(np.array(values, np.float32), 5))

    assert one == Numbers((*map(float, values), float(values[-1])), (5,) * len(values))


def test_equal_values_are_in_one_bin():
    """A value that more than a tenth of the rows have is alone in its bin, and none is empty."""
    rng = np.random.default_rng(1)
    values = np.where(rng.random(5000) < 0.6, 0.0, rng.exponential(size=5000)).astype(np.float32)

    one = numbers(values)

    assert one.counts[0] == (values == 0).sum()
    assert 5 <= len(one.counts) <= 6
    assert min(one.counts) > 0


def test_values_that_are_not_finite_count_as_missing():
    """They have no place among bins; of nothing else, there is no distribution."""
    values = np.float32([1, np.nan, 2, np.inf, -np.inf])

    assert numbers(values) == Numbers((1.0, 2.0, 2.0), (1, 1), 3)
    assert numbers(values[[1, 3, 4]]) is None
    assert numbers(values[:0]) is None


def test_common_texts_are_all_counted():
    """If there are few texts, and none of them is rare, each has its count, by the alphabet."""
    values = np.append(_words(Oslo=10, Rome=30, Bonn=10), [None, None])

    assert texts(values) == Categories(("Bonn", "Oslo", "Rome"), (10, 10, 30, 0), 2)
    assert texts(values, own=True).unseen == 0


def test_texts_of_one_row_say_how_many_unseen_ones_to_expect():
    """Of half of the rows; if many texts have two, it is an upper estimate."""
    alone = _words(Rome=140, **{f"village{n}": 1 for n in range(60)})
    twice = np.append(alone[:140], _words(**{f"town{n}": 2 for n in range(30)}))

    assert texts(alone, own=True).unseen == pytest.approx(30, abs=8)
    assert texts(twice, own=True).unseen == pytest.approx(30, abs=8)
    assert texts(alone).unseen is None  # of another vocabulary, nothing is known


def test_rare_texts_are_one():
    """If texts are left out, half of the rows choose the others, and the other half are counted."""
    values = _words(Rome=400, Oslo=200, **{f"village{n}": 1 for n in range(100)})

    one = texts(np.append(values, [None] * 70))

    assert one.texts == ("Rome", "Oslo")
    assert sum(one.counts) == 350
    assert one.counts[0] == pytest.approx(200, abs=40)
    assert one.counts[2] == pytest.approx(50, abs=25)
    assert one.missing == 35
    assert texts(values) == texts(values.copy())  # the same rows, the same file


def test_at_most_twenty_texts_are_listed():
    """All others are one, so that a vocabulary of any size takes as many bytes."""
    values = np.array([f"city {n % 50}" for n in range(50_000)], object)

    one = texts(values)

    assert len(one.texts) == 20
    assert one.counts[-1] == pytest.approx(25_000 * 30 / 50, abs=400)


def test_labels_are_counted_in_their_order():
    """Also those that no row has; an answer that is not a number has none."""
    quantity = Quantity("o", "", True, "o", "label", lambda rows: rows, ("a", "b", "c"))
    codes = np.array([1, 1, 0, NO_CODE, 1])

    assert distribution(quantity, codes) == Categories(("a", "b", "c"), (1, 3, 0, 0), 1)
    assert distribution(quantity, codes[3:4]) is None


def test_of_many_labels_the_commonest_are_counted():
    """A head of a hundred classes is recorded as a feature of a hundred texts is."""
    labels = tuple(f"class {n}" for n in range(100))
    quantity = Quantity("o", "", True, "o", "label", lambda rows: rows, labels)
    codes = np.append(np.arange(1000) // 500, [NO_CODE, NO_CODE])

    one = distribution(quantity, codes)

    assert one.texts in (("class 0", "class 1"), ("class 1", "class 0"))
    assert (sum(one.counts), one.missing) == (1000, 2)
