"""The changes of a repository: each returns the repository that follows from another one.

None of them reads, loads or waits, so they are made while a lock is held.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from service.repository.assembly import assemble
from service.repository.loader import Broken, Loaded, Tried
from service.repository.selection import set_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.repository.catalog import Key
    from service.repository.repository import Repository
    from service.repository.selection import Choice


def with_outcomes(
    now: Repository, outcomes: Iterable[Loaded | Tried | Broken], choice: Choice
) -> Repository:
    """Return a repository with the outcomes of loads, but for versions that are there no more.

    The same object is returned if nothing changes.
    """
    catalog = now.catalog
    models, tried, broken = dict(catalog.models), dict(catalog.tried), dict(catalog.broken)
    is_changed = False
    for outcome in outcomes:
        found = outcome.found
        if catalog.scan.by_name.get(found.name, {}).get(found.version) != found:
            continue  # it was removed or changed while it was being loaded
        if outcome.execution != catalog.execution(found.name):
            continue  # its settings were
        if found.name in catalog.scan.unloaded:
            continue
        is_changed = True
        if isinstance(outcome, Broken):
            broken[found.key] = outcome
        elif isinstance(outcome, Loaded):
            models[found.key] = set_up(outcome, catalog.settings)
            tried.pop(found.key, None)
            broken.pop(found.key, None)
        elif found.key in catalog.selected:
            tried[found.key] = outcome
            broken.pop(found.key, None)
    if not is_changed:
        return now
    return assemble(replace(catalog, models=models, tried=tried, broken=broken), choice)


def with_late(
    repository: Repository, before: Repository, now: Repository, choice: Choice
) -> Repository:
    """Return a repository with the versions that were loaded while it was made.

    Args:
        repository: the new repository, made from `before`.
        before: the repository that was current when the work began.
        now: the repository that is current now.
        choice: the settings of the service.
    """
    known = repository.catalog.models
    late = now.catalog.models.keys() - before.catalog.models.keys() - known.keys()
    tried = now.catalog.tried.keys() - before.catalog.tried.keys() - known.keys()
    outcomes = [now.catalog.models[key] for key in late]
    return with_outcomes(
        repository, [*outcomes, *(now.catalog.tried[key] for key in tried)], choice
    )


def without(now: Repository, keys: set[Key], choice: Choice) -> Repository:
    """Return a repository without some loaded versions; those that it selects can come back."""
    catalog = now.catalog
    models = {key: loaded for key, loaded in catalog.models.items() if key not in keys}
    gone = [catalog.models[key] for key in keys & catalog.models.keys() & catalog.selected]
    tried = {each.found.key: Tried(each.found, tuple(each.views), each.execution) for each in gone}
    return assemble(replace(catalog, models=models, tried={**catalog.tried, **tried}), choice)
