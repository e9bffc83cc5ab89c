"""The reader of a ModelInferRequest.

    header ─ protobuf ─▶ the JSON of the protocol over HTTP ─ request.plan ─▶ Plan   (cached)
    values ───────────────────────────────────────────────── fill ─▶ arrays by tensor

The header is everything but the values and the ID: a few bytes that a client repeats.  Values are
read where they are in the message.  A message that has the bytes of a former one but for its raw
contents (a `grpc_parts.Mold`) has its values in the same places, and its fields are not looked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError

from service.errors import BadRequest
from service.wire.body import LongReadError, Notes, is_in_loop, wrong
from service.wire.messages import message_class
from service.wire.oip import binary
from service.wire.oip.grpc_contents import read_contents
from service.wire.oip.grpc_parts import mold, split
from service.wire.oip.request import DATATYPES, Known, plan
from service.wire.oip.tensor import Beside
from service.wire.protobuf import (
    LONGEST_HEADER,
    MOST_FIELDS,
    fields,
    header_too_long,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Signature
    from service.wire.body import Imputed, Unseen
    from service.wire.dialect import Header
    from service.wire.oip.grpc_parts import Mold, Parts
    from service.wire.oip.request import Wanted
    from service.wire.raw import Buffer, Piece

# The tags of fields of a ModelInferRequest: numbers, with the kind DELIMITED.
MODEL_NAME, MODEL_VERSION = (number << 3 | 2 for number in (1, 2))

# The plans of _KEPT headers of at most _SHORT bytes are kept.
_KEPT = 64
_SHORT = 4096
# The raw contents of a message whose mold is kept.
_FEW_CONTENTS = 64
# The fields that a message has which is read in a millisecond or two, and the dtypes of its values.
_FEW_FIELDS = 1024
_QUICK = {dtype for dtype in DATATYPES if dtype != "string"}
_QUICK_CONTENTS = {"float32", "float64"}
# The inputs or outputs for each that exists; `plan` refuses more unread.
_MOST_NAMED = 64
# Parameters of the protocol over HTTP, which say where the bytes are.
_OF_HTTP = ("binary_data", "binary_data_output", "binary_data_size")


@dataclass(slots=True)
class Query:
    """A decoded message: arrays by tensor, and the wanted outputs; `timeout` is in seconds."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    wanted: tuple[Wanted, ...]
    raw: bool
    """True if the answer has raw contents."""
    classified: bool
    """True if some of the outputs are classes."""
    id: str | None = None
    timeout: float | None = None
    imputed: Sequence[Imputed] = ()
    unseen: Sequence[Unseen] = ()
    explain = None  # this protocol has no explanations


class Layout(NamedTuple):
    """The result of a header: a query without arrays, and the tensors to be read."""

    query: Query
    pieces: tuple[Piece, ...]


class Decoder:
    """The reader of messages for one signature."""

    def __init__(self, signature: Signature, version: str = "") -> None:
        """Prepare for the tensors of a signature.

        Args:
            signature: the signature.
            version: the version that it is of; empty if that does not matter.
        """
        self._version = version
        self._known = Known(signature)
        self._again = lru_cache(_KEPT)(self._layout)
        # By the size of the message.
        self._molds: dict[int, tuple[Mold, Layout]] = {}

    def read(self, message: Buffer, header: Header | None = None) -> Query:
        """Decode a message.

        Raises:
            BadRequest: it has mistakes; the error has all those of the header, or of the values.
            LongReadError: it may take long, and this is an event loop.
        """
        del header
        known = self._molds.get(len(message))
        if known is not None and known[0].fits(message):
            return _fill(known[1], known[0].parts, message)
        try:
            parts = split(message, _FEW_FIELDS)
        except BadRequest as error:
            if is_in_loop():
                raise LongReadError from error
            parts = split(message, MOST_FIELDS)
        if len(parts.header) > _SHORT:
            if len(parts.header) > LONGEST_HEADER:
                raise header_too_long(len(parts.header))
            return _fill(self._layout(parts.header, parts.sizes), parts, message)
        layout = self._again(parts.header, parts.sizes)
        if parts.raw and not parts.ids and len(parts.raw) <= _FEW_CONTENTS:
            if len(self._molds) >= _KEPT:
                self._molds.clear()
            self._molds[len(message)] = mold(parts, message), layout
        return _fill(layout, parts, message)

    def attempt(self, message: Buffer) -> Query | None:
        """Decode a large message in a millisecond or two, if its values are its arrays' bytes.

        Return `None` for one that has texts or mistakes, which `read` reads.
        """
        try:
            known = self._molds.get(len(message))
            if known is not None and known[0].fits(message):
                parts, layout = known[0].parts, known[1]
            else:
                parts = split(message, _FEW_FIELDS)
                if len(parts.header) > _SHORT:
                    return None
                layout = self._again(parts.header, parts.sizes)
            quick = _QUICK if parts.raw else _QUICK_CONTENTS
            if any(piece.dtype not in quick for piece in layout.pieces):
                return None
            return _fill(layout, parts, message)
        except (BadRequest, LongReadError):
            return None

    def _layout(self, header: bytes, sizes: tuple[int, ...] | None) -> Layout:
        """Return the layout of a header, whose inputs have raw contents of these sizes, if any."""
        _check_once(header)
        try:
            request = message_class("inference.ModelInferRequest").FromString(header)
        except DecodeError as error:
            raise wrong("body", "a ModelInferRequest", "bytes that are none") from error
        if self._version and request.model_version not in ("", self._version):
            # `address` has looked for it where it is not: behind fields that are no part of the
            # header, or behind the beginning of a compressed message.
            raise _elsewhere()
        inputs = request.inputs
        if sizes is not None and len(sizes) != len(inputs):
            expected = f"{len(inputs)}, one for each of inputs"
            raise wrong("raw_input_contents", expected, str(len(sizes)))
        known = self._known
        value: dict[str, Any] = {
            # Bytes are the one form that any output can have.
            "parameters": {**_parameters(request), "binary_data_output": True},
            "inputs": _listed(inputs, known.tensors, lambda i: _input(inputs[i], i, sizes)),
            "outputs": _listed(request.outputs, known.every, lambda i: _output(request.outputs[i])),
        }
        asked, pieces = (planned := plan(known, value, whole=False)).query, planned.pieces
        typed = sizes is None and any(math.prod(piece.shape) for piece in pieces)
        tensors = [known.heads[head].tensor for head in asked.heads]
        query = Query(
            {},
            asked.heads,
            asked.wanted,
            raw=not typed or any(tensor.dtype == "float16" for tensor in tensors),
            classified=any(wanted.classes for wanted in asked.wanted),
            timeout=asked.timeout,
        )
        return Layout(query, pieces)


