"""Native example bodies: a golden row if there is one, otherwise defaults and zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.signature import Feature, Input, Signature, Tensor

NO_SHAPES: Mapping[str, tuple[int, ...]] = {}
# The zero of each dtype for which it is not 0.
_ZEROS: dict[str, Any] = {"string": "", "bool": False}


def example(
    signature: Signature, shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES
) -> dict[str, Any]:
    """Return a body that the model can answer: a golden row, or else defaults and zeros.

    Whole tensors are always zeros.

    Args:
        signature: the signature of the model or view.
        shapes: for each tensor, the shape of its zeros; for others, free axes have the length 1.
    """
    inputs = instance(signature, shapes)
    return {"inputs": inputs} if signature.tensor else {"instances": [inputs]}


def golden_instances(signature: Signature) -> list[dict[str, Any]]:
    """Return all golden rows as the instances of a body; none if there are none."""
    rows = 0 if signature.golden is None else max(map(len, signature.golden.inputs.values()))
    return [instance(signature, NO_SHAPES, row) for row in range(rows)]


def instance(
    signature: Signature, shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES, row: int = 0
) -> dict[str, Any]:
    """Return a row that the model can answer, as `example` does.

    Args:
        signature: the signature of the model or view.
        shapes: as for `example`.
        row: the number of the golden row, if there are any.
    """
    return {
        name: _example_input(entry, signature, shapes, row)
        for name, entry in signature.inputs.items()
    }


def _example_input(
    entry: Input, signature: Signature, shapes: Mapping[str, tuple[int, ...]], place: int
) -> Any:
    if entry.features:
        return {
            feature.name: _example_feature(feature, dtype_of(feature, entry), signature, place)
            for feature in entry.features
        }
    tensor = entry.tensors[0]
    row = _golden_row(tensor.name, signature, place)
    return _zeros(tensor, shapes.get(tensor.name)) if row is None else _plain(row)


def _example_feature(feature: Feature, dtype: str, signature: Signature, place: int) -> Any:
    row = _golden_row(feature.tensor, signature, place)
    if row is not None:
        return _plain(row[feature.column])
    if feature.default is not None:
        return _plain(feature.default)
    return feature.vocabulary[0] if feature.vocabulary else _ZEROS.get(dtype, 0)


def _golden_row(tensor: str, signature: Signature, place: int) -> Any:
    """Return a tensor's values in one golden row; `None` if there are none."""
    rows = signature.golden.inputs.get(tensor) if signature.golden else None
    return rows[place] if rows else None


def _zeros(tensor: Tensor, shape: tuple[int, ...] | None) -> Any:
    value = _ZEROS.get(tensor.dtype, 0)
    axes = [1 if axis is None else axis for axis in tensor.shape] if shape is None else shape
    for axis in reversed(axes):
        value = [value] * axis
    return value


def _plain(value: Any) -> Any:
    """Return a value with whole numbers written without `.0`, as a person would write them."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def dtype_of(feature: Feature, entry: Input) -> str:
    """Return the dtype of the tensor that holds a feature."""
    return next(tensor.dtype for tensor in entry.tensors if tensor.name == feature.tensor)
