"""A CSV file as a table of cells, which are read as they were written."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.training.csv_data import load, make, refused, source
from training import data, table
from training.errors import DataError
from training.input_spec import InputSpec

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
    """Every cell is read back, except for the spaces around it."""
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=end, quoting=quoting).writerows(rows)

    # A byte order mark at the beginning of a file is not part of the first cell.
    assume(not path.read_text(encoding="utf-8").startswith("\ufeff"))

    loaded = table.read(path, header=False)

    columns = [loaded.column(name) for name in loaded.columns]
    cells = [[column.texts[code] for code in column.codes] for column in columns]
    assert cells == [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]


def test_a_byte_order_mark_in_the_middle_of_a_file_is_part_of_its_cell(tmp_path: Path) -> None:
    """Two joined files may have a byte order mark inside, which is not removed silently."""
    (tmp_path / "a.csv").write_text('x\n\ufeff"1,2"\n\ufeff\n', "utf-8")
    with pytest.raises(DataError, match="line 2: 1 of 2 rows have not the 1 fields"):
        table.read(tmp_path / "a.csv")

    (tmp_path / "a.csv").write_text("x\n\ufeff1\n\ufeff\n", "utf-8")
    assert table.read(tmp_path / "a.csv").column("x").texts == ("\ufeff1", "\ufeff")


@pytest.mark.parametrize("cell", ["1", "nan", "", "true", "1e39", "inf", "0x1", "1_0", " 1 "])
def test_columns_that_are_surely_numbers_are_read_as_the_others_are(
    cell: str, tmp_path: Path
) -> None:
    """The fast reader of numbers is used only where it gives the same result."""
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


def test_quoted_cells_may_hold_commas_and_line_ends(tmp_path: Path) -> None:
    """Lines are counted as an editor counts them, also if quoted cells span several."""
    text = 'city,age,y\n"Bern, old\ntown",1,0\n"a ""b""",x,1\nc,3,0\nd,4,0\n'

    with refused(DataError, "a.csv: line 4, column 'age': 1 of 4 rows are not a number, first 'x'"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeffage,y\n20,0\n30,1\n", id="byte order mark"),
        pytest.param("age,y\r\n20,0\r\n30,1", id="Windows, no last line end"),
        pytest.param("age,y\r20,0\r30,1\r", id="old Macintosh"),
        pytest.param(" age , y\n 20,0 \n30,  1\n", id="spaces"),
        pytest.param('"age", "y"\n"20", "0"\n"30", "1"\n', id="everything quoted"),
    ],
)
def test_harmless_variants_are_the_same_data(text: str, tmp_path: Path) -> None:
    """Characters that editors add do not change the data."""
    loaded = source(tmp_path, text)

    assert loaded.arrays["a"].tolist() == [[20], [30]]
    assert loaded.targets["o"].tolist() == [[0], [1]]


def test_a_header_of_numbers_is_taken_for_data(tmp_path: Path) -> None:
    """Otherwise a file without a header loses its first row and has features named 33 and 22.7."""
    (tmp_path / "a.csv").write_text("33,22.7,male,1\n19,27.9,female,0\n", "utf-8")

    with refused(
        DataError,
        "a.csv: line 1: 3 of 4 columns are named by numbers, first '33';",
        "if line 1 is data, set header = false",
    ):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]))


@pytest.mark.parametrize(
    ("text", "more", "parts"),
    [
        pytest.param("", {}, ("a.csv: the file is empty",), id="empty"),
        pytest.param(
            "\n age\n", {},
            ("a.csv: line 1: expected the names of the columns, received a blank line",),
            id="blank first line",
        ),
        pytest.param(
            "age,y\n1,0\n\n3,1\n", {},
            ("a.csv: line 3: 1 of 3 rows have not the 2 fields of line 1, first a blank line",),
            id="blank line",
        ),
        pytest.param("age,y\n", {}, ("a.csv: no rows below the header",), id="header only"),
        pytest.param(
            "age,y\n1,0\n2\n3,1\n4,0,9\n", {},
            ("a.csv: line 3: 2 of 4 rows have not the 2 fields of line 1, first one with 1",),
            id="ragged",
        ),
        pytest.param(
            'age,y\n"1",0\n2,3,4\n', {},
            ("line 3: 1 of 2 rows have not the 2 fields of line 1, first one with 3",),
            id="ragged, quoted",
        ),
        pytest.param(
            "1,0,7\n2,0\n", {"header": False, "image": (1, 2)},
            ("line 2: 1 of 2 rows have not the 3 fields of line 1, first one with 2",),
            id="ragged pixels",
        ),
        pytest.param(
            "1,0,0\n2,3\n", {"header": False, "image": (1, 3)},
            ("line 2: 1 of 2 rows have not the 3 fields",), id="ragged image",
        ),
        pytest.param(
            "a,b,a,y\n1,2,3,0\n", {}, ("a.csv: line 1: 2 columns are named 'a'",), id="twice"
        ),
        pytest.param(
            "5,0,0,0\n4,0,0,0\n", {},
            ("line 1: 3 columns are named '0'; if line 1 is data, set header = false",),
            id="no header",
        ),
        pytest.param(
            "age;y\n1;0\n2;1\n", {},
            ("line 1: one column, 'age;y'; expected commas", "received ';'; save it"),
            id="semicolons",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused_with_its_line(
    text: str, more: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """Every row needs as many fields as the first line, and every column its own name."""
    with refused(DataError, *parts):
        load(tmp_path, text, **more)
