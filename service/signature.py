"""The signature: the description of a model.

Names, dtypes and shapes are the graph's own; features, labels, defaults, statistics and golden rows
come from a JSON value in the file (`metadata`).  A foreign file without that value has a signature
too, made from its graph alone.
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

    from service.reference import Reference

# Entries of a provenance that name the model; a view does not disclose which model it belongs to.
_NAMING = ("spec", "source")
# The CSV cells that stand for a missing value, and for true and false, in training and in scoring.
MISSING_CELLS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
TRUE_FALSE = {"true": 1.0, "false": 0.0}

# The largest difference from a golden answer that a signature may allow for.
LARGEST_TOLERANCE = 1e-2

INPUT_KINDS = ("tabular", "image", "tensor")
DTYPES = (
    *("float32", "float64", "float16", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


@dataclass(frozen=True)
class Tensor:
    """A named tensor at the edge of the graph.

    `shape` is the shape of one row: the batch axis is left out, and `None` marks an axis of any
    length.  In a graph that is served as whole tensors (`Signature.tensor`), it has every axis.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Return dtype and shape for a message: float32[28 x 28], string[any], or int64 alone."""
        axes = " x ".join("any" if axis is None else str(axis) for axis in self.shape)
        return f"{self.dtype}[{axes}]" if axes else self.dtype

    @cached_property
    def size(self) -> int | None:
        """The number of values in one row; `None` if an axis may have any length."""
        return math.prod(self.fixed) if len(self.fixed) == len(self.shape) else None

    @cached_property
    def fixed(self) -> tuple[int, ...]:
        """The axes of fixed length: all of them, if `size` is not `None`."""
        return tuple(axis for axis in self.shape if axis is not None)


@dataclass(frozen=True)
class Statistics:
    """The statistics of a feature, a target or all values of an image, held-out rows included."""

    min: float
    max: float
    mean: float
    std: float


@dataclass(frozen=True)
class Feature:
    """One named column of a tabular input.

    A numeric feature is the `column`-th value of its tensor.  A categorical feature (one with a
    `vocabulary`) has a string tensor of its own, `input.feature`.  `default` replaces a missing
    value; if it is `None`, a missing value is an error.  `unseen` is one of `UNSEEN`: whether a
    text outside of the vocabulary is answered, or is an error.
    """

    name: str
    tensor: str
    column: int = 0
    default: float | str | None = None
    vocabulary: tuple[str, ...] | None = None
    statistics: Statistics | None = None
    unseen: str = "answer"

    @cached_property
    def known(self) -> frozenset[str]:
        """The texts of the vocabulary; empty for a feature without one."""
        return frozenset(self.vocabulary or ())

    @cached_property
    def folded(self) -> dict[str, str]:
        """The texts of the vocabulary by what `fold` makes of them; of equal ones, the first."""
        return {fold(text): text for text in reversed(self.vocabulary or ())}


@dataclass(frozen=True)
class Input:
    """A named input of a model: one or several tensors of the graph.

    An input of the kind `tabular` has features; an `image` has a size (height, width and, if the
    signature has them, channels); a `tensor` is anything else, in the graph's own shape.
    """

    name: str
    kind: str
    tensors: tuple[Tensor, ...]
    features: tuple[Feature, ...] = ()
    size: tuple[int, ...] | None = None
    statistics: Statistics | None = None

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """For each tensor, the positions of its features among all features of the input."""
        return {
            tensor.name: [i for i, f in enumerate(self.features) if f.tensor == tensor.name]
            for tensor in self.tensors
        }

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """The dtype of each tensor, by its name."""
        return {tensor.name: tensor.dtype for tensor in self.tensors}

    @cached_property
    def categorical(self) -> dict[str, Feature]:
        """The features that have a vocabulary, by tensor."""
        return {f.tensor: f for f in self.features if f.vocabulary is not None}

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in column order."""
        return tuple(feature.name for feature in self.features)


