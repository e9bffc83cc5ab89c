"""The commands: a spec and its CSV files become a published file, or an error and no file."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

keras = pytest.importorskip("keras", reason="needs the train extra")

from service import __version__  # noqa: E402  (after the check above)
from service.app import create_app  # noqa: E402  (after the check above)
from service.commands.main import main  # noqa: E402  (after the check above)
from service.errors import SettingsError, TricepsError  # noqa: E402  (after the check above)
from service.inference.model import Model  # noqa: E402  (after the check above)
from service.repository import publish as publishing  # noqa: E402  (after the check above)
from service.settings import Settings  # noqa: E402  (after the check above)
from tests.harness import terminal, tiny  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, run  # noqa: E402  (after the check above)
from training import cli, fit  # noqa: E402  (after the check above)
from training import spec as specs  # noqa: E402  (after the check above)
from training.errors import SpecError  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "training" / "specs"


def test_a_run_publishes_one_file_and_prints_its_path(everything):
    """The repository holds the first version, and its number."""
    path, models, done = everything

    assert sorted(str(file.relative_to(models)) for file in models.rglob("*")) == [
        "everything",
        "everything/1",
        "everything/1/model.onnx",
        "everything/1/report.html",
        "everything/last_version",
    ]
    last = done.stdout.splitlines()[-1]
    assert last == f"published everything, version 1: {models / 'everything/1/model.onnx'}"
    assert path.exists()


def test_no_report_publishes_the_model_alone(tmp_path):
    """The file of the model does not depend on its report."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())

    done = run("train", path, "--models", tmp_path / "models", "--no-report")

    assert done.exit_code == 0, done.output
    assert [file.name for file in (tmp_path / "models/small/1").iterdir()] == ["model.onnx"]


def test_a_run_ends_with_a_table_of_its_heads(everything):
    """Each head has its rows, metric, scores, baseline and difference to Keras."""
    *_, done = everything
    rows = [
        re.split(" {2,}", line.strip())
        for line in done.stdout.splitlines()
        if re.search(" (accuracy|mae|auc) ", line) and " + " in line
    ]

    assert "head" in done.stdout
    assert [row[:3] for row in rows] == [
        ["bought", "18 + 6", "accuracy"],
        ["which", "14 + 4", "accuracy"],
        ["side", "15 + 5", "accuracy"],
        ["size", "14 + 4", "mae"],
        ["marks", "14 + 4", "auc"],
    ]
    assert all(float(cell) >= 0 for row in rows for cell in row[3:6])
    assert all(float(row[6]) < 1e-4 for row in rows)


def test_a_run_prints_every_epoch_in_a_plain_line(everything):
    """Without a terminal, each epoch is one line with the loss and metric of every head."""
    *_, done = everything
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch")]

    number = r"\d+\.\d{4}"
    heads = "  ".join(
        rf"{head} loss {number} {metric} {number}"
        for head, metric in [
            ("bought", "accuracy"),
            ("which", "accuracy"),
            ("side", "accuracy"),
            ("size", "mae"),
            ("marks", "auc"),
        ]
    )
    expected = rf"epoch [12]/2  loss {number}  {heads}  held out: loss {number}  {heads}"
    assert len(lines) == 2
    assert all(re.fullmatch(expected, line) for line in lines)


def test_the_same_seed_gives_the_same_bytes_in_another_process(everything):
    """Another run with other hash seeds writes an equal file, byte for byte."""
    path, models, _ = everything
    again = path.parent / "again"
    code = "from training.cli import train; train()"

    done = subprocess.run(
        [sys.executable, "-c", code, str(path), "--models", str(again)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "4"},
    )

    assert done.returncode == 0, done.stderr
    for name in ("model.onnx", "report.html"):
        files = [folder / "everything/1" / name for folder in (models, again)]
        assert files[0].read_bytes() == files[1].read_bytes()
    # TensorFlow's notes about the processor are suppressed.
    assert all(line.startswith("epoch") for line in done.stderr.splitlines())


