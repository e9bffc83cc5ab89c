"""The default of a missing cell: the median of a number column, or the commonest text.

It is that of the training rows, so that rows held out have no part in the fit:

    table ── features ─▶ defaults of all rows ── rows.split ─▶ relearned, and filled in again
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Feature, Input
    from training.rows import Source


def middle(values: NDArray[np.float64], *, whole: bool) -> float:
    """Return the median of some numbers; of `whole` ones the lower of the middle two, an int."""
    if whole:
        return int(np.sort(values)[(len(values) - 1) // 2])
    return float(f"{np.median(values):.7g}")  # as many digits as a float32 has


def commonest(texts: NDArray[np.object_]) -> str:
    """Return the commonest of some texts; of equally common ones the first by code point."""
    distinct, counts = np.unique(texts.astype(str), return_counts=True)
    return str(distinct[counts.argmax()])


def relearned(inputs: Mapping[str, Input], sources: Mapping[str, Source]) -> dict[str, Input]:
    """Return inputs with the defaults of the rows of `sources`, where the fit sees defaults.

    A feature without missing cells keeps its default, unless no row has that text.
    """

    def learned(name: str, feature: Feature) -> Feature:
        source = _source(sources, feature)
        values = source.arrays[feature.tensor][:, feature.column]
        mask = source.missing.get(f"{name}.{feature.name}")
        known = values if mask is None else values[~mask]
        if not len(known):
            return feature
        if feature.vocabulary is None:
            if mask is None:
                return feature
            whole = isinstance(feature.default, int)
            return replace(feature, default=middle(known.astype(np.float64), whole=whole))
        if mask is None and (known == feature.default).any():
            return feature
        return replace(feature, default=commonest(known))

    return {
        name: replace(entry, features=tuple(learned(name, one) for one in entry.features))
        for name, entry in inputs.items()
    }


def filled(sources: Mapping[str, Source], inputs: Mapping[str, Input]) -> dict[str, Source]:
    """Return sources whose missing cells have the defaults of `inputs`."""
    arrays = {name: dict(source.arrays) for name, source in sources.items()}
    for name, entry in inputs.items():
        for feature in entry.features:
            source = _source(sources, feature)
            mask = source.missing.get(f"{name}.{feature.name}")
            if mask is not None:
                own = next(arrays[key] for key, value in sources.items() if value is source)
                own[feature.tensor] = own[feature.tensor].copy()
                own[feature.tensor][mask, feature.column] = feature.default
    return {name: replace(source, arrays=arrays[name]) for name, source in sources.items()}


def _source(sources: Mapping[str, Source], feature: Feature) -> Source:
    return next(source for source in sources.values() if feature.tensor in source.arrays)
