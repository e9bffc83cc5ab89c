"""The rules for operators that select, join or repeat parts of tensors; see `rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.inference.independence.values import (
    ALL_ROWS,
    Node,
    Size,
    Value,
    is_of_rows,
    is_one,
    with_lengths,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.inference.independence.values import Length

# The least end of a slice that is past the end of every axis, and the least one that is past the
# last row of every batch, since no body has so many bytes.  For an end that is left out, tf2onnx
# writes the second.
PAST_THE_END = 2**31 - 1
PAST_ALL_ROWS = 10**9
MATRIX = 2


def concat(node: Node) -> list[Value]:
    """Follow a Concat of rows along an axis that is not the batch axis."""
    values = [value for value in node.inputs if value is not None]
    if any(value.axis is None for value in values):
        node.mixes("joins a constant and rows")
    shapes = [value.shape or () for value in values]
    axis = values[0].axis
    if any(value.axis != axis for value in values) or len({len(shape) for shape in shapes}) > 1:
        node.mixes("combines the batch axis of one operand with another axis of the other")
    along_axis = node.axis(1, len(shapes[0]))
    if along_axis == axis:
        node.mixes("joins batches along the batch axis")
    if axis is None or len({shape[axis] for shape in shapes}) > 1:
        node.unknown("has operands whose rows differ in length")
    lengths = [shape[along_axis] for shape in shapes]
    whole = sum(n for n in lengths if isinstance(n, int))
    known = all(isinstance(length, int) for length in lengths)
    return [Value(with_lengths(shapes[0], along_axis, whole if known else node.fresh()), axis)]


def split(node: Node) -> list[Value]:
    """Follow a Split of an axis that is not the batch axis."""
    node.constant()
    _, shape, axis = node.first()
    along_axis = node.axis(0, len(shape))
    if along_axis == axis:
        node.mixes("cuts the batch into parts")
    return [Value(with_lengths(shape, along_axis, node.fresh()), axis) for _ in range(node.outputs)]


def cut(node: Node) -> list[Value]:
    """Follow a Slice that keeps all rows, in their order."""
    _, shape, axis = node.first()
    starts, ends = node.number(1, "starts"), node.number(2, "ends")
    if starts is None or ends is None:
        node.unknown("has no starts or no ends")
    axes = node.number(3, "axes") or list(range(len(starts)))
    steps = node.number(4, "steps") or [1] * len(starts)
    lengths = list(shape)
    for start, end, along_axis, step in zip(starts, ends, axes, steps, strict=True):
        place = node.place(along_axis, len(shape))
        length = shape[place]
        everything = start == 0 and step == 1 and _is_end(end, length)
        if everything:
            continue
        if place == axis:
            node.mixes("takes only some of the rows")
        numbers = (start, end, step, length)
        whole = [int(number) for number in numbers if not isinstance(number, Size)]
        if any(map(is_of_rows, numbers)):
            node.mixes("takes a part that depends on the number of rows")
        if len(whole) == len(numbers) and whole[2] > 0:
            lengths[place] = len(range(*slice(*whole[:3]).indices(whole[3])))
        else:
            lengths[place] = node.fresh()
    return [Value(tuple(lengths), axis)]


def _is_end(end: Any, length: Length) -> bool:
    """Return whether the end of a slice is the end of an axis, or past it."""
    if isinstance(end, Size):
        return bool(end == length)
    return bool(end >= (PAST_ALL_ROWS if length == ALL_ROWS else PAST_THE_END))


def gather(node: Node) -> list[Value]:
    """Follow a Gather of each row's indices from a constant, or of the same ones from each row."""
    data, indices = node.inputs
    if data is None or indices is None or data.shape is None or indices.shape is None:
        node.unknown("has an operand of an unknown shape")
    at = node.axis(0, len(data.shape))
    shape = with_lengths(data.shape, at, *indices.shape)
    if data.axis is None:
        node.constant(0)
        return [Value(shape, at + (indices.axis or 0))]
    if indices.axis is not None:
        node.mixes("looks up in all rows what each row names")
    node.constant(1)
    if data.axis == at:
        node.mixes("takes some of the rows by their index")
    axis = data.axis if data.axis < at else data.axis - 1 + len(indices.shape)
    return [Value(shape, axis)]


