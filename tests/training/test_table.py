"""A CSV file as a table of cells: what is read is what was written."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from training import cells, table
from training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

CELLS = st.text(st.sampled_from("ab1.,;\"'\\#\n\t é\ufeff\u2028\x0b\x1c\x85-"), max_size=6)
ROWS = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=6)
)


@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), quoting=st.sampled_from([0, 1]))
def test_every_cell_is_read_as_it_was_written(
    rows: list[list[str]], end: str, quoting: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is in a cell comes back, save the spaces around it."""
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=end, quoting=quoting).writerows(rows)

    # At the beginning of a file it is no part of the first cell.
    assume(not path.read_text(encoding="utf-8").startswith("\ufeff"))

    found = table.read(path, header=False)

    columns = [found.column(name) for name in found.columns]
    cells = [[column.texts[code] for code in column.codes] for column in columns]
    assert cells == [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]


def test_a_byte_order_mark_in_the_middle_of_a_file_is_part_of_its_cell(tmp_path: Path) -> None:
    """As where two files have been put together: it is told, and not taken away in silence."""
    (tmp_path / "a.csv").write_text('x\n\ufeff"1,2"\n\ufeff\n', "utf-8")
    with pytest.raises(DataError, match="line 2: 1 of 2 rows have not the 1 fields"):
        table.read(tmp_path / "a.csv")

    (tmp_path / "a.csv").write_text("x\n\ufeff1\n\ufeff\n", "utf-8")
    assert table.read(tmp_path / "a.csv").column("x").texts == ("\ufeff1", "\ufeff")


@pytest.mark.parametrize("cell", ["1", "nan", "", "true", "1e39", "inf", "0x1", "1_0", " 1 "])
def test_columns_that_are_surely_numbers_are_read_as_the_others_are(
    cell: str, tmp_path: Path
) -> None:
    """The fast way to read many numbers is taken only where it makes no difference."""
    path = tmp_path / "a.csv"
    path.write_text(f"x,1\ny,{cell}\n", "utf-8")

    fast = table.read(path, header=False, text=lambda _: ["0"])
    slow = table.read(path, header=False)

    for name in ("0", "1"):
        assert slow.column(name).lines.tolist() == fast.column(name).lines.tolist()
        if fast.frame[name].dtype == np.float32:
            assert fast.frame[name].tolist() == slow.column(name).values().tolist()
        else:
            assert slow.column(name).texts == fast.column(name).texts


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *[("7", 7.0), ("-1.5e3", -1500.0), (".5", 0.5), ("+2.", 2.0), ("inf", math.inf)],
        *[("TRUE", 1.0), ("false", 0.0), ("1e999", math.inf), ("-Infinity", -math.inf)],
    ],
)
def test_a_number_has_one_value(cell: str, value: float) -> None:
    """Integers, floats, infinities and truth values are numbers."""
    assert cells.is_number(cell)
    assert cells.number(cell) == value


@pytest.mark.parametrize(
    "cell", ["", "NaN", "1_000", "0x10", "1,5", "1 2", "yes", "\u0661", "²", "e5", ".", "--1"]
)
def test_anything_else_is_no_number(cell: str) -> None:
    """What other readers would bend into a number is left a text."""
    assert not cells.is_number(cell)


@pytest.mark.parametrize(
    "cell",
    [
        *["2020-01-31", "2020/1/3", "2020-01-31T10:30:00Z", "2020-01-31 10:30:00.123+02:00"],
        *["31/1/2020", "1.2.99", "3-Jan-2020", "3 January 2020", "Jan 5, 2020", "1/2/20 9:30 PM"],
    ],
)
def test_dates_are_known_in_the_usual_spellings(cell: str) -> None:
    """Year first, day or month first, months by name, with or without a time."""
    assert cells.is_date(cell)


@pytest.mark.parametrize("cell", ["2020", "20200131", "1.5", "1-2", "10:30", "Jan", "a-b-c", ""])
def test_anything_else_is_no_date(cell: str) -> None:
    """Numbers and words are not taken for dates."""
    assert not cells.is_date(cell)


def test_a_message_shows_a_long_cell_in_part() -> None:
    """A cell of a megabyte does not fill the screen."""
    assert cells.show("x" * 100) == f"'{'x' * 60}…'"
    assert cells.listed(["a"] * 30) == ", ".join(["a"] * 20) + ", …"
