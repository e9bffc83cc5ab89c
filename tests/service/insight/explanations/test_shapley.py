"""Shapley values of functions whose values are known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insight.explanations import shapley

SAMPLES = 64


def parts_of(function, features, samples=SAMPLES):
    """Return the parts of a function of masks, [features], for one row."""
    masks = shapley.masks(features, samples)
    scores = np.array([[function(mask) for mask in masks]], np.float64)
    reference = np.array([function(np.zeros(features, bool))], np.float64)
    assert len(masks) == shapley.runs(features, samples)
    return shapley.parts(scores, reference, samples, features)[0]


def by_definition(function, features):
    """Return the mean gain of each feature over all orders, one order after another."""
    gains = np.zeros(features)
    for order in itertools.permutations(range(features)):
        mask = np.zeros(features, bool)
        before = function(mask)
        for feature in order:
            mask[feature] = True
            gains[feature] += function(mask) - before
            before = function(mask)
    return gains / math.factorial(features)


def any_game(features, seed):
    """Return a function of masks with a value of its own for each."""
    values = np.random.default_rng(seed).normal(size=2**features)
    return lambda mask: values[sum(1 << i for i in np.flatnonzero(mask))]


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_exact_values_are_the_mean_over_all_orders(features, seed):
    """The definition, taken literally, gives the same."""
    function = any_game(features, seed)

    assert shapley.is_exact(features, SAMPLES)
    assert parts_of(function, features) == pytest.approx(by_definition(function, features))


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_values_add_up_whether_exact_or_sampled(features, samples, seed):
    """They add up to the answer less the reference."""
    weights = np.random.default_rng(seed).normal(size=features)

    def function(mask):
        return np.tanh(weights @ mask) * 3 + (mask[0] and mask[-1])

    total = function(np.ones(features, bool)) - function(np.zeros(features, bool))

    assert math.isclose(sum(parts_of(function, features, samples)), total, abs_tol=1e-12)


@pytest.mark.parametrize("features", [3, 40])
def test_what_two_features_do_together_is_shared_equally(features):
    """The others, which do nothing, get nothing."""
    expected = np.zeros(features)
    expected[[0, 2]] = 2.5

    # An order and its reverse share it exactly.
    assert parts_of(lambda mask: 5.0 * (mask[0] and mask[2]), features, 2) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("features", [0, 1, 5, 9, 40])
def test_exact_values_cost_no_more_than_a_sample_does(features):
    """So they are exact wherever all combinations are no more than the samples, and beyond."""
    for samples in (1, 2, 32, SAMPLES, 1024):
        exact = shapley.is_exact(features, samples)

        assert exact or 2**features > samples
        assert shapley.runs(features, samples) <= max(1, 1 + samples * (features - 1))
        assert len(shapley.masks(features, samples)) == shapley.runs(features, samples)
        assert shapley.masks(features, samples)[0].all()


def test_the_sample_is_always_the_same():
    """The orders of today's generator are those of every version."""
    masks = shapley.masks(11, 2)

    assert shapley.masks(11, 2).tolist() == masks.tolist()
    # The first feature of the first order, and that of its reverse.
    assert [int(np.flatnonzero(masks[i]).item()) for i in (1, 11)] == [1, 10]
