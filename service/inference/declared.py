"""What a graph declares of its inputs and outputs: whether it takes rows, and what shapes to try.

x [batch, 784], y [batch, 10]                      rows
audio [batch, n], state [2, batch, 128], sr []     whole tensors: the batch is no first axis
image [1, 3, h, w], found [boxes, 7]               whole tensors: as a run of it shows
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import onnx
    import onnxruntime

    # A length, the name of an axis that is free, or neither.
    Axes = Sequence[int | str | None]

# The lengths at which free axes are tried, for what the graph may demand of them: a convolution
# takes no picture of one pixel.  And how many values may be tried at once.
LENGTHS = (1, 8, 32, 224)
MOST_VALUES = 2**22


@dataclass(frozen=True)
class Declared:
    """The axes of a graph's inputs and heads: of a row, or all of them for whole tensors."""

    inputs: Mapping[str, Axes]
    heads: Mapping[str, tuple[int | None, ...] | None]
    """`None` for one of which the graph does not even say how many axes it has."""
    tensors: bool

    @classmethod
    def of(
        cls, session: onnxruntime.InferenceSession, graph: onnx.ModelProto, *, tensors: bool
    ) -> Declared:
        """Note what a session declares; the batch axis is left out unless it takes `tensors`."""
        start = 0 if tensors else 1
        unsaid = unranked(graph.graph.output)
        return cls(
            {value.name: value.shape[start:] for value in session.get_inputs()},
            {
                value.name: None if value.name in unsaid else free(value.shape[start:])
                for value in session.get_outputs()
            },
            tensors,
        )

    def shapes(self) -> Iterator[dict[str, tuple[int, ...]]]:
        """Find shapes to try, by input: its free axes at several lengths.

        Of whole tensors, the batch is an axis like any other.  So those that are first somewhere
        have the length 1 at first, then all but the last of each input, and then none.
        """
        leading = {axes[0] for axes in self.inputs.values() if axes and isinstance(axes[0], str)}
        ways: list[Callable[[int | str | None, int, int], bool]] = [lambda *_: True]
        if self.tensors:
            ways = [
                lambda axis, place, _: place > 0 and axis not in leading,
                lambda axis, place, last: place == last and axis not in leading,
                *ways,
            ]
        found: list[dict[str, tuple[int, ...]]] = []
        for length in LENGTHS:
            for is_long in ways:
                shapes = {
                    name: tuple(
                        axis
                        if isinstance(axis, int)
                        else (length if is_long(axis, place, len(axes) - 1) else 1)
                        for place, axis in enumerate(axes)
                    )
                    for name, axes in self.inputs.items()
                }
                few = sum(map(math.prod, shapes.values())) <= MOST_VALUES
                if shapes not in found and (few or not found):
                    found.append(shapes)
                    yield shapes


def free(axes: Axes) -> tuple[int | None, ...]:
    """The lengths of some axes, and `None` for those that may have any."""
    return tuple(axis if isinstance(axis, int) else None for axis in axes)


def unranked(values: Iterable[onnx.ValueInfoProto]) -> frozenset[str]:
    """The names of those values of a graph that do not say how many axes they have."""
    return frozenset(v.name for v in values if not v.type.tensor_type.HasField("shape"))


def why_tensors(session: onnxruntime.InferenceSession) -> str:
    """Say why a graph cannot be asked for rows, by what it declares; nothing where it may be."""
    values = session.get_inputs()
    for value in values:
        if not value.shape:
            return f"input {value.name!r} is a scalar"
    first = {value.name: value.shape[0] for value in values}
    for name, axis in first.items():
        if isinstance(axis, int) and axis != 1:
            return f"the first axis of input {name!r} is {axis}"
    free_ones = [name for name, axis in first.items() if not isinstance(axis, int)]
    if 0 < len(free_ones) < len(first):
        fixed = next(name for name in first if name not in free_ones)
        return f"the first axis of input {free_ones[0]!r} is free, and that of {fixed!r} is 1"
    for value in (*values, *session.get_outputs()):
        for place, axis in enumerate(value.shape[1:], 2):
            if isinstance(axis, str) and axis in first.values():
                return f"axis {place} of {value.name!r} is {axis!r}, the first of an input"
    return ""


def why_no_rows(session: onnxruntime.InferenceSession, declared: Declared, *, one_row: bool) -> str:
    """Say which head declares no axis for rows, where no run could show it; nothing if all may."""
    for value in session.get_outputs():
        axes = declared.heads[value.name]
        first = value.shape[0] if value.shape else None
        if isinstance(first, int):
            wrong = first != 1
        else:
            wrong = axes is not None and (one_row or not value.shape)
        if wrong:
            return f"head {value.name!r} declares no axis for rows: its shape is {value.shape}"
    return ""


def matches(shape: tuple[int, ...], axes: tuple[int | None, ...]) -> bool:
    """Whether a shape is one of those that axes declare."""
    return len(shape) == len(axes) and all(
        axis is None or axis == length for length, axis in zip(shape, axes, strict=True)
    )
