"""What is known of a graph's tensors while the batch axis is followed through it.

A tensor is the same for every batch, or has one axis along which the rows lie in order.  Lengths
are numbers, or products of numbers and symbols where nobody knows them before a request comes.
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

    # An axis' length.
    Length: TypeAlias = "int | Size"

# The symbol for the number of rows; no other symbol is called like it.
ROWS = "rows"


class NoProof(Exception):
    """An operator does not handle each row by itself, or nothing is known about it."""

    def __init__(self, reason: str, *, mixes: bool) -> None:
        """Say why; `mixes` where rows are known to meet, and not merely not known to be apart."""
        super().__init__(reason)
        self.mixes = mixes


class UnfollowedError(Exception):
    """A computation with lengths whose result is no product of numbers and symbols."""


@dataclass(frozen=True, slots=True)
class Size:
    """A length: a number times symbols, each for some number, `ROWS` for one above 0."""

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
    # No axis is below 0 long; and one as long as all rows times all rows has a row meet each other.
    if symbols and (number < 0 or symbols.count(ROWS) > 1):
        raise UnfollowedError
    return Size(number, symbols) if symbols and number else number


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise UnfollowedError
    return int(value)


def product(lengths: Iterable[Length]) -> Length:
    """The product of lengths; 1 of none."""
    result: Length = 1
    for length in lengths:
        result = result * length
    return result


def divide(length: Length, by: Length) -> Length:
    """One length divided by another.

    Raises:
        UnfollowedError: it is not known to go in without a rest.
    """
    number, symbols = (length.number, length.symbols) if isinstance(length, Size) else (length, ())
    divisor, others = (by.number, by.symbols) if isinstance(by, Size) else (by, ())
    left = Counter(symbols)
    left.subtract(others)
    if divisor == 0 or number % divisor or min(left.values(), default=0) < 0:
        raise UnfollowedError
    return _size(number // divisor, left.elements())


def is_of_rows(length: object) -> bool:
    """Whether a length depends on the number of rows."""
    return isinstance(length, Size) and ROWS in length.symbols


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of one tensor.

    `shape` is `None` where not even the number of axes is known, as of a constant that was
    computed.  `axis` is where the rows lie, in order and equally long each; `None` where the tensor
    is the same for every batch.  `content` holds the numbers of a small constant, or of a shape,
    where they may be lengths.
    """

    shape: tuple[Length, ...] | None
    axis: int | None = None
    content: NDArray[Any] | None = None

    @property
    def is_counted(self) -> bool:
        """Whether it holds the number of rows."""
        return self.content is not None and any(map(is_of_rows, self.content.flat))


@dataclass(frozen=True)
class Node:
    """An operator with what is known of its inputs, for a rule of the table."""

    op: str
    name: str
    version: int
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Any]
    outputs: int = 1
    symbols: list[str] = field(default_factory=list)
    """All that were made so far, in one list for the whole graph."""

    def mixes(self, why: str) -> NoReturn:
        """Refuse a proof since rows meet here."""
        raise NoProof(f"{self.op} {self.name!r} {why}", mixes=True)

    def unknown(self, why: str) -> NoReturn:
        """Refuse a proof since too little is known here."""
        raise NoProof(f"{self.op} {self.name!r} {why}", mixes=False)

    def fresh(self) -> Size:
        """Make a symbol for a length that does not depend on rows, and is not known."""
        self.symbols.append(f"?{len(self.symbols)}")
        return Size(1, (self.symbols[-1],))

    def input(self, index: int) -> Value | None:
        """The input of that index; `None` where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def first(self) -> tuple[Value, tuple[Length, ...], int]:
        """The first input, which has to hold rows: its value, shape and batch axis."""
        value = self.inputs[0] if self.inputs else None
        if value is None or value.shape is None or value.axis is None:
            self.unknown("does not take its rows as its first input")
        return value, value.shape, value.axis

    def constant(self, *indices: int) -> None:
        """See that the inputs of some indices, or all but the first, do not depend on rows."""
        for index in indices or range(1, len(self.inputs)):
            value = self.input(index)
            if value is not None and (value.axis is not None or value.is_counted):
                self.mixes("takes an operand for all rows from the rows themselves")

    def number(self, index: int, name: str) -> list[Length] | None:
        """The numbers of a constant input, or of the attribute that it once was.

        `None` where neither is there.
        """
        value = self.input(index)
        if value is None:
            said = self.attributes.get(name)
            return said if said is None or isinstance(said, list) else [said]
        if value.axis is not None:
            self.mixes(f"takes its {name} from the rows")
        if value.content is None:
            if value.is_counted:
                self.mixes(f"takes its {name} from the number of rows")
            self.unknown(f"computes its {name}")
        return list(value.content.flat)

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis`, counted from the front."""
        return self.place(self.attributes.get("axis", default), rank)

    def place(self, axis: Any, rank: int) -> int:
        """An axis counted from the front."""
        if isinstance(axis, Size) or not -rank <= axis < rank:
            self.unknown(f"names an axis {axis} of {rank}")
        return int(axis) % rank


def known(array: NDArray[Any]) -> Value:
    """A small constant."""
    return Value(array.shape, None, array.astype(object))


def of_shape(shape: Sequence[Length]) -> Value:
    """A tensor that holds the lengths of a shape."""
    content = np.empty(len(shape), object)
    content[:] = shape
    return Value((len(shape),), None, content)


def is_one(length: object) -> bool:
    """Whether a length is known to be 1."""
    return isinstance(length, int) and length == 1


def broadcast(node: Node, values: Sequence[Value]) -> Value:
    """What comes of values that are combined place by place, as numpy would.

    Raises:
        NoProof: rows of one would meet other rows, or values of another for each place.
    """
    shapes = [value.shape for value in values]
    if any(shape is None for shape in shapes):
        node.unknown("has an operand of an unknown shape")
    rank = max(len(shape) for shape in shapes if shape is not None)
    places = {
        rank - len(value.shape or ()) + value.axis for value in values if value.axis is not None
    }
    if len(places) > 1:
        node.mixes("meets the batch axis of one operand with another axis of the other")
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
            node.mixes("has an operand with a value of its own for each place of the batch")
    made = tuple(_common(node, lengths) for lengths in zip(*aligned, strict=True))
    return Value(made, min(places, default=None))


def _common(node: Node, lengths: Iterable[Length]) -> Length:
    """The length of an axis on which operands are repeated where theirs is 1."""
    longer = {length for length in lengths if not is_one(length)}
    if len(longer) > 1:
        # One of them may turn out to be 1, or both equal.
        return node.fresh()
    return longer.pop() if longer else 1


def windows(length: Length, kernel: int, stride: int, dilation: int, pads: int) -> Length | None:
    """How many windows of a convolution or pool fit into an axis; `None` if that is not known."""
    if isinstance(length, Size):
        return None
    fit = math.floor((length + pads - dilation * (kernel - 1) - 1) / stride) + 1
    # ONNX Runtime makes something of a kernel that does not fit, or refuses to.
    return fit if fit > 0 else None


def with_lengths(shape: Sequence[Length], axis: int, *lengths: Length) -> tuple[Length, ...]:
    """Return a shape with some lengths in the place of one."""
    return (*shape[:axis], *lengths, *shape[axis + 1 :])


def first_axis(node: Node, axis: int) -> None:
    """See that an operator that takes the first axis for its batch finds the rows there."""
    if axis != 0:
        node.mixes(f"takes axis {axis}, the batch axis, for another one")
