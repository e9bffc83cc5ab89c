"""The reader of a PredictRequest.

    header ─ protobuf ─▶ the model's tensors, and the requested heads   (kept)
    values ─────────────────────────────────── fill ─▶ arrays by tensor

The header is everything but the values: a few bytes that a client repeats.  Values are read where
they are in the message.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError

from service.errors import BadRequest, nearest
from service.wire import limits, packed, raw, tensors, unseen
from service.wire.body import (
    LongReadError,
    Notes,
    count,
    is_in_loop,
    key,
    listing,
    show,
    wrong,
)
from service.wire.columns import Names, as_many, refuse_others
from service.wire.messages import POOL, message_class
from service.wire.protobuf import LONGEST_HEADER, MOST_FIELDS, fields, header_too_long
from service.wire.raw import Piece
from service.wire.shapes import shape_of, whole_shape_of
from service.wire.tfserving.grpc_values import KNOWN, read_values
from service.wire.tfserving.metadata import data_type
from service.wire.tfserving.request import SIGNATURE, Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.signature import Signature
    from service.wire.dialect import Header
    from service.wire.packed import Places
    from service.wire.raw import Buffer

# The tags of fields of a PredictRequest, and of an entry of its map of inputs.
MODEL_SPEC, _INPUT = (number << 3 | 2 for number in (1, 2))
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2

# The layouts of _KEPT headers of at most _SHORT bytes are kept.
_KEPT = 64
_SHORT = 4096
# The fields that a message has which is read in a millisecond or two, and the dtypes whose values
# are the array's own bytes.
_FEW_FIELDS = 1024
_QUICK = {"float32", "float64"}

_TYPES = POOL.FindEnumTypeByName("tensorflow.DataType").values_by_number


class Entry(NamedTuple):
    """An input of a message: its name and its TensorProto without values, as bytes."""

    name: bytes
    tensor: bytes


class Layout(NamedTuple):
    """The result of a header: the requested heads, and the tensors to be read."""

    heads: tuple[str, ...]
    pieces: tuple[Piece, ...]


class Decoder:
    """The reader of messages for one signature."""

    def __init__(self, signature: Signature) -> None:
        """Prepare for the tensors of a signature."""
        self._signature = signature
        self._known = tensors.by_name(signature)
        self._categorical = unseen.categorical(signature)
        self._again = lru_cache(_KEPT)(self._layout)

    def read(self, message: Buffer, header: Header | None = None) -> Query:
        """Decode a message.

        Raises:
            BadRequest: it has mistakes; the error has all those of the header, or of the values.
            LongReadError: it may take long, and this is an event loop.
        """
        del header
        try:
            rest, entries, found = _split(message, _FEW_FIELDS)
        except BadRequest as error:
            if is_in_loop():
                raise LongReadError from error
            rest, entries, found = _split(message, MOST_FIELDS)
        size = len(rest) + sum(len(entry.name) + len(entry.tensor) for entry in entries)
        if size <= _SHORT:
            return self._fill(self._again(rest, entries), found, message)
        if size > LONGEST_HEADER:
            raise header_too_long(size)
        return self._fill(self._layout(rest, entries), found, message)

    def attempt(self, message: Buffer) -> Query | None:
        """Decode a large message in a millisecond or two, if its values are its arrays' bytes.

        Return `None` for one that has other values or mistakes, which `read` reads.
        """
        try:
            rest, entries, found = _split(message, _FEW_FIELDS)
            if len(rest) > _SHORT or any(len(entry.tensor) > _SHORT for entry in entries):
                return None
            layout = self._again(rest, entries)
            if any(piece.dtype not in _QUICK for piece in layout.pieces):
                return None
            return self._fill(layout, found, message)
        except (BadRequest, LongReadError):
            return None

    def _fill(self, layout: Layout, found: list[Places], message: Buffer) -> Query:
        """Return the query of a layout, with the arrays of a message."""
        notes = Notes()
        arrays: dict[str, NDArray[Any]] = {}
        for piece, places in zip(layout.pieces, found, strict=True):
            array = read_values(piece, message, places, notes)
            if piece.name:
                arrays[piece.name] = array
        notes.stop()
        if arrays and limits.rows_of(arrays) > len(message):
            # Values are repeated.  In all other messages, as in JSON, a row takes a byte at least,
            # and so only those that are large are checked.
            limits.check_rows(arrays, layout.heads, self._signature)
        return Query(arrays, layout.heads, unseen=notes.unseen)

    def _layout(self, rest: bytes, entries: tuple[Entry, ...]) -> Layout:
        """Return the layout of a header: of all fields but the inputs, and of the inputs."""
        if [tag for tag, *_ in fields(rest, 0, len(rest))].count(MODEL_SPEC) > 1:
            # Readers may choose different ones.
            raise wrong("model_spec", "it once", "it more than once")
        request = _parse("tensorflow.serving.PredictRequest", rest)
        notes = Notes()
        name = request.model_spec.signature_name
        if name not in ("", SIGNATURE):
            expected = f"{show(SIGNATURE)}, or no name"
            notes.add("model_spec.signature_name", expected, show(name))
        heads = self._heads(request.output_filter, notes)
        needed = tensors.needed(self._signature, heads)
        pieces = self._pieces(_named(entries), needed, notes)
        notes.stop()
        return Layout(heads, pieces)

    def _heads(self, names: Sequence[str], notes: Notes) -> tuple[str, ...]:
        """Return the requested heads, or all heads if the message names none."""
        every = self._signature.head_names
        chosen: dict[str, None] = {}
        for i, name in enumerate(names):
            if notes.full:
                notes.count += name in chosen or name not in every
                continue
            at = f"output_filter[{i}]"
            if name in chosen:
                notes.add(at, "each name once", f"{show(name)} again")
            elif name in every:
                chosen[name] = None
            else:
                notes.add(at, f"one of {listing(every)}{nearest(name, every)}", show(name))
        return tuple(chosen) or every

    def _pieces(
        self, named: dict[str, bytes], needed: tuple[str, ...], notes: Notes
    ) -> tuple[Piece, ...]:
        """Return the tensors to be read, in the order of the message."""
        known, is_whole = self._known, bool(self._signature.tensor)
        refuse_others(named, Names(tuple(known), needed), "inputs", notes)
        read_shape = whole_shape_of if is_whole else shape_of
        pieces = []
        first: tuple[str, int] | None = None
        for name, content in named.items():
            if name not in known:
                continue
            at, tensor = f"inputs{key(name)}", known[name]
            proto = _parse("tensorflow.TensorProto", content)
            wanted = data_type(tensor.dtype)
            if (received := _name_of(proto.dtype)) != wanted:
                notes.add(f"{at}.dtype", wanted, received)
            shape = read_shape(_shape(proto), tensor, f"{at}.tensor_shape", notes)
            if shape is None:
                continue
            if first is None:
                first = at, shape[0] if shape else 1
            elif not is_whole and shape[0] != first[1]:
                expected = as_many(first[1], first[0])
                notes.add(f"{at}.tensor_shape[0]", expected, count(shape[0], "row"))
            feature = unseen.checked(self._categorical, name, needed)
            size = raw.size_of(tensor.dtype, shape) or 0
            kept = name if name in needed else ""
            pieces.append(Piece(kept, size, tensor.dtype, shape, at, feature))
        for name in needed:
            if name not in named:
                notes.add(
                    f"inputs{key(name)}", f"a tensor of {data_type(known[name].dtype)}", "nothing"
                )
        return tuple(pieces)


def _split(message: Buffer, most: int) -> tuple[bytes, tuple[Entry, ...], list[Places]]:
    """Return a message without its inputs, its inputs without their values, and the values."""
    rest: list[Buffer] = []
    inputs: dict[bytes, tuple[bytes, Places]] = {}
    collector = packed.Collector(message, KNOWN)
    for tag, begin, start, stop in fields(message, 0, len(message), most):
        if tag != _INPUT:
            rest.append(message[begin:stop])
            continue
        found: Places = {}
        names: list[bytes] = []
        kept: list[Buffer] = []
        for inner, _, content, end in fields(message, start, stop, most):
            if inner == _KEY:
                names.append(bytes(message[content:end]))
            elif inner == _VALUE:
                others = collector.collect(content, end, found)
                kept += [message[first:last] for first, last in others]
        if len(names) > 1:
            raise wrong("inputs", "one name in each entry", str(len(names)))
        name = names[0] if names else b""
        if name in inputs:
            # Readers may choose different ones.
            shown = key(name.decode(errors="replace"))
            raise wrong(f"inputs{shown}", "each name once", "it again")
        inputs[name] = b"".join(kept), found
    # The entries of a map have no order, and some clients choose a new one each time.
    names = sorted(inputs)
    entries = tuple([Entry(name, inputs[name][0]) for name in names])
    return b"".join(rest), entries, [inputs[name][1] for name in names]


def _parse(name: str, content: bytes) -> Any:
    try:
        return message_class(name).FromString(content)
    except DecodeError as error:
        raise wrong("body", "a PredictRequest", "bytes that are none") from error


def _named(entries: tuple[Entry, ...]) -> dict[str, bytes]:
    """Return the inputs by name."""
    try:
        return {entry.name.decode(): entry.tensor for entry in entries}
    except UnicodeDecodeError as error:
        raise wrong("inputs", "names in UTF-8", "other bytes") from error


def _name_of(number: int) -> str:
    """Return the name of a data type; of one that is not known, its number."""
    value = _TYPES.get(number)
    return str(number) if value is None else value.name


def _shape(proto: Any) -> Any:
    shape = proto.tensor_shape
    return "an unknown rank" if shape.unknown_rank else [dim.size for dim in shape.dim]
