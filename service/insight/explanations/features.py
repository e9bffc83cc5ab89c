"""The features of an explanation: which values of a row go together, and their reference.

    insurance.age      a feature of a table: a number, or a text
    digit[0:4,0:4]     a patch of an image, with all its channels
    x, x[3], x[1,2]    a value of another tensor; of a large one, a block: x[0:13]

The reference of a feature is its recorded default, or else its mean in training; that of an image
is its background.  Other tensors have nothing recorded: theirs is 0, false or an empty text.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.wire.body import wrong
from service.wire.explanations import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Feature, Input, Signature, Statistics

# The height and the width of a patch of an image, in pixels; those of large images have a multiple.
PATCH = 4
MOST_PATCHES = 256
# The values or blocks of another tensor.
MOST_BLOCKS = 64


class Features(NamedTuple):
    """The features of some inputs.

    `owners` has for each value of a row of a tensor the feature that it belongs to, `references`
    its reference: both are flat.
    """

    names: tuple[str, ...]
    inputs: tuple[str, ...]
    """The input of each feature."""
    owners: Mapping[str, NDArray[np.int64]]
    references: Mapping[str, NDArray[Any]]


def features_of(
    signature: Signature, inputs: Sequence[str], arrays: Mapping[str, NDArray[Any]]
) -> Features:
    """Return the features of some inputs.

    Args:
        signature: the signature of the model or view.
        inputs: the names of the inputs.
        arrays: the rows of a request by tensor, [rows, …]; their shapes count.

    Raises:
        BadRequest: two features have the same name.
    """
    names: list[str] = []
    of_input: list[str] = []
    owners: dict[str, NDArray[np.int64]] = {}
    references: dict[str, NDArray[Any]] = {}
    for entry in map(signature.inputs.__getitem__, inputs):
        if entry.features:
            listed = [f"{entry.name}.{feature.name}" for feature in entry.features]
            for tensor, places in entry.places.items():
                own = [entry.features[i] for i in places]
                columns = np.argsort([feature.column for feature in own])
                owners[tensor] = len(names) + np.array(places, np.int64)[columns]
                dtype = arrays[tensor].dtype
                values = [_reference(feature, dtype) for feature in own]
                references[tensor] = np.array(values, dtype)[columns]
        else:
            tensor = entry.tensors[0].name
            listed, blocks = _blocks(entry, arrays[tensor].shape[1:])
            owners[tensor] = len(names) + blocks
            references[tensor] = np.full(len(blocks), _fill(entry, arrays[tensor].dtype))
        names += listed
        of_input += [entry.name] * len(listed)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise wrong(KEY, "features with different names", f"two named {twice}")
    return Features(tuple(names), tuple(of_input), owners, references)


def feature_names(signature: Signature, head: str) -> tuple[str, ...]:
    """Return the names of the features of a head, whose inputs have fixed shapes."""
    inputs = signature.needed((head,))
    arrays = {
        tensor.name: np.empty((1, *tensor.fixed), "O" if tensor.dtype == "string" else tensor.dtype)
        for name in inputs
        for tensor in signature.inputs[name].tensors
    }
    return features_of(signature, inputs, arrays).names


def _reference(feature: Feature, dtype: np.dtype[Any]) -> Any:
    """Return the reference of a feature as a value of its tensor's dtype."""
    if feature.default is None and feature.statistics is not None:
        return _typical(feature.statistics.mean, dtype)
    return feature.default


def _typical(mean: float, dtype: np.dtype[Any]) -> Any:
    """Return the value of a dtype that is closest to a mean, which may be beyond its range."""
    if dtype.kind == "b":
        return mean >= 0.5  # noqa: PLR2004  as often as not
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max)
        return min(max(mean, -most), most)
    limits = np.iinfo(dtype)
    return min(max(round(mean), int(limits.min)), int(limits.max))


def _fill(entry: Input, dtype: np.dtype[Any]) -> Any:
    """Return the reference of every value of an input without features."""
    if dtype.kind == "O":
        return np.array("", object)
    value = 0.0 if entry.statistics is None else _background(entry.statistics)
    return np.array(_typical(value, dtype), dtype)


def _background(statistics: Statistics) -> float:
    """Return the value of a picture in which there is nothing to see.

    If the mean of all values is less than a standard deviation away from one end of their range,
    most of them are near that end: the pictures are on a plain ground.  That is so for one end at
    most, since (max - mean) (mean - min) is at least the variance.  Otherwise it is the mean.
    """
    low, high, mean, std = vars(statistics).values()
    if mean - low < std:
        return float(low)
    return float(high if high - mean < std else mean)


def _blocks(entry: Input, shape: tuple[int, ...]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of an input's blocks, and for each value of a row the block it is in."""
    if entry.kind == "image" and entry.size is not None and len(entry.size) in (2, 3):
        height, width, *channels = entry.size
        step = PATCH
        while math.ceil(height / step) * math.ceil(width / step) > MOST_PATCHES:
            step += PATCH
        names, blocks = _cut(entry.name, (height, width), (step, step))
        return names, np.repeat(blocks, math.prod(channels))
    if math.prod(shape) <= MOST_BLOCKS:
        return _cut(entry.name, shape, (1,) * len(shape))
    # As many parts of each axis; the sum guards against a root of just below 4.
    most = int(MOST_BLOCKS ** (1 / len(shape)) + 1e-9)
    return _cut(entry.name, shape, tuple(math.ceil(length / most) for length in shape))


def _cut(
    name: str, shape: tuple[int, ...], steps: tuple[int, ...]
) -> tuple[list[str], NDArray[np.int64]]:
    """Cut an array into blocks; return their names, and for each value the number of its block."""
    blocks = np.zeros((), np.int64)
    ranges: list[list[str]] = []
    for length, step in zip(shape, steps, strict=True):
        starts = range(0, length, step)
        ranges.append([f"{i}" if step == 1 else f"{i}:{min(i + step, length)}" for i in starts])
        blocks = blocks[..., None] * len(starts) + np.arange(length) // step
    if math.prod(shape) == 1:
        return [name], blocks.ravel()
    return [f"{name}[{','.join(place)}]" for place in itertools.product(*ranges)], blocks.ravel()
