"""A child process for one piece of work, which may end it, hang or take too long."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import TricepsError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class ChildError(Exception):
    """The work has no result; the message says why."""


class Ended(NamedTuple):
    """The end of a child process."""

    said: bytes
    """The result of its work; empty if there is none."""
    code: int
    """Its exit code, or the negative number of the signal that has ended it."""
    is_late: bool
    """True if it was killed because it took too long."""

    @property
    def cause(self) -> str:
        """The signal or exit code that has ended it, for a message."""
        return signal.Signals(-self.code).name if self.code < 0 else f"exit code {self.code}"


def run(work: Callable[[], Any], seconds: float, alive: socket.socket | None = None) -> Any:
    """Do a piece of work in a child process, and return its result.

    Args:
        work: returns something that JSON can hold.
        seconds: the time that it may take.
        alive: a socket that the child has to close.

    Raises:
        ChildError: the work failed, did not end in time, or ended the process.
        OSError: there can be no child process now.
    """
    ended = wait_for(partial(_result, work), seconds, alive)
    if ended.is_late:
        raise ChildError(f"it took longer than {seconds:g} s")
    if not ended.said:
        raise ChildError(f"it ended its process, by {ended.cause}")
    result, error = json.loads(ended.said)
    if error is not None:
        raise ChildError(error)
    return result


def wait_for(work: Callable[[], str], seconds: float, alive: socket.socket | None = None) -> Ended:
    """Do a piece of work in a child process, wait for its end, and return how it came.

    Args:
        work: returns a text; it handles its own errors.
        seconds: the time that it may take.
        alive: a socket that the child has to close.

    Raises:
        OSError: there can be no child process now.
    """
    end = time.monotonic() + seconds
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:
        if alive is not None:
            alive.close()
        _work(work, writer, seconds)
    os.close(writer)
    said = bytearray()
    is_late = False
    with open(reader, "rb", buffering=0) as pipe:  # noqa: PTH123  it is open already
        while select.select([pipe], [], [], max(0, end - time.monotonic()))[0]:
            part = pipe.read(65536)
            if not part:
                break
            said += part
        else:
            os.kill(pid, signal.SIGKILL)
            is_late = True
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(bytes(said), code, is_late)


def _work(work: Callable[[], str], writer: int, seconds: float) -> None:
    """Do the work in the child process, write what it returns, and never return."""
    # The child ends by itself, even if its parent has been killed.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(seconds) + 1)
    try:
        # One write, which needs little memory, and blocks until the parent has read it all.
        os.write(writer, work().encode())
    finally:
        os._exit(0)


def _result(work: Callable[[], Any]) -> str:
    """Return the result of the work, or its error, as JSON."""
    try:
        return json.dumps([work(), None])
    except TricepsError as error:
        return json.dumps([None, str(error)])
    except BaseException as error:  # noqa: BLE001  every error is reported
        return json.dumps([None, f"{type(error).__name__}: {error}"])
