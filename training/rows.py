"""The rows of a training run as one frozen value: split once, and paired anew for every epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from service.signature import Input

    Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """The rows of one CSV file, by graph tensor (`arrays`) and by head (`targets`)."""

    path: Path
    rows: int
    arrays: Arrays
    targets: Arrays


@dataclass(frozen=True)
class Data:
    """All files by their `csv`, how their rows belong together, and what they were found to hold.

    With `align` "position" or "key", row i of every source belongs with row i of the others;
    with "sample" they have nothing to do with each other.  `inputs` are described as the signature
    has them, statistics over all rows included, in the order of the spec.  `labels` has every head;
    a regression's are `None`.  `notes` are what a person should know.
    """

    sources: dict[str, Source]
    align: str
    inputs: dict[str, Input]
    labels: dict[str, tuple[str, ...] | None]
    notes: tuple[str, ...]


def split(data: Data, fraction: float, seed: int) -> tuple[Data, Data | None]:
    """Hold out a `fraction` of the rows, drawn by `seed`: (the rest, the held-out ones or `None`).

    Rows that belong together stay together; of each file at least one row is on either side.
    """
    if not fraction:
        return data, None
    kept, held = {}, {}
    for position, (name, source) in enumerate(data.sources.items()):
        if source.rows == 1:
            raise DataError(
                f"{source.path}: 1 row; fit.validation_split = {fraction:g} needs 2 or more"
            )
        # Aligned files have equal rows: one seed for all of them draws the same rows of each.
        stream = position if data.align == "sample" else 0
        order = np.random.default_rng((seed, stream)).permutation(source.rows)
        count = min(max(round(source.rows * fraction), 1), source.rows - 1)
        held[name] = _take(source, np.sort(order[:count]))
        kept[name] = _take(source, np.sort(order[count:]))
    return replace(data, sources=kept), replace(data, sources=held)


def pairs(data: Data, rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Rows that go through the graph together: (x by tensor, y by head).

    Aligned rows as they are.  Independent files are paired at random, anew with every call, as
    many as the longest has: each of its rows once, those of a shorter one equally often.
    """
    longest = max(source.rows for source in data.sources.values())
    x: Arrays = {}
    y: Arrays = {}
    for source in data.sources.values():
        if data.align == "sample":
            rounds = math.ceil(longest / source.rows)
            order = np.concatenate([rng.permutation(source.rows) for _ in range(rounds)])
            shuffled = _take(source, order[:longest])
        else:
            shuffled = source
        x.update(shuffled.arrays)
        y.update(shuffled.targets)
    return x, y


def target(data: Data, head: str) -> NDArray[np.floating | np.integer]:
    """What a head learns, row by row of the file that its targets are in."""
    return next(source.targets[head] for source in data.sources.values() if head in source.targets)


def _take(source: Source, rows: NDArray[np.int64]) -> Source:
    return replace(
        source,
        rows=len(rows),
        arrays={name: array[rows] for name, array in source.arrays.items()},
        targets={name: array[rows] for name, array in source.targets.items()},
    )