def test_another_seed_and_other_epochs_give_another_version(tmp_path):
    """`--seed` and `--epochs` override the spec, and a second run is the next version."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    models = tmp_path / "models"

    first = run("train", path, "--models", models)
    second = run("train", path, "--models", models, "--seed", 5, "--epochs", 1)

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert second.stdout.splitlines()[-1].startswith("published small, version 2: ")
    provenances = [
        Model.load(models / "small" / version / "model.onnx").signature.provenance
        for version in ("1", "2")
    ]
    assert [(entry["seed"], entry["epochs"]) for entry in provenances] == [(0, 2), (5, 1)]
    assert provenances[0]["scores"]["bought"]["held_out"] is None
    assert "–" in first.stdout  # noqa: RUF001  (a dash)


def test_data_are_looked_for_where_the_command_says(tmp_path):
    """`--data` replaces the folder of the spec."""
    (tmp_path / "elsewhere").mkdir()
    path = tiny.write(tmp_path, SMALL)
    (tmp_path / "elsewhere" / "People.csv").write_text(tiny.people().replace(",no,", ",,"))

    done = run(
        "train", path, "--models", tmp_path / "m", "--data", tmp_path / "elsewhere", "--epochs", 1
    )

    assert done.exit_code == 0, (done.output, done.exception)
    assert "note: People.csv: column 'smoker'" in done.stderr


def test_rows_that_some_heads_skip_are_counted_in_table_and_file(tmp_path):
    """Files that are joined by key have rows of their own, and each head has its number of rows."""
    text = """
