"""How many processors this process may use: what the container has, not what the host has."""

from __future__ import annotations

import os
from pathlib import Path


def available(root: Path = Path("/")) -> int:
    """Whole processors, at least one: by affinity, and by the cgroup's quota where it has one.

    Args:
        root: of the file system that /proc and /sys are read from.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A quota of 1.5 feeds one busy process; two would both be stopped in the middle of requests.
    return max(1, min(affinity or 1, int(_quota(root))))


def _quota(root: Path) -> float:
    """Processors' worth of time, by cgroup v2 or v1; infinity (a large number) without a quota.

    A quota of any group above this one holds too, so the least of them counts.
    """
    least = 1e6
    for controllers, path in groups(root):
        if controllers == "":
            base, read = root / "sys/fs/cgroup", _read_v2
        elif "cpu" in controllers.split(","):
            base, read = root / "sys/fs/cgroup" / controllers, _read_v1
            if not base.is_dir():
                base = root / "sys/fs/cgroup/cpu"
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            least = min(least, read(base / folder))
    return least


def groups(root: Path) -> list[tuple[str, str]]:
    """The groups this process is in: their controllers ("" by v2) and their paths."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines]
    return [(part[1], part[2]) for part in parts if len(part) == 3]  # noqa: PLR2004  id:controllers:path


def _read_v2(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):  # no such file, or "max"
        return 1e6


def _read_v1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return 1e6
    return quota / period if quota > 0 and period > 0 else 1e6
