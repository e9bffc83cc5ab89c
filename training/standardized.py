"""Standardised values: mean 0 and deviation 1 over the training rows, for layers and for heads.

    Dense ─▶ standardised answer ── Rescaling ──▶ the column's unit ─▶ head, metric
    loss = the head's loss of (answer - mean) / deviation and (target - mean) / deviation

A head that is standardised learns numbers of about 1, whatever the unit of its column, so that its
loss does not drown those of other heads.  The file answers in the column's own unit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from training.quiet import keras

if TYPE_CHECKING:
    from numpy.typing import NDArray


def moments(values: NDArray[Any], axis: Any) -> dict[str, Any]:
    """Return mean and variance of the kept axes, computed in double precision.

    A value that never varies in training gets variance 1.  With its own variance, 0, the first
    different value would be millions of standard deviations away.

    Args:
        values: an array of numbers of any shape.
        axis: the axes that are kept: one, several, or `None` for none, as in Keras' Normalization.

    Raises:
        ValueError: a variance is too large for a float32, so that the layer would make 0 of every
            value.
    """
    axes = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    kept = {a % values.ndim for a in axes}
    reduced = tuple(a for a in range(values.ndim) if a not in kept)
    mean = values.mean(axis=reduced, dtype=np.float64)
    variance = values.var(axis=reduced, dtype=np.float64)
    variance = np.where(variance > 0, variance, 1.0)
    if (largest := float(variance.max(initial=0))) > float(np.finfo(np.float32).max):
        text = f"numbers with a deviation of {math.sqrt(largest):.3g}"
        raise ValueError(f"{text}, the square of which is no float32; give them in a larger unit")
    return {"mean": mean.astype(np.float32), "variance": variance.astype(np.float32)}


def rescaling(targets: NDArray[Any], name: str) -> keras.layers.Rescaling:
    """Return the layer from standardised answers to those in the unit of the targets.

    Args:
        targets: the targets of the training rows, float [rows, columns].
        name: the name of the layer.
    """
    mean = targets.mean(axis=0, dtype=np.float64)
    deviation = targets.std(axis=0, dtype=np.float64)
    # A column that is always the same deviates by rounding at most; any number does for it.
    deviation = np.where(deviation > np.abs(mean) * np.finfo(np.float32).eps, deviation, 1.0)
    scale, offset = deviation.astype(np.float32), mean.astype(np.float32)
    return keras.layers.Rescaling(scale=scale, offset=offset, name=name)


class StandardizedLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """A loss of standardised values, for targets and answers in the column's unit."""

    def __init__(self, loss: Any, layer: keras.layers.Rescaling) -> None:
        super().__init__(name=f"{layer.name}_standardized")
        self._loss = loss.call if isinstance(loss, keras.losses.Loss) else loss
        self._layer = layer

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row, [rows], of targets and answers [rows, columns]."""
        return self._loss(self._standardized(y_true), self._standardized(y_pred))

    def _standardized(self, values: Any) -> Any:
        return (values - self._layer.offset) / self._layer.scale
