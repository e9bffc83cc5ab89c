"""What is loaded of a repository: which versions, why, and what came of loading the others.

A version is loaded because the policy or an alias wants it; or it is kept: somebody asked for it
by its number, or it has just been superseded, and it goes once nobody asks any more (`reloader`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from service.repository.declarations import declare
from service.repository.loader import Broken, Loaded, later, load
from service.repository.model_settings import DEFAULTS, ModelSettings
from service.repository.scan import Refused, Scan, Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.repository.declarations import Declared

# A model, or an alias, of a name.
Key = tuple[str, str]


@dataclass(frozen=True)
class Catalog:
    """What was found, and what was made of it."""

    scan: Scan
    models: Mapping[Key, Loaded]
    """By model and version.  A file that has become worse is among the broken, too."""
    broken: Mapping[Key, Broken]
    kept: frozenset[Key] = frozenset()
    """Those of the models that nothing but their having been asked for keeps loaded."""
    declared: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By model and alias, the version, as the files say."""
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The same as it serves: an alias of what cannot serve stays with what it named before."""
    amiss: Mapping[Key, str] = field(default_factory=dict)
    """By model and alias, why it does not serve what it names."""
    damaged: tuple[Refused, ...] = ()
    """Files of aliases or settings that cannot be read."""
    again: float = math.inf
    """When these are read again, where the machine is at fault."""
    settings: Mapping[str, ModelSettings] = field(default_factory=dict)
    """By model, what is set for it."""

    def is_due(self) -> bool:
        """Whether something that the machine was short for is to be tried again."""
        again = min([self.again, *(broken.again for broken in self.broken.values())])
        return time.monotonic() >= again


EMPTY = Catalog(Scan((), (), ()), {}, {})


def fill(
    scan: Scan, policy: str, before: Catalog = EMPTY, declared: Declared | None = None
) -> Catalog:
    """Load what `policy` and aliases want of what was found, but for what is loaded already.

    Args:
        scan: what was found.
        policy: "all" versions, or the "latest" of each model, or what is "pinned" by an alias.
        before: what was loaded last; what has not changed since is taken over.
        declared: what the files beside the versions say, where somebody has read them.
    """
    shelf = _Shelf(before)
    if declared is None:
        declared = declare(scan, before)
    aliases: dict[str, dict[str, str]] = {}
    amiss: dict[Key, str] = {}
    for name, versions in scan.by_name.items():
        if name in scan.unloaded:
            continue
        named = _take_aliased(shelf, name, versions, declared, amiss)
        if named:
            aliases[name] = named
        _take_by_policy(shelf, policy, versions)
    models = {key: set_up(loaded, declared.settings) for key, loaded in shelf.models.items()}
    return Catalog(
        scan,
        models,
        shelf.broken,
        frozenset(shelf.models.keys() - shelf.taken),
        declared.aliases,
        aliases,
        amiss,
        declared.damaged,
        declared.again,
        declared.settings,
    )


def _take_aliased(
    shelf: _Shelf,
    name: str,
    versions: Mapping[str, Version],
    declared: Declared,
    amiss: dict[Key, str],
) -> dict[str, str]:
    """Take what a model's aliases name; by alias, the version that it serves."""
    aliases = {}
    former = shelf.before.aliases.get(name, {})
    for alias, version in sorted(declared.aliases.get(name, {}).items()):
        served = _resolve(shelf, versions, version, former.get(alias))
        if served is not None:
            aliases[alias] = served
        if served != version:
            amiss[name, alias] = _amiss(shelf, name, alias, version, served)
    return aliases


def _take_by_policy(shelf: _Shelf, policy: str, versions: Mapping[str, Version]) -> None:
    """Take those of a model's versions that the policy wants, and keep what is known of others."""
    if policy == "latest":
        # The newest that is any good.
        next((found for found in reversed([*versions.values()]) if shelf.take(found)), None)
    for found in versions.values():
        if policy == "all":
            shelf.take(found)
        shelf.keep(found)


def set_up(loaded: Loaded, settings: Mapping[str, ModelSettings]) -> Loaded:
    """Give a loaded version as it is set up; the same where nothing about that has changed."""
    found = loaded.found
    model = loaded.servable.model.set_up(alone=settings.get(found.name, DEFAULTS).alone)
    if model is loaded.servable.model:
        return loaded
    views = {view: replace(servable, model=model) for view, servable in loaded.views.items()}
    return replace(loaded, servable=replace(loaded.servable, model=model), views=views)


class _Shelf:
    """What has been loaded so far, while a catalog is made from the one before."""

    def __init__(self, before: Catalog) -> None:
        self.before = before
        self.models: dict[Key, Loaded] = {}
        self.broken: dict[Key, Broken] = {}
        self.taken: set[Key] = set()

    def take(self, found: Version) -> bool:
        """Have a version, which is loaded if it is not; whether there is one that serves."""
        key = found.key
        if key not in self.taken:
            loaded, broken = self.before.models.get(key), self.before.broken.get(key)
            made: Loaded | Broken | None = None
            if broken is not None and broken.found == found and not _is_due(broken):
                made = broken
            elif loaded is None or loaded.found != found:
                made = later(load(found), broken)
            if isinstance(made, Broken):
                self.broken[key] = made
            # Its file may have become worse; what was loaded of it is as good as it was.
            made = made if isinstance(made, Loaded) else loaded
            if made is not None:
                self.models[key] = made
                self.taken.add(key)
        return key in self.taken

    def keep(self, found: Version) -> None:
        """Keep what is known of a version that nothing wants, unless its file has changed.

        One that was asked for, and that the machine was too short for, is tried again.
        """
        key = found.key
        if key in self.models or key in self.broken:
            return
        loaded, broken = self.before.models.get(key), self.before.broken.get(key)
        if loaded is not None and loaded.found == found:
            self.models[key] = loaded
        if broken is not None and broken.found == found:
            made = later(load(found), broken) if _is_due(broken) else broken
            if isinstance(made, Loaded):
                self.models[key] = made
            else:
                self.broken[key] = made


def _is_due(broken: Broken) -> bool:
    return time.monotonic() >= broken.again


def _resolve(
    shelf: _Shelf, versions: Mapping[str, Version], wanted: str, former: str | None
) -> str | None:
    """The version that an alias serves: the one it names, or else the one it named before."""
    for version in (wanted, former):
        if version is not None and version in versions and shelf.take(versions[version]):
            return version
    return None


def _amiss(shelf: _Shelf, name: str, alias: str, version: str, named: str | None) -> str:
    broken = shelf.broken.get((name, version))
    why = "which is not there" if broken is None else f"which is refused: {broken.reason}"
    rest = "" if named is None else f"; version {named}, which it named before, serves on"
    return f"alias {alias!r} names version {version}, {why}{rest}"