def gather_elements(node: Node) -> list[Value]:
    """Follow a GatherElements of each row's indices from that row, not along the batch axis."""
    data, indices = node.inputs
    if data is None or indices is None or data.shape is None or indices.shape is None:
        node.unknown("has an operand of an unknown shape")
    if data.axis is None or data.axis != indices.axis:
        node.mixes("has data and indices that are not of the same rows")
    if data.shape[data.axis] != indices.shape[data.axis]:
        node.unknown("has operands whose rows differ in length")
    if node.axis(0, len(data.shape)) == data.axis:
        node.mixes("takes some of the rows by their index")
    return [Value(indices.shape, indices.axis)]


def gather_nd(node: Node) -> list[Value]:
    """Follow a GatherND of each row's indices from a constant or from that row."""
    data, indices = node.inputs
    if data is None or indices is None or data.shape is None or indices.shape is None:
        node.unknown("has an operand of an unknown shape")
    batches, depth = node.attributes.get("batch_dims", 0), indices.shape[-1]
    if not isinstance(depth, int) or indices.axis == len(indices.shape) - 1:
        node.unknown("looks up indices of an unknown depth")
    shape = indices.shape[:-1] + data.shape[batches + depth :]
    in_row = data.axis == indices.axis == 0 and batches > 0 and data.shape[0] == indices.shape[0]
    if not in_row and not (data.axis is None and not data.is_counted and batches == 0):
        node.mixes("looks up in all rows what each row names")
    return [Value(shape, indices.axis)]


def tile(node: Node) -> list[Value]:
    """Follow a Tile that repeats other axes than the batch axis, or a constant for each row."""
    value, repeats = node.inputs[0], node.number(1, "repeats")
    if value is None or value.shape is None or repeats is None or len(repeats) != len(value.shape):
        node.unknown("repeats an unknown shape, or an unknown number of times")
    of_rows = [place for place, times in enumerate(repeats) if is_of_rows(times)]
    if value.axis is None and len(of_rows) == 1 and not value.is_counted:
        axis = of_rows[0]
    elif value.axis is None or of_rows or not is_one(repeats[value.axis]):
        node.mixes("repeats the batch")
    else:
        axis = value.axis
    lengths = [length * times for length, times in zip(value.shape, repeats, strict=True)]
    return [Value(tuple(lengths), axis)]


def pad(node: Node) -> list[Value]:
    """Follow a Pad of axes that are not the batch axis."""
    node.constant()
    _, shape, axis = node.first()
    pads = node.number(1, "pads")
    axes = node.number(3, "axes") or list(range(len(shape)))
    if pads is None or len(pads) != 2 * len(axes):
        node.unknown("adds an unknown length")
    lengths = list(shape)
    for place, *both in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        at = node.place(place, len(shape))
        if both == [0, 0]:
            continue
        if at == axis:
            node.mixes("pads the batch axis")
        lengths[at] = _added(node, lengths[at], both)
    return [Value(tuple(lengths), axis)]


def _added(node: Node, length: Length, both: Sequence[Length]) -> Length:
    """Return the length of an axis with pads at both ends."""
    numbers = [number for number in (length, *both) if not isinstance(number, Size)]
    return sum(numbers) if len(numbers) == len(both) + 1 else node.fresh()


def one_hot(node: Node) -> list[Value]:
    """Follow a OneHot, which inserts an axis for the classes."""
    node.constant()
    _, shape, axis = node.first()
    at = node.axis(-1, len(shape) + 1)
    lengths = (*shape[:at], node.fresh(), *shape[at:])
    return [Value(lengths, axis + (at <= axis))]


def triangle(node: Node) -> list[Value]:
    """Follow a Trilu along the last two axes, neither of which may be the batch axis."""
    node.constant()
    value, shape, axis = node.first()
    if axis >= len(shape) - MATRIX:
        node.mixes("keeps a part of each row by its index in the batch")
    return [Value(shape, value.axis)]


def reverse(node: Node) -> list[Value]:
    """Follow a ReverseSequence, which reverses the first steps of each row."""
    value, shape, axis = node.first()
    batch = node.place(node.attributes.get("batch_axis", 1), len(shape))
    if axis != batch:
        node.mixes("reverses the order of the rows")
    lengths = node.input(1)
    if lengths is None or lengths.axis != 0 or lengths.shape != (shape[axis],):
        node.mixes("has lengths that are not each row's own")
    return [Value(shape, value.axis)]
