"""The distribution of each feature among the training rows, and among those that judge the model.

Held-out rows are drawn at random, so that the two differ by chance, and the fewer rows, the more.
A marked difference is larger than chance explains in all but one of a hundred pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight.drift.counting import compared, counted
from service.insight.drift.record import numbers, texts
from service.insight.drift.statistics import compare
from service.insight.report.elements import rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Feature, Input
    from training.rows import Data, Source

MOST_FEATURES = 500  # so that wide tables do not take minutes
BINS = 12
TAIL = 0.01  # of the training rows lie below the first bin's upper end, and above the last bin
CATEGORIES = 6
SIZE = 28  # of a picture
# The chance that a page marks a difference where there is none.
FALSE_ALARM = 0.01


@dataclass(frozen=True)
class Distribution:
    """A feature (or an image, by the mean brightness of each) among training and other rows.

    `missing` has the share of missing cells by side.  `labels` are the categories if it has
    `texts`, the commonest first, or else the two ends of the bins.  `first` and `second` have the
    shares of the categories or bins among training and other rows; `second` is empty if there are
    no others.  `pictures` are the mean image of each, from 0 to 1.
    """

    name: str
    kind: str
    missing: Mapping[str, float]
    labels: tuple[str, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    texts: bool = False
    differs: bool = False
    pictures: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True)
class _Sample:
    """The values of a feature that are not missing, by side."""

    name: str
    kind: str
    sides: Mapping[str, NDArray[Any]]
    missing: Mapping[str, float]
    image: Input | None = None


def distributions(sides: Mapping[str, Data]) -> list[Distribution]:
    """Return the distributions of the first `MOST_FEATURES` features.

    Args:
        sides: the training rows first, then held-out and test rows if there are any, by these
            names.  The first and the last are compared.
    """
    samples = list(islice(_samples(sides), MOST_FEATURES))
    return [_distribution(sample, FALSE_ALARM / len(samples)) for sample in samples]


def _samples(sides: Mapping[str, Data]) -> Iterator[_Sample]:
    inputs = next(iter(sides.values())).inputs
    for name, entry in inputs.items():
        if entry.kind == "image":
            tensor = entry.tensors[0].name
            pixels = {side: _source(data, tensor).arrays[tensor] for side, data in sides.items()}
            size = " × ".join(map(str, entry.size or ()))  # noqa: RUF001  (a multiplication sign)
            yield _Sample(name, f"image, {size}", pixels, {}, entry)
        for feature in entry.features:
            yield _sample(f"{name}.{feature.name}", feature, sides)


def _sample(name: str, feature: Feature, sides: Mapping[str, Data]) -> _Sample:
    values, missing = {}, {}
    for side, data in sides.items():
        source = _source(data, feature.tensor)
        column = source.arrays[feature.tensor][:, feature.column]
        mask = source.missing.get(name)
        values[side] = column if mask is None else column[~mask]
        if mask is not None:
            missing[side] = float(mask.mean())
    kind = "number" if feature.vocabulary is None else f"{len(feature.vocabulary)} categories"
    return _Sample(name, kind, values, missing)


def _source(data: Data, tensor: str) -> Source:
    return next(source for source in data.sources.values() if tensor in source.arrays)


def _distribution(sample: _Sample, risk: float) -> Distribution:
    first, *others = sample.sides.values()
    second = others[-1] if others else first[:0]
    pictures: tuple[NDArray[np.float64], ...] = ()
    if sample.image is not None:
        pictures = _pictures(sample.image, [rows for rows in (first, second) if len(rows)])
        first, second = (rows.mean(axis=1, dtype=np.float64) for rows in (first, second))
    texts = first.dtype == object
    labels, counts = (_categories if texts else _bins)(first, second)
    shares = [tuple((row / row.sum()).tolist()) if row.any() else () for row in counts]
    return Distribution(
        sample.name,
        sample.kind,
        sample.missing,
        labels,
        first=shares[0],
        second=shares[1],
        texts=texts,
        differs=differs(first, second, risk),
        pictures=pictures,
    )


def differs(first: NDArray[Any], second: NDArray[Any], risk: float) -> bool:
    """Return whether two samples differ by more than chance explains, as `triceps drift` does.

    Texts and numbers are compared by bins of the first sample.  The chance of an error is `risk`
    if both samples are from one distribution.  Of fewer than some dozen rows, nothing is said.
    """
    one = texts(first) if first.dtype == object else numbers(first)
    if one is None:
        return False
    return compare(*compared(one, counted(one, second)), risk).exceeds_chance


def _categories(
    first: NDArray[Any], second: NDArray[Any]
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """Return the commonest categories of the training rows and "others", and their counts."""
    texts, counts = np.unique(first.astype(str), return_counts=True)
    chosen = [str(texts[place]) for place in np.argsort(-counts, kind="stable")[:CATEGORIES]]
    rows = [
        np.array([(side == text).sum() for text in chosen] + [(~np.isin(side, chosen)).sum()])
        for side in (first, second)
    ]
    if not any(row[-1] for row in rows):
        return tuple(chosen), [row[:-1] for row in rows]
    rest = len(texts) - len(chosen)
    return (*chosen, f"{rest} others" if rest else "others"), rows


def _bins(
    first: NDArray[Any], second: NDArray[Any]
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """Return the two ends of bins of equal width, and the counts; outer bins have the tails.

    They are bins of the training rows or, if none of these has a value, of the others.
    """
    # The sum of two numbers may be beyond float32.
    first, second = first.astype(np.float64), second.astype(np.float64)
    binned = first if len(first) else second
    distinct = np.unique(binned)
    if not len(distinct):
        return (), [np.zeros(0, np.int64)] * 2
    if len(distinct) <= BINS:
        cuts = (distinct[1:] + distinct[:-1]) / 2
        low, high = distinct[0], distinct[-1]
        ends = [rounded(low)] if low == high else [rounded(low), rounded(high)]
    else:
        low, high = np.quantile(binned, [TAIL, 1 - TAIL])
        if low == high:
            low, high = distinct[0], distinct[-1]
        cuts = np.linspace(low, high, BINS + 1)[1:-1]
        ends = [
            f"≤ {rounded(low)}" if low > distinct[0] else rounded(low),
            f"≥ {rounded(high)}" if high < distinct[-1] else rounded(high),
        ]
    counts = [
        np.bincount(np.searchsorted(cuts, side, side="right"), minlength=len(cuts) + 1)
        for side in (first, second)
    ]
    return tuple(ends), counts


def _pictures(entry: Input, sides: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], ...]:
    """Return the mean image of each side, of at most `SIZE` x `SIZE`, on one scale from 0 to 1."""
    height, width = (entry.size or (1, 1))[:2]
    means = []
    for pixels in sides:
        mean = pixels.mean(axis=0, dtype=np.float64).reshape(height, width, -1).mean(axis=2)
        for axis in (0, 1):
            step = math.ceil(mean.shape[axis] / SIZE)
            starts = np.arange(0, mean.shape[axis], step)
            sizes = np.diff([*starts, mean.shape[axis]])
            shape = (-1, 1) if axis == 0 else (1, -1)
            mean = np.add.reduceat(mean, starts, axis=axis) / sizes.reshape(shape)
        means.append(mean)
    low, high = min(mean.min() for mean in means), max(mean.max() for mean in means)
    return tuple((mean - low) / ((high - low) or 1.0) for mean in means)