name = "joined"
align = "key"
[inputs.people]
csv = "people.csv"
key = "id"
[inputs.visits]
csv = "visits.csv"
key = "id"
[layers.h]
after = ["people", "visits"]
Dense = { units = 4 }
[heads.bought]
after = "h"
kind = "binary"
target = "people"
missing = "skip"
[heads.spent]
after = "h"
kind = "regression"
target = "visits"
missing = "skip"
[fit]
epochs = 1
"""
    people, visits = ["id,age,bought"], ["id,hours,spent"]
    people += [f"{n},{20 + n},{'' if n == 3 else n % 2}" for n in range(20)]
    visits += [f"{n},{n / 3},{n * 2}" for n in range(12, 26)]
    path = tiny.write(tmp_path, text, people="\n".join(people), visits="\n".join(visits))

    done = run("train", path, "--models", tmp_path / "models")

    assert done.exit_code == 0, (done.output, done.exception)
    # 26 keys: 12 of people alone, one of them without a target, and 6 of visits alone.
    assert "note: people.csv, visits.csv: 1 of 26 rows has no target and is left out" in done.stderr
    assert re.search(r"(?m)^bought +19  ", done.stdout)
    assert re.search(r"(?m)^spent +14  ", done.stdout)
    signature = Model.load(tmp_path / "models/joined/1/model.onnx").signature
    provenance = signature.provenance
    seen = signature.heads["spent"].statistics
    assert (seen.min, seen.max, seen.mean) == (24, 50, 37)
    assert signature.heads["bought"].statistics is None
    assert provenance["rows"] == {"people.csv": 25, "visits.csv": 25}
    rows = {name: score["rows"] for name, score in provenance["scores"].items()}
    assert rows == {"bought": 19, "spent": 14}


def _heads_of(answer):
    """Return the heads of an answer by row or by column."""
    rows = answer.get("predictions") or [answer["outputs"]]
    return set().union(*rows)


@pytest.mark.parametrize(
    ("name", "arguments", "heads"),
    [
        pytest.param("functional", (), {"out"}, id="functional"),
        pytest.param("shared", (), {"out", "out22"}, id="shared"),
        pytest.param("three_heads", (), {"o1", "o2", "o3"}, id="three_heads"),
        pytest.param("triceps", ("--epochs", 1), {"o1", "o2", "o3"}, id="triceps"),
    ],
)
def test_the_shipped_specs_train_and_answer(tmp_path, name, arguments, heads):
    """Each shipped spec is trained, exported, and answers its golden rows through every view."""
    done = run("train", SPECS / f"{name}.toml", "--models", tmp_path, *arguments)

    assert done.exit_code == 0, (done.output, done.exception)
    model = Model.load(tmp_path / name / "1" / "model.onnx")
    assert set(model.signature.heads) == heads
    assert (model.batching.mode, model.batching.evidence) == ("rows", "operators")
    assert done.stdout.splitlines()[-2] == f"batching: {model.batching}"
    views = {"all": tuple(model.signature.heads), **model.signature.models}
    for view in views.values():
        answers = model.predict(model.golden_arrays(), view)
        assert {len(answer) for answer in answers.values()} == {5}
    assert model.check_golden(1e-5) <= 1e-5
    client = create_app(Settings(models=tmp_path)).test_client()
    for view, expected in {name: heads, **model.signature.models}.items():
        example = client.get(f"/models/{view}/example")
        answer = client.post(f"/models/{view}/predict", json=example.json)
        described = client.get(f"/models/{view}").json
        assert (example.status_code, answer.status_code) == (200, 200)
        assert set(described["heads"]) == set(expected)
        assert _heads_of(answer.json) == set(expected)
    assert len((tmp_path / name / "1" / "model.onnx").read_bytes()) <= 1_000_000


def test_a_view_that_is_a_model_already_is_refused(tmp_path):
    """The folder `models/<view>` and a view of that name cannot both be served."""
    text = SMALL + '[models.one]\nheads = ["bought"]\n'
    path = tiny.write(tmp_path, text, people=tiny.people())
    (tmp_path / "models" / "one" / "1").mkdir(parents=True)

    done = run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, SpecError)
    folder = tmp_path / "models" / "one"
    assert str(done.exception) == (
        f"{path}: models.one: {folder} is a model of its own already; rename one of them"
    )


def test_a_name_that_another_model_has_as_a_view_is_refused(tmp_path):
    """Two models cannot serve one name, which is checked before the fit.

    A damaged file has no views.
    """
    models = tmp_path / "models"
    first = SMALL + '[models.one]\nheads = ["bought"]\n'
    path = tiny.write(tmp_path, first, people=tiny.people())
    assert run("train", path, "--models", models, "--epochs", 1).exit_code == 0
    file = models / "small" / "1" / "model.onnx"
    messages = {}
    for key, text in {
        "name": SMALL.replace('"small"', '"one"'),
        "models.one": first.replace('"small"', '"other"'),
    }.items():
        path = tiny.write(tmp_path, text)
        done = run("train", path, "--models", models)
        assert isinstance(done.exception, SpecError)
        assert "epoch" not in done.stderr
        messages[key] = str(done.exception)
    done = run("export", tmp_path / "any.keras", "--name", "one", "--models", models)
    messages["export"] = str(done.exception)
    (models / "damaged" / "1").mkdir(parents=True)
    (models / "damaged" / "1" / "model.onnx").write_bytes(b"no model")
    (models / "small" / "2").mkdir()
    tiny.write(tmp_path, SMALL.replace('"small"', '"one"'))

    tail = f"'one' is a view in {file} already; rename one of them"
    assert messages == {
        "name": f"{path}: name: {tail}",
        "models.one": f"{path}: models.one: {tail}",
        "export": f"--name: {tail}",
    }
    cli._check_models(specs.load(path), models)


@pytest.mark.parametrize("command", [("train", "spec.toml"), ("export", "a.keras", "--name", "a")])
def test_the_environment_is_checked_as_by_the_service(tmp_path, monkeypatch, command):
    """Unknown variables are refused with the nearest name; `TRICEPS_MODELS` is the repository."""
    monkeypatch.setenv("TRICEPS_MODEL", str(tmp_path))
    done = run(*command)
    assert isinstance(done.exception, SettingsError)
    assert "TRICEPS_MODEL: expected a setting" in str(done.exception)
    assert "did you mean 'TRICEPS_MODELS'?" in str(done.exception)

    monkeypatch.delenv("TRICEPS_MODEL")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRICEPS_MODELS", str(tmp_path / "file"))
    done = run(*command)
    assert done.exception.exit_code == 2
    assert str(done.exception).startswith("TRICEPS_MODELS: expected a folder")

    shown = " ".join(run(command[0], "--help").output.split())
    assert "[TRICEPS_MODELS; default models]" in shown


@pytest.fixture(name="program")
def _program(monkeypatch):
    """Return a function that runs the whole program with both commands, installed or not."""
    monkeypatch.setitem(main.commands, "train", cli.train)
    monkeypatch.setitem(main.commands, "export", cli.export)
    return lambda *arguments: CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.mark.parametrize(
    ("text", "table", "code"),
    [
        pytest.param(SMALL.replace("epochs", "epoch"), tiny.people(), 2, id="spec"),
        pytest.param(SMALL.replace("Dense", "Dens"), tiny.people(), 2, id="layer"),
        pytest.param(SMALL, tiny.people().replace("20,", "old,", 1), 1, id="data"),
    ],
)
def test_exit_codes_tell_the_spec_from_the_data(tmp_path, program, text, table, code):
    """The exit code is 2 for the spec and 1 for the data, with one message and no traceback."""
    path = tiny.write(tmp_path, text, people=table)

    done = program("train", path, "--models", tmp_path / "models")

    assert done.exit_code == code
    assert done.stderr.startswith("triceps: ")
    assert "Traceback" not in done.output
    assert not (tmp_path / "models").exists()


def test_a_repository_that_cannot_be_written_is_refused(tmp_path, program):
    """A file in place of the repository is an error before the fit, which names the option."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    (tmp_path / "models").write_text("")

    done = program("train", path, "--models", tmp_path / "models")

    assert done.exit_code == 2
    assert "--models" in done.stderr


