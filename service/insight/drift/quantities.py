"""The quantities whose distributions are compared: one value for each row.

A feature is one, and so is a head that answers with one number or one label.  An image, or a vector
of many values, has three: mean, deviation and ink.  A shorter vector has one for each value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.kinds import label_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Feature, Head, Input, Signature, Tensor

    Rows = NDArray[Any]
    Read = Callable[[Rows], Rows]

# The quantities of a model; those of further features are not compared.
MOST_QUANTITIES = 1000
# A vector of at most so many values has a quantity for each of them.
SHORT_VECTOR = 16
# A head of several labels has a quantity for each of at most so many of them.
MOST_LABELS = 100
NO_CODE = -1  # in place of the label of an answer that is not a number
_SINGLE = ("float16", "float32")


@dataclass(frozen=True)
class Quantity:
    """A value for each row: a part of an input or of a head.

    `part` is the name of a feature, a label, the index of a value or the name of a summary, and
    empty for the whole.  `read` takes the tensor, [rows, …], and returns the values, [rows]:
    numbers of `dtype`; texts; or, if there are `labels`, the index of a label or `NO_CODE`.
    `known` are the texts of a vocabulary, if there is one.
    """

    owner: str
    part: str
    is_head: bool
    tensor: str
    dtype: str
    read: Read
    labels: tuple[str, ...] | None = None
    known: frozenset[str] | None = None

    @property
    def name(self) -> str:
        """The full name: `insurance.age`, `digit.ink`, or that of a head."""
        return f"{self.owner}.{self.part}" if self.part else self.owner


def quantities(signature: Signature) -> tuple[Quantity, ...]:
    """Return the quantities of a model, heads first; none of a model of whole tensors."""
    if signature.tensor:
        return ()
    every = [q for head in signature.heads.values() for q in _of_head(head)]
    every += [q for entry in signature.inputs.values() for q in _of_input(entry)]
    return tuple(every[:MOST_QUANTITIES])


def columns(
    chosen: Sequence[Quantity], arrays: Mapping[str, Rows], missing: Mapping[str, Any]
) -> list[Rows | None]:
    """Return the values of each quantity, [rows], or `None` without rows of its tensor.

    Missing ones are not a number, `None` in place of a text, and `NO_CODE` in place of a label.

    Args:
        chosen: the quantities.
        arrays: inputs and answers by tensor, [rows, …]; an input and a head never share a name.
        missing: by the full name of a feature, a mask or the indices of the rows without a value.
    """
    read: list[Rows | None] = []
    for quantity in chosen:
        array = arrays.get(quantity.tensor)
        values = None if array is None or not len(array) else quantity.read(array)
        rows = None if quantity.is_head else missing.get(quantity.name)
        if values is not None and rows is not None:
            values = values.copy()
            values[rows] = None if quantity.dtype == "string" else np.nan
        read.append(values)
    return read


def _of_input(entry: Input) -> Iterator[Quantity]:
    tensors = {tensor.name: tensor for tensor in entry.tensors}
    for feature in entry.features:
        yield _of_feature(entry, feature, tensors[feature.tensor])
    if not entry.features:
        (tensor,) = entry.tensors
        yield from _of_tensor(entry.name, tensor, is_head=False, short=entry.kind != "image")


def _of_feature(entry: Input, feature: Feature, tensor: Tensor) -> Quantity:
    known = None if feature.vocabulary is None else feature.known
    read, dtype = _value(feature.column, tensor)
    return Quantity(entry.name, feature.name, False, tensor.name, dtype, read, known=known)


def _of_head(head: Head) -> Iterator[Quantity]:
    tensor, size = head.tensor, head.tensor.size
    count = label_count(head.kind, size)
    if size == 0:
        return
    if head.kind == "binary" or (head.kind == "multiclass" and count is not None):
        labels = head.labels or tuple(map(str, range(count or 0)))
        read = _above(head, 0) if head.kind == "binary" else _likeliest
        yield Quantity(head.name, "", True, tensor.name, "label", read, labels)
    elif head.kind == "multilabel" and size is not None:
        names = head.labels or tuple(map(str, range(size)))
        for place, name in enumerate(names[:MOST_LABELS]):
            read = _above(head, place)
            yield Quantity(head.name, name, True, tensor.name, "label", read, ("no", "yes"))
    else:
        yield from _of_tensor(head.name, tensor, is_head=True, short=True)


def _of_tensor(owner: str, tensor: Tensor, *, is_head: bool, short: bool) -> Iterator[Quantity]:
    size = tensor.size
    if size == 0 or (tensor.dtype == "string" and size != 1):
        return
    if size is not None and (size == 1 or (short and size <= SHORT_VECTOR)):
        for place in range(size):
            read, dtype = _value(place, tensor)
            part = "" if size == 1 else str(place)
            yield Quantity(owner, part, is_head, tensor.name, dtype, read)
        return
    for part, summary in SUMMARIES.items():
        yield Quantity(owner, part, is_head, tensor.name, "float32", summary)


def _value(place: int, tensor: Tensor) -> tuple[Read, str]:
    """Return a function that reads the n-th value of each row, and the dtype in which it does."""
    if tensor.dtype == "string":
        return (lambda rows: rows.reshape(len(rows), -1)[:, place]), "string"
    dtype = "float32" if tensor.dtype in _SINGLE else "float64"
    return (lambda rows: rows.reshape(len(rows), -1)[:, place].astype(dtype, copy=False)), dtype


def _above(head: Head, place: int) -> Read:
    """Return a function that reads whether the n-th score of each row is above the threshold."""

    def read(rows: Rows) -> Rows:
        scores = rows.reshape(len(rows), -1)[:, place]
        return np.where(np.isnan(scores), NO_CODE, scores > head.cutoff)

    return read


def _likeliest(rows: Rows) -> Rows:
    scores = rows.reshape(len(rows), -1)
    return np.where(np.isnan(scores).any(axis=1), NO_CODE, scores.argmax(axis=1))


def _mean(rows: Rows) -> Rows:
    mean: Rows = rows.reshape(len(rows), -1).mean(axis=1, dtype=np.float64)
    return mean.astype(np.float32)


def _deviation(rows: Rows) -> Rows:
    deviation: Rows = rows.reshape(len(rows), -1).std(axis=1, dtype=np.float64)
    return deviation.astype(np.float32)


def _ink(rows: Rows) -> Rows:
    """Return the share of the values of each row above the middle of its own range."""
    flat = rows.reshape(len(rows), -1).astype(np.float64, copy=False)
    middle = flat.min(axis=1, keepdims=True) / 2 + flat.max(axis=1, keepdims=True) / 2
    share: Rows = (flat > middle).mean(axis=1)
    return share.astype(np.float32)


SUMMARIES: Mapping[str, Read] = {"mean": _mean, "deviation": _deviation, "ink": _ink}
"""The quantities of an image or a long vector: brightness, contrast, and how much is bright."""
