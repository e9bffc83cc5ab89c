"""The rules of row independence: one function for all operators that treat the batch axis alike.

A rule takes a node with the values of its inputs, at least one of which holds rows or the number of
rows, and returns the values of its outputs.  It raises `NoProof` wherever a row could influence
another, also if that is merely not certain.  Here are the rules for element-wise operators and for
operators along an axis; the others are in `shapes`, `selections`, `products`, `pictures` and
`learned`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.inference.independence.values import (
    Node,
    Value,
    broadcast,
    is_one,
    with_lengths,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.inference.independence.values import Length

# From this operator set on, a softmax is along one axis; before, along all axes from `axis` on.
SOFTMAX_OF_ONE_AXIS = 13


def each_place(node: Node) -> list[Value]:
    """Follow an element-wise operator, whose operands are broadcast."""
    return [broadcast(node, [value for value in node.inputs if value is not None])]


def same(node: Node) -> list[Value]:
    """Follow an element-wise operator of one operand; its other inputs must be constants."""
    node.constant()
    value, shape, _ = node.first()
    return [Value(shape, value.axis)] * node.outputs


def like(node: Node) -> list[Value]:
    """Follow a CastLike; only the dtype of its second input matters."""
    value, shape, _ = node.first()
    return [Value(shape, value.axis)]


def quantize(node: Node) -> list[Value]:
    """Follow a (de)quantization by constant scales, which may not differ from row to row."""
    node.constant()
    value, shape, axis = node.first()
    for parameter in node.inputs[1:]:
        if parameter is None:
            continue
        if parameter.shape is None or len(parameter.shape) > 1:
            node.unknown("has scales of an unknown or blocked shape")
        per_axis = not all(map(is_one, parameter.shape))
        if per_axis and node.axis(1, len(shape)) == axis:
            node.mixes("has a scale that differs along the batch axis")
    return [Value(shape, value.axis)]


def dropout(node: Node) -> list[Value]:
    """Follow a Dropout that is not in training mode, and so drops nothing."""
    training = node.input(2)
    if training is not None:
        node.constant(2)
        if training.content is None:
            node.unknown("computes its training mode")
        if any(training.content.flat):
            node.mixes("is in training mode and draws at random")
    node.constant(1)
    value, shape, _ = node.first()
    return [Value(shape, value.axis)] * node.outputs


def along(node: Node, default: int) -> list[Value]:
    """Follow an operator along one axis, not the batch axis, that keeps the shape."""
    node.constant()
    value, shape, axis = node.first()
    if node.axis(default, len(shape)) == axis:
        node.mixes(f"works along axis {axis}, the batch axis")
    return [Value(shape, value.axis)]


def along_last(node: Node) -> list[Value]:
    """Follow an operator along one axis, by default the last."""
    return along(node, -1)


def softmax(node: Node) -> list[Value]:
    """Follow a softmax along one axis, or in older operator sets along all axes from one on."""
    if node.version >= SOFTMAX_OF_ONE_AXIS:
        return along(node, -1)
    return from_axis_on(node, 1)


def from_axis_on(node: Node, default: int) -> list[Value]:
    """Follow an operator along all axes from one on; the batch axis must lie before them."""
    node.constant()
    value, shape, axis = node.first()
    if node.axis(default, len(shape)) <= axis:
        node.mixes(f"works along axis {axis}, the batch axis, and others")
    return [Value(shape, value.axis)]


def layer_normalization(node: Node) -> list[Value]:
    """Follow a normalization along the last axes, by constants that are broadcast over the rows."""
    [value] = from_axis_on(node, -1)
    scales = [entry for entry in node.inputs[1:] if entry is not None]
    if broadcast(node, [value, *scales]).shape is None:
        node.unknown("has a scale of an unknown shape")
    return [value]


def cumulative(node: Node) -> list[Value]:
    """Follow a cumulative operator along a constant axis, which must not be the batch axis."""
    node.constant()
    value, shape, axis = node.first()
    along_axes = node.number(1, "axis") or [0]
    if len(along_axes) != 1 or node.place(along_axes[0], len(shape)) == axis:
        node.mixes(f"runs along axis {axis}, the batch axis")
    return [Value(shape, value.axis)]


def reduce(node: Node) -> list[Value]:
    """Follow a reduction over constant axes, which must not include the batch axis."""
    node.constant()
    value, shape, axis = node.first()
    axes = node.number(1, "axes")
    if not axes:
        if node.attributes.get("noop_with_empty_axes", 0):
            return [Value(shape, value.axis)]
        node.mixes("reduces all axes, including the batch axis")
    return [_reduced(node, shape, axis, {node.place(each, len(shape)) for each in axes})]


def reduce_one(node: Node) -> list[Value]:
    """Follow an ArgMax or ArgMin along one axis, which must not be the batch axis."""
    _, shape, axis = node.first()
    return [_reduced(node, shape, axis, {node.axis(0, len(shape))})]


def _reduced(node: Node, shape: Sequence[Length], axis: int, axes: set[int]) -> Value:
    """Return the value of rows along `axis` that are reduced over `axes`."""
    if axis in axes:
        node.mixes(f"reduces axis {axis}, the batch axis")
    if node.attributes.get("keepdims", 1):
        return Value(tuple(1 if i in axes else length for i, length in enumerate(shape)), axis)
    kept = [i for i in range(len(shape)) if i not in axes]
    return Value(tuple(shape[i] for i in kept), kept.index(axis))


def mean_variance(node: Node) -> list[Value]:
    """Follow a normalization along some axes; the default ones include the first axis."""
    value, shape, axis = node.first()
    axes = node.attributes.get("axes", [0, 2, 3])
    if axis in {node.place(each, len(shape)) for each in axes}:
        node.mixes(f"normalizes along axis {axis}, the batch axis")
    return [Value(shape, value.axis)]


def top(node: Node) -> list[Value]:
    """Follow a TopK along one axis, which must not be the batch axis."""
    _, shape, axis = node.first()
    along_axis = node.axis(-1, len(shape))
    if along_axis == axis:
        node.mixes(f"sorts along axis {axis}, the batch axis")
    node.constant()
    value = Value(with_lengths(shape, along_axis, node.fresh()), axis)
    return [value, value]


def recurrent(node: Node) -> list[Value]:
    """Follow a recurrent network with steps along the first axis and rows along the second."""
    _, shape, axis = node.first()
    node.constant(1, 2, 3)
    if node.attributes.get("layout", 0):
        node.unknown("has the layout 1")
    if axis != 1:
        node.mixes("runs along the batch axis, as if its rows were steps")
    # The lengths of the sequences have the rows along axis 0, the initial states along axis 1.
    for index, place in ((4, 0), (5, 1), (6, 1)):
        value = node.input(index)
        if value is None:
            continue
        if index == 6 and node.op != "LSTM":  # noqa: PLR2004  only an LSTM has a seventh input
            node.unknown("has too many inputs")
        if value.shape is None or value.axis != place or value.shape[place] != shape[1]:
            node.mixes("has initial states, or lengths, that are not each row's own")
    node.constant(7)
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    hidden = node.attributes.get("hidden_size") or node.fresh()
    last = Value((directions, shape[1], hidden), 1)
    return [Value((shape[0], directions, shape[1], hidden), 2), last, last][: node.outputs]
