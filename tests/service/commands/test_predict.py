"""`triceps predict`: rows scored from a file get the answers of the service."""

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from service.app import create_app
from service.commands.main import main
from service.inference.batching import MOST_ROWS_WHOLE
from service.settings import Settings
from tests.harness import mixers, small

HEADER = "id,age,smoker,bmi,fruit.weight,fruit.length,digit.0,digit.1,digit.2,digit.3"
ROWS = ["a,30,no,30,1,2,0,1,0,9", "b,,yes,20,3,,5,4,3,2"]
ANSWERS = "risk,risk.label,size,digits.0,digits.1,digits.2,digits.label,tags.0,tags.1,tags.label"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a repository of `three`, with a view of it."""
    folder = tmp_path_factory.mktemp("models")
    small.put(folder, "three", 1, small.three())
    small.put(folder, "three", 2, small.three(10.0, models={"fruity": ["size", "tags"]}))
    return folder


@pytest.fixture
def file(tmp_path):
    """Return a function that writes a file of rows and returns its path."""

    def write(text, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def run(models):
    """Return a function that runs the command.

    The function returns the exit code, standard output and standard error.
    """

    def command(path, *arguments, model="three"):
        done = CliRunner().invoke(
            main, ["predict", model, "--in", str(path), "--models", str(models), *arguments]
        )
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return command


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_csv_is_written_back_with_its_answers(file, run):
    """Other columns come first, then values and labels by head; missing values are reported."""
    done = run(file("\n".join([HEADER, *ROWS])), "--heads", "digits, size")

    assert done == (
        0,
        (
            "id,digits.0,digits.1,digits.2,digits.label,size\n"
            "a,0.0,1.0,0.0,one,30.0\n"
            "b,5.0,4.0,3.0,zero,50.0\n"
        ),
        "2 rows scored by three, version 2\nfruit.length: missing in 1 of them, took its default\n",
    )


@pytest.mark.parametrize("settings", ["", "alone = true\n"], ids=["as it is", "alone"])
def test_rows_that_depend_on_each_other_are_scored_together(tmp_path, file, settings):
    """The file is one request, and is refused if it has too many rows for one."""
    small.put(tmp_path, "centred", 1, mixers.centred().SerializeToString())
    (tmp_path / "centred" / "settings.toml").write_text(settings)
    values = np.arange(MOST_ROWS_WHOLE, dtype=np.float32)
    text = "x.0,x.1,x.2,x.3\n" + "".join(f"{value},0,0,0\n" for value in values)

    def scored(name, text):
        command = ["predict", "centred", "--in", str(file(text, name)), "--models", str(tmp_path)]
        return CliRunner().invoke(main, command)

    fits, too_many = scored("fits.csv", text), scored("more.csv", text + "1,0,0,0\n")

    answers = [float(row["y.0"]) for row in csv.DictReader(io.StringIO(fits.stdout))]
    assert np.allclose(answers, values - values.mean(), atol=1e-2)
    assert (too_many.exit_code, too_many.stdout) == (1, "y.0,y.1,y.2,y.3\n")
    assert f"expected at most {MOST_ROWS_WHOLE} rows in one request" in too_many.stderr


def test_unseen_texts_are_counted_by_column(file, run):
    """They are answered, and a line on standard error says how many cells have one."""
    rows = ["a,30,maybe,30,1,2,0,1,0,9", "b,30,Yes,20,3,2,5,4,3,2", "c,30,yes,20,3,2,5,4,3,2"]

    code, out, err = run(file("\n".join([HEADER, *rows])), "--heads", "risk")

    assert (code, len(out.splitlines())) == (0, 4)
    assert err == (
        "3 rows scored by three, version 2\n"
        "insurance.smoker: a text that training never saw in 2 of them\n"
    )


def test_a_file_may_miss_more_values_than_a_request(file, run, monkeypatch):
    """The limit of a request is for one run of rows: a model of many features has shorter ones."""
    monkeypatch.setattr("service.wire.body.MOST_IMPUTED", 12)

    code, out, err = run(file("\n".join([HEADER, *[ROWS[1]] * 20])), "--heads", "size")

    assert (code, len(out.splitlines())) == (0, 21), err
    assert "fruit.length: missing in 20 of them, took its default" in err


def test_refused_texts_are_named_with_their_lines(file, tmp_path):
    """A model that refuses unseen texts scores no file that has one."""
    small.put(tmp_path, "three", 1, small.refusing())
    rows = ["a,30,maybe,30,1,2,0,1,0,9", "b,30,Yes,20,3,2,5,4,3,2"]
    path = file("\n".join([HEADER, *rows]))

    done = CliRunner().invoke(main, ["predict", "three", "--in", str(path), "--models", tmp_path])

    expected = 'expected one of "no", "yes" for smoker'
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-2:] == [
        f'triceps: {path}, line 2, insurance.smoker: {expected}, received "maybe"',
        f"{path}, line 3, insurance.smoker: {expected} (did you mean 'yes'?), received \"Yes\"",
    ]


def test_all_heads_are_answered_unless_some_are_named(file, run):
    """Each value has a column, and so has the label; the labels of a multilabel head are joined."""
    _, out, _ = run(file("\n".join([HEADER, *ROWS])))

    header, *rows = csv.reader(io.StringIO(out))
    assert header == ["id", *ANSWERS.split(",")]
    assert [(row[0], row[2], *row[3:8], row[-1]) for row in rows] == [
        ("a", "low", "30.0", "0.0", "1.0", "0.0", "one", "long"),
        ("b", "high", "50.0", "5.0", "4.0", "3.0", "zero", "heavy|long"),
    ]


def test_scores_are_the_answers_of_the_service(file, run, models):
    """The numbers are the same to the last digit, in CSV and in JSON, and so are the labels."""
    random.seed(3)
    lines = [
        ",".join(
            [
                str(i),
                random.choice(["", str(random.randint(18, 90))]),
                random.choice(["no", "yes", "perhaps", ""]),
                f"{random.uniform(15, 45):.3f}",
                *(f"{random.uniform(-3, 3):.4f}" for _ in range(2)),
                *(str(random.randint(0, 255)) for _ in range(4)),
            ]
        )
        for i in range(600)
    ]
    path = file("\n".join([HEADER, *lines]))
    instances = [
        {
            "insurance": {
                "age": int(age) if age else None,
                "smoker": smoker or None,
                "bmi": float(bmi),
            },
            "fruit": [float(weight), float(length)],
            "digit": [int(pixel) for pixel in pixels],
        }
        for _, age, smoker, bmi, weight, length, *pixels in (line.split(",") for line in lines)
    ]

    client = create_app(Settings(models=models)).test_client()
    answer = client.post("/models/three/predict", json={"instances": instances})
    wanted = answer.json["predictions"]
    _, as_csv, _ = run(path)
    _, as_json, _ = run(file("\n".join(map(json.dumps, instances)), "rows.json"))

    assert [json.loads(line) for line in as_json.splitlines()] == wanted
    for row, want in zip(csv.DictReader(io.StringIO(as_csv)), wanted, strict=True):
        assert row.pop("id")
        assert row == {
            "risk": str(np.float32(want["risk"]["value"])),
            "risk.label": want["risk"]["label"],
            "size": str(np.float32(want["size"]["value"])),
            **{f"digits.{i}": str(v) for i, v in enumerate(want["digits"]["value"])},
            "digits.label": want["digits"]["label"],
            **{
                f"tags.{i}": str(np.float32(value)) for i, value in enumerate(want["tags"]["value"])
            },
            "tags.label": "|".join(want["tags"]["label"]),
        }


def test_a_csv_may_become_json_and_keeps_its_columns(file, run, tmp_path):
    """The name of the output decides its format."""
    out = tmp_path / "answers.json"

    code, printed, _ = run(
        file("id,weight,length\n007,1,2\n"), "--heads", "size", "--out", str(out)
    )

    assert (code, printed) == (0, "")
    assert out.read_text() == '{"id":"007","size":{"value":30.0}}\n'


def test_a_cell_that_is_passed_through_ends_no_record(run, tmp_path):
    """It is the same cell in the answers, whatever characters it has."""
    rows = tmp_path / "rows.csv"
    rows.write_bytes(b'id,weight,length\n"a\rb",1,2\n"c\r\nd",1,2\n')

    assert run(rows, "--heads", "size", "--out", str(tmp_path / "answers.csv"))[0] == 0
    with (tmp_path / "answers.csv").open(newline="") as answers:
        assert [record[0] for record in csv.reader(answers)] == ["id", "a\rb", "c\r\nd"]


def test_answers_are_prefixed_where_a_column_has_the_name_of_one(file, run, tmp_path):
    """The file that a model was trained on can be scored; either all answers are prefixed or none.

    In JSON, an answer has the name of its head alone.
    """
    path, out = file("tags.label,weight,length\nx,1,2\n"), tmp_path / "answers.json"

    assert run(path, "--heads", "size,tags")[1].splitlines()[0] == (
        "tags.label,predicted.size,predicted.tags.0,predicted.tags.1,predicted.tags.label"
    )
    assert run(path, "--heads", "size", "--out", str(out))[0] == 0
    assert out.read_text() == '{"tags.label":"x","size":{"value":30.0}}\n'
    assert run(file("size,weight,length\nx,1,2\n"), "--heads", "size", "--out", str(out))[0] == 0
    assert out.read_text() == '{"size":"x","predicted.size":{"value":30.0}}\n'


def test_all_columns_may_be_kept(file, run, tmp_path):
    """They keep their order, their cells and, in JSON, their names."""
    path, out = file('length,id,weight\n2,"a, b",1.50\n'), tmp_path / "answers.jsonl"

    _, text, _ = run(path, "--heads", "size", "--keep-columns")
    code, _, _ = run(path, "--heads", "size", "--keep-columns", "--out", str(out))

    assert text == 'length,id,weight,size\n2,"a, b",1.50,35.0\n'
    assert (code, out.read_text()) == (
        0,
        '{"length":"2","id":"a, b","weight":"1.50","size":{"value":35.0}}\n',
    )


def test_only_a_csv_has_columns_to_keep(file, run):
    """The command line is wrong, since a row of JSON is an object of inputs."""
    code, out, err = run(file('{"fruit": [1, 2]}', "rows.json"), "--keep-columns")

    assert (code, out) == (2, "")
    assert "expected rows in a .csv, which has columns, received rows.json" in " ".join(
        err.replace("│", " ").split()
    )


def test_json_may_become_csv(file, run, tmp_path):
    """The name of the output decides its format."""
    out = tmp_path / "answers.csv"

    run(file('{"fruit": [1, 2]}', "rows.jsonl"), "--heads", "size", "--out", str(out))

    assert out.read_text() == "size\n30.0\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("rows.jsonl", '{"fruit": [1, 2]}\n{"fruit": {"length": 3}}\n', id="lines"),
        pytest.param("rows.json", '[{"fruit": [1, 2]}, {"fruit": {"length": 3}}]', id="list"),
        pytest.param(
            "rows.json", '{"instances": [{"fruit": [1, 2]}, {"fruit": {"length": 3}}]}', id="body"
        ),
        pytest.param("ROWS.CSV", "length,weight\n2,1\n3,\n", id="capitals"),
        pytest.param("rows.csv", "\ufefflength,weight\r\n2,1\r\n3,\r\n", id="of a spreadsheet"),
    ],
)
def test_rows_may_have_any_of_these_forms(file, run, name, text):
    """All forms give the same answers."""
    code, out, err = run(file(text, name), "--heads", "size")

    sizes = [30.0, 45.0]
    assert code == 0
    assert out in (
        "size\n30.0\n45.0\n",
        "".join(f'{{"size":{{"value":{size}}}}}\n' for size in sizes),
    )
    assert err == (
        "2 rows scored by three, version 2\nfruit.weight: missing in 1 of them, took its default\n"
    )


def test_a_version_or_a_view_may_score_rows(file, run):
    """Versions and views are named as over HTTP."""
    path = file("weight,length\n1,2\n")

    assert run(path, "--heads", "size", model="three/1")[1] == "size\n3.0\n"
    assert run(path, "--heads", "size", model="fruity")[1] == "size\n30.0\n"
    assert run(path, model="fruity")[1].startswith("size,tags.0,tags.1,tags.label\n30.0,")


def test_a_file_without_rows_has_no_answers(file, run):
    """A header without rows gives a header, so that the next program finds its columns."""
    said = "0 rows scored by three, version 2\n"
    assert run(file("id,weight,length\n"), "--heads", "size") == (0, "id,size\n", said)
    for text in ("", " \n", "[]", '{"instances": []}'):
        assert run(file(text, "rows.json"), "--heads", "size") == (0, "", said)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        pytest.param(
            "rows.csv",
            "weight,Length\n1,2\n",
            ", line 1: expected a column 'length' (the file has 'Length'), received none",
            id="CSV",
        ),
        pytest.param(
            "rows.csv",
            "weight,Length\n",
            ", line 1: expected a column 'length' (the file has 'Length'), received none",
            id="CSV without rows",
        ),
        pytest.param(
            "rows.jsonl",
            '{"fruit": {"weight": 1}}\n' * 300,
            ": expected fruit.length in some row, received none",
            id="JSON Lines",
        ),
        pytest.param(
            "rows.json",
            '{"instances": [{"fruit": {"weight": 1}}]}',
            ": expected fruit.length in some row, received none",
            id="a body",
        ),
    ],
)
def test_a_file_may_not_miss_a_feature_in_all_rows_unless_that_is_allowed(
    file, run, name, text, words
):
    """The exit code is that of a wrong file, and the answers of before stay."""
    path = file(text, name)
    out = path.with_name("answers.csv")
    out.write_text("before")
    arguments = ("--heads", "size", "--out", str(out))

    code, _, err = run(path, *arguments)

    assert (code, out.read_text()) == (2, "before")
    assert err.startswith(f"triceps: {path}{words}; --allow-missing ")
    assert err.endswith("length scores all rows with its default, 2\n")
    code, _, err = run(path, *arguments, "--allow-missing", "length", "--allow-missing", "weight")
    rows = len(out.read_text().splitlines()) - 1
    missing = f"fruit.length: missing in {rows} of them, took its default\n" if rows else ""
    assert code == 0
    assert err.partition("\n")[2] == missing


def test_only_a_feature_of_the_model_may_be_missing(file, run):
    """A misspelt name would otherwise allow nothing, in silence."""
    code, out, err = run(file("weight\n1\n"), "--allow-missing", "lenght")

    assert (code, out) == (2, "")
    assert "expected a feature (did you mean 'length'?), received 'lenght'" in " ".join(
        err.replace("│", " ").split()
    )


def test_a_single_row_is_counted_as_one(file, run):
    """The count of a message is grammatical."""
    _, _, err = run(file("weight,length\n1,2\n"), "--heads", "size")

    assert err == "1 row scored by three, version 2\n"


# ── other tensors ────────────────────────────────────────────────────────────────────────────────


def test_values_of_foreign_tensors_are_read_from_and_written_to_cells(tmp_path, file):
    """Inputs and heads are booleans, strings, bare values and lists of any length."""
    kinds = {"b": TensorProto.BOOL, "s": TensorProto.STRING, "i": TensorProto.INT64}
    model = small.model(
        [helper.make_node("Identity", [name], [f"{name}/out"]) for name in [*kinds, "v", "t"]],
        [
            *[(name, kind, ["N", 1] if name != "i" else ["N"]) for name, kind in kinds.items()],
            ("v", TensorProto.FLOAT, ["N", None]),
            ("t", TensorProto.STRING, ["N", 2]),
        ],
        [
            *[
                (f"{name}/out", kind, ["N", 1] if name != "i" else ["N"])
                for name, kind in kinds.items()
            ],
            ("v/out", TensorProto.FLOAT, ["N", None]),
            ("t/out", TensorProto.STRING, ["N", 2]),
        ],
    )
    path = tmp_path / "foreign.onnx"
    path.write_bytes(model.SerializeToString())
    rows = file('b,s,i,v,t.1,t.0\nTrue,x y,7,"[1.5, 2]","a, b",c\n')

    done = CliRunner().invoke(main, ["predict", str(path), "--in", str(rows)])

    assert done.stdout == (
        'b/out,s/out,i/out,v/out,t/out.0,t/out.1\nTrue,x y,7,"[1.5,2.0]",c,"a, b"\n'
    )


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "name", "places"),
    [
        pytest.param(
            "weight,length\n1,2\n1,two\nx,\n",
            "rows.csv",
            ["line 3, fruit.length: expected a number", "line 4, fruit.weight: expected a number"],
            id="text for numbers",
        ),
        pytest.param(
            "weight,length\n1,2\n1\n",
            "rows.csv",
            ["line 3: expected 2 cells, as the header has, received 1"],
            id="ragged",
        ),
        pytest.param(
            "weight;length\n1;2\n",
            "rows.csv",
            ["line 1: expected commas between the cells, received ';': save it comma-separated"],
            id="another separator",
        ),
        pytest.param(
            '{"fruit": [1, 2]}\n\n{"fruit": [1]}\n5\n',
            "rows.jsonl",
            ["line 3, fruit: expected 2 values", "line 4: expected an object"],
            id="lines, in their order",
        ),
        pytest.param(
            '[{"fruit": [1, 2]},\n {"friut": [1, 2]}]',
            "rows.json",
            ["row 2, friut: expected one of insurance, fruit, digit (did you mean 'fruit'?)"],
            id="an unknown input",
        ),
        pytest.param(
            '{"fruit": [1, 2]}\n{"fruit": [1, 2',
            "rows.json",
            ["line 2: not JSON: expecting ',' delimiter"],
            id="cut off",
        ),
        pytest.param(
            '{"fruit": [NaN, 1e999]}',
            "rows.json",
            ["line 1, fruit[0]: expected a number", "line 1, fruit[1]: expected a number"],
            id="no numbers",
        ),
    ],
)
def test_wrong_rows_are_reported_with_file_and_line(file, run, text, name, places):
    """All wrong rows of one batch are reported; nothing is written or left behind."""
    path = file(text, name)
    out = path.with_name("answers.csv")

    code, stdout, err = run(path, "--heads", "size", "--out", str(out))

    lines = err.removeprefix("triceps: ").splitlines()
    assert (code, stdout, len(lines)) == (1, "", len(places))
    for line, words in zip(lines, places, strict=True):
        assert line.startswith(f"{path}, {words}")
    assert list(path.parent.iterdir()) == [path]


def test_another_encoding_is_reported(file, run):
    """Old spreadsheets write other encodings."""
    path = file(b"weight\n\xff\n")

    assert run(path, "--heads", "size") == (
        1,
        "",
        f"triceps: {path}: expected UTF-8, received the byte 0xff: save it as UTF-8\n",
    )


def test_values_without_an_answer_of_the_model_are_reported(tmp_path, file):
    """They are valid numbers, so only the model itself can refuse them."""
    model = small.model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [("x", TensorProto.INT64, ["N"])],
        [("y", TensorProto.FLOAT, ["N"])],
        {"table": np.float32([5, 6])},
    )
    path = tmp_path / "table.onnx"
    path.write_bytes(model.SerializeToString())
    rows = file("x\n0\n1\n2\n")

    done = CliRunner().invoke(main, ["predict", str(path), "--in", str(rows)])

    assert (done.exit_code, done.stdout) == (1, "y\n")
    assert done.stderr.startswith(
        f"triceps: {rows}, line 2 to {rows}, line 4: the model has no answer for these values: "
    )


def test_more_than_twenty_problems_are_counted(file, run):
    """The first problems are enough to see the cause."""
    code, _, err = run(file("weight,length\n" + "x,1\n" * 30), "--heads", "size")

    assert code == 1
    assert len(err.splitlines()) == 21
    assert err.splitlines()[-1] == "and 10 more in these rows"


def test_a_prefixed_answer_may_not_have_the_name_of_a_column_either(file, run):
    """The two columns could not be distinguished, as in a file that was scored twice."""
    path = file("size,predicted.size,weight,length\n1,1,1,2\n")

    assert run(path, "--heads", "size") == (
        1,
        "",
        (
            f"triceps: {path}, line 1: the column 'predicted.size' has the name of an answer, "
            "and so has 'size': rename or remove one of them\n"
        ),
    )
    assert run(path, "--heads", "tags")[1].splitlines()[0] == (
        "size,predicted.size,tags.0,tags.1,tags.label"
    )


@pytest.mark.parametrize(("name", "kind"), [("rows.csv.gz", "gzip"), ("rows.json", "zip")])
def test_a_packed_file_is_named(file, run, name, kind):
    """Nobody can save it as UTF-8: it has to be unpacked."""
    path = file(gzip.compress(b"weight") if kind == "gzip" else b"PK\x03\x04\xff", name)

    assert run(path) == (
        1,
        "",
        f"triceps: {path}: expected text, received a {kind} file: unpack it first\n",
    )


def test_a_line_has_a_bound(file, run, monkeypatch):
    """A file without line ends is not read as one line, which would take twice its size."""
    monkeypatch.setattr("service.commands.csv_rows.LONGEST_LINE", 100)
    path = file("weight,length\n1,2\n" + "1" * 101)

    code, _, err = run(path, "--heads", "size")

    assert code == 1
    assert err == f"triceps: {path}, line 3: expected at most 100 characters, received more\n"


def test_the_file_may_be_an_argument(file, models):
    """As it is for `triceps score`."""
    path = file("weight,length\n1,2\n")
    arguments = ["--models", str(models), "--heads", "size"]

    done = CliRunner().invoke(main, ["predict", "three", str(path), *arguments])
    both = CliRunner().invoke(main, ["predict", "three", str(path), "--in", str(path), *arguments])
    none = CliRunner().invoke(main, ["predict", "three", *arguments])

    assert (done.exit_code, done.stdout) == (0, "size\n30.0\n")
    assert (both.exit_code, none.exit_code) == (2, 2)
    assert "expected the rows as FILE or by --in FILE, received both" in both.stderr
    assert "expected the rows as FILE or by --in FILE, received neither" in none.stderr


def test_a_path_keeps_the_name_of_its_model(file, run, models):
    """The name and the version of a model's file are those of its folders."""
    path = file("weight,length\n1,2\n")

    for model in (models / "three/2/model.onnx", models / "three/2"):
        _, _, err = run(path, "--heads", "size", model=str(model))

        assert err == "1 row scored by three, version 2\n"


