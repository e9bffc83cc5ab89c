"""The preparation of targets: columns become classes, numbers and labels of a head."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.training.csv_data import AGES, head, load, refused, source
from training.errors import DataError, SpecError
from training.rows import known

if TYPE_CHECKING:
    from pathlib import Path

    from training.head_spec import HeadSpec


@pytest.mark.parametrize(
    ("kind", "cells", "labels", "expected", "named"),
    [
        pytest.param("binary", "0,1,1", ("no", "yes"), [0, 1, 1], ("no", "yes"), id="index"),
        pytest.param("binary", "0.0,1.0,1", ("no", "yes"), [0, 1, 1], ("no", "yes"), id="floats"),
        pytest.param("binary", "1,1,1", ("no", "yes"), [1, 1, 1], ("no", "yes"), id="one of two"),
        pytest.param("binary", "2,7,2", None, [0, 1, 0], ("2", "7"), id="own integers"),
        pytest.param("binary", "b,a,b", None, [1, 0, 1], ("a", "b"), id="own texts, sorted"),
        pytest.param("binary", "b,a,b", ("b", "a"), [0, 1, 0], ("b", "a"), id="texts, given"),
        pytest.param("binary", "true,false,true", None, [1, 0, 1], ("false", "true"), id="truth"),
        pytest.param(
            "binary", "True,False,True", ("no", "yes"), [1, 0, 1], ("no", "yes"), id="truth index"
        ),
        pytest.param(
            "binary", "True,False,True", ("True", "False"), [0, 1, 0], ("True", "False"),
            id="truth by text",
        ),
        pytest.param("multiclass", "10,9,1", None, [2, 1, 0], ("1", "9", "10"), id="by number"),
        pytest.param("multiclass", "2,0,1", ("a", "b", "c"), [2, 0, 1], ("a", "b", "c"), id="of 3"),
        pytest.param("multiclass", "1,2,1.0", ("1", "2"), [0, 1, 0], ("1", "2"), id="by value"),
        pytest.param("multiclass", "NA,EU,NA", ("EU", "NA"), [1, 0, 1], ("EU", "NA"), id="NA"),
    ],
)  # fmt: skip
def test_a_class_is_its_place_among_the_labels(
    *,
    kind: str,
    cells: str,
    labels: tuple[str, ...] | None,
    expected: list[int],
    named: tuple[str, ...],
    tmp_path: Path,
) -> None:
    """An integer is the index of a label, and a text is a label.

    Without labels in the spec, the labels are the values.
    """
    rows = "".join(f"{n},{cell}\n" for n, cell in enumerate(cells.split(",")))

    loaded = source(tmp_path, f"x,y\n{rows}", head(kind, labels=labels))

    assert named == loaded.labels["o"]
    assert expected == loaded.targets["o"].ravel().tolist()
    shape, dtype = ((3, 1), np.float32) if kind == "binary" else ((3,), np.int32)
    assert (shape, dtype) == (loaded.targets["o"].shape, loaded.targets["o"].dtype)


@pytest.mark.parametrize("labels", [None, ("first", "second")])
def test_multilabel_targets_are_columns_of_zeros_and_ones(
    labels: tuple[str, ...] | None, tmp_path: Path
) -> None:
    """The names of the columns are the labels, unless the head has its own."""
    text = "x,p,q\n1,0,true\n2,1,0\n"

    loaded = source(tmp_path, text, head("multilabel", "p", "q", labels=labels))

    assert loaded.targets["o"].tolist() == [[0, 1], [1, 0]]
    assert (labels or ("p", "q")) == loaded.labels["o"]


def test_regression_learns_a_vector(tmp_path: Path) -> None:
    """Several columns of numbers form one head without labels."""
    loaded = source(tmp_path, "x,p,q\n1,0.5,7\n2,1e3,-1\n", head("regression", "p", "q"))

    assert loaded.targets["o"].tolist() == [[0.5, 7], [1000, -1]]
    assert loaded.labels == {"o": None}


@pytest.mark.parametrize(
    ("text", "learner", "parts"),
    [
        pytest.param(
            "x,p,q\n1,0,1\n2,1,2\n", head("multilabel", "p", "q"),
            ("line 3, column 'q': 1 of 2 rows are neither 0 nor 1, first '2'",), id="multilabel",
        ),
        pytest.param(
            "x,y\n1,1.5\n2,much\n", head("regression"),
            ("line 3, column 'y': 1 of 2 rows are not a number, first 'much'",), id="regression",
        ),
        pytest.param(
            "x,y\n" + "".join(f"1,{n}\n" for n in range(30)), head("multiclass"),
            ("column 'y': 30 different values in 30 rows", "kind regression learns numbers"),
            id="as many classes as rows",
        ),
    ],
)  # fmt: skip
def test_bad_targets_stop_with_file_place_and_count(
    text: str, learner: HeadSpec, parts: tuple[str, ...], tmp_path: Path
) -> None:
    """A target is a class, 0 or 1, or a number."""
    with refused(DataError, *parts):
        load(tmp_path, text, learner)


@pytest.mark.parametrize(
    ("text", "more", "parts"),
    [
        pytest.param(
            "age,y\n20,0\n30,\n40,NA\n", {},
            ("a.csv: line 3, column 'y': 2 of 3 rows have no value, which head 'o' learns;",),
            id="no target",
        ),
        pytest.param(
            "age,y\n20,0\n30,0.5\n", {},
            (("line 3, column 'y': 1 of 2 rows are not a whole number, which the binary head 'o'"
             " needs, first '0.5'"),),
            id="half a class",
        ),
        pytest.param(
            "age,y\n20,0\n30,1\n40,yes\n", {},
            ("line 4, column 'y': 1 of 3 rows are not a whole number", "first 'yes'"),
            id="a text among integers",
        ),
        pytest.param(
            "age,y\n20,a\n30,b\n40,c\n", {},
            ("a.csv: column 'y': 3 different values ('a', 'b', 'c'); the binary head 'o' needs 2",),
            id="three for two",
        ),
        pytest.param(
            "age,y\n20,a\n30,a\n", {},
            ("a.csv: column 'y': every row is 'a', so the binary head 'o' has nothing to learn",),
            id="one for two",
        ),
    ],
)  # fmt: skip
def test_bad_classes_stop_with_file_place_and_count(
    text: str, more: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """The message names the rows without a class that the head can learn."""
    with refused(DataError, *parts):
        load(tmp_path, text, **more)


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        pytest.param(
            "x,y\n1,Apple\n2,Aple\n3,Pear\n", ("Apple", "Banana"),
            ("2 of 3 rows have a label that is not one of Apple, Banana,"
             " first 'Aple' (did you mean 'Apple'?)"),
            id="unknown label",
        ),
        pytest.param(
            "x,y\n1,0\n2,2\n3,-1\n", ("no", "yes"),
            "2 of 3 rows are no index of a label: 0 to 1 for no, yes, first '2'",
            id="index too large",
        ),
        pytest.param(
            "x,y\n1,1\n2,3\n", ("1", "2"),
            "1 of 2 rows have a label that is not one of 1, 2, first '3'",
            id="number that is not a label",
        ),
    ],
)  # fmt: skip
def test_labels_that_do_not_cover_the_data_are_the_specs_fault(
    text: str, labels: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    """The message names the key of the labels, the file, the line and the number of rows."""
    with pytest.raises(SpecError) as raised:
        load(tmp_path, text, head(labels=labels))

    place = f"{tmp_path / 'a.csv'}: line 3, column 'y'"
    assert str(raised.value) == f"{tmp_path / 'spec.toml'}: heads.o.labels: {place}: {message}"


def test_a_class_weight_for_a_label_that_the_data_lack_is_refused(tmp_path: Path) -> None:
    """Without labels in the spec, weights may name the labels of the data."""
    with pytest.raises(SpecError) as raised:
        load(tmp_path, AGES, head(class_weights={"yes": 2.0}))

    expected = f"{tmp_path / 'spec.toml'}: heads.o.class_weights.yes: no such label; labels: 0, 1"
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("learner", "cells", "expected", "labels"),
    [
        pytest.param(head(), ["b", "", "a"], [1, None, 0], ("a", "b"), id="binary"),
        pytest.param(
            head("multiclass"), ["10", "NA", "9"], [1, None, 0], ("9", "10"), id="multiclass"
        ),
        pytest.param(
            head(labels=("NA", "EU")), ["NA", "", "EU"], [0, None, 1], ("NA", "EU"),
            id="a label that is spelled as missing",
        ),
        pytest.param(head("regression"), ["1.5", "null", "2"], [1.5, None, 2], None, id="number"),
    ],
)  # fmt: skip
def test_a_missing_target_is_marked_where_the_head_skips_it(
    *,
    learner: HeadSpec,
    cells: list[str],
    expected: list[float | None],
    labels: tuple[str, ...] | None,
    tmp_path: Path,
) -> None:
    """Labels and numbers are those of the other rows."""
    rows = "".join(f"{n},{cell},{n}\n" for n, cell in enumerate(cells))
    skips = replace(learner, targets=(("a", "y"),), missing="skip")

    loaded = load(tmp_path, f"x,y,z\n{rows}", skips, head("regression", "z", name="all"))

    [one] = loaded.sources.values()
    targets = one.targets["o"].reshape(-1)
    there = known(targets)
    assert there.tolist() == [value is not None for value in expected]
    assert targets[there].tolist() == [value for value in expected if value is not None]
    assert (loaded.labels["o"], loaded.partial) == (labels, ("o",))


def test_a_head_without_any_target_is_refused(tmp_path: Path) -> None:
    """Skipping every row leaves nothing to learn."""
    skips = head("regression", "p", "q", missing="skip")

    with refused(DataError, "a.csv: no row has a value in 'p' and 'q', which head 'o' learns"):
        load(tmp_path, "x,p,q\n1,,2\n3,4,\n", skips)


def test_a_missing_target_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    """The message names the key that leaves the rows to the other heads."""
    with refused(
        DataError,
        "2 of 3 rows have no value, which head 'o' learns; fill them, remove those rows, or leave"
        ' them to the other heads with heads.o.missing = "skip"',
    ):
        load(tmp_path, "age,y\n20,0\n30,\n40,NA\n")


def test_the_other_cells_of_a_head_that_skips_are_checked(tmp_path: Path) -> None:
    """A cell that is there must be what the head learns; line and count are of such rows."""
    with refused(DataError, "line 4, column 'y': 1 of 2 rows are not a number, first 'much'"):
        load(tmp_path, "x,y\n1,1.5\n2,\n3,much\n", head("regression", missing="skip"))
