"""`triceps token`: what it prints, what it writes, and that nothing of a file is lost."""

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
from tests.harness.waiting import until

ROOT = Path(__file__).parents[3]
MADE = re.compile(r"triceps_[A-Za-z0-9_-]{43}")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in a folder of its own: exit code, standard output and error."""
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
    """Who may do what with a file."""
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_a_token_is_made_and_opens_what_it_was_made_for(run):
    """It is printed alone, so that a script can take it; the file has only its hash."""
    code, out, err = run("shop", "--scope", "predict", "--model", "triceps")
    made = out.rstrip("\n")
    text = Path("t.toml").read_text()

    assert (code, err) == (0, "t.toml: shop is added; its token, which is not shown again:\n")
    assert MADE.fullmatch(made)
    assert made not in text
    assert made.removeprefix("triceps_") not in text
    assert text == (
        "# Tokens of clients, written by `triceps token`.  A token cannot be read from its hash.\n"
        "count = 1\n"
        "\n"
        "[[tokens]]\n"
        'name = "shop"\n'
        f'hash = "sha256:{sha256(made.encode()).hexdigest()}"\n'
        'models = ["triceps"]\n'
        'scopes = ["predict"]\n'
    )
    assert mode("t.toml") == 0o600
    assert os.listdir() == ["t.toml"]  # noqa: PTH208  names alone are compared
    assert Access.open("t.toml").check(f"Bearer {made}", "predict", "triceps") == "shop"


def test_tokens_are_added_and_removed_around_what_stands_there(run):
    """Comments, blanks and the other tokens stay as they are."""
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
    ("arguments", "code", "said"),
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
def test_what_cannot_be_is_said_and_changes_nothing(run, arguments, code, said):
    """In one line."""
    run("shop", "--scope", "predict")
    before = Path("t.toml").read_bytes()
    done = run(*arguments)

    assert done[:2] == (code, "")
    assert said in done[2]
    assert Path("t.toml").read_bytes() == before


def test_a_file_has_to_be_named(run):
    """By the variable that the service reads, or by a flag."""
    code, _, err = run("a", "--scope", "predict", file="")

    assert code == 2
    assert "Missing option '--file'" in err
    assert run("a", "--scope", "predict", "--file", "other.toml", file="")[0] == 0
    assert Path("other.toml").exists()


@pytest.mark.parametrize("arguments", [("a", "--scope", "predict"), ("a", "--remove")])
def test_a_broken_file_is_not_touched(run, arguments):
    """Whoever broke it may want to know what stood there."""
    Path("t.toml").write_text("[[tokens]]\nname = 1\n")
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert err.startswith("triceps: t.toml, line 2, name: expected a name")
    assert Path("t.toml").read_text() == "[[tokens]]\nname = 1\n"


@pytest.mark.parametrize("arguments", [("b", "--scope", "predict"), ("a", "--remove")])
def test_an_unusual_file_is_left_to_who_wrote_it(run, arguments):
    """It is changed only if what comes of that is sure to mean what it should."""
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


def test_who_could_read_a_file_still_can(run):
    """The service may be another user than whoever makes tokens; and a link stays one."""
    Path("real.toml").write_text("")
    Path("real.toml").chmod(0o640)
    Path("t.toml").symlink_to("real.toml")
    run("a", "--scope", "predict")

    assert Path("t.toml").is_symlink()
    assert (mode("real.toml"), len(read(Path("real.toml")))) == (0o640, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_stays_its_owners(run):
    """Where root makes tokens for a service that is not."""
    Path("t.toml").write_text("")
    os.chown("t.toml", 10001, 10002)
    run("a", "--scope", "predict")
    found = Path("t.toml").stat()

    assert (found.st_uid, found.st_gid) == (10001, 10002)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        pytest.param("no/t.toml", "cannot be changed: No such file or directory", id="no folder"),
        pytest.param("binary", "expected TOML, which is UTF-8, received other bytes", id="binary"),
    ],
)
def test_a_file_that_cannot_be_changed_says_so(run, file, said):
    """As the system does."""
    Path("binary").write_bytes(b"\xff")

    assert run("a", "--scope", "predict", file=file) == (2, "", f"triceps: {file}: {said}\n")


def test_a_write_that_fails_leaves_what_was_there(run, monkeypatch):
    """A full disk loses nobody's token, and leaves nothing behind."""
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


def test_two_that_write_at_once_take_turns(tmp_path):
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
    made = {f"n{n}": process.communicate()[0].strip() for n, process in enumerate(running)}

    assert {entry.name: entry.digest for entry in read(tmp_path / "t.toml")} == {
        name: sha256(token.encode()).digest() for name, token in made.items()
    }


def test_wherever_a_file_is_cut_off_that_is_noticed(run):
    """The previous tokens stay valid, and none is good for more than it was."""
    for name in "abc":
        run(name, "--scope", "predict", "--scope", "admin", "--model", "m")
    content = Path("t.toml").read_bytes()
    whole = read(Path("t.toml"))
    assert len(whole) == 3
    # Without its last character, a newline, it says the same.
    for size in range(len(content) - 1):
        Path("t.toml").write_bytes(content[:size])
        with pytest.raises(TokensError):
            read(Path("t.toml"))


def test_a_running_service_follows(run):
    """Whoever is added may ask within a second, and who is removed may not."""
    first = run("a", "--scope", "predict")[1].strip()
    opened = Access.open("t.toml")
    second = run("b", "--scope", "predict")[1].strip()
    run("a", "--remove")
    until(lambda: opened.allows(f"Bearer {second}", "predict", None), 5)

    assert opened.check(f"Bearer {second}", "predict", None) == "b"
    with pytest.raises(Unauthorized):
        opened.check(f"Bearer {first}", "predict", None)


def test_what_is_written_is_what_is_read():
    """Whatever it is called."""
    entry = Entry("a-b.c_1", b"\1" * 32, frozenset(("admin", "predict")), frozenset(("m", "n")))
    text = tokens._with("", entry, Path("t.toml"))

    assert tokens._without(text, "a-b.c_1", Path("t.toml")) == (
        text.split("\n\n")[0].replace("count = 1", "count = 0") + "\n"
    )
