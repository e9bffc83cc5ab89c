"""The assembly of a repository from a scan and its loaded versions: names, views, serving versions.

path ─ scan.look ─▶ files ─ selection.select ─▶ Catalog ─ assemble ─▶ Repository
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import SettingsError, nearest
from service.names import NAME, NAMES
from service.repository import candidates, default_model, selection
from service.repository.aliases import STABLE
from service.repository.catalog import EMPTY, PINNED
from service.repository.repository import Repository, known_names
from service.repository.scan import Refused, look
from service.repository.selection import Choice

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from service.repository.catalog import Catalog, Key
    from service.repository.declarations import Declared
    from service.repository.loader import Loaded, Servable
    from service.repository.scan import Scan


def open_repository(
    path: Path,
    default: str = "",
    policy: str = "latest",
    previous: Repository | None = None,
    provider: str = "",
) -> Repository:
    """Load the versions at `path` that `policy` selects; refuse by name those that cannot serve.

    Args:
        path: a repository, the folder of a model, or a file.
        default: the model that answers a request that names none; empty for that of
            the files.
        policy: "latest", "all" or "pinned".
        previous: the repository as it was loaded before; unchanged versions are taken over.
        provider: the execution provider of models whose settings name none.

    Raises:
        SettingsError: there is nothing at `path`, or it cannot be read; or, without `previous`, it
            has models and `default` is none of them.
    """
    repository = make(look(path), Choice(policy, default, provider=provider), previous)
    if previous is None:
        check_default(repository, default)
    return repository


def make(
    scan: Scan,
    choice: Choice,
    previous: Repository | None = None,
    declared: Declared | None = None,
) -> Repository:
    """Load a repository from a scan, as `open_repository` does, without checking the default.

    Args:
        scan: the files of the repository.
        choice: what the settings of the service say of the versions to load.
        previous: the repository as it was loaded before; unchanged versions are taken over.
        declared: the aliases and settings of the files, if they have been read already.
    """
    before = EMPTY if previous is None else previous.catalog
    return assemble(selection.select(scan, choice, before, declared), choice)


def check_default(repository: Repository, default: str) -> None:
    """Check that the default model exists, if there are any models; call this at the start only.

    Later, the default model may be removed like any other; the other models have to keep serving.

    Raises:
        SettingsError: there is no model of that name.
    """
    known = known_names(repository)
    if default and known and default not in known:
        message = (
            f"TRICEPS_DEFAULT_MODEL: expected the name of a model, received {default!r}"
            f"{nearest(default, known)}. Available: {', '.join(sorted(known))}"
        )
        raise SettingsError(message)


def assemble(catalog: Catalog, choice: Choice) -> Repository:
    """Return the repository that serves the catalog, without reading or loading anything."""
    models = [catalog.models[f.key] for f in catalog.scan.versions if f.key in catalog.models]
    refused = _refused(catalog)
    owners = _owners(catalog, refused)
    served = _served(models, owners)
    aliases = {
        name: {a: entry for a, v in named.items() if (entry := _of_version(served[name], v))}
        for name in served
        if (named := catalog.aliases.get(owners.get(name, name)))
    }
    answering = _answering(catalog, choice.policy, refused)
    for view, owner in owners.items():
        # A view is served only from the version that serves as its model.
        if owner in answering and view in _views(catalog, (owner, answering[owner])):
            answering[view] = answering[owner]
    serving = {
        name: entry
        for name, version in answering.items()
        if (entry := _of_version(served.get(name, ()), version))
    }
    default = choice.default or catalog.default
    shares = candidates.find(catalog, served, serving, owners)
    refused.extend(shares.refused)
    is_kept = not choice.default and catalog.default != default_model.of_files(catalog.scan)
    return Repository(
        served,
        refused,
        default,
        serving,
        aliases,
        choice.policy,
        catalog,
        owners,
        is_kept,
        answering,
        shares,
    )


def _refused(catalog: Catalog) -> list[Refused]:
    """List everything that cannot serve: folders, versions, and files of aliases or settings."""
    broken = [catalog.broken[f.key] for f in catalog.scan.versions if f.key in catalog.broken]
    return [
        *catalog.scan.refused,
        *(Refused(*entry.found.key, entry.reason) for entry in broken),
        *catalog.damaged,
        *(Refused(name, None, why) for (name, _), why in catalog.amiss.items()),
    ]


def _served(models: Iterable[Loaded], owners: Mapping[str, str]) -> dict[str, list[Servable]]:
    """Return the loaded versions of each model and view, by its name."""
    served: dict[str, list[Servable]] = {}
    for loaded in models:
        served.setdefault(loaded.found.name, []).append(loaded.servable)
        for view, servable in loaded.views.items():
            if owners.get(view) == loaded.found.name:
                served.setdefault(view, []).append(servable)
    return served


def _answering(catalog: Catalog, policy: str, refused: list[Refused]) -> dict[str, str]:
    """Return the version of each model that answers a request without a version, by model.

    It need not be loaded.  A model that has no such version is added to `refused`.
    """
    wanted = to_answer(catalog, policy)
    if policy == PINNED:
        for name in sorted(catalog.scan.by_name.keys() - wanted.keys() - catalog.scan.unloaded):
            if (name, STABLE) not in catalog.amiss:
                reason = (
                    f"the policy is pinned, and it has no alias {STABLE!r}: "
                    f"triceps alias {name} {STABLE} VERSION"
                )
                refused.append(Refused(name, None, reason))
    unable = catalog.broken.keys() - catalog.models.keys()
    return {name: version for name, version in wanted.items() if (name, version) not in unable}


def to_answer(catalog: Catalog, policy: str) -> dict[str, str]:
    """Return the version of each model that is to answer a request without a version, by model.

    One that cannot be loaded is still to answer if it is waited for (see `_Shelf.take`).
    """
    wanted: dict[str, str] = {}
    for name, versions in catalog.scan.by_name.items():
        if name in catalog.scan.unloaded:
            continue
        if catalog.policy(name, policy) == PINNED:
            version = catalog.aliases.get(name, {}).get(STABLE)
        else:
            version = next((v for v in reversed(versions) if catalog.can_serve((name, v))), None)
        if version is not None:
            wanted[name] = version
    return wanted


def _views(catalog: Catalog, key: Key) -> Collection[str]:
    """Return the views of a version: as it was tried, or else as its model had them before."""
    known = catalog.models.get(key) or catalog.tried.get(key)
    return catalog.views.get(key[0], ()) if known is None else known.views


def _of_version(servables: Iterable[Servable], version: str) -> Servable | None:
    return next((servable for servable in servables if servable.version == version), None)


def _owners(catalog: Catalog, refused: list[Refused]) -> dict[str, str]:
    """Return the model that owns each view, by view; add views that cannot serve to `refused`."""
    folders = {*catalog.scan.by_name, *(entry.name for entry in catalog.scan.refused)}
    owners: dict[str, str] = {}
    for found in catalog.scan.versions:
        name, version = found.key
        if found.key not in catalog.selected:
            # A version that is only kept may be unloaded in a minute, and its views with it.
            continue
        for view in _views(catalog, found.key):
            reason = None
            if not NAME.fullmatch(view):
                reason = f"its name is no model name: expected {NAMES}"
            elif view in folders:
                reason = "a folder has that name already"
            elif owners.setdefault(view, name) != name:
                reason = "a view of another model has that name already"
            if reason is not None:
                # Without the model's name, which a client that may only see the view must not see.
                reason = f"it is a view of a model, and {reason}"
                refused.append(Refused(view, version, reason))
    return owners
