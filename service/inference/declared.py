"""The declared axes of a graph: whether it takes rows or whole tensors, and the shapes to try.

x [batch, 784], y [batch, 10]                      rows
audio [batch, n], state [2, batch, 128], sr []     whole tensors: the batch is not the first axis
image [1, 3, h, w], found [boxes, 7]               whole tensors: a run shows it
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import onnx
    import onnxruntime

    # For each axis its length, the name of a free axis, or `None` for a free axis without a name.
    Axes = Sequence[int | str | None]

# The lengths at which free axes are tried, since a graph may demand a minimum: a convolution takes
# no picture of one pixel.  And the most values in one try.
LENGTHS = (1, 8, 32, 224)
MOST_VALUES = 2**22
# The time in seconds after which no other lengths are tried.
TRIED_SECONDS = 2.0


@dataclass(frozen=True)
class Declared:
    """The axes of a graph's inputs and heads, without the batch axis if the graph takes rows."""

    inputs: Mapping[str, Axes]
    heads: Mapping[str, tuple[int | None, ...] | None]
    """The axes by name; `None` for a head whose number of axes the graph does not declare."""
    tensors: bool

    @classmethod
    def of(
        cls, session: onnxruntime.InferenceSession, graph: onnx.ModelProto, *, tensors: bool
    ) -> Declared:
        """Collect what a session declares, without batch axes unless it takes whole `tensors`."""
        start = 0 if tensors else 1
        rankless = unranked(graph.graph.output)
        return cls(
            {value.name: value.shape[start:] for value in session.get_inputs()},
            {
                value.name: None if value.name in rankless else free(value.shape[start:])
                for value in session.get_outputs()
            },
            tensors,
        )

    def shapes(self, seconds: float = TRIED_SECONDS) -> Iterator[dict[str, tuple[int, ...]]]:
        """Yield shapes to try, by input, with the free axes at several lengths, for some seconds.

        Among the axes of whole tensors, nothing marks the batch axis, but it is likely to be the
        first one somewhere.  So each length is tried in three ways.  At first, free axes are 1 if
        they are an input's first axis or have the name of one; then also all others but the last
        of each input; then none.
        """
        leading = {axes[0] for axes in self.inputs.values() if axes and isinstance(axes[0], str)}
        ways: list[Callable[[int | str | None, int, int], bool]] = [lambda *_: True]
        if self.tensors:
            ways = [
                lambda axis, place, _: place > 0 and axis not in leading,
                lambda axis, place, last: place == last and axis not in leading,
                *ways,
            ]
        until = time.monotonic() + seconds
        yielded: list[dict[str, tuple[int, ...]]] = []
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
                if shapes not in yielded and (few or not yielded):
                    yielded.append(shapes)
                    yield shapes
                    if time.monotonic() > until:
                        return


def free(axes: Axes) -> tuple[int | None, ...]:
    """Return the lengths of some axes, with `None` for free ones."""
    return tuple(axis if isinstance(axis, int) else None for axis in axes)


def unranked(values: Iterable[onnx.ValueInfoProto]) -> frozenset[str]:
    """Return the names of the values whose number of axes is not declared."""
    return frozenset(v.name for v in values if not v.type.tensor_type.HasField("shape"))


def why_tensors(session: onnxruntime.InferenceSession) -> str:
    """Return why a graph's declaration rules out rows; "" if it does not."""
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
    """Return which head declares no axis for rows, for a graph that no run proves; "" if none."""
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
    """Return whether a shape fits declared axes, where `None` is any length."""
    return len(shape) == len(axes) and all(
        axis is None or axis == length for length, axis in zip(shape, axes, strict=True)
    )
