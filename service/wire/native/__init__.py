"""Triceps' own JSON: all inputs in, the heads asked for out, by row or by column.

    reference   what each body means and what each answer is, with every rule and every message
    fast        bodies that are as they should be, straight to arrays
    answers     the answers to them, a head at a time

The fast ways do the same as the reference, which tests hold against them.
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
    predictions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Signature
    from service.wire.dialect import Header, Reader

__all__ = ["DIALECT", "Query", "decode", "encode", "encode_error", "interpret", "predictions"]


def _reader(signature: Signature) -> Reader:
    def read_body(body: bytes, header: Header) -> Query:
        del header
        return decode(body, signature)

    return read_body


def _reply(
    asked: Query,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    return Reply(encode(asked, name, version, signature, outputs))


def _refusal(error: RequestError) -> Reply:
    return Reply(encode_error(error))


def _fast(name: str, version: str, signature: Signature) -> Codec | None:
    """The fast ways; they are for rows."""
    if signature.tensor:
        return None
    decoder = Decoder(signature)
    return Codec(decoder.read, Writer(name, version, signature).write, decoder.attempt)


DIALECT = Dialect("native", ("application/json",), _reader, _reply, _refusal, fast=_fast)
