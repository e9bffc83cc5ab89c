"""`triceps alias`, and the file that it writes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.commands.main import main
from service.repository import aliases
from tests.harness import small

ROOT = Path(__file__).parents[3]
BAD = b"not a model"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Return the repository `models` of the working directory, with a model of three versions."""
    monkeypatch.chdir(tmp_path)
    for version in (1, 2, 10):
        small.put(tmp_path / "models", "m", version, small.three())
    return tmp_path / "models"


def run(*arguments, **environment):
    """Return the exit code, standard output and standard error of the command."""
    done = CliRunner().invoke(main, ["alias", *map(str, arguments)], env=environment)
    return done.exit_code, done.stdout, done.stderr


def changed(*arguments):
    """Return the standard output of a change, which succeeds and says what it means."""
    code, out, err = run(*arguments)
    assert (code, err[:6], err.count("\n")) == (0, "note: ", 1)
    return out


def test_an_alias_is_set_moved_listed_and_removed(models):
    """Each change prints the former version and the new one."""
    assert run("m") == (0, "", "m has no aliases\n")
    assert changed("m", "stable", "2") == "m, stable: none → version 2\n"
    assert changed("m", "stable", "10") == "m, stable: version 2 → version 10\n"
    assert changed("m", "canary", "1") == "m, canary: none → version 1\n"
    assert run("m") == (0, "canary 1\nstable 10\n", "")
    content = (models / "m" / "aliases.json").read_text()
    assert json.loads(content) == {"canary": "1", "stable": "10"}
    assert changed("m", "stable", "--remove") == "m, stable: version 10 → none\n"
    assert run("m") == (0, "canary 1\n", "")
    assert sorted(e.name for e in (models / "m").iterdir()) == ["1", "10", "2", "aliases.json"]


def test_json_has_all_aliases(models):
    """It is the same object for a list and after a change; the note stays on standard error."""
    assert json.loads(run("m", "--json")[1]) == {"model": "m", "aliases": {}}
    code, out, err = run("m", "stable", "10", "--json")
    assert (code, err[:6], out.count("\n")) == (0, "note: ", 1)
    assert json.loads(out) == {"model": "m", "aliases": {"stable": "10"}}
    run("m", "canary", "1")
    removed = json.loads(run("m", "stable", "--remove", "--json")[1])
    assert removed == {"model": "m", "aliases": {"canary": "1"}}
    assert run("m", "--json") == (0, '{"model":"m","aliases":{"canary":"1"}}\n', "")


SAYS = ". /models says the policy of a running service\n"


@pytest.mark.parametrize(
    ("policy", "arguments", "note"),
    [
        pytest.param(
            "",
            ["stable", "2"],
            "version 2 answers at /models/m/aliases/stable/predict; under the policy latest, "
            "/models/m/predict does not change, and the newest version answers there; under pinned "
            "(triceps serve --policy pinned), version 2 answers there" + SAYS,
            id="the default",
        ),
        pytest.param(
            "all",
            ["stable", "--remove"],
            "nothing answers at /models/m/aliases/stable/predict; under the policy all, "
            "/models/m/predict does not change, and the newest version answers there; under pinned "
            "(triceps serve --policy pinned), nothing answers there" + SAYS,
            id="all",
        ),
        pytest.param(
            "pinned",
            ["stable", "2"],
            "version 2 answers at /models/m/aliases/stable/predict; under the policy pinned, "
            "version 2 answers at /models/m/predict; under latest, the default, the newest version "
            "does" + SAYS,
            id="pinned",
        ),
        pytest.param(
            "pinned",
            ["canary", "2"],
            "version 2 answers at /models/m/aliases/canary/predict; /models/m/predict does not "
            "change\n",
            id="another alias",
        ),
    ],
)
@pytest.mark.usefixtures("models")
def test_a_change_says_what_it_means_under_each_policy(policy, arguments, note):
    """The policy is that of a service, which may have other settings than this command."""
    run("m", "stable", "1")

    assert run("m", *arguments, TRICEPS_POLICY=policy)[2] == f"note: {note}"


