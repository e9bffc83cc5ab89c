"""A signature as the protocols of other servers see it: the graph's tensors, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.signature import Signature, Tensor


def by_name(signature: Signature) -> dict[str, Tensor]:
    """All that go in; a table may be several of them."""
    return {tensor.name: tensor for entry in signature.inputs.values() for tensor in entry.tensors}


def needed(signature: Signature, heads: tuple[str, ...]) -> tuple[str, ...]:
    """The names of those that at least one of some heads depends on."""
    entries = [signature.inputs[name] for name in signature.needed(heads)]
    return tuple(tensor.name for entry in entries for tensor in entry.tensors)
