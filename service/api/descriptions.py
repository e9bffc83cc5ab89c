"""A model in words for the caller: what goes in, what comes out, and a request that works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.wire.native.examples import dtype_of, example

if TYPE_CHECKING:
    from service.repository.loader import Servable
    from service.repository.repository import Repository
    from service.signature import Feature, Head, Input


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
