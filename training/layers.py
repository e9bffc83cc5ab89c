"""Layers for columns of numbers that Keras does not have; a spec names them as it names Keras'.

`Log` is a log scale.  `PiecewiseLinear` describes a number by its place between quantiles, so that
a small network learns steps and bends as trees do (Gorishniy et al., 2022, "On Embeddings for
Numerical Features in Tabular Deep Learning").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.quiet import keras
from training.toml_file import is_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LOW = 0.05  # the quantile of the positive values that a log scale begins to bend at


class Log(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The logarithm of 1 + x / unit for x from 0, and 0 below.

    Args:
        unit: by column, the number at which the scale begins to bend; by default a small one of
            the training rows, so that 0.001 to 10 bends as 1,000 to 10,000,000 does.
    """

    def __init__(self, unit: Sequence[float] | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.unit = None if unit is None else np.asarray(unit, np.float32)

    def adapt(self, values: NDArray[Any]) -> None:
        """Learn the unit of each column of float32 `values` with shape [rows, columns]."""
        columns = np.asarray(values, np.float64).T
        self.unit = np.array([_unit(column) for column in columns], np.float32)

    def call(self, x: Any) -> Any:
        """Return float32 of the shape of `x`, [rows, columns]."""
        return keras.ops.log(1 + keras.ops.relu(x) / self.unit)


class PiecewiseLinear(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The place of each number between the quantiles of its column.

    A column becomes several values from 0 to 1, one for each piece between two boundaries: 0 below
    the piece, 1 above it, and linear inside.  A column with fewer than three different values is
    left out, since it has no bend, unless no column has more.

    Args:
        pieces: the number of pieces of a column, at most.
        boundaries: by column, its boundaries in ascending order; by default quantiles of the
            training rows.
    """

    def __init__(
        self, pieces: int = 8, boundaries: Sequence[Sequence[float]] | None = None, **more: Any
    ) -> None:
        super().__init__(**more)
        if not is_whole(pieces, 1):
            raise ValueError(f"pieces: expected a whole number, 1 or more, received {pieces!r}")
        self.pieces = pieces
        if boundaries is not None:
            self._set([np.asarray(column, np.float32) for column in boundaries])

    def adapt(self, values: NDArray[Any]) -> None:
        """Learn the boundaries of each column of float32 `values` with shape [rows, columns]."""
        columns = np.asarray(values, np.float32).T
        boundaries = [_boundaries(column, self.pieces) for column in columns]
        if not any(map(len, boundaries)):
            boundaries = [np.unique(column) for column in columns]
        self._set(boundaries)

    def _set(self, boundaries: list[NDArray[np.float32]]) -> None:
        pieces = [column[:-1] for column in boundaries]
        self._columns = np.repeat(np.arange(len(pieces)), [len(column) for column in pieces])
        if not len(self._columns):
            raise ValueError("no column has two different values; remove the layer")
        self._low = np.concatenate(pieces)
        self._width = np.concatenate([np.diff(column) for column in boundaries])

    def call(self, x: Any) -> Any:
        """Return float32 with shape [rows, pieces of all columns]."""
        chosen = keras.ops.take(x, self._columns, axis=1)
        return keras.ops.clip((chosen - self._low) / self._width, 0, 1)


class Columns(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The values at some positions of each row; no spec names it."""

    def __init__(self, positions: Sequence[int], **more: Any) -> None:
        super().__init__(**more)
        self._positions = np.asarray(positions)

    def call(self, x: Any) -> Any:
        """Return the values of `x` with shape [rows, positions]."""
        return keras.ops.take(x, self._positions, axis=1)


def _unit(column: NDArray[np.float64]) -> float:
    positive = column[column > 0]
    return float(np.quantile(positive, _LOW)) if len(positive) else 1.0


def _boundaries(column: NDArray[np.float32], pieces: int) -> NDArray[np.float32]:
    """Return ascending boundaries of the pieces of a column; empty if it has no bend."""
    distinct = np.unique(column)
    if len(distinct) < 3:  # noqa: PLR2004  (two values are on a line)
        return distinct[:0]
    if len(distinct) <= pieces + 1:
        return distinct
    even = np.linspace(0, 1, pieces + 1)
    boundaries = np.unique(np.quantile(column, even, method="nearest"))
    # Where one value is very common, several quantiles are that value: others take their place.
    left = pieces + 1 - len(boundaries)
    more = np.quantile(distinct, np.linspace(0, 1, left + 2)[1:-1], method="nearest")
    return np.unique(np.concatenate([boundaries, more]))
