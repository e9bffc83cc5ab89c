"""Shapley values: the gain of each feature, averaged over the orders in which features come.

Begin with every feature at its reference, and give one after another its own value: each changes
the answer by its gain, and all gains add up to the answer less the reference.  A Shapley value is
the mean of a feature's gains over all orders.  They are computed exactly, from every combination of
features, if that needs no more runs than a sample of orders does.  A sample consists of random
orders, each followed by its reverse, so that a feature that comes early in one comes late in the
other.

Sources: Shapley, A Value for n-Person Games, 1953; Štrumbelj and Kononenko, An Efficient
Explanation of Individual Classifications using Game Theory, 2010; Lundberg and Lee, A Unified
Approach to Interpreting Model Predictions, 2017; Mitchell and others, Sampling Permutations for
Shapley Value Estimation, 2022 (an order and its reverse).
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Fixed, so that the same request has the same answer.
_SEED = 1953


def is_exact(features: int, samples: int) -> bool:
    """Return whether every combination of features is run, and not a sample of orders."""
    return 1 << features <= _sampled_runs(features, samples) + 1


def runs(features: int, samples: int) -> int:
    """Return the number of runs of a row."""
    if is_exact(features, samples):
        return max(1, (1 << features) - 1)
    return _sampled_runs(features, samples)


def _sampled_runs(features: int, samples: int) -> int:
    return 1 + samples * (features - 1 if features else 0)


def masks(features: int, samples: int) -> NDArray[np.bool_]:
    """Return the runs of a row, [runs, features]: true where a feature keeps its own value.

    The first run is the row itself.  The run in which no feature does so is left out, since it is
    the same for all rows.
    """
    if is_exact(features, samples):
        combinations = np.arange(2**features - 1, 0, -1)[:, None]
        some = (combinations >> np.arange(features)) & 1 == 1
        return some if features else np.ones((1, 0), bool)
    own = np.ones((1, features), bool)
    # [orders, steps, features]: before step k, k features have their own values.
    steps = np.arange(1, features)[None, :, None]
    some = _places(features, samples)[:, None, :] < steps
    return np.concatenate([own, some.reshape(-1, features)])


def parts(
    scores: NDArray[Any], references: NDArray[Any], samples: int, features: int
) -> NDArray[Any]:
    """Return the parts, [rows, features].

    Args:
        scores: the scores of `masks`, [rows, runs].
        references: the scores where every feature is at its reference, [rows].
        samples: the orders, as for `masks`.
        features: the number of features.
    """
    if is_exact(features, samples):
        return _exact(scores, references, features)
    between = scores[:, 1:].reshape(len(scores), samples, features - 1)
    ends = (len(scores), samples, 1)
    first = np.broadcast_to(references[:, None, None], ends)
    last = np.broadcast_to(scores[:, :1, None], ends)
    gains = np.diff(np.concatenate([first, between, last], axis=2), axis=2)
    places = np.broadcast_to(_places(features, samples), gains.shape)
    result: NDArray[Any] = np.take_along_axis(gains, places, axis=2).mean(axis=1)
    return result


def _exact(scores: NDArray[Any], references: NDArray[Any], features: int) -> NDArray[Any]:
    """Return the mean gains over all orders, from the scores of all combinations of features."""
    by_combination = np.concatenate([references[:, None], scores[:, ::-1]], axis=1)
    combinations = np.arange(2**features)
    sizes = ((combinations[:, None] >> np.arange(features)) & 1).sum(axis=1)
    # The share of all orders in which the features before a certain one are a certain combination.
    weights = [
        factorial(size) * factorial(features - 1 - size) / factorial(features)
        for size in range(features)
    ]
    result = np.empty((len(scores), features))
    for feature in range(features):
        without = combinations[combinations >> feature & 1 == 0]
        gains = by_combination[:, without | 1 << feature] - by_combination[:, without]
        result[:, feature] = gains @ np.array(weights)[sizes[without]]
    return result


def _places(features: int, samples: int) -> NDArray[np.int64]:
    """Return the place of each feature in each order, [orders, features]: always the same."""
    pairs = -(-samples // 2)
    # The bits of this generator are the same in every version of numpy.
    bits = np.random.PCG64(_SEED).random_raw(pairs * features).reshape(pairs, features)
    places = bits.argsort(axis=1, kind="stable")
    both = np.stack([places, features - 1 - places], axis=1)
    return both.reshape(-1, features)[:samples]
