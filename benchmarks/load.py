"""wrk: the load, and what it measured."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("post.lua")


class NoLoadError(Exception):
    """wrk is missing, or failed."""


@dataclass(frozen=True)
class Load:
    """One measurement; latencies in milliseconds.

    `refused` are answers that are errors, `late` are those that took longer than 10 s, `broken`
    are connections that failed.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int
    late: int
    broken: int


def find() -> str:
    """The program.

    Raises:
        NoLoadError: it is not there.
    """
    found = shutil.which("wrk")
    if found is None:
        message = (
            "wrk: expected this HTTP load generator on PATH, found none; "
            "on Debian and Ubuntu: apt-get install wrk"
        )
        raise NoLoadError(message)
    return found


def run(url: str, body: Path, connections: int, seconds: float) -> Load:
    """Post a file over and over by some keep-alive connections, each waiting for its answer.

    Raises:
        NoLoadError: wrk is missing, or failed.
    """
    whole = max(1, round(seconds))
    options = ["--threads", "1", "--connections", str(connections), "--duration", f"{whole}s"]
    done = subprocess.run(
        [find(), *options, "--timeout", "10s", "--script", str(SCRIPT), url],
        env={**os.environ, "BODY": str(body)},
        capture_output=True,
        text=True,
        timeout=whole + 30,
        check=False,
    )
    found = re.search(r"^bench (.*)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None:
        raise NoLoadError(f"wrk failed: {done.stdout}{done.stderr}")
    requests, microseconds, p50, p99, refused, late, broken = map(int, found[1].split())
    return Load(requests, microseconds / 1e6, p50 / 1e3, p99 / 1e3, refused, late, broken)
