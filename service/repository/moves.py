"""The log of what answers clients: which version serves as a model, and which is the default model.

`log_loads` is for each process, and `log_moves` is for one of all workers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from service.repository.aliases import STABLE
from service.repository.catalog import PINNED
from service.repository.publish import DEFAULT
from service.repository.repository import known_names
from service.repository.scan import UNLOADED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.repository.repository import Repository

log = logging.getLogger(__name__)


def log_loads(now: Repository, former: Repository) -> None:
    """Log the versions that this process has loaded, refused and unloaded."""
    known = {*former.refused}
    for entry in now.refused:
        if entry not in known:
            version = "" if entry.version is None else f", version {entry.version}"
            log.warning("refused %s%s: %s", entry.name, version, entry.reason)
    before = former.catalog.scan.unloaded
    for name in sorted(now.catalog.scan.unloaded - before):
        log.warning("%s is out of service: the file %s/%s says so", name, name, UNLOADED)
    models, catalog = former.catalog.models, now.catalog
    for key, loaded in catalog.models.items():
        if models.get(key) is not loaded:
            on_demand = " on demand" if key in catalog.kept else ""
            batching = {"batching": str(loaded.servable.model.batching)}
            # A version that is unloaded for others comes back many times.
            level = logging.DEBUG if key in former.catalog.tried else logging.INFO
            log.log(level, "serving %s, version %s%s", *key, on_demand, extra=batching)
    for key in sorted(models.keys() - catalog.models.keys()):
        level = logging.DEBUG if key in catalog.tried else logging.INFO
        log.log(level, "unloaded %s, version %s", *key)


def log_moves(now: Repository, former: Repository) -> None:
    """Log the versions and the default model that clients get from now on.

    Args:
        now: the repository that is served from now on.
        former: the repository that was served before; an empty one at the start.
    """
    served, before = dict(_served(now)), dict(_served(former))
    if not before and (later := now.answering.keys() - now.serving.keys()):
        # A thousand lines at the start would only hide the others.
        log.info("%d more models are loaded when there is time, or when requested", len(later))
        served = {where: version for where, version in served.items() if where[0] not in later}
    for where in sorted(served.keys() | before.keys()):
        version, was = served.get(where), before.get(where)
        name, alias = where
        is_by_stable = now.catalog.policy(name, now.policy) == PINNED
        if is_by_stable and alias == STABLE:
            continue  # the alias and the model are one
        if version is None:
            which = f"{name}, alias {alias}" if alias else name
            log.info("no longer serving %s (was version %s)", which, was)
        elif version != was and alias:
            log.info(
                "now serving %s, alias %s, version %s (was %s)", *where, version, was or "none"
            )
        elif version != was:
            by = f", alias {STABLE}" if is_by_stable else ""
            log.info("now serving %s, version %s (was %s%s)", name, version, was or "none", by)
    _log_shares(now, former)
    _log_default(now, former)


def _served(repository: Repository) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each model, and each alias, with the version that answers by it."""
    catalog = repository.catalog
    for name in catalog.scan.by_name:
        if name in repository.answering:
            yield (name, ""), repository.answering[name]
        for alias, version in catalog.aliases.get(name, {}).items():
            yield (name, alias), version


def _log_shares(now: Repository, former: Repository) -> None:
    """Log the versions that get a share of a model's traffic from now on, or no longer."""
    shares, before = dict(_shares(now)), dict(_shares(former))
    for where in sorted(shares.keys() | before.keys()):
        name, role = where
        if where not in shares:
            log.info("%s, version %s, is no %s any more", name, before[where][0], role)
        elif shares[where] != before.get(where):
            version, share, _ = shares[where]
            message = "%s, version %s, is the %s of %g %% of the requests"
            log.info(message, name, version, role, 100 * share)


def _shares(repository: Repository) -> Iterator[tuple[tuple[str, str], tuple[str, float, str]]]:
    """Yield each model and role with the version, the share and the file of its candidate.

    A canary that was asked no more is asked again once the file is another.
    """
    for role, there in repository.candidates.by_role().items():
        for name in there.keys() & repository.catalog.traffic.keys():
            traffic = repository.catalog.traffic[name]
            part = getattr(traffic, role)
            yield (name, role), (part.version, part.share, traffic.stamp)


def _log_default(now: Repository, former: Repository) -> None:
    default, was = _default(now), _default(former)
    if default is None and was is not None:
        log.warning("the default model %s is gone: /predict is answered with an error", was)
    elif was is not None and default != was:
        log.warning("the default model is now %s (was %s)", default, was)
    elif default != was:
        log.info("the default model is %s", default)
    if now.is_default_kept and not (former.is_default_kept and default == was):
        log.warning("%s stays the default model until a restart: no file %s says so", was, DEFAULT)


def _default(repository: Repository) -> str | None:
    """Return the default model, if it exists."""
    return repository.default if repository.default in known_names(repository) else None
