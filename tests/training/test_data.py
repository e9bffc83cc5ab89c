"""The data: what CSV files become, and what each wrong one is told."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import runpy
import time
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from service.host import memory
from service.signature import Feature, Statistics, Tensor
from training import data, features, rows, table, targets
from training import spec as specs
from training.errors import DataError, SpecError
from training.head_spec import HeadSpec
from training.input_spec import InputSpec
from training.spec import FitSpec, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

SHIPPED = Path(__file__).parents[2] / "training" / "data"
AGES = "age,bought\n20,0\n30,1\n40,1\n"


def make(
    folder: Path,
    inputs: list[InputSpec],
    heads: list[HeadSpec] | None = None,
    align: str = "position",
    rows: int | None = None,
) -> Spec:
    """A spec in `folder`; unless given, one binary head `o` learns the first input's target."""
    if heads is None:
        heads = [HeadSpec("o", (inputs[0].name,), "binary", ((inputs[0].name, None),))]
    return Spec(
        path=folder / "spec.toml",
        digest="",
        name="m",
        inputs={entry.name: entry for entry in inputs},
        layers={},
        heads={head.name: head for head in heads},
        align=align,
        fit=FitSpec(rows=rows),
    )


def head(
    kind: str = "binary", *columns: str | int | None, name: str = "o", **more: Any
) -> HeadSpec:
    """A head over columns of the input `a`."""
    return HeadSpec(
        name, ("a",), kind, tuple(("a", column) for column in columns or (None,)), **more
    )


def load(
    folder: Path, text: str, *heads: HeadSpec, rows: int | None = None, **more: Any
) -> rows.Data:
    """What `a.csv` with this text becomes as the input `a`."""
    (folder / "a.csv").write_bytes(text.encode())
    entry = InputSpec("a", "a.csv", **more)
    return data.load(make(folder, [entry], list(heads) or None, rows=rows))


def source(folder: Path, text: str, *heads: HeadSpec, **more: Any) -> Any:
    """The one source of `load`, with its inputs and labels."""
    found = load(folder, text, *heads, **more)
    [one] = found.sources.values()
    return SimpleNamespace(**vars(one), inputs=found.inputs, labels=found.labels)


def refused(error: type[Exception], *parts: str) -> Any:
    """Expect `error` with a message that has every part, in order."""
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts)))


# The shipped files


