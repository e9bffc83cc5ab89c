"""A writer of lines that never blocks its caller: it drops lines that their reader does not take.

    add ─▶ lines of up to a second ─ flush ─▶ a thread ─ blocking writes ─▶ a pipe or a file

The thread alone waits for a reader.  Several processes may write to one pipe or file: the kernel
does not mix writes to a pipe of at most `PIPE_BUF` bytes, and each write has whole lines.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import threading
from queue import SimpleQueue
from time import monotonic, sleep

log = logging.getLogger(__name__)

# The bytes of lines that wait for the reader, in one process.
MOST_BYTES = 2**20
# The bytes that are handed to the thread at once; fewer wait for `flush`.
AT_ONCE = 2**15
_LOOK_SECONDS = 0.005


class LineWriter:
    """Lines on their way to a descriptor; one thread adds them."""

    def __init__(self, descriptor: int, what: str) -> None:
        """Write to a descriptor that may block.

        Args:
            descriptor: the descriptor.
            what: the name of its content, for the log.
        """
        self._descriptor = descriptor
        self._what = what
        self._lines: list[bytes] = []
        self._size = 0
        self._handed: SimpleQueue[list[bytes]] = SimpleQueue()
        # Bytes and lines so far; the thread alone changes the last two.
        self._added = 0
        self._refused = 0
        self._done = 0
        self._failed = 0
        self._is_torn = False
        # The kernel writes to a regular file at once, whatever the size.
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._most = AT_ONCE if is_file else select.PIPE_BUF
        threading.Thread(target=self._write_all, name=what, daemon=True).start()

    @property
    def dropped(self) -> int:
        """The lines so far that were dropped."""
        return self._refused + self._failed

    def add(self, line: bytes) -> None:
        """Add a line with its line end, of at most `PIPE_BUF` bytes; drop it if too much waits."""
        size = len(line)
        if self._added - self._done + size > MOST_BYTES:
            self._refused += 1
            return
        self._added += size
        self._lines.append(line)
        self._size += size
        if self._size >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Have the thread write what was added; to be called once a second."""
        if self._lines:
            self._handed.put(self._lines)
            self._lines, self._size = [], 0

    def close(self, seconds: float) -> None:
        """Have all lines written, for at most `seconds`."""
        self.flush()
        until = monotonic() + seconds
        while self._done < self._added and monotonic() < until:
            sleep(_LOOK_SECONDS)

    def _write_all(self) -> None:
        while True:
            data = b"".join(self._handed.get())
            start, end = 0, len(data)
            while start < end:
                # The lines that fit into one write; a longer line is written by itself.
                next_start = data.rfind(b"\n", start, start + self._most) + 1
                next_start = next_start or data.find(b"\n", start) + 1 or end
                self._write(data[start:next_start])
                start = next_start

    def _write(self, data: bytes) -> None:
        """Write whole lines at once, and wait for the reader if need be."""
        # A full disk took only the beginning of a line; the next one is not to go on with it.
        left = b"\n" + data if self._is_torn else data
        while left:
            try:
                written = os.write(self._descriptor, left)
                self._is_torn = not left[:written].endswith(b"\n")
                left = left[written:]
            except BlockingIOError:
                # Another process has the descriptor not block, and shares that with this one.
                waiting = select.poll()
                waiting.register(self._descriptor, select.POLLOUT)
                waiting.poll(1000)
            except OSError as error:
                if not self._failed:
                    log.error("%s: cannot be written: %s", self._what, error.strerror)  # noqa: TRY400
                self._failed += data.count(b"\n", -len(left))
                break
        self._done += len(data)
