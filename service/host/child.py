"""A child process for one piece of work, which may end it, hang or take too long."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

from service.errors import TricepsError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class ChildError(Exception):
    """The work has no result; the message says why."""


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
    report = bytearray()
    is_late = False
    with open(reader, "rb", buffering=0) as pipe:  # noqa: PTH123  it is open already
        while select.select([pipe], [], [], max(0, end - time.monotonic()))[0]:
            part = pipe.read(65536)
            if not part:
                break
            report += part
        else:
            os.kill(pid, signal.SIGKILL)
            is_late = True
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if is_late:
        raise ChildError(f"it took longer than {seconds:g} s")
    if not report:
        by = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise ChildError(f"it ended its process, by {by}")
    result, error = json.loads(report)
    if error is not None:
        raise ChildError(error)
    return result


def _work(work: Callable[[], Any], writer: int, seconds: float) -> None:
    """Do the work in the child process, report its result, and never return."""
    # The child ends by itself, even if its parent has been killed.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(seconds) + 1)
    report = json.dumps([None, "it failed"])
    try:
        report = json.dumps([work(), None])
    except TricepsError as error:
        report = json.dumps([None, str(error)])
    except BaseException as error:  # noqa: BLE001  every error is reported
        report = json.dumps([None, f"{type(error).__name__}: {error}"])
    finally:
        with open(writer, "wb") as pipe:
            pipe.write(report.encode())
        os._exit(0)
