"""Descriptions of models for clients: inputs, heads, versions and a request that works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service import canary
from service.wire.native.examples import dtype_of, example

if TYPE_CHECKING:
    from service.observability.tallies import Tallies
    from service.repository.loader import Servable
    from service.repository.repository import Repository
    from service.signature import Feature, Head, Input


def describe(servable: Servable) -> dict[str, Any]:
    """Return the description of a version, as `/models/<name>` answers it."""
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
        **({"warnings": list(map(dict, signature.warnings))} if signature.warnings else {}),
        **({"provenance": dict(signature.provenance)} if signature.provenance else {}),
        **batching(servable),
        **(
            {}
            if servable.proof.no_example
            else {"example": example(signature, servable.proof.shapes)}
        ),
    }


def batching(servable: Servable) -> dict[str, Any]:
    """Return the batching mode of a version without a batch axis; else an empty object."""
    known = servable.model.batching if servable.signature.tensor else None
    return {} if known is None else {"batching": known.as_json()}


def in_force(servable: Servable) -> dict[str, Any]:
    """Return how a version runs: batching mode, execution provider, and the settings of its model.

    A provider other than the CPU's is there with the largest difference from the CPU's answers.
    """
    settings, model = servable.settings.as_json(), servable.model
    name = model.execution.provider
    proven = {} if model.execution.is_cpu else {"name": name, "difference": model.difference}
    return {
        "batching": model.batching.as_json(),
        **({"provider": proven} if proven else {}),
        **({"settings": settings} if settings else {}),
    }


def summary(repository: Repository, name: str, tallies: Tallies | None = None) -> dict[str, Any]:
    """Return the entry of a model in the list of `/models`.

    Its version, heads and batching mode are those that serve; the version is `None` if none serves,
    and there are no heads and no batching mode if it is not loaded.
    """
    serving = repository.serving.get(name)
    return {
        "name": name,
        "version": repository.answering.get(name),
        **versions(repository, name, tallies),
        "heads": [] if serving is None else list(serving.signature.heads),
        **({} if serving is None else {"batching": serving.model.batching.as_json()}),
    }


def versions(repository: Repository, name: str, tallies: Tallies | None = None) -> dict[str, Any]:
    """Return the states of a model's or view's versions, its aliases and its shares."""
    return {
        "versions": repository.states(name),
        "aliases": repository.versions_of_aliases(name),
        **traffic(repository, name, tallies),
    }


def traffic(repository: Repository, name: str, tallies: Tallies | None = None) -> dict[str, Any]:
    """Return the shares of a model's or view's traffic; an empty object if it has no file of them.

    A version that gets no share is there with the reason.

    Args:
        repository: the repository.
        name: the name of the model or view.
        tallies: tell which canaries are asked no more.
    """
    shares, candidates = repository.traffic(name), repository.candidates
    if shares is None:
        return {}
    parts = shares.as_json()
    for role, part in parts.items():
        if (name, role) in candidates.reasons:
            part["reason"] = candidates.reasons[name, role]
    if name in candidates.canaries and tallies is not None:
        ended = canary.retreat(tallies, repository, name)
        if ended is not None:
            parts["canary"] |= {"reason": f"it is asked no more, since {ended}"}
            parts["canary"] |= {"retreat": ended.as_json()}
    return {"traffic": parts}


def describe_input(entry: Input) -> dict[str, Any]:
    """Return the description of an input: its features, or its dtype and the shape of a row."""
    if entry.kind == "tabular":
        return {"kind": entry.kind, "features": [_feature(f, entry) for f in entry.features]}
    tensor = entry.tensors[0]
    fields: dict[str, Any] = {
        "kind": entry.kind,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
    }
    if entry.size is not None:
        fields["size"] = list(entry.size)
    if entry.statistics is not None:
        fields |= vars(entry.statistics)
    return fields


def _feature(feature: Feature, entry: Input) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": feature.name, "dtype": dtype_of(feature, entry)}
    if feature.default is not None:
        fields["default"] = feature.default
    if feature.vocabulary is not None:
        fields["vocabulary"] = list(feature.vocabulary)
        fields["unseen"] = feature.unseen
    if feature.statistics is not None:
        fields |= vars(feature.statistics)
    return fields


def describe_head(head: Head, *, whole: bool = False) -> dict[str, Any]:
    """Return the description of a head.

    Args:
        head: the head.
        whole: whether the answer is a whole tensor; if not, the shape is that of a row, which is
            empty if a row has a single value.
    """
    bare = head.tensor.shape == (1,) and not whole
    shape = [] if bare else list(head.tensor.shape)
    fields: dict[str, Any] = {"kind": head.kind, "dtype": head.tensor.dtype, "shape": shape}
    fields["value"] = value_of(head)
    if head.labels is not None:
        fields["labels"] = list(head.labels)
    if head.threshold is not None:
        fields["threshold"] = head.threshold
    if head.statistics is not None:
        fields |= vars(head.statistics)
    return {**fields, "inputs": list(head.inputs)}


def value_of(head: Head) -> str:
    """Return what the `value` of a head is, as a sentence without an end."""
    if head.kind == "regression":
        return "the number itself" if head.tensor.size == 1 else "the numbers, one for each target"
    if head.kind == "tensor" or "float" not in head.tensor.dtype:
        return "what the graph computes"
    if head.kind == "binary":
        second = head.labels[1] if head.labels else ""
        label = f'"{second}", the second label' if second else "the second label"
        return f"the probability of {label}, whatever the label of the answer is"
    if head.kind == "multilabel":
        return "the probability of each label by itself, in the order of the labels"
    return "the probability of each label, in the order of the labels; together they are 1"
