"""Arrays of a tensor's dtype, from lists or of zeros, and the difference between two arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import ModelRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.signature import Tensor


def difference(answer: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference between two arrays of numbers or strings.

    The difference of two values is absolute where the expected one is below 1, and relative above.
    It is infinite between other shapes and between strings that are not equal.  NaN equals NaN.
    """
    if answer.shape != expected.shape:
        return float("inf")
    if answer.dtype == object:
        return 0.0 if bool((answer == expected).all()) else float("inf")
    got, want = answer.astype(np.float64), expected.astype(np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):  # infinities give NaN, which becomes infinite below
        apart = np.where(same, 0.0, np.abs(got - want) / np.maximum(1.0, np.abs(want)))
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))


def as_array(rows: list[Any], tensor: Tensor) -> NDArray[Any]:
    """Return an array of the tensor's dtype, made of lists that were checked before."""
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and so differs
        return np.array(rows, dtype=object if tensor.dtype == "string" else tensor.dtype)


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Return numpy's dtype for a dtype of a signature; strings are Python objects."""
    return np.dtype(object if dtype == "string" else dtype)


def zeros_of(tensor: Tensor, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array of zeros, or of empty strings, of a tensor's dtype.

    Raises:
        ModelRefused: memory does not suffice for the array.
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
