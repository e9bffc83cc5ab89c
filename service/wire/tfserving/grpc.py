"""TensorFlow Serving over gRPC: Predict of tensorflow.serving.PredictionService.

    PredictRequest  ─▶  arrays by tensor ─▶ arrays by head  ─▶  PredictResponse

Inputs and outputs are the tensors of the graph, in its shapes.  A client may send the bytes of a
tensor (`tensor_content`), or values in the field of its type.  The answer has values, as TensorFlow
Serving's has: its clients read the fields themselves.

Source: tensorflow/serving tensorflow_serving/apis/predict.proto and model.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.errors import BadRequest
from service.wire.dialect import Codec, Dialect
from service.wire.grpc_status import encode_error
from service.wire.protobuf import VARINT, fields, varint
from service.wire.tfserving.grpc_answer import Writer
from service.wire.tfserving.grpc_request import MODEL_SPEC, Decoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.run import Part
    from service.signature import Signature
    from service.wire.dialect import Reader, Reply
    from service.wire.raw import Buffer
    from service.wire.tfserving.request import Query

# The tags of fields of a ModelSpec, and of the value in its version.
_NAME, _VERSION, _LABEL = (number << 3 | 2 for number in (1, 2, 4))
_CHOICE = {_VERSION: _LABEL, _LABEL: _VERSION}
_VALUE = 1 << 3 | VARINT
_SIGN = 2**63


def address(message: Buffer) -> tuple[str | None, str | None, str | None]:
    """Return the model, and the version or the alias, that a message is for.

    Each is `None` if the message, or what there is of a longer one, does not have it.  Of a
    `model_spec` that is there twice, the reader says that it is wrong.
    """
    # Of each field, as in protobuf, the last one counts; and no other one is read, since there may
    # be thousands.
    found: dict[int, tuple[int, int]] = {}
    version = None
    try:
        for tag, _, start, stop in fields(message, 0, len(message)):
            if tag != MODEL_SPEC:
                continue
            for inner, _, begin, end in fields(message, start, stop):
                if inner in _CHOICE:
                    # One excludes the other.
                    found.pop(_CHOICE[inner], None)
                found[inner] = begin, end
            break
        version = _number(message, *found[_VERSION]) if _VERSION in found else None
    except BadRequest:
        pass
    name, alias = (_text(message, *found.get(tag, (0, 0))) for tag in (_NAME, _LABEL))
    return name, version, alias


def _text(message: Buffer, start: int, stop: int) -> str | None:
    return bytes(message[start:stop]).decode(errors="replace") or None


def _number(message: Buffer, start: int, stop: int) -> str:
    """Return the number in an Int64Value, which is 0 if there is none."""
    value = 0
    for tag, _, begin, _ in fields(message, start, stop):
        if tag == _VALUE:
            value, _ = varint(message, begin, stop)
    return str(value - 2 * _SIGN if value >= _SIGN else value)


def reader(signature: Signature) -> Reader:
    """Return the reader of messages for a signature; it raises `BadRequest` with all mistakes."""
    return Decoder(signature).read


def encode(
    query: Query, name: str, version: str, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> Reply:
    """Return the answer."""
    return Writer(name, version, signature).write(query, outputs)


def _fast(name: str, version: str, signature: Signature) -> Codec:
    """Return the codec of a version, which keeps what repeated requests have in common."""
    decoder, writer = Decoder(signature), Writer(name, version, signature)

    def encode_part(query: Query, part: Part) -> Reply:
        return writer.write(query, part.outputs())

    return Codec(decoder.read, encode_part, decoder.attempt)


GRPC = Dialect("tfserving_grpc", (), reader, encode, encode_error, fast=_fast)
