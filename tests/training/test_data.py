"""The loading of data: the files of a spec become arrays, targets and labels."""

from __future__ import annotations

import json
import runpy
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from service.commands.main import main
from service.commands.samples import samples
from tests.harness import small
from tests.harness.served import JSON, Served
from tests.training.csv_data import AGES, head, load, make, refused, source, two
from training import data, features, table, targets
from training import spec as specs
from training.errors import DataError, SpecError
from training.head_spec import HeadSpec
from training.input_spec import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable

SHIPPED = Path(__file__).parents[2] / "training" / "data"


@pytest.mark.parametrize("name", ["insurance.csv", "fruits.csv"])
def test_the_listing_beside_the_shipped_data_reproduces_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing of the README writes the example files byte for byte."""
    readme = (SHIPPED / "README.md").read_text("utf-8")
    script = tmp_path / "listing.py"
    script.write_text(readme.split("```python\n")[1].split("```")[0], "utf-8")
    monkeypatch.chdir(tmp_path)

    runpy.run_path(str(script), run_name="__main__")

    assert (SHIPPED / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_shipped_files_are_numbers_with_both_classes_in_the_first_14_rows(
    tmp_path: Path,
) -> None:
    """The first 14 rows of the shipped files suffice to train three heads."""
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

    loaded = data.load(make(tmp_path, inputs, heads, rows=14), SHIPPED)

    insurance, fruit, digit = loaded.sources.values()
    assert loaded.notes == ("only the first 14 rows of each file are used (fit.rows)",)
    assert [
        table.arrays[name].shape
        for table, name in ((insurance, "insurance"), (fruit, "fruit"), (digit, "digit"))
    ] == [(14, 1), (14, 3), (14, 784)]
    assert {0, 1} == set(insurance.targets["o1"].ravel())
    assert {0, 1} == set(fruit.targets["o2"].ravel())
    assert digit.targets["o3"].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6]
    assert [f"{(SHIPPED / 'fruits.csv')}"] == [str(fruit.path)]
    assert [f.name for f in loaded.inputs["fruit"].features] == ["weight", "length", "redness"]


def test_two_inputs_of_one_file_share_its_rows(tmp_path: Path) -> None:
    """A file is one source, however many inputs it has."""
    (tmp_path / "a.csv").write_text("p,q,y\n1,2,0\n3,4,1\n", "utf-8")
    inputs = [InputSpec("a", "a.csv", columns=("p",)), InputSpec("b", "a.csv", columns=("q",))]

    loaded = data.load(make(tmp_path, inputs, align="sample"))

    assert list(loaded.sources) == ["a.csv"]
    assert {"a", "b"} == set(loaded.inputs)
    assert loaded.sources["a.csv"].arrays["b"].tolist() == [[2], [4]]


def test_rows_past_the_limit_are_not_read(tmp_path: Path) -> None:
    """Only the first `rows` rows are read, so later ones may be malformed."""
    loaded = source(tmp_path, "age,y\n20,0\n30,1\nold,2\nragged\n", rows=2)

    assert loaded.rows == 2


def test_rows_that_are_left_out_are_noted(tmp_path: Path) -> None:
    """A note says that only the first rows of each file are used."""
    (tmp_path / "insurance.csv").write_text(AGES, "utf-8")

    loaded = data.load(make(tmp_path, [InputSpec("a", "insurance.csv")], rows=2))

    assert loaded.notes[0] == "only the first 2 rows of each file are used (fit.rows)"


@pytest.mark.parametrize(
    ("text", "more", "parts"),
    [
        pytest.param(
            "age,y\n20,0\n", {"rows": 2}, ("a.csv: 1 row; fit.rows = 2 needs 2 or more",),
            id="too few rows",
        ),
    ],
)  # fmt: skip
def test_fewer_rows_than_the_fit_takes_are_refused(
    text: str, more: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """`fit.rows` of 2 needs a file of 2 rows or more."""
    with refused(DataError, *parts):
        load(tmp_path, text, **more)


def test_a_row_that_no_head_can_learn_is_left_out(tmp_path: Path) -> None:
    """It is counted, and its features are no part of defaults and statistics."""
    heads = [head("regression", "p", name="p"), head("multilabel", "q", "r", name="q")]
    heads = [replace(each, missing="skip") for each in heads]

    loaded = load(tmp_path, "x,p,q,r\n1,5,,1\n900,,1,\n3,,0,1\n,7,1,0\n", *heads)

    [source] = loaded.sources.values()
    assert source.arrays["a"].tolist() == [[1], [3], [1]]
    np.testing.assert_array_equal(source.targets["p"], [[5], [np.nan], [7]])
    np.testing.assert_array_equal(source.targets["q"], [[np.nan, np.nan], [0, 1], [1, 0]])
    assert loaded.notes == (
        "a.csv: 1 of 4 rows has no target and is left out",
        "a.csv: column 'x': 1 of 3 cells is missing and takes the median of the training rows",
        "a.csv: 1 of 3 rows lacks the target of head 'p', which learns from the others",
        "a.csv: 1 of 3 rows lacks the target of head 'q', which learns from the others",
    )


def test_independent_files_leave_out_their_own_rows(tmp_path: Path) -> None:
    """With align = "sample", a row of one file has no target in the other to be kept for."""
    missing = ("skip", None)

    loaded = two(tmp_path, "x,y\n1,0\n2,\n3,1\n", "z,v\n7,1\n8,2\n9,3\n", "sample", missing=missing)

    assert [source.rows for source in loaded.sources.values()] == [2, 3]
    assert loaded.partial == ()
    assert loaded.notes == ("a.csv: 1 of 3 rows has no target and is left out",)


def test_rows_that_belong_together_are_left_out_together(tmp_path: Path) -> None:
    """With align = "position", a row stays if a head of either file can learn it."""
    missing = ("skip", "skip")

    loaded = two(
        tmp_path, "x,y\n1,0\n2,\n3,\n4,1\n", "z,v\n6,1\n7,\n8,2\n9,\n", "position", missing=missing
    )

    left, right = loaded.sources.values()
    assert left.arrays["a"].tolist() == [[1], [3], [4]]
    assert right.arrays["b"].tolist() == [[6], [8], [9]]
    assert loaded.notes[0] == "a.csv, b.csv: 1 of 4 rows has no target and is left out"


MANY = 100_000


def _read_a_header(folder: Path) -> None:
    names = [f"c{i}" for i in range(MANY)]
    (folder / "a.csv").write_text(f"{','.join(names)}\n{','.join('1' * MANY)}\n")
    with pytest.MonkeyPatch.context() as patch:
        # pandas takes time for each column, which also grows with their number.
        frame = pd.DataFrame(np.ones((1, MANY), np.float32))
        patch.setattr(table, "_frame", lambda *_: frame)
        assert table.read(folder / "a.csv").columns == names
        assert table.read(folder / "a.csv", text=lambda names: names[-1:]).columns == names


def _choose_columns(folder: Path) -> None:
    names = tuple(f"c{i}" for i in range(MANY))
    frame = pd.DataFrame(np.ones((1, MANY), np.float32), columns=pd.Index(names))
    whole = table.Table(folder / "a.csv", header=True, frame=frame)
    entry = InputSpec("a", "a.csv", columns=names, categorical=names)
    heads = [HeadSpec("o", ("a",), "multilabel", tuple(("a", name) for name in names[: MANY // 2]))]
    with refused(SpecError, "inputs.a.columns: 'c0' is a target"):
        features._features(make(folder, [entry], heads), entry, whole)


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
    """Each of these took a minute or more while names were looked up in a list."""
    started = time.process_time()

    work(tmp_path)

    assert time.process_time() - started < 10


def test_samples_of_a_service_are_trained_on_as_the_rows_that_were_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table for each input, with the truth of its head: numbers, texts, missing cells, images."""
    monkeypatch.setitem(main.commands, "samples", samples)
    small.put(tmp_path / "models", "three", 1, small.three())
    served = Served(tmp_path / "models", sample=1, sample_dir=str(tmp_path / "samples"))
    rows = [
        {
            "insurance": {"age": age, "smoker": smoker, "bmi": 20.1},
            "fruit": {"weight": 0.1, "length": 1e-7},
            "digit": [[1, 2], [pixel, 4]],
        }
        for age, smoker, pixel in [(47.3, "yes", 255), (None, "no, \u00fc", 0.5), (18, None, 3)]
    ]
    body = json.dumps({"instances": rows}).encode()
    headers = {**JSON, "X-Request-ID": "a"}
    assert served.ask("POST", "/models/three/predict", body, headers)[0] == 200
    served.stop()
    truth = tmp_path / "truth.csv"
    truth.write_text("request_id,row,bought\na,0,yes\na,1,no\na,2,yes\n")
    options = ["--truth", str(truth), "--models", str(tmp_path / "models")]
    for name in ("insurance", "fruit", "digit"):
        words = ["samples", "three", str(tmp_path / "samples/three"), "--input", name, *options]
        done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / f"{name}.csv")])
        assert done.exit_code == 0, done.stderr

    inputs = [
        InputSpec("insurance", "insurance.csv"),
        InputSpec("fruit", "fruit.csv"),
        InputSpec("digit", "digit.csv", image=(2, 2)),
    ]
    heads = [
        HeadSpec(f"o{i}", (entry.name,), "binary", ((entry.name, None),), labels=("no", "yes"))
        for i, entry in enumerate(inputs)
    ]
    loaded = data.load(make(tmp_path, inputs, heads))

    insurance, fruit, digit = loaded.sources.values()
    numbers, texts = insurance.arrays.values()
    assert numbers.dtype == np.float32
    # A missing cell takes the default: the mean of a number, the commonest text.
    expected = np.array([[47.3, 20.1], [(47.3 + 18) / 2, 20.1], [18, 20.1]], np.float32)
    np.testing.assert_allclose(numbers, expected, rtol=1e-6)
    assert texts.ravel().tolist() == ["yes", "no, \u00fc", "no, \u00fc"]
    assert fruit.arrays["fruit"].tolist() == np.float32([[0.1, 1e-7]] * 3).tolist()
    assert digit.arrays["digit"].tolist() == [[1, 2, 255, 4], [1, 2, 0.5, 4], [1, 2, 3, 4]]
    assert [
        table.targets[f"o{i}"].ravel().tolist() for i, table in enumerate((insurance, fruit))
    ] == [[1, 0, 1]] * 2
