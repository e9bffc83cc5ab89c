"""Programs of others that some tests run, where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

# Servers are outside the PATH of some users.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_PACKAGES = {"nghttp": "nghttp2-client", "h2load": "nghttp2-client", "nginx": "nginx-light"}
# The longest run of a program, in seconds.
_MOST_SECONDS = 60


def program(name: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        pytest.skip(f"found no {name}; on Debian and Ubuntu: apt-get install {_packages(name)}")
    return path


def run(name: str, *arguments: object, text: bool = True) -> subprocess.CompletedProcess:
    """Run a program to its end, and return what it printed."""
    return subprocess.run(
        [program(name), *map(str, arguments)],
        capture_output=True,
        text=text,
        timeout=_MOST_SECONDS,
        check=False,
    )


def _packages(name: str) -> str:
    return _PACKAGES.get(name, name)
