"""The log of what answers clients: which version serves as a model, and which is the default model.

A process logs each version that it loads; these lines are written once for all workers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from service.repository.aliases import STABLE
from service.repository.publish import DEFAULT
from service.repository.repository import known_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.repository.repository import Repository

log = logging.getLogger(__name__)


def log_moves(now: Repository, former: Repository) -> None:
    """Log the versions and the default model that clients get from now on.

    Args:
        now: the repository that is served from now on.
        former: the repository that was served before; an empty one at the start.
    """
    served, before = dict(_served(now)), dict(_served(former))
    for where in sorted(served.keys() | before.keys()):
        version, was = served.get(where), before.get(where)
        name, alias = where
        if version is None:
            which = f"{name}, alias {alias}" if alias else name
            log.info("no longer serving %s (was version %s)", which, was)
        elif version != was and alias:
            log.info(
                "now serving %s, alias %s, version %s (was %s)", *where, version, was or "none"
            )
        elif version != was:
            by = f", alias {STABLE}" if now.policy == "pinned" else ""
            log.info("now serving %s, version %s (was %s%s)", name, version, was or "none", by)
    _log_default(now, former)


def _served(repository: Repository) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each model, and each alias that answers by another version, with the version."""
    catalog = repository.catalog
    for name in catalog.scan.by_name:
        if name in repository.serving:
            yield (name, ""), repository.serving[name].version
        for alias, version in catalog.aliases.get(name, {}).items():
            # Under the policy pinned, the alias stable and the model are one.
            if not (repository.policy == "pinned" and alias == STABLE):
                yield (name, alias), version


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
