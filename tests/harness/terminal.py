"""A terminal: a program runs in it, and what it writes there is kept."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
PROGRAM = "from service.commands.main import main; main(prog_name='triceps')"
# Shows progress nearly at once, if it runs before the program.
SOON = "from service.host import progress; progress.AFTER_SECONDS = 0.05"


class Done(NamedTuple):
    """The end of a program: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


def run(
    arguments: Sequence[object],
    folder: Path,
    *,
    before: str = "",
    both: bool = False,
    **environment: str,
) -> Done:
    """Run `triceps` with a terminal as standard error.

    Args:
        arguments: the command and its arguments.
        folder: the working directory.
        before: Python that runs in the process before the command.
        both: whether standard output is the same terminal.
        environment: variables, beside those of the tests.
    """
    ours, theirs = pty.openpty()
    known = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{PROGRAM}", *map(str, arguments)],
        cwd=folder,
        env={**known, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120", **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs if both else subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    written = bytearray()

    def read() -> None:
        # The system reports the end of the last writer as an error.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                written.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        reader.join(60)
        os.close(ours)
    return Done(process.returncode, (out or b"").decode(), written.decode())
