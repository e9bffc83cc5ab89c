"""Curves over all thresholds, against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insight.evaluation import ranking, thresholds

# Few distinct answers, so that many are equal.
ROWS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])), min_size=1
)
FLOATS = pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])


def _ranked(rows, dtype="float32"):
    yes, answers = zip(*rows, strict=True)
    return ranking.ranking(np.array(yes, bool), np.array(answers).astype(dtype))


@FLOATS
@given(rows=ROWS)
def test_the_area_is_the_chance_that_a_yes_is_above_a_no(dtype, rows):
    """Every pair is compared by hand, and a tie counts as half."""
    pairs = [(a > b) + (a == b) / 2 for yes, a in rows if yes for no, b in rows if not no]

    found = ranking.area_under_roc(_ranked(rows, dtype))

    assert found == (pytest.approx(np.mean(pairs)) if pairs else None)


@given(rows=ROWS)
def test_average_precision_is_the_sum_over_the_distinct_answers(rows):
    """Each answer adds recall, at the precision of all rows that have at least that answer."""
    yes = sum(y for y, _ in rows)
    total, before = 0.0, 0
    for answer in sorted({a for _, a in rows}, reverse=True):
        said = [y for y, a in rows if a >= answer]
        total += (sum(said) - before) / max(yes, 1) * sum(said) / len(said)
        before = sum(said)

    found = ranking.average_precision(_ranked(rows))

    assert found == (pytest.approx(total) if yes else None)


def test_curves_are_those_of_a_worked_example():
    """The example is that of scikit-learn's `roc_curve` and `average_precision_score`."""
    ranked = _ranked([(False, 0.1), (False, 0.4), (True, 0.35), (True, 0.8)])

    curve = ranking.roc(ranked)
    assert (list(curve.x), list(curve.y)) == ([0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1])
    assert ranking.area_under_roc(ranked) == 0.75
    assert ranking.average_precision(ranked) == pytest.approx(5 / 6)
    curve = ranking.precision_recall(ranked)
    assert list(curve.x) == [0.5, 0.5, 1, 1]
    assert list(curve.y) == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])


@pytest.mark.parametrize("yes", [True, False])
def test_of_one_class_there_is_no_curve(yes):
    """A rate of a class without rows is no number."""
    ranked = _ranked([(yes, 0.3), (yes, 0.6)])

    assert ranking.roc(ranked) is None
    assert ranking.area_under_roc(ranked) is None
    assert ranking.average_precision(ranked) == (1.0 if yes else None)


def test_no_rows_and_integers_and_booleans_are_ranked():
    """Nothing is divided by nought, and answers need not be floats."""
    empty = ranking.ranking(np.zeros(0, bool), np.zeros(0, np.float32))
    assert (ranking.roc(empty), ranking.average_precision(empty)) == (None, None)
    assert thresholds.at(empty, 0.5).share is None
    assert thresholds.best(empty) is None
    assert thresholds.spread(empty, probabilities=False) == list(thresholds.EVEN)

    for answers in (np.array([3, -1]), np.array([True, False])):
        ranked = ranking.ranking(np.array([True, False]), answers)
        assert ranking.area_under_roc(ranked) == 1


@given(rows=ROWS, threshold=st.floats(0, 1))
def test_a_threshold_says_yes_to_the_answers_above_it(rows, threshold):
    """The four counts are those of a comparison row by row, in the dtype of the answers."""
    outcome = thresholds.at(_ranked(rows), threshold)

    said = [(yes, np.float32(answer) > np.float32(threshold)) for yes, answer in rows]
    assert outcome[1:] == tuple(
        said.count(pair) for pair in [(True, True), (False, True), (True, False), (False, False)]
    )


def test_a_threshold_is_rounded_as_a_head_rounds_it():
    """An answer of float32's 0.1 is not above 0.1."""
    assert thresholds.at(_ranked([(True, 0.1)]), 0.1).said == 0


def test_figures_of_a_threshold_are_shares():
    """A share of nothing is none, so that it is not taken for 0."""
    outcome = thresholds.at(_ranked([(True, 0.9), (True, 0.2), (False, 0.6), (False, 0.1)]), 0.5)
    assert (outcome.precision, outcome.recall, outcome.f1, outcome.share) == (0.5, 0.5, 0.5, 0.5)

    never = thresholds.at(_ranked([(False, 0.2)]), 0.5)
    assert (never.precision, never.recall, never.f1, never.share) == (None, None, None, 0)


@FLOATS
@given(rows=ROWS)
def test_no_threshold_has_a_higher_f1_than_the_best(dtype, rows):
    """The best is a short number, and is left out if it would say yes to all rows."""
    ranked = _ranked(rows, dtype)
    below = [-1.0, *sorted({float(np.array(answer, dtype)) for _, answer in rows})]
    values = [thresholds.at(ranked, threshold).f1 or 0 for threshold in below]

    best = thresholds.best(ranked)

    if best is None:
        assert max(values) == values[0]
    else:
        assert thresholds.at(ranked, best).f1 == max(values)


def test_answers_that_are_no_probabilities_have_thresholds_among_them():
    """They are quantiles, and of few distinct answers there are fewer."""
    many = _ranked([(False, float(n)) for n in range(100)])
    assert thresholds.spread(many, probabilities=False) == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert thresholds.spread(_ranked([(True, 7.0)]), probabilities=False) == [7]
