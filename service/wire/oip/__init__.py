"""The Open Inference Protocol, version 2, as KServe and Triton speak it over HTTP.

    {"inputs": [{"name": "digit", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}, …],
     "outputs": [{"name": "digits"}]?, "id"?, "parameters"?}
        ─▶  {"model_name", "model_version", "id"?,
             "outputs": [{"name": "digits", "datatype": "FP32", "shape": [1, 3], "data": […]}]}

Inputs and outputs are the graph's own tensors, in the graph's own shapes.  `data` may be flat or
nested in a request, and is flat in an answer.  In both, a tensor may follow the JSON as bytes
instead (`binary`); an FP16 tensor must, because it has no form in JSON.

NaN and Infinity are not JSON, and are refused in `data`; as bytes they are values like any other.
In an answer they are spelled out (`answer`).

Of the parameters that Triton reserves, `priority` and those of sequences are accepted and have no
effect: requests have no priorities here, and models keep no state between requests.

Source: kserve/open-inference-protocol specification/protocol/inference_rest.md, and Triton's
docs/protocol/extension_binary_data.md, _classification.md, _parameters.md and _schedule_policy.md.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from service.errors import BadRequest
from service.wire.body import Notes, count, parse_object, wrong
from service.wire.dialect import Dialect, Reply
from service.wire.oip import binary, quick
from service.wire.oip.answer import encode
from service.wire.oip.request import DATATYPES, Known, Plan, Query, Wanted, plan
from service.wire.quick import UNSURE
from service.wire.written import problems, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Signature
    from service.wire.dialect import Header, Reader

__all__ = ["DATATYPES", "DIALECT", "Query", "Wanted"]

# A client sends the same JSON before its binary data each time, unless it numbers its requests.  So
# the plans of _KEPT inference headers are kept, if a header has no more than _SHORT bytes.
_KEPT = 64
_SHORT = 4096

# The fast reader leaves mistakes to the reference reader, whose messages are the right ones.
_UNSURE = (*UNSURE, BadRequest)


def reader(signature: Signature) -> Reader:
    """Return the reader of bodies for a signature: JSON, JSON and bytes, or bytes only.

    The reader raises `BadRequest` with all mistakes in a body.
    """
    known = Known(signature)
    plan_again = lru_cache(_KEPT)(partial(_plan_header, known))

    def read_body(body: bytes, header: Header) -> Query:
        length = header(binary.LENGTH)
        if not length:
            return _read_json(known, body, header)
        end = binary.split(body, length)
        if end == 0:
            return _read_alone(known, body)
        inference_header = body[:end]
        header_plan = (
            plan_again(inference_header) if end <= _SHORT else _plan_header(known, inference_header)
        )
        return _fill(header_plan, body, end)

    return read_body


def _read_alone(known: Known, body: bytes) -> Query:
    tensors = [known.tensors[name] for name in known.needed(known.every)]
    wanted = tuple(Wanted(head, binary=True) for head in known.every)
    rows = () if known.is_whole else (1,)
    notes = Notes()
    arrays = binary.read_alone(body, tensors, rows, known.categorical, notes)
    return Query(arrays, known.every, wanted, unseen=notes.unseen)


def _fill(header_plan: Plan, body: bytes, start: int) -> Query:
    """Return the request of a plan, with the tensors that follow as bytes from `start` on."""
    pieces, query = header_plan.pieces, header_plan.query
    total = sum(piece.size for piece in pieces)
    if total != len(body) - start:
        expected = f"{count(total, 'byte')} after the JSON, the sum of binary_data_size"
        raise wrong("body", expected, str(len(body) - start))
    notes = Notes()
    arrays = dict(query.arrays)
    for piece in pieces:
        array = binary.read(piece, body, start, notes)
        if piece.name:
            arrays[piece.name] = array
        start += piece.size
    notes.stop()
    listed = [*query.unseen, *notes.unseen]
    return Query(arrays, query.heads, query.wanted, query.id, query.timeout, unseen=listed)


def _plan_header(known: Known, inference_header: bytes) -> Plan:
    """Return the plan of an inference header, which bytes may follow."""
    try:
        return plan(known, quick.parse_header(inference_header), whole=False)
    except _UNSURE:
        return plan(known, parse_object(inference_header, '"inputs"'), whole=False)


def _read_json(known: Known, body: bytes, header: Header) -> Query:
    """Return the request of a body that is only JSON."""
    try:
        return plan(known, quick.parse(body, known.tensors), whole=True).query
    except _UNSURE:
        pass
    try:
        value = parse_object(body, '"inputs"')
    except BadRequest as error:
        if header("Content-Type") == binary.CONTENT_TYPE:
            # Most likely there are tensors after the JSON, and no header says where they begin.
            raise wrong(binary.LENGTH, "the bytes of the JSON", "no such header") from error
        raise
    return plan(known, value, whole=True).query


def encode_error(error: RequestError) -> Reply:
    """Return the answer to a request that failed; for a bad body, with all its problems."""
    return Reply(write({"error": str(error), **problems(error)}))


def example(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return a request body for the rows of `arrays`, by tensor."""
    return {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": DATATYPES["string" if array.dtype == object else str(array.dtype)],
                "data": array.ravel().tolist(),
            }
            for name, array in arrays.items()
        ]
    }


DIALECT = Dialect("oip", (), reader, encode, encode_error, timed=True, example=example)
