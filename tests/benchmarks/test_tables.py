"""The scores of the comparison on public tables, by hand."""

import pytest

from benchmarks.tables import Result, _score, _text


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
        Result("a: y", 1000, "accuracy", 0.9, 0.8, 0.9),
        Result("b: z", 20, "R²", 0.48, 0.5, 0.1),
    ]

    lines = _text(results).splitlines()

    assert "| a: y | 1,000 | accuracy | 0.900 | 0.800 | 0.900 | 1.000 |" in lines
    assert "| b: z | 20 | R² | 0.480 | 0.500 | 0.100 | 0.960 |" in lines
    assert lines[-1].startswith(
        "The mean ratio is 0.980 (goal: 0.99 or more), and the smallest is 0.960"
    )


def test_a_head_among_others_is_beside_a_model_of_its_own():
    """A table of one head is not in that table, and loses nothing."""
    results = [
        Result("a: y", 100, "accuracy", 0.90, 0.8, 0.9, alone=0.92),
        Result("a: z", 100, "R²", 0.60, 0.5, 0.5, alone=0.55),
        Result("b: x", 20, "R²", 0.48, 0.5, 0.1),
    ]

    text = _text(results).partition("## One model for several heads")[2]

    assert "| a: y | accuracy | 0.900 | 0.920 | -0.020 |" in text
    assert "| a: z | R² | 0.600 | 0.550 | +0.050 |" in text
    assert "b: x" not in text
    assert "The mean difference is +0.015, and the smallest is -0.020" in text
    assert results[2].gained == 0


def test_ludwig_is_beside_our_score_of_the_same_split():
    """Its column has heads that it has scored, on the first split."""
    result = Result("a: y", 100, "R²", 0.60, 0.5, 0.5, ludwig=-0.1, first=0.7)

    assert "| a: y | R² | 0.700 | -0.100 |" in _text([result])
    assert "Ludwig" not in _text([Result("a: y", 100, "R²", 0.60, 0.5, 0.5)])
