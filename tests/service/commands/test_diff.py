"""`triceps diff`: what differs between two models, in their signatures and in their answers."""

import json
import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from service.commands import compared_answers, row_runs
from service.commands.main import main
from service.signature import Feature, Head, Statistics, Tensor, tabular
from tests.harness import small

F = small.F


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Return the repository `models` of the working directory."""
    monkeypatch.chdir(tmp_path)
    small.put(tmp_path / "models", "three", 1, small.three())
    small.put(tmp_path / "models", "three", 2, small.three(2.0))
    (tmp_path / "models" / "three" / "aliases.json").write_text('{"stable": "1"}')
    return tmp_path / "models"


def run(*arguments):
    """Return the exit code, standard output and standard error of the command."""
    done = CliRunner().invoke(main, ["diff", *map(str, arguments)], env={"COLUMNS": "140"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def facts(*arguments):
    """Return the JSON that the command prints."""
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def rows(text):
    """Return the lines of tables, each as its cells."""
    return [tuple(line.split()) for line in text.splitlines() if line.strip(" ─")]


def table(*values):
    """Return a model of a table with these features, whose head `size` adds them up, weighted.

    Args:
        values: the name, the default and the weight of each feature.
    """
    features = [Feature(name, "", default=default) for name, default, _ in values]
    entry = tabular("fruit", features)
    weights = np.array([[weight] for *_, weight in values], np.float32)
    made = small.model(
        [helper.make_node("MatMul", ["fruit", "w"], ["size"])],
        [("fruit", F, ["batch", len(values)])],
        [("size", F, ["batch", 1])],
        {"w": weights},
    )
    head = Head("size", "regression", Tensor("size", "float32", (1,)))
    signature = replace(
        small.three_signature(golden=False), inputs={"fruit": entry}, heads={"size": head}
    )
    return small.signed(made, signature)


def test_two_versions_are_compared_on_their_golden_rows(models):
    """The output has the changed facts, the differences by head, and the rows that differ most."""
    signature = small.three_signature(2.0)
    risk = replace(signature.heads["risk"], threshold=0.4, labels=("low", "severe"))
    changed = replace(
        signature, heads={**signature.heads, "risk": risk}, provenance={"seed": 7}, golden=None
    )
    small.put(models, "three", 3, small.signed(onnx.load_from_string(small.three(2.0)), changed))

    code, out, err = run("three@stable", "three@3")

    assert (code, err) == (0, "")
    assert rows(out) == [
        tuple(line.format(dash="\u2013").split())
        for line in """
            A: three, version 1
            B: three, version 3
            Signature
            A B
            heads.risk.labels only here: high only here: severe
            heads.risk.threshold 0.5 0.4
            provenance {dash} seed 7
            Answers to 3 rows of both models
            head labels differ largest mean
            risk 2 (66.67%) 0 0
            size 3.5 2.667
            digits 0 (0.00%) 0 0
            tags 0 (0.00%) 0 0
            Rows that differ most
            head row A B
            risk golden row 1 of A low 0.5 severe 0.5
            risk golden row 2 of A low 0.5 severe 0.5
            size example of B 3.5 7
            size golden row 2 of A 2.5 5
            size golden row 1 of A 2 4
        """.strip().splitlines()
    ]


def test_json_is_one_object(models):
    """Shares are fractions, and the answers are those of the native format."""
    edges = [10.0**power for power in range(-9, 7)]
    same = {
        "rows": 2,
        "labels_differ": 0.0,
        "largest": 0.0,
        "mean": 0.0,
        "not_finite": 0,
        "histogram": {"edges": edges, "rows": [2, *[0] * 16]},
        "most": [],
    }

    assert facts("three@1", "three@2") == {
        "first": {"name": "three", "version": "1"},
        "second": {"name": "three", "version": "2"},
        "signature": [],
        "rows": 2,
        "heads": {
            "risk": same,
            "size": {
                "rows": 2,
                "labels_differ": None,
                "largest": 2.5,
                "mean": 2.25,
                "not_finite": 0,
                "histogram": {"edges": edges, "rows": [*[0] * 10, 2, *[0] * 6]},
                "most": [
                    {
                        "row": "golden row 2 of A",
                        "difference": 2.5,
                        "first": {"value": 2.5},
                        "second": {"value": 5.0},
                    },
                    {
                        "row": "golden row 1 of A",
                        "difference": 2.0,
                        "first": {"value": 2.0},
                        "second": {"value": 4.0},
                    },
                ],
            },
            "digits": same,
            "tags": same,
        },
        "notes": [],
    }


def test_a_model_does_not_differ_from_itself(models):
    """No table of changes is printed then."""
    assert "the signatures are the same\n" in run("three@1", "three/1")[1]
    assert facts("three@1", "models/three/1")["signature"] == []


def test_every_fact_of_a_signature_may_differ(models):
    """A fact that only one model has misses on the other side."""
    signature = small.three_signature()
    insurance = tabular(
        "insurance",
        [
            Feature(
                "age",
                "",
                default=40,
                vocabulary=None,
                statistics=Statistics(18, 71, 40.0, 12.0),
            ),
            Feature("smoker", "", default="no", vocabulary=("no", "yes", "never")),
            Feature("bmi", "", statistics=Statistics(17, 50, 30.0, 6.0)),
        ],
    )
    fruit = tabular("fruit", [Feature("length", "", default=2), Feature("weight", "", default=1.5)])
    changed = replace(
        signature,
        inputs={**signature.inputs, "insurance": insurance, "fruit": fruit},
        models={"risky": ("risk",)},
        warnings=({"code": "below_baseline", "message": "no better", "head": "risk"},),
        golden=None,
    )
    small.put(models, "three", 3, small.signed(onnx.load_from_string(small.three()), changed))

    assert facts("three@1", "three@3")["signature"] == [
        {"at": "inputs.insurance.features.age.default", "first": 38, "second": 40},
        {"at": "inputs.insurance.features.age.max", "first": 70, "second": 71},
        {
            "at": "inputs.insurance.features.smoker.vocabulary",
            "first": ["no", "yes"],
            "second": ["no", "yes", "never"],
        },
        {
            "at": "inputs.fruit.columns",
            "first": ["weight", "length"],
            "second": ["length", "weight"],
        },
        {"at": "models", "second": {"risky": ["risk"]}},
        {
            "at": "warnings",
            "second": [{"code": "below_baseline", "message": "no better", "head": "risk"}],
        },
    ]


def test_an_input_may_have_features_in_one_model_alone(models):
    """A file without features, as before `triceps sign`, is compared, and has none of them."""
    signature = small.three_signature()
    fruit = signature.inputs["fruit"]
    plain = replace(fruit, kind="tensor", features=())
    unsigned = replace(signature, inputs={**signature.inputs, "fruit": plain}, golden=None)
    small.put(models, "three", 3, small.signed(onnx.load_from_string(small.three()), unsigned))

    for sides in (("three@1", "three@3"), ("three@3", "three@1")):
        changes = facts(*sides)["signature"]

        only = "first" if sides[0] == "three@1" else "second"
        [features] = [one for one in changes if one["at"] == "inputs.fruit.features"]
        assert [*features] == ["at", only]
        assert [*features[only]] == ["weight", "length"]
        assert not [one for one in changes if one["at"] == "inputs.fruit.columns"]
    code, out, _ = run("three@1", "three@3")
    assert code == 0
    assert ("inputs.fruit.features", "weight,", "length", "–") in rows(out)  # noqa: RUF001


CSV = "weight,length,note\n1,1,a\n2,2,b\n,3,c\n"
JSON = '{"fruit": {"weight": 1, "length": 1}}\n{"fruit": [2, 2]}\n{"fruit": {"length": 3}}\n'


@pytest.mark.parametrize(("name", "text"), [("rows.csv", CSV), ("rows.jsonl", JSON)])
def test_the_rows_of_a_file_are_answered_by_both(models, tmp_path, name, text):
    """A row has its place in the file, and a missing value the default of each model."""
    small.put(models, "three", 3, small.three(4.0))
    (tmp_path / name).write_text(text)

    found = facts("three@1", "three@3", "--in", name, "--heads", "size")

    place = "row" if name == "rows.json" else "line"
    first = 2 if name == "rows.csv" else 1
    [size] = found["heads"].values()
    assert (found["rows"], size["largest"], size["mean"]) == (3, 13.5, pytest.approx(31.5 / 3))
    assert [(row["row"], row["first"]["value"]) for row in size["most"]] == [
        (f"{name}, {place} {first + 2}", 4.5),
        (f"{name}, {place} {first + 1}", 4.0),
        (f"{name}, {place} {first}", 2.0),
    ]
    assert found["notes"] == ["fruit.weight: missing in 1 of them, took its default"]


def test_other_features_and_heads_are_compared_on_what_both_have(tmp_path, monkeypatch):
    """Each model gets its own features out of the same row, in the order of its own columns."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").write_bytes(table(("weight", 1.0, 1), ("length", None, 10)))
    (tmp_path / "b.onnx").write_bytes(
        table(("length", None, 10), ("redness", 0.5, 100), ("weight", 1.0, 2))
    )
    (tmp_path / "rows.csv").write_text("weight,length,redness\n1,2,0\n3,4,1\n")
    (tmp_path / "rows.json").write_text(
        '[{"fruit": {"weight": 1, "length": 2, "redness": 0}}, '
        '{"fruit": {"weight": 3, "length": 4, "redness": 1}}]'
    )

    for file in ("rows.csv", "rows.json"):
        found = facts("a.onnx", "b.onnx", "--in", file)
        assert [
            (row["first"]["value"], row["second"]["value"])
            for row in found["heads"]["size"]["most"]
        ] == [(43.0, 146.0), (21.0, 22.0)]
        assert found["notes"] == []
    example = facts("a.onnx", "b.onnx")
    assert example["signature"][0] == {
        "at": "inputs.fruit.features.redness",
        "second": {"dtype": "float32", "default": 0.5},
    }
    assert example["heads"]["size"]["most"][0]["row"] == "example of A"
    assert example["notes"] == ["B: fruit.redness: missing in 1 of them, took its default"]


