"""The scores of the comparison on public tables, by hand."""

import pytest

from benchmarks.tables import Result, _score, _table


def test_accuracy_counts_right_labels_of_rows_that_have_one():
    """A row without the target says nothing."""
    wanted = [{"y": "a"}, {"y": ""}, {"y": "b"}, {"y": "a"}, {"y": "b"}]
    answered = [{"y.label": label} for label in "abbbb"]

    assert _score("y", "accuracy", wanted, answered) == 0.75


@pytest.mark.parametrize(
    ("answers", "expected"), [("123", 1), ("222", 0), ("133", 0.5), ("321", -3)]
)
def test_r2_is_the_part_of_the_variance_that_is_explained(answers, expected):
    """The mean scores 0, and a worse answer is below."""
    wanted = [{"y": value} for value in "123"]

    assert _score("y", "R²", wanted, [{"y": value} for value in answers]) == expected


def test_a_ratio_is_that_to_the_better_of_the_two():
    """The table has a line for each head, and the mean and smallest ratio."""
    results = [
        Result("a: y", 1000, "accuracy", 0.9, 0.8, 0.9, 7.4),
        Result("b: z", 20, "R²", 0.48, 0.5, 0.1, 7.4),
    ]

    lines = _table(results).splitlines()

    assert lines[2] == "| a: y | 1,000 | accuracy | 0.900 | 0.800 | 0.900 | 1.000 | 7 |"
    assert lines[3].endswith("| 0.960 | 7 |")
    assert lines[-1].startswith(
        "The mean ratio is 0.980 (goal: 0.99 or more), and the smallest is 0.960"
    )
