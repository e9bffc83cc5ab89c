"""Arrays of a tensor's dtype: made of lists, made of zeros, and how far two of them are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import ModelRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.signature import Tensor


def difference(answer: NDArray[Any], expected: NDArray[Any]) -> float:
    """How far two arrays are apart: absolute below 1, relative above; infinite where shapes differ.

    NaN is equal to NaN, and texts are equal or infinitely far apart.
    """
    if answer.shape != expected.shape:
        return float("inf")
    if answer.dtype == object:
        return 0.0 if bool((answer == expected).all()) else float("inf")
    got, want = answer.astype(np.float64), expected.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):  # infinities are no nearer to each other than to a number
        apart = np.where(same, 0.0, np.abs(got - want) / np.maximum(1.0, np.abs(want)))
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))


def as_array(rows: list[Any], tensor: Tensor) -> NDArray[Any]:
    """Lists that are known to be right as an array of the tensor's dtype."""
    with np.errstate(over="ignore"):  # what is more than float32 holds is infinite, and differs
        return np.array(rows, dtype=object if tensor.dtype == "string" else tensor.dtype)


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Return numpy's dtype for one of a signature's; texts are Python's."""
    return np.dtype(object if dtype == "string" else dtype)


def zeros_of(tensor: Tensor, shape: tuple[int, ...]) -> NDArray[Any]:
    """Make zeros, or empty texts, of a tensor's dtype.

    Raises:
        ModelRefused: there is not the memory for them.
    """
    try:
        if tensor.dtype == "string":
            return np.full(shape, "", object)
        return np.zeros(shape, tensor.dtype)
    except (MemoryError, ValueError) as error:
        rows = len(shape) > len(tensor.shape)
        what = f"a row: {shape[0]} of them are" if rows else "whole: that is"
        message = f"input {tensor.name!r} is {tensor} {what} more than memory"
        raise ModelRefused(message) from error