def test_another_repository_may_be_given(models, tmp_path):
    """The option is that of every command."""
    models.rename(tmp_path / "others")

    assert run("m", "stable", "2", "--models", "others")[0] == 0
    assert (tmp_path / "others" / "m" / "aliases.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(
            ["m", "stable", "3"], 1, "m has no version '3'. Available: 1, 2, 10", id="no version"
        ),
        pytest.param(
            ["m", "stable", "01"], 1, "m has no version '01'. Available: 1, 2, 10", id="zeros"
        ),
        pytest.param(
            ["n", "stable", "1"],
            1,
            "models: there is no model 'n'. Available: m",
            id="no model",
        ),
        pytest.param(["..", "stable", "1"], 1, "models: there is no model '..'", id="no name"),
        pytest.param(["m", "7", "1"], 2, "not digits alone, received '7'", id="a version's name"),
        pytest.param(["m", "-x", "1"], 2, "No such option", id="an option"),
        pytest.param(["m", "a/b", "1"], 2, "received 'a/b'", id="a path"),
        pytest.param(["m", "stable"], 2, "expected a VERSION for NAME, or --remove", id="neither"),
        pytest.param(["m", "stable", "1", "--remove"], 2, "and not both", id="both"),
        pytest.param(
            ["m", "stabel", "--remove"],
            1,
            "m has no alias 'stabel' (did you mean 'stable'?). Available: stable",
            id="no alias",
        ),
    ],
)
def test_wrong_arguments_are_refused_and_change_nothing(models, arguments, code, message):
    """The error lists the available models, versions or aliases."""
    file = models / "m" / "aliases.json"
    file.write_text('{"stable": "1"}')

    exit_code, out, err = run(*arguments)

    assert (exit_code, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert file.read_text() == '{"stable": "1"}'


def test_a_version_that_would_be_refused_gets_no_alias(models):
    """The error is shown to the user of the command, instead of appearing in a log."""
    small.put(models, "m", 11, BAD)

    assert run("m", "stable", "11") == (
        1,
        "",
        "triceps: m, version 11: refused, it is not an ONNX file, or not the whole of one\n",
    )


@pytest.mark.parametrize("arguments", [["m"], ["m", "stable", "1"]], ids=["list", "set"])
def test_damaged_aliases_are_not_written_over(models, arguments):
    """The file may still be fixed by hand."""
    file = models / "m" / "aliases.json"
    file.write_text("{")

    code, _, err = run(*arguments)

    assert code == 1
    assert err.startswith("triceps: aliases.json: expected JSON like")
    assert file.read_text() == "{"


def test_a_missing_repository_has_no_models(tmp_path, monkeypatch):
    """The error is one line, without a traceback."""
    monkeypatch.chdir(tmp_path)

    assert run("m") == (1, "", "triceps: models: there is no model 'm'. Available: none\n")


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path):
    """The error says that the folder is missing."""
    with (
        pytest.raises(aliases.AliasError, match="cannot be read: No such file"),
        aliases.locked(tmp_path / "gone"),
    ):
        pass


_WRITER = """
import sys
from pathlib import Path
from service.repository import aliases

for number in range(10**9):
    with aliases.changing(Path(sys.argv[1])) as named:
        named["stable"] = str(number)
        named["long"] = "1" * 50_000
    if number == 3:
        print(flush=True)
"""


def test_a_writer_that_is_killed_leaves_the_old_or_the_new(models):
    """Half a file is never left, and the next writer goes on from there."""
    folder = models / "m"
    for pause in (0.0, 0.003, 0.01):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, folder],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        for _ in range(20):
            assert len(aliases.read(folder / "aliases.json")["long"]) == 50_000
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()

        assert int(aliases.read(folder / "aliases.json")["stable"]) >= 3
        assert run("m", "stable", "2")[0] == 0
    left = [path for path in folder.iterdir() if path.name.startswith(".triceps-")]
    for path in left:
        os.utime(path, (0, 0))
    assert run("m", "stable", "1")[0] == 0
    assert not [path for path in left if path.exists()]


def test_two_writers_at_once_lose_nothing(models):
    """The writers take turns."""
    folder = models / "m"
    code = (
        "import sys; from pathlib import Path; from service.repository import aliases\n"
        "for number in range(20):\n"
        "    with aliases.changing(Path(sys.argv[1])) as named:\n"
        "        named[f'{sys.argv[2]}{number}'] = '1'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, folder, name], env=environment)
        for name in "ab"
    ]

    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert len(aliases.read(folder / "aliases.json")) == 40
