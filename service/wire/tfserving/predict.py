"""`:predict`: tensors by row or by column (api_rest.md, Predict API).

{"instances": [{"x": [1, 2]}, …]}  ─▶  {"predictions": [{"y": [3], "z": [4]}, …]}
{"inputs": {"x": [[1, 2], …]}}     ─▶  {"outputs": {"y": [[3], …], "z": [[4], …]}}

With `:explain`, the answer has explanations beside, and the body may have the key `explain`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from service.wire import explanations, tensors, unseen
from service.wire.body import Notes, parse_object, refuse_unknown, show
from service.wire.columns import EITHER, Names, columns, instances
from service.wire.tfserving.request import SIGNATURE, Query
from service.wire.tfserving.values import is_base64, read, spells, written, written_whole
from service.wire.written import in_pieces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Signature
    from service.wire.dialect import Header, Reader

_KEYS = ("instances", "inputs", "signature_name", "parameters")


def reader(signature: Signature, *, explains: bool = False) -> Reader:
    """Return the reader of `:predict` bodies, for all heads of a signature.

    The reader raises `BadRequest` with all mistakes in a body.

    Args:
        signature: the signature of the model or view.
        explains: whether the bodies are those of `:explain`.
    """
    if signature.tensor:
        return partial(tensors.refuse_rows, signature)
    known = tensors.by_name(signature)
    needed = tensors.needed(signature, signature.head_names)
    names = Names(tuple(known), needed)
    categorical = unseen.categorical(signature)
    keys = (*_KEYS, explanations.KEY) if explains else _KEYS

    def is_bare(instance: Any) -> bool:
        return len(known) == 1 and (not isinstance(instance, dict) or is_base64(instance))

    def read_body(body: bytes, header: Header) -> Query:
        del header
        value = parse_object(body, '"instances" or "inputs"')
        notes = Notes()
        refuse_unknown(value, "key", keys, "", notes)
        name = value.get("signature_name", "")
        if name not in ("", SIGNATURE):
            notes.add("signature_name", f"{show(SIGNATURE)}, or no such key", show(name))
        if value.get("parameters") not in (None, {}):
            # Vertex AI passes on the parameters of its client; refuse them, as they have no effect.
            notes.add("parameters", "none, since there are none to set", show(value["parameters"]))
        by_row = "instances" in value
        arrays: dict[str, NDArray[Any]] = {}
        if by_row == ("inputs" in value):
            notes.add("body", EITHER, "both" if by_row else "neither")
        else:
            if by_row:
                rows_by_tensor = instances(value["instances"], names, is_bare, notes)
            else:
                rows_by_tensor = columns(value["inputs"], names, notes)
            spelled = spells(body)
            for tensor, rows in rows_by_tensor.items():
                checked = rows._replace(feature=unseen.checked(categorical, tensor, needed))
                arrays_read = read(known[tensor], checked, notes, spelled=spelled)
                arrays |= arrays_read if tensor in needed else {}
        explain = None
        if explains:
            heads = signature.head_names
            explain = explanations.read(value.get(explanations.KEY, True), heads, signature, notes)
        notes.stop()
        return Query(arrays, signature.head_names, by_row, (), notes.unseen, explain)

    return read_body


def example(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return a request body for the rows of `arrays`, by tensor."""
    rows = zip(*(array.tolist() for array in arrays.values()), strict=True)
    return {"instances": [dict(zip(arrays, row, strict=True)) for row in rows]}


def say(query: Query, signature: Signature, outputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the answer by row or by column, as the request was; a single head has no name."""
    del signature
    answer: Any
    if query.by_row and len(query.heads) > 1:
        values = {head: written(head, outputs[head]) for head in query.heads}
        rows = zip(*values.values(), strict=True)
        answer = in_pieces([dict(zip(values, row, strict=True)) for row in rows])
    else:
        answer = {head: written_whole(head, outputs[head]) for head in query.heads}
        if len(answer) == 1:
            answer = answer[query.heads[0]]
    return {"predictions" if query.by_row else "outputs": answer}


def say_explanations(
    query: Query, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Return the answer with the explanations of each row, if the request wants them."""
    answer = say(query, signature, outputs)
    if query.explained is not None:
        answer |= explanations.written(query.explained)
    return answer
