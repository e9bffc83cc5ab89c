"""How operators that give a tensor another shape treat the batch axis; see `rules`."""

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
    """Put axes in another order."""
    _, shape, axis = node.first()
    order = node.attributes.get("perm", list(reversed(range(len(shape)))))
    if sorted(order) != list(range(len(shape))):
        node.unknown("has an order that does not fit its input")
    return [Value(tuple(shape[i] for i in order), order.index(axis))]


def reshape(node: Node) -> list[Value]:
    """Cut the same values otherwise; each row has to stay in one piece."""
    _, shape, axis = node.first()
    target = node.number(1, "shape")
    if target is None or node.attributes.get("allowzero", 0):
        node.unknown("has no shape that is known")
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
    """Cut into a matrix at one axis."""
    _, shape, axis = node.first()
    at = node.attributes.get("axis", 1)
    at = at if at == len(shape) else node.place(at, len(shape))
    return [reshaped(node, shape, axis, [product(shape[:at]), product(shape[at:])])]


def reshaped(node: Node, shape: Sequence[Length], axis: int, target: Sequence[Length]) -> Value:
    """The value of another shape; in `target`, -1 stands for what is left."""
    before = product(shape[:axis])
    # The values of one row, in one piece where there are none before the batch axis.
    block = divide(shape[axis], ALL_ROWS) * product(shape[axis + 1 :])
    ends = [n for n, length in enumerate(target) if length == -1 or is_of_rows(length)]
    if not ends:
        node.mixes("leaves no axis to the rows")
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
        # ONNX Runtime's optimizer makes something of shapes that do not fit, instead of an error.
        if product(rest) != left:
            node.unknown("has a shape that may not fit")
        return Value((*target[:place], length, *rest), place)
    try:
        each = divide(block, product(rest))
    except UnfollowedError:
        if isinstance(block, int) and all(isinstance(other, int) for other in rest):
            node.mixes("cuts rows in pieces of another length")
        node.unknown("may cut rows in pieces of another length")
    return Value((*target[:place], each * ALL_ROWS, *rest), place)


def squeeze(node: Node) -> list[Value]:
    """Leave out axes of length 1."""
    _, shape, axis = node.first()
    axes = node.number(1, "axes")
    if not axes:
        # An empty list is none too.
        node.mixes("leaves out the batch axis where there is one row")
    gone = {node.place(each, len(shape)) for each in axes}
    if axis in gone:
        node.mixes("leaves out the batch axis, so it takes one row alone")
    kept = [i for i in range(len(shape)) if i not in gone]
    return [Value(tuple(shape[i] for i in kept), kept.index(axis))]


def unsqueeze(node: Node) -> list[Value]:
    """Put in axes of length 1."""
    _, shape, axis = node.first()
    axes = node.number(1, "axes")
    if not axes:
        node.unknown("names no axes")
    rank = len(shape) + len(axes)
    new = {node.place(each, rank) for each in axes}
    lengths = iter(shape)
    made = tuple(1 if i in new else next(lengths) for i in range(rank))
    old = [i for i in range(rank) if i not in new]
    return [Value(made, old[axis])]


def expand(node: Node) -> list[Value]:
    """Repeat to a shape, in which the batch axis stays where it is, or is new."""
    value = node.inputs[0]
    target = node.number(1, "shape")
    if value is None or target is None:
        node.unknown("has no shape that is known")
    return [_spread(node, value, target)]


def _spread(node: Node, value: Value, target: Sequence[Length]) -> Value:
    places = [place for place, length in enumerate(target) if is_of_rows(length)]
    if len(places) > 1:
        node.mixes("makes two axes as long as the batch")
    goal = Value(tuple(target), places[0] if places else None)
    if not places and value.axis is None:
        node.unknown("makes a constant")
    return broadcast(node, [value, goal])


def shape_of(node: Node) -> list[Value]:
    """The lengths of a tensor's axes."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        node.unknown("asks for an unknown shape")
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return [of_shape(value.shape[slice(start, end)])]


def size_of(node: Node) -> list[Value]:
    """How many values a tensor has."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        node.unknown("asks for an unknown shape")
    content = np.empty((), object)
    content[()] = product(value.shape)
    return [Value((), None, content)]


def fill(node: Node) -> list[Value]:
    """Make a constant in as many places as a shape says."""
    target = node.number(0, "shape")
    if target is None:
        node.unknown("has no shape that is known")
    return [_spread(node, Value(()), target)]
