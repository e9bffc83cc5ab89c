"""Standard streams that are closed, full, or in another encoding than UTF-8."""

import os
import subprocess
import sys

import pytest

from tests.harness import small
from tests.harness.terminal import ROOT

PROGRAM = "from service.commands.main import main; main(prog_name='triceps')"


def run(folder, redirection, *arguments, **environment):
    """Return exit code, standard output and standard error of `triceps`, redirected by a shell."""
    done = subprocess.run(
        [
            *("/bin/sh", "-c", f'exec "$@" {redirection}', "sh"),
            *(sys.executable, "-c", PROGRAM, *arguments),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def models(tmp_path):
    """Return a repository with one model."""
    small.put(tmp_path / "models", "three", 1, small.three())
    return tmp_path / "models"


@pytest.mark.parametrize(
    "redirection",
    [
        pytest.param(">&-", id="output"),
        pytest.param("2>&-", id="errors"),
        pytest.param("<&-", id="input"),
        pytest.param("<&- >&- 2>&-", id="all"),
    ],
)
@pytest.mark.parametrize("command", ["check", "show", "alias"])
def test_a_command_runs_with_closed_streams(models, redirection, command):
    """Only what it would have printed there is lost."""
    code, _, err = run(models.parent, redirection, command, "three")

    assert code == 0
    assert "Traceback" not in err


def test_an_error_has_its_exit_code_with_closed_streams(models):
    """A script that discards the reason still learns that there is one."""
    code, *_ = run(models.parent, ">&- 2>&-", "check", "four")

    assert code == 1


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_disk_is_one_line(models, option):
    """The options of the program itself have the errors of its commands."""
    full = run(models.parent, ">/dev/full", option)

    assert full == (1, "", "triceps: cannot write its output: No space left on device\n")


def test_an_encoding_without_a_character_has_its_escape(models):
    """Tables are printed in Latin-1, too, as in the locales of some systems."""
    (models / "three" / "aliases.json").write_text('{"stable": "1"}')

    code, out, err = run(
        models.parent, "", "alias", "three", "stable", "1", PYTHONIOENCODING="latin-1"
    )

    assert (code, out) == (0, "three, stable: version 1 \\u2192 version 1\n")
    assert err.startswith("note: version 1 answers at ")
