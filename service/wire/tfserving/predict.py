"""`:predict`: tensors by row or by column (api_rest.md, Predict API).

{"instances": [{"x": [1, 2]}, …]}  ─▶  {"predictions": [{"y": [3], "z": [4]}, …]}
{"inputs": {"x": [[1, 2], …]}}     ─▶  {"outputs": {"y": [[3], …], "z": [[4], …]}}
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from service.wire import tensors
from service.wire.body import Notes, parse_object, refuse_unknown, show
from service.wire.columns import A_ROW, EITHER, columns, instances
from service.wire.tfserving.request import SIGNATURE, Query
from service.wire.tfserving.values import is_base64, read, spells, written, written_whole
from service.wire.written import in_pieces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Signature
    from service.wire.dialect import Header, Reader

_KEYS = ("instances", "inputs", "signature_name", "parameters")


def reader(signature: Signature) -> Reader:
    """What reads bodies of `:predict`, for all of a signature's heads.

    It raises `BadRequest`, with everything that is wrong with a body.
    """
    if signature.tensor:
        return partial(tensors.refuse_rows, signature)
    known = tensors.by_name(signature)
    names = tuple(known)
    needed = tensors.needed(signature, signature.head_names)

    def is_bare(instance: Any) -> bool:
        return len(names) == 1 and (not isinstance(instance, dict) or is_base64(instance))

    def read_body(body: bytes, header: Header) -> Query:
        del header
        said = parse_object(body, '"instances" or "inputs"')
        notes = Notes()
        refuse_unknown(said, "key", _KEYS, "", notes)
        name = said.get("signature_name", "")
        if name not in ("", SIGNATURE):
            notes.add("signature_name", f"{show(SIGNATURE)}, or no such key", show(name))
        if said.get("parameters") not in (None, {}):
            # Vertex AI passes on what its caller gives; what has no effect is not to seem to.
            notes.add("parameters", "none, since there are none to set", show(said["parameters"]))
        by_row = "instances" in said
        arrays: dict[str, NDArray[Any]] = {}
        if by_row == ("inputs" in said):
            notes.add("body", EITHER, "both" if by_row else "neither")
        else:
            if by_row:
                found = instances(said["instances"], names, needed, is_bare, notes)
            else:
                found = columns(said["inputs"], names, needed, lambda *_: A_ROW, notes)
            spelled = spells(body)
            for tensor, rows in found.items():
                made = read(known[tensor], rows, notes, spelled=spelled)
                arrays |= made if tensor in needed else {}
        notes.stop()
        return Query(arrays, signature.head_names, by_row)

    return read_body


def example(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """A body that asks for the rows of arrays by tensor."""
    rows = zip(*(array.tolist() for array in arrays.values()), strict=True)
    return {"instances": [dict(zip(arrays, row, strict=True)) for row in rows]}


def say(asked: Query, signature: Signature, outputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The answer in the form that was asked in; of a single head its values alone."""
    del signature
    said: Any
    if asked.by_row and len(asked.heads) > 1:
        values = {head: written(head, outputs[head]) for head in asked.heads}
        rows = zip(*values.values(), strict=True)
        said = in_pieces([dict(zip(values, row, strict=True)) for row in rows])
    else:
        said = {head: written_whole(head, outputs[head]) for head in asked.heads}
        if len(said) == 1:
            said = said[asked.heads[0]]
    return {"predictions" if asked.by_row else "outputs": said}
