"""The pairs of a repository: for each model with a shadow, the version that answers and the other.

Repository ── pairs_of ─▶ Chosen, by the model object that answers
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.insight.shadow.figures import Pair

if TYPE_CHECKING:
    from service.inference.model import Model
    from service.repository.repository import Repository
    from service.repository.scan import Stamp


@dataclass(frozen=True)
class Chosen:
    """A pair whose rows are chosen, and how."""

    pair: Pair
    share: float
    """The share of requests."""
    by_row: bool
    """Whether the answers to some rows of a request do not depend on its other rows."""
    files: str
    file: str
    """Digests, as `Handed` has them."""


def digest(*stamps: Stamp | None) -> str:
    """Return a digest of files, which changes when one of them does."""
    return hashlib.blake2b(repr(stamps).encode(), digest_size=16).hexdigest()


def pairs_of(repository: Repository) -> dict[Model, Chosen]:
    """Return the pairs of a repository, each by the loaded model of its stable version.

    A model whose candidate answers already, since it is the stable version by now, has none.
    """
    catalog = repository.catalog
    stamps = {entry.name: entry.stamp for entry in catalog.scan.shared}
    chosen = {}
    for name, traffic in catalog.traffic.items():
        shadow, stable = traffic.shadow, repository.answering.get(name)
        if shadow is None or stable in (None, shadow.version):
            continue
        loaded = catalog.models.get((name, stable))
        candidate = catalog.scan.by_name.get(name, {}).get(shadow.version)
        if loaded is None or loaded.servable.model.signature.tensor:
            continue
        chosen[loaded.servable.model] = Chosen(
            Pair(name, shadow.version, stable),
            shadow.share,
            loaded.servable.model.batching.mode == "rows",
            digest(loaded.found.stamp, None if candidate is None else candidate.stamp),
            digest(stamps.get(name)),
        )
    return chosen
