"""The facts about a graph's tensors that are known while the batch axis is followed through it.

    x                        rows of 4 values     Value((ALL_ROWS, 4), axis=0)
    Transpose(x)             rows in columns      Value((4, ALL_ROWS), axis=1)
    Reshape(x, [-1, 2])      two per row          Value((2 * ALL_ROWS, 2), axis=0)
    Shape(x)                 lengths              Value((2,), content=[ALL_ROWS, 4])
    a constant               its numbers          Value((2,), content=[-1, 2])

A tensor either holds the rows in order along one axis, its batch axis, or is the same for every
batch, except that shapes may contain the number of rows.  The length of an axis is a number, or a
product of a number and symbols if it is not known before a request arrives.

Lengths, values and the nodes that join them are one idea: none is of use without the others.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    # The length of an axis.
    Length: TypeAlias = "int | Size"

# The symbol for the number of rows; no other symbol has this name.
ROWS = "rows"


class NoProof(Exception):
    """An operator mixes rows, or is not known to keep them apart."""

    def __init__(self, reason: str, *, mixes: bool) -> None:
        """Refuse a proof.

        Args:
            reason: the node, and what it does.
            mixes: whether rows are known to mix; if not, they are only not known to stay apart.
        """
        super().__init__(reason)
        self.mixes = mixes


class UnfollowedError(Exception):
    """A computation with lengths has a result that is not a product of a number and symbols."""


@dataclass(frozen=True, slots=True)
class Size:
    """A length: `number` times unknown lengths, `symbols`.  `ROWS` is at least 1.

    The length is not known before a request arrives.  Other symbols are at least 0.
    """

    number: int
    symbols: tuple[str, ...]

    def __mul__(self, other: Length) -> Length:
        if isinstance(other, Size):
            return _size(self.number * other.number, self.symbols + other.symbols)
        return _size(self.number * _whole(other), self.symbols)

    __rmul__ = __mul__

    def __floordiv__(self, other: Length) -> Length:
        return divide(self, other if isinstance(other, Size) else _whole(other))

    __truediv__ = __floordiv__

    def __rfloordiv__(self, other: object) -> NoReturn:
        raise UnfollowedError

    __rtruediv__ = __rfloordiv__

    def __add__(self, other: Length) -> Length:
        if isinstance(other, Size) or other != 0:
            raise UnfollowedError
        return self

    __radd__ = __add__

    def __sub__(self, other: Length) -> Length:
        return 0 if self == other else self + other

    def __rsub__(self, other: object) -> NoReturn:
        raise UnfollowedError


ALL_ROWS = Size(1, (ROWS,))


def _size(number: int, symbols: Iterable[str]) -> Length:
    symbols = tuple(sorted(symbols))
    # No axis has a negative length.  Along one as long as rows times rows, there would be an entry
    # for each pair of rows.
    if symbols and (number < 0 or symbols.count(ROWS) > 1):
        raise UnfollowedError
    return Size(number, symbols) if symbols and number else number


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise UnfollowedError
    return int(value)


def product(lengths: Iterable[Length]) -> Length:
    """Return the product of lengths; 1 if there are none."""
    result: Length = 1
    for length in lengths:
        result = result * length
    return result


def divide(length: Length, by: Length) -> Length:
    """Divide one length by another.

    Raises:
        UnfollowedError: the division is not known to leave no remainder.
    """
    number, symbols = (length.number, length.symbols) if isinstance(length, Size) else (length, ())
    divisor, others = (by.number, by.symbols) if isinstance(by, Size) else (by, ())
    left = Counter(symbols)
    left.subtract(others)
    if divisor == 0 or number % divisor or min(left.values(), default=0) < 0:
        raise UnfollowedError
    return _size(number // divisor, left.elements())


def is_of_rows(length: object) -> bool:
    """Return whether a length depends on the number of rows."""
    return isinstance(length, Size) and ROWS in length.symbols


@dataclass(frozen=True, slots=True)
class Value:
    """The facts about one tensor.

    `shape` is `None` if not even the number of axes is known, as for a computed constant.
    `axis` is the batch axis, along which the rows lie in order with equally many entries each;
    `None` if the tensor is the same for every batch.
    `content` holds the numbers of a small constant or of a shape; those of a shape may be lengths.
    """

    shape: tuple[Length, ...] | None
    axis: int | None = None
    content: NDArray[Any] | None = None

    @property
    def is_counted(self) -> bool:
        """True if a number in it depends on the number of rows."""
        return self.content is not None and any(map(is_of_rows, self.content.flat))


@dataclass(frozen=True)
class Node:
    """A node of a graph with the values of its inputs, as a rule of the table takes it."""

    op: str
    name: str
    version: int
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Any]
    outputs: int = 1
    symbols: list[str] = field(default_factory=list)
    """All symbols so far: one list for the whole graph, so that each symbol is made once."""

    def mixes(self, why: str) -> NoReturn:
        """Raise `NoProof`: rows mix in this node."""
        raise NoProof(f"{self.op} {self.name!r} {why}", mixes=True)

    def unknown(self, why: str) -> NoReturn:
        """Raise `NoProof`: too little is known about this node."""
        raise NoProof(f"{self.op} {self.name!r} {why}", mixes=False)

    def fresh(self) -> Size:
        """Return a new symbol for an unknown length that does not depend on the rows."""
        self.symbols.append(f"?{len(self.symbols)}")
        return Size(1, (self.symbols[-1],))

    def input(self, index: int) -> Value | None:
        """Return the input at an index; `None` if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def first(self) -> tuple[Value, tuple[Length, ...], int]:
        """Return the first input, which must hold rows: its value, shape and batch axis."""
        value = self.inputs[0] if self.inputs else None
        if value is None or value.shape is None or value.axis is None:
            self.unknown("does not take its rows as its first input")
        return value, value.shape, value.axis

    def constant(self, *indices: int) -> None:
        """Check that inputs depend neither on the rows nor on their number.

        Args:
            indices: the inputs to check; if there are none, all but the first.

        Raises:
            NoProof: an input does.
        """
        for index in indices or range(1, len(self.inputs)):
            value = self.input(index)
            if value is not None and (value.axis is not None or value.is_counted):
                self.mixes("has an operand for all rows that depends on the rows")

    def number(self, index: int, name: str) -> list[Length] | None:
        """Return the numbers of a constant input, or of the attribute in older operator sets.

        Args:
            index: the index of the input.
            name: the name of the attribute.

        Returns:
            The numbers, which may be lengths; `None` if there is neither input nor attribute.

        Raises:
            NoProof: the numbers are not constant, or not known.
        """
        value = self.input(index)
        if value is None:
            attribute = self.attributes.get(name)
            return attribute if attribute is None or isinstance(attribute, list) else [attribute]
        if value.axis is not None:
            self.mixes(f"takes its {name} from the rows")
        if value.content is None:
            if value.is_counted:
                self.mixes(f"takes its {name} from the number of rows")
            self.unknown(f"computes its {name}")
        return list(value.content.flat)

    def axis(self, default: int, rank: int) -> int:
        """Return the attribute `axis` of a tensor with `rank` axes, counted from the front."""
        return self.place(self.attributes.get("axis", default), rank)

    def place(self, axis: Any, rank: int) -> int:
        """Return an axis of a tensor with `rank` axes, counted from the front."""
        if isinstance(axis, Size) or not -rank <= axis < rank:
            self.unknown(f"names axis {axis} of a tensor with {rank} axes")
        return int(axis) % rank


