"""Load by wrk, and its measurements."""

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
    """wrk is missing, or it failed."""


@dataclass(frozen=True)
class Load:
    """A measurement; latencies are in milliseconds.

    `refused` counts error answers, `late` answers that took longer than 10 s, and `broken` failed
    connections.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int
    late: int
    broken: int
    p999: float = 0.0


def find() -> str:
    """Return the path of wrk.

    Raises:
        NoLoadError: wrk is not installed.
    """
    path = shutil.which("wrk")
    if path is None:
        message = (
            "wrk: expected this HTTP load generator on PATH, found none; "
            "on Debian and Ubuntu: apt-get install wrk"
        )
        raise NoLoadError(message)
    return path


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
    """Post a file repeatedly over keep-alive connections, each of which waits for its answer.

    Args:
        url: the URL to post to.
        body: the path of the file.
        connections: the number of connections.
        seconds: the duration in whole seconds.
        delay: the seconds that each connection waits after an answer; if that is much longer
            than an answer takes, the load hardly depends on the speed of the server.
        headers: the headers of each request.

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
    requests, microseconds, *percentiles, refused, late, broken = map(int, found[1].split())
    p50, p99, p999 = (p / 1e3 for p in percentiles)
    return Load(requests, microseconds / 1e6, p50, p99, refused, late, broken, p999)
