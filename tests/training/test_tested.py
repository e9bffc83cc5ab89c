"""Test rows from files of their own, which are read as the training rows are."""

import numpy as np
import pytest

from tests.harness import tiny
from tests.training.csv_data import refused
from training import rows, tested
from training import spec as specs
from training.errors import DataError, SpecError

ONE = """
name = "small"
[inputs.people]
csv = "people.csv"
[heads.bought]
after = "people"
kind = "binary"
target = "people"
[heads.city]
after = "people"
kind = "multiclass"
target = "people.city"
missing = "skip"
"""
PEOPLE = "age,plan,city,bought\n20,a,Oslo,no\n30,b,Rome,yes\n50,b,Oslo,yes\n"
TWO = """
name = "two"
align = "key"
[inputs.people]
csv = "people.csv"
key = "id"
[inputs.calls]
csv = "calls.csv"
key = "id"
[heads.bought]
after = ["people", "calls"]
kind = "binary"
target = "people"
"""
KEYED = {"people": "id,age,bought\na,20,0\nb,30,1\n", "calls": "id,calls,n\na,1,4\nb,2,5\n"}


def _load(folder, text, spec=ONE, **tables):
    """Load the rows of a test file for a spec and its tables."""
    loaded, rows = tiny.load(folder, spec, **(tables or {"people": PEOPLE}))
    (folder / "test.csv").write_text(text)
    return tested.load(loaded, rows, tested.files([str(folder / "test.csv")], loaded))


def test_a_test_file_is_read_as_the_training_file_was(tmp_path):
    """Defaults and labels are those of training, a new text stays a text, and order is free."""
    text = "bought,city,plan,age,more\nyes,Rome,z,7,1\nno,,,,2\nno,Oslo,a,9,3\n"

    test = _load(tmp_path, text)

    [source] = test.sources.values()
    assert source.path == tmp_path / "test.csv"
    assert source.arrays["people"].tolist() == [[7], [30], [9]]
    assert source.arrays["people.plan"].tolist() == [["z"], ["b"], ["a"]]
    assert {name: mask.tolist() for name, mask in source.missing.items()} == {
        "people.age": [False, True, False],
        "people.plan": [False, True, False],
    }
    assert source.targets["bought"].tolist() == [[1], [0], [0]]
    assert source.targets["city"].tolist() == [1, -1, 0]
    assert (test.labels["city"], test.partial) == (("Oslo", "Rome"), ("city",))
    assert test.notes == (
        "test.csv: column 'age': 1 of 3 cells is missing and takes the median of the training rows",
        (
            "test.csv: column 'plan': 1 of 3 cells is missing and takes the commonest text of the"
            " training rows"
        ),
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "age,plan,city,bought\n20,a,Oslo,no\n30,b,Rom,yes\n",
            ("test.csv: line 3, column 'city': 1 of 2 rows have a label that is not one of Oslo,"
            " Rome, first 'Rom' (did you mean 'Rome'?)"),
        ),
        ("age,plan,town,bought\n20,a,Oslo,no\n", "test.csv: no column 'city', which "),
        ("age,plan,city,bought\nx,a,Oslo,no\n", "line 2, column 'age': 1 of 1 rows are not a num"),
        ("age,plan,city,bought\n1,a,Oslo,\n", "1 of 1 rows have no value, which head 'bought'"),
        ("age,plan,city,bought\n1,a,,no\n", "test.csv: no row has a value in 'city'"),
        (PEOPLE, "test.csv: the training file itself, byte for byte; --test needs other rows"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_test_file_names_its_place(tmp_path, text, parts):
    """A label that training does not have is the file's mistake, and not the spec's."""
    with refused(DataError, parts):
        _load(tmp_path, text)


def test_a_test_file_without_names_has_as_many_columns(tmp_path):
    """The last column is the target, so that one more would be another one."""
    spec = ONE.replace('"people.csv"', '"people.csv"\nheader = false')
    spec = spec.replace("people.city", "people.2")

    test = _load(tmp_path, "7,b,Rome,yes\n", spec, people=PEOPLE.partition("\n")[2])
    assert [values.tolist() for values in test.sources["people.csv"].targets.values()] == [
        [[1]],
        [1],
    ]
    with refused(DataError, "test.csv: expected 4 columns, as in ", "received 5"):
        _load(tmp_path, "7,b,Rome,yes,1\n", spec, people=PEOPLE.partition("\n")[2])


def test_several_files_have_test_rows_each(tmp_path):
    """They are named by an input, and joined as the spec joins its own."""
    spec, rows = tiny.load(tmp_path, TWO, **KEYED)
    (tmp_path / "p.csv").write_text("id,age,bought\nx,40,1\ny,50,0\n")
    (tmp_path / "c.csv").write_text("id,calls,n\ny,8,0\nx,9,0\n")
    options = [f"calls={tmp_path / 'c.csv'}", f"people={tmp_path / 'p.csv'}"]

    test = tested.load(spec, rows, tested.files(options, spec))

    assert list(test.sources) == ["people.csv", "calls.csv"]
    assert test.sources["people.csv"].arrays["people"].tolist() == [[40], [50]]
    assert np.array_equal(test.sources["calls.csv"].arrays["calls"][:, 0], [9, 8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["p.csv"], "--test p.csv: expected INPUT=FILE.csv, as the spec has 2 files"),
        (["cals=p.csv"], "with one of people, calls (did you mean 'calls'?)"),
        (["people=p.csv"], "--test: missing for calls; add --test calls=FILE.csv"),
        (["people=p.csv", "people=p.csv"], "people.csv has the test rows of p.csv; remove one"),
        (["people=q.csv"], "--test people=q.csv: no file 'q.csv' in '.' (did you mean 'p.csv'?)"),
    ],
)
def test_an_option_of_another_form_is_refused(tmp_path, monkeypatch, options, message):
    """The message names the option and the inputs of the spec."""
    monkeypatch.chdir(tmp_path)
    spec = specs.load(tiny.write(tmp_path, TWO, p="", **KEYED))

    with refused(SpecError, message):
        tested.files(options, spec)


