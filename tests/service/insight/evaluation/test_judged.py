"""A bounded sample of rows with known targets, and the worst of all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insight.evaluation import losses
from service.insight.evaluation.judged import MOST_ROWS, Judged, Sample, most_rows

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("kind", "targets", "answers", "expected"),
    [
        pytest.param("binary", [[1], [0]], [[0.25], [0.25]], [0.25, 0.75], id="binary"),
        pytest.param("multiclass", [1, 0], [[0.2, 0.8], [0.5, 0.5]], [0.8, 0.5], id="multiclass"),
        pytest.param(
            "multiclass", [0, 1], [[0, 0], [3, 9]], [0.5, 1 / (1 + np.exp(-6))], id="logits"
        ),
        pytest.param("multiclass", [0, 1], [[NAN, 0], [INF, -INF]], [0, 0], id="no numbers"),
        pytest.param("binary", [[1], [0]], [[0.0], [7.0]], [1e-7, 1e-7], id="wrong for certain"),
        pytest.param("binary", [[1], [0]], [[2.0], [-1.0]], [1, 1], id="beyond 0 and 1"),
        pytest.param("binary", [[1]], [[NAN]], [0], id="no number"),
        pytest.param("binary", [[1]], [[True]], [1], id="a boolean"),
    ],
)
def test_the_loss_of_a_class_is_that_of_its_probability(kind, targets, answers, expected):
    """It is -log(p) of the probability of what is right."""
    found = losses.by_row(kind, np.array(targets), np.array(answers))

    with np.errstate(divide="ignore"):
        assert found == pytest.approx(-np.log(expected))


def test_the_loss_of_several_values_is_their_mean():
    """Labels have the mean of their log losses, and numbers that of their absolute errors."""
    labels = losses.by_row("multilabel", np.array([[1, 0]]), np.array([[0.5, 0.75]]))
    numbers = losses.by_row("regression", np.array([[1, 2], [0, 0]]), np.array([[2, 5], [1, -INF]]))

    assert labels == pytest.approx([-(np.log(0.5) + np.log(0.25)) / 2])
    assert list(numbers) == [2, INF]


@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=40), size=st.integers(1, 7))
def test_the_worst_rows_are_those_of_the_whole_file(values, size):
    """They do not depend on the batches, and of equal ones the first count."""
    sample = Sample("regression", 3)
    for start in range(0, len(values), size):
        batch = np.array(values[start : start + size], np.float32).reshape(-1, 1)
        sample.add(batch * 0, batch, lambda row, start=start: (f"row {start + row}", ("cell",)))

    order = sorted(range(len(values)), key=lambda row: -values[row])[:10]
    assert [row.place for row in sample.worst] == [f"row {row}" for row in order]
    assert [row.loss for row in sample.worst] == [values[row] for row in order]


@given(rows=st.integers(1, 60), most=st.integers(1, 20), size=st.integers(1, 9))
def test_a_sample_has_rows_of_the_file_with_their_own_targets(rows, most, size):
    """Short files are kept as they are, and longer ones are bounded."""
    sample = Sample("regression", most)
    for start in range(0, rows, size):
        batch = np.arange(start, min(start + size, rows), dtype=np.float32).reshape(-1, 1)
        sample.add(batch, batch + 0.5, lambda row: (str(row), ()))

    targets, answers = sample.kept()
    assert sample.rows == rows
    assert len(targets) == min(rows, most)
    assert (answers == targets + 0.5).all()
    assert len({*targets[:, 0].tolist()}) == len(targets)
    if rows <= most:
        assert list(targets[:, 0]) == list(range(rows))


def test_a_sample_is_uniform_and_the_same_each_time():
    """Each tenth of a file has about a tenth of the sample."""

    def taken():
        sample = Sample("regression", 1000)
        for start in range(0, 20_000, 250):
            batch = np.arange(start, start + 250, dtype=np.float32).reshape(-1, 1)
            sample.add(batch, batch, lambda row: (str(row), ()))
        return sample.kept()[0][:, 0]

    counts = np.histogram(taken(), 10, (0, 20_000))[0]
    assert counts.min() > 65
    assert (taken() == taken()).all()


def test_no_rows_are_no_sample():
    """A head whose column is empty has none."""
    assert Sample("binary", 5).kept() is None


def test_a_sample_is_smaller_the_more_values_a_row_has():
    """All heads together keep a bounded number of values."""
    assert most_rows([2, 2]) == MOST_ROWS
    assert most_rows([1000, 1000]) == 4000
    assert most_rows([10**9]) == 1


def test_rows_without_a_finite_answer_are_left_out():
    """They would make every figure not-a-number."""
    judged = Judged(
        "y",
        "regression",
        None,
        0.5,
        np.array([[1.0], [2.0], [3.0], [4.0]]),
        np.array([[1.0], [NAN], [INF], [1e300]]),
        4,
    )

    targets, answers = judged.finite()

    assert (targets.tolist(), answers.tolist()) == ([[1.0]], [[1.0]])
