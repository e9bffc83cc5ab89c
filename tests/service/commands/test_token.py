"""`triceps token`: what it prints and writes, and that no token of a file is lost."""

import os
import re
import stat
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.commands import token as tokens
from service.commands.main import GROUP, Commands
from service.errors import Unauthorized
from service.http.access import Access
from service.http.tokens import Entry, TokensError, read
from tests.harness import small
from tests.harness.waiting import until

ROOT = Path(__file__).parents[3]
NEW_TOKEN = re.compile(r"triceps_[A-Za-z0-9_-]{43}")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the command in a folder of its own.

    The function returns the exit code, standard output and standard error.
    """
    monkeypatch.chdir(tmp_path)
    group = Commands("triceps")
    group.__dict__["entry_points"] = {
        "token": EntryPoint("token", "service.commands.token:token", GROUP)
    }

    def command(*arguments, file="t.toml"):
        environment = {"TRICEPS_TOKENS_FILE": file}
        done = CliRunner().invoke(group, ["token", *map(str, arguments)], env=environment)
        return done.exit_code, done.stdout, done.stderr

    return command


def mode(path):
    """Return the permissions of a file."""
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_a_new_token_opens_its_scope(run):
    """The token alone is printed, for scripts; the file has only its hash."""
    code, out, err = run("shop", "--scope", "predict", "--model", "triceps")
    secret = out.rstrip("\n")
    text = Path("t.toml").read_text()

    assert (code, err) == (0, "t.toml: shop is added; its token, which is not shown again:\n")
    assert NEW_TOKEN.fullmatch(secret)
    assert secret not in text
    assert secret.removeprefix("triceps_") not in text
    assert text == (
        "# Tokens of clients, written by `triceps token`.  A token cannot be read from its hash.\n"
        "count = 1\n"
        "\n"
        "[[tokens]]\n"
        'name = "shop"\n'
        f'hash = "sha256:{sha256(secret.encode()).hexdigest()}"\n'
        'models = ["triceps"]\n'
        'scopes = ["predict"]\n'
    )
    assert mode("t.toml") == 0o600
    assert os.listdir() == ["t.toml"]  # noqa: PTH208  names alone are compared
    assert Access.open("t.toml").check(f"Bearer {secret}", "predict", "triceps") == "shop"


def test_a_model_that_is_not_there_is_noted(run):
    """The token is made all the same, since the model may come later, or be a view."""
    small.put(Path("models"), "three", 1, small.three())
    code, out, err = run("shop", "--scope", "predict", "--model", "tree", "--model", "three")

    assert code == 0
    assert NEW_TOKEN.fullmatch(out.rstrip("\n"))
    [note] = err.splitlines()[1:]
    assert note.startswith("note: models has no model 'tree' now (did you mean 'three'?); ")


def test_tokens_are_added_and_removed_without_other_changes(run):
    """Comments, blank lines and the other tokens stay as they are."""
    Path("t.toml").write_text("# ours\n")
    first = run("a", "--scope", "predict")[1].strip()
    with Path("t.toml").open("a") as file:
        file.write("# the next one collects metrics\n")
    run("b", "--scope", "metrics", "--scope", "admin", "--scope", "admin")
    before = Path("t.toml").read_text()
    run("c", "--scope", "predict", "--model", "y", "--model", "x", "--model", "x")

    assert [(e.name, set(e.scopes), set(e.models)) for e in read(Path("t.toml"))] == [
        ("a", {"predict"}, set()),
        ("b", {"admin", "metrics"}, set()),
        ("c", {"predict"}, {"x", "y"}),
    ]
    assert run("c", "--remove") == (0, "", "t.toml: c is removed\n")
    assert Path("t.toml").read_text() == before
    assert run("a", "--remove")[0] == 0
    text = Path("t.toml").read_text()
    assert text.startswith(
        "count = 1\n# ours\n\n# the next one collects metrics\n\n[[tokens]]\nname = "
    )
    assert [entry.name for entry in read(Path("t.toml"))] == ["b"]
    with pytest.raises(Unauthorized):
        Access.open("t.toml").check(f"Bearer {first}", "predict", None)
    assert run("b", "--remove")[0] == 0
    assert Path("t.toml").read_text() == "count = 0\n# ours\n\n# the next one collects metrics\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["a"], 2, "expected at least one --scope for NAME, or --remove", id="neither"),
        pytest.param(["a", "--scope", "predict", "--remove"], 2, "and not both", id="both"),
        pytest.param(["a", "--model", "m", "--remove"], 2, "and not both", id="remove for a model"),
        pytest.param(["a", "--scope", "read"], 2, "'read' is not one of 'predict'", id="a scope"),
        pytest.param(["a b", "--scope", "predict"], 2, "received 'a b'", id="a name"),
        pytest.param(
            ["a", "--scope", "predict", "--model", "*"], 2, "received '*'", id="a pattern"
        ),
        pytest.param(
            ["a", "--scope", "metrics", "--model", "m"],
            2,
            "expected none beside --scope metrics, since metrics tell of every model",
            id="metrics of some",
        ),
        pytest.param(
            ["shop", "--scope", "predict"],
            2,
            "triceps: t.toml: there is a token 'shop' already: choose another name, or --remove it",
            id="there already",
        ),
        pytest.param(
            ["shp", "--remove"],
            2,
            "triceps: t.toml: there is no token 'shp' (did you mean 'shop'?). Available: shop",
            id="a slip",
        ),
    ],
)
def test_wrong_arguments_are_reported_and_change_nothing(run, arguments, code, message):
    """The error is one line."""
    run("shop", "--scope", "predict")
    before = Path("t.toml").read_bytes()
    done = run(*arguments)

    assert done[:2] == (code, "")
    assert message in done[2]
    assert Path("t.toml").read_bytes() == before


def test_a_file_has_to_be_named(run):
    """The file is named by the variable that the service reads, or by the option."""
    code, _, err = run("a", "--scope", "predict", file="")

    assert code == 2
    assert "Missing option '--file'" in err
    assert run("a", "--scope", "predict", "--file", "other.toml", file="")[0] == 0
    assert Path("other.toml").exists()


@pytest.mark.parametrize("arguments", [("a", "--scope", "predict"), ("a", "--remove")])
def test_a_broken_file_is_not_touched(run, arguments):
    """Its author may want to see what it held."""
    Path("t.toml").write_text("[[tokens]]\nname = 1\n")
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert err.startswith("triceps: t.toml, line 2, name: expected a name")
    assert Path("t.toml").read_text() == "[[tokens]]\nname = 1\n"


@pytest.mark.parametrize("arguments", [("b", "--scope", "predict"), ("a", "--remove")])
def test_an_unusual_file_is_left_to_its_author(run, arguments):
    """A file is changed only if the result is sure to have the right meaning."""
    digest = "sha256:" + "0" * 64
    text = f'tokens = [{{ name = "a", hash = "{digest}", scopes = ["predict"] }}]\n'
    Path("t.toml").write_text(text)

    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert err == (
        "triceps: t.toml: expected [[tokens]] tables of name, hash, scopes and models; "
        "change it by hand\n"
    )
    assert Path("t.toml").read_text() == text


def test_a_file_keeps_its_permissions_and_its_link(run):
    """The service and the command may run as different users."""
    Path("real.toml").write_text("")
    Path("real.toml").chmod(0o640)
    Path("t.toml").symlink_to("real.toml")
    run("a", "--scope", "predict")

    assert Path("t.toml").is_symlink()
    assert (mode("real.toml"), len(read(Path("real.toml")))) == (0o640, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(run):
    """Root may make tokens for a service that runs as another user."""
    Path("t.toml").write_text("")
    os.chown("t.toml", 10001, 10002)
    run("a", "--scope", "predict")
    status = Path("t.toml").stat()

    assert (status.st_uid, status.st_gid) == (10001, 10002)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param("no/t.toml", "cannot be changed: No such file or directory", id="no folder"),
        pytest.param("binary", "expected TOML, which is UTF-8, received other bytes", id="binary"),
    ],
)
def test_a_file_that_cannot_be_changed_is_reported(run, file, message):
    """The error has the system's reason."""
    Path("binary").write_bytes(b"\xff")

    assert run("a", "--scope", "predict", file=file) == (2, "", f"triceps: {file}: {message}\n")