@dataclass(frozen=True)
class Head:
    """A named output.

    `inputs` are the names of the inputs that its part of the graph reads.  `targets` are the
    columns that it learned, and `constant` is the best answer that ignores the inputs, as values
    of the head; both are empty if they are not known.  `statistics` are those of the target of a
    regression, if it has a single one.
    """

    name: str
    kind: str
    tensor: Tensor
    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    constant: tuple[float, ...] = ()
    statistics: Statistics | None = None

    @cached_property
    def cutoff(self) -> float:
        """The threshold to which values are compared.

        For a head of floats, it is rounded to their dtype, since 0.1 is not float32's 0.1.  For
        booleans and integers it is not rounded: that would move it across values.
        """
        threshold = THRESHOLD if self.threshold is None else self.threshold
        if "float" not in self.tensor.dtype:
            return threshold
        return float(np.array(threshold, self.tensor.dtype))


@dataclass(frozen=True)
class Golden:
    """A few rows and the answers that the trained model gave: lists, by tensor and by head.

    `tolerances` has the heads whose answers may differ by more than usual, since rounding in
    float32 alone moves them by so much, and `differences` how far they were off when the file was
    made.  Both are relative to answers above 1.
    """

    inputs: Mapping[str, list[Any]]
    outputs: Mapping[str, list[Any]]
    tolerances: Mapping[str, float] = field(default_factory=dict)
    differences: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Signature:
    """A model's inputs, heads, views over its heads (`models`), golden rows and provenance.

    `batch` is `None` if the graph takes any number of rows, and 1 if it takes one at a time.
    `tensor` is empty if the graph takes rows.  Otherwise it is the reason why not, such as a scalar
    among the inputs: the model is then served as whole tensors, with one run for each request, and
    every shape is the graph's own.

    `warnings` are those of the training run, each with a `code`, a `message` and, if it is about
    one head, its name as `head`.  `reference` has the distributions that drift is measured against.
    """

    inputs: Mapping[str, Input]
    heads: Mapping[str, Head]
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    golden: Golden | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    tensor: str = ""
    warnings: tuple[Mapping[str, str], ...] = ()
    reference: Reference | None = None

    @cached_property
    def head_names(self) -> tuple[str, ...]:
        """The names of all heads, in the graph's order."""
        return tuple(self.heads)

    @cached_property
    def _needed_by_all(self) -> tuple[str, ...]:
        return self._needed(self.head_names)

    def needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the inputs that at least one of `heads` reads."""
        return self._needed_by_all if heads == self.head_names else self._needed(heads)

    def _needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            name for name in self.inputs if any(name in self.heads[head].inputs for head in heads)
        )

    def restrict(self, heads: Iterable[str]) -> Signature:
        """Return the signature of a view: only `heads`, and the inputs that they read."""
        kept = {name: self.heads[name] for name in heads}
        needed = {name for head in kept.values() for name in head.inputs}
        inputs = {name: entry for name, entry in self.inputs.items() if name in needed}
        scores = self.provenance.get("scores")
        provenance = {
            **{key: value for key, value in self.provenance.items() if key not in _NAMING},
            **({"scores": {n: s for n, s in scores.items() if n in kept}} if scores else {}),
        }
        # A warning about the whole model may name heads and features that are not the view's.
        warnings = tuple(entry for entry in self.warnings if entry.get("head") in kept)
        reference = None if self.reference is None else self.reference.restrict(inputs, kept)
        return replace(
            self,
            inputs=inputs,
            heads=kept,
            models={},
            provenance=provenance,
            warnings=warnings,
            reference=reference,
        )


def tabular(name: str, features: Iterable[Feature], dtype: str = "float32") -> Input:
    """Return a tabular input: one tensor for all its numbers, and one for each categorical feature.

    Args:
        name: the name of the input and of its numeric tensor.
        features: the features in column order; this function sets their `tensor` and `column`.
        dtype: the dtype of the numeric tensor.
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


def fold(text: str) -> str:
    """Return a text without the differences that people overlook: case, and blanks around it."""
    return text.strip().casefold()


def holds(dtype: str, value: Any) -> bool:
    """Return whether a default, or a threshold, fits into a tensor of this dtype unchanged."""
    if dtype == "string" or isinstance(value, str):
        return dtype == "string" and isinstance(value, str)
    if (dtype == "bool") != isinstance(value, bool):
        return False
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            converted = np.array(value).astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return False
    # Rounding to a float is allowed: 0.1 becomes float32's 0.1.  1.5 is not rounded to int64's 1.
    return converted.shape == () and bool(
        np.isfinite(converted) if "float" in dtype else converted == value
    )
