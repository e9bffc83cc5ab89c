"""The alignment of rows of several files, by position or by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.training.csv_data import make, refused, two
from training import data
from training.errors import DataError, SpecError
from training.input_spec import InputSpec

if TYPE_CHECKING:
    from pathlib import Path


def test_position_cuts_to_the_shortest_and_notes_it(tmp_path: Path) -> None:
    """Row i of every file belongs together, up to the end of the shortest file."""
    loaded = two(tmp_path, "x,y\n1,0\n2,1\n3,ignored\n", "z,v\n7,1\n8,2\n", "position")

    assert loaded.notes == ("cut to the 2 rows of b.csv (a.csv has 3)",)
    assert [table.rows for table in loaded.sources.values()] == [2, 2]
    assert loaded.labels["o"] == ("0", "1")


def test_position_of_equal_files_has_no_note(tmp_path: Path) -> None:
    """There is no note if no file is cut."""
    assert two(tmp_path, "x,y\n1,0\n2,1\n", "z,v\n7,1\n8,2\n", "position").notes == ()


def test_key_joins_rows_in_the_order_of_the_first_file(tmp_path: Path) -> None:
    """Rows without a partner are left out and counted, and the key is not a feature."""
    first = "id,x,y\nc,1,0\na,2,1\nb,3,1\n"
    second = "z,id,v\n7,a,1\n9,d,0\n8,c,2\n5,e,5\n"

    loaded = two(tmp_path, first, second, "key", "id")

    assert loaded.sources["a.csv"].arrays["a"].tolist() == [[1], [2]]
    assert loaded.sources["b.csv"].arrays["b"].tolist() == [[8], [7]]
    assert loaded.sources["b.csv"].targets["p"].tolist() == [[2], [1]]
    assert loaded.notes == (
        "a.csv: 1 of 3 rows have no partner by key",
        "b.csv: 2 of 4 rows have no partner by key",
    )


def test_a_key_in_the_last_column_is_not_the_target(tmp_path: Path) -> None:
    """Without a named target, it is the last column that is not the key."""
    loaded = two(tmp_path, "x,y,id\n1,0,a\n2,1,b\n", "z,v,id\n7,1,a\n8,2,b\n", "key", "id")

    assert loaded.sources["a.csv"].targets["o"].tolist() == [[0], [1]]


def test_images_join_by_key_too(tmp_path: Path) -> None:
    """The key of a file of pixels is read as text, even if it looks like a number."""
    (tmp_path / "a.csv").write_text("k7,0,1,2\nk8,1,3,4\n", "utf-8")
    (tmp_path / "b.csv").write_text("k8,5,6,7\nk7,8,9,1\n", "utf-8")
    inputs = [
        InputSpec(name, f"{name}.csv", header=False, target=1, image=(1, 2), key="0")
        for name in ("a", "b")
    ]

    loaded = data.load(make(tmp_path, inputs, align="key"))

    assert loaded.sources["b.csv"].arrays["b"].tolist() == [[9, 1], [6, 7]]


@pytest.mark.parametrize(
    ("first", "second", "error", "parts"),
    [
        pytest.param(
            "id,x,y\na,1,0\na,2,1\n", "id,z,v\na,1,1\n", DataError,
            ("a.csv: line 2, column 'id': 2 of 2 rows share their key with another, first 'a'",),
            id="twice",
        ),
        pytest.param(
            "id,x,y\na,1,0\n,2,1\n", "id,z,v\na,1,1\n", DataError,
            ("a.csv: line 3, column 'id': 1 of 2 rows have no key",), id="missing",
        ),
        pytest.param(
            "id,x,y\na,1,0\n", "id,z,v\nb,1,1\n", DataError,
            ("spec.toml: no key is in every file (a.csv has 'a', …, b.csv has 'b', …)",),
            id="none shared",
        ),
        pytest.param(
            "ID,x,y\na,1,0\n", "id,z,v\nb,1,1\n", SpecError,
            ("spec.toml: inputs.a.key: no column 'id' in", "; columns: ID, x, y"), id="absent",
        ),
    ],
)  # fmt: skip
def test_wrong_keys_are_refused(
    first: str, second: str, error: type[Exception], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """A key must name one row in each file."""
    with refused(error, *parts):
        two(tmp_path, first, second, "key", "id")
