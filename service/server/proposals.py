"""The encoding of a proposal: a state of the repository that all workers are requested to load."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.repository import assembly
from service.repository.declarations import Declared
from service.repository.model_settings import ModelSettings
from service.repository.scan import Beside, Refused, Scan, Version
from service.repository.traffic import of_json

if TYPE_CHECKING:
    from service.repository.loader import Broken, Loaded, Tried
    from service.repository.repository import Repository


def outcome(repository: Repository) -> int:
    """Return a hash of what the first models serve: equal if workers have come to the same.

    A version whose file cannot serve is left out: workers that have it loaded serve on.  One that
    waits for the machine counts like one that is loaded later.
    """
    catalog = repository.catalog
    short = [broken for broken in catalog.broken.values() if broken.is_short]
    unusable = catalog.broken.keys() - {broken.found.key for broken in short}
    # Of other models, each worker knows as much as its requests needed.
    first = catalog.first
    known: list[Broken | Tried | Loaded]
    known = [*short, *catalog.tried.values(), *catalog.models.values()]
    stamps = {each.found.key: (each.found.stamp, repr(each.execution)) for each in known}
    selected = stamps.keys() & catalog.selected - unusable
    wanted = sorted((key, stamps[key]) for key in selected if key[0] in first)
    to_answer = assembly.to_answer(catalog, repository.policy).items()
    answering = sorted(item for item in to_answer if item[0] in first and item not in unusable)
    aliases = sorted(
        (name, alias, version)
        for name, named in catalog.aliases.items()
        for alias, version in named.items()
        if name in first
    )
    shares = sorted(
        (role, name, servable.version)
        for role, there in repository.candidates.by_role().items()
        for name, servable in there.items()
        if repository.owners.get(name, name) in first
    )
    content = repr((wanted, answering, aliases, repository.default, shares)).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=7).digest(), "big")


def dump(scan: Scan, declared: Declared) -> bytes:
    """Encode a proposal: a scan of the repository, and what the files beside its versions say."""
    return json.dumps(
        {
            "versions": [vars(found) for found in scan.versions],
            "aliases": [{**vars(entry), "file": str(entry.file)} for entry in scan.aliases],
            "refused": [vars(entry) for entry in scan.refused],
            "unloaded": sorted(scan.unloaded),
            "unreadable": sorted(scan.unreadable),
            "tuned": [{**vars(entry), "file": str(entry.file)} for entry in scan.tuned],
            "shared": [{**vars(entry), "file": str(entry.file)} for entry in scan.shared],
            "declared": {name: dict(named) for name, named in declared.aliases.items()},
            "settings": {name: vars(settings) for name, settings in declared.settings.items()},
            "damaged": [vars(entry) for entry in declared.damaged],
            "defaults": sorted(scan.defaults),
            "default": declared.default,
            "again": declared.again,
            "former": declared.former,
            "views": {name: sorted(views) for name, views in declared.views.items()},
            "replaced": sorted(declared.replaced),
            "traffic": {name: (t.as_json(), t.stamp) for name, t in declared.traffic.items()},
        }
    ).encode()


def load(content: bytes) -> tuple[Scan, Declared]:
    """Decode a proposal that `dump` has encoded."""
    proposal = json.loads(content)
    scan = Scan(
        tuple(Version(**_stamped(entry)) for entry in proposal["versions"]),
        tuple(Beside(**_placed(entry)) for entry in proposal["aliases"]),
        tuple(Refused(**entry) for entry in proposal["refused"]),
        frozenset(proposal["unloaded"]),
        frozenset(proposal["unreadable"]),
        tuple(Beside(**_placed(entry)) for entry in proposal["tuned"]),
        frozenset(proposal["defaults"]),
        tuple(Beside(**_placed(entry)) for entry in proposal["shared"]),
    )
    settings = {
        name: ModelSettings(**{**entry, "private": tuple(entry["private"])})
        for name, entry in proposal["settings"].items()
    }
    damaged = tuple(Refused(**entry) for entry in proposal["damaged"])
    return scan, Declared(
        proposal["declared"],
        settings,
        damaged,
        proposal["default"],
        proposal["again"],
        proposal["former"],
        {name: frozenset(views) for name, views in proposal["views"].items()},
        frozenset(map(tuple, proposal["replaced"])),
        {name: of_json(*content) for name, content in proposal["traffic"].items()},
    )


def _placed(entry: dict[str, Any]) -> dict[str, Any]:
    return {**_stamped(entry), "file": Path(entry["file"])}


def _stamped(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "stamp": tuple(map(tuple, entry["stamp"]))}
