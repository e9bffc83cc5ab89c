"""The tensors of a graph by name, which are the inputs in the protocols of other servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from service.wire.body import wrong

if TYPE_CHECKING:
    from service.signature import Signature, Tensor

WHOLE = (
    'whole tensors, as {"inputs": {…}} to /models/<name>/predict or by the Open Inference Protocol '
    "to /v2/models/<name>/infer"
)


def by_name(signature: Signature) -> dict[str, Tensor]:
    """Return all input tensors of the graph by name; a tabular input may have several."""
    return {tensor.name: tensor for entry in signature.inputs.values() for tensor in entry.tensors}


def needed(signature: Signature, heads: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the input tensors that at least one of `heads` depends on."""
    entries = [signature.inputs[name] for name in signature.needed(heads)]
    return tuple(tensor.name for entry in entries for tensor in entry.tensors)


def refuse_rows(signature: Signature, body: bytes, header: object) -> NoReturn:
    """Refuse a body of rows for a model that takes only whole tensors.

    Raises:
        BadRequest: always; the message says which forms the model takes, and why.
    """
    del body, header
    raise wrong("body", WHOLE, f"rows, and this model takes none: {signature.tensor}")