def test_a_spec_that_draws_test_rows_takes_no_test_file(tmp_path):
    """There is one score on test rows, and so one kind of them."""
    spec = specs.load(tiny.write(tmp_path, f"{ONE}[fit]\ntest_split = 0.2\n", people=PEOPLE))

    with refused(SpecError, "has test rows already, by fit.test_split = 0.2; remove one of them"):
        tested.files(["people.csv"], spec)


def test_missing_cells_of_a_test_file_take_what_the_training_rows_have(tmp_path):
    """Rows that are held out have no part in the default, of numbers and of texts."""
    table = "age,plan,city,bought\n" + "".join(
        f"{20 + number},{'ab'[number > 5]},Oslo,{'no' if number % 2 else 'yes'}\n"
        for number in range(12)
    )
    table += ",,Rome,no\n"
    text = f"{ONE}[fit]\nvalidation_split = 0.5\n"
    spec, loaded = tiny.load(tmp_path, text, people=table)
    (tmp_path / "test.csv").write_text("age,plan,city,bought\n,,Oslo,no\n")
    test = tested.load(spec, loaded, tested.files([str(tmp_path / "test.csv")], spec))

    train, held_out, divided = rows.divide(loaded, spec.fit, test)

    features = {feature.name: feature.default for feature in train.inputs["people"].features}
    assert features["age"] != loaded.inputs["people"].features[0].default
    assert (held_out is None, divided is None) == (False, False)
    [source] = divided.sources.values()
    assert source.arrays["people"].tolist() == [[features["age"]]]
    assert source.arrays["people.plan"].tolist() == [[features["plan"]]]


@pytest.mark.keras
def test_a_test_file_is_scored_and_changes_nothing_else(tmp_path):
    """The table and the provenance have its score, no epoch was chosen by it, and weights stay."""
    pytest.importorskip("keras", reason="needs the train extra")
    import onnx

    from service.inference.model import Model
    from tests.training.runs import SMALL, run

    text = f"{SMALL}validation_split = 0.25\npatience = 9\n"
    path = tiny.write(tmp_path, text, people=tiny.people(), new=tiny.people(7))

    plain = run("train", path, "--models", tmp_path / "models")
    done = run("train", path, "--models", tmp_path / "models", "--test", tmp_path / "new.csv")

    assert done.exit_code == 0, (done.output, done.exception)
    assert ("chosen_epoch" in plain.stdout, "chosen_epoch" in done.stdout) == (True, False)
    assert "18 + 6 + 7" in done.stdout
    files = [tmp_path / f"models/small/{version}/model.onnx" for version in (1, 2)]
    score = Model.load(files[1]).signature.provenance["scores"]["bought"]
    assert score["test_rows"] == 7
    assert f"{score['test']:.4f}" in done.stdout
    weights = [onnx.load(file).graph.SerializeToString(deterministic=True) for file in files]
    assert weights[0] == weights[1]