def known(array: NDArray[Any]) -> Value:
    """Return the value of a small constant, with its numbers."""
    return Value(array.shape, None, array.astype(object))


def of_shape(shape: Sequence[Length]) -> Value:
    """Return the value of a tensor that holds the lengths of a shape."""
    content = np.empty(len(shape), object)
    content[:] = shape
    return Value((len(shape),), None, content)


def is_one(length: object) -> bool:
    """Return whether a length is known to be 1."""
    return isinstance(length, int) and length == 1


def broadcast(node: Node, values: Sequence[Value]) -> Value:
    """Return the value of operands that are combined element by element, as numpy broadcasts them.

    Raises:
        NoProof: a row of one operand would be combined with other rows of another, or an operand
            without rows has more than one entry along the batch axis.
    """
    shapes = [value.shape for value in values]
    if any(shape is None for shape in shapes):
        node.unknown("has an operand of an unknown shape")
    rank = max(len(shape) for shape in shapes if shape is not None)
    places = {
        rank - len(value.shape or ()) + value.axis for value in values if value.axis is not None
    }
    if len(places) > 1:
        node.mixes("combines the batch axis of one operand with another axis of the other")
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes if shape is not None]
    for place in places:
        lengths = {
            shape[place] for shape, v in zip(aligned, values, strict=True) if v.axis is not None
        }
        if len(lengths) > 1:
            node.unknown("has operands whose rows differ in length")
        if any(
            not is_one(shape[place])
            for shape, value in zip(aligned, values, strict=True)
            if value.axis is None
        ):
            node.mixes("has an operand that differs along the batch axis")
    common = tuple(_common(node, lengths) for lengths in zip(*aligned, strict=True))
    return Value(common, min(places, default=None))


def _common(node: Node, lengths: Iterable[Length]) -> Length:
    """Return the length of an axis along which operands of length 1 are repeated."""
    longer = {length for length in lengths if not is_one(length)}
    if len(longer) > 1:
        # They may turn out to be equal, or one of them to be 1.
        return node.fresh()
    return longer.pop() if longer else 1


def windows(length: Length, kernel: int, stride: int, dilation: int, pads: int) -> Length | None:
    """Return the number of windows of a convolution or pool along an axis; `None` if unknown."""
    if isinstance(length, Size):
        return None
    fit = math.floor((length + pads - dilation * (kernel - 1) - 1) / stride) + 1
    # If the kernel does not fit, ONNX Runtime refuses it, or answers something all the same.
    return fit if fit > 0 else None


def with_lengths(shape: Sequence[Length], axis: int, *lengths: Length) -> tuple[Length, ...]:
    """Return a shape in which `lengths` replace the length of one axis."""
    return (*shape[:axis], *lengths, *shape[axis + 1 :])


def first_axis(node: Node, axis: int) -> None:
    """Check that the rows lie along the first axis, which an operator takes as the batch axis."""
    if axis != 0:
        node.mixes(f"takes axis 0 as the batch axis, which is axis {axis}")
