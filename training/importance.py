"""Permutation importance: how much worse each head is with the values of a feature shuffled.

The rise of a head's loss is what the head has learnt from the feature that nothing else says: of
two features that say the same, each stands in for the other.  (Breiman, Random Forests, Machine
Learning 45, 2001; Fisher, Rudin and Dominici, All Models are Wrong, but Many are Useful, JMLR 20,
2019.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from training.built import as_target, feeds
from training.quiet import keras
from training.rows import known, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from training.built import Built
    from training.rows import Arrays, Data

    Losses = dict[str, NDArray[np.float64]]  # by head, [rows]

# Of fewer rows, chance alone is larger than the importance of most features.
LEAST_ROWS = 50
MOST_ROWS = 512
SHUFFLES = 5
# All features together are shuffled at most so often, so that wide tables do not take minutes.
MOST_RUNS = 500
# The number of standard errors that a mean has to be above 0, so as not to be chance.
CLEAR = 2.0


@dataclass(frozen=True)
class Rise:
    """The rise of the mean loss of a head where a feature or an input is shuffled.

    `mean` is not-a-number if nothing can be said: of too few rows, or of a loss that is not finite.
    `spread` is the standard deviation over the repeats, 0 of one alone.  `clear` says whether the
    rise is larger than chance among the rows.
    """

    mean: float
    spread: float = 0.0
    clear: bool = False


@dataclass(frozen=True)
class Importance:
    """The rises by head, and then by (input, feature) or by input; an image is the feature "".

    In `inputs`, the features of an input are shuffled together, so that what they say about each
    other is kept.  `rows` many rows of a `side` ("held-out" or "training") are shuffled; of fewer
    than `LEAST_ROWS`, all else is empty.  `losses` are those without any shuffle.
    """

    side: str
    rows: int
    repeats: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    features: dict[str, dict[tuple[str, str], Rise]] = field(default_factory=dict)
    inputs: dict[str, dict[str, Rise]] = field(default_factory=dict)


def measure(built: Built, train: Data, held_out: Data | None, seed: int) -> Importance:
    """Return the importance of all inputs and features, on held-out rows if there are enough.

    Args:
        built: the fitted model.
        train: the training rows.
        held_out: the held-out rows, if there are any.
        seed: the seed of the shuffles.
    """
    enough = held_out is not None and all(
        source.rows >= LEAST_ROWS for source in held_out.sources.values()
    )
    data, side = (held_out, "held-out") if enough and held_out else (train, "training")
    rng = np.random.default_rng(seed)
    x, y = pairs(data, rng)
    count = len(next(iter(x.values())))
    if count < LEAST_ROWS:
        return Importance(side, count)
    chosen = rng.permutation(count)[:MOST_ROWS]
    x, y = ({name: array[chosen] for name, array in arrays.items()} for arrays in (x, y))
    places = dict(_places(data))
    repeats = max(1, min(SHUFFLES, MOST_RUNS // len(places)))
    plain = _losses(built, x, y)

    def rises(tensors: Sequence[str], column: int | None) -> dict[str, Rise]:
        runs = [_losses(built, x | _shuffled(x, tensors, column, rng), y) for _ in range(repeats)]
        return {head: _rise(plain[head], [run[head] for run in runs]) for head in plain}

    by_feature = {key: rises([tensor], column) for key, (tensor, column) in places.items()}
    by_input = {}
    for name, entry in data.inputs.items():
        keys = [key for key in by_feature if key[0] == name]
        alone = by_feature[keys[0]] if len(keys) == 1 else None
        by_input[name] = alone or rises([tensor.name for tensor in entry.tensors], None)
    return Importance(
        side,
        len(chosen),
        repeats,
        {head: float(losses.mean()) for head, losses in plain.items()},
        {head: {key: rise[head] for key, rise in by_feature.items()} for head in plain},
        {head: {name: rise[head] for name, rise in by_input.items()} for head in plain},
    )


def unused(measured: Importance) -> dict[str, list[str]]:
    """Return by input the features that no head is better for; "" stands for a whole image."""
    heads = list(measured.features.values())
    found: dict[str, list[str]] = {}
    for name, feature in heads[0] if heads else ():
        rises = [head[name, feature] for head in heads]
        if not any(rise.clear or math.isnan(rise.mean) for rise in rises):
            found.setdefault(name, []).append(feature)
    return found


def _places(data: Data) -> Iterator[tuple[tuple[str, str], tuple[str, int | None]]]:
    """Yield tensor and column by input and feature; an image is one feature, of all columns."""
    for name, entry in data.inputs.items():
        if entry.kind == "image":
            yield (name, ""), (entry.tensors[0].name, None)
        for feature in entry.features:
            yield (name, feature.name), (feature.tensor, feature.column)


def _shuffled(
    x: Arrays, tensors: Sequence[str], column: int | None, rng: np.random.Generator
) -> Arrays:
    """Return some tensors with their rows, or one column of them, in a random order."""
    order = rng.permutation(len(x[tensors[0]]))
    if column is None:
        return {tensor: x[tensor][order] for tensor in tensors}
    shuffled = {tensor: x[tensor].copy() for tensor in tensors}
    for tensor, array in shuffled.items():
        array[:, column] = x[tensor][order, column]
    return shuffled


def _losses(built: Built, x: Arrays, y: Arrays) -> Losses:
    """Return by head the loss of each row that has its target, [rows]."""
    # For one batch, `predict` takes thirty times as long, for what it does besides.
    answers = built.model.predict_on_batch(feeds(built, x))
    losses = {}
    for head, loss in built.model.loss.items():
        rows = known(y[head])
        plain = loss.call if isinstance(loss, keras.losses.Loss) else loss
        values = plain(as_target(built, head, y[head][rows]), np.asarray(answers[head])[rows])
        losses[head] = np.asarray(values, np.float64).reshape(int(rows.sum()), -1).mean(axis=1)
    return losses


def _rise(plain: NDArray[np.float64], shuffled: Sequence[NDArray[np.float64]]) -> Rise:
    """Return the rise from the losses of the rows to their losses in each repeat."""
    rises = np.mean(shuffled, axis=0) - plain
    if not np.isfinite(rises).all() or len(rises) < LEAST_ROWS:
        return Rise(math.nan)
    spread = float(np.std([run.mean() for run in shuffled], ddof=1)) if len(shuffled) > 1 else 0.0
    chance = rises.std(ddof=1) / np.sqrt(len(rises))
    return Rise(float(rises.mean()), spread, clear=bool(rises.mean() > CLEAR * chance))
