"""`triceps drift`: rows of a file beside those of training."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from service.commands import row_runs
from service.commands.drift import drift
from service.commands.main import main
from service.commands.sign import sign
from tests.harness import small

HEADER = "age,smoker,bmi,weight,length,digit.0,digit.1,digit.2,digit.3"


@pytest.fixture(autouse=True)
def _commands(monkeypatch):
    """Have the commands in the program as they are here, whatever is installed."""
    monkeypatch.setitem(main.commands, "drift", drift)
    monkeypatch.setitem(main.commands, "sign", sign)


def write(path, rows, seed, *, older=0.0, unknown=0.0, missing=0.0):
    """Write rows of `small.three`, with ages, unknown texts or missing ages as asked for."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER.split(","))
        for _ in range(rows):
            age = round(rng.normal(40, 8) + older, 1)
            smoker = "maybe" if rng.random() < unknown else rng.choice(["no", "yes"])
            numbers = rng.normal(10, 2, 7).round(2).tolist()
            writer.writerow([age if rng.random() >= missing else "", smoker, *numbers])
    return path


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """Return a repository with `three`, with a reference of 2,000 rows, and without one."""
    folder = tmp_path_factory.mktemp("models")
    small.put(folder, "plain", 1, small.three())
    small.put(folder, "triceps", 1, small.three())
    rows = write(folder / "rows.csv", 2000, 1)
    file = folder / "triceps/1/model.onnx"
    done = CliRunner().invoke(sign, [str(file), "--reference", str(rows), "--out", str(file)])
    assert done.exit_code == 0, done.stderr
    return folder


def run(folder, *arguments, model="triceps"):
    """Return what the command printed, on standard output and on standard error."""
    done = CliRunner().invoke(
        main, ["drift", model, *map(str, arguments), "--models", str(folder)], env={"COLUMNS": "90"}
    )
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_feature_that_has_shifted_comes_first(folder, tmp_path):
    """Its verdict, its PSI beside what chance explains, and the rows out of range."""
    rows = write(tmp_path / "rows.csv", 500, 2, older=20)

    code, shown, said = run(folder, "--in", rows)
    lines = [line.split() for line in shown.splitlines() if line.split()]

    assert code == 0
    assert not [line for line in shown.splitlines() if line.endswith(" ")]
    assert lines[0][:2] == ["feature", "verdict"]
    assert lines[2][:2] == ["insurance.age", "drift"]
    assert lines[2][-4:-1] == ["out", "of", "range:"]
    assert [line[1:3] for line in lines[3:10]] == [["no", "drift"]] * 7
    assert lines[10][:2] == ["head", "verdict"]
    assert lines[12][:2] == ["risk", "drift"]  # the answers have changed with the ages
    assert said == (
        "500 rows scored by triceps, version 1\n"
        "features are compared with those of given rows, and answers with those to given rows\n"
    )


def test_json_has_the_numbers(folder, tmp_path):
    """One object, as at `/models/NAME/drift`, with features and heads each worst first."""
    rows = write(tmp_path / "rows.csv", 500, 3, unknown=0.3, missing=0.2)

    code, shown, _ = run(folder, "--in", rows, "--json")
    found = json.loads(shown)

    assert (code, list(found)) == (0, ["since", "rows", "share", "features", "heads"])
    assert (found["since"], found["rows"], found["share"]) == (None, 500, 1.0)
    by_name = {one["feature"]: one for one in found["features"]}
    assert {one["feature"] for one in found["features"][:2]} == {
        *("insurance.age", "insurance.smoker")
    }
    assert by_name["insurance.age"]["missing"] == pytest.approx(0.2, abs=0.06)
    assert by_name["insurance.smoker"]["unseen"] == pytest.approx(0.3, abs=0.07)
    assert by_name["insurance.smoker"]["out_of_range"] is None
    assert by_name["insurance.age"]["unseen"] is None
    assert {one["verdict"] for one in found["features"][:2]} == {"drift"}
    assert {one["head"] for one in found["heads"]} == {
        *("risk", "size", "digits", "tags.heavy", "tags.long")
    }


def test_a_few_rows_have_no_verdict(folder, tmp_path):
    """Each says how many rows it has, and how many it takes."""
    rows = write(tmp_path / "rows.csv", 20, 4)

    found = json.loads(run(folder, "--in", rows, "--json")[1])

    for one in (*found["features"], *found["heads"]):
        assert one["verdict"] == f"too few rows: 20 of {one['rows_needed']}"


def test_a_file_of_any_length_is_read_in_parts(folder, tmp_path, monkeypatch):
    """The counts are those of all rows, however they are divided, and in JSON as in a CSV."""
    rows = write(tmp_path / "rows.csv", 60, 5, missing=0.3)
    whole = json.loads(run(folder, "--in", rows, "--json")[1])
    with rows.open() as file:
        lines = [
            json.dumps(
                {
                    "insurance": {
                        "age": float(row["age"]) if row["age"] else None,
                        "smoker": row["smoker"],
                        "bmi": float(row["bmi"]),
                    },
                    "fruit": [float(row["weight"]), float(row["length"])],
                    "digit": [float(row[f"digit.{n}"]) for n in range(4)],
                }
            )
            for row in csv.DictReader(file)
        ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(row_runs, "ROWS_AT_ONCE", 7)

    for file in (rows, tmp_path / "rows.jsonl"):
        assert json.loads(run(folder, "--in", file, "--json")[1]) == whole


def test_a_feature_that_the_whole_file_misses_is_an_error(folder, tmp_path):
    """Unless it is allowed for: then all of its rows are missing."""
    rows = write(tmp_path / "rows.csv", 100, 6)
    rows.write_text(rows.read_text().replace("age,", "agee,", 1))

    code, _, said = run(folder, "--in", rows)
    allowed = json.loads(run(folder, "--in", rows, "--json", "--allow-missing", "age")[1])

    assert code == 2
    assert "expected a column 'age' (the file has 'agee')" in said
    assert (allowed["features"][0]["feature"], allowed["features"][0]["missing"]) == (
        *("insurance.age", 1.0),
    )


def test_a_model_without_a_reference_says_how_to_get_one(folder, tmp_path):
    """Files of before, and foreign ones, have none."""
    rows = write(tmp_path / "rows.csv", 5, 7)

    code, _, said = run(folder, "--in", rows, model="plain")

    assert code == 1
    assert said == (
        "triceps: plain: expected a model whose signature has a reference, received one without: "
        "training records it, and triceps sign FILE.onnx --reference ROWS.csv adds it\n"
    )


def test_an_empty_file_has_no_rows(folder, tmp_path):
    """Nothing is said about any feature, and the command has not failed."""
    rows = write(tmp_path / "rows.csv", 0, 8)

    code, shown, said = run(folder, "--in", rows)

    assert code == 0
    assert "too few rows: 0 of" in shown
    assert said.startswith("0 rows scored by triceps, version 1\n")