@pytest.mark.parametrize("name", ["insurance.csv", "fruits.csv"])
def test_the_listing_beside_the_shipped_data_makes_them_anew(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's listing writes the illustrative files byte for byte."""
    readme = (SHIPPED / "README.md").read_text("utf-8")
    script = tmp_path / "listing.py"
    script.write_text(readme.split("```python\n")[1].split("```")[0], "utf-8")
    monkeypatch.chdir(tmp_path)

    runpy.run_path(str(script), run_name="__main__")

    assert (SHIPPED / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_shipped_files_are_numbers_with_both_classes_in_the_first_14_rows(
    tmp_path: Path,
) -> None:
    """Three heads of 14 rows have something to learn from the shipped files."""
    inputs = [
        InputSpec("insurance", "insurance.csv"),
        InputSpec("fruit", "fruits.csv"),
        InputSpec("digit", "mnist_train_small.csv", header=False, target=0, image=(28, 28)),
    ]
    heads = [
        HeadSpec("o1", ("insurance",), "binary", (("insurance", None),), labels=("no", "yes")),
        HeadSpec("o2", ("fruit",), "binary", (("fruit", None),), labels=("Apple", "Banana")),
        HeadSpec("o3", ("digit",), "multiclass", (("digit", None),), labels=tuple("0123456789")),
    ]

    found = data.load(make(tmp_path, inputs, heads, rows=14), SHIPPED)

    insurance, fruit, digit = found.sources.values()
    assert found.notes == ("only the first 14 rows of each file are used (fit.rows)",)
    assert [
        table.arrays[name].shape
        for table, name in ((insurance, "insurance"), (fruit, "fruit"), (digit, "digit"))
    ] == [(14, 1), (14, 3), (14, 784)]
    assert {0, 1} == set(insurance.targets["o1"].ravel())
    assert {0, 1} == set(fruit.targets["o2"].ravel())
    assert digit.targets["o3"].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6]
    assert [f"{(SHIPPED / 'fruits.csv')}"] == [str(fruit.path)]
    assert [f.name for f in found.inputs["fruit"].features] == ["weight", "length", "redness"]


# Features


def test_numbers_of_every_spelling_share_one_tensor(tmp_path: Path) -> None:
    """Integers, floats and true/false are numbers; defaults are medians, of their own kind."""
    text = "n,x,smoker,y\n1,1.5,true,0\n 2 ,-2e1,False,1\n4,.25,TRUE,1\n8,+3.,false,0\n"

    found = source(tmp_path, text)

    assert found.arrays["a"].tolist() == [[1, 1.5, 1], [2, -20, 0], [4, 0.25, 1], [8, 3, 0]]
    assert np.float32 == found.arrays["a"].dtype
    assert (Tensor("a", "float32", (3,)),) == found.inputs["a"].tensors
    assert [(feature.name, feature.default) for feature in found.inputs["a"].features] == [
        ("n", 2),
        ("x", 0.875),
        ("smoker", 0),
    ]
    assert [int, float, int] == [type(f.default) for f in found.inputs["a"].features]
    assert (
        Statistics(1, 8, 3.75, pytest.approx(2.68095)) == found.inputs["a"].features[0].statistics
    )


def test_a_text_column_is_a_string_tensor_of_its_own(tmp_path: Path) -> None:
    """A category has its sorted values as vocabulary and the commonest as default."""
    found = source(tmp_path, "region,age,y\nwest,1,0\neast,2,1\neast,3,1\nwest,4,0\n")

    entry = found.inputs["a"]
    assert (Tensor("a", "float32", (1,)), Tensor("a.region", "string", (1,))) == entry.tensors
    assert Feature("region", "a.region", 0, "east", ("east", "west")) == entry.features[0]
    assert found.arrays["a.region"].tolist() == [["west"], ["east"], ["east"], ["west"]]
    assert object == found.arrays["a.region"].dtype


def test_missing_cells_take_the_default_and_a_note_says_so(tmp_path: Path) -> None:
    """Every spelling of missing is filled with what the signature records."""
    text = "age,region,y\n20,west,0\n,NA,1\nnull,east,1\n40,N/A,0\nNaN,west,0\n30,west,1\n"

    found = load(tmp_path, text)

    assert found.notes == (
        "a.csv: column 'age': 3 of 6 cells are missing and take 30",
        "a.csv: column 'region': 2 of 6 cells are missing and take 'west'",
    )
    assert found.sources["a.csv"].arrays["a"].ravel().tolist() == [20, 30, 30, 40, 30, 30]
    regions = found.sources["a.csv"].arrays["a.region"].ravel().tolist()
    assert regions == ["west", "west", "east", "west", "west", "west"]


def test_one_missing_cell_is_told_in_the_singular(tmp_path: Path) -> None:
    """The note reads as a sentence."""
    found = load(tmp_path, "age,y\n20,0\n,1\n41,0\n")

    assert found.notes == ("a.csv: column 'age': 1 of 3 cells is missing and takes 20",)


def test_numbers_too_long_for_float32_are_noted(tmp_path: Path) -> None:
    """Whole numbers that lose digits are told, not refused."""
    found = load(tmp_path, "id,y\n16777217,0\n5,1\n")

    [note] = found.notes
    assert note.startswith("a.csv: column 'id': whole numbers over 16,777,216 lose their last")


def test_columns_choose_features_and_their_order(tmp_path: Path) -> None:
    """`columns` takes only what it names, in that order."""
    found = source(tmp_path, "p,q,r,y\n1,2,3,0\n4,5,6,1\n", columns=("r", "p"))

    assert found.arrays["a"].tolist() == [[3, 1], [6, 4]]


def test_categorical_makes_a_text_of_numbers(tmp_path: Path) -> None:
    """A column that `categorical` names keeps its cells as they are spelled."""
    found = source(tmp_path, "zip,y\n01,0\n1,1\n", categorical=("zip",))

    assert {"a.zip"} == set(found.arrays)
    assert found.arrays["a.zip"].tolist() == [["01"], ["1"]]


def test_no_target_of_any_head_is_a_feature(tmp_path: Path) -> None:
    """Two heads of one file keep both their columns out of its input."""
    heads = (head("binary", "p", name="o"), head("regression", "r", name="q"))

    found = source(tmp_path, "p,q,r\n0,5,7\n1,6,8.5\n", *heads)

    assert [feature.name for feature in found.inputs["a"].features] == ["q"]
    assert found.targets["q"].tolist() == [[7], [8.5]]
    assert None is found.labels["q"]


def test_two_inputs_of_one_file_share_its_rows(tmp_path: Path) -> None:
    """One file is one source however many inputs it has."""
    (tmp_path / "a.csv").write_text("p,q,y\n1,2,0\n3,4,1\n", "utf-8")
    inputs = [InputSpec("a", "a.csv", columns=("p",)), InputSpec("b", "a.csv", columns=("q",))]

    found = data.load(make(tmp_path, inputs, align="sample"))

    assert list(found.sources) == ["a.csv"]
    assert {"a", "b"} == set(found.inputs)
    assert found.sources["a.csv"].arrays["b"].tolist() == [[2], [4]]


def test_quoted_cells_may_hold_commas_and_line_ends(tmp_path: Path) -> None:
    """Quoting is read as CSV means it, and lines are still counted as an editor does."""
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
    """What editors add does not change what is read."""
    found = source(tmp_path, text)

    assert found.arrays["a"].tolist() == [[20], [30]]
    assert found.targets["o"].tolist() == [[0], [1]]


def test_the_largest_float32_is_read_as_it_is_printed(tmp_path: Path) -> None:
    """Its shortest text is a little more than it is; one step further is too large."""
    largest = float(np.finfo(np.float32).max)

    found = source(tmp_path, "age,y\n3.4028235e+38,0\n-3.4028235e+38,1\n1,0\n")

    assert found.arrays["a"].tolist() == [[largest], [-largest], [1]]
    assert found.inputs["a"].features[0].statistics.max == pytest.approx(largest, rel=1e-7)
    with refused(DataError, "are too large for a float32, first '3.4028236e+38'"):
        source(tmp_path, "age,y\n3.4028236e+38,0\n1,1\n")


def test_an_image_is_its_pixels_without_a_header(tmp_path: Path) -> None:
    """A file without a header has columns by number; `target` is one of them."""
    found = source(
        tmp_path,
        "7,0,255,1,2\n8,3,4,5,6\n",
        head("multiclass"),
        header=False,
        target=0,
        image=(2, 2),
    )

    assert found.arrays["a"].tolist() == [[0, 255, 1, 2], [3, 4, 5, 6]]
    assert found.inputs["a"].size == (2, 2)
    assert (Tensor("a", "float32", (4,)),) == found.inputs["a"].tensors
    assert found.inputs["a"].statistics.max == 255
    assert found.targets["o"].tolist() == [0, 1]
    assert found.labels["o"] == ("7", "8")


def test_pixels_that_are_truth_values_are_numbers_too(tmp_path: Path) -> None:
    """The fast way of reading pixels gives way to the one that knows every spelling."""
    found = source(tmp_path, "true,0,0\nFalse,1,1\n", header=False, image=(1, 2))

    assert found.arrays["a"].tolist() == [[1, 0], [0, 1]]


def test_whole_rows_of_a_file_stay_out_with_rows(tmp_path: Path) -> None:
    """Only the first `rows` rows are looked at, so later ones may be anything."""
    found = source(tmp_path, "age,y\n20,0\n30,1\nold,2\nragged\n", rows=2)

    assert found.rows == 2


# Targets


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
    """An integer indexes labels, a text is one of them; without labels they are the values."""
    rows = "".join(f"{n},{cell}\n" for n, cell in enumerate(cells.split(",")))

    found = source(tmp_path, f"x,y\n{rows}", head(kind, labels=labels))

    assert named == found.labels["o"]
    assert expected == found.targets["o"].ravel().tolist()
    shape, dtype = ((3, 1), np.float32) if kind == "binary" else ((3,), np.int32)
    assert (shape, dtype) == (found.targets["o"].shape, found.targets["o"].dtype)


@pytest.mark.parametrize("labels", [None, ("first", "second")])
def test_multilabel_targets_are_columns_of_zeros_and_ones(
    labels: tuple[str, ...] | None, tmp_path: Path
) -> None:
    """Several columns are one head; their names are its labels unless it has some."""
    text = "x,p,q\n1,0,true\n2,1,0\n"

    found = source(tmp_path, text, head("multilabel", "p", "q", labels=labels))

    assert found.targets["o"].tolist() == [[0, 1], [1, 0]]
    assert (labels or ("p", "q")) == found.labels["o"]


def test_regression_learns_a_vector(tmp_path: Path) -> None:
    """Several columns of numbers are one head without labels."""
    found = source(tmp_path, "x,p,q\n1,0.5,7\n2,1e3,-1\n", head("regression", "p", "q"))

    assert found.targets["o"].tolist() == [[0.5, 7], [1000, -1]]
    assert found.labels == {"o": None}


# Rows that belong together


def two(folder: Path, first: str, second: str, align: str, key: str | None = None) -> rows.Data:
    """What two files of one input each become."""
    (folder / "a.csv").write_text(first, "utf-8")
    (folder / "b.csv").write_text(second, "utf-8")
    inputs = [InputSpec("a", "a.csv", key=key), InputSpec("b", "b.csv", key=key)]
    heads = [head(), HeadSpec("p", ("b",), "regression", (("b", None),))]
    return data.load(make(folder, inputs, heads, align=align))


def test_position_cuts_to_the_shortest_and_says_so(tmp_path: Path) -> None:
    """Row i goes with row i, as far as every file has one."""
    found = two(tmp_path, "x,y\n1,0\n2,1\n3,ignored\n", "z,v\n7,1\n8,2\n", "position")

    assert found.notes == ("cut to the 2 rows of b.csv (a.csv has 3)",)
    assert [table.rows for table in found.sources.values()] == [2, 2]
    assert found.labels["o"] == ("0", "1")


def test_position_of_equal_files_has_nothing_to_say(tmp_path: Path) -> None:
    """There is no note where nothing was cut."""
    assert two(tmp_path, "x,y\n1,0\n2,1\n", "z,v\n7,1\n8,2\n", "position").notes == ()


def test_key_joins_rows_in_the_order_of_the_first_file(tmp_path: Path) -> None:
    """Rows without a partner are left out, counted; the key is no feature."""
    first = "id,x,y\nc,1,0\na,2,1\nb,3,1\n"
    second = "z,id,v\n7,a,1\n9,d,0\n8,c,2\n5,e,5\n"

    found = two(tmp_path, first, second, "key", "id")

    assert found.sources["a.csv"].arrays["a"].tolist() == [[1], [2]]
    assert found.sources["b.csv"].arrays["b"].tolist() == [[8], [7]]
    assert found.sources["b.csv"].targets["p"].tolist() == [[2], [1]]
    assert found.notes == (
        "a.csv: 1 of 3 rows have no partner by key",
        "b.csv: 2 of 4 rows have no partner by key",
    )


def test_a_key_in_the_last_column_is_not_the_target(tmp_path: Path) -> None:
    """The last column but the key is the target where none is named."""
    found = two(tmp_path, "x,y,id\n1,0,a\n2,1,b\n", "z,v,id\n7,1,a\n8,2,b\n", "key", "id")

    assert found.sources["a.csv"].targets["o"].tolist() == [[0], [1]]


def test_images_join_by_key_too(tmp_path: Path) -> None:
    """The key of a file of pixels is read as text, whatever it looks like."""
    (tmp_path / "a.csv").write_text("k7,0,1,2\nk8,1,3,4\n", "utf-8")
    (tmp_path / "b.csv").write_text("k8,5,6,7\nk7,8,9,1\n", "utf-8")
    inputs = [
        InputSpec(name, f"{name}.csv", header=False, target=1, image=(1, 2), key="0")
        for name in ("a", "b")
    ]

    found = data.load(make(tmp_path, inputs, align="key"))

    assert found.sources["b.csv"].arrays["b"].tolist() == [[9, 1], [6, 7]]


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
    """A key names one row of each file."""
    with refused(error, *parts):
        two(tmp_path, first, second, "key", "id")


def sampled(folder: Path) -> rows.Data:
    """Two independent files of 3 and 10 rows; each row's target says which row it is."""
    short = "x,y\n" + "".join(f"{10 * n},{n % 2}\n" for n in range(3))
    long = "z,v\n" + "".join(f"{10 * n},{n}\n" for n in range(10))
    return two(folder, short, long, "sample")


def test_sample_pairs_every_row_of_the_longest_once(tmp_path: Path) -> None:
    """Rows of a shorter file are used equally often, to within one; rows stay whole."""
    x, y = rows.pairs(sampled(tmp_path), np.random.default_rng(0))

    assert list(range(10)) == sorted(y["p"].ravel())
    assert sorted(np.unique(x["a"], return_counts=True)[1]) == [3, 3, 4]
    assert (x["b"] == 10 * y["p"]).all()
    assert (x["a"].ravel() / 10 % 2 == y["o"].ravel()).all()


def test_sample_pairs_anew_with_every_call(tmp_path: Path) -> None:
    """No pairing of unrelated rows lasts, and a seed repeats it."""
    found = sampled(tmp_path)
    rng = np.random.default_rng(0)

    first, again = rows.pairs(found, rng)[0], rows.pairs(found, rng)[0]
    same = rows.pairs(found, np.random.default_rng(0))[0]

    assert (first["a"] != again["a"]).any()
    assert (first["a"] == same["a"]).all()
    assert (first["b"] == same["b"]).all()


def test_aligned_rows_are_paired_as_they_are(tmp_path: Path) -> None:
    """Row i of every file goes with row i."""
    found = two(tmp_path, "x,y\n1,0\n2,1\n", "z,v\n7,1\n8,2\n", "position")

    x, y = rows.pairs(found, np.random.default_rng(0))

    assert x["a"].tolist() == [[1], [2]]
    assert y["p"].tolist() == [[1], [2]]


@pytest.mark.parametrize("align", ["position", "sample"])
def test_a_split_holds_out_rows_by_seed(align: str, tmp_path: Path) -> None:
    """Every row is on one side; aligned files lose the same rows, independent ones their own."""
    text = "x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(100))
    found = two(tmp_path, text, text, align)

    kept, held = rows.split(found, 0.2, 7)
    again, _ = rows.split(found, 0.2, 7)
    other, _ = rows.split(found, 0.2, 8)

    assert held is not None
    values = {side: [s.arrays[csv[0]].ravel().tolist() for csv, s in part.sources.items()]
              for side, part in (("kept", kept), ("held", held))}  # fmt: skip
    assert list(range(100)) == sorted(values["kept"][0] + values["held"][0])
    assert [s.rows for s in held.sources.values()] == [20, 20]
    assert (align == "position") == (values["held"][0] == values["held"][1])
    assert (kept.sources["a.csv"].arrays["a"] == again.sources["a.csv"].arrays["a"]).all()
    assert (kept.sources["a.csv"].arrays["a"] != other.sources["a.csv"].arrays["a"]).any()
    assert [s.targets["p"].shape for s in held.sources.values() if "p" in s.targets] == [(20, 1)]


def test_a_split_of_nothing_holds_out_nothing(tmp_path: Path) -> None:
    """Without a fraction all rows are for training."""
    found = load(tmp_path, AGES)

    assert (found, None) == rows.split(found, 0, 1)


def test_a_split_leaves_a_row_on_either_side(tmp_path: Path) -> None:
    """However small or large the fraction, neither side is empty; one row cannot be split."""
    found = load(tmp_path, AGES)
    sizes = [
        [side.sources["a.csv"].rows for side in rows.split(found, fraction, 0)]
        for fraction in (0.01, 0.99)
    ]

    assert sizes == [[2, 1], [1, 2]]
    alone = load(tmp_path, "age,y\n1,0\n", head(labels=("no", "yes")))
    with refused(DataError, "a.csv: 1 row; fit.validation_split = 0.2 needs 2 or more"):
        rows.split(alone, 0.2, 0)


# Finding the file


@pytest.mark.parametrize(
    ("asked", "name", "write"),
    [
        pytest.param("a.csv", "a.csv", lambda c: c, id="as named"),
        pytest.param("a.csv", "A.CSV", lambda c: c, id="case"),
        pytest.param("a.csv", "A.csv.gz", gzip.compress, id="gz"),
        pytest.param("a.csv", "a.csv.xz", lzma.compress, id="xz"),
        pytest.param("a.csv", "a.csv.bz2", bz2.compress, id="bz2"),
        pytest.param("a.csv.gz", "a.csv.xz", lzma.compress, id="another suffix"),
        pytest.param("a.csv.gz", "a.csv", lambda c: c, id="no suffix"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_case_and_compression_of_a_name_do_not_matter(
    asked: str, name: str, write: Any, elsewhere: bool, tmp_path: Path
) -> None:
    """The file is found beside the spec by its path, or in the other folder by its base name."""
    folder = tmp_path / ("other" if elsewhere else "data")
    folder.mkdir()
    (folder / name).write_bytes(write(AGES.encode()))
    spec = make(tmp_path, [InputSpec("a", f"data/{asked}")])

    found = data.load(spec, folder if elsewhere else None)

    assert found.sources[f"data/{asked}"].rows == 3
    assert folder / name == found.sources[f"data/{asked}"].path


def test_a_zip_holds_one_csv(tmp_path: Path) -> None:
    """A .zip is read when it is clear which file is meant."""
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", AGES)
        archive.writestr("notes.txt", "x")
    spec = make(tmp_path, [InputSpec("a", "a.csv")])
    assert data.load(spec).sources["a.csv"].rows == 3

    with zipfile.ZipFile(tmp_path / "a.csv.zip", "a") as archive:
        archive.writestr("b.csv", AGES)
    with refused(DataError, "a.csv.zip: expected one .csv file inside, received a.csv, b.csv"):
        data.load(spec)


def test_of_two_candidates_the_exact_one_is_meant(tmp_path: Path) -> None:
    """An exact name wins; otherwise both are named."""
    (tmp_path / "A.csv").write_text(AGES, "utf-8")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(AGES.encode()))
    spec = make(tmp_path, [InputSpec("a", "a.csv")])

    with refused(SpecError, "inputs.a.csv: 'a.csv' could be A.csv and a.csv.gz in", "exactly"):
        data.load(spec)
    exact = make(tmp_path, [InputSpec("a", "A.csv")])
    assert tmp_path / "A.csv" == data.load(exact).sources["A.csv"].path


def test_an_absent_file_is_told_with_those_there(tmp_path: Path) -> None:
    """The nearest name, or all there are; an absent folder is told as such."""
    (tmp_path / "insurance.csv").write_text(AGES, "utf-8")

    with refused(
        SpecError, "spec.toml: inputs.a.csv: no file 'insurence.csv' in", "'insurance.csv'?"
    ):
        data.load(make(tmp_path, [InputSpec("a", "insurence.csv")]))
    with refused(SpecError, "no file 'zzz' in", "; CSV files there: insurance.csv"):
        data.load(make(tmp_path, [InputSpec("a", "zzz")]))
    with refused(SpecError, "no file 'zzz' in", "; --data has to hold every file of the spec"):
        data.load(make(tmp_path, [InputSpec("a", "zzz")]), tmp_path)
    with refused(SpecError, "inputs.a.csv: no folder", "nowhere' to read"):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]), tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zip"])
def test_a_damaged_archive_is_no_data(suffix: str, tmp_path: Path) -> None:
    """A file that is not what its suffix says is named with the reason."""
    (tmp_path / f"a.csv{suffix}").write_bytes(AGES.encode())

    with refused(DataError, f"a.csv{suffix}: cannot be read as a {suffix} file: "):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]))


