"""What is loaded of a repository: which versions, why, and what came of loading the others.

A version is loaded because the policy or an alias wants it; or it is kept: somebody asked for it
by its number, or it has just been superseded, and it goes once nobody asks any more (`reloader`).
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.errors import ModelRefused
from service.inference.model import Model
from service.repository import aliases as files
from service.repository import sandbox
from service.repository.model_settings import CAREFUL, DEFAULTS, ModelSettings, ModelSettingsError
from service.repository.model_settings import read as read_settings
from service.repository.proof import Proof, prove
from service.repository.scan import Refused, Scan, Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.signature import Signature

log = logging.getLogger(__name__)

# When what the machine was short of is asked for again: twice as long after each try.
AGAIN_SECONDS = 1.0
MOST_AGAIN_SECONDS = 300.0

# A model, or an alias, of a name.
Key = tuple[str, str]


@dataclass(frozen=True)
class Servable:
    """What a request is answered by: a version of a model, or a view of some of its heads."""

    name: str
    version: str
    model: Model
    signature: Signature
    proof: Proof = field(default_factory=Proof)


@dataclass(frozen=True)
class Loaded:
    """A version that is loaded: under its own name, and by view."""

    found: Version
    servable: Servable
    views: Mapping[str, Servable]


@dataclass(frozen=True)
class Broken:
    """A version whose file, as it is now, cannot serve."""

    found: Version
    reason: str
    is_short: bool = False
    """Whether the machine is at fault, which may have by now what loading it takes."""
    tries: int = 0
    again: float = math.inf
    """When it is tried again, by the monotonic clock; what is the file's fault never is."""


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


class Declared(NamedTuple):
    """What the small files beside the versions say."""

    aliases: Mapping[str, Mapping[str, str]]
    """By model and alias, the version."""
    settings: Mapping[str, ModelSettings]
    """By model, what is set for it."""
    damaged: tuple[Refused, ...]
    """Those files that cannot be read, or make no sense."""
    again: float
    """When they are read again, by the monotonic clock, if the machine was short of something."""


EMPTY = Catalog(Scan((), (), ()), {}, {})


def load(found: Version) -> Loaded | Broken:
    """Load a version and prove it, or say why it cannot serve."""
    name, version = found.key
    try:
        _check_place(Path(found.path), found.root)
        with sandbox.passed(found.path, found.stamp):
            model = Model.load(Path(found.path))
            model.name = f"{name!r}, version {version}"
            signature = model.signature
            proof, views = prove(model)
        return Loaded(
            found,
            Servable(name, version, model, signature, proof),
            {
                view: Servable(view, version, model, restricted, own)
                for view, (restricted, own) in views.items()
            },
        )
    except ModelRefused as error:
        return Broken(found, sandbox.plain(str(error)), sandbox.is_shortage(error))
    except Exception as error:
        # A bug, of ours or of what we load with; the other models are to serve all the same.
        is_short = sandbox.is_shortage(error)
        if not is_short:
            log.exception("%s, version %s: loading it failed", name, version)
        reason = f"loading it failed: {type(error).__name__}: {error}"
        return Broken(found, sandbox.plain(reason), is_short)


def later(made: Loaded | Broken, before: Broken | None) -> Loaded | Broken:
    """What came of a load, and when to try again if the machine is at fault.

    Args:
        made: that.
        before: what came of the one before, if it failed.
    """
    if isinstance(made, Loaded) or not made.is_short:
        return made
    tries = before.tries + 1 if before is not None and before.found == made.found else 0
    wait = min(MOST_AGAIN_SECONDS, AGAIN_SECONDS * 2**tries)
    return replace(made, tries=tries, again=time.monotonic() + wait)


def _check_place(file: Path, root: str) -> None:
    """Refuse a link out of the repository: who may write there need not be who may read here.

    The repository itself may be a link, and links inside of it are followed.
    """
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):  # what cannot be followed cannot be read, which says why
        return
    if root and not real.is_relative_to(Path(root).resolve()):
        message = (
            f"a link leads out of the repository, to {real}: expected the file, or a link inside; "
            "the repository itself may be a link"
        )
        raise ModelRefused(message)


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
    said = declare(scan, before) if declared is None else declared
    aliases: dict[str, dict[str, str]] = {}
    amiss: dict[Key, str] = {}
    for name, versions in scan.by_name.items():
        if name in scan.unloaded:
            continue
        former = before.aliases.get(name, {})
        for alias, version in sorted(said.aliases.get(name, {}).items()):
            named = _resolve(shelf, versions, version, former.get(alias))
            if named is not None:
                aliases.setdefault(name, {})[alias] = named
            if named != version:
                amiss[name, alias] = _amiss(shelf, name, alias, version, named)
        if policy == "latest":
            # The newest that is any good.
            next((found for found in reversed(versions.values()) if shelf.take(found)), None)
        for found in versions.values():
            if policy == "all":
                shelf.take(found)
            shelf.keep(found)
    models = {key: set_up(loaded, said.settings) for key, loaded in shelf.models.items()}
    return Catalog(
        scan,
        models,
        shelf.broken,
        frozenset(shelf.models.keys() - shelf.taken),
        said.aliases,
        aliases,
        amiss,
        said.damaged,
        said.again,
        said.settings,
    )


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
        self._before = before
        self.models: dict[Key, Loaded] = {}
        self.broken: dict[Key, Broken] = {}
        self.taken: set[Key] = set()

    def take(self, found: Version) -> bool:
        """Have a version, which is loaded if it is not; whether there is one that serves."""
        key = found.key
        if key not in self.taken:
            loaded, broken = self._before.models.get(key), self._before.broken.get(key)
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
        loaded, broken = self._before.models.get(key), self._before.broken.get(key)
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


def declare(scan: Scan, before: Catalog) -> Declared:
    """Read the small files beside the versions; of one that is damaged, what it said before stays.

    A file that the machine was too short to read is read again before it has changed.
    """
    aliases: dict[str, Mapping[str, str]] = {}
    settings: dict[str, ModelSettings] = {}
    damaged: list[tuple[str, Exception, str]] = []
    for entry in scan.aliases:
        name = entry.name
        try:
            if name not in scan.unreadable:
                _check_place(entry.file, str(entry.file.parent.parent))
                aliases[name] = files.read(entry.file)
        except (files.AliasError, ModelRefused) as error:
            stay = ", ".join(sorted(before.declared.get(name, {}))) or "none"
            damaged.append((name, error, f". The aliases of before stay: {stay}"))
        aliases.setdefault(name, before.declared.get(name, {}))
    for tuned in scan.tuned:
        name, former = tuned.name, before.settings.get(tuned.name)
        try:
            if name not in scan.unreadable:
                _check_place(tuned.file, str(tuned.file.parent.parent))
                settings[name] = read_settings(tuned.file)
        except (ModelSettingsError, ModelRefused) as error:
            stays = "each request runs alone" if former is None else "the settings of before stay"
            damaged.append((name, error, f"; until it is mended, {stays}"))
        settings.setdefault(name, CAREFUL if former is None else former)
    is_short = any(sandbox.is_shortage(error) for _, error, _ in damaged)
    return Declared(
        aliases,
        settings,
        tuple(Refused(name, None, f"{error}{stays}") for name, error, stays in damaged),
        time.monotonic() + AGAIN_SECONDS if is_short else math.inf,
    )


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
