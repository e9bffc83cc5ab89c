"""How operators treat the batch axis: one function for operators that treat it alike.

Each takes what is known of a node's inputs, at least one of which holds rows, and gives what is
then known of its outputs.  It raises `NoProof` wherever a row could meet another: what is not
certain is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    is_one,
    product,
    windows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.inference.independence.values import Length

# An end of a slice that is past every axis' end; and past the last row of every batch, since no
# body has as many bytes.  The second is what tf2onnx writes for an end that is left out.
PAST_THE_END = 2**31 - 1
PAST_ALL_ROWS = 10**9
# From this operator set on, a softmax is over one axis; before, over all from `axis` on.
SOFTMAX_OF_ONE_AXIS = 13
MATRIX = 2
# The axes of pictures: rows, channels, heights and widths.
PICTURES = 4


def each_place(node: Node) -> list[Value]:
    """Combine operands place by place."""
    return [broadcast(node, [value for value in node.inputs if value is not None])]


def same(node: Node) -> list[Value]:
    """Treat each value by itself; further inputs are constants that hold for all."""
    node.constant()
    value, shape, _ = node.first()
    return [Value(shape, value.axis)] * node.outputs


def like(node: Node) -> list[Value]:
    """Cast to the dtype of the second input, whatever that holds."""
    value, shape, _ = node.first()
    return [Value(shape, value.axis)]


def quantize(node: Node) -> list[Value]:
    """Scale each value, by one scale or one for each place of an axis that is not the batch."""
    node.constant()
    value, shape, axis = node.first()
    for parameter in node.inputs[1:]:
        if parameter is None:
            continue
        if parameter.shape is None or len(parameter.shape) > 1:
            node.unknown("has scales of an unknown or blocked shape")
        per_axis = not all(map(is_one, parameter.shape))
        if per_axis and node.axis(1, len(shape)) == axis:
            node.mixes("has a scale for each place of the batch")
    return [Value(shape, value.axis)]


def dropout(node: Node) -> list[Value]:
    """Drop nothing, as at inference."""
    training = node.input(2)
    if training is not None:
        node.constant(2)
        if training.content is None:
            node.unknown("computes whether it trains")
        if any(training.content.flat):
            node.mixes("is in training mode and draws at random")
    node.constant(1)
    value, shape, _ = node.first()
    return [Value(shape, value.axis)] * node.outputs


def along(node: Node, default: int) -> list[Value]:
    """Keep the shape, and work along one axis that is not the batch."""
    node.constant()
    value, shape, axis = node.first()
    if node.axis(default, len(shape)) == axis:
        node.mixes(f"works along axis {axis}, the batch axis")
    return [Value(shape, value.axis)]


def along_last(node: Node) -> list[Value]:
    """Work along the last axis, unless another is named."""
    return along(node, -1)


def softmax(node: Node) -> list[Value]:
    """Normalize along one axis; in old operator sets, along all from that one on."""
    if node.version >= SOFTMAX_OF_ONE_AXIS:
        return along(node, -1)
    return from_axis_on(node, 1)


def from_axis_on(node: Node, default: int) -> list[Value]:
    """Keep the shape, and work along all axes from one on."""
    node.constant()
    value, shape, axis = node.first()
    if node.axis(default, len(shape)) <= axis:
        node.mixes(f"works along axis {axis}, the batch axis, and others")
    return [Value(shape, value.axis)]


def layer_normalization(node: Node) -> list[Value]:
    """Normalize along the last axes, with constants that are repeated over the others."""
    [value] = from_axis_on(node, -1)
    scales = [entry for entry in node.inputs[1:] if entry is not None]
    if broadcast(node, [value, *scales]).shape is None:
        node.unknown("has a scale of an unknown shape")
    return [value]


def cumulative(node: Node) -> list[Value]:
    """Run along an axis that a constant names."""
    node.constant()
    value, shape, axis = node.first()
    along_axes = node.number(1, "axis") or [0]
    if len(along_axes) != 1 or node.place(along_axes[0], len(shape)) == axis:
        node.mixes(f"runs along axis {axis}, the batch axis")
    return [Value(shape, value.axis)]


def reduce(node: Node) -> list[Value]:
    """Reduce along axes that are not the batch."""
    node.constant()
    value, shape, axis = node.first()
    axes = node.number(1, "axes")
    if not axes:
        if node.attributes.get("noop_with_empty_axes", 0):
            return [Value(shape, value.axis)]
        node.mixes("reduces all axes, the batch axis too")
    return [_reduced(node, shape, axis, {node.place(each, len(shape)) for each in axes})]


def reduce_one(node: Node) -> list[Value]:
    """Find a place along one axis that is not the batch."""
    _, shape, axis = node.first()
    return [_reduced(node, shape, axis, {node.axis(0, len(shape))})]


def _reduced(node: Node, shape: Sequence[Length], axis: int, axes: set[int]) -> Value:
    if axis in axes:
        node.mixes(f"reduces axis {axis}, the batch axis")
    if node.attributes.get("keepdims", 1):
        return Value(tuple(1 if i in axes else length for i, length in enumerate(shape)), axis)
    kept = [i for i in range(len(shape)) if i not in axes]
    return Value(tuple(shape[i] for i in kept), kept.index(axis))


def mean_variance(node: Node) -> list[Value]:
    """Normalize along the axes that are named; by default the batch is one of them."""
    value, shape, axis = node.first()
    axes = node.attributes.get("axes", [0, 2, 3])
    if axis in {node.place(each, len(shape)) for each in axes}:
        node.mixes(f"normalizes along axis {axis}, the batch axis")
    return [Value(shape, value.axis)]


def top(node: Node) -> list[Value]:
    """Sort along an axis that is not the batch."""
    _, shape, axis = node.first()
    along_axis = node.axis(-1, len(shape))
    if along_axis == axis:
        node.mixes(f"sorts along axis {axis}, the batch axis")
    node.constant()
    made = Value(_with(shape, along_axis, node.fresh()), axis)
    return [made, made]


def _with(shape: Sequence[Length], axis: int, *lengths: Length) -> tuple[Length, ...]:
    """A shape with some lengths in the place of one."""
    return (*shape[:axis], *lengths, *shape[axis + 1 :])


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


def concat(node: Node) -> list[Value]:
    """Put tensors one behind the other, row by row."""
    values = [value for value in node.inputs if value is not None]
    if any(value.axis is None for value in values):
        node.mixes("puts a constant beside rows")
    shapes = [value.shape or () for value in values]
    axis = values[0].axis
    if any(value.axis != axis for value in values) or len({len(shape) for shape in shapes}) > 1:
        node.mixes("meets the batch axis of one operand with another axis of the other")
    along_axis = node.axis(1, len(shapes[0]))
    if along_axis == axis:
        node.mixes("puts rows behind other rows")
    if axis is None or len({shape[axis] for shape in shapes}) > 1:
        node.unknown("has operands whose rows differ in length")
    lengths = [shape[along_axis] for shape in shapes]
    whole = sum(n for n in lengths if isinstance(n, int))
    known = all(isinstance(length, int) for length in lengths)
    return [Value(_with(shapes[0], along_axis, whole if known else node.fresh()), axis)]


def split(node: Node) -> list[Value]:
    """Cut along an axis that is not the batch."""
    node.constant()
    _, shape, axis = node.first()
    along_axis = node.axis(0, len(shape))
    if along_axis == axis:
        node.mixes("cuts the batch into parts")
    return [Value(_with(shape, along_axis, node.fresh()), axis) for _ in range(node.outputs)]


def cut(node: Node) -> list[Value]:
    """Take a part of axes that are not the batch."""
    _, shape, axis = node.first()
    starts, ends = node.number(1, "starts"), node.number(2, "ends")
    if starts is None or ends is None:
        node.unknown("names no part")
    axes = node.number(3, "axes") or list(range(len(starts)))
    steps = node.number(4, "steps") or [1] * len(starts)
    made = list(shape)
    for start, end, along_axis, step in zip(starts, ends, axes, steps, strict=True):
        place = node.place(along_axis, len(shape))
        length = shape[place]
        everything = start == 0 and step == 1 and _is_end(end, length)
        if everything:
            continue
        if place == axis:
            node.mixes("takes some of the rows alone")
        numbers = (start, end, step, length)
        whole = [int(number) for number in numbers if not isinstance(number, Size)]
        if any(map(is_of_rows, numbers)):
            node.mixes("takes a part that depends on the number of rows")
        if len(whole) == len(numbers) and whole[2] > 0:
            made[place] = len(range(*slice(*whole[:3]).indices(whole[3])))
        else:
            made[place] = node.fresh()
    return [Value(tuple(made), axis)]


def _is_end(end: Any, length: Length) -> bool:
    if isinstance(end, Size):
        return bool(end == length)
    return bool(end >= (PAST_ALL_ROWS if length == ALL_ROWS else PAST_THE_END))


def gather(node: Node) -> list[Value]:
    """Look up places: of each row in a constant, or the same places in each row."""
    data, places = node.inputs
    if data is None or places is None or data.shape is None or places.shape is None:
        node.unknown("has an operand of an unknown shape")
    at = node.axis(0, len(data.shape))
    made = _with(data.shape, at, *places.shape)
    if data.axis is None:
        node.constant(0)
        return [Value(made, at + (places.axis or 0))]
    if places.axis is not None:
        node.mixes("looks up in all rows what each row names")
    node.constant(1)
    if data.axis == at:
        node.mixes("takes some of the rows by their place")
    axis = data.axis if data.axis < at else data.axis - 1 + len(places.shape)
    return [Value(made, axis)]


def gather_elements(node: Node) -> list[Value]:
    """Look up places along an axis that is not the batch, in each row what it names."""
    data, places = node.inputs
    if data is None or places is None or data.shape is None or places.shape is None:
        node.unknown("has an operand of an unknown shape")
    if data.axis is None or data.axis != places.axis:
        node.mixes("looks up in rows what is none of theirs")
    if data.shape[data.axis] != places.shape[data.axis]:
        node.unknown("has operands whose rows differ in length")
    if node.axis(0, len(data.shape)) == data.axis:
        node.mixes("takes some of the rows by their place")
    return [Value(places.shape, places.axis)]


def gather_nd(node: Node) -> list[Value]:
    """Look up the places that each row names, in a constant or in itself."""
    data, places = node.inputs
    if data is None or places is None or data.shape is None or places.shape is None:
        node.unknown("has an operand of an unknown shape")
    batches, depth = node.attributes.get("batch_dims", 0), places.shape[-1]
    if not isinstance(depth, int) or places.axis == len(places.shape) - 1:
        node.unknown("looks up places of an unknown depth")
    made = places.shape[:-1] + data.shape[batches + depth :]
    in_itself = data.axis == places.axis == 0 and batches > 0 and data.shape[0] == places.shape[0]
    if not in_itself and not (data.axis is None and not data.is_counted and batches == 0):
        node.mixes("looks up in all rows what each row names")
    return [Value(made, places.axis)]


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


def fill(node: Node) -> list[Value]:
    """Make a constant in as many places as a shape says."""
    target = node.number(0, "shape")
    if target is None:
        node.unknown("has no shape that is known")
    return [_spread(node, Value(()), target)]


def tile(node: Node) -> list[Value]:
    """Repeat along axes that are not the batch, or a constant for each row."""
    value, repeats = node.inputs[0], node.number(1, "repeats")
    if value is None or value.shape is None or repeats is None or len(repeats) != len(value.shape):
        node.unknown("repeats what is not known, or how often")
    of_rows = [place for place, times in enumerate(repeats) if is_of_rows(times)]
    if value.axis is None and len(of_rows) == 1 and not value.is_counted:
        axis = of_rows[0]
    elif value.axis is None or of_rows or not is_one(repeats[value.axis]):
        node.mixes("repeats the batch")
    else:
        axis = value.axis
    made = [length * times for length, times in zip(value.shape, repeats, strict=True)]
    return [Value(tuple(made), axis)]


def pad(node: Node) -> list[Value]:
    """Add to axes that are not the batch."""
    node.constant()
    _, shape, axis = node.first()
    pads = node.number(1, "pads")
    axes = node.number(3, "axes") or list(range(len(shape)))
    if pads is None or len(pads) != 2 * len(axes):
        node.unknown("adds what is not known")
    made = list(shape)
    for place, *both in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        at = node.place(place, len(shape))
        if both == [0, 0]:
            continue
        if at == axis:
            node.mixes("adds rows of its own")
        made[at] = _added(node, made[at], both)
    return [Value(tuple(made), axis)]


def _added(node: Node, length: Length, both: Sequence[Length]) -> Length:
    numbers = [number for number in (length, *both) if not isinstance(number, Size)]
    return sum(numbers) if len(numbers) == len(both) + 1 else node.fresh()


def one_hot(node: Node) -> list[Value]:
    """Put in an axis that tells which class a value is."""
    node.constant()
    _, shape, axis = node.first()
    at = node.axis(-1, len(shape) + 1)
    made = (*shape[:at], node.fresh(), *shape[at:])
    return [Value(made, axis + (at <= axis))]


def triangle(node: Node) -> list[Value]:
    """Keep a triangle of each matrix."""
    node.constant()
    value, shape, axis = node.first()
    if axis >= len(shape) - MATRIX:
        node.mixes("keeps of each row what its place says")
    return [Value(shape, value.axis)]


def matmul(node: Node) -> list[Value]:
    """Multiply rows by a constant matrix, or matrices of a row by each other."""
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        node.unknown("has an operand left out")
    return [_multiplied(node, left, right)]


def _multiplied(node: Node, left: Value, right: Value) -> Value:
    if left.shape is None or right.shape is None:
        node.unknown("has an operand of an unknown shape")
    if left.axis == len(left.shape) - 1 or right.axis == max(0, len(right.shape) - MATRIX):
        node.mixes("adds up along the batch axis")
    if len(left.shape) < MATRIX or len(right.shape) == 0:
        node.unknown("multiplies a vector by a matrix")
    if len(right.shape) == 1:
        return Value(left.shape[:-1], left.axis)
    crossed = left.axis == len(left.shape) - MATRIX, right.axis == len(right.shape) - 1
    if left.axis is not None and right.axis is not None and any(crossed):
        node.mixes("multiplies each row by every other")
    # The axes before the matrices meet as anywhere else; those of the matrices do not.
    rank = max(len(left.shape), len(right.shape))
    stacks = [
        Value(
            (*value.shape[:-MATRIX], 1, 1),
            None if value.axis is None or value.axis >= len(value.shape) - MATRIX else value.axis,
        )
        for value in (left, right)
        if value.shape is not None
    ]
    stacked = broadcast(node, stacks)
    made = (*(stacked.shape or ())[:-MATRIX], left.shape[-MATRIX], right.shape[-1])
    if crossed[0]:
        return Value(made, rank - MATRIX)
    return Value(made, rank - 1 if crossed[1] else stacked.axis)


def integer_matmul(node: Node) -> list[Value]:
    """Multiply integers, with one zero point for all rows."""
    _one_scale(node, 2)
    node.constant(3)
    right = node.input(1)
    if right is not None and right.axis is not None:
        # A zero point for each column would be one for each row.
        _one_scale(node, 3)
    return matmul(node)


def quantized_matmul(node: Node) -> list[Value]:
    """Multiply quantized rows by a constant matrix, with one scale for all rows."""
    node.constant()
    left, right = node.inputs[0], node.input(3)
    if left is None or right is None:
        node.unknown("has an operand left out")
    for index in (1, 2, 6, 7):
        _one_scale(node, index)
    return [_multiplied(node, left, right)]


def _one_scale(node: Node, index: int) -> None:
    node.constant(index)
    value = node.input(index)
    if value is not None and (value.shape is None or not all(map(is_one, value.shape))):
        node.unknown("has a scale or a zero point that may not be one for all rows")


def gemm(node: Node) -> list[Value]:
    """Multiply two matrices, and add what is repeated over the rows."""
    turned = []
    for value, name in zip(node.inputs[:2], ("transA", "transB"), strict=True):
        if value is None or value.shape is None or len(value.shape) != MATRIX:
            node.unknown("has an operand that is no matrix")
        if node.attributes.get(name, 0):
            value = Value(  # noqa: PLW2901  the same matrix, turned
                value.shape[::-1], None if value.axis is None else 1 - value.axis
            )
        turned.append(value)
    made = _multiplied(node, *turned)
    added = node.input(2)
    return [made if added is None else broadcast(node, [made, added])]


def fused_matmul(node: Node) -> list[Value]:
    """Multiply as `MatMul` does, where nothing is turned."""
    if any(node.attributes.get(n, 0) for n in ("transA", "transB", "transBatchA", "transBatchB")):
        node.unknown("turns its operands")
    return matmul(node)


def rows_first(node: Node) -> list[Value]:
    """Treat each entry of the first axis by itself; all other inputs are constants."""
    node.constant()
    _, shape, axis = node.first()
    _first_axis(node, axis)
    return [Value((shape[0], *(node.fresh() for _ in shape[1:])), 0)]


def _first_axis(node: Node, axis: int) -> None:
    if axis != 0:
        node.mixes(f"takes axis {axis}, the batch axis, for another one")


def keeps_rows_first(node: Node) -> list[Value]:
    """Treat each entry of the first axis by itself, and keep the shape."""
    node.constant()
    _, shape, axis = node.first()
    _first_axis(node, axis)
    return [Value(shape, 0)]


def batch_normalization(node: Node) -> list[Value]:
    """Normalize by recorded statistics, as at inference."""
    if node.attributes.get("training_mode", 0) or node.outputs > 1:
        node.mixes("is in training mode: it normalizes by the statistics of the batch")
    return keeps_rows_first(node)


def convolution(node: Node) -> list[Value]:
    """Slide over each entry of the first axis; the lengths are worked out where they can be."""
    node.constant()
    _, shape, axis = node.first()
    _first_axis(node, axis)
    weights = node.input(3 if node.op == "QLinearConv" else 1)
    channels = weights.shape[0] if weights is not None and weights.shape else node.fresh()
    kernel = node.attributes.get("kernel_shape")
    if kernel is None and weights is not None and weights.shape:
        kernel = weights.shape[2:]
    return [Value((shape[0], channels, *_slid(node, shape[2:], kernel)), 0)]


def pool(node: Node) -> list[Value]:
    """Slide over each entry of the first axis, channel by channel."""
    _, shape, axis = node.first()
    _first_axis(node, axis)
    kernel = node.attributes.get("kernel_shape")
    # Where the largest stood is told as a place in the whole batch: that second output is none.
    return [Value((shape[0], shape[1], *_slid(node, shape[2:], kernel)), 0)]


def _slid(node: Node, shape: Sequence[Length], kernel: Any) -> list[Length]:
    count = len(shape)
    said = node.attributes
    strides = said.get("strides", [1] * count)
    dilations = said.get("dilations", [1] * count)
    pads = said.get("pads", [0] * 2 * count)
    plain = said.get("auto_pad", "NOTSET") == "NOTSET" and not said.get("ceil_mode", 0)
    if not plain or kernel is None or any(isinstance(length, Size) for length in kernel):
        return [node.fresh() for _ in shape]
    sizes = zip(shape, kernel, strides, dilations, pads[:count], pads[count:], strict=True)
    found = [windows(n, k, stride, dilated, a + b) for n, k, stride, dilated, a, b in sizes]
    return [node.fresh() if length is None else length for length in found]


def global_pool(node: Node) -> list[Value]:
    """Make one value of each channel."""
    _, shape, axis = node.first()
    _first_axis(node, axis)
    return [Value((*shape[:2], *(1 for _ in shape[2:])), 0)]


def resize(node: Node) -> list[Value]:
    """Scale axes that are not the batch."""
    _, shape, axis = node.first()
    said = node.attributes
    if said.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        node.unknown("crops by a box")
    if said.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        node.unknown("scales one axis by another")
    if said.get("mode", "nearest") != "nearest" and (axis != 0 or len(shape) < PICTURES):
        # Scaled by 1 it is interpolated all the same: 0 times a neighbour that is NaN is NaN.
        node.unknown("may interpolate along the batch axis")
    axes = [node.place(each, len(shape)) for each in said.get("axes", range(len(shape)))]
    scales_at, sizes_at = (1, 9) if node.op == "Upsample" else (2, 3)
    scales = node.number(scales_at, "scales") or []
    sizes = node.number(sizes_at, "sizes") or []
    if any(is_of_rows(size) for at, size in zip(axes, sizes, strict=False) if at != axis):
        node.mixes("scales by the number of rows")
    if axis in axes:
        at = axes.index(axis)
        kept = len(scales) > at and scales[at] == 1
        kept = kept or (len(sizes) > at and sizes[at] == shape[axis])
        if not kept:
            node.unknown("may scale the batch axis")
    made = list(shape)
    for at, place in enumerate(axes):
        size = sizes[at] if len(sizes) > at else None
        scale: Any = scales[at] if len(scales) > at else 0.5
        length = shape[place]
        if place == axis:
            continue
        if size is not None:
            made[place] = size if isinstance(size, Size) else int(size)
        elif isinstance(length, Size) or int(scale) != scale:
            made[place] = node.fresh()
        else:
            made[place] = length * int(scale)
    return [Value(tuple(made), axis)]


def recurrent(node: Node) -> list[Value]:
    """Run along the first axis; the rows lie along the second."""
    _, shape, axis = node.first()
    node.constant(1, 2, 3)
    if node.attributes.get("layout", 0):
        node.unknown("has the layout 1")
    if axis != 1:
        node.mixes("runs along the batch axis, as if its rows were steps")
    for index, place in ((4, 0), (5, 1), (6, 1)):
        value = node.input(index)
        if value is None:
            continue
        if index == 6 and node.op != "LSTM":  # noqa: PLR2004  no other has a seventh input
            node.unknown("has an input too many")
        if value.shape is None or value.axis != place or value.shape[place] != shape[1]:
            node.mixes("begins with a state, or a length, that is not each row's own")
    node.constant(7)
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    hidden = node.attributes.get("hidden_size") or node.fresh()
    last = Value((directions, shape[1], hidden), 1)
    return [Value((shape[0], directions, shape[1], hidden), 2), last, last][: node.outputs]


def reverse(node: Node) -> list[Value]:
    """Turn the first steps of each row around."""
    value, shape, axis = node.first()
    batch = node.place(node.attributes.get("batch_axis", 1), len(shape))
    if axis != batch:
        node.mixes("turns the order of the rows around")
    lengths = node.input(1)
    if lengths is None or lengths.axis != 0 or lengths.shape != (shape[axis],):
        node.mixes("has lengths that are not each row's own")
    return [Value(shape, value.axis)]


def einsum(node: Node) -> list[Value]:
    """Sum products over letters that are not that of the batch."""
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    parts = terms.split(",")
    if not arrow or "." in equation or len(parts) != len(node.inputs):
        node.unknown("has an equation that is not followed")
    batch = set()
    for part, value in zip(parts, node.inputs, strict=True):
        if value is None or value.shape is None or len(part) != len(value.shape):
            node.unknown("has operands that do not fit its equation")
        if value.axis is not None:
            batch.add((part[value.axis], value.shape[value.axis]))
    letters = {letter for letter, _ in batch}
    if len(letters) > 1:
        node.mixes("multiplies each row by every other")
    if len(batch) > 1:
        node.unknown("has operands whose rows differ in length")
    [(letter, length)] = batch
    for part, value in zip(parts, node.inputs, strict=True):
        of_rows = value is not None and value.axis is not None
        if part.count(letter) != (1 if of_rows else 0):
            node.mixes("meets the batch axis with another axis")
    if result.count(letter) != 1:
        node.mixes("adds up along the batch axis")
    made = tuple(length if each == letter else node.fresh() for each in result)
    return [Value(made, result.index(letter))]


def table(node: Node) -> list[Value]:
    """Treat each row of a matrix by itself, and keep its shape."""
    _matrix(node)
    return keeps_rows_first(node)


def _matrix(node: Node) -> None:
    _, shape, _ = node.first()
    if len(shape) != MATRIX:
        node.mixes("takes all rows for one, since they are no matrix")


def estimator(node: Node) -> list[Value]:
    """Score each row of a matrix by itself: a label and scores, or targets."""
    _matrix(node)
    _, shape, axis = node.first()
    _first_axis(node, axis)
    scores = Value((shape[0], node.fresh()), 0)
    if node.op.endswith("Classifier"):
        return [Value((shape[0],), 0), scores]
    return [scores]


def encode(node: Node) -> list[Value]:
    """Put in a last axis that tells which category a value is."""
    _, shape, axis = node.first()
    return [Value((*shape, node.fresh()), axis)]


def features(node: Node) -> list[Value]:
    """Put the columns of matrices beside each other."""
    lengths = set()
    for value in node.inputs:
        if value is None or value.shape is None or len(value.shape) != MATRIX or value.axis != 0:
            node.mixes("takes an input for columns of rows that is none")
        lengths.add(value.shape[0])
    if len(lengths) != 1:
        node.unknown("has operands whose rows differ in length")
    return [Value((lengths.pop(), node.fresh()), 0)]


def extract(node: Node) -> list[Value]:
    """Take columns of rows, or of a list of constants the ones that rows name."""
    data, places = node.inputs
    if data is None or places is None or data.shape is None or places.shape is None:
        node.unknown("has an operand of an unknown shape")
    if data.axis is not None:
        node.constant(1)
        if len(data.shape) < MATRIX or data.axis == len(data.shape) - 1:
            node.mixes("takes some of the rows by their place")
        return [Value((*data.shape[:-1], node.fresh()), data.axis)]
    if len(data.shape) != 1 or product(places.shape[: places.axis]) != 1:
        node.unknown("looks up in more than one list")
    # All places become one list, behind an axis of length 1.
    return [Value((1, product(places.shape)), 1)]


def distances(node: Node) -> list[Value]:
    """Measure how far each row is from each of some constants."""
    node.constant(1)
    _, shape, axis = node.first()
    _first_axis(node, axis)
    return [Value((shape[0], node.fresh()), 0)]


def shape_of(node: Node) -> list[Value]:
    """The lengths of a tensor's axes."""
    from service.inference.independence.values import of_shape

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
