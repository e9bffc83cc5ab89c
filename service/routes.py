"""Every path that predicts, and the dialect that is spoken there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.wire import native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.repository import Repository, Servable
    from service.wire.dialect import Dialect

# A rule without a name asks the default model; one without a version, whichever serves.
PREDICTIONS: tuple[tuple[str, Dialect], ...] = (
    ("/predict", native.DIALECT),
    ("/models/<name>/predict", native.DIALECT),
    ("/models/<name>/versions/<version>/predict", native.DIALECT),
    ("/models/<name>/aliases/<alias>/predict", native.DIALECT),
)

# In whose words a path is refused that no rule is for.
_PREFIXES: tuple[tuple[str, Dialect], ...] = ()


def dialect_of(path: str) -> Dialect:
    """The dialect that somebody speaks who asks for `path`, be it there or not."""
    return next(
        (dialect for prefix, dialect in _PREFIXES if path.startswith(prefix)), native.DIALECT
    )


def targets(repository: Repository) -> dict[bytes, tuple[Dialect, Servable]]:
    """By path, what answers a prediction there and in what dialect."""
    return {
        path.encode(): (dialect, servable)
        for rule, dialect in PREDICTIONS
        for path, servable in _paths(rule, repository)
    }


def _paths(rule: str, repository: Repository) -> Iterator[tuple[str, Servable]]:
    if "<alias>" in rule:
        for name, aliases in repository.aliases.items():
            for alias, servable in aliases.items():
                yield rule.replace("<name>", name).replace("<alias>", alias), servable
    elif "<version>" in rule:
        for name, servables in repository.served.items():
            for servable in servables:
                # What may be unloaded is asked for through the app, which notes that it was.
                if repository.key(name, servable.version) not in repository.stock.kept:
                    versioned = rule.replace("<version>", servable.version)
                    yield versioned.replace("<name>", name), servable
    elif "<name>" in rule:
        for name, servable in repository.serving.items():
            yield rule.replace("<name>", name), servable
    elif repository.default is not None and repository.default in repository.serving:
        yield rule, repository.serving[repository.default]
