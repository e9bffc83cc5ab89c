"""The signature: what a model is.

Names, dtypes and shapes are the graph's own; features, labels, defaults, statistics and golden rows
come from a JSON value in its file (`metadata`).  A foreign file without that value has a signature
too, from its graph alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from service.kinds import THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Entries of a provenance that name the model: a view does not tell whose it is.
_NAMING = ("spec", "source")
# How a CSV's cell says that it is empty, and how it says yes and no: to training and to scoring.
MISSING_CELLS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
TRUE_FALSE = {"true": 1.0, "false": 0.0}

INPUT_KINDS = ("tabular", "image", "tensor")
DTYPES = (
    *("float32", "float64", "float16", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


@dataclass(frozen=True)
class Tensor:
    """A named tensor at the edge of the graph.

    `shape` is that of one row: the batch axis is left out, `None` marks an axis of any length.  Of
    a graph that is served as whole tensors (`Signature.tensor`) it has every axis.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Name dtype and shape in a message: float32[28 x 28], string[any], or int64 alone."""
        axes = " x ".join("any" if axis is None else str(axis) for axis in self.shape)
        return f"{self.dtype}[{axes}]" if axes else self.dtype

    @cached_property
    def size(self) -> int | None:
        """How many values one row holds; `None` where an axis has any length."""
        return math.prod(self.fixed) if len(self.fixed) == len(self.shape) else None

    @cached_property
    def fixed(self) -> tuple[int, ...]:
        """The axes that have a length: all of them, where `size` is not `None`."""
        return tuple(axis for axis in self.shape if axis is not None)


@dataclass(frozen=True)
class Statistics:
    """What the data were, held-out rows included: a feature, or all values of an image."""

    min: float
    max: float
    mean: float
    std: float


@dataclass(frozen=True)
class Feature:
    """One named column of a tabular input.

    A number is the `column`-th value of its tensor; a categorical (one with a `vocabulary`) is
    a string tensor of its own, `input.feature`.  `default` stands in for a missing value; where
    it is `None`, a missing value is an error.
    """

    name: str
    tensor: str
    column: int = 0
    default: float | str | None = None
    vocabulary: tuple[str, ...] | None = None
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Input:
    """What a request names: one or several tensors of the graph.

    `tabular` has features; `image` has a size (height, width and, where given, channels);
    `tensor` is anything else, taken in the graph's own shape.
    """

    name: str
    kind: str
    tensors: tuple[Tensor, ...]
    features: tuple[Feature, ...] = ()
    size: tuple[int, ...] | None = None
    statistics: Statistics | None = None

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """By tensor, where its features stand among all of them."""
        return {
            tensor.name: [i for i, f in enumerate(self.features) if f.tensor == tensor.name]
            for tensor in self.tensors
        }

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """In column order."""
        return tuple(feature.name for feature in self.features)


@dataclass(frozen=True)
class Head:
    """A named output.  `inputs` are the inputs that its part of the graph reads."""

    name: str
    kind: str
    tensor: Tensor
    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    inputs: tuple[str, ...] = ()

    @cached_property
    def cutoff(self) -> float:
        """The threshold that values are compared with.

        It is rounded as the head's floats are, since 0.1 is not float32's 0.1.  Rounded to a bool
        or to a whole number, it would move across values.
        """
        threshold = THRESHOLD if self.threshold is None else self.threshold
        if "float" not in self.tensor.dtype:
            return threshold
        return float(np.array(threshold, self.tensor.dtype))


@dataclass(frozen=True)
class Golden:
    """A few rows and the answers the trained model gave: lists, by tensor and by head."""

    inputs: Mapping[str, list[Any]]
    outputs: Mapping[str, list[Any]]


@dataclass(frozen=True)
class Signature:
    """A model's inputs, heads, views over its heads (`models`), golden rows and provenance.

    `batch` is `None` when the graph takes any number of rows, 1 when it takes one at a time.
    `tensor` says why it takes no rows at all, such as for a scalar among its inputs: it is served
    as whole tensors, one run a request, and every shape is the graph's own.  Else it is empty.
    """

    inputs: Mapping[str, Input]
    heads: Mapping[str, Head]
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    golden: Golden | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    tensor: str = ""

    @cached_property
    def head_names(self) -> tuple[str, ...]:
        """All of them, in the graph's order."""
        return tuple(self.heads)

    @cached_property
    def _needed_by_all(self) -> tuple[str, ...]:
        return self._needed(self.head_names)

    def needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        """The inputs that at least one of some heads reads."""
        return self._needed_by_all if heads == self.head_names else self._needed(heads)

    def _needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            name for name in self.inputs if any(name in self.heads[head].inputs for head in heads)
        )

    def restrict(self, heads: Iterable[str]) -> Signature:
        """The same model, seen through some of its heads and the inputs that those need."""
        kept = {name: self.heads[name] for name in heads}
        needed = {name for head in kept.values() for name in head.inputs}
        inputs = {name: entry for name, entry in self.inputs.items() if name in needed}
        scores = self.provenance.get("scores")
        provenance = {
            **{key: said for key, said in self.provenance.items() if key not in _NAMING},
            **({"scores": {n: s for n, s in scores.items() if n in kept}} if scores else {}),
        }
        return replace(self, inputs=inputs, heads=kept, models={}, provenance=provenance)


def tabular(name: str, features: Iterable[Feature], dtype: str = "float32") -> Input:
    """A tabular input with its tensors placed: numbers together, each categorical alone.

    Args:
        name: the input's name, which is also that of its numeric tensor.
        features: in column order; their `tensor` and `column` are set here.
        dtype: of the numeric tensor.
    """
    placed, numbers = [], 0
    for feature in features:
        if feature.vocabulary is None:
            placed.append(replace(feature, tensor=name, column=numbers))
            numbers += 1
        else:
            placed.append(replace(feature, tensor=f"{name}.{feature.name}", column=0))
    tensors = [Tensor(name, dtype, (numbers,))] if numbers else []
    tensors += [Tensor(f.tensor, "string", (1,)) for f in placed if f.vocabulary is not None]
    return Input(name, "tabular", tuple(tensors), tuple(placed))


def holds(dtype: str, value: Any) -> bool:
    """Whether a default, or a threshold, goes into a tensor of this dtype as it is."""
    if dtype == "string" or isinstance(value, str):
        return dtype == "string" and isinstance(value, str)
    if (dtype == "bool") != isinstance(value, bool):
        return False
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            held = np.array(value).astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return False
    # float32 rounds 0.1, and that is what it is there for; an int64 does not make 1 of 1.5.
    return held.shape == () and bool(np.isfinite(held) if "float" in dtype else held == value)
