"""A signature as the protocols of other servers see it: the graph's tensors, by name."""

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
    """All that go in; a table may be several of them."""
    return {tensor.name: tensor for entry in signature.inputs.values() for tensor in entry.tensors}


def needed(signature: Signature, heads: tuple[str, ...]) -> tuple[str, ...]:
    """The names of those that at least one of some heads depends on."""
    entries = [signature.inputs[name] for name in signature.needed(heads)]
    return tuple(tensor.name for entry in entries for tensor in entry.tensors)


def refuse_rows(signature: Signature, body: bytes, header: object) -> NoReturn:
    """Read no body, in a form of rows, for a model that takes whole tensors alone.

    Raises:
        BadRequest: always, with the forms that it takes and why.
    """
    del body, header
    raise wrong("body", WHOLE, f"rows, and this model takes none: {signature.tensor}")
