"""The rows of a training run as one frozen value, which is split once and paired in every epoch.

A row without the target of a head has not-a-number there, or `NO_CLASS` in place of a class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from training import defaults
from training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from service.signature import Feature, Input
    from training.spec import FitSpec

    Arrays = dict[str, np.ndarray]

NO_CLASS = -1
# Of a class with fewer held-out rows than this, a score says little.
ENOUGH = 10


@dataclass(frozen=True)
class Source:
    """The rows of one CSV file, by graph tensor (`arrays`) and by head (`targets`).

    `digest` is the SHA-256 of the file, `columns` are the names of all its columns, and `lines` has
    the line of each row in it, or 0.  `missing` has by `input.feature` a mask of the rows whose
    cell was missing, for features with such rows.
    """

    path: Path
    rows: int
    arrays: Arrays
    targets: Arrays
    digest: str
    columns: tuple[str, ...]
    lines: NDArray[np.int64]
    missing: Arrays


@dataclass(frozen=True)
class Data:
    """The rows of all files by their name in the spec, with inputs, labels and notes.

    With `align` "position" or "key", row i of every source belongs with row i of the others; with
    "sample" the sources are independent.  `inputs` has the signature's descriptions, with
    statistics over all rows, in the order of the spec.  `labels` has every head, with `None` for a
    regression.  `columns` has the names of each head's columns; none of a file without a header.
    `notes` are messages for the user.  `partial` names the heads whose target some rows lack.
    """

    sources: dict[str, Source]
    align: str
    inputs: dict[str, Input]
    labels: dict[str, tuple[str, ...] | None]
    columns: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    partial: tuple[str, ...] = ()


def divide(
    data: Data, fit: FitSpec, apart: Data | None = None
) -> tuple[Data, Data | None, Data | None]:
    """Return the training rows, those that are held out, and those for the test, as `fit` says.

    Test rows are drawn first.  They are not even watched, so their score is that of new rows.  If
    there are test rows from files of their own, `apart`, none are drawn.

    Raises:
        DataError: as `split`.
    """
    why = f"fit.test_split = {fit.test_split:g}"
    rest, test = split(data, fit.test_split, fit.seed, fit.stratify, why)
    why = f"fit.validation_split = {fit.validation_split:g}"
    part = fit.validation_split / (1 - fit.test_split)  # of what is left
    kept, held = split(rest, part, fit.seed, fit.stratify, why)
    test = test if apart is None else apart
    return kept, held, None if test is None else filled(test, kept)


def split(
    data: Data, fraction: float, seed: int, stratify: str | None = None, why: str = ""
) -> tuple[Data, Data | None]:
    """Hold out a random `fraction` of the rows: return the rest, and those held out or `None`.

    Rows that belong together stay together, and each side has at least one row of each file.  With
    the name of a head as `stratify`, that part of the rows of each of its classes is held out, to
    within one, and every class keeps a row in the rest.  The vocabularies of the rest are the
    texts of its rows: training never sees a text that is only in rows held out.  Missing cells of
    both sides have the defaults of the rest.  A message gives `why` as the reason for the split, by
    default the validation split.

    Raises:
        DataError: a file has only one row, or all rows of a side lack the target of a head.
    """
    if not fraction:
        return data, None
    why = why or f"fit.validation_split = {fraction:g}"
    kept, held = {}, {}
    for position, (name, source) in enumerate(data.sources.items()):
        if source.rows == 1:
            raise DataError(f"{source.path}: 1 row; {why} needs 2 or more")
        # Aligned files have equal rows: one seed for all of them draws the same rows of each.
        stream = position if data.align == "sample" else 0
        order = np.random.default_rng((seed, stream)).permutation(source.rows)
        classes = None
        if stratify is not None and (data.align != "sample" or stratify in source.targets):
            # Rows that lack the target are one more class; not-a-number equals nothing.
            classes = np.nan_to_num(target(data, stratify).reshape(-1), nan=NO_CLASS)
        out = _draw(order, fraction, classes)
        held[name] = _take(source, np.flatnonzero(out))
        kept[name] = _take(source, np.flatnonzero(~out))
    inputs = defaults.relearned(data.inputs, kept)
    kept = defaults.filled(kept, inputs)
    seen = replace(data, sources=kept, inputs=_seen(inputs, kept))
    sides = seen, filled(replace(data, sources=held), seen)
    _check_known(data, sides, why)
    return sides


def filled(data: Data, train: Data) -> Data:
    """Return rows whose missing cells have the defaults of the training rows."""
    return replace(data, sources=defaults.filled(data.sources, train.inputs))


def _check_known(data: Data, sides: tuple[Data, Data], why: str) -> None:
    """Refuse a split after which a head has no target to learn, or none to be scored on."""
    for head in data.partial:
        for side, kind in zip(sides, ("training", "held-out"), strict=True):
            if not len(known_targets(side, head)):
                rows, there = len(target(side, head)), len(known_targets(data, head))
                raise DataError(
                    f"head {head!r}: {there} of all rows have its target, but none of the {rows}"
                    f" {kind} rows ({why}); another split or another"
                    " fit.seed may leave some on both sides"
                )


def _draw(
    order: NDArray[np.int64], fraction: float, classes: NDArray[Any] | None
) -> NDArray[np.bool_]:
    """Return a mask of the rows to hold out: the first in a random `order`, of all or by class."""
    total = min(max(round(len(order) * fraction), 1), len(order) - 1)
    out = np.zeros(len(order), bool)
    if classes is not None:
        labels, counts = np.unique(classes, return_counts=True)
        for label, count in zip(labels, _shares(counts, fraction, total), strict=True):
            out[order[classes[order] == label][:count]] = True
    if not out.any():  # every row is alone in its class, or there are no classes
        out[order[:total]] = True
    return out


def _shares(counts: NDArray[np.int64], fraction: float, total: int) -> NDArray[np.int64]:
    """Return how many of the rows of each class to hold out, `total` together if classes allow it.

    Each class gives its part, rounded down, and those with the largest remainders one more, until
    there are enough.  Every class keeps a row.
    """
    parts = counts * fraction
    shares: NDArray[np.int64] = np.minimum(np.floor(parts).astype(np.int64), counts - 1)
    for place in np.argsort(shares - parts, kind="stable"):
        if shares.sum() < total and shares[place] < counts[place] - 1:
            shares[place] += 1
    return shares


def _seen(inputs: dict[str, Input], sources: dict[str, Source]) -> dict[str, Input]:
    """Return the inputs with vocabularies of only the texts in `sources`."""
    arrays = {name: array for source in sources.values() for name, array in source.arrays.items()}

    def narrowed(feature: Feature) -> Feature:
        if feature.vocabulary is None:
            return feature
        seen = frozenset(arrays[feature.tensor].reshape(-1))
        return replace(feature, vocabulary=tuple(t for t in feature.vocabulary if t in seen))

    return {
        name: replace(entry, features=tuple(map(narrowed, entry.features)))
        for name, entry in inputs.items()
    }


def pairs(data: Data, rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Return the rows of `paired` as arrays: x by tensor, y by head."""
    return joined(paired(data, rng))


