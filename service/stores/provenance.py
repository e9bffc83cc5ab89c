"""The provenance of a version that was pulled: `source.json`, beside its graph.

{"source": "s3://models/churn", "version": "4", "files": {"model.onnx": {"sha256": …, "size": …,
"tag": …, "verified": "sha256"}}, "pulled": "2026-11-27T17:00:00+00:00", "by": "triceps 0.1.0"}

The graph itself cannot have it: with other metadata it would have another digest than its source.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service import __version__
from service.host.files import read_file, write_file
from service.repository.publish import versions
from service.stores.folders import PROVENANCE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_FILE = 2**22


@dataclass(frozen=True)
class Stored:
    """A file as it was stored here."""

    sha256: str
    size: int
    tag: str
    """What the store said of it, which changes when the file does."""
    verified: str
    """`sha256` if the store or the command said what to expect, `size` or `nothing` otherwise."""


@dataclass(frozen=True)
class Provenance:
    """The source of a version, and its files."""

    source: str
    version: str | None
    files: Mapping[str, Stored]
    digest: str | None = None
    """The digest that names all files together, in stores that have one."""


def write(folder: Path, provenance: Provenance) -> None:
    """Write the provenance of a version into its folder."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {**asdict(provenance), "pulled": now, "by": f"triceps {__version__}"}
    if provenance.digest is None:
        del facts["digest"]
    content = json.dumps(facts, indent=2, sort_keys=True) + "\n"
    write_file(folder / PROVENANCE, content.encode())


def read(folder: Path) -> Provenance | None:
    """Return the provenance of a version; `None` if it has none that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        facts: Any = json.loads(read_file(folder / PROVENANCE, _MAX_FILE))
        files = {str(name): Stored(**entry) for name, entry in facts["files"].items()}
        return Provenance(str(facts["source"]), facts["version"], files, facts.get("digest"))
    return None


def stored_in(folder: Path) -> dict[str, Stored]:
    """Return the files in a folder, of which the archives that they were in were verified."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): Stored(digest(path), _size(path), "", "sha256")
        for path in paths
    }


def all_of(folder: Path) -> dict[str, Provenance]:
    """Return the provenance of each version of a model that has one, newest first."""
    there = ((str(number), read(folder / str(number))) for number in reversed(versions(folder)))
    return {number: found for number, found in there if found is not None}


def same_content(folder: Path, files: Mapping[str, Stored]) -> str | None:
    """Return the newest version of a model that has these files; `None` if none has."""
    for number in map(str, reversed(versions(folder))):
        if holds(folder / number, files):
            return number
    return None


def holds(folder: Path, files: Mapping[str, Stored]) -> bool:
    """Return whether a version has these files, whatever it was published by."""
    known = read(folder)
    if known is not None:
        return _digests(known.files) == _digests(files)
    # Of another size is of another content, without reading it.
    return all(_size(folder / name) == stored.size for name, stored in files.items()) and all(
        digest(folder / name) == stored.sha256 for name, stored in files.items()
    )


def digest(file: Path) -> str:
    """Return the SHA-256 of a file; empty if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _digests(files: Mapping[str, Stored]) -> dict[str, str]:
    return {name: stored.sha256 for name, stored in files.items()}
