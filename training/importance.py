"""Permutation importance: the features from which a fitted model has learnt nothing that shows.

A feature's values are shuffled among the rows.  If no head's loss rises by more than chance, the
answers are no better with the feature than without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.built import as_target, feeds
from training.quiet import keras
from training.rows import known, pairs
from training.scores import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from training.built import Built
    from training.rows import Arrays, Data

# Of fewer rows, chance alone is larger than the importance of most features.
LEAST_ROWS = 50
MOST_ROWS = 512
SHUFFLES = 5
# All features together are shuffled at most so often, so that wide tables do not take minutes.
MOST_RUNS = 500
# The number of standard errors that a mean has to be above 0, so as not to be chance.
CLEAR = 2.0


def unused(built: Built, data: Data, seed: int) -> dict[str, list[str]]:
    """Return by input the features that no head is better for; "" stands for a whole image.

    Args:
        built: the fitted model.
        data: the rows to shuffle; with fewer than `LEAST_ROWS`, nothing is said about any feature.
        seed: the seed of the shuffles.
    """
    rng = np.random.default_rng(seed)
    x, y = pairs(data, rng)
    count = len(next(iter(x.values())))
    if count < LEAST_ROWS:
        return {}
    chosen = rng.permutation(count)[:MOST_ROWS]
    x, y = ({name: array[chosen] for name, array in arrays.items()} for arrays in (x, y))
    places = list(_places(data))
    shuffles = max(1, min(SHUFFLES, MOST_RUNS // len(places)))
    plain = _losses(built, x, y)
    found: dict[str, list[str]] = {}
    for name, feature, tensor, column in places:
        runs = [
            _losses(built, x | {tensor: _shuffled(x[tensor], column, rng)}, y)
            for _ in range(shuffles)
        ]
        if not any(_rises(plain[head], [run[head] for run in runs]) for head in plain):
            found.setdefault(name, []).append(feature)
    return found


def _places(data: Data) -> Iterator[tuple[str, str, str, int | None]]:
    """Yield input, feature, tensor and column of all features; an image is one, of all columns."""
    for name, entry in data.inputs.items():
        if entry.kind == "image":
            yield name, "", entry.tensors[0].name, None
        for feature in entry.features:
            yield name, feature.name, feature.tensor, feature.column


def _shuffled(array: NDArray[Any], column: int | None, rng: np.random.Generator) -> NDArray[Any]:
    order = rng.permutation(len(array))
    if column is None:
        return array[order]
    shuffled = array.copy()
    shuffled[:, column] = array[order, column]
    return shuffled


def _losses(built: Built, x: Arrays, y: Arrays) -> dict[str, NDArray[np.float64]]:
    """Return by head the loss of each row that has its target, [rows]."""
    answers = built.model.predict(feeds(built, x), batch_size=BATCH, verbose=0)
    losses = {}
    for head, loss in built.model.loss.items():
        rows = known(y[head])
        plain = loss.call if isinstance(loss, keras.losses.Loss) else loss
        values = plain(as_target(built, head, y[head][rows]), np.asarray(answers[head])[rows])
        losses[head] = np.asarray(values, np.float64).reshape(int(rows.sum()), -1).mean(axis=1)
    return losses


def _rises(plain: NDArray[np.float64], shuffled: list[NDArray[np.float64]]) -> bool:
    """Return whether the loss is higher on shuffled rows, by more than chance."""
    rises = np.mean(shuffled, axis=0) - plain
    if not np.isfinite(rises).all() or len(rises) < LEAST_ROWS:
        return True  # nothing can be said
    return bool(rises.mean() > CLEAR * rises.std(ddof=1) / np.sqrt(len(rises)))