def test_a_folder_without_permission_is_refused_before_the_fit(tmp_path, program, monkeypatch):
    """A missing permission to write into the repository is an error before the fit."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    access = os.access
    monkeypatch.setattr(
        cli.os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode)
    )

    done = program("train", path, "--models", tmp_path / "models" / "deep")

    assert done.exit_code == 1
    assert done.stderr == (
        f"triceps: {tmp_path}/models/deep: cannot be written to: permission denied for {tmp_path}\n"
    )


def test_help_has_an_example(program):
    """`--help` of both commands shows an example."""
    assert "Example: triceps train " in program("train", "--help").output
    assert "Example: triceps export " in program("export", "--help").output


def test_an_interrupt_leaves_the_models_as_they_were(tmp_path, monkeypatch):
    """Ctrl-C during the fit ends with 130 and one line, and no version is published."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "fit", interrupt)

    done = run("train", path, "--models", tmp_path / "models")

    assert done.exit_code == 130
    assert done.stderr == "\ninterrupted; nothing was published\n"
    assert not (tmp_path / "models").exists()


def test_an_unreadable_model_does_not_stop_a_training(tmp_path, monkeypatch):
    """A folder without permission to read is taken to have no views."""
    (tmp_path / "theirs" / "1").mkdir(parents=True)
    real = cli.versions

    def look(folder):
        if folder.name == "theirs":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(cli, "versions", look)

    cli._check_free("name", "mine", "mine", tmp_path)


@pytest.mark.parametrize("moment", ["publish", "tell"])
def test_an_interrupt_after_publishing_does_not_deny_it(moment, tmp_path, monkeypatch):
    """Ctrl-C after the rename, or before the path is printed, reports the published version."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    real = publishing._move_to_next

    def interrupt(*arguments):
        if moment == "publish":
            real(*arguments)
        raise KeyboardInterrupt

    where = (publishing, "_move_to_next") if moment == "publish" else (cli, "_tell_where")
    monkeypatch.setattr(*where, interrupt)

    done = run("train", path, "--models", tmp_path / "models")

    [name] = [folder.name for folder in (tmp_path / "models").iterdir() if folder.name[0] != "."]
    assert done.exit_code == 130
    assert done.stderr.endswith(f"\ninterrupted; {name}, version 1 had been published\n")


def test_a_real_interrupt_ends_a_real_run(tmp_path):
    """SIGINT during an epoch ends with 130 and one line, and no version is published."""
    path = tiny.write(tmp_path, SMALL.replace("epochs = 2", "epochs = 9999"), people=tiny.people())
    # A shell starts a job in the background, as these tests may be, with SIGINT ignored.
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heeds}; from training.cli import train; train()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), "--models", str(tmp_path / "models")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)

    assert first.startswith("epoch")
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "interrupted; nothing was published"
    assert "Traceback" not in rest
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            SMALL,
            f"train needs TensorFlow: pip install 'triceps-{__version__}-py3-none-any.whl[train]'",
            id="good spec",
        ),
        pytest.param(
            SMALL.replace("[fit]", "[fitt]"), "no such key (did you mean 'fit'?)", id="wrong spec"
        ),
    ],
)
def test_without_the_extra_a_spec_is_still_checked(tmp_path, text, expected):
    """Without TensorFlow, a wrong spec is reported, and a right one leads to what to install."""
    path = tiny.write(tmp_path, text, people=tiny.people())
    code = (
        "import sys\n"
        "for name in ('keras', 'tensorflow', 'tf2onnx', 'pandas'): sys.modules[name] = None\n"
        "from training.cli import train\n"
        "from service.errors import TricepsError\n"
        "try: train([sys.argv[1]], standalone_mode=False)\n"
        "except TricepsError as error: print(error, error.exit_code)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout
    assert done.stdout.split()[-1] == ("1" if text == SMALL else "2")


def test_a_module_missing_for_another_reason_is_no_missing_extra(monkeypatch):
    """A missing module of Triceps itself is not reported as a package to install."""
    monkeypatch.setitem(sys.modules, "training.data", None)

    with pytest.raises(ModuleNotFoundError), cli._needs_extra("train"):
        raise ModuleNotFoundError(name="training.nothing")
    with pytest.raises(TricepsError, match="needs TensorFlow"), cli._needs_extra("train"):
        raise ModuleNotFoundError(name="keras.layers")


def test_the_steps_of_a_training_run_are_named(tmp_path):
    """Even while the import of TensorFlow mutes what other code writes to standard error."""
    spec = terminal.ROOT / "training" / "specs" / "functional.toml"

    done = terminal.run(
        ["train", spec, "--epochs", "1", "--no-publish"], tmp_path, before=terminal.SOON
    )

    assert done.code == 0, done.err
    named = (
        "starting TensorFlow",
        "converting the model once",
        "and comparing the file with Keras",
    )
    assert [step for step in named if step not in done.err] == []
    assert "epoch 1/1" in done.err
    assert "\x1b" not in done.out
