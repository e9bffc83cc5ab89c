"""`triceps show`: the signature of a model for people, by any of the ways to name a model."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from service.app import create_app
from service.commands.main import main
from service.reference import Reference
from service.settings import Settings
from service.signature import Feature, Head, Tensor, tabular
from tests.harness import small


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Return the repository `models` of the working directory."""
    monkeypatch.chdir(tmp_path)
    small.put(tmp_path / "models", "three", 1, small.three())
    small.put(tmp_path / "models", "three", 2, small.three(2.0, models={"risky": ["risk"]}))
    return tmp_path / "models"


def run(*arguments):
    """Return the exit code, standard output and standard error of the command."""
    done = CliRunner().invoke(main, ["show", *map(str, arguments)], env={"COLUMNS": "120"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def rows(text):
    """Return the lines of tables, each as its cells."""
    return [tuple(line.split()) for line in text.splitlines() if line.strip(" ─")]


def test_the_whole_signature_is_shown(models):
    """The output has inputs with features, heads with labels and required inputs, and views."""
    code, out, err = run("three")

    assert (code, err) == (0, "")
    assert rows(out) == [
        tuple(line.split())
        for line in """
            three, version 2
            Inputs
            input feature kind a row default seen in training
            insurance age number float32 38 min 18, max 70, mean 40, std 12
            insurance smoker categorical string no no, yes
            insurance bmi number float32 min 17, max 50, mean 30, std 6
            fruit weight number float32 1.5
            fruit length number float32 2
            digit image 2 x 2 float32[4]
            Heads
            head kind a row labels needs
            risk binary float32[1] low, high insurance
            size regression float32[1] fruit
            digits multiclass float32[3] zero, one, two digit
            tags multilabel float32[2] heavy, long fruit
            risky: the heads risk, served by that name too
            batching: rows (operators): 10 operators handle each row by itself
        """.strip().splitlines()
    ]


def test_json_is_what_the_service_answers(models):
    """But for the states, aliases and reports of versions, which are the service's."""
    client = create_app(Settings(models=models)).test_client()
    answered = client.get("/models/three").json

    code, out, err = run("three", "--json")

    assert (code, err, out.count("\n")) == (0, "", 1)
    assert answered.keys() - json.loads(out) == {"versions", "aliases", "reports"}
    assert json.loads(out).items() <= answered.items()


def test_the_provenance_is_shown(tmp_path):
    """The notes of the trainer are shown as they are."""
    signature = replace(small.three_signature(), provenance={"rows": 14, "spec": "[abc]"})
    path = tmp_path / "m.onnx"
    path.write_bytes(small.signed(onnx.load_from_string(small.three()), signature))

    assert rows(run(path)[1])[-4:] == [
        ("Made", "from"),
        ("what", "value"),
        ("rows", "14"),
        ("spec", "[abc]"),
    ]


def test_the_warnings_of_the_training_are_shown(tmp_path):
    """A reader of the signature sees what the trainer was told, with its code."""
    warning = {"code": "below_baseline", "head": "risk", "message": "head 'risk' is no better"}
    signature = replace(small.three_signature(), warnings=(warning,))
    path = tmp_path / "m.onnx"
    path.write_bytes(small.signed(onnx.load_from_string(small.three()), signature))

    assert "warning: head 'risk' is no better (below_baseline)\n" in run(path)[1]


def test_names_are_shown_as_they_are(tmp_path):
    """Brackets and colons are shown, although the library that draws tables interprets them."""
    signature = small.three_signature()
    fruit = tabular("fruit", [Feature("weight [kg]", ""), Feature(":apple: [red]", "")])
    named = replace(signature, inputs={**signature.inputs, "fruit": fruit})
    path = tmp_path / "m.onnx"
    path.write_bytes(small.signed(onnx.load_from_string(small.three()), named))

    out = run(path)[1]

    assert "weight [kg]" in out
    assert ":apple: [red]" in out


@pytest.mark.parametrize(
    ("name", "title"),
    [
        pytest.param("three", "three, version 2", id="its newest version"),
        pytest.param("three/1", "three, version 1", id="a version"),
        pytest.param("risky", "risky, version 2", id="a view"),
        pytest.param("models/three/1/model.onnx", "three, version 1", id="a file"),
        pytest.param("./models/three/1/model.onnx", "three, version 1", id="a file from here"),
        pytest.param("models/three/2", "three, version 2", id="a folder that holds model.onnx"),
        pytest.param("{models}/three/2/model.onnx", "three, version 2", id="a whole path"),
        pytest.param("../{here}/models/three/1/model.onnx", "three, version 1", id="from above"),
    ],
)
def test_a_model_is_named_in_any_of_these_ways(models, name, title):
    """A model is named by its name in the repository, or by a path."""
    code, out, _ = run(name.format(models=models, here=models.parent.name))

    assert (code, out.splitlines()[0]) == (0, title)


def test_a_model_of_the_repository_wins_over_a_path(models):
    """A file of the same name is shown only if it is given as a path."""
    (models.parent / "three").write_bytes(small.three())

    assert run("three")[1].startswith("three, version 2\n")
    assert run("./three")[1].startswith("three, version 1\n")


def test_another_repository_may_be_given(models, tmp_path):
    """The repository is named by the option or by the environment variable."""
    small.put(tmp_path / "others", "four", 4, small.three())

    by_flag = run("four", "--models", tmp_path / "others")
    by_variable = CliRunner().invoke(main, ["show", "four"], env={"TRICEPS_MODELS": "others"})

    assert by_flag[1].startswith("four, version 4\n")
    assert by_variable.stdout.startswith("four, version 4\n")


def test_refusals_of_other_models_are_not_shown(models):
    """The command is about one model, not about the state of the repository."""
    small.put(models, "bad", 1, b"bad")

    assert run("three")[2] == ""
    assert run("bad") == (
        1,
        "",
        (
            "triceps: bad: model 'bad', version 1: refused, it is not an ONNX file, or not the "
            "whole of one\n"
        ),
    )


def test_nothing_is_logged_beside_the_answer(models):
    """The command runs in a process of its own, since pytest catches log records."""
    small.put(models, "bad", 1, b"bad")

    done = subprocess.run(
        [sys.executable, "-c", "from service.commands.main import main; main()", "show", "three"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("three, version 2\n")


def test_a_narrow_terminal_cuts_no_name_off(tmp_path):
    """It is folded, so that what a program or a person reads is the whole of it."""
    feature = Feature("a_name_of_many_characters", "", default=1.0)
    signature = replace(small.three_signature(golden=False), inputs={"x": tabular("x", [feature])})
    signature = replace(signature, heads={"y": Head("y", "regression", Tensor("y", "float32", ()))})
    made = small.model(
        [helper.make_node("Squeeze", ["x", "axis"], ["y"])],
        [("x", small.F, ["n", 1])],
        [("y", small.F, ["n"])],
        {"axis": np.array([1])},
    )
    (tmp_path / "m.onnx").write_bytes(small.signed(made, signature))

    done = CliRunner().invoke(main, ["show", str(tmp_path / "m.onnx")], env={"COLUMNS": "40"})

    assert done.exit_code == 0
    assert "…" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(
            ["tree"],
            1,
            "tree: model 'tree': there is none of that name (did you mean 'three'?). "
            "Available: risky, three",
            id="an unknown model",
        ),
        pytest.param(
            ["three/3"],
            1,
            "three/3: model 'three' has no version '3'. Available: 1, 2",
            id="an unknown version",
        ),
        pytest.param(
            ["notes.txt"],
            1,
            "notes.txt: model 'notes', version 1: refused, it is not an ONNX file, or not the "
            "whole of one",
            id="a file that is not a model",
        ),
        pytest.param(
            ["three", "--models", "nowhere"],
            2,
            "nowhere: there is nothing there; expected a folder of models "
            "(<name>/<version>/model.onnx), a folder with a model.onnx or an ONNX file, "
            "by --models or TRICEPS_MODELS",
            id="no repository",
        ),
    ],
)
def test_the_error_for_a_missing_model_names_the_available_ones(models, arguments, code, message):
    """The error is one line."""
    (models.parent / "notes.txt").write_text("shopping list")

    assert run(*arguments) == (code, "", f"triceps: {message}\n")


def test_an_empty_repository_has_no_models_yet(tmp_path):
    """An empty repository is not an error by itself."""
    assert run("three", "--models", tmp_path) == (
        1,
        "",
        "triceps: three: model 'three': there is none of that name. Available: none yet\n",
    )


def test_a_wrong_setting_is_reported_first(models):
    """Commands that need only one setting check all of them."""
    done = CliRunner().invoke(main, ["show", "three"], env={"TRICEPS_MODLES": "x"})

    assert done.exit_code == 2
    assert done.stderr.startswith("triceps: TRICEPS_MODLES: expected a setting")


def test_a_file_does_not_drive_the_terminal(tmp_path):
    """Control characters in its names, labels and provenance are shown in escaped form."""
    evil = "\x1b]0;owned\x07\x9b2J"
    signature = small.three_signature()
    entry = tabular("fruit", [Feature(evil, "", default=1.5), Feature("length", "", default=2)])
    head = replace(signature.heads["risk"], labels=(evil, "high"))
    signature_of_file = replace(
        signature,
        inputs={**signature.inputs, "fruit": entry},
        heads={**signature.heads, "risk": head},
        provenance={evil: evil},
        golden=None,
    )
    file = tmp_path / "evil.onnx"
    file.write_bytes(small.signed(onnx.load_from_string(small.three()), signature_of_file))

    code, out, err = run(file)

    assert (code, err) == (0, "")
    assert "\\x1b]0;owned\\x07\\x9b2J" in out
    assert not set(out) & set("\x1b\x07\x9b")


def test_the_rows_of_a_reference_are_named(models):
    """A model that later rows can be compared with says which rows it compares them with."""
    signature = small.three_signature()
    reference = Reference(rows={"inputs": "training", "heads": "held-out"})
    made = onnx.load_model_from_string(small.three())
    small.put(models, "three", 3, small.signed(made, replace(signature, reference=reference)))

    assert "reference: features of training rows, and answers to held-out rows\n" in run("three")[1]
    assert "reference" not in run("three/1")[1]