def test_a_version_stands_behind_an_at_sign_or_a_slash(file, run):
    """The error for another character has the right one."""
    path = file("weight,length\n1,2\n")

    for model in ("three@2", "three/2"):
        code, _, err = run(path, "--heads", "size", model=model)

        assert (code, err) == (0, "1 row scored by three, version 2\n")
    code, _, err = run(path, model="three:2")
    assert code == 1
    assert (
        "model 'three:2': there is none of that name (did you mean 'three@2'?). "
        "Available: fruity, three" in err
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(
            ["--heads", "sise"],
            2,
            "expected some of risk, size, digits, tags, received 'sise' (did you mean 'size'?)",
            id="an unknown head",
        ),
        pytest.param(["--heads", ""], 2, "received ''", id="no head"),
        pytest.param(
            ["--out", "/nowhere/a.csv"],
            1,
            "triceps: /nowhere/a.csv: cannot be written: No such file or directory",
            id="no such folder",
        ),
        pytest.param(
            ["--out", "/dev/null/a.csv"],
            1,
            "triceps: /dev/null/a.csv: cannot be written: Not a directory",
            id="below a file",
        ),
    ],
)
def test_wrong_arguments_are_reported(file, run, arguments, code, words):
    """The exit code is 2 for a wrong command, and 1 for a run that failed."""
    done = run(file("\n".join([HEADER, *ROWS])), *arguments)

    assert done[:2] == (code, "")
    assert words in " ".join(done[2].replace("│", " ").split())


