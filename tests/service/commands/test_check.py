"""`triceps check`: whether a file would serve, by the code that serves it, in a child process."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import onnx
import pytest

from tests.harness import small
from tests.harness.hostile_graphs import (
    GOOD,
    ROOT,
    F,
    built,
    large,
    looping,
    node,
    own_function,
    spread,
)

PROGRAM = "from service.commands.main import main; main()"


@pytest.fixture
def models(tmp_path):
    """Return a repository with two versions of a model."""
    small.put(tmp_path / "models", "three", 1, small.three())
    small.put(tmp_path / "models", "three", 2, small.three(2.0, models={"risky": ["risk"]}))
    return tmp_path / "models"


def run(folder, *arguments, program=PROGRAM, **environment):
    """Return exit code, standard output and standard error of the command, in its own process.

    It forks, and the threads of the tests' process would be in the way.
    """
    done = subprocess.run(
        [sys.executable, "-c", program, "check", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def rows(text):
    """Return the lines of tables, each as its cells."""
    return [tuple(line.split()) for line in text.splitlines() if line.strip(" ─")]


def test_the_facts_about_a_model_that_would_serve(models):
    """The output has inputs, heads, batching, operator sets, memory, provider and times."""
    code, out, err = run(models.parent, "three")

    lines = {line[0]: " ".join(line[1:]) for line in rows(out)[1:]}
    assert (code, err) == (0, "")
    assert rows(out)[0] == ("three,", "version", "2:", "it", "would", "serve")
    assert lines["inputs"].startswith("insurance (3 features), fruit (2 features), digit (image, ")
    assert lines["heads"] == (
        "risk (binary, float32[]), size (regression, float32[]), digits (multiclass, float32[3]), "
        "tags"
    )
    assert lines["batching"] == "rows (operators): 10 operators handle each row by itself"
    assert "ai.onnx 18 of up to " in lines["opset"]
    assert " counted for each worker, which has " in lines["memory"]
    assert lines["provider"] == "CPUExecutionProvider"
    assert "one row in " in lines["time"]
    assert "64 rows in " in lines["time"]
    assert lines["note:"] == (
        "input 'insurance': no default for bmi, so a row that misses a value is an error: "
        "triceps sign --default insurance.bmi=VALUE"
    )


def test_json_is_one_object(models):
    """Its `model` is what `/models/<name>` answers; sizes are bytes, and times seconds."""
    code, out, err = run(models.parent, "three@1", "--json")
    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM, "show", "three@1", "--json"],
        cwd=models.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )

    facts = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert facts.pop("model") == json.loads(shown.stdout)
    assert sorted(facts["memory"]) == ["added", "budget", "counted"]
    assert all(size > 0 for size in facts.pop("memory").values())
    assert sorted(facts["seconds"]) == ["many", "one"]
    assert all(0 < seconds < 10 for seconds in facts.pop("seconds").values())
    newest = facts["opset"].pop("newest")
    assert newest["ai.onnx"] >= 18
    assert facts == {
        "name": "three",
        "version": "1",
        "file": "models/three/1/model.onnx",
        "serves": True,
        "opset": {"graph": {"ai.onnx": 18, "ai.onnx.ml": 3}},
        "provider": {"name": "CPUExecutionProvider", "difference": 0.0},
        "notes": [
            (
                "input 'insurance': no default for bmi, so a row that misses a value is an error: "
                "triceps sign --default insurance.bmi=VALUE"
            )
        ],
    }


def test_the_name_of_a_file_may_have_any_bytes(tmp_path):
    """JSON has only Unicode, and a terminal is not to be controlled."""
    for name in (b"a\x1b[31m.onnx", b"\xff.onnx"):
        (tmp_path / os.fsdecode(name)).write_bytes(GOOD)

    coloured = run(tmp_path, "a\x1b[31m.onnx", "--json")
    plain = run(tmp_path, "a\x1b[31m.onnx")
    no_text = run(tmp_path, os.fsdecode(b"\xff.onnx"), "--json")

    assert (coloured[0], json.loads(coloured[1])["file"]) == (0, "a\\x1b[31m.onnx")
    assert (plain[0], "\x1b" in plain[1]) == (0, False)
    assert (no_text[0], json.loads(no_text[1])["file"]) == (1, "\\udcff.onnx")
    assert json.loads(no_text[1])["reason"] == (
        "its path is not UTF-8, and ONNX Runtime opens no other: rename it"
    )


def test_a_narrow_terminal_cuts_nothing_off(models):
    """A long name is folded."""
    code, out, _ = run(models.parent, "three", COLUMNS="20")

    assert code == 0
    assert "…" not in out


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("./my_modle.onnx", id="a path"),
        pytest.param("my_modle.onnx", id="a file"),
        pytest.param("dangling.onnx", id="a link to nothing"),
        pytest.param("modles/three/1", id="a folder"),
        pytest.param("/nowhere/m.onnx", id="an absolute path"),
    ],
)
@pytest.mark.parametrize("command", ["check", "show"])
def test_a_path_at_which_nothing_is_is_no_name(models, command, path):
    """No model of the repository is loaded to look for a view of that name."""
    (models.parent / "dangling.onnx").symlink_to("nothing")
    program = f"import sys; sys.argv[1:2] = [{command!r}]; {PROGRAM}"

    code, out, err = run(models.parent, path, program=program)

    assert (code, out) == (1, "")
    assert err == f"triceps: {path}: there is no file or folder at that path\n"


def test_a_refused_file_has_the_reason_of_the_service(tmp_path):
    """The exit code is 1; the JSON has the reason too, and standard error is for errors alone."""
    (tmp_path / "notes.onnx").write_text("shopping list")
    reason = "it is not an ONNX file, or not the whole of one"

    plain = run(tmp_path, "notes.onnx")
    as_json = run(tmp_path, "notes.onnx", "--json")

    assert plain == (1, "", f"triceps: notes.onnx: refused, {reason}\n")
    assert (as_json[0], as_json[2]) == (1, "")
    assert json.loads(as_json[1]) == {
        "name": "notes",
        "version": "1",
        "file": "notes.onnx",
        "serves": False,
        "reason": reason,
        "notes": [],
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(
            ["tree"],
            1,
            "tree: model 'tree': there is none of that name (did you mean 'three'?). "
            "Available: three",
            id="an unknown model",
        ),
        pytest.param(
            ["three@3"],
            1,
            "three@3: model 'three' has no version '3'. Available: 1, 2",
            id="an unknown version",
        ),
        pytest.param(
            ["three@stabel"],
            1,
            "three@stabel: model 'three' has no alias 'stabel' (did you mean 'stable'?). "
            "Available: stable",
            id="an unknown alias",
        ),
        pytest.param(
            ["models"],
            1,
            "models: expected a model, received a folder of models: name one of them, with "
            "--models models. Available: three",
            id="a repository",
        ),
        pytest.param(
            ["models/three"],
            1,
            "models/three: expected a version of the model, received the folder of all its "
            "versions: name models/three/2",
            id="the folder of a model",
        ),
        pytest.param(
            ["spec.toml"],
            2,
            "spec.toml: expected an ONNX file or a repository of models, received a training "
            "spec. To serve a model of it: triceps train spec.toml && triceps serve",
            id="a spec",
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
    """The error is one line, and has the exit code that other commands have for it."""
    (models.parent / "spec.toml").write_text('name = "three"\n')
    (models / "three" / "aliases.json").write_text('{"stable": "1"}')

    assert run(models.parent, *arguments) == (code, "", f"triceps: {message}\n")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        pytest.param("three", "2", id="its newest version"),
        pytest.param("three@1", "1", id="a version"),
        pytest.param("three/1", "1", id="a version behind a slash"),
        pytest.param("three@stable", "1", id="an alias"),
        pytest.param("models/three/1/model.onnx", "1", id="a file"),
        pytest.param("models/three/2", "2", id="a folder that holds model.onnx"),
    ],
)
def test_a_model_is_named_as_for_other_commands(models, name, version):
    """A model is named by its name in the repository, or by a path."""
    (models / "three" / "aliases.json").write_text('{"stable": "1"}')

    facts = json.loads(run(models.parent, name, "--json")[1])

    assert (facts["name"], facts["version"], facts["serves"]) == ("three", version, True)


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_damaged_file_of_aliases_is_the_reason(models, command):
    """The alias may be in it, so that it is no help that there is none of that name."""
    (models / "three" / "aliases.json").write_text('{"stable": ')
    program = f"import sys; sys.argv[1:2] = [{command!r}]; {PROGRAM}"

    code, out, err = run(models.parent, "three@stable", program=program)

    assert (code, out) == (1, "")
    assert err.startswith("triceps: three@stable: model 'three': aliases.json: expected JSON like ")


def test_what_is_missing_for_good_service_is_noted(tmp_path):
    """Each note names the command that helps."""
    (tmp_path / "plain.onnx").write_bytes(built([node("Relu", ["x"], ["y"])]))

    assert json.loads(run(tmp_path, "plain.onnx", "--json")[1])["notes"] == [
        "input 'x': its columns have no names: triceps sign --features x=A,B,…",
        (
            "head 'y': its answers have no labels: triceps sign --labels y=A,B, or "
            "--kind y=regression if they are numbers"
        ),
        (
            "it has no golden rows, so nothing shows that it answers here as where it was made: "
            "triceps train and triceps export write them"
        ),
    ]


def test_a_column_that_is_an_input_has_a_name(tmp_path):
    """Files of scikit-learn name each column by its input, as the documentation advises."""
    column = small.model(
        [node("Sigmoid", ["age"], ["y"])], [("age", F, ["n", 1])], [("y", F, ["n", 1])]
    )
    (tmp_path / "column.onnx").write_bytes(column.SerializeToString())

    notes = json.loads(run(tmp_path, "column.onnx", "--json")[1])["notes"]

    assert [note for note in notes if "age" in note] == []


def test_the_settings_of_the_model_and_of_the_service_are_in_force(models):
    """They decide about batching, provider and the memory that it may take."""
    (models / "three" / "settings.toml").write_text("alone = true\n")
    alone = json.loads(run(models.parent, "three", "--json")[1])
    (models / "three" / "settings.toml").write_text("alnoe = true\n")
    damaged = json.loads(run(models.parent, "three", "--json")[1])
    (models / "three" / "settings.toml").unlink()
    elsewhere = run(models.parent, "three", TRICEPS_PROVIDER="CUDAExecutionProvider")
    small_budget = run(models.parent, "three", TRICEPS_MEMORY="1000", TRICEPS_WORKERS="1")

    assert alone["model"]["batching"]["evidence"] == "setting"
    assert "settings.toml: expected keys out of" in damaged["notes"][0]
    assert "provider: expected one that this ONNX Runtime has" in elsewhere[2]
    assert "expected at most 0 MB (TRICEPS_MEMORY is 1000)" in small_budget[2]
    assert (elsewhere[0], small_budget[0]) == (1, 1)


def test_a_file_without_a_known_example_has_no_time(tmp_path):
    """The graph takes no zeros, and nothing else is known of what it takes."""
    indexed = built(
        [node("Gather", ["w", "x"], ["y"])],
        [("x", onnx.TensorProto.INT64, ["n", 1])],
        [("y", F, ["n", 1, "m"])],
        {"w": small.np.ones((0, 2), small.np.float32)},
    )
    (tmp_path / "m.onnx").write_bytes(indexed)

    code, out, _ = run(tmp_path, "m.onnx")

    assert code == 0
    assert "not measured: no row is known that it answers" in " ".join(out.split())
    assert "note: no example is known that it answers" in out


def test_what_is_no_file_of_the_repository_is_refused(models):
    """A pipe would never end, and the target of a link may be a file of somebody else."""
    for version in (3, 4):
        (models / "three" / str(version)).mkdir()
    os.mkfifo(models / "three" / "3" / "model.onnx")
    (models / "three" / "4" / "model.onnx").symlink_to("/etc/hostname")

    pipe, link = (run(models.parent, f"three@{version}") for version in (3, 4))

    assert pipe[2].startswith("triceps: three@3: refused, it is not a file: expected one")
    assert link[2].startswith("triceps: three@4: refused, a link leads out of the repository")
    assert pipe[0] == link[0] == 1


# Prints, for each file, whether the service refuses it and why, and the same of the check.  Times
# are short and the memory is fixed, so that both find the same.
_BOTH = """
import json, sys
from pathlib import Path
from service import settings as all_settings
from service.host import memory
from service.repository import file_trial, sandbox
from service.repository.assembly import open_repository
from service.repository.check import check
from service.repository.model_settings import DEFAULTS
from service.repository.scan import look

