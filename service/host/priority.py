"""The priority of this process beside others: for processors, and when memory runs out."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LOWEST = 19


def run_last() -> None:
    """Leave the processors to all other processes that want them; this cannot be undone."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST)
    # Some sandboxes forbid it; where it is allowed, other processes do not even wait for the end of
    # a slice of time.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def end_first() -> None:
    """Have the kernel end this process first if memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
