"""The processors that this process may use in its container: their number and their kind."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def available(root: Path = Path("/")) -> int:
    """Return the number of whole processors, at least 1, by affinity and by the cgroup's quota.

    Args:
        root: the root of the file system that /proc and /sys are read from.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # A quota of 1.5 is enough for one busy process; the kernel would stop two in mid-request.
    return max(1, min(affinity or 1, int(_quota(root))))


# The lines of /proc/cpuinfo that tell processors with other instructions or caches apart, on x86
# and on ARM.
_KIND = frozenset(
    {
        *("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "flags"),
        *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
    }
)


def kind(root: Path = Path("/")) -> str:
    """Return a text that differs between processors that run different instructions.

    Args:
        root: the root of the file system that /proc is read from.
    """
    try:
        first, _, _ = (root / "proc/cpuinfo").read_text().partition("\n\n")
    except OSError:
        first = ""
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in _KIND]
    return "\n".join([platform.machine(), *lines])


def _quota(root: Path) -> float:
    """Return the quota in processors, by cgroup v2 or v1; a large number without a quota.

    The quotas of all groups above apply too, so the least of them counts.
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
    """Return the controllers ("" in cgroup v2) and the path of each group of this process."""
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