def test_heads_that_are_not_in_both_are_named(models, tmp_path):
    """So are those of another kind, and what the one has and the other lacks is no error."""
    signature = small.three_signature(golden=False)
    tags = replace(signature.heads["tags"], kind="regression", labels=None, threshold=None)
    heads = {"risk": signature.heads["risk"], "tags": tags, "digits": signature.heads["digits"]}
    made = onnx.load_from_string(small.three())
    [size] = [output for output in made.graph.output if output.name == "size"]
    made.graph.output.remove(size)
    (tmp_path / "b.onnx").write_bytes(
        small.signed(made, replace(signature, heads=heads, models={}))
    )

    found = facts("three", "b.onnx")

    assert [*found["heads"]] == ["risk", "digits"]
    assert found["notes"] == [
        "head 'size' is not compared: only A has it",
        "head 'tags' is not compared: it is multilabel in one, and regression in the other",
    ]


def test_golden_rows_that_only_one_model_takes_are_left_out(tmp_path, monkeypatch):
    """The note says what the other misses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").write_bytes(table(("weight", 1.0, 1)))
    (tmp_path / "b.onnx").write_bytes(table(("weight", 1.0, 1), ("length", None, 10)))

    found = facts("a.onnx", "b.onnx")

    assert found["rows"] == 1
    assert found["heads"]["size"]["most"] == []
    assert found["notes"] == [
        (
            "not compared: example of A, fruit.length: expected a number for length, which has no "
            "default, received nothing"
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["three@1", "three@2"], 0, id="not asked for"),
        pytest.param(["three@1", "three@2", "--tolerance", "2"], 1, id="more than the tolerance"),
        pytest.param(["three@1", "three@2", "--tolerance", "2.5"], 0, id="within the tolerance"),
        pytest.param(["three@1", "three@1", "--tolerance", "0"], 0, id="no difference"),
        pytest.param(
            ["three@1", "three@2", "--tolerance", "0", "--heads", "risk,tags"], 0, id="other heads"
        ),
        pytest.param(["three@1", "severe.onnx", "--tolerance", "9"], 1, id="another label"),
        pytest.param(["three@1", "fewer.onnx", "--tolerance", "9"], 1, id="a head in one alone"),
        pytest.param(["none.onnx", "none.onnx", "--tolerance", "9"], 1, id="no rows"),
    ],
)
def test_a_tolerance_decides_the_exit_code(models, tmp_path, arguments, code):
    """What is not known to be the same is not within any tolerance."""
    signature = small.three_signature()
    graph = onnx.load_from_string(small.three())
    risk = replace(signature.heads["risk"], labels=("low", "severe"), threshold=0.4)
    severe = replace(signature, heads={**signature.heads, "risk": risk})
    (tmp_path / "severe.onnx").write_bytes(small.signed(graph, severe))
    made = small.model(
        [helper.make_node("Gather", ["w", "x"], ["y"])],
        [("x", onnx.TensorProto.INT64, ["n", 1])],
        [("y", F, ["n", 1, "m"])],
        {"w": np.ones((0, 2), np.float32)},
    )
    (tmp_path / "none.onnx").write_bytes(made.SerializeToString())
    (tmp_path / "fewer.onnx").write_bytes(table(("weight", 1.0, 1), ("length", 1.0, 1)))

    assert run(*arguments)[0] == code


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("rows.csv", "weight,length\n", id="a header alone"),
        pytest.param("rows.json", "[]", id="an empty list"),
        pytest.param("rows.jsonl", "", id="an empty file"),
    ],
)
def test_a_file_without_rows_is_named(models, tmp_path, name, text):
    """Nothing else would say why the tolerance is not kept."""
    (tmp_path / name).write_text(text)
    arguments = ["three@1", "three@1", "--in", name, "--heads", "size", "--tolerance", "1"]

    code, out, err = run(*arguments)

    assert (code, err) == (1, "")
    assert out.splitlines()[-1] == f"note: no rows are compared: {name} has none"


def test_values_without_parts_in_common_are_shown_whole(models, tmp_path):
    """A shape is no set: [3] and [4] differ as a whole; and what only one has is a list, too."""
    digits = {"digits": ("x", "y", "z")}
    for name, size, labels in (("a", 3, None), ("b", 4, None), ("c", 3, digits["digits"])):
        made = small.model(
            [helper.make_node("MatMul", ["x", "w"], ["digits"])],
            [("x", F, ["n", 2])],
            [("digits", F, ["n", size])],
            {"w": np.ones((2, size), np.float32)},
        )
        head = Head("digits", "multiclass", Tensor("digits", "float32", (size,)), labels)
        signature = replace(
            small.three_signature(golden=False),
            inputs={"x": tabular("x", [Feature("a", "", default=1.0), Feature("b", "")])},
            heads={"digits": head},
        )
        (tmp_path / f"{name}.onnx").write_bytes(small.signed(made, signature))

    assert ("heads.digits.shape", "[3]", "[4]") in rows(run("a.onnx", "b.onnx")[1])
    assert ("heads.digits.labels", "x,", "y,", "z", "–") in rows(run("c.onnx", "a.onnx")[1])  # noqa: RUF001


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(
            ["three", "tree"],
            1,
            "triceps: tree: model 'tree': there is none of that name (did you mean 'three'?). "
            "Available: three\n",
            id="no such model",
        ),
        pytest.param(
            ["three", "three", "--heads", "sise"],
            2,
            "expected some of risk, size, digits, tags, received 'sise' (did you mean 'size'?)",
            id="no such head",
        ),
        pytest.param(
            ["three", "three", "--in", "rows.csv", "--heads", "size"],
            2,
            "rows.csv, line 1: expected a column 'weight' (the file has 'wieght'), received none; "
            "--allow-missing weight scores all rows with its default, 1.5\n",
            id="a misspelt column",
        ),
        pytest.param(
            ["three", "three", "--in", "bad.csv", "--heads", "size"],
            1,
            'bad.csv, line 3, fruit.length: expected a number for length, received "long"',
            id="a wrong value",
        ),
        pytest.param(
            ["three", "three", "--in", "rows.csv", "--allow-missing", "wieght"],
            2,
            "expected a feature (did you mean 'weight'?), received 'wieght'",
            id="no such feature",
        ),
        pytest.param(
            ["three", "whole.onnx", "--in", "rows.csv"],
            2,
            "no rows are compared: B takes whole tensors",
            id="no model of rows",
        ),
        pytest.param(
            ["three", "three", "--tolerance", "nan"],
            2,
            "Invalid value for '--tolerance': nan is not in the range 0 to",
            id="a tolerance that allows everything",
        ),
        pytest.param(
            ["three", "three", "--in", "pipe"],
            1,
            "pipe: expected a regular file, which is read twice",
            id="a pipe",
        ),
    ],
)
def test_the_error_for_wrong_arguments_says_what_is_right(
    models, tmp_path, arguments, code, message
):
    """The exit codes are those of `triceps predict`."""
    (tmp_path / "rows.csv").write_text("wieght,length\n1,2\n")
    (tmp_path / "bad.csv").write_text("weight,length\n1,2\n1,long\n")
    os.mkfifo(tmp_path / "pipe")
    whole = small.model(
        [helper.make_node("Identity", ["x"], ["y"])], [("x", F, [])], [("y", F, [])]
    )
    (tmp_path / "whole.onnx").write_bytes(whole.SerializeToString())

    found_code, out, err = run(*arguments)

    assert (found_code, out) == (code, "")
    assert message in " ".join(err.split()) + "\n" or message in err


def test_a_model_of_whole_tensors_has_a_signature_to_compare(models, tmp_path):
    """No rows are compared then, and a note says so."""
    whole = small.model(
        [helper.make_node("Identity", ["x"], ["y"])], [("x", F, [])], [("y", F, [])]
    )
    (tmp_path / "whole.onnx").write_bytes(whole.SerializeToString())

    found = facts("whole.onnx", "whole.onnx")

    assert (found["signature"], found["rows"], found["heads"]) == ([], 0, {})
    assert found["notes"] == ["no rows are compared: A takes whole tensors"]


def test_a_long_file_is_compared_some_hundred_rows_at_a_time(models, tmp_path, monkeypatch):
    """The models' runs may be of different sizes; the rows that belong together are compared."""
    small.put(models, "three", 3, small.three(3.0))
    number = 1000
    lines = "".join(f"{i % 97},{i}\n" for i in range(number))
    (tmp_path / "rows.csv").write_text(f"weight,length\n{lines}")
    sizes = iter([7, 256])
    monkeypatch.setattr(row_runs, "_rows_at_once", lambda _: next(sizes))
    seen = []
    real = compared_answers._note_most
    monkeypatch.setattr(
        compared_answers,
        "_note_most",
        lambda *given: (seen.append(len(given[3].rows)), real(*given))[1],
    )

    found = facts("three@1", "three@3", "--in", "rows.csv", "--heads", "size")

    sums = [i % 97 + i for i in range(number)]
    [size] = found["heads"].values()
    assert (sum(seen), max(seen)) == (number, 7)
    assert size["largest"] == 2 * max(sums)
    assert size["mean"] == pytest.approx(2 * sum(sums) / number)
    order = sorted(range(number), key=lambda i: -sums[i])[:5]
    assert [row["row"] for row in size["most"]] == [f"rows.csv, line {i + 2}" for i in order]


