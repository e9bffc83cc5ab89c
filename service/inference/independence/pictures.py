"""The rules for operators on pictures: rows, channels, heights, widths; see `rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.inference.independence.values import (
    Node,
    Size,
    Value,
    first_axis,
    is_of_rows,
    windows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.inference.independence.values import Length

# The number of axes of pictures: rows, channels, heights and widths.
PICTURES = 4


def rows_first(node: Node) -> list[Value]:
    """Follow an operator that treats each entry of the first axis by itself, with constants."""
    node.constant()
    _, shape, axis = node.first()
    first_axis(node, axis)
    return [Value((shape[0], *(node.fresh() for _ in shape[1:])), 0)]


def keeps_rows_first(node: Node) -> list[Value]:
    """Follow an operator like those of `rows_first` that keeps the shape."""
    node.constant()
    _, shape, axis = node.first()
    first_axis(node, axis)
    return [Value(shape, 0)]


def batch_normalization(node: Node) -> list[Value]:
    """Follow a BatchNormalization that is not in training mode, and so uses constant statistics."""
    if node.attributes.get("training_mode", 0) or node.outputs > 1:
        node.mixes("is in training mode: it normalizes by the statistics of the batch")
    return keeps_rows_first(node)


def convolution(node: Node) -> list[Value]:
    """Follow a convolution of each entry of the first axis, with constant weights."""
    node.constant()
    _, shape, axis = node.first()
    first_axis(node, axis)
    weights = node.input(3 if node.op == "QLinearConv" else 1)
    channels = weights.shape[0] if weights is not None and weights.shape else node.fresh()
    kernel = node.attributes.get("kernel_shape")
    if kernel is None and weights is not None and weights.shape:
        kernel = weights.shape[2:]
    return [Value((shape[0], channels, *_slid(node, shape[2:], kernel)), 0)]


def pool(node: Node) -> list[Value]:
    """Follow a pool over each entry of the first axis, channel by channel."""
    _, shape, axis = node.first()
    first_axis(node, axis)
    kernel = node.attributes.get("kernel_shape")
    # MaxPool's second output has the indices of the maxima in the whole batch.  It gets no value,
    # so the proof ends if a node needs it.
    return [Value((shape[0], shape[1], *_slid(node, shape[2:], kernel)), 0)]


def _slid(node: Node, shape: Sequence[Length], kernel: Any) -> list[Length]:
    """Return the lengths of the axes over which a kernel slides, with new symbols if unknown."""
    count = len(shape)
    attributes = node.attributes
    strides = attributes.get("strides", [1] * count)
    dilations = attributes.get("dilations", [1] * count)
    pads = attributes.get("pads", [0] * 2 * count)
    plain = attributes.get("auto_pad", "NOTSET") == "NOTSET" and not attributes.get("ceil_mode", 0)
    if not plain or kernel is None or any(isinstance(length, Size) for length in kernel):
        return [node.fresh() for _ in shape]
    sizes = zip(shape, kernel, strides, dilations, pads[:count], pads[count:], strict=True)
    counts = [windows(n, k, stride, dilated, a + b) for n, k, stride, dilated, a, b in sizes]
    return [node.fresh() if length is None else length for length in counts]


def global_pool(node: Node) -> list[Value]:
    """Follow a pool that makes one value of each channel."""
    _, shape, axis = node.first()
    first_axis(node, axis)
    return [Value((*shape[:2], *(1 for _ in shape[2:])), 0)]


def resize(node: Node) -> list[Value]:
    """Follow a Resize of axes that are not the batch axis."""
    _, shape, axis = node.first()
    attributes = node.attributes
    if attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        node.unknown("crops by a box")
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        node.unknown("scales one axis by another")
    if attributes.get("mode", "nearest") != "nearest" and (axis != 0 or len(shape) < PICTURES):
        # Even an axis that is scaled by 1 is interpolated, and 0 times a neighbour's NaN is NaN.
        node.unknown("may interpolate along the batch axis")
    axes = [node.place(each, len(shape)) for each in attributes.get("axes", range(len(shape)))]
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
    lengths = list(shape)
    for at, place in enumerate(axes):
        size = sizes[at] if len(sizes) > at else None
        scale: Any = scales[at] if len(scales) > at else 0.5
        length = shape[place]
        if place == axis:
            continue
        if size is not None:
            lengths[place] = size if isinstance(size, Size) else int(size)
        elif isinstance(length, Size) or int(scale) != scale:
            lengths[place] = node.fresh()
        else:
            lengths[place] = length * int(scale)
    return [Value(tuple(lengths), axis)]
