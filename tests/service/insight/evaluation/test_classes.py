"""Confusion of classes, and calibration, against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insight.evaluation import calibration
from service.insight.evaluation.confusion import ClassFigures, by_class, confusion

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)))


@given(pairs=PAIRS)
def test_every_row_is_in_the_cell_of_its_class_and_its_answer(pairs):
    """Lines are classes, and columns what is answered."""
    targets, said = np.array(pairs, np.int64).reshape(-1, 2).T

    counted = confusion(targets, said, 5, 10)

    assert (counted.rest, list(counted.classes)) == (0, [0, 1, 2, 3, 4])
    for cell in np.ndindex(5, 5):
        assert counted.counts[cell] == pairs.count(cell)


@given(pairs=PAIRS)
def test_figures_of_a_class_do_not_depend_on_how_many_have_a_line(pairs):
    """The rest is one line, and no row is lost."""
    targets, said = np.array(pairs, np.int64).reshape(-1, 2).T
    whole = by_class(confusion(targets, said, 5, 5))

    some = confusion(targets, said, 5, 2)

    assert (some.rest, some.counts.shape, some.counts.sum()) == (3, (3, 3), len(pairs))
    assert by_class(some) == [whole[place] for place in some.classes]
    assert min(whole[place].rows for place in some.classes) >= sorted(f.rows for f in whole)[-2]


def test_figures_of_a_class_are_precision_and_recall():
    """A class that is never answered has no precision."""
    counted = confusion(np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0]), 3, 3)

    assert by_class(counted) == [
        ClassFigures(3, 2 / 3, 2 / 3),
        ClassFigures(1, 0.5, 1.0),
        ClassFigures(1, None, 0.0),
    ]


def test_the_expected_calibration_error_is_that_of_a_worked_example():
    """In two bins with 3 and 1 rows, probability and truth are 0.2 and 0.1 apart."""
    binned = calibration.bins(
        np.array([True, False, True, True]), np.array([0.85, 0.88, 0.87, 0.9])
    )
    assert list(binned.rows) == [0, 0, 0, 0, 0, 0, 0, 0, 4, 0]

    binned = calibration.bins(
        np.array([True, True, False, True]), np.array([0.86, 0.86, 0.88, 0.95])
    )

    assert list(np.flatnonzero(binned.rows)) == [8, 9]
    assert calibration.expected_error(binned) == pytest.approx(
        3 / 4 * abs(2 / 3 - 2.6 / 3) + 1 / 4 * 0.05
    )


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1))
def test_every_probability_is_in_the_bin_that_has_its_mean(rows):
    """A mean of a bin lies in it, and the error is a share."""
    true, values = zip(*rows, strict=True)

    binned = calibration.bins(np.array(true), np.array(values, np.float32))

    assert binned.rows.sum() == len(rows)
    for place in np.flatnonzero(binned.rows):
        assert place / 10 - 1e-6 <= binned.mean[place] <= (place + 1) / 10 + 1e-6
    assert 0 <= calibration.expected_error(binned) <= 1


def test_without_rows_there_is_no_calibration_error():
    """Nothing is divided by nought, and nothing is warned of."""
    binned = calibration.bins(np.zeros(0, bool), np.zeros(0))

    assert calibration.expected_error(binned) is None


@pytest.mark.parametrize(
    ("answers", "of_classes", "expected"),
    [
        pytest.param([[0.2], [1.0000001]], False, True, id="rounded"),
        pytest.param([[-0.1], [0.5]], False, False, id="below 0"),
        pytest.param([[0.2, 0.8], [1, 0]], True, True, id="classes"),
        pytest.param([[0.2, 0.9]], True, False, id="another sum"),
        pytest.param([[0.2, 0.9]], False, True, id="labels"),
        pytest.param(np.zeros((0, 2)), True, True, id="no rows"),
    ],
)
def test_probabilities_are_told_from_other_numbers(answers, of_classes, expected):
    """Files from elsewhere may answer with logits or with distances."""
    answers = np.array(answers, np.float32)

    assert calibration.are_probabilities(answers, of_classes=of_classes) is expected