def test_the_error_for_a_missing_model_has_the_nearest_name(file, run):
    """The available models are listed too."""
    code, _, err = run(file("weight\n1\n"), model="tree")

    assert (code, err) == (
        1,
        (
            "triceps: tree: model 'tree': there is none of that name (did you mean 'three'?). "
            "Available: fruity, three\n"
        ),
    )


def test_an_old_answer_stays_until_the_new_one_is_whole(file, run, tmp_path):
    """The last row may be the one that is wrong."""
    out = tmp_path / "answers.csv"
    out.write_text("old")

    code, _, _ = run(
        file("weight,length\n" + "1,2\n" * 600 + "x,2\n"), "--heads", "size", "--out", str(out)
    )

    assert code == 1
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "rows.csv"]


def test_a_file_may_be_replaced_by_its_answers(file, run):
    """The file is read to the end before it is replaced."""
    path = file("id,weight,length\na,1,2\n")

    assert run(path, "--heads", "size", "--out", str(path))[0] == 0
    assert path.read_text() == "id,size\na,30.0\n"


# ── real processes ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def command(models):
    """Return the command line that scores rows with `three`."""
    run = "from service.commands.main import main; main()"
    return [sys.executable, "-c", run, "predict", "three", "--models", str(models)]


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        pytest.param(
            "rows.csv",
            "weight,length\n" + "1,2\n" * 30_000,
            "size\n",
            id="head -1, and more output than a pipe holds",
        ),
        pytest.param(
            "rows.json",
            '{"fruit": [1, 2]}',
            None,
            id="no reader, and little output that comes last",
        ),
    ],
)
def test_a_reader_that_leaves_early_causes_no_message(file, command, name, text, first):
    """`triceps predict … | head -1` is an example."""
    path = file(text, name)
    worker = subprocess.Popen(
        [*command, "--in", path, "--heads", "size"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    read = worker.stdout.readline() if first else None
    worker.stdout.close()
    err = worker.stderr.read()
    worker.stderr.close()

    assert read == first
    assert (worker.wait(timeout=20), err) == (1, "")


def test_rows_may_be_read_from_a_pipe(command):
    """The rows are JSON, since a pipe has no name that says otherwise."""
    done = subprocess.run(
        [*command, "--in", "/dev/stdin", "--heads", "size"],
        input='{"fruit": [1, 2]}\n',
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        '{"size":{"value":30.0}}\n',
        "1 row scored by three, version 2\n",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(
            "rows.csv", ("note,weight,length\n", "something that stays,1,2\n", 200_000), id="csv"
        ),
        pytest.param("rows.jsonl", ("", '{"fruit": [1.5, 2.25]}\n', 100_000), id="json lines"),
    ],
)
def test_a_long_file_takes_no_more_memory_than_a_short_one(file, command, name, text):
    """The peak sizes of a process for many rows and of one for 2,000 are compared."""
    header, row, many = text

    def kilobytes(rows):
        path = file(header + row * rows, name)
        worker = subprocess.Popen(
            [*command, "--in", path, "--heads", "size"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(worker.pid, 0)
        worker.returncode = os.waitstatus_to_exitcode(status)
        assert worker.returncode == 0
        return usage.ru_maxrss

    assert kilobytes(many) < kilobytes(2_000) + 8_000


def test_answers_are_written_as_csv_or_json(file, run, tmp_path):
    """Another name would hold JSON under a wrong extension."""
    code, _, err = run(file("\n".join([HEADER, *ROWS])), "--out", str(tmp_path / "a.xlsx"))

    assert code == 2
    assert "expected .csv or .json, received a.xlsx" in err
