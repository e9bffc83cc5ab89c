"""The group of commands: its list, its imports and its errors."""

import errno
import re
import sys
from importlib import metadata
from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner

from service import __version__
from service.commands.main import GROUP, HEADINGS, Commands, main
from service.errors import SettingsError, TricepsError


class _Misuse(TricepsError):
    exit_code = 2


def _raising(error):
    """Return a group with one command, `do`, that raises `error`."""
    group = Commands("triceps")

    @group.command()
    def do():
        raise error

    return group


def _offering(**values):
    """Return a group with entry points alone: command name to `module:attribute`."""
    group = Commands("triceps")
    group.__dict__["entry_points"] = {
        name: EntryPoint(name, value, GROUP) for name, value in values.items()
    }
    return group


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(TricepsError("o1: no such head"), 1, id="a run that failed"),
        pytest.param(_Misuse("o1: no such head"), 2, id="an error of misuse"),
    ],
)
def test_an_expected_error_is_one_line(error, code):
    """The line on stderr has the program's name; the exit code is that of the error."""
    done = CliRunner().invoke(_raising(error), ["do"])

    assert (done.exit_code, done.stdout, done.stderr) == (code, "", "triceps: o1: no such head\n")


def test_a_wrong_setting_has_exit_code_2():
    """Scripts distinguish a setting to fix (2) from a run that failed (1)."""
    assert CliRunner().invoke(_raising(SettingsError("TRICEPS_PORT: …")), ["do"]).exit_code == 2


def test_a_bug_keeps_its_traceback():
    """A bug must not look like an expected error."""
    bug = ZeroDivisionError("division by zero")

    assert CliRunner().invoke(_raising(bug), ["do"]).exception is bug


def test_an_interrupt_has_exit_code_130():
    """Ctrl-C is neither success nor an error to explain."""
    done = CliRunner().invoke(_raising(KeyboardInterrupt()), ["do"])

    assert (done.exit_code, done.output) == (130, "\n")


def test_the_version_is_that_of_the_distribution():
    """`triceps --version` prints the version that is installed."""
    done = CliRunner().invoke(main, ["--version"])

    assert (done.exit_code, done.output) == (0, f"triceps {metadata.version('triceps')}\n")


def test_an_unknown_command_is_refused_with_the_nearest():
    """The exit code is 2, as for any wrong use."""
    done = CliRunner().invoke(main, ["serv"])

    assert done.exit_code == 2
    assert "No such command 'serv' (did you mean 'serve'?)" in done.stderr


def test_an_unknown_command_without_a_near_one_is_refused():
    """No command is suggested if none is near."""
    done = CliRunner().invoke(main, ["zzz"])

    assert done.exit_code == 2
    assert done.stderr.endswith("No such command 'zzz'.\n")


def test_an_unknown_option_is_refused_as_an_option():
    """An option in the place of the command is not taken for a command."""
    done = CliRunner().invoke(main, ["--prot", "1"])

    assert done.exit_code == 2
    assert "No such option" in done.stderr
    assert "--prot" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--path", "x.toml"]], ids=str)
def test_the_error_for_a_missing_extra_says_how_to_install_it(monkeypatch, arguments):
    """The error is the same for any arguments, even for --help; the list has the same hint."""
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    group = _offering(convert="tf2onnx:convert")

    done = CliRunner().invoke(group, ["convert", *arguments])
    listed = CliRunner().invoke(group, ["--help"])

    assert done.exit_code == 1
    assert done.stderr == (
        "triceps: 'convert' needs tf2onnx, which is not installed: "
        f"pip install 'triceps-{__version__}-py3-none-any.whl[train]'\n"
    )
    assert "convert  (needs the 'train' extra)" in listed.output
    assert listed.exit_code == 0


