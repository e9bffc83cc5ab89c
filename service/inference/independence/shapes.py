"""The rules for operators that read or change the shape of a tensor; see `rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.inference.independence.values import (
    ALL_ROWS,
    Node,
    Size,
    UnfollowedError,
    Value,
    broadcast,
    divide,
    is_of_rows,
    of_shape,
    product,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.inference.independence.values import Length


def transpose(node: Node) -> list[Value]:
    """Follow a Transpose, which may move the batch axis."""
    _, shape, axis = node.first()
    order = node.attributes.get("perm", list(reversed(range(len(shape)))))
    if sorted(order) != list(range(len(shape))):
        node.unknown("has an order that does not fit its input")
    return [Value(tuple(shape[i] for i in order), order.index(axis))]


def reshape(node: Node) -> list[Value]:
    """Follow a Reshape, in which the values of each row must stay together."""
    _, shape, axis = node.first()
    target = node.number(1, "shape")
    if target is None or node.attributes.get("allowzero", 0):
        node.unknown("has no known shape")
    resolved = []
    for place, length in enumerate(target):
        if not isinstance(length, Size) and length == 0:
            if place >= len(shape):
                node.unknown("copies an axis that is not there")
            resolved.append(shape[place])
        else:
            resolved.append(length if isinstance(length, Size) else int(length))
    return [reshaped(node, shape, axis, resolved)]


def flatten(node: Node) -> list[Value]:
    """Follow a Flatten into a matrix, in which the values of each row must stay together."""
    _, shape, axis = node.first()
    at = node.attributes.get("axis", 1)
    at = at if at == len(shape) else node.place(at, len(shape))
    return [reshaped(node, shape, axis, [product(shape[:at]), product(shape[at:])])]


def reshaped(node: Node, shape: Sequence[Length], axis: int, target: Sequence[Length]) -> Value:
    """Return the value of rows that are given another shape.

    The values keep their order in memory.  The new batch axis is the first one whose length is -1
    or depends on the number of rows.  Rows stay apart if the lengths before that axis have the same
    product as before, and if each row fills a whole number of entries along it: [rows, 4] may
    become [-1, 2], with two entries per row, but not [-1, 8], where two rows would share an entry.

    Args:
        node: the node that reshapes.
        shape: the old shape.
        axis: the old batch axis.
        target: the new shape; -1 stands for the length that is left.

    Raises:
        NoProof: values may move from row to row, or the shapes may not fit.
    """
    before = product(shape[:axis])
    # The number of one row's values that lie together: all of them, if the batch axis is the first.
    block = divide(shape[axis], ALL_ROWS) * product(shape[axis + 1 :])
    ends = [n for n, length in enumerate(target) if length == -1 or is_of_rows(length)]
    if not ends:
        node.mixes("leaves no axis for the rows")
    place, length = ends[0], target[ends[0]]
    lead = product(target[:place])
    if lead != before:
        if isinstance(lead, int) and isinstance(before, int):
            node.mixes("moves values from row to row")
        node.unknown("may move values from row to row")
    rest = list(target[place + 1 :])
    if any(map(is_of_rows, rest)):
        node.mixes("has two axes as long as the batch")
    if is_of_rows(length):
        left = divide(block, divide(length, ALL_ROWS))
        if -1 in rest:
            others = product(other for other in rest if other != -1)
            rest[rest.index(-1)] = divide(left, others)
        # For a shape that does not fit, ONNX Runtime's optimizer may answer instead of failing.
        if product(rest) != left:
            node.unknown("has a shape that may not fit")
        return Value((*target[:place], length, *rest), place)
    try:
        each = divide(block, product(rest))
    except UnfollowedError:
        if isinstance(block, int) and all(isinstance(other, int) for other in rest):
            node.mixes("cuts rows into pieces of another length")
        node.unknown("may cut rows into pieces of another length")
    return Value((*target[:place], each * ALL_ROWS, *rest), place)


def squeeze(node: Node) -> list[Value]:
    """Follow a Squeeze of named axes, which must not include the batch axis."""
    _, shape, axis = node.first()
    axes = node.number(1, "axes")
    if not axes:
        # Without axes, or with an empty list of them, all axes of length 1 are removed.
        node.mixes("removes the batch axis if there is one row")
    removed = {node.place(each, len(shape)) for each in axes}
    if axis in removed:
        node.mixes("removes the batch axis, so it takes only one row")
    kept = [i for i in range(len(shape)) if i not in removed]
    return [Value(tuple(shape[i] for i in kept), kept.index(axis))]


def unsqueeze(node: Node) -> list[Value]:
    """Follow an Unsqueeze, whose new axes may move the batch axis."""
    _, shape, axis = node.first()
    axes = node.number(1, "axes")
    if not axes:
        node.unknown("names no axes")
    rank = len(shape) + len(axes)
    new = {node.place(each, rank) for each in axes}
    lengths = iter(shape)
    expanded = tuple(1 if i in new else next(lengths) for i in range(rank))
    old = [i for i in range(rank) if i not in new]
    return [Value(expanded, old[axis])]


def expand(node: Node) -> list[Value]:
    """Follow an Expand, which keeps the batch axis or repeats a constant for each row."""
    value = node.inputs[0]
    target = node.number(1, "shape")
    if value is None or target is None:
        node.unknown("has no known shape")
    return [_spread(node, value, target)]


def _spread(node: Node, value: Value, target: Sequence[Length]) -> Value:
    """Return the value of an operand that is broadcast to the shape `target`."""
    places = [place for place, length in enumerate(target) if is_of_rows(length)]
    if len(places) > 1:
        node.mixes("makes two axes as long as the batch")
    goal = Value(tuple(target), places[0] if places else None)
    if not places and value.axis is None:
        node.unknown("makes a constant")
    return broadcast(node, [value, goal])


def shape_of(node: Node) -> list[Value]:
    """Follow a Shape, whose output holds lengths and so maybe the number of rows."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        node.unknown("asks for an unknown shape")
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return [of_shape(value.shape[slice(start, end)])]


def size_of(node: Node) -> list[Value]:
    """Follow a Size, whose output holds a length and so maybe the number of rows."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        node.unknown("asks for an unknown shape")
    content = np.empty((), object)
    content[()] = product(value.shape)
    return [Value((), None, content)]


def fill(node: Node) -> list[Value]:
    """Follow a ConstantOfShape that repeats its constant for each row."""
    target = node.number(0, "shape")
    if target is None:
        node.unknown("has no known shape")
    return [_spread(node, Value(()), target)]
