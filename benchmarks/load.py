"""wrk: the load, and what it measured."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parent


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


JSON = {"Content-Type": "application/json"}


def run(  # noqa: PLR0913  wrk has as many
    url: str,
    body: Path,
    connections: int,
    seconds: float,
    *,
    delay: float = 0,
    headers: Mapping[str, str] = JSON,
) -> Load:
    """Post a file over and over by some keep-alive connections, each waiting for its answer.

    Args:
        url: where to.
        body: the file.
        connections: how many.
        seconds: for how long; whole ones.
        delay: how many seconds each connection waits after an answer; where that is much longer
            than the answer takes, the load hardly depends on how fast the server is.
        headers: of each request.

    Raises:
        NoLoadError: wrk is missing, or failed.
    """
    whole = max(1, round(seconds))
    script = "paced.lua" if delay else "post.lua"
    variables = {
        "HERE": str(FOLDER),
        "DELAY": str(1e3 * delay),
        "HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items()),
    }
    options = ["--threads", "1", "--connections", str(connections), "--duration", f"{whole}s"]
    done = subprocess.run(
        [find(), *options, "--timeout", "10s", "--script", str(FOLDER / script), url],
        env={**os.environ, "BODY": str(body), **variables},
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
