"""The Open Inference Protocol over gRPC: ModelInfer of inference.GRPCInferenceService.

    ModelInferRequest  ─▶  arrays by tensor ─▶ arrays by head  ─▶  ModelInferResponse

Shapes, datatypes, parameters and requested outputs are those of the protocol over HTTP, and so are
the mistakes in them and their paths (`request`).  The values of all inputs are in
`raw_input_contents`, as in the binary extension of HTTP (`binary`), or in the contents of each
input, in the field of its datatype.  The answer has the same form; it is raw if a head is FP16,
which has no field.  The parameters `binary_data`, `binary_data_output` and `binary_data_size` of
HTTP have no meaning here, and no effect.

Source: kserve/open-inference-protocol specification/protocol/open_inference_grpc.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.errors import BadRequest
from service.wire.dialect import Codec, Dialect
from service.wire.grpc_status import encode_error
from service.wire.oip.grpc_answer import Writer
from service.wire.oip.grpc_request import MODEL_NAME, MODEL_VERSION, Decoder, Query
from service.wire.protobuf import fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.run import Part
    from service.signature import Signature
    from service.wire.dialect import Reader, Reply
    from service.wire.raw import Buffer


def address(message: Buffer) -> tuple[str | None, str | None, str | None]:
    """Return the model and the version that a message is for; an alias is never in it.

    Each is `None` if the message, or what there is of a longer one, does not have it.  Of a name
    that is there twice, or a version that does not follow the name, the reader says that it is
    wrong: all writers of protobuf write fields in the order of their numbers.
    """
    name = version = b""
    try:
        for tag, _, start, stop in fields(message, 0, len(message)):
            if tag == MODEL_NAME and not name:
                name = bytes(message[start:stop])
            elif name:
                version = bytes(message[start:stop]) if tag == MODEL_VERSION else b""
                break
    except BadRequest:
        pass
    return name.decode(errors="replace") or None, version.decode(errors="replace") or None, None


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
    decoder, writer = Decoder(signature, version), Writer(name, version, signature)

    def encode_part(query: Query, part: Part) -> Reply:
        return writer.write_part(query, part)

    return Codec(decoder.read, encode_part, decoder.attempt)


GRPC = Dialect("oip_grpc", (), reader, encode, encode_error, timed=True, fast=_fast)
