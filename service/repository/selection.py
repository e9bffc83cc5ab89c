"""The selection of versions: which of them are to answer, and which are loaded before that.

scan + aliases + policy ─▶ selected versions ─┬─ of the first models ──────▶ loaded, or tried
                                              ├─ in place of a loaded one ─▶ loaded, or tried
                                              └─ others ───────────────────▶ loaded later

The file is one idea: what becomes of each version when a catalog follows another.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from service.repository.budget import Budget, taken
from service.repository.catalog import EMPTY, PINNED, Catalog
from service.repository.declarations import Declared, declare, is_shared, known_views
from service.repository.loader import Broken, Loaded, Tried, later, load
from service.repository.model_settings import DEFAULTS, ModelSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.inference.execution import Execution
    from service.repository.catalog import Key
    from service.repository.loader import Servable
    from service.repository.scan import Scan, Version
    from service.repository.traffic import Traffic


@dataclass(frozen=True)
class Choice:
    """The settings of the service by which versions are selected and loaded."""

    policy: str = "latest"
    """"all" versions, the "latest" of each model, or those "pinned" by an alias."""
    default: str = ""
    """The model that answers a request that names none; empty for that of the files."""
    budget: Budget = field(default_factory=Budget)
    provider: str = ""
    """The execution provider of models whose settings name none; empty for that of the CPU."""
    tries_again: bool = True
    """True if versions that failed because the machine was short of something are tried again."""


def select(
    scan: Scan, choice: Choice, before: Catalog = EMPTY, declared: Declared | None = None
) -> Catalog:
    """Select versions; load those of the first models, and all that replace loaded ones.

    Args:
        scan: the files of the repository.
        choice: the settings of the service.
        before: the previous catalog; unchanged versions are taken over from it.
        declared: the aliases and settings of the files, if they have been read already.
    """
    if declared is None:
        declared = declare(scan, before)
    held = _held(scan, choice.default, declared)
    first = held | _first(scan, choice)
    shelf = _Shelf(before, declared, choice, held, first)
    aliases: dict[str, dict[str, str]] = {}
    amiss: dict[Key, str] = {}
    # Held models come first, so that there is room for them.
    for name in sorted(scan.by_name, key=lambda name: (name not in held, name)):
        versions = scan.by_name[name]
        if name in scan.unloaded:
            continue
        named = _take_aliased(shelf, name, versions, declared, amiss)
        if named:
            aliases[name] = named
        policy = choice.policy
        if is_shared(name, declared):
            policy = PINNED
            _take_shared(shelf, versions, declared.traffic[name])
        _take_by_policy(shelf, policy, versions)
    models = {key: set_up(loaded, declared.settings) for key, loaded in shelf.models.items()}
    return Catalog(
        scan,
        models,
        shelf.broken,
        shelf.tried,
        selected=frozenset(shelf.taken),
        views={**declared.views, **known_views(scan, before)},
        first=first,
        held=held,
        declared=declared.aliases,
        aliases=aliases,
        former=declared.former,
        amiss=amiss,
        damaged=declared.damaged,
        replaced=declared.replaced,
        again=declared.again,
        settings=declared.settings,
        default=declared.default,
        provider=choice.provider,
        traffic=declared.traffic,
    )


def _held(scan: Scan, default: str, declared: Declared) -> frozenset[str]:
    """Return the models that are loaded at once and stay loaded."""
    kept = {name for name, settings in declared.settings.items() if settings.keep}
    # Requests are shared among versions that are loaded.
    shared = {
        name
        for name, traffic in declared.traffic.items()
        if traffic.versions() and is_shared(name, declared)
    }
    return frozenset({*kept, *shared, default or declared.default or ""} & scan.by_name.keys())


def _first(scan: Scan, choice: Choice) -> frozenset[str]:
    """Return the models that are loaded, or at least tried, before the service is ready."""
    names = [*scan.by_name]
    # The default model may be a view, and then any file may have it.
    of_any = bool(choice.default) and choice.default not in scan.by_name
    return frozenset(names if of_any else names[: choice.budget.first])


def _take_aliased(
    shelf: _Shelf,
    name: str,
    versions: Mapping[str, Version],
    declared: Declared,
    amiss: dict[Key, str],
) -> dict[str, str]:
    """Load the versions that a model's aliases name; return the served version of each alias."""
    aliases = {}
    former = declared.former.get(name, {})
    for alias, version in sorted(declared.aliases.get(name, {}).items()):
        served = _resolve(shelf, versions, version, former.get(alias))
        if served is not None:
            aliases[alias] = served
        if served != version:
            amiss[name, alias] = _amiss(shelf, name, alias, version, served)
    return aliases


def _take_shared(shelf: _Shelf, versions: Mapping[str, Version], traffic: Traffic) -> None:
    """Load the versions that get shares of a model's traffic."""
    for version in traffic.versions().values():
        if version in versions:
            shelf.take(versions[version])


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
    own = settings.get(loaded.found.name, DEFAULTS)
    model = loaded.servable.model.set_up(alone=own.alone, rows=own.rows)
    if model is loaded.servable.model and own == loaded.servable.settings:
        return loaded

    def changed(servable: Servable) -> Servable:
        return replace(servable, model=model, settings=own)

    views = {view: changed(servable) for view, servable in loaded.views.items()}
    return replace(loaded, servable=changed(loaded.servable), views=views)


