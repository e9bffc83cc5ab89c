"""Rows for comparing a converted model with Keras, and Keras' answers to them.

Golden rows are part of the file's signature and are run again wherever it is loaded.  Random rows
spread further, and are run in batches of several sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from training.unseen import UNSEEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from service.signature import Input, Statistics, Tensor
    from training.rows import Arrays

GOLDEN_ROWS = 5
BATCHES = (1, 2, 33)
RANDOM_ROWS = max(BATCHES)


@dataclass(frozen=True)
class Samples:
    """Golden and random rows by tensor, and Keras' answers to them by head.

    `half` says that a part of the model computes in half precision, so that answers differ more.
    """

    golden: Arrays
    golden_answers: Arrays
    random: Arrays
    random_answers: Arrays
    half: bool = False


def random_rows(inputs: Iterable[Input], rng: np.random.Generator) -> Arrays:
    """Draw rows at random, distributed as the training rows are."""
    arrays: Arrays = {}
    for entry in inputs:
        if entry.statistics is not None:
            [tensor] = entry.tensors
            arrays[tensor.name] = _draw(entry.statistics, (RANDOM_ROWS, *_sizes(tensor)), rng)
        numbers = []
        for feature in entry.features:
            if feature.vocabulary is not None:
                # A string outside the vocabulary: the place of unseen strings is compared too.
                texts = np.array([*feature.vocabulary, UNSEEN], object)
                arrays[feature.tensor] = rng.choice(texts, (RANDOM_ROWS, 1))
                arrays[feature.tensor][-1] = UNSEEN
            elif feature.statistics is not None:
                column = _draw(feature.statistics, (RANDOM_ROWS,), rng)
                numbers.append(np.round(column) if _is_whole(feature.default) else column)
        if numbers:
            arrays[entry.name] = np.stack(numbers, axis=1)
    return arrays


def _is_whole(default: object) -> bool:
    """Return whether a column holds whole numbers; its default is one of them then."""
    return isinstance(default, int)


def _draw(statistics: Statistics, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    drawn = rng.normal(statistics.mean, statistics.std, shape)
    return np.clip(drawn, statistics.min, statistics.max).astype(np.float32)


def _sizes(tensor: Tensor) -> Sequence[int]:
    return [axis or 1 for axis in tensor.shape]
