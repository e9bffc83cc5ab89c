"""Progress of long work at a terminal: nothing for two seconds, then a line on standard error.

A thread writes the line, so that work in ONNX Runtime, which gives Python no time, has one too.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from service.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

# The time after which a person wants to know that something happens.
AFTER_SECONDS = 2.0
# The kinds of terminals that cannot rewrite a line.
_DUMB = ("", "dumb", "unknown")


@contextlib.contextmanager
def shown(
    what: str, file: IO[Any] | None = None, *, size: int | None = None, wanted: bool = True
) -> Iterator[None]:
    """Show what is being done while the block runs, if that takes long at a terminal.

    Args:
        what: the work, as the line names it.
        file: the open file that the block reads or writes; its place gives the share that is done.
        size: the bytes that the file will have, if the block writes it.
        wanted: false if the block writes to the terminal itself.
    """
    if not (wanted and _is_terminal()):
        yield
        return
    line = _Line(printable(what), file, size)
    timer = threading.Timer(AFTER_SECONDS, line.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # it may be starting the line just now
        line.stop()


def _is_terminal() -> bool:
    """Return whether standard error is a terminal that can rewrite a line."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM", "") not in _DUMB
    except ValueError:  # it is closed
        return False


class _Line:
    """The line: a bar if the size of a file is known, and else a spinner."""

    def __init__(self, what: str, file: IO[Any] | None, size: int | None) -> None:
        self._what = what
        self._began = time.monotonic()
        self._file = None if file is None else file.fileno()
        self._size = size
        # Another way to the terminal, since TensorFlow's import mutes the descriptor of the first.
        self._terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
        self._progress: Progress | None = None

    def start(self) -> None:
        """Write the line, and rewrite it from time to time."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        size = self._size
        if self._file is not None and size is None:
            size = os.fstat(self._file).st_size or None
        place = self._place

        class Following(Progress):
            """A line that looks at the place in the file whenever it is rewritten."""

            def get_renderables(self) -> Any:
                if size is not None:
                    for task in self.tasks:
                        task.completed = min(size, place())
                return super().get_renderables()

        measured = (BarColumn(), TaskProgressColumn()) if size is not None else ()
        self._progress = Following(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            *measured,
            TimeElapsedColumn(),
            console=Console(file=self._terminal, highlight=False),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        task = self._progress.add_task(self._what, total=size)
        self._progress.tasks[task].start_time = self._began
        self._progress.start()

    def stop(self) -> None:
        """Remove the line, if it was written."""
        if self._progress is not None:
            self._progress.stop()
        self._terminal.close()

    def _place(self) -> int:
        """Return the number of bytes that were read."""
        with contextlib.suppress(OSError):
            return os.lseek(self._file or 0, 0, os.SEEK_CUR)
        return 0