def test_a_file_that_becomes_shorter_meanwhile_is_refused(models, tmp_path, monkeypatch):
    """It is read once for each model; rows that only one has read are not compared in silence."""
    file = tmp_path / "rows.csv"
    row = f"1,{'2':<198}\n"
    file.write_text("weight,length\n" + row * 2000)
    ordinary, cut = row_runs.runs, len("weight,length\n" + row * 100)

    def runs(*arguments):
        for number, some in enumerate(ordinary(*arguments)):
            if number == 0:
                os.truncate(file, cut)
            yield some

    monkeypatch.setattr(row_runs, "runs", runs)

    code, out, err = run("three@1", "three@2", "--in", file, "--heads", "size")

    assert (code, out) == (1, "")
    assert err.endswith(
        ": one of two readings ended before this row: the file has changed meanwhile\n"
    )


def test_a_file_does_not_drive_the_terminal(models, tmp_path):
    """Control characters in its names, labels and provenance are shown in escaped form."""
    evil = "\x1b]0;owned\x07\x9b2J"
    signature = small.three_signature()
    head = replace(signature.heads["risk"], labels=(evil, "high"))
    changed = replace(
        signature, heads={**signature.heads, "risk": head}, provenance={evil: evil}, golden=None
    )
    file = tmp_path / "evil.onnx"
    file.write_bytes(small.signed(onnx.load_from_string(small.three()), changed))

    code, out, err = run("three@1", file)

    assert (code, err) == (0, "")
    assert "\\x1b]0;owned" in out
    assert not set(out) & set("\x1b\x07\x9b")
