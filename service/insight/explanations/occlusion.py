"""Occlusion: the part of a feature is what the answer loses when that feature is at its reference.

The parts need not add up to anything: two features that say the same each have a part near 0, since
the other one still says it.

Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def masks(features: int) -> NDArray[np.bool_]:
    """Return the runs of a row, [runs, features]: true where a feature keeps its own value.

    The first run is the row itself.
    """
    own = np.ones((1, features), bool)
    return np.concatenate([own, ~np.eye(features, dtype=bool)])


def parts(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the parts, [rows, features], from the scores of `masks`, [rows, runs]."""
    result: NDArray[Any] = scores[:, :1] - scores[:, 1:]
    return result
