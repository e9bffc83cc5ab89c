"""Triceps' own JSON format: all inputs in, the requested heads out, by row or by column.

    reference   the meaning of each body and each answer, with every rule and every message
    by_column   the form `inputs`: rows, or the columns of a table
    fast        regular bodies, directly to arrays; fast_inputs reads each input
    answers     the answers to them, written a head at a time

The fast modules give the same results as the reference; tests compare the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.wire.dialect import Codec, Dialect, Reply
from service.wire.native.answers import Writer
from service.wire.native.fast import Decoder
from service.wire.native.reference import (
    Query,
    decode,
    encode,
    encode_error,
    interpret,
    is_bare,
    predictions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Signature
    from service.wire.dialect import Header, Reader

__all__ = [
    "DIALECT",
    "Query",
    "decode",
    "encode",
    "encode_error",
    "interpret",
    "is_bare",
    "predictions",
]


def _reader(signature: Signature) -> Reader:
    def read_body(body: bytes, header: Header) -> Query[Any]:
        del header
        return decode(body, signature)

    return read_body


def _reply(
    query: Query[Any],
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    return Reply(encode(query, name, version, signature, outputs))


def _refusal(error: RequestError) -> Reply:
    return Reply(encode_error(error))


def _fast(name: str, version: str, signature: Signature) -> Codec | None:
    """Return the fast codec; `None` for whole tensors, since it is for rows only."""
    if signature.tensor:
        return None
    decoder = Decoder(signature)
    return Codec(decoder.read, Writer(name, version, signature).write, decoder.attempt)


DIALECT = Dialect("native", ("application/json",), _reader, _reply, _refusal, fast=_fast)
