"""Scores of answers whose targets are known."""

import functools
import itertools
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insight import scores

NAN = np.nan


@pytest.mark.parametrize(
    ("kind", "targets", "answers", "threshold", "expected"),
    [
        pytest.param("binary", [[0], [1], [1]], [[0.1], [0.5], [0.9]], 0.5, [1, 0, 1], id="binary"),
        pytest.param("binary", [[0], [1]], [0.3, 0.3], 0.2, [0, 1], id="a threshold, and no axis"),
        pytest.param("binary", [[0], [1]], [[False], [True]], 0.5, [1, 1], id="booleans"),
        pytest.param("binary", [[0], [1]], [[NAN], [NAN]], 0.5, [0, 0], id="no numbers"),
        pytest.param("multiclass", [0, 2], [[3, 1, 2], [0, 5, 1]], 0.5, [1, 0], id="multiclass"),
        pytest.param("multiclass", [0, 1], [[NAN, 1], [0, 1]], 0.5, [0, 1], id="no number"),
        pytest.param(
            "multilabel", [[0, 1], [1, 1]], [[0.2, 0.7], [0.8, 0.1]], 0.5, [1, 0.5], id="multilabel"
        ),
        pytest.param("regression", [[1], [4]], [[2], [4]], 0.5, [1, 0], id="regression"),
        pytest.param("regression", [[1, 2]], [[2, 5]], 0.5, [2], id="a vector"),
        pytest.param("regression", [[3e38]], [[-3e38]], 0.5, [6e38], id="far apart"),
    ],
)
def test_a_row_has_a_score(kind, targets, answers, threshold, expected):
    """The score is 1 for a right answer, the share of right labels, or the distance."""
    answers = np.array(answers)
    answers = answers if answers.dtype == bool else answers.astype(np.float32)

    found = scores.by_row(kind, np.array(targets), answers, threshold)

    assert found == pytest.approx(expected)
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    ("kind", "targets", "values", "answer", "score"),
    [
        pytest.param("binary", [[0], [1], [1], [1]], 1, [1], 0.75, id="binary"),
        pytest.param("binary", [[0], [1]], 1, [0], 0.5, id="a tie"),
        pytest.param("multiclass", [2, 0, 2, 1], 4, [0, 0, 1, 0], 0.5, id="multiclass"),
        pytest.param("multilabel", [[1, 0], [1, 1], [1, 0]], 2, [1, 0], 5 / 6, id="multilabel"),
        pytest.param("regression", [[1], [3], [5]], 1, [3], 4 / 3, id="regression"),
    ],
)
def test_the_baseline_is_the_best_answer_that_is_always_the_same(
    kind, targets, values, answer, score
):
    """It follows from the mean of the targets, and for classes so does its score."""
    targets = np.array(targets)
    always = scores.best_constant(kind, scores.target_sum(kind, targets, values) / len(targets))
    answers = np.zeros((len(targets), values), np.float32)
    unknown = scores.tally(kind, targets, answers, 0.5, ())
    known = scores.tally(kind, targets, answers, 0.5, tuple(answer))

    assert always.tolist() == answer
    assert scores.baseline_score(kind, known, tuple(answer)) == pytest.approx(score)
    assert scores.baseline_score(kind, unknown, ()) == (
        None if kind == "regression" else pytest.approx(score)
    )


@given(
    kind=st.sampled_from(sorted(scores.METRICS)),
    rows=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    seed=st.integers(0, 99),
)
def test_batches_add_up_to_the_whole(kind, rows, cuts, seed):
    """A file has the same scores however it is cut into batches."""
    rng = np.random.default_rng(seed)
    answers = rng.random((rows, 3)).astype(np.float32)
    if kind == "multiclass":
        targets = rng.integers(0, 3, rows)
    else:
        targets = rng.integers(0, 2, (rows, 3)).astype(np.float32)
    constant = (0.0, 1.0, 0.0)
    edges = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    parts = [
        scores.tally(kind, targets[i:j], answers[i:j], 0.5, constant)
        for i, j in itertools.pairwise(edges)
    ]

    summed = functools.reduce(operator.add, parts)

    assert summed.rows == rows
    assert summed.total / rows == pytest.approx(
        scores.by_row(kind, targets, answers, 0.5).mean(), rel=1e-12
    )
    assert summed.targets == pytest.approx(scores.target_sum(kind, targets, 3))
    assert scores.baseline_score(kind, summed, constant) == pytest.approx(
        scores.by_row(kind, targets, np.tile(constant, (rows, 1)), 0.5).mean()
    )


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (None, "–"),  # noqa: RUF001  (a dash)
        (0.88794, "0.8879"),
        (0.0, "0.0000"),
        (0.001, "0.0010"),
        (734.40671, "734.4067"),
        (-3.11256, "-3.1126"),
        (215042.0866, "215,042.1"),
        (8.341739e-37, "8.342e-37"),
        (0.00012345, "0.0001234"),
        (7.4207e36, "7.421e+36"),
        (np.inf, "inf"),
    ],
)
def test_a_score_of_any_size_is_shown(score, text):
    """Four decimals would make 0 of a small error, and a large one too long for a table."""
    assert scores.shown(score) == text
