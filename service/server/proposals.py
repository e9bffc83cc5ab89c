"""A proposal: a state of the repository, written for workers that are to serve it as one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.repository.declarations import Declared
from service.repository.model_settings import ModelSettings
from service.repository.scan import Aliases, Refused, Scan, Tuned, Version

if TYPE_CHECKING:
    from service.repository.repository import Repository


def outcome(made: Repository) -> int:
    """A number for what a repository answers by, which others that load the same come to."""
    catalog = made.catalog
    wanted = sorted(
        (key, loaded.found.stamp)
        for key, loaded in catalog.models.items()
        if key not in catalog.kept
    )
    serving = sorted((name, servable.version) for name, servable in made.serving.items())
    aliases = sorted(
        (name, alias, servable.version)
        for name, named in made.aliases.items()
        for alias, servable in named.items()
    )
    said = repr((wanted, serving, aliases, made.default)).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=7).digest(), "big")


def dump(scan: Scan, declared: Declared) -> bytes:
    """A proposal: what was found, and what the files beside the versions say."""
    return json.dumps(
        {
            "versions": [vars(found) for found in scan.versions],
            "aliases": [{**vars(entry), "file": str(entry.file)} for entry in scan.aliases],
            "refused": [vars(entry) for entry in scan.refused],
            "unloaded": sorted(scan.unloaded),
            "unreadable": sorted(scan.unreadable),
            "tuned": [{**vars(entry), "file": str(entry.file)} for entry in scan.tuned],
            "declared": {name: dict(named) for name, named in declared.aliases.items()},
            "settings": {name: vars(settings) for name, settings in declared.settings.items()},
            "damaged": [vars(entry) for entry in declared.damaged],
            "again": declared.again,
        }
    ).encode()


def load(content: bytes) -> tuple[Scan, Declared]:
    """What `dump` was given."""
    said = json.loads(content)
    scan = Scan(
        tuple(Version(**_stamped(entry)) for entry in said["versions"]),
        tuple(Aliases(**_placed(entry)) for entry in said["aliases"]),
        tuple(Refused(**entry) for entry in said["refused"]),
        frozenset(said["unloaded"]),
        frozenset(said["unreadable"]),
        tuple(Tuned(**_placed(entry)) for entry in said["tuned"]),
    )
    settings = {name: ModelSettings(**entry) for name, entry in said["settings"].items()}
    damaged = tuple(Refused(**entry) for entry in said["damaged"])
    return scan, Declared(said["declared"], settings, damaged, said["again"])


def _placed(entry: dict[str, Any]) -> dict[str, Any]:
    return {**_stamped(entry), "file": Path(entry["file"])}


def _stamped(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "stamp": tuple(map(tuple, entry["stamp"]))}