file_trial.BUSY_SECONDS = 2
memory.available = lambda: 400 << 20
{before}
for path in sys.argv[1:]:
    with sandbox.kept(2):
        repository = open_repository(Path(path))
    [found] = look(Path(path)).versions
    checked = check(found, DEFAULTS, all_settings.load(workers="2"), lambda _: {{}})
    reasons = [entry.reason for entry in repository.refused]
    print(json.dumps([reasons[0] if reasons else None, checked.reason]), flush=True)
"""


def both(tmp_path, *contents, before=""):
    """Return, for each file, the reasons of the service and of the check for its refusal."""
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"m{number}.onnx")
        paths[-1].write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", _BOTH.format(before=textwrap.dedent(before)), *map(str, paths)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def _altered(**values):
    model = onnx.load_from_string(built([node("Relu", ["x"], ["y"])]))
    for name, value in values.items():
        setattr(model, name, value)
    return model.SerializeToString()


def test_what_the_check_accepts_serves_and_what_it_refuses_does_not(tmp_path):
    """The reason is that of the service, for each kind of hostile file."""
    twice = replace(small.three_signature(), models={"a": ("risk",)})
    files = {
        "good": GOOD,
        "views": small.signed(onnx.load_from_string(small.three()), twice),
        "foreign": built([node("Relu", ["x"], ["y"])]),
        "joint": built([node("Softmax", ["x"], ["y"], axis=0)]),
        "empty": b"",
        "truncated": GOOD[: len(GOOD) // 2],
        "endless": looping(2**62),
        "huge answers": spread(100_000),
        "too large": large(500),
        "a function that calls itself": own_function(node("f", ["a"], ["b"], domain="own")),
        "an operator of its own": built([node("Evil", ["x"], ["y"], domain="com.evil")]),
        "another format": _altered(ir_version=99),
        "an idle input": built(
            [node("Identity", ["w"], ["y"])], constants={"w": small.np.ones((1, 2), "f4")}
        ),
        "a wrong golden row": small.three().replace(b"[2.5]", b"[2.6]"),
        "colours": built([node("B\x1b[31m\u202eogus", ["x"], ["y"])]),
    }

    outcomes = dict(zip(files, both(tmp_path, *files.values()), strict=True))

    assert {name: service for name, (service, _) in outcomes.items()} == {
        name: checked for name, (_, checked) in outcomes.items()
    }
    assert {name for name, (reason, _) in outcomes.items() if reason is None} == {
        *("good", "views", "foreign", "joint", "an idle input")
    }


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_file_that_ends_its_process_ends_no_check(tmp_path, how):
    """It ends the process of its trial, and is refused as the service refuses it."""
    before = f"""
        import os, signal
        from service.inference.model import Model
        from service.repository import file_trial
        load = Model.load
        def ends(path, *more):
            if path.name == "m0.onnx":
                os.kill(os.getpid(), signal.{how})
            return load(path, *more)
        class Ending(Model):
            load = staticmethod(ends)
        file_trial.Model = Ending
    """

    [(service, checked), good] = both(tmp_path, GOOD, GOOD, before=before)

    assert service == checked
    assert service is not None
    assert good == (None, None)


def test_a_file_that_ends_only_the_process_that_loads_it_is_refused(tmp_path):
    """A worker would end in the same way, after the trial has passed."""
    (tmp_path / "m.onnx").write_bytes(GOOD)
    program = (
        "import os, signal; from service.repository import loader; "
        "loader._model = lambda *_: os.kill(os.getpid(), signal.SIGSEGV); " + PROGRAM
    )

    assert run(tmp_path, "m.onnx", program=program) == (
        1,
        "",
        "triceps: m.onnx: refused, loading it failed: it ended its process, by SIGSEGV\n",
    )


def test_runs_that_take_too_long_are_not_waited_for(tmp_path):
    """The file serves, and no time is known."""
    (tmp_path / "m.onnx").write_bytes(GOOD)
    program = (
        "import time; from service.repository import check; check.LONGEST_SECONDS = 0.1; "
        "check._one_row = lambda servable: {}; "
        "from service.inference.model import Model; real = Model.predict; "
        "Model.predict = lambda model, arrays, heads: "
        "real(model, arrays, heads) if arrays else time.sleep(60); " + PROGRAM
    )

    code, out, _ = run(tmp_path, "m.onnx", "--json", program=program)

    assert (code, json.loads(out)["seconds"]) == (0, {"one": None, "many": None})