# Bad data, bad specs


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
            'age,y\n1,0\n"2,1\n3,1\n', {}, ("a.csv: line 3: not CSV: ",), id="open quote"
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
            ",age,y\n0,20,0\n1,30,1\n", {},
            ("a.csv: column 1 has no name in the header; name it", "inputs.a.columns"),
            id="no name",
        ),
        pytest.param(
            "age;y\n1;0\n2;1\n", {},
            ("line 1: one column, 'age;y'; expected commas", "received ';'; save it"),
            id="semicolons",
        ),
        pytest.param(
            "age,y\n20,0\nabc,1\n31,1\nx,0\n22,1\n", {},
            ("a.csv: line 3, column 'age': 2 of 5 rows are not a number, first 'abc'",),
            id="not a number",
        ),
        pytest.param(
            "age,y\n20,0\n0x10,1\n1_0,0\n30,1\n", {},
            ("line 3, column 'age': 2 of 4 rows are not a number, first '0x10'",),
            id="a programmer's number",
        ),
        pytest.param(
            "age,y\n20,0\n-inf,1\nInfinity,0\n", {},
            ("line 3, column 'age': 2 of 3 rows are infinite, first '-inf'",), id="infinite",
        ),
        pytest.param(
            "age,y\n20,0\n1e39,1\n1e999,0\n", {},
            ("line 3, column 'age': 2 of 3 rows are too large for a float32, first '1e39'",),
            id="too large",
        ),
        pytest.param(
            "age,x,y\n,1,0\nNA,2,1\n", {},
            ("a.csv: column 'age': all 2 cells are empty; fill them", "inputs.a.columns"),
            id="all missing",
        ),
        pytest.param(
            "when,y\n2020-01-31,0\n2020-02-01 10:30,1\n,0\n", {},
            (("a.csv: column 'when': dates ('2020-01-31', '2020-02-01 10:30'); make them a"
             " number, as days since"), "inputs.a.categorical"),
            id="ISO dates",
        ),
        pytest.param(
            'when,y\n1/2/2020,0\n31.12.99,1\n3-Jan-2020,0\n"January 5, 2020",1\n', {},
            ("column 'when': dates (",), id="other dates",
        ),
        pytest.param(
            "who,y\n" + "".join(f"name {n},{n % 2}\n" for n in range(40)), {},
            (("a.csv: column 'who': text with 40 different values in 40 rows ('name 0', 'name 1',"
             " 'name 2', 'name 3', 'name 4', …) is no category"), "inputs.a.categorical"),
            id="names",
        ),
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
        pytest.param(
            "age,y\n20,0\n", {"rows": 2}, ("a.csv: 1 row; fit.rows = 2 needs 2 or more",),
            id="too few rows",
        ),
        pytest.param(
            "1,0,0\n2,3\n", {"header": False, "image": (1, 3)},
            ("line 2: 1 of 2 rows have not the 3 fields",), id="ragged image",
        ),
        pytest.param(
            "1,2,0\n3,4,1\n", {"header": False, "image": (2, 2, 1)},
            ("a.csv: 2 columns of pixels; inputs.a.image = [2, 2, 1] needs 2 x 2 x 1 = 4",),
            id="image size",
        ),
        pytest.param(
            "1,2,0\n3,,1\n", {"header": False, "image": (1, 2)},
            ("line 2, column '1': 1 of 2 rows have no value; a pixel has no default",),
            id="no pixel",
        ),
        pytest.param(
            "1,2,0\n3,x,1\n", {"header": False, "image": (1, 2)},
            ("a.csv: line 2, column '1': 1 of 2 rows are not a number, first 'x'",),
            id="not a pixel",
        ),
        pytest.param(
            "1,2,0\n3,1e39,1\n", {"header": False, "image": (1, 2)},
            ("line 2, column '1': 1 of 2 rows are too large for a float32, first '1e39'",),
            id="pixel too large",
        ),
        pytest.param(
            "p,q,y\n3,4,1\n5,6,0\n", {"header": False, "image": (1, 2)},
            (("line 1, column '0': 1 of 3 rows are not a number, first 'p'; if line 1 names the"
             " columns, leave header = false out"),),
            id="a header after all",
        ),
    ],
)  # fmt: skip
def test_bad_data_stop_with_file_place_and_count(
    text: str, more: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """Nothing is dropped or coerced: the message says what is wrong with how many rows."""
    with refused(DataError, *parts):
        load(tmp_path, text, **more)


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
    ("text", "labels", "said"),
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
            id="number that is no label",
        ),
    ],
)  # fmt: skip
def test_labels_that_do_not_cover_the_data_are_the_specs_fault(
    text: str, labels: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """Where the labels stand is told first, then the file, the line and how many rows."""
    with pytest.raises(SpecError) as raised:
        load(tmp_path, text, head(labels=labels))

    place = f"{tmp_path / 'a.csv'}: line 3, column 'y'"
    assert str(raised.value) == f"{tmp_path / 'spec.toml'}: heads.o.labels: {place}: {said}"


@pytest.mark.parametrize(
    ("names", "rows", "accepted"),
    [
        pytest.param(14, 14, False, id="a name for each row"),
        pytest.param(9, 10, False, id="nine of ten"),
        pytest.param(8, 10, True, id="eight of ten"),
        pytest.param(7, 7, True, id="too few to tell"),
        pytest.param(8, 8, False, id="just enough to tell"),
    ],
)
def test_a_text_with_nearly_as_many_values_as_rows_is_no_category(
    names: int,
    rows: int,
    accepted: bool,
    tmp_path: Path,
) -> None:
    """However few rows there are, names are refused unless they are said to be categories."""
    text = "who,x,y\n" + "".join(f"name {n % names},{n},{n % 2}\n" for n in range(rows))
    if accepted:
        assert load(tmp_path, text).sources["a.csv"].rows == rows
        return
    said = f"column 'who': text with {names} different values in {rows} rows ('name 0', "
    with refused(DataError, said, "inputs.a.categorical"):
        load(tmp_path, text)
    assert load(tmp_path, text, categorical=("who",)).sources["a.csv"].rows == rows


@pytest.mark.parametrize(
    ("learner", "more", "parts"),
    [
        pytest.param(
            head(), {"target": "boght"},
            ("spec.toml: inputs.a.target: no column 'boght' in", "(did you mean 'bought'?)"),
            id="input target",
        ),
        pytest.param(
            head("binary", "zzz"), {},
            ("heads.o.target: no column 'zzz' in", "a.csv'; columns: age, bought"),
            id="head target",
        ),
        pytest.param(
            head(), {"columns": ("agee",)},
            ("inputs.a.columns: no column 'agee' in", "(did you mean 'age'?)"), id="columns",
        ),
        pytest.param(
            head(), {"columns": ("age", "bought")},
            ("inputs.a.columns: 'bought' is a target, which no input may contain; remove it",),
            id="target as a feature",
        ),
        pytest.param(
            head(), {"categorical": ("ages",)},
            ("inputs.a.categorical: no column 'ages' in", "(did you mean 'age'?)"),
            id="categorical",
        ),
        pytest.param(
            head(), {"categorical": ("bought",)},
            ("inputs.a.categorical: 'bought' is no feature of this input; they are age",),
            id="categorical target",
        ),
        pytest.param(
            head("multilabel", "age", "bought"), {},
            ("inputs.a: no column of", "is left to be a feature; it has age, bought"),
            id="nothing left",
        ),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_is_the_specs_mistake(
    learner: HeadSpec, more: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """The message names the spec's key, the file and the nearest column."""
    with refused(SpecError, *parts):
        load(tmp_path, AGES, learner, **more)


def test_a_key_is_no_feature_by_name_either(tmp_path: Path) -> None:
    """`columns` cannot put the key back in."""
    with refused(SpecError, "inputs.a.columns: 'age' is the key; remove it"):
        load(tmp_path, AGES, columns=("age",), key="age")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        pytest.param(
            "city,y\nBern,0\nZürich,1\n".encode("latin-1"),
            ("a.csv: line 3: not UTF-8 (byte 0xfc, number 16 of the file); save it again",),
            id="Latin-1",
        ),
        pytest.param(
            "a,y\n1,0\n".encode("utf-16-le"),
            ("line 1: not text (byte 0x00, number 2 of the file); save it again as UTF-8",),
            id="UTF-16 without a mark",
        ),
        pytest.param("a,y\n1,0\n".encode("utf-16"), ("line 1: not UTF-8 (byte 0xff",), id="UTF-16"),
    ],
)  # fmt: skip
def test_another_encoding_is_refused(
    content: bytes, parts: tuple[str, ...], tmp_path: Path
) -> None:
    """Text that is not UTF-8 is told by line and byte."""
    (tmp_path / "a.csv").write_bytes(content)

    with refused(DataError, *parts):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]))


