"""The memory that the loaded models of a process may take, and the models that give way.

loaded at once   the default model, those with keep = true, and the first by name
loaded later     the others: in the background while there is room, or when requested
unloaded         those that were requested least recently, except the default and the kept
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import ModelRefused, Shortage

if TYPE_CHECKING:
    from collections.abc import Collection

    from service.repository.catalog import Catalog, Key
    from service.repository.loader import Loaded

# The models that are loaded before the service is ready, so that a small repository is proven and
# warm from its first request on.
FIRST = 32
_MB = 2**20


@dataclass(frozen=True)
class Budget:
    """The bytes that all loaded models of one process may take."""

    size: float = math.inf
    workers: int = 1
    """The number of processes that have such a budget, for messages."""
    first: int = FIRST
    """The number of models that are loaded at once."""

    @classmethod
    def of(cls, memory: int, workers: int) -> Budget:
        """Return the budget of each of `workers` processes, which share `memory` bytes.

        Args:
            memory: the bytes; 0 for any number.
            workers: the number of processes, at least 1.
        """
        return cls(memory / workers if memory else math.inf, workers)

    def check(self, size: int) -> None:
        """Check that a model fits into the budget at all.

        Raises:
            ModelRefused: it does not.
        """
        if size > self.size:
            raise ModelRefused(
                f"loading it takes {size // _MB} MB in each of {self.workers} processes: expected "
                f"at most {int(self.size) // _MB} MB (TRICEPS_MEMORY is "
                f"{int(self.size * self.workers)}); raise that, or set keep = true for the model"
            )

    def to_unload(self, catalog: Catalog, held: Collection[str], size: int = 0) -> set[Key]:
        """Return the versions to unload, so that a model of `size` bytes fits.

        Args:
            catalog: what is loaded.
            held: the models that stay loaded.
            size: the bytes that the next model takes.

        Raises:
            Shortage: the models that stay leave no room for it.
        """
        over = size + taken(catalog) - self.size
        if over <= 0:
            return set()
        keys = set()
        for loaded in sorted(_evictable(catalog, held), key=lambda each: each.servable.model.asked):
            keys.add(loaded.found.key)
            over -= loaded.size
            if over <= 0:
                return keys
        if size:
            raise Shortage(
                f"loading it takes {size // _MB} MB in each of {self.workers} processes, and the "
                "default model and those with keep = true leave less of TRICEPS_MEMORY "
                f"({int(self.size * self.workers)})"
            )
        return keys


def taken(catalog: Catalog) -> int:
    """Return the bytes that the loaded models take."""
    return sum(loaded.size for loaded in catalog.models.values())


def _evictable(catalog: Catalog, held: Collection[str]) -> list[Loaded]:
    """Return what can be loaded again as it is; a version whose file has changed cannot."""
    return [
        loaded
        for key, loaded in catalog.models.items()
        if key[0] not in held
        and key not in catalog.broken
        and catalog.scan.by_name.get(key[0], {}).get(key[1]) == loaded.found
    ]