def _check_once(header: bytes) -> None:
    """Refuse a header whose model or version another reader may read otherwise.

    Raises:
        BadRequest: the model or the version is there twice, or the version is not where `address`
            looks for it.
    """
    tags = [tag for tag, *_ in fields(header, 0, len(header))]
    for tag, at in ((MODEL_NAME, "model_name"), (MODEL_VERSION, "model_version")):
        if tags.count(tag) > 1:
            raise wrong(at, "it once", f"it {tags.count(tag)} times")
    if MODEL_VERSION in tags:
        place = tags.index(MODEL_VERSION)
        if not place or tags[place - 1] != MODEL_NAME:
            raise _elsewhere()


def _elsewhere() -> BadRequest:
    """Return the error for a message whose version is not where `address` looks for it."""
    return wrong("model_version", "it right behind model_name", "it elsewhere")


def _listed(entries: Sequence[Any], known: Sequence[str] | Mapping[str, Any], of: Any) -> list[Any]:
    """Return the JSON of inputs or outputs; of far too many, only their number."""
    if len(entries) > _MOST_NAMED * len(known):
        return [None] * len(entries)
    return [of(i) for i in range(len(entries))]


def _input(entry: Any, i: int, sizes: tuple[int, ...] | None) -> dict[str, Any]:
    if sizes is None:
        data = Beside(f"inputs[{i}].contents", None)
    elif entry.HasField("contents"):
        expected = "no contents, since raw_input_contents has the values"
        raise wrong(f"inputs[{i}].contents", expected, "both")
    else:
        data = Beside(f"raw_input_contents[{i}]", sizes[i])
    return {
        "name": entry.name,
        "shape": list(entry.shape),
        "datatype": entry.datatype,
        "parameters": _parameters(entry),
        "data": data,
    }


def _output(entry: Any) -> dict[str, Any]:
    return {"name": entry.name, "parameters": _parameters(entry)}


def _parameters(holder: Any) -> dict[str, Any]:
    """Return the parameters of a request, an input or an output."""
    return {
        name: None
        if (kind := parameter.WhichOneof("parameter_choice")) is None
        else getattr(parameter, kind)
        for name, parameter in holder.parameters.items()
        if name not in _OF_HTTP
    }


def _fill(layout: Layout, parts: Parts, message: Buffer) -> Query:
    """Return the query of a layout, with the ID and the arrays of a message."""
    asked, pieces = layout
    notes = Notes()
    arrays: dict[str, NDArray[Any]] = {}
    for i, piece in enumerate(pieces):
        if parts.raw:
            array = binary.read(piece, message, parts.raw[i][1], notes)
        else:
            array = read_contents(piece, message, parts.contents[i], notes)
        if piece.name:
            arrays[piece.name] = array
    name = None
    # As in protobuf, the last of several IDs counts.
    for _, start, stop in parts.ids:
        try:
            name = str(message[start:stop], "utf-8") or None
        except UnicodeDecodeError:
            notes.add("id", "text in UTF-8", "other bytes")
    notes.stop()
    return Query(
        arrays,
        asked.heads,
        asked.wanted,
        asked.raw,
        asked.classified,
        name,
        asked.timeout,
        unseen=notes.unseen,
    )
