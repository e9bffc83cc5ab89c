"""`triceps score`: metrics of a model on a labelled file."""

import json
from dataclasses import replace

import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from service.commands.main import main
from service.commands.score import score
from service.inference.model import Model
from tests.harness import small

HEADER = "age,smoker,bmi,weight,length,digit.0,digit.1,digit.2,digit.3,risk,size,digits,heavy,long"
# The risk is high from age + bmi + 10 if smoker = 60 on; the size is weight + length.
ROWS = [
    "30,no,29,1,2,0,1,0,9,low,3,one,0,1",
    "20,yes,20,3,0,5,4,3,2,high,3.5,zero,1,1",
    "50,yes,20,3,4,5,4,3,2,,7,two,1,NA",
    "60,yes,20,3,4,0,4,3,2,high,NA,,1,1",
]


@pytest.fixture(autouse=True)
def _command(monkeypatch):
    """Have the command in the program, also where it was installed before there was one."""
    monkeypatch.setitem(main.commands, "score", score)


@pytest.fixture
def run(tmp_path):
    """Return a function that scores `three` on a file of that text.

    The function returns the exit code, standard output and standard error.
    """
    small.put(tmp_path / "models", "three", 1, small.three(models={"sized": ["size"]}))

    def command(text, *arguments, model="three", name="rows.csv"):
        path = tmp_path / name
        path.write_text(text)
        models = ["--models", str(tmp_path / "models")]
        done = CliRunner().invoke(main, ["score", model, str(path), *models, *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr.replace(f"{tmp_path}/", "")

    return command


def text(*rows, header=HEADER):
    """Return a CSV."""
    return "\n".join([header, *rows]) + "\n"


def test_each_head_has_its_metric_on_the_rows_that_have_its_target(run):
    """A row without a target is left out of that head alone; the counts say so."""
    code, out, err = run(text(*ROWS), "--json")

    average = pytest.approx(5 / 6)
    assert (code, err) == (0, "4 rows scored by three, version 1\n")
    assert json.loads(out) == {
        "rows": 4,
        "heads": {
            "risk": {"metric": "accuracy", "value": 2 / 3, "baseline": 2 / 3, "rows": 3},
            "size": {"metric": "mae", "value": 0.5 / 3, "baseline": None, "rows": 3},
            "digits": {"metric": "accuracy", "value": 2 / 3, "baseline": 1 / 3, "rows": 3},
            "tags": {"metric": "accuracy", "value": 5 / 6, "baseline": average, "rows": 3},
        },
    }


def test_a_long_file_is_scored_in_several_runs(run):
    """The batches add up."""
    code, out, _ = run(text(*ROWS * 200), "--json")

    assert code == 0
    assert json.loads(out)["rows"] == 800
    assert json.loads(out)["heads"]["risk"] == {
        "metric": "accuracy",
        "value": pytest.approx(2 / 3),
        "baseline": pytest.approx(2 / 3),
        "rows": 600,
    }


def test_people_get_a_table(run):
    """The numbers have four digits, as in the table of training."""
    _, out, _ = run(text(*ROWS))

    lines = [line.split() for line in out.splitlines()]
    assert ["head", "rows", "metric", "score", "baseline"] in lines
    assert ["size", "3", "mae", "0.1667", "–"] in lines  # noqa: RUF001  (a dash)


def test_a_misspelt_target_is_named_with_the_way_out(run):
    """The column that may hold the targets of a head is named, with the flag that says so."""
    code, _, err = run("weight,length,size,rsik\n1,2,3,yes\n", "--json")

    assert code == 0
    assert (
        "risk: not scored, since the file has no column with its targets 'risk'; "
        "if 'rsik' has them, say --target risk=rsik"
    ) in err.splitlines()


def test_only_heads_with_targets_are_computed_and_the_others_named(run):
    """The file needs only the columns that those heads read."""
    code, out, err = run("weight,length,size\n1,2,3\n", "--json")

    assert (code, list(json.loads(out)["heads"])) == (0, ["size"])
    assert err.splitlines() == [
        "1 row scored by three, version 1",
        *(
            f"{name}: not scored, since the file has no column with its targets"
            for name in ("risk", "digits", "tags")
        ),
    ]


def test_a_target_may_have_another_name(run):
    """A column of the model may be one, too; several columns are joined by commas."""
    table = "weight,length,big,h,l\n1,2,4,1,0\n"

    code, out, _ = run(table, "--json", "--target", "size=big", "--target", "tags=h, l")

    assert code == 0
    assert json.loads(out)["heads"]["size"]["value"] == 1
    assert json.loads(out)["heads"]["tags"]["value"] == 0
    _, out, _ = run(table, "--json", "--target", "size=weight")
    assert json.loads(out)["heads"]["size"]["value"] == 2


def test_a_view_is_scored_by_its_name(run):
    """It has some heads of its model."""
    assert run("weight,length,size\n1,2,3\n", model="sized")[2] == (
        "1 row scored by sized, version 1\n"
    )


@pytest.mark.parametrize(
    ("rows", "received"),
    [
        pytest.param("", "0 rows", id="no rows"),
        pytest.param("1,2,\n3,4,NA\n", "2 rows without one", id="no targets"),
    ],
)
def test_a_file_without_targets_in_its_rows_is_an_error(run, rows, received):
    """A program that checks a score by the exit code must not take nothing for good."""
    code, out, err = run(f"weight,length,size\n{rows}", "--json")

    assert (code, out) == (2, "")
    assert err == f"triceps: rows.csv: expected a row with a target of size, received {received}\n"


def test_the_columns_and_the_baseline_of_training_are_used(tmp_path, run):
    """The signature has both, so that the numbers are those of training's own table."""
    signature = small.three_signature()
    size = replace(signature.heads["size"], targets=("bulk",), constant=(4.0,))
    risk = replace(signature.heads["risk"], targets=("ill",), constant=(0.0,))
    signature = replace(signature, heads={**signature.heads, "size": size, "risk": risk})
    made = small.signed(onnx.load_from_string(small.three()), signature)
    small.put(tmp_path / "models", "trained", 1, made)
    table = text(
        "30,no,20,1,2,3,9,low",
        "60,no,20,3,4,5,9,high",
        header="age,smoker,bmi,weight,length,bulk,size,ill",
    )

    _, out, _ = run(table, "--json", model="trained")

    assert json.loads(out)["heads"] == {
        "risk": {"metric": "accuracy", "value": 1.0, "baseline": 0.5, "rows": 2},
        "size": {"metric": "mae", "value": 1.0, "baseline": 1.0, "rows": 2},
    }


@pytest.mark.parametrize(
    ("labels", "cells", "right"),
    [
        pytest.param(("no", "yes"), ["no", "yes", "0", "1", "1.0", "True"], 6, id="texts"),
        pytest.param(("7", "8"), ["7", "8.0", "07"], 3, id="numbers"),
        pytest.param(("NA", "EU"), ["NA", "EU", "0"], 3, id="a label that could be missing"),
        pytest.param(None, ["0", "1", "false"], 3, id="no labels"),
    ],
)
def test_a_cell_is_a_label_or_its_index(tmp_path, run, labels, cells, right):
    """Cells mean the same as in training."""
    made = small.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["N", 1])],
        [("y", TensorProto.FLOAT, ["N", 1])],
    )
    signature = Model.load(made.SerializeToString()).signature
    head = replace(signature.heads["y"], kind="binary", labels=labels)
    small.put(
        tmp_path / "models", "plain", 1, small.signed(made, replace(signature, heads={"y": head}))
    )
    second = ("yes", "1", "1.0", "true", "8.0", "eu")
    rows = [f"{int(cell.lower() in second)},{cell}" for cell in cells]

    code, out, _ = run("x,y\n" + "\n".join(rows) + "\n", "--json", model="plain")

    assert (code, json.loads(out)["heads"]["y"]["rows"]) == (0, len(cells))
    assert json.loads(out)["heads"]["y"]["value"] == right / len(cells)