def test_names_are_a_category_when_the_spec_says_so(tmp_path: Path) -> None:
    """`categorical` is the way out that the refusal of names and dates points at."""
    text = "who,when,y\n" + "".join(f"name {n},2020-01-{n + 1:02},{n % 2}\n" for n in range(30))

    found = source(tmp_path, text, categorical=("who", "when"))

    assert len(found.inputs["a"].features[0].vocabulary) == 30


def test_a_header_of_numbers_is_taken_for_data(tmp_path: Path) -> None:
    """A file without a header would lose its first row, and have features called 33 and 22.7."""
    (tmp_path / "a.csv").write_text("33,22.7,male,1\n19,27.9,female,0\n", "utf-8")

    with refused(
        DataError,
        "a.csv: line 1: 3 of 4 columns are named by numbers, first '33';",
        "if line 1 is data, set header = false",
    ):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]))


def test_rows_that_are_left_out_are_noted(tmp_path: Path) -> None:
    """Who trains on 14 rows of 20,000 should know."""
    (tmp_path / "insurance.csv").write_text(AGES, "utf-8")

    found = data.load(make(tmp_path, [InputSpec("a", "insurance.csv")], rows=2))

    assert found.notes[0] == "only the first 2 rows of each file are used (fit.rows)"


# ── what would fill the memory, or take for ever ─────────────────────────────────────────────────


