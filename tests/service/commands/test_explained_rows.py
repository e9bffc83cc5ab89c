"""`triceps predict --explain`: the parts of the answers beside them."""

import csv
import json

import pytest
from click.testing import CliRunner

from service.app import create_app
from service.commands.main import main
from service.inference.model import Model
from service.settings import Settings
from tests.harness import small

HEADER = "id,age,smoker,bmi,fruit.weight,fruit.length,digit.0,digit.1,digit.2,digit.3"
ROWS = ["a,30,no,30,1,2,0,1,0,9", "b,,yes,20,3,,5,4,3,2"]


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    """Return a repository of `three`, and of others."""
    folder = tmp_path_factory.mktemp("models")
    small.put(folder, "three", 1, small.three())
    small.put(folder, "joint", 1, small.joint())
    small.put(folder, "steps", 1, small.steps())
    small.put(folder, "long", 1, small.long())
    small.put(folder, "named", 1, small.steps("explanations"))
    small.put(folder, "wide", 1, small.wide_table(300, 0.0))
    return folder


@pytest.fixture(name="run")
def _run(models, tmp_path):
    """Return a function that explains rows; it returns the exit code, and both outputs."""

    def command(text, *arguments, model="three", name="rows.csv"):
        path = tmp_path / name
        path.write_text(text)
        command = ["predict", model, "--in", str(path), "--models", str(models), *arguments]
        done = CliRunner().invoke(main, command)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return command


def test_a_csv_has_a_column_for_each_part(run):
    """They come after the label of a head; a head that is not explained has none."""
    code, text, _ = run("\n".join([HEADER, *ROWS]), "--heads", "size,tags", "--explain")

    assert code == 0
    assert text == (
        "id,size,size.reference,size.parts.fruit.weight,size.parts.fruit.length,"
        "tags.0,tags.1,tags.label\n"
        "a,3.0,3.5,-0.5,0.0,0.5,0.7310586,long\n"
        "b,5.0,3.5,1.5,0.0,0.8807971,0.7310586,heavy|long\n"
    )


def test_json_has_the_explanations_of_the_service(run, models, tmp_path):
    """A row has the same key with the same content, by either method."""
    row = {"insurance": [30, "yes", 20], "fruit": [1, 2], "digit": [0, 1, 2, 3]}
    client = create_app(Settings(models=models)).test_client()

    for method in ("occlusion", "shapley"):
        _, text, _ = run(json.dumps(row), f"--explain={method}", name="rows.json")
        body = {"instances": [row], "explain": {"method": method}}
        answer = client.post("/models/three/predict", json=body).get_json()

        assert json.loads(text) == answer["predictions"][0]


def test_rows_are_explained_some_at_a_time(run):
    """A row of many features takes many runs, so fewer rows are in memory; none is lost."""
    header = ",".join(f"f{i}" for i in range(300))
    lines = [",".join([str(n)] + ["0"] * 299) for n in range(500)]

    code, text, _ = run("\n".join([header, *lines]), "--explain", model="wide")
    rows = list(csv.DictReader(text.splitlines()))

    assert code == 0
    assert [float(row["total"]) for row in rows] == list(range(500))
    assert [float(row["total.parts.table.f0"]) for row in rows] == list(range(500))
    assert {row["total.parts.table.f299"] for row in rows} == {"0.0"}


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        pytest.param(
            "three",
            ["--heads", "tags", "--explain"],
            "expected a head that can be explained among tags, received none: tags cannot be, "
            "since it has several numbers",
            id="no head",
        ),
        pytest.param(
            "joint",
            ["--explain"],
            "expected a model whose rows do not depend on each other, received a joint one: ",
            id="a joint model",
        ),
        pytest.param(
            "named",
            ["--explain"],
            "expected no head of the name 'explanations': leave it out by --heads",
            id="a head of the name",
        ),
        pytest.param(
            "three",
            ["--explain", "rows.csv"],
            "expected one of occlusion, shapley, received 'rows.csv': write --explain=occlusion, "
            "or --explain as the last word",
            id="a file in place of a method",
        ),
    ],
)
def test_what_cannot_be_explained_is_refused_before_any_row(run, model, arguments, message):
    """The message names the option."""
    code, text, error = run("\n".join([HEADER, *ROWS]), *arguments, model=model)

    assert (code, text) == (2, "")
    assert f"Invalid value for --explain: {message}" in error.replace("'--explain'", "--explain")


def test_rows_of_any_length_are_explained_as_json_alone(run):
    """A CSV has the same columns for all rows."""
    row = json.dumps({"x": [1, 2, 3]})

    _, text, _ = run(row, "--explain", model="steps", name="rows.json")
    code, _, error = run(row, "--explain", "--out", "x.csv", model="steps", name="rows.json")

    assert json.loads(text)["explanations"]["y"]["parts"] == {"x[0]": 1, "x[1]": 2, "x[2]": 3}
    assert code == 2
    assert "expected answers in .json, since x has rows of any length" in error


def test_the_runs_of_a_row_are_run_some_at_a_time(run, monkeypatch):
    """All of them have 164 MB of answers to a head that is not explained."""
    sizes = []
    predict = Model.predict

    def counted(self, arrays, heads):
        outputs = predict(self, arrays, heads)
        sizes.append(sum(output.nbytes for output in outputs.values()))
        return outputs

    monkeypatch.setattr(Model, "predict", counted)
    row = json.dumps({"x": list(range(8))})
    code, out, _ = run(row, "--explain=shapley", model="long", name="rows.json")

    assert code == 0
    answer = json.loads(out)
    assert list(answer["explanations"]["y"]["parts"].values()) == list(range(8))
    assert len(answer["long"]["value"]) == 160_000
    assert max(sizes) < 2**26