def paired(data: Data, rng: np.random.Generator) -> list[Source]:
    """Return the files with equally many rows, of which row i goes through the network together.

    Aligned rows stay as they are.  Independent files are paired at random, differently in every
    call: each row of the longest file once, and those of a shorter one equally often.
    """
    if data.align != "sample":
        return list(data.sources.values())
    longest = max(source.rows for source in data.sources.values())
    together = []
    for source in data.sources.values():
        rounds = math.ceil(longest / source.rows)
        order = np.concatenate([rng.permutation(source.rows) for _ in range(rounds)])
        together.append(_take(source, order[:longest]))
    return together


def joined(sources: Iterable[Source]) -> tuple[Arrays, Arrays]:
    """Return the arrays of all files, x by tensor, and their targets, y by head."""
    x: Arrays = {}
    y: Arrays = {}
    for source in sources:
        x.update(source.arrays)
        y.update(source.targets)
    return x, y


def target(data: Data, head: str) -> NDArray[np.floating | np.integer]:
    """Return the targets of a head, one for each row of their file."""
    return next(source.targets[head] for source in data.sources.values() if head in source.targets)


def known_targets(data: Data, head: str) -> NDArray[np.floating | np.integer]:
    """Return the targets of a head for the rows that have one."""
    targets = target(data, head)
    return targets[known(targets)]


def known(targets: NDArray[np.floating | np.integer]) -> NDArray[np.bool_]:
    """Return a mask of the rows that have their target."""
    if targets.dtype.kind != "f":
        return np.asarray(targets != NO_CLASS)
    first = targets if targets.ndim == 1 else targets[:, 0]
    return np.asarray(~np.isnan(first))


def _take(source: Source, rows: NDArray[np.int64]) -> Source:
    return replace(
        source,
        rows=len(rows),
        arrays={name: array[rows] for name, array in source.arrays.items()},
        targets={name: array[rows] for name, array in source.targets.items()},
        lines=source.lines[rows],
        missing={name: mask[rows] for name, mask in source.missing.items()},
    )
