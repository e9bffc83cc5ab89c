"""Samples of a real service on their way into the commands: drift, score, diff, predict."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from service.commands import json_rows
from service.commands.diff import diff
from service.commands.drift import drift
from service.commands.main import main
from service.commands.predict import predict
from service.commands.samples import samples
from service.commands.score import score
from service.commands.sign import sign
from tests.harness import small
from tests.harness.served import JSON, Served

if TYPE_CHECKING:
    from pathlib import Path

PREDICT = "/models/three/predict"
WHOLE = {
    "insurance": {"age": 47.3, "smoker": "yes", "bmi": 20.1},
    "fruit": {"weight": 1.5, "length": 2.25},
    "digit": [[1, 2], [3.5, 4]],
}
STRANGE = 'maybe, "x" \N{LATIN SMALL LETTER U WITH DIAERESIS}'
OTHER = {
    **WHOLE,
    "insurance": {"age": None, "smoker": STRANGE, "bmi": 30},
    "fruit": {"length": 2},
}
HEADER = "age,smoker,bmi,weight,length,digit.0,digit.1,digit.2,digit.3"
ROWS = [
    ["47.3", "yes", "20.1", "1.5", "2.25", "1.0", "2.0", "3.5", "4.0"],
    ["47.3", "yes", "20.1", "1.5", "2.25", "1.0", "2.0", "3.5", "4.0"],
    ["", STRANGE, "30.0", "", "2.0", "1.0", "2.0", "3.5", "4.0"],
]


@pytest.fixture(autouse=True)
def _commands(monkeypatch):
    """Have the commands in the program as they are here, whatever is installed."""
    for command in (diff, drift, predict, samples, score, sign):
        monkeypatch.setitem(main.commands, command.name, command)


def sample(folder: Path, *requests: tuple[str, dict[str, Any]], private: str = "") -> Path:
    """Have requests answered and sampled; return the folder of the samples of `three`."""
    small.put(folder / "models", "three", 1, small.three())
    small.put(folder / "models", "three", 2, small.three(2.0))
    if private:
        (folder / "models/three/settings.toml").write_text(f"private = {private}\n")
    served = Served(folder / "models", sample=1, sample_dir=str(folder / "samples"))
    for name, body in requests:
        headers = {**JSON, "X-Request-ID": name}
        assert served.ask("POST", PREDICT, json.dumps(body).encode(), headers)[0] == 200
    served.stop()
    return folder / "samples/three"


@pytest.fixture(name="sampled")
def _sampled(tmp_path):
    """Return a folder of samples: one row, two rows, and one with a part of the inputs."""
    return sample(
        tmp_path,
        ("one", {"instances": [WHOLE]}),
        ("two", {"instances": [WHOLE, OTHER]}),
        ("part", {"instances": [{"fruit": [1, 2]}], "heads": ["size"]}),
    )


def run(folder: Path, *arguments: object, models: str = "models") -> tuple[int, str, str]:
    """Return the exit code of a command, and what it printed."""
    words = [*map(str, arguments), "--models", str(folder / models)]
    done = CliRunner().invoke(main, words, env={"COLUMNS": "90"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def table(text: str) -> list[list[str]]:
    """Return the records of a CSV."""
    return [*csv.reader(io.StringIO(text))]


def test_samples_become_a_csv_with_the_rows_as_they_were_sent(sampled, tmp_path):
    """Missing values are empty cells; rows of requests for other heads are left out."""
    code, out, err = run(tmp_path, "samples", "three", sampled)

    assert code == 0, err
    assert table(out) == [HEADER.split(","), *ROWS]
    assert err == "3 samples written\n1 sample left out, without all inputs\n"


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_a_missing_value_is_null_in_either_form(tmp_path, form):
    """Its default is what a later model would have learned."""
    rows = [WHOLE, OTHER]
    columns = {
        "insurance": {
            name: [row["insurance"][name] for row in rows] for name in ("age", "smoker", "bmi")
        },
        "fruit": {"length": [2.25, 2]},
        "digit": [row["digit"] for row in rows],
    }
    body = {"instances": rows} if form == "instances" else {"inputs": columns}

    folder = sample(tmp_path, ("a", body))

    (file,) = folder.iterdir()
    found = [json.loads(line)["instance"] for line in file.read_text().splitlines()]
    assert [row["insurance"]["age"] for row in found] == [47.3, None]
    assert [row["fruit"]["weight"] for row in found] == [1.5 if form == "instances" else None, None]
    assert found[1]["insurance"]["smoker"] == STRANGE


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", 'a,"b"', "=1+1", "\0", "\u2028"])
def test_any_text_is_in_one_cell(tmp_path, text):
    """Clients choose texts, and may choose such as end a record or a line elsewhere."""
    strange = {**WHOLE, "insurance": {**WHOLE["insurance"], "smoker": text}}
    folder = sample(tmp_path, ("a", {"instances": [strange]}))
    rows = tmp_path / "rows.csv"

    assert run(tmp_path, "samples", "three", folder, "--out", rows)[0] == 0
    with rows.open(newline="", encoding="utf-8") as file:
        assert [record[1] for record in csv.reader(file)] == ["smoker", text]


def test_the_truth_is_joined_by_request_id_and_row(sampled, tmp_path):
    """The CSV has it last, and is scored as any other."""
    truth = tmp_path / "truth.csv"
    truth.write_text("risk,request_id,row,size\nhigh,two,1,4\nlow,one,,3.75\nlow,nobody,0,1\n")
    rows = tmp_path / "rows.csv"

    code, _, err = run(tmp_path, "samples", "three", sampled, "--truth", truth, "--out", rows)
    scored = run(tmp_path, "score", "three", rows, "--json")

    assert code == 0, err
    assert table(rows.read_text()) == [
        [*HEADER.split(","), "risk", "size"],
        [*ROWS[0], "low", "3.75"],
        [*ROWS[2], "high", "4"],
    ]
    assert "1 sample left out, without a truth" in err
    assert json.loads(scored[1])["heads"]["risk"]["value"] == 0.5
    assert json.loads(scored[1])["heads"]["size"]["rows"] == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,risk\na,low\n", "line 1: expected the columns request_id, row and those of targets"),
        ("request_id,row\na,0\n", "and those of targets, each once, received request_id, row"),
        ("request_id,risk,risk\n", "each once"),
        ("request_id,age\na,1\n", "received 'age', which is a column of the samples"),
        ("request_id,risk\na\n", "line 2: expected 2 cells, as the header has, received 1"),
        ("request_id,risk\na,low\na,low\n", "line 3: expected each row of a request once"),
    ],
)
def test_a_truth_of_another_form_is_refused(sampled, tmp_path, text, expected):
    """The message has its place."""
    truth = tmp_path / "truth.csv"
    truth.write_text(text)

    code, out, err = run(tmp_path, "samples", "three", sampled, "--truth", truth)

    assert (code, out) == (1, "")
    assert expected in err


def test_samples_without_the_truth_are_not_scored(sampled, tmp_path):
    """The message has the command that joins them."""
    (file,) = sampled.iterdir()

    code, _, err = run(tmp_path, "score", "three", file)

    assert code == 1
    assert f"triceps samples three {file} --truth TRUTH.csv --out ROWS.csv makes one" in err


def test_one_input_is_a_table_of_its_own(sampled, tmp_path):
    """Samples that lack only other inputs have a row in it."""
    code, out, err = run(tmp_path, "samples", "three", sampled, "--input", "fruit")
    unknown = run(tmp_path, "samples", "three", sampled, "--input", "fruits")

    assert (code, err) == (0, "4 samples written\n")
    assert table(out) == [["weight", "length"], *(row[3:5] for row in ROWS), ["1.0", "2.0"]]
    assert unknown[0] == 1
    assert "did you mean 'fruit'?" in unknown[2]


def test_private_features_have_no_column(tmp_path):
    """A CSV that had one would pretend that the values were missing."""
    folder = sample(tmp_path, ("a", {"instances": [WHOLE]}), private='["insurance.age", "digit"]')

    assert table(run(tmp_path, "samples", "three", folder)[1])[0] == HEADER.split(",")[1:5]
    code, _, err = run(tmp_path, "samples", "three", folder, "--input", "digit")
    assert (code, "expected samples with the input digit, received others" in err) == (1, True)


def test_other_rows_are_no_samples(tmp_path):
    """The message has the place of the first one."""
    small.put(tmp_path / "models", "three", 1, small.three())
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(WHOLE))
    empty = tmp_path / "empty"
    empty.mkdir()

    assert "rows.jsonl, line 1: expected a sample" in run(tmp_path, "samples", "three", file)[2]
    assert "expected a folder with samples" in run(tmp_path, "samples", "three", empty)[2]
    assert "expected a folder with samples" in run(tmp_path, "predict", "three", empty)[2]


@pytest.mark.parametrize(
    "change",
    [("47.3", "NaN"), ("47.3", "1" * 30), ('"yes"', r'"\ud800"')],
    ids=["NaN", "a huge integer", "half a surrogate pair"],
)
def test_a_value_that_has_no_cell_is_named_by_its_line(sampled, tmp_path, change):
    """No service writes it, but other programs or hands may have changed the file."""
    (file,) = sampled.iterdir()
    changed = tmp_path / "changed.jsonl"
    assert change[0] in file.read_text()
    changed.write_text(file.read_text().replace(*change))

    code, _, err = run(tmp_path, "samples", "three", changed)
    assert (code, "changed.jsonl, line 1: expected values as triceps serve" in err) == (1, True)


def test_the_folder_of_all_samples_leads_to_that_of_a_model(sampled, tmp_path):
    """Who names the folder of the setting is told which folder a command takes."""
    code, _, err = run(tmp_path, "predict", "three", sampled.parent)

    assert code == 1
    assert f"without .jsonl; those of a model are in {sampled}" in err


def test_predict_answers_samples_as_the_service_did(sampled, tmp_path):
    """It says which rows it left out; for the heads of their request, it answers them too."""
    answers = [
        json.loads(line)["answers"]
        for file in sorted(sampled.iterdir())
        for line in file.read_text().splitlines()
    ]

    code, out, err = run(tmp_path, "predict", "three", sampled)
    sizes = run(tmp_path, "predict", "three", sampled, "--heads", "size")[1]

    assert code == 0, err
    assert "1 sample left out, without insurance, digit" in err
    assert "insurance.age: missing in 1 of them, took its default" in err
    assert len([*map(json.loads, sizes.splitlines())]) == 4
    assert [*map(json.loads, out.splitlines())] == [
        answer for answer in answers if len(answer) == 4
    ]


def test_diff_compares_two_versions_on_samples(sampled, tmp_path):
    """A sample that one cannot answer is left out of both."""
    code, out, err = run(tmp_path, "diff", "three@1", "three@2", "--in", sampled, "--json")

    assert code == 0, err
    found = json.loads(out)
    assert found["rows"] == 3
    assert found["heads"]["size"]["largest"] == 3.75
    assert "1 sample left out, without insurance, digit" in found["notes"]


def test_diff_compares_samples_while_a_service_writes_more(sampled, tmp_path, monkeypatch):
    """Both versions get the samples that there were at first, in all files."""
    (file,) = sampled.iterdir()
    other = sampled / file.name.replace(".jsonl", "9.jsonl")
    other.write_text(file.read_text())
    read = json_rows.read_json
    pieces = iter([other.read_text()])

    def write_more(*arguments, **more):
        for row in read(*arguments, **more):
            with file.open("a") as growing:
                growing.write(next(pieces, ""))
            yield row

    monkeypatch.setattr("service.commands.opened_rows.read_json", write_more)
    code, out, err = run(tmp_path, "diff", "three@1", "three@2", "--in", sampled, "--json")

    assert code == 0, err
    assert json.loads(out)["rows"] == 2 * 3


def test_drift_counts_the_missing_values_of_samples(tmp_path):
    """They are as many as in the rows that were sent."""
    rng = np.random.default_rng(1)
    rows = [
        {**WHOLE, "insurance": {"age": round(age, 1), "smoker": "no", "bmi": 20}}
        for age in rng.normal(40, 8, 2000)
    ]
    few = [{**row, "insurance": {**row["insurance"], "age": None}} for row in rows[:30]]
    bodies = [{"instances": [*rows[i : i + 70], *few]} for i in range(0, 700, 70)]
    folder = sample(tmp_path, *((str(i), body) for i, body in enumerate(bodies)))
    reference = tmp_path / "reference.jsonl"
    reference.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "models/three/2/model.onnx"
    assert run(tmp_path, "sign", file, "--reference", reference, "--out", file)[0] == 0

    code, out, err = run(tmp_path, "drift", "three", "--in", folder, "--json")

    assert code == 0, err
    found = json.loads(out)
    assert found["rows"] == 1000
    assert found["features"][0]["feature"] == "insurance.age"
    assert found["features"][0]["missing"] == 0.3


def test_an_incomplete_last_line_is_left_out(sampled, tmp_path):
    """A worker that is killed may leave one; in other files, it is a mistake."""
    (file,) = sampled.iterdir()
    lines = file.read_text().splitlines(keepends=True)
    for cut in (12, 200, len(lines[0]) - 3):
        file.write_text("".join(lines) + lines[0][:cut])

        code, out, err = run(tmp_path, "samples", "three", sampled)

        assert code == 0, err
        assert table(out) == [HEADER.split(","), *ROWS]
        assert f"{file}, line 5: left out, since it is incomplete" in err

    other = tmp_path / "rows.jsonl"
    other.write_text('{"fruit": [1')
    assert "not JSON" in run(tmp_path, "predict", "three", other, "--heads", "size")[2]
