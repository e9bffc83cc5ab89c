"""Measurements of a service from outside: memory and descriptors of its workers, and errors."""

from __future__ import annotations

import http
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.harness.serving import Server


@dataclass(frozen=True)
class Look:
    """The workers of a service at one moment: resident bytes and descriptors by process."""

    resident: dict[int, int]
    files: dict[int, int]
    connections: int


def look(service: Server) -> Look:
    """Measure memory and descriptors, and read the service's own count of connections."""
    status, _, content = service.ask("GET", "/metrics")
    assert status == http.HTTPStatus.OK, content
    counted = re.findall(r"^triceps_connections(?:\{.*\})? (\S+)$", content.decode(), re.MULTILINE)
    memory = resident(service)
    files = {pid: _open_files(pid) for pid in memory}
    return Look(memory, files, int(sum(map(float, counted))))


def resident(service: Server) -> dict[int, int]:
    """Return the resident bytes of each worker."""
    return {pid: size for pid in service.workers() if (size := _resident(pid))}


def errors(service: Server, offset: int) -> list[str]:
    """Return the errors in the log from a byte offset on, one line each."""
    found = []
    for line in service.said(offset).splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            if entry.get("level") in {"error", "critical"}:
                found.append(f"{entry['message']} {entry.get('exception', '')}")
        elif "Traceback" in line:
            found.append(line)
    return found


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _open_files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0
