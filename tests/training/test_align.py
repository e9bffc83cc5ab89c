"""The alignment of rows of several files, by position or by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.training.csv_data import head, make, refused, two
from training import data
from training.errors import DataError, SpecError
from training.head_spec import HeadSpec
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


SKIP_BOTH, SKIP_SECOND = ("skip", "skip"), (None, "skip")
# Each key is in one file or the other: `a` and `c` are in both.
LEFT = "id,x,y\nc,1,0\na,2,1\nb,4,1\n"
RIGHT = "z,id,v\n7,a,1\n9,d,0\n8,c,2\n"


def test_a_row_of_one_file_alone_is_kept_where_its_other_targets_may_be_missing(
    tmp_path: Path,
) -> None:
    """Its targets in the other file are missing, and its features there take their defaults."""
    loaded = two(tmp_path, LEFT, RIGHT, "key", "id", missing=SKIP_BOTH)

    left, right = loaded.sources.values()
    assert left.arrays["a"].tolist() == [[1], [2], [4], [2]]
    assert right.arrays["b"].tolist() == [[8], [7], [8], [9]]
    np.testing.assert_array_equal(left.targets["o"], [[0], [1], [1], [np.nan]])
    np.testing.assert_array_equal(right.targets["p"], [[2], [1], [np.nan], [0]])
    assert loaded.partial == ("o", "p")
    assert loaded.notes == (
        "a.csv: no row for 1 of 4 keys; their features take the defaults",
        "b.csv: no row for 1 of 4 keys; their features take the defaults",
        "a.csv: column 'x': 1 of 4 cells is missing and takes the median of the training rows",
        "a.csv: 1 of 4 rows lacks the target of head 'o', which learns from the others",
        "b.csv: column 'z': 1 of 4 cells is missing and takes the median of the training rows",
        "b.csv: 1 of 4 rows lacks the target of head 'p', which learns from the others",
    )


def test_a_row_stays_in_every_file_whose_targets_may_not_be_missing(tmp_path: Path) -> None:
    """Rows that only the other file has are left out and counted."""
    loaded = two(tmp_path, LEFT, RIGHT, "key", "id", missing=SKIP_SECOND)

    left, right = loaded.sources.values()
    assert left.arrays["a"].tolist() == [[1], [2], [4]]
    assert right.arrays["b"].tolist() == [[8], [7], [7]]
    assert loaded.partial == ("p",)
    assert loaded.notes[:2] == (
        "b.csv: 1 of 3 rows have no partner by key",
        "b.csv: no row for 1 of 3 keys; their features take the defaults",
    )


def test_a_file_without_a_head_must_have_every_row(tmp_path: Path) -> None:
    """Nothing allows that the features of such a file are missing."""
    (tmp_path / "a.csv").write_text(LEFT)
    (tmp_path / "b.csv").write_text(RIGHT)
    inputs = [InputSpec(name, f"{name}.csv", key="id") for name in ("a", "b")]

    loaded = data.load(make(tmp_path, inputs, [head(missing="skip")], align="key"))

    assert [source.rows for source in loaded.sources.values()] == [2, 2]
    assert loaded.partial == ()
    assert loaded.notes == (
        "a.csv: 1 of 3 rows have no partner by key",
        "a.csv: no row for 1 of 3 keys; their features take the defaults",
        "a.csv, b.csv: 1 of 3 rows has no target and is left out",
    )


def test_a_row_without_its_picture_is_refused(tmp_path: Path) -> None:
    """A pixel has no default, so the message names the first such row and both ways out."""
    (tmp_path / "a.csv").write_text("id,x,y\nk7,1,0\nk8,2,1\nk9,3,1\n")
    (tmp_path / "b.csv").write_text("k8,0,6,7\nk7,1,9,1\n")
    inputs = [
        InputSpec("a", "a.csv", key="id"),
        InputSpec("b", "b.csv", header=False, target=1, image=(1, 2), key="0"),
    ]
    heads = [head(), HeadSpec("side", ("b",), "binary", (("b", None),), missing="skip")]

    with refused(
        DataError,
        "b.csv: no row for 1 of 3 keys, first 'k9', and an image has no default;",
        "or heads.side.missing from the spec to leave them out",
    ):
        data.load(make(tmp_path, inputs, heads, align="key"))


@pytest.mark.parametrize("missing", [SKIP_BOTH, SKIP_SECOND])
def test_a_file_that_shares_no_key_is_refused_all_the_same(
    missing: tuple[str | None, str | None], tmp_path: Path
) -> None:
    """Keys that are spelled in two ways would otherwise be rows of one file each."""
    with refused(DataError, "no key of ", ".csv is in another file (a.csv has '1', …, b.csv has"):
        two(
            tmp_path,
            "id,x,y\n1,1,0\n2,2,1\n",
            "id,z,v\n01,1,1\n02,5,2\n",
            "key",
            "id",
            missing=missing,
        )