def test_a_write_that_fails_leaves_the_former_file(run, monkeypatch):
    """A full disk loses no token, and no temporary file is left."""
    run("a", "--scope", "predict")
    before = Path("t.toml").read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokens.os, "fsync", fail)
    code, out, err = run("b", "--scope", "predict")

    assert (code, out) == (2, "")
    where = Path("t.toml").resolve()
    assert err == f"triceps: {where}: cannot be written: No space left on device\n"
    assert Path("t.toml").read_bytes() == before
    assert os.listdir() == ["t.toml"]  # noqa: PTH208  names alone are compared


def test_simultaneous_writers_take_turns(tmp_path):
    """Every token that was printed is in the file."""
    program = (
        "import sys; from service.commands.token import token; "
        "token([sys.argv[1], '--scope', 'predict'], standalone_mode=False)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TRICEPS_TOKENS_FILE": str(tmp_path / "t.toml"),
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, f"n{number}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number in range(4)
    ]
    secrets = {f"n{n}": process.communicate()[0].strip() for n, process in enumerate(running)}

    assert {entry.name: entry.digest for entry in read(tmp_path / "t.toml")} == {
        name: sha256(token.encode()).digest() for name, token in secrets.items()
    }


def test_a_file_that_is_cut_anywhere_is_broken(run):
    """The previous tokens stay valid, and no token opens more than before."""
    for name in "abc":
        run(name, "--scope", "predict", "--scope", "admin", "--model", "m")
    content = Path("t.toml").read_bytes()
    whole = read(Path("t.toml"))
    assert len(whole) == 3
    # Without its last character, a newline, the file means the same.
    for size in range(len(content) - 1):
        Path("t.toml").write_bytes(content[:size])
        with pytest.raises(TokensError):
            read(Path("t.toml"))


def test_a_running_service_follows_the_file(run):
    """A new token is accepted within a second, and a removed one is refused."""
    first = run("a", "--scope", "predict")[1].strip()
    opened = Access.open("t.toml")
    second = run("b", "--scope", "predict")[1].strip()
    run("a", "--remove")
    until(lambda: opened.allows(f"Bearer {second}", "predict", None), 5)

    assert opened.check(f"Bearer {second}", "predict", None) == "b"
    with pytest.raises(Unauthorized):
        opened.check(f"Bearer {first}", "predict", None)


def test_a_written_token_can_be_removed():
    """Any valid name works."""
    entry = Entry("a-b.c_1", b"\1" * 32, frozenset(("admin", "predict")), frozenset(("m", "n")))
    text = tokens._with("", entry, Path("t.toml"))

    assert tokens._without(text, "a-b.c_1", Path("t.toml")) == (
        text.split("\n\n")[0].replace("count = 1", "count = 0") + "\n"
    )
