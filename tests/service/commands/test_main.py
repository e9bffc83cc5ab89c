"""The group of commands: what it lists, what it imports, and how it tells of failure."""

import errno
import sys
from importlib import metadata
from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner

from service.commands.main import GROUP, Commands, main
from service.errors import SettingsError, TricepsError


class _Misuse(TricepsError):
    exit_code = 2


def _raising(error):
    """A group of one command, `do`, that raises `error`."""
    group = Commands("triceps")

    @group.command()
    def do():
        raise error

    return group


def _offering(**values):
    """A group of entry points only: command name to `module:attribute`."""
    group = Commands("triceps")
    group.__dict__["entry_points"] = {
        name: EntryPoint(name, value, GROUP) for name, value in values.items()
    }
    return group


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(TricepsError("o1: no such head"), 1, id="it ran and failed"),
        pytest.param(_Misuse("o1: no such head"), 2, id="an error that says it is misuse"),
    ],
)
def test_an_error_on_purpose_is_one_line(error, code):
    """On stderr, under the program's name, with the error's own exit code."""
    done = CliRunner().invoke(_raising(error), ["do"])

    assert (done.exit_code, done.stdout, done.stderr) == (code, "", "triceps: o1: no such head\n")


def test_a_wrong_setting_is_misuse():
    """Scripts tell a setting to mend (2) from a run that failed (1)."""
    assert CliRunner().invoke(_raising(SettingsError("TRICEPS_PORT: …")), ["do"]).exit_code == 2


def test_a_bug_keeps_its_traceback():
    """What was not raised on purpose is not made to look as if it were."""
    bug = ZeroDivisionError("division by zero")

    assert CliRunner().invoke(_raising(bug), ["do"]).exception is bug


def test_an_interrupt_exits_as_the_shell_has_it():
    """Ctrl-C is neither success nor an error to explain."""
    done = CliRunner().invoke(_raising(KeyboardInterrupt()), ["do"])

    assert (done.exit_code, done.output) == (130, "\n")


def test_version_is_the_distributions():
    """`triceps --version` says what was installed."""
    done = CliRunner().invoke(main, ["--version"])

    assert (done.exit_code, done.output) == (0, f"triceps {metadata.version('triceps')}\n")


def test_unknown_command_is_refused_with_the_nearest():
    """Exit code 2, as any wrong use."""
    done = CliRunner().invoke(main, ["serv"])

    assert done.exit_code == 2
    assert "No such command 'serv' (did you mean 'serve'?)" in done.stderr


def test_unknown_command_like_no_other_is_refused():
    """Nothing is suggested where nothing is near."""
    done = CliRunner().invoke(main, ["zzz"])

    assert done.exit_code == 2
    assert done.stderr.endswith("No such command 'zzz'.\n")


def test_unknown_option_is_refused_as_one():
    """An option where the command belongs is not taken for a command."""
    done = CliRunner().invoke(main, ["--prot", "1"])

    assert done.exit_code == 2
    assert "No such option" in done.stderr
    assert "--prot" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--path", "x.toml"]], ids=str)
def test_a_command_whose_extra_is_missing_says_how_to_get_it(monkeypatch, arguments):
    """However it was called, even for its help; it is listed with the same hint."""
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    group = _offering(convert="tf2onnx:convert")

    done = CliRunner().invoke(group, ["convert", *arguments])
    listed = CliRunner().invoke(group, ["--help"])

    assert done.exit_code == 1
    assert done.stderr == (
        "triceps: 'convert' needs tf2onnx, which is not installed: pip install 'triceps[train]'\n"
    )
    assert "convert  (needs the 'train' extra)" in listed.output
    assert listed.exit_code == 0


def test_a_module_missed_while_running_is_told_likewise():
    """A command may import what it needs as late as it likes."""
    missing = ModuleNotFoundError("No module named 'keras.layers'", name="keras.layers")

    done = CliRunner().invoke(_raising(missing), ["do"])

    assert done.exit_code == 1
    assert done.stderr == (
        "triceps: 'do' needs keras.layers, which is not installed: pip install 'triceps[train]'\n"
    )


def test_a_module_that_no_extra_brings_is_a_bug():
    """Then the traceback says more than a hint could."""
    missing = ModuleNotFoundError("No module named 'kears'", name="kears")

    assert CliRunner().invoke(_raising(missing), ["do"]).exception is missing


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param("no_such_plugin:run", "No module named 'no_such_plugin'", id="no module"),
        pytest.param("json:run", "module 'json' has no attribute 'run'", id="no attribute"),
        pytest.param("json:dumps", "json:dumps is no click command", id="no command"),
    ],
)
def test_a_broken_plugin_does_not_break_the_others(value, reason):
    """It is listed as broken, says why when it is called, and the rest works."""
    group = _offering(broken=value, serve="service.commands.serve:serve")

    listed = CliRunner().invoke(group, ["--help"])
    done = CliRunner().invoke(group, ["broken"])

    assert listed.exit_code == 0
    assert "broken  (cannot be loaded)" in listed.output
    assert (done.exit_code, done.stderr) == (
        1,
        f"triceps: 'broken' cannot be loaded: {reason}\n",
    )


def test_listing_names_imports_nothing():
    """Completion and the check for a wrong name need the names alone."""
    group = _offering(broken="no_such_plugin:run")

    assert group.list_commands(click.Context(group)) == ["broken"]


def test_a_message_does_not_drive_the_terminal():
    """The name of a file may hold anything; a message of several lines stays one."""
    error = TricepsError("a\x1b]0;owned\x07\udcff.csv, line 1: wrong\na.csv, line 2: wrong, too: ä")

    done = CliRunner().invoke(_raising(error), ["do"])

    assert done.stderr == (
        "triceps: a\\x1b]0;owned\\x07\\udcff.csv, line 1: wrong\na.csv, line 2: wrong, too: ä\n"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(
            OSError(errno.EFBIG, "File too large"),
            "cannot write its output: File too large",
            id="a limit of size",
        ),
        pytest.param(
            PermissionError(errno.EACCES, "Permission denied", "models/m"),
            "models/m: Permission denied",
            id="a folder of somebody else's",
        ),
        pytest.param(
            OSError(errno.ENAMETOOLONG, "File name too long", "aaa"),
            "aaa: File name too long",
            id="a long name",
        ),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, said):
    """It is no bug of ours, and a traceback would hide what it is."""
    done = CliRunner().invoke(_raising(error), ["do"])

    assert (done.exit_code, done.stderr) == (1, f"triceps: {said}\n")


@pytest.mark.parametrize("command", ["show", "prune", "alias", "train"])
def test_a_name_that_is_too_long_is_said(command):
    """Wherever it is first looked for."""
    done = CliRunner().invoke(main, [command, "a" * 300, *(["--models", "b" * 300])])

    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit), done.exception
