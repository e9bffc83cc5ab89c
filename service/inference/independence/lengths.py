"""The computation of shapes inside a graph, by the few operators that exporters use for it.

In `Shape → Slice → Concat → Reshape` and similar chains, each number is computed as long as it is a
length or a constant.  Any other computation with lengths raises `UnfollowedError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from service.inference.independence.values import ROWS, Size, UnfollowedError, product

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.inference.independence.values import Node

    Follow = Callable[..., NDArray[Any]]

# The types that can hold every length; a narrower one would overflow.
WIDE = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64)
_WHOLE = (TensorProto.INT32, TensorProto.INT64)


# The largest integer that is the same in int32 and in int64.
_LARGEST = 2**31 - 1


def _as_is(node: Node, value: NDArray[Any]) -> NDArray[Any]:
    del node
    return value


def _cast(node: Node, value: NDArray[Any]) -> NDArray[Any]:
    to = node.attributes.get("to")
    if to not in WIDE:
        raise UnfollowedError
    # The numbers become floats or integers, since later `7 / 2` differs between the two.
    as_type = int if to in _WHOLE else float
    return _each(lambda n: n if isinstance(n, Size) else as_type(n), value)


def _exact(number: Any) -> Any:
    """Return a computed number, unless some type that holds lengths would round or overflow it.

    Raises:
        UnfollowedError: it would.
    """
    if isinstance(number, Size | bool):
        return number
    is_float = isinstance(number, float)
    exact = float(np.float32(number)) == number if is_float else abs(number) <= _LARGEST
    if not exact:
        raise UnfollowedError
    return number


def _each(function: Callable[..., Any], *values: NDArray[Any]) -> NDArray[Any]:
    """Apply a function to each element of arrays of objects, which are broadcast."""
    results = np.frompyfunc(function, len(values), 1)(*values)
    if isinstance(results, np.ndarray):
        return results
    scalar = np.empty((), object)
    scalar[()] = results
    return scalar


def _concat(node: Node, *values: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(values, axis=node.attributes.get("axis", 1))


def _slice(node: Node, value: NDArray[Any], *_: NDArray[Any]) -> NDArray[Any]:
    starts, ends = node.number(1, "starts") or [], node.number(2, "ends") or []
    axes = node.number(3, "axes") or list(range(len(starts)))
    steps = node.number(4, "steps") or [1] * len(starts)
    place: list[Any] = [slice(None)] * value.ndim
    for numbers in zip(starts, ends, axes, steps, strict=True):
        if any(isinstance(number, Size) for number in numbers):
            raise UnfollowedError
        start, end, axis, step = (int(number) for number in numbers)  # type: ignore[arg-type]
        if step < 0:
            # ONNX moves a start before the first value to it, where Python's slice would be empty.
            start = max(start, -value.shape[axis])
        place[axis] = slice(start, end, step)
    return np.asarray(value[tuple(place)])


def _gather(node: Node, value: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(value.take(indices.astype(np.int64), axis=node.attributes.get("axis", 0)))


def _squeeze(node: Node, value: NDArray[Any], *_: NDArray[Any]) -> NDArray[Any]:
    axes = node.number(1, "axes")
    # Without axes, or with an empty list of them, all axes of length 1 are removed.
    return np.squeeze(value, tuple(map(int, axes)) if axes else None)  # type: ignore[arg-type]


def _unsqueeze(node: Node, value: NDArray[Any], *_: NDArray[Any]) -> NDArray[Any]:
    return np.expand_dims(value, tuple(map(int, node.number(1, "axes") or [])))  # type: ignore[arg-type]


def _reshape(node: Node, value: NDArray[Any], shape: NDArray[Any]) -> NDArray[Any]:
    if 0 in shape or node.attributes.get("allowzero", 0):
        raise UnfollowedError
    return value.reshape([int(n) for n in shape])


def _divide(one: Any, other: Any) -> Any:
    if isinstance(one, float) or isinstance(other, float):
        raise UnfollowedError
    if isinstance(one, Size) or isinstance(other, Size):
        return one // other
    # ONNX rounds towards zero, Python down.
    return int(one / other)


def _least(length: Size) -> int:
    """Return the least value of a length: a request has a row, but other axes may be empty."""
    return length.number if set(length.symbols) == {ROWS} else 0


def _equal(one: Any, other: Any) -> bool:
    """Return whether two numbers are equal, if the answer is the same for every request."""
    for length, number in ((one, other), (other, one)):
        if isinstance(length, Size):
            if isinstance(number, Size) or number >= _least(length):
                raise UnfollowedError
            return False
    return bool(one == other)


def _larger(one: Any, other: Any) -> Any:
    """Return the larger of two numbers, if it is the same one for every request."""
    for length, number in ((one, other), (other, one)):
        if isinstance(length, Size) and not isinstance(number, Size) and number <= _least(length):
            return length
    if isinstance(one, Size) or isinstance(other, Size):
        if one != other:
            raise UnfollowedError
        return one
    return max(one, other)


def _plain(function: Callable[..., Any]) -> Follow:
    """Return the element-wise computation of a function of numbers and lengths."""

    def follow(node: Node, *values: NDArray[Any]) -> NDArray[Any]:
        del node
        return _each(lambda *numbers: _exact(function(*numbers)), *values)

    return follow


def _where(node: Node, which: NDArray[Any], *both: NDArray[Any]) -> NDArray[Any]:
    del node
    return _each(lambda w, one, other: one if w else other, which, *both)


def _fill(node: Node, shape: NDArray[Any]) -> NDArray[Any]:
    from onnx import numpy_helper

    value = node.attributes.get("value")
    number = 0 if value is None else numpy_helper.to_array(value).item()
    lengths = [int(n) for n in shape]
    if np.prod(lengths, initial=1) > shape.size * 64 + 64:
        raise UnfollowedError
    return np.full(lengths, number, object)


def _product(node: Node, value: NDArray[Any], *_: NDArray[Any]) -> NDArray[Any]:
    axes = node.number(1, "axes")
    if value.ndim != 1 or axes not in (None, [0]) or node.attributes.get("noop_with_empty_axes", 0):
        raise UnfollowedError
    result = np.empty(1 if node.attributes.get("keepdims", 1) else (), object)
    result[...] = _exact(product(value))
    return result


FOLLOWED: dict[str, Follow] = {
    "Add": _plain(lambda one, other: one + other),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _fill,
    "Div": _plain(_divide),
    "Equal": _plain(_equal),
    "Gather": _gather,
    "Identity": _as_is,
    "Max": _plain(_larger),
    "Mul": _plain(lambda one, other: one * other),
    "ReduceProd": _product,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _plain(lambda one, other: one - other),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
