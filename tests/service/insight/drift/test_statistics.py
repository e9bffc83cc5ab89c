"""The statistics of drift, and their bounds: few false alarms, and large changes found."""

import math

import numpy as np
import pytest

from service.insight.drift import statistics
from service.insight.drift.counting import compared, counted
from service.insight.drift.record import numbers, texts

RISK = 0.01


def test_psi_of_counts_by_hand():
    """Half a row is added to each cell: 8 and 2 become 8.5 and 2.5 of 11."""
    by_hand = 4 / 11 * math.log(8.5 / 4.5) + -4 / 11 * math.log(2.5 / 6.5)

    value = statistics.psi(np.array([4, 6]), np.array([8, 2]))

    assert value == pytest.approx(by_hand)
    assert statistics.psi(np.array([4, 6]), np.array([40, 60])) == pytest.approx(0, abs=1e-3)
    assert math.isfinite(statistics.psi(np.array([5, 0]), np.array([0, 5])))


def test_the_jensen_shannon_distance_is_from_0_to_1():
    """Equal shares have 0, and shares without a common cell 1."""
    assert statistics.jensen_shannon(np.array([1, 3]), np.array([10, 30])) == 0
    assert statistics.jensen_shannon(np.array([5, 0]), np.array([0, 7])) == 1
    assert 0 < statistics.jensen_shannon(np.array([5, 1]), np.array([1, 5])) < 1


@pytest.mark.parametrize(
    ("degrees", "risk", "value"),
    [(1, 0.05, 3.841), (1, 0.001, 10.828), (2, 0.01, 9.210), (9, 0.01, 21.666), (30, 0.05, 43.773)],
)
def test_bounds_are_those_of_tables(degrees, risk, value):
    """Quantiles of the chi-squared distribution, as statistics tables print them."""
    assert statistics.chi_squared(degrees, risk) == pytest.approx(value, abs=1e-3)


def test_neighbouring_cells_are_put_together_until_each_expects_enough():
    """Rows keep their order and number, and a small last cell joins the one before."""
    before, after = np.array([0, 100, 100, 5, 95, 3]), np.array([1, 99, 90, 10, 98, 2])

    left, right = statistics.pooled(before, after)

    assert left.tolist() == [100, 100, 103]
    assert right.tolist() == [100, 90, 110]


def test_cells_that_only_new_rows_have_are_kept_if_there_are_many():
    """Values that were never missing, and now are, stay apart from the first bin."""
    before, after = np.array([0, 500, 500]), np.array([300, 350, 350])

    assert [side.tolist() for side in statistics.pooled(before, after)] == [
        [0, 500, 500],
        [300, 350, 350],
    ]


def test_nothing_is_compared_with_no_rows():
    """There is no statistic then, nor with few rows, and no alarm."""
    compared = statistics.compare(np.array([50, 50]), np.array([0, 0]), RISK)

    assert compared == (None, None, None)
    assert not compared.exceeds_chance
    assert statistics.compare(np.array([50, 50]), np.array([9, 0]), RISK) == compared


def _numbers(rng, rows, shift=0.0):
    return rng.lognormal(shift, 1.0, rows)


def _counts(rng, rows, shift=0.0):
    return rng.poisson(2 + shift, rows).astype(float)


def _mostly_zero(rng, rows, shift=0.0):
    return np.where(rng.random(rows) < 0.6, 0.0, rng.exponential(size=rows) + shift)


def _truth(rng, rows, shift=0.0):
    return (rng.random(rows) < 0.1 + shift / 2).astype(float)


def _texts(rng, rows, shift=0.0):
    weights = 1 / np.arange(1, 201)
    weights[3] += 2 * shift
    return rng.choice([f"text {n}" for n in range(200)], rows, p=weights / weights.sum()).astype(
        object
    )


DRAWS = [_numbers, _counts, _mostly_zero, _truth, _texts]


def _compare(before, after, risk):
    return statistics.compare(*_sides(before, after), risk)


def _sides(before, after):
    if before.dtype != object:
        one = numbers(before)
        return compared(one, counted(one, after))
    one = texts(before, own=True)
    return compared(one, counted(one, after, frozenset(before.tolist())))


@pytest.mark.parametrize("rows", [(20, 5), (60, 45), (200, 2000), (2000, 200)])
@pytest.mark.parametrize("draw", DRAWS)
def test_equal_rows_raise_no_more_alarms_than_stated(draw, rows):
    """Of 400 windows at a risk of 1 %, 4 are expected; more than 12 have a chance of 0.02 %."""
    rng = np.random.default_rng(sum(rows))
    alarms = sum(
        _compare(draw(rng, rows[0]), draw(rng, rows[1]), RISK).exceeds_chance for _ in range(400)
    )

    assert alarms <= 12


def test_a_usual_fixed_bound_would_raise_hundreds():
    """Of 100 and 25 equal rows, a PSI of 0.2 with empty bins at 0.0001 is no sign of anything."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        one = numbers(rng.normal(size=100))
        p = np.maximum(np.array(one.counts) / 100, 1e-4)
        # Values out of range are in the outer bins.
        values = np.clip(rng.normal(size=25), one.edges[0], one.edges[-1])
        q = np.maximum(counted(one, values)[2:-1] / 25, 1e-4)
        alarms += ((q - p) * np.log(q / p)).sum() > 0.2

    assert alarms > 140


@pytest.mark.parametrize("draw", DRAWS)
def test_a_shift_is_found_with_the_rows_that_it_takes(draw):
    """A shift of a deviation or so is found in nearly all windows of as many rows as stated."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(50):
        before = draw(rng, 2000)
        rows = statistics.rows_needed(_sides(before, before)[0], RISK / 10)
        found += _compare(before, draw(rng, rows, 1.0), RISK / 10).exceeds_chance

    assert found >= 45


def test_fewer_rows_are_needed_the_larger_the_reference():
    """A small reference is never enough, and the message says how large one would be."""
    tenth = np.ones(10, np.int64)
    needed = [statistics.rows_needed(tenth * rows, 0.001) for rows in (10, 20, 50, 100, 1000)]

    assert needed[0] is None
    assert needed[1:] == sorted(needed[1:], reverse=True)
    assert 150 < needed[-1] < 250
    enough = statistics.reference_rows_needed(tenth * 10, 0.001)
    assert statistics.rows_needed(tenth * math.ceil(enough / 10), 0.001) <= enough + 10


def test_a_rare_value_takes_more_rows():
    """Before some twenty rows are expected to have it, nothing is to be said about it."""
    assert statistics.rows_needed(np.array([9900, 100]), 0.001) == 2000
    assert statistics.rows_needed(np.array([10_000]), 0.001) < 200
    # So rare that the reference itself has too few of them: one cell, as of a constant.
    assert statistics.rows_needed(np.array([9990, 10]), 0.001) < 200