def test_a_module_that_is_missing_during_a_run_gives_the_same_error():
    """A command may import modules as late as it needs them."""
    missing = ModuleNotFoundError("No module named 'keras.layers'", name="keras.layers")

    done = CliRunner().invoke(_raising(missing), ["do"])

    assert done.exit_code == 1
    assert done.stderr == (
        "triceps: 'do' needs keras.layers, which is not installed: "
        f"pip install 'triceps-{__version__}-py3-none-any.whl[train]'\n"
    )


def test_a_missing_module_of_no_extra_is_a_bug():
    """The traceback then says more than a hint could."""
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
    """The plugin is listed as broken, its error has the reason, and the other commands work."""
    group = _offering(broken=value, serve="service.commands.serve:serve")

    listed = CliRunner().invoke(group, ["--help"])
    done = CliRunner().invoke(group, ["broken"])

    assert listed.exit_code == 0
    assert "broken  (cannot be loaded)" in listed.output
    assert (done.exit_code, done.stderr) == (
        1,
        f"triceps: 'broken' cannot be loaded: {reason}\n",
    )


def test_listing_commands_imports_nothing():
    """Shell completion and the check for a wrong name need only the names."""
    group = _offering(broken="no_such_plugin:run")

    assert group.list_commands(click.Context(group)) == ["broken"]


def test_a_message_does_not_drive_the_terminal():
    """The name of a file may have any characters; a message of several lines stays so."""
    error = TricepsError("a\x1b]0;owned\x07\udcff.csv, line 1: wrong\na.csv, line 2: wrong, too: ä")

    done = CliRunner().invoke(_raising(error), ["do"])

    assert done.stderr == (
        "triceps: a\\x1b]0;owned\\x07\\udcff.csv, line 1: wrong\na.csv, line 2: wrong, too: ä\n"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(
            OSError(errno.EFBIG, "File too large"),
            "cannot write its output: File too large",
            id="a limit of size",
        ),
        pytest.param(
            PermissionError(errno.EACCES, "Permission denied", "models/m"),
            "models/m: Permission denied",
            id="a folder of another user",
        ),
        pytest.param(
            OSError(errno.ENAMETOOLONG, "File name too long", "aaa"),
            "aaa: File name too long",
            id="a long name",
        ),
    ],
)
def test_an_error_of_the_system_is_one_line(error, message):
    """It is not a bug, and a traceback would hide the reason."""
    done = CliRunner().invoke(_raising(error), ["do"])

    assert (done.exit_code, done.stderr) == (1, f"triceps: {message}\n")


def test_the_help_has_three_groups():
    """Each command of both packages is in one, in the order of use, and has its short help."""
    lines = CliRunner().invoke(main, ["--help"]).stdout.splitlines()

    listed = lines[lines.index("Make models:") : lines.index("Look:") + 7]
    assert [line.split()[0] for line in listed if line] == [
        *("Make", "init", "up", "train", "export", "sign"),
        *("Serve:", "serve", "health", "token", "pull", "alias", "traffic", "prune"),
        *("Look:", "show", "check", "diff", "predict", "score", "report"),
    ]
    assert {name for group in HEADINGS.values() for name in group} == {
        entry.name for entry in metadata.entry_points(group=GROUP)
    }
    columns = {re.match(r"  \w+ +", line).end() for line in listed if line[:2] == "  "}
    assert columns == {len("  predict  ")}


def test_the_command_of_another_package_has_a_group_of_its_own():
    """Groups without commands are left out."""
    listed = CliRunner().invoke(_offering(other="service.commands.show:show"), ["--help"]).stdout

    assert "\n\nOther:\n  other  Print a model's signature.\n" in listed
    assert "Serve:" not in listed


@pytest.mark.parametrize("command", ["show", "prune", "alias", "train"])
def test_a_name_that_is_too_long_is_reported(command):
    """The error is the same wherever the name is first looked up."""
    done = CliRunner().invoke(main, [command, "a" * 300, *(["--models", "b" * 300])])

    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit), done.exception
