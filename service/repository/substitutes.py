"""The check that a version can answer requests that were written for another one.

A canary has the same inputs as the stable version, and at least the same heads.  Another version
would refuse a share of the requests, or answer them in another form; and clients would see errors
that no count of failures shows, since they look like mistakes of theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.signature import Head, Input, Signature


def why_not(stable: Signature, candidate: Signature) -> str | None:
    """Return why a version may not answer requests for the stable one; `None` if it may."""
    return next(_differences(stable, candidate), None)


def _differences(stable: Signature, candidate: Signature) -> Iterator[str]:
    """Yield what keeps a version from answering requests for the stable one."""
    if bool(stable.tensor) != bool(candidate.tensor):
        kinds = ("whole tensors", "rows") if candidate.tensor else ("rows", "whole tensors")
        yield f"it takes {kinds[0]}, and the stable version {kinds[1]}"
    if candidate.batch not in (None, stable.batch):
        yield f"it takes {candidate.batch} row at a time, and the stable version any number"
    for name in stable.inputs:
        if name not in candidate.inputs:
            yield f"it has no input {name!r}, which the stable version has"
    for name in candidate.inputs:
        if name not in stable.inputs:
            yield f"it needs an input {name!r}, which the stable version does not have"
    for name in stable.heads:
        if name not in candidate.heads:
            yield f"it has no head {name!r}, which the stable version has"
    if len(candidate.heads) > len(stable.heads) == 1:
        # In TensorFlow Serving's and MLflow's answers, a single head has no name.
        heads = ", ".join(candidate.heads)
        yield f"it has the heads {heads}, and the stable version has a single one"
    for name, entry in stable.inputs.items():
        yield from (f"its input {name!r} {why}" for why in _of_input(entry, candidate.inputs[name]))
    for name, head in stable.heads.items():
        yield from (f"its head {name!r} {why}" for why in _of_head(head, candidate.heads[name]))


def _of_input(stable: Input, candidate: Input) -> Iterator[str]:
    if stable.feature_names != candidate.feature_names:
        own, usual = (", ".join(e.feature_names) or "none" for e in (candidate, stable))
        yield f"has the features {own}, and that of the stable version has {usual}"
    own, usual = (
        f"{entry.kind}, {', '.join(map(str, entry.tensors))}" for entry in (candidate, stable)
    )
    if own != usual:
        yield f"is {own}; that of the stable version is {usual}"
    for before, after in zip(stable.features, candidate.features, strict=True):
        if before.default is not None and after.default is None:
            yield f"has no default for {after.name!r}, and that of the stable version has one"
        if after.unseen != before.unseen and after.unseen == "refuse":
            yield f"refuses texts of {after.name!r} that the stable version answers"


def _of_head(stable: Head, candidate: Head) -> Iterator[str]:
    own, usual = (f"{head.kind}, {head.tensor}" for head in (candidate, stable))
    if own != usual:
        yield f"is {own}; that of the stable version is {usual}"
    for name in candidate.inputs:
        if name not in stable.inputs:
            yield f"reads the input {name!r}, and that of the stable version does not"
