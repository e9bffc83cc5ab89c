"""Work in a child process, which cannot harm or hold up its parent.

Each test has a program of its own: a fork of the process that runs all tests would also copy the
threads' locks, the handlers and the gigabytes that other tests have left in it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.host import child

PROGRAM = """
import os, signal, socket, time
from pathlib import Path

from service.errors import ModelRefused
from service.host import child

signal.alarm(120)

def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])

def refuse():
    raise ModelRefused("it is damaged")

def fail():
    raise ValueError("a bug")

def outcome(work, seconds=60, alive=None):
    try:
        return child.run(work, seconds, alive)
    except child.ChildError as error:
        return f"error: {error}"

"""


def run(text):
    """Return what a program prints that ends with `text`."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + text],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_result_comes_back():
    """It may be larger than a pipe."""
    assert run('print(outcome(lambda: {"a": [1, None]}))') == "{'a': [1, None]}"
    assert run('print(outcome(lambda: "x" * 2**20) == "x" * 2**20)') == "True"


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        ("refuse", "it is damaged"),
        ("fail", "ValueError: a bug"),
        ("lambda: os.kill(os.getpid(), signal.SIGKILL)", "it ended its process, by SIGKILL"),
        ("lambda: os._exit(3)", "it ended its process, by exit code 3"),
    ],
)
def test_work_that_fails_is_an_error_with_its_reason(work, reason):
    """An error that is meant for users is repeated as it is."""
    assert run(f"print(outcome({work}))") == f"error: {reason}"


def test_work_that_takes_too_long_is_an_error():
    """The child is killed."""
    work = "lambda: time.sleep(60)"

    assert run(f"print(outcome({work}, 0.5))") == "error: it took longer than 0.5 s"


def test_no_descriptor_is_left_open():
    """A keeper does this for years."""
    text = "before = descriptors(); outcome(lambda: None); print(descriptors() - before)"

    assert run(text) == "0"


def _descriptors():
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_without_a_process_no_descriptor_is_left_open(monkeypatch):
    """There may be too many processes."""

    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = _descriptors()
    with pytest.raises(BlockingIOError):
        child.run(lambda: None, 10)

    assert _descriptors() == before


def test_the_socket_of_the_parent_is_closed_in_the_child():
    """Its peer would not notice the end of the parent."""
    text = """
ours, theirs = socket.socketpair()
print(outcome(lambda: Path(f"/proc/self/fd/{ours.fileno()}").exists(), alive=ours))
ours.close(), theirs.close()
"""

    assert run(text) == "False"