@pytest.mark.parametrize(
    ("table", "arguments", "code", "words"),
    [
        pytest.param(
            "weight,length,size\n1,2,big\n",
            [],
            1,
            "rows.csv, line 2, column 'size': expected a number of float32, received 'big'",
            id="text for a number",
        ),
        pytest.param(
            "weight,length,size\n1,2,1e39\n", [], 1, "received '1e39'", id="too large a number"
        ),
        pytest.param(
            "weight,length,heavy,long\n1,2,1,2\n",
            [],
            1,
            "rows.csv, line 2, column 'long': expected 0 or 1, received '2'",
            id="neither 0 nor 1",
        ),
        pytest.param(
            "age,smoker,bmi,risk\n1,no,3,low\n1,no,3,hihg\n",
            [],
            1,
            "rows.csv, line 3, column 'risk': expected a label of the head 'risk' (low, high) "
            "(did you mean 'high'?), received 'hihg'",
            id="an unknown label",
        ),
        pytest.param(
            'digit,digits\n"[0,1,2,3]",3\n', [], 1, "(zero, one, two), received '3'", id="index"
        ),
        pytest.param(
            'digit,digits\n"[0,1,2,3]",true\n', [], 1, "received 'true'", id="truth of three"
        ),
        pytest.param(
            "weight,length,sizes\n1,2,3\n",
            [],
            2,
            "rows.csv, line 1: expected a column of targets (risk, size, digits, heavy, long) "
            "(did you mean 'sizes'?), received none; say --target HEAD=COLUMN",
            id="no targets",
        ),
        pytest.param("", [], 2, "rows.csv, line 1: expected a column of targets", id="empty"),
        pytest.param(
            "Weight,length,size\n1,2,3\n",
            [],
            2,
            "rows.csv, line 1: expected a column 'weight' (the file has 'Weight'), received none",
            id="a misspelt feature",
        ),
        pytest.param(
            "weight,length,size\n1,2,3\n",
            ["--target", "size=sise"],
            2,
            "--target size=sise: expected a column (did you mean 'size'?), received 'sise'",
            id="a misspelt target",
        ),
        pytest.param(
            "weight,length,size\n1,2,3\n",
            ["--target", "sise=size"],
            2,
            "expected a head, one of risk, size, digits, tags (did you mean 'size'?)",
            id="a misspelt head",
        ),
        pytest.param(
            "weight,length,size\n1,2,3\n",
            ["--target", "tags=size"],
            2,
            "--target tags=size: expected 2 columns, received 1",
            id="too few columns",
        ),
        pytest.param("weight,length,size\n1,2\n", [], 1, "line 2: expected 3 cells", id="ragged"),
        pytest.param("size\n1\n", ["--target", "size"], 2, "expected HEAD=COLUMN", id="no pair"),
        pytest.param(
            "size\n1\n",
            ["--target", "size=a", "--target", "size=b"],
            2,
            "expected each head once, received 'size' again",
            id="a head twice",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(run, table, arguments, code, words):
    """The exit code is 1 for a wrong row, and 2 for a wrong header or command line."""
    done = run(table, *arguments)

    assert done[:2] == (code, "")
    assert words in " ".join(done[2].replace("│", " ").split())


def test_a_head_without_a_kind_has_no_metric(tmp_path, run):
    """The message says how the head gets one."""
    made = small.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["N", 1])],
        [("y", TensorProto.FLOAT, ["N", 1])],
    )
    small.put(tmp_path / "models", "foreign", 1, made.SerializeToString())

    code, _, err = run("x,y\n1,1\n", model="foreign")
    assert (code, err) == (
        2,
        (
            "triceps: rows.csv, line 1: expected a column of targets (no head has a kind), "
            "received none; say triceps sign --kind HEAD=KIND, first\n"
        ),
    )
    code, _, err = run("x,y\n1,1\n", "--target", "y=y", model="foreign")
    assert (code, err) == (
        2,
        (
            "triceps: --target: 'y' is a tensor of float32[1] a row, which has no metric: "
            "give it a kind with triceps sign --kind y=KIND\n"
        ),
    )
