"""The inputs of a candidate, made of the arrays of a request for the stable version.

    {tensor of the stable version: [rows, …]} ── of ─▶ {tensor of the candidate: [rows, …]}

Tensors and features with the same names are taken over.  Features that only the candidate has are
filled with their defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.inference.arrays import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from service.signature import Feature, Input, Signature, Tensor

    Arrays = Mapping[str, NDArray[Any]]


class _Column(NamedTuple):
    """The source of a feature: a column of a tensor, or a default in its place."""

    tensor: str | None
    column: int
    default: Any


class _Recipe(NamedTuple):
    """A tensor of the candidate: one of the stable version as it is, or made of columns."""

    tensor: Tensor
    columns: tuple[_Column, ...] | None

    @property
    def needed(self) -> set[str]:
        """The tensors of the stable version that it is made of."""
        if self.columns is None:
            return {self.tensor.name}
        return {column.tensor for column in self.columns if column.tensor is not None}


class Feeds:
    """The way from the arrays of one signature to those of another."""

    def __init__(self, stable: Signature, candidate: Signature) -> None:
        """Find out how each input of the candidate is made."""
        self._candidate = candidate
        self._recipes: dict[str, tuple[_Recipe, ...]] = {}
        self.missing: dict[str, str] = {}
        """The reason why an input of the candidate cannot be made, by the input's name."""
        for name, entry in candidate.inputs.items():
            try:
                self._recipes[name] = tuple(_recipes(entry, stable.inputs.get(name)))
            except LookupError as error:
                self.missing[name] = str(error.args[0])

    def why_not(self, head: str) -> str:
        """Return why a head of the candidate cannot be computed; empty if it can."""
        inputs = self._candidate.needed((head,))
        return next((self.missing[name] for name in inputs if name in self.missing), "")

    def can(self, head: str, there: Iterable[str]) -> bool:
        """Return whether the tensors of a request suffice for a head of the candidate."""
        recipes = (r for name in self._candidate.needed((head,)) for r in self._recipes[name])
        return set().union(*(recipe.needed for recipe in recipes)) <= set(there)

    def of(self, arrays: Arrays, heads: tuple[str, ...], rows: int) -> dict[str, NDArray[Any]]:
        """Return the arrays that the candidate needs for some heads, by tensor."""
        return {
            recipe.tensor.name: _made(recipe, arrays, rows)
            for name in self._candidate.needed(heads)
            for recipe in self._recipes[name]
        }


def _recipes(entry: Input, theirs: Input | None) -> Iterable[_Recipe]:
    """Yield how the tensors of an input are made.

    Raises:
        LookupError: the stable version, whose input of that name is `theirs`, lacks something.
    """
    if not entry.features:
        if theirs is None:
            raise LookupError(f"it needs the input {entry.name!r}, which only it has")
        for tensor in entry.tensors:
            _check(entry.name, tensor, theirs.tensors)
            yield _Recipe(tensor, None)
        return
    known = {} if theirs is None else {feature.name: feature for feature in theirs.features}
    for tensor in entry.tensors:
        columns = tuple(
            _source(entry, feature, known.get(feature.name), theirs)
            for feature in entry.features
            if feature.tensor == tensor.name
        )
        width = 0 if theirs is None else sum(f.tensor == tensor.name for f in theirs.features)
        same = [(tensor.name, place) for place in range(len(columns))]
        is_same = [column[:2] for column in columns] == same and width == len(columns)
        is_same = is_same and theirs is not None and theirs.dtypes[tensor.name] == tensor.dtype
        yield _Recipe(tensor, None if is_same else columns)


def _source(entry: Input, feature: Feature, known: Feature | None, theirs: Input | None) -> _Column:
    if known is None or theirs is None:
        if feature.default is None:
            where = f"{entry.name}.{feature.name}"
            raise LookupError(f"it needs the feature {where!r}, which only it has, without default")
        return _Column(None, 0, feature.default)
    if (feature.vocabulary is None) != (known.vocabulary is None):
        where = f"{entry.name}.{feature.name}"
        raise LookupError(f"its feature {where!r} is of another kind in the stable version")
    return _Column(known.tensor, known.column, None)


def _check(name: str, tensor: Tensor, others: tuple[Tensor, ...]) -> None:
    """Check that a tensor takes the rows of the tensor of the same name.

    Raises:
        LookupError: there is none, or it does not.
    """
    other = next((other for other in others if other.name == tensor.name), None)
    if other is None:
        raise LookupError(f"its input {name!r} is of another kind in the stable version")
    fits = other.dtype == tensor.dtype and len(other.shape) == len(tensor.shape)
    if not fits or any(
        length not in (None, given) for length, given in zip(tensor.shape, other.shape, strict=True)
    ):
        message = f"its input {name!r} is {tensor}, and {other} in the stable version"
        raise LookupError(message)


def _made(recipe: _Recipe, arrays: Arrays, rows: int) -> NDArray[Any]:
    tensor = recipe.tensor
    if recipe.columns is None:
        return arrays[tensor.name]
    made = np.empty((rows, len(recipe.columns)), numpy_dtype(tensor.dtype))
    for place, (source, column, default) in enumerate(recipe.columns):
        made[:, place] = default if source is None else arrays[source].reshape(rows, -1)[:, column]
    return made