def _zip(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)


COMPRESS: dict[str, Callable[[Path, bytes], Any]] = {
    ".gz": lambda path, content: path.write_bytes(gzip.compress(content)),
    ".xz": lambda path, content: path.write_bytes(lzma.compress(content)),
    ".bz2": lambda path, content: path.write_bytes(bz2.compress(content)),
    ".zip": _zip,
    "": Path.write_bytes,
}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("what", ["long lines", "short lines"])
def test_what_inflates_past_the_memory_that_is_free_is_refused(
    suffix: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted as it comes, so that it is never there as a whole."""
    path = tmp_path / f"a.csv{suffix}"
    COMPRESS[suffix](path, {"long lines": b"0", "short lines": b"\n"}[what] * (64 << 20))
    free = 32 << 20
    monkeypatch.setattr(memory, "available", lambda: free)

    tracemalloc.start()
    try:
        with refused(DataError, f"a.csv{suffix}: too large: its first "):
            data.load(make(tmp_path, [InputSpec("a", "a.csv")]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < free


def test_a_zip_that_is_encrypted_is_said(tmp_path: Path) -> None:
    """As one that cannot be read, with zipfile's reason."""
    path = tmp_path / "a.csv.zip"
    _zip(path, AGES.encode())
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)

    with refused(DataError, "a.csv.zip: cannot be read as a .zip file: ", "encrypted"):
        data.load(make(tmp_path, [InputSpec("a", "a.csv")]))


