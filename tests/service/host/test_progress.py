"""Progress of long work: at a terminal alone, and not before two seconds."""

import re
import subprocess
import sys

import pytest

from service.host import progress
from tests.harness import small, terminal

# Shows progress at once, and makes each run of a model take a while.
SLOW = f"""{terminal.SOON}
import time
from service.inference.model import Model
real = Model.predict
def slow(model, arrays, heads):
    time.sleep(0.15)
    return real(model, arrays, heads)
Model.predict = slow
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a repository and tables, whose lines are padded to be a long file."""
    folder = tmp_path_factory.mktemp("progress")
    for version in (1, 2):
        small.put(folder / "models", "three", version, small.three())
    line = f"1,2,{'x' * 400}\n"
    (folder / "rows.csv").write_text("weight,length,note\n" + line * 1000)
    (folder / "labelled.csv").write_text(
        "weight,length,size,note\n" + f"1,2,3,{'x' * 400}\n" * 1000
    )
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["predict", "three", "rows.csv", "--heads", "size"], id="predict"),
        pytest.param(["score", "three", "labelled.csv"], id="score"),
        pytest.param(["report", "three", "--on", "labelled.csv", "--out", "r.html"], id="report"),
        pytest.param(
            ["diff", "three@1", "three@2", "--in", "rows.csv", "--heads", "size"], id="diff"
        ),
    ],
)
def test_the_share_of_a_file_is_shown(folder, arguments):
    """The bytes that were read give it; standard output has the results alone."""
    done = terminal.run(arguments, folder, before=SLOW)

    shares = [int(share) for share in re.findall(r"(\d+)%", done.err)]
    assert done.code == 0, done.err
    assert re.search(r"(rows|labelled)\.csv", done.err)
    assert shares == sorted(shares)
    assert 0 < max(shares) <= 100
    assert "%" not in done.out or arguments[0] == "diff"
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(["show", "three"], "loading three", id="show"),
        pytest.param(["check", "three"], "loading three", id="check"),
        pytest.param(["prune", "three"], "loading the newest version of three", id="prune"),
        pytest.param(["alias", "three", "a", "1"], "loading three, version 1", id="alias"),
    ],
)
def test_work_of_unknown_length_is_named(folder, arguments, line):
    """There is no share to show."""
    done = terminal.run(arguments, folder, before=SLOW)

    assert done.code == 0, done.err
    assert line in done.err
    assert "%" not in done.err


def test_short_work_shows_nothing(folder):
    """A line that comes and goes would only distract."""
    done = terminal.run(["predict", "three", "rows.csv", "--heads", "size"], folder)

    assert done.err == "1000 rows scored by three, version 2\r\n"
    assert progress.AFTER_SECONDS == 2


def test_a_terminal_that_cannot_rewrite_a_line_gets_none(folder):
    """Neither escape sequences nor a line."""
    done = terminal.run(["show", "three"], folder, before=SLOW, both=True, TERM="dumb")

    assert done.code == 0
    assert "loading" not in done.err
    assert "\x1b" not in done.err
    assert "three, version 2" in done.err


def test_colours_can_be_switched_off(folder):
    """The variable NO_COLOR is that of no-color.org; the line itself stays."""
    plain = terminal.run(["show", "three"], folder, before=SLOW, both=True, NO_COLOR="1")
    coloured = terminal.run(["show", "three"], folder, before=SLOW, both=True)

    colour = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9)\d(?:;\d+)*m")
    assert "loading three" in plain.err
    assert not colour.search(plain.err)
    assert colour.search(coloured.err)


def test_answers_at_the_terminal_are_the_progress(folder):
    """A bar between them would be in their way."""
    done = terminal.run(
        ["predict", "three", "rows.csv", "--heads", "size"], folder, before=SLOW, both=True
    )

    assert "%" not in done.err
    assert "3.0" in done.err


def test_nothing_is_shown_where_there_is_no_terminal(folder):
    """Not even if a variable asks for colours, since a log would have it."""
    done = subprocess.run(
        [sys.executable, "-c", f"{SLOW}\n{terminal.PROGRAM}", "show", "three"],
        cwd=folder,
        env={"PYTHONPATH": str(terminal.ROOT), "FORCE_COLOR": "1", "TERM": "xterm"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""


def test_an_error_removes_the_line(folder):
    """The message stands alone."""
    (folder / "bad.csv").write_text("weight,length\n" + "1,2\n" * 1000 + "1,long\n")

    done = terminal.run(["predict", "three", "bad.csv", "--heads", "size"], folder, before=SLOW)

    assert done.code == 1
    assert done.err.splitlines()[-1].endswith(
        'triceps: bad.csv, line 1002, fruit.length: expected a number for length, received "long"'
    )
