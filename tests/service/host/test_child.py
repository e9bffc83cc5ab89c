"""Work in a child process, which cannot harm or hold up its parent."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from service.errors import ModelRefused
from service.host import child
from service.host.child import ChildError


def _refuses():
    raise ModelRefused("it is damaged")


def _descriptors():
    """Return the number of open descriptors of this process."""
    return len([*Path("/proc/self/fd").iterdir()])


def _breaks():
    raise ValueError("a bug")


def test_the_result_comes_back():
    """It may be larger than a pipe."""
    assert child.run(lambda: {"a": [1, None]}, 10) == {"a": [1, None]}
    assert child.run(lambda: "x" * 2**20, 10) == "x" * 2**20


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (_refuses, "it is damaged"),
        (_breaks, "ValueError: a bug"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "it ended its process, by SIGKILL"),
        (lambda: os._exit(3), "it ended its process, by exit code 3"),
    ],
)
def test_work_that_fails_is_an_error_with_its_reason(work, reason):
    """An error that is meant for users is repeated as it is."""
    with pytest.raises(ChildError) as caught:
        child.run(work, 60)

    assert str(caught.value) == reason


def test_work_that_takes_too_long_is_an_error():
    """The child is killed."""
    with pytest.raises(ChildError) as caught:
        child.run(lambda: time.sleep(60), 0.5)

    assert str(caught.value) == "it took longer than 0.5 s"


def test_no_descriptor_is_left_open():
    """A keeper does this for years."""
    before = _descriptors()
    child.run(lambda: None, 10)

    assert _descriptors() == before


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
    ours, theirs = socket.socketpair()
    with ours, theirs:
        is_open = child.run(lambda: Path(f"/proc/self/fd/{ours.fileno()}").exists(), 10, ours)

    assert not is_open
