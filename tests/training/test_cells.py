"""The text of a cell as a number, a date or a missing value."""

from __future__ import annotations

import math

import pytest

from training import cells


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *[("7", 7.0), ("-1.5e3", -1500.0), (".5", 0.5), ("+2.", 2.0), ("inf", math.inf)],
        *[("TRUE", 1.0), ("false", 0.0), ("1e999", math.inf), ("-Infinity", -math.inf)],
    ],
)
def test_a_number_has_one_value(cell: str, value: float) -> None:
    """Integers, floats, infinities and booleans are numbers."""
    assert cells.is_number(cell)
    assert cells.number(cell) == value


@pytest.mark.parametrize(
    "cell", ["", "NaN", "1_000", "0x10", "1,5", "1 2", "yes", "\u0661", "²", "e5", ".", "--1"]
)
def test_anything_else_is_no_number(cell: str) -> None:
    """Strings that other readers convert into numbers stay strings."""
    assert not cells.is_number(cell)


@pytest.mark.parametrize(
    "cell",
    [
        *["2020-01-31", "2020/1/3", "2020-01-31T10:30:00Z", "2020-01-31 10:30:00.123+02:00"],
        *["31/1/2020", "1.2.99", "3-Jan-2020", "3 January 2020", "Jan 5, 2020", "1/2/20 9:30 PM"],
    ],
)
def test_dates_are_known_in_the_usual_spellings(cell: str) -> None:
    """A date may begin with the year, day or month, name the month, and have a time."""
    assert cells.is_date(cell)


@pytest.mark.parametrize("cell", ["2020", "20200131", "1.5", "1-2", "10:30", "Jan", "a-b-c", ""])
def test_anything_else_is_no_date(cell: str) -> None:
    """Numbers and words are not dates."""
    assert not cells.is_date(cell)


def test_a_message_shows_a_long_cell_in_part() -> None:
    """A message shows only the beginning of a long cell."""
    assert cells.show("x" * 100) == f"'{'x' * 60}…'"
    assert cells.listed(["a"] * 30) == ", ".join(["a"] * 20) + ", …"
