"""The catalog: the loaded versions of a repository, and why the others are not loaded.

A version is loaded because the policy or an alias selects it; or it is *kept*, because a client has
requested it by number or because it has just been superseded.  The `reloader` unloads a kept
version once there are no more requests for it.
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

# The name of a model, and a version or an alias of it.
Key = tuple[str, str]


@dataclass(frozen=True)
class Catalog:
    """A scan of the repository, and the outcome of loading it."""

    scan: Scan
    models: Mapping[Key, Loaded]
    """Loaded versions, by model and version.  If the file of one has become unusable since, the
    version is in `broken`, too."""
    broken: Mapping[Key, Broken]
    kept: frozenset[Key] = frozenset()
    """Loaded versions that neither the policy nor an alias selects."""
    declared: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The version that each alias names in its file, by model and alias."""
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The version that each alias serves, by model and alias.  If an alias names a version that
    cannot serve, it still serves the version that it named before."""
    amiss: Mapping[Key, str] = field(default_factory=dict)
    """The reason why an alias does not serve the version that it names, by model and alias."""
    damaged: tuple[Refused, ...] = ()
    """Files of aliases or settings that cannot be read."""
    again: float = math.inf
    """The time to read these files again if the machine is at fault, by the monotonic clock."""
    settings: Mapping[str, ModelSettings] = field(default_factory=dict)
    """The settings of each model that has any, by model."""

    default: str | None = None
    """The default model, unless the settings of the service name one."""

    def is_due(self) -> bool:
        """Return whether to try again what failed because the machine was short of something."""
        again = min([self.again, *(broken.again for broken in self.broken.values())])
        return time.monotonic() >= again


EMPTY = Catalog(Scan((), (), ()), {}, {})


def fill(
    scan: Scan, policy: str, before: Catalog = EMPTY, declared: Declared | None = None
) -> Catalog:
    """Load the versions that `policy` and aliases select, unless they are loaded already.

    Args:
        scan: the files of the repository.
        policy: "all" versions, the "latest" of each model, or those "pinned" by an alias.
        before: the previous catalog; unchanged versions are taken over from it.
        declared: the aliases and settings of the files, if they have been read already.
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
        declared.default,
    )


def _take_aliased(
    shelf: _Shelf,
    name: str,
    versions: Mapping[str, Version],
    declared: Declared,
    amiss: dict[Key, str],
) -> dict[str, str]:
    """Load the versions that a model's aliases name; return the served version of each alias."""
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
    """Load the versions of a model that the policy selects, and keep what is known of others."""
    if policy == "latest":
        # The newest that can serve.
        next((version for version in reversed([*versions.values()]) if shelf.take(version)), None)
    for version in versions.values():
        if policy == "all":
            shelf.take(version)
        shelf.keep(version)


def set_up(loaded: Loaded, settings: Mapping[str, ModelSettings]) -> Loaded:
    """Return a loaded version with the settings of its model; the same object if none changed."""
    name = loaded.found.name
    model = loaded.servable.model.set_up(alone=settings.get(name, DEFAULTS).alone)
    if model is loaded.servable.model:
        return loaded
    views = {view: replace(servable, model=model) for view, servable in loaded.views.items()}
    return replace(loaded, servable=replace(loaded.servable, model=model), views=views)


class _Shelf:
    """The versions loaded so far, while a catalog is made from the previous one."""

    def __init__(self, before: Catalog) -> None:
        self.before = before
        self.models: dict[Key, Loaded] = {}
        self.broken: dict[Key, Broken] = {}
        self.taken: set[Key] = set()

    def take(self, found: Version) -> bool:
        """Select a version, loading it if need be, and return whether it can serve."""
        key = found.key
        if key not in self.taken:
            loaded, broken = self.before.models.get(key), self.before.broken.get(key)
            outcome: Loaded | Broken | None = None
            if broken is not None and broken.found == found and not _is_due(broken):
                outcome = broken
            elif loaded is None or loaded.found != found:
                outcome = later(load(found), broken)
            if isinstance(outcome, Broken):
                self.broken[key] = outcome
            # If a new file cannot serve, the model that was loaded before keeps serving.
            outcome = outcome if isinstance(outcome, Loaded) else loaded
            if outcome is not None:
                self.models[key] = outcome
                self.taken.add(key)
        return key in self.taken

    def keep(self, found: Version) -> None:
        """Keep what is known of a version that is not selected, unless its file has changed.

        A version that failed to load because the machine was short of something is tried again.
        """
        key = found.key
        if key in self.models or key in self.broken:
            return
        loaded, broken = self.before.models.get(key), self.before.broken.get(key)
        if loaded is not None and loaded.found == found:
            self.models[key] = loaded
        if broken is not None and broken.found == found:
            outcome = later(load(found), broken) if _is_due(broken) else broken
            if isinstance(outcome, Loaded):
                self.models[key] = outcome
            else:
                self.broken[key] = outcome


def _is_due(broken: Broken) -> bool:
    return time.monotonic() >= broken.again


def _resolve(
    shelf: _Shelf, versions: Mapping[str, Version], wanted: str, former: str | None
) -> str | None:
    """Return the version that an alias serves: the one it names, or the one it named before."""
    for version in (wanted, former):
        if version is not None and version in versions and shelf.take(versions[version]):
            return version
    return None


def _amiss(shelf: _Shelf, name: str, alias: str, version: str, named: str | None) -> str:
    broken = shelf.broken.get((name, version))
    why = "which does not exist" if broken is None else f"which is refused: {broken.reason}"
    rest = "" if named is None else f"; version {named}, which it named before, serves on"
    return f"alias {alias!r} names version {version}, {why}{rest}"
