"""Completion in a shell: commands, options and the names of models."""

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from tests.harness import small
from tests.harness.programs import program

# Printed at the end of each command line, so that the test knows when bash has answered.
READY = "<ready>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a repository, an ONNX file and the program `triceps`."""
    tmp_path = tmp_path_factory.mktemp("shell")
    for version in (1, 2, 10):
        small.put(tmp_path / "models", "three", version, b"not read")
    small.put(tmp_path / "models", "tree", 1, b"not read")
    (tmp_path / "models" / "three" / "aliases.json").write_text('{"stable": "1", "canary": "2"}')
    (tmp_path / "thing.onnx").write_bytes(b"")
    small.put(tmp_path / "others", "four", 1, b"not read")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "triceps"
    script.write_text(f"#!{sys.executable}\nfrom service.commands.main import main\nmain()\n")
    script.chmod(0o755)
    return tmp_path


def environment(folder, **more):
    """Return the environment of a shell that has the program."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    root = os.fspath(small.__file__).rsplit("/tests/", 1)[0]
    return {**os.environ, "PATH": path, "PYTHONPATH": root, **more}


def completions(folder, *words, **more):
    """Return what zsh gets for the last of some words: the type and the value of each line."""
    variables = {
        "_TRICEPS_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(["triceps", *words]),
        "COMP_CWORD": str(len(words)),
        **more,
    }
    done = subprocess.run(
        [folder / "bin" / "triceps"],
        cwd=folder,
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    return list(zip(lines[::3], lines[1::3], strict=True))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["sc"], [("plain", "score")], id="a command"),
        pytest.param(["show", "t"], [*("three", "tree")], id="a model"),
        pytest.param(["show", "three@"], ["1", "2", "10", "canary", "stable"], id="versions"),
        pytest.param(["diff", "tree", "three@st"], ["stable"], id="an alias of the second model"),
        pytest.param(["predict", "three/1"], ["1", "10"], id="versions behind a slash"),
        pytest.param(["alias", "th"], [("plain", "three")], id="a name alone"),
        pytest.param(["check", "--models", "others", ""], ["four"], id="another repository"),
        pytest.param(["check", "--models", "nowhere", ""], [], id="no repository"),
        pytest.param(["diff", "--tol"], [("plain", "--tolerance")], id="an option"),
    ],
)
def test_names_are_completed(folder, words, expected):
    """Where a path may stand in place of a name, the shell completes files too."""
    found = completions(folder, *words)

    if all(isinstance(entry, str) for entry in expected):
        before = words[-1][: max(words[-1].rfind("@"), words[-1].rfind("/")) + 1]
        expected = [("file", words[-1] or "_"), *(("plain", before + entry) for entry in expected)]
        found = [(kind, value or "_") for kind, value in found]
    assert found == expected


def test_a_wrong_setting_prevents_no_completion(folder):
    """The command itself says what is wrong."""
    found = completions(folder, "show", "th", TRICEPS_MODLES="x")

    assert found == [("file", "th")]


def test_all_commands_are_completed(folder):
    """Those of training are among them."""
    values = [value for _, value in completions(folder, "")]

    assert {"serve", "train", "check", "diff"} <= set(values)


_IMPORTED = """
import sys
from service.commands.main import main
try:
    main(prog_name="triceps")
finally:
    print([name for name in {names} if name in sys.modules])
"""


def imported(folder, words, names):
    """Return those of some modules that the completion of the last word imports, as text."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED.format(names=names)],
        cwd=folder,
        env=environment(
            folder,
            _TRICEPS_COMPLETE="bash_complete",
            COMP_WORDS=" ".join(words),
            COMP_CWORD=str(len(words) - 1),
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_completion_of_a_command_imports_none(folder):
    """So that it takes no time; the short help of all is in `triceps --help`."""
    commands = ["service.commands.show", "service.commands.serve", "training.cli"]

    assert imported(folder, ["triceps", "s"], commands) == "[]"
    assert imported(folder, ["triceps", "show", "--"], commands) == "['service.commands.show']"


@pytest.mark.parametrize(
    "command", ["serve", "predict", "score", "report", "show", "check", "diff", "alias", "prune"]
)
def test_completion_imports_nothing_that_loads_models(folder, command):
    """ONNX Runtime alone takes longer than a person waits for a completion."""
    libraries = ["onnxruntime", "onnx", "keras", "rich"]

    assert imported(folder, ["triceps", command, "--"], libraries) == "[]"


class Shell:
    """An interactive bash with completion set up as the documents say."""

    def __init__(self, folder):
        """Start it in `folder`."""
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [program("bash"), "--norc", "--noprofile", "-i"],
            cwd=folder,
            env=environment(folder, PS1=f"{READY} ", TERM="dumb", INPUTRC="/dev/null"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._text = ""

    def read(self, pattern):
        """Read the output until it matches, and leave out what has been read for the next time."""
        end = time.monotonic() + 30
        while not (match := re.search(pattern, self._text)):
            ready = select.select([self._ours], [], [], max(0, end - time.monotonic()))[0]
            assert ready, f"expected {pattern!r}, received {self._text!r}"
            self._text += os.read(self._ours, 65536).decode()
            # A character, and the move back over it, before it is written again.
            while (shorter := re.sub("[^\b]\b", "", self._text)) != self._text:
                self._text = shorter
        self._text = self._text[match.end() :]

    def type(self, text):
        """Press keys."""
        os.write(self._ours, text.encode())

    def close(self):
        """End it."""
        os.close(self._ours)
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def shell(folder):
    """Return a bash that completes `triceps`."""
    started = Shell(folder)
    try:
        started.read(READY)
        started.type('eval "$(_TRICEPS_COMPLETE=bash_source triceps)"; echo set"" up\n')
        started.read("set up")
        started.read(READY)
        yield started
    finally:
        started.close()


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        pytest.param("triceps hea\t", "triceps health ", id="a command"),
        pytest.param("triceps show thr\t", "triceps show three ", id="a model"),
        pytest.param("triceps show three@s\t", "triceps show three@stable ", id="an alias"),
        pytest.param("triceps show three@\t\t", "@1 @2 @10 @canary @stable", id="all versions"),
        pytest.param(
            "triceps diff three@1 three@c\t", "triceps diff three@1 three@canary ", id="the second"
        ),
        pytest.param("triceps show three/s\t", "triceps show three/stable ", id="behind a slash"),
        pytest.param("triceps check thi\t", "triceps check thing.onnx ", id="a file"),
        pytest.param("triceps diff --tol\t", "triceps diff --tolerance ", id="an option"),
    ],
)
def test_bash_completes_what_is_typed(shell, typed, line):
    """The line of the documents sets it up."""
    shell.type(typed)

    shell.read(re.escape(line).replace(r"\ ", r"\s+"))
    shell.type("\x15")  # forgets the line
