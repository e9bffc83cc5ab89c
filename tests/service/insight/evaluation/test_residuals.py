"""Residuals of regressions, against arithmetic by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insight.evaluation import residuals

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
NUMBERS = st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=50)


def test_figures_are_those_of_a_worked_example():
    """The example is that of scikit-learn's `r2_score`: 0.948…."""
    found = residuals.figures(np.array([3, -0.5, 2, 7]), np.array([2.5, 0.0, 2, 8]))

    assert (found.rows, found.mae, found.median) == (4, 0.5, 0.5)
    assert found.rmse == pytest.approx(math.sqrt(0.375))
    assert found.bias == pytest.approx(-0.25)
    assert found.r2 == pytest.approx(0.9486081370449679)


@given(rows=NUMBERS)
def test_figures_of_any_numbers_are_finite(rows):
    """The mean as an answer explains nothing, and equal targets have no variance to explain."""
    targets, answers = np.array(rows, np.float32).T

    found = residuals.figures(targets, answers)

    assert all(math.isfinite(value) for value in found[:5])
    assert (found.r2 is None) == (len(set(targets.tolist())) == 1)
    assert found.mae <= found.rmse * (1 + 1e-9)
    if found.r2 is not None:
        mean = np.full(len(targets), targets.astype(np.float64).mean())
        assert residuals.figures(targets, mean).r2 == pytest.approx(0, abs=1e-6)


@given(rows=NUMBERS)
def test_pictures_lose_no_row(rows):
    """What is far out is counted in the outermost bins."""
    targets, answers = np.array(rows, np.float32).T

    drawn = residuals.histogram(targets, 30)
    assert drawn.counts.sum() == len(rows)
    assert (np.diff(drawn.edges) > 0).all() or len(drawn.counts) == 1
    seen = residuals.squares(targets, answers, 20)
    assert (seen.counts.sum(), seen.counts.shape) == (len(rows), (20, 20))
    assert seen.low < seen.high


def test_one_value_far_out_does_not_hide_the_others():
    """The edges leave out half a hundredth of the values at each end."""
    values = np.append(np.arange(1000.0), 1e9)

    drawn = residuals.histogram(values, 10)

    assert drawn.edges[-1] < 1000
    assert drawn.counts.min() > 90


def test_equal_values_are_one_bin():
    """A model that always answers the same is drawn, too."""
    same = np.ones(5, np.float32)

    assert list(residuals.histogram(same, 30).counts) == [5]
    assert residuals.squares(same, same, 20).counts.max() == 5


def test_a_row_on_the_diagonal_of_the_picture_is_right():
    """Targets go across, and answers down the array."""
    seen = residuals.squares(np.array([0.0, 10.0]), np.array([0.0, 0.0]), 10)

    assert (seen.counts[0, 0], seen.counts[9, 0]) == (1, 1)