MANY = 100_000


def _read_a_header(folder: Path) -> None:
    names = [f"c{i}" for i in range(MANY)]
    (folder / "a.csv").write_text(f"{','.join(names)}\n{','.join('1' * MANY)}\n")
    with pytest.MonkeyPatch.context() as patch:
        # pandas takes its time for each column, which grows with their number as well.
        frame = pd.DataFrame(np.ones((1, MANY), np.float32))
        patch.setattr(table, "_frame", lambda *_: frame)
        assert table.read(folder / "a.csv").columns == names
        assert table.read(folder / "a.csv", text=lambda names: names[-1:]).columns == names


def _choose_columns(folder: Path) -> None:
    names = tuple(f"c{i}" for i in range(MANY))
    frame = pd.DataFrame(np.ones((1, MANY), np.float32), columns=pd.Index(names))
    given = table.Table(folder / "a.csv", header=True, frame=frame)
    entry = InputSpec("a", "a.csv", columns=names, categorical=names)
    heads = [HeadSpec("o", ("a",), "multilabel", tuple(("a", name) for name in names[: MANY // 2]))]
    with refused(SpecError, "inputs.a.columns: 'c0' is a target"):
        features._features(make(folder, [entry], heads), entry, given)


def _number_the_labels(folder: Path) -> None:
    texts = tuple(map(str, range(MANY)))
    rows = np.arange(MANY)
    column = table.Column(
        folder / "a.csv", header=True, name="y", texts=texts, codes=rows, lines=rows
    )
    with refused(DataError, "are no classes for"):
        targets._own_labels(head("multiclass"), column)


def _read_a_spec(folder: Path) -> None:
    columns = ", ".join(f'"c{i}"' for i in range(MANY))
    (folder / "a.toml").write_text(
        f'name = "m"\n[inputs.a]\ncsv = "a.csv"\ncolumns = [{columns}]\n'
    )
    with refused(SpecError, "a.toml: "):
        specs.load(folder / "a.toml")


@pytest.mark.parametrize(
    "work", [_read_a_header, _choose_columns, _number_the_labels, _read_a_spec]
)
def test_many_columns_and_labels_take_a_time_that_grows_with_their_number(
    work: Callable[[Path], None], tmp_path: Path
) -> None:
    """Each of these took a minute or more when every name was looked up in a list."""
    started = time.process_time()

    work(tmp_path)

    assert time.process_time() - started < 10
