"""Credentials as other programs keep them: netrc's for web servers, and docker's for registries."""

from __future__ import annotations

import base64
import contextlib
import json
import netrc
import os
from pathlib import Path
from urllib.parse import unquote

from service.host.files import read_file

_MAX_FILE = 2**20
# Docker's own registry goes by another name in its file.
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


def basic(user: str, password: str) -> str:
    """Return the header `Authorization` for a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def web_authorization(user: str | None, password: str | None, host: str | None) -> str:
    """Return the header for the credentials of a URL, or else for those in ~/.netrc, if any."""
    if user is not None:
        return basic(unquote(user), unquote(password or ""))
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        known = netrc.netrc(os.environ.get("NETRC") or None).authenticators(host or "")
        if known is not None:
            return basic(known[0], known[2] or "")
    return ""


def docker_authorization(host: str) -> str:
    """Return the header for a registry, of docker's file; empty if it has none for it."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        known = json.loads(read_file(folder / "config.json", _MAX_FILE))["auths"]
        names = {host, f"https://{host}", f"http://{host}"}
        if host in _DOCKER_HUB:
            names.add("https://index.docker.io/v1/")
        for name, entry in known.items():
            if name.rstrip("/") in names or name in names:
                if entry.get("auth"):
                    return f"Basic {entry['auth']}"
                return basic(entry["username"], entry["password"])
    return ""