class _Shelf:
    """The versions known so far, while a catalog is made from the previous one."""

    def __init__(
        self,
        before: Catalog,
        declared: Declared,
        choice: Choice,
        held: frozenset[str],
        first: frozenset[str],
    ) -> None:
        self.before = before
        self._settings = declared.settings
        self._replaced = declared.replaced
        self.models: dict[Key, Loaded] = {}
        self.broken: dict[Key, Broken] = {}
        self.tried: dict[Key, Tried] = {}
        self.taken: set[Key] = set()
        self._choice = choice
        self._held = held
        self._first = first
        # Models that are in use here: what replaces their versions is loaded before the swap.
        self._used = {name for name, _ in before.models}
        # The loaded versions stay until the swap.
        self._room = choice.budget.size - taken(before)

    def take(self, found: Version) -> bool:
        """Select a version, loading it if need be, and return whether it can serve.

        A version of which nothing is known is taken to be able to serve.
        """
        key = found.key
        if key in self.taken:
            return True
        loaded, broken = self.before.models.get(key), self.before.broken.get(key)
        tried = self.before.tried.get(key)
        outcome: Loaded | Tried | Broken | None = None
        # A model that was refused as too large is loaded once it is to be held.
        is_newly_held = key[0] in self._held and key[0] not in self.before.held
        is_settled = broken is not None and not self._is_due(broken) and not is_newly_held
        if broken is not None and is_settled and self._is_same(broken, found):
            outcome = broken
        elif loaded is not None and self._is_same(loaded, found):
            outcome = loaded
        elif tried is not None and self._is_same(tried, found) and key[0] not in self._held:
            outcome = tried
        elif key[0] in self._first or key[0] in self._used or broken is not None:
            outcome = self._load(found, broken)
        if isinstance(outcome, Broken):
            self.broken[key] = outcome
            # If a new file cannot serve, the model that was loaded before keeps serving.
            outcome = self._outliving(outcome, loaded)
            if outcome is None and not self._may_answer_elsewhere(self.broken[key]):
                return False
        if isinstance(outcome, Loaded):
            self.models[key] = outcome
        elif isinstance(outcome, Tried):
            self.tried[key] = outcome
        self.taken.add(key)
        return True

    def keep(self, found: Version) -> None:
        """Keep what is known of a version that is not selected, unless its file has changed.

        A version that failed to load because the machine was short of something is tried again.
        """
        key = found.key
        if key in self.models or key in self.broken:
            return
        loaded, broken = self.before.models.get(key), self.before.broken.get(key)
        if loaded is not None and self._is_same(loaded, found):
            self.models[key] = loaded
        if broken is not None and self._is_same(broken, found):
            outcome = self._load(found, broken) if self._is_due(broken) else broken
            if isinstance(outcome, Loaded):
                self.models[key] = outcome
            elif isinstance(outcome, Broken):
                self.broken[key] = outcome

    def _outliving(self, broken: Broken, loaded: Loaded | None) -> Loaded | None:
        """Return the version that was loaded before, if it serves on in place of its file."""
        key = broken.found.key
        # One that was not selected is loaded in some workers, as their requests needed it.
        if key not in self.before.selected:
            return None
        # Others may have the memory that this worker is short of.  Those that load the new file
        # then answer by it; all workers agree on that only for the first models.
        if broken.is_short and key in self._replaced and key[0] not in self._first:
            return None
        return loaded

    def _may_answer_elsewhere(self, broken: Broken) -> bool:
        """Return whether other workers may answer by a version that cannot be loaded here.

        An older version must not answer in one worker after a newer one has answered in another.
        Of the later models, and of what was let go of, each worker has loaded others; those wait
        for the machine.  What other workers may serve on, although its file was replaced, waits for
        the next file.
        """
        key = broken.found.key
        if key in self._replaced:
            return True
        return broken.is_short and (key[0] not in self._first or key in self.before.selected)

    def _load(self, found: Version, broken: Broken | None) -> Loaded | Tried | Broken:
        """Load a version if there is room for it, or if it is of a model that is held."""
        admit = None if found.name in self._held else self._has_room
        execution = self._execution(found)
        outcome = later(load(found, execution, admit), broken)
        if isinstance(outcome, Loaded):
            self._room -= outcome.size
        return outcome

    def _is_due(self, broken: Broken) -> bool:
        return self._choice.tries_again and broken.is_due()

    def _is_same(self, known: Loaded | Tried | Broken, found: Version) -> bool:
        """Return whether neither the file of a version nor the settings of its session changed."""
        return known.found == found and known.execution == self._execution(found)

    def _execution(self, found: Version) -> Execution:
        return self._settings.get(found.name, DEFAULTS).execution(self._choice.provider)

    def _has_room(self, size: int) -> bool:
        self._choice.budget.check(size)
        return size <= self._room


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
