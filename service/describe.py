"""A signature in words for the caller: what goes in, what comes out, and a request that works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.repository import Repository, Servable
    from service.signature import Feature, Head, Input, Signature, Tensor

NO_SHAPES: Mapping[str, tuple[int, ...]] = {}
# What is nothing of a dtype; of every other it is 0.
_ZEROS: dict[str, Any] = {"string": "", "bool": False}


def describe(servable: Servable) -> dict[str, Any]:
    """What `/models/<name>` answers."""
    signature = servable.signature
    return {
        "name": servable.name,
        "version": servable.version,
        "inputs": {name: describe_input(entry) for name, entry in signature.inputs.items()},
        "heads": {
            name: describe_head(head, whole=bool(signature.tensor))
            for name, head in signature.heads.items()
        },
        **(
            {"models": {n: list(h) for n, h in signature.models.items()}}
            if signature.models
            else {}
        ),
        **({"provenance": dict(signature.provenance)} if signature.provenance else {}),
        **batching(servable),
        **(
            {}
            if servable.proof.no_example
            else {"example": example(signature, servable.proof.shapes)}
        ),
    }


def batching(servable: Servable) -> dict[str, Any]:
    """How requests may share its runs, where that is known."""
    known = servable.model.batching if servable.signature.tensor else None
    return {} if known is None else {"batching": known.as_json()}


def summary(repository: Repository, name: str) -> dict[str, Any]:
    """A model in the list of `/models`; its heads are those of the version that serves."""
    serving = repository.serving.get(name)
    return {
        "name": name,
        "version": None if serving is None else serving.version,
        **versions(repository, name),
        "heads": [] if serving is None else list(serving.signature.heads),
    }


def versions(repository: Repository, name: str) -> dict[str, Any]:
    """The versions of a model or view with their states, and its aliases with their versions."""
    named = repository.aliases.get(name, {})
    return {
        "versions": repository.states(name),
        "aliases": {alias: servable.version for alias, servable in named.items()},
    }


def describe_input(entry: Input) -> dict[str, Any]:
    """One input: its features, or its shape a row."""
    if entry.kind == "tabular":
        return {"kind": entry.kind, "features": [_feature(f, entry) for f in entry.features]}
    tensor = entry.tensors[0]
    said: dict[str, Any] = {"kind": entry.kind, "dtype": tensor.dtype, "shape": list(tensor.shape)}
    if entry.size is not None:
        said["size"] = list(entry.size)
    if entry.statistics is not None:
        said |= vars(entry.statistics)
    return said


def _feature(feature: Feature, entry: Input) -> dict[str, Any]:
    said: dict[str, Any] = {"name": feature.name, "dtype": dtype_of(feature, entry)}
    if feature.default is not None:
        said["default"] = feature.default
    if feature.vocabulary is not None:
        said["vocabulary"] = list(feature.vocabulary)
    if feature.statistics is not None:
        said |= vars(feature.statistics)
    return said


def dtype_of(feature: Feature, entry: Input) -> str:
    """The dtype of the tensor that carries a feature."""
    return next(tensor.dtype for tensor in entry.tensors if tensor.name == feature.tensor)


def describe_head(head: Head, *, whole: bool = False) -> dict[str, Any]:
    """One head: its values a row, or of the `whole` tensor; an empty shape is a bare value."""
    bare = head.tensor.shape == (1,) and not whole
    shape = [] if bare else list(head.tensor.shape)
    said: dict[str, Any] = {"kind": head.kind, "dtype": head.tensor.dtype, "shape": shape}
    if head.labels is not None:
        said["labels"] = list(head.labels)
    if head.threshold is not None:
        said["threshold"] = head.threshold
    return {**said, "inputs": list(head.inputs)}


def example(
    signature: Signature, shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES
) -> dict[str, Any]:
    """A body to post: a golden row, or else defaults, and zeros; whole tensors are zeros alone.

    Args:
        signature: whose inputs it has.
        shapes: by tensor, that of its zeros; else free axes have the length 1.
    """
    said = {
        name: _example_input(entry, signature, shapes) for name, entry in signature.inputs.items()
    }
    return {"inputs": said} if signature.tensor else {"instances": [said]}


def _example_input(
    entry: Input, signature: Signature, shapes: Mapping[str, tuple[int, ...]]
) -> Any:
    if entry.features:
        return {
            feature.name: _example_feature(feature, dtype_of(feature, entry), signature)
            for feature in entry.features
        }
    tensor = entry.tensors[0]
    row = _golden_row(tensor.name, signature)
    return _zeros(tensor, shapes.get(tensor.name)) if row is None else _plain(row)


def _example_feature(feature: Feature, dtype: str, signature: Signature) -> Any:
    row = _golden_row(feature.tensor, signature)
    if row is not None:
        return _plain(row[feature.column])
    if feature.default is not None:
        return _plain(feature.default)
    return feature.vocabulary[0] if feature.vocabulary else _ZEROS.get(dtype, 0)


def _golden_row(tensor: str, signature: Signature) -> Any:
    """What the first golden row has for a tensor: `None` where it answers for other heads alone."""
    rows = signature.golden.inputs.get(tensor) if signature.golden else None
    return rows[0] if rows else None


def _zeros(tensor: Tensor, shape: tuple[int, ...] | None) -> Any:
    value = _ZEROS.get(tensor.dtype, 0)
    axes = [1 if axis is None else axis for axis in tensor.shape] if shape is None else shape
    for axis in reversed(axes):
        value = [value] * axis
    return value


def _plain(value: Any) -> Any:
    """Whole numbers without their `.0`, as a person would write them."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
