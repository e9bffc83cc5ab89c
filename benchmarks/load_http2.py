"""Load by h2load, over HTTP/2 or HTTP/1.1 without TLS, and its measurements."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import JSON, Load, NoLoadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PACKAGE = "on Debian and Ubuntu: apt-get install nghttp2-client"
# Answers that took longer count as late, as with wrk.
LATE_SECONDS = 10.0
_REQUESTS = re.compile(
    r"^requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored, "
    r"(\d+) timeout$",
    re.MULTILINE,
)
_DATA = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)
_SECONDS = re.compile(r"^finished in ([\d.]+)(us|ms|s|m)?,", re.MULTILINE)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def find() -> str | None:
    """Return the path of h2load, if it is installed."""
    return shutil.which("h2load")


def run(  # noqa: PLR0913  as load.run has
    url: str,
    body: Path,
    connections: int,
    seconds: float,
    *,
    headers: Mapping[str, str] = JSON,
    answer: int = 0,
    over_http1: bool = False,
) -> Load:
    """Post a file repeatedly over connections, each of which waits for its answer.

    Args:
        url: the URL to post to.
        body: the path of the file.
        connections: the number of connections; each has one stream at a time.
        seconds: the duration in whole seconds.
        headers: the headers of each request.
        answer: the bytes of a right answer, if they are known: an error of gRPC has the status
            200, but no such body.
        over_http1: whether to speak HTTP/1.1.

    Raises:
        NoLoadError: h2load is missing, or failed.
    """
    program = find()
    if program is None:
        raise NoLoadError(f"h2load: expected this load generator on PATH, found none; {PACKAGE}")
    whole = max(1, round(seconds))
    options = ["--threads=1", f"--clients={connections}", f"--duration={whole}"]
    options += ["--h1"] if over_http1 else []
    options += [part for pair in headers.items() for part in ("--header", ": ".join(pair))]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests"
        done = subprocess.run(
            [program, *options, f"--data={body}", f"--log-file={log}", url],
            capture_output=True,
            text=True,
            timeout=whole + 30,
            check=False,
        )
        lines = log.read_text().splitlines() if log.exists() else []
    if done.returncode != 0 or not _REQUESTS.search(done.stdout):
        raise NoLoadError(f"h2load failed: {done.stdout}{done.stderr}")
    return read(done.stdout, lines, answer)


def read(printed: str, lines: Sequence[str], answer: int = 0) -> Load:
    """Return the measurements that h2load printed and logged.

    Args:
        printed: its standard output.
        lines: its log: the start, the status and the microseconds of each request.
        answer: the bytes of a right answer, if they are known.

    Raises:
        NoLoadError: the output is none of h2load.
    """
    requests, data, finished = (one.search(printed) for one in (_REQUESTS, _DATA, _SECONDS))
    if requests is None or data is None or finished is None:
        raise NoLoadError(f"h2load: expected its summary, received {printed!r}")
    count, failed, errored, timeout = map(int, requests.groups())
    refused = failed - errored
    if answer:
        refused += max(0, count - failed - int(data[1]) // answer)
    times = sorted(int(line.split()[2]) / 1e3 for line in lines)
    p50, p99, p999 = (_percentile(times, share) for share in (0.5, 0.99, 0.999))
    late = sum(time > 1e3 * LATE_SECONDS for time in times)
    seconds = float(finished[1]) * _UNITS[finished[2] or "s"]
    return Load(count, seconds, p50, p99, refused, late, errored + timeout, p999)


def _percentile(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0
