"""The Open Inference Protocol, version 2, as KServe and Triton speak it over HTTP.

    {"inputs": [{"name": "digit", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}, …],
     "outputs": [{"name": "digits"}]?, "id"?, "parameters"?}
        ─▶  {"model_name", "model_version", "id"?,
             "outputs": [{"name": "digits", "datatype": "FP32", "shape": [1, 3], "data": […]}]}

Its inputs and outputs are the graph's own tensors, in the graph's own shapes.  `data` comes flat
or nested and goes out flat; either way it may follow the JSON as bytes instead (`binary`), and
FP16, which has no form in JSON, has to.

NaN and Infinity are no JSON, and are refused in `data`; as bytes they are values like any other.
An answer that has some says NaN, Infinity and -Infinity, as Triton's does, and its client and
Python's `json` read.  `null` would be JSON, and would make a NaN of every infinity unseen; a strict
parser stops at the words, and whoever has one asks for binary data.

Of the parameters that Triton reserves, `priority` and those of sequences are taken and change
nothing: requests have no ranks here, and models keep nothing from one to the next.
"""

from __future__ import annotations

import json
import math
import re
import threading
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import simdjson

from service.errors import BadRequest, RequestError, nearest
from service.signature import Input, Tensor
from service.wire import binary
from service.wire import body as bodies
from service.wire.body import Notes, count, key, listing, refuse_unknown, show, wrong
from service.wire.dialect import Dialect, Reply
from service.wire.labels import labels_of
from service.wire.values import LARGEST, MISSING, RANGES, Rows, fits, read

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Head, Signature
    from service.wire.body import Imputed
    from service.wire.dialect import Header, Reader

DATATYPES = {
    "bool": "BOOL",
    "string": "BYTES",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **{dtype: dtype.upper() for dtype in RANGES},
}

# KServe's client and Triton's own examples repeat the model, which the path has named already.
_KEYS = ("id", "inputs", "outputs", "parameters", "model_name", "model_version")
_INPUT_KEYS = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_KEYS = ("name", "parameters")
_SHARED_MEMORY = "shared_memory_"
_MOST = 2**63 - 1

# The JSON in front of binary data is the same from one request of a client to the next, unless it
# numbers them: what follows from so many of them is kept, if they have no more bytes than that.
_KEPT = 64
_SHORT = 4096
_SHOWN_AXES = 8

# What simdjson has numbers in, by its name for it.
_WIDEST: dict[Any, Any] = {"d": np.float64, "i": np.int64}

_local = threading.local()


@dataclass(frozen=True)
class Wanted:
    """An output that was asked for: as bytes or as JSON, and as its best classes if any."""

    head: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Asked:
    """A decoded request; its `timeout` is in seconds."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    wanted: tuple[Wanted, ...]
    id: str | None = None
    timeout: float | None = None
    imputed: Sequence[Imputed] = ()


@dataclass(frozen=True)
class _Plan:
    """What a JSON says: what was asked, but for the tensors that are bytes, and those."""

    asked: Asked
    pieces: tuple[binary.Piece, ...]


class _Known:
    """A signature, by tensor."""

    def __init__(self, signature: Signature) -> None:
        self.heads = signature.heads
        self.every = signature.head_names
        self.tensors = {t.name: t for entry in signature.inputs.values() for t in entry.tensors}
        self._signature = signature
        self._by_all = self._needed(self.every)

    def needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        """The tensors that at least one of some heads reads."""
        return self._by_all if heads == self.every else self._needed(heads)

    def _needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        inputs = self._signature.inputs
        return tuple(t.name for name in self._signature.needed(heads) for t in inputs[name].tensors)


class _UnsureError(Exception):
    """The plain path has to look at this body."""


# What the fast parsers refuse, what a value of another kind than hoped raises, and what is wrong:
# all of it is left to the plain path, which knows every rule and every message.
_UNSURE = (
    *(_UnsureError, BadRequest, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
)


def reader(signature: Signature) -> Reader:
    """What reads bodies for a signature: JSON, JSON and bytes, or bytes alone."""
    known = _Known(signature)
    plan_again = lru_cache(_KEPT)(partial(_plan_head, known))

    def read_body(body: bytes, header: Header) -> Asked:
        length = header(binary.LENGTH)
        if not length:
            return _read_json(known, body, header)
        end = binary.split(body, length)
        if end == 0:
            return _read_alone(known, body)
        head = body[:end]
        plan = plan_again(head) if end <= _SHORT else _plan_head(known, head)
        return _fill(plan, body, end)

    return read_body


def _read_alone(known: _Known, body: bytes) -> Asked:
    tensors = [known.tensors[name] for name in known.needed(known.every)]
    wanted = tuple(Wanted(head, binary=True) for head in known.every)
    return Asked(binary.read_alone(body, tensors), known.every, wanted)


def _fill(plan: _Plan, body: bytes, start: int) -> Asked:
    """What was asked, with the tensors that are bytes from `start` on."""
    pieces, asked = plan.pieces, plan.asked
    total = sum(piece.size for piece in pieces)
    if total != len(body) - start:
        expected = f"{count(total, 'byte')} after the JSON, the sum of binary_data_size"
        raise wrong("body", expected, str(len(body) - start))
    notes = Notes()
    arrays = dict(asked.arrays)
    for piece in pieces:
        array = binary.read(piece, body, start, notes)
        if piece.name:
            arrays[piece.name] = array
        start += piece.size
    notes.stop()
    return Asked(arrays, asked.heads, asked.wanted, asked.id, asked.timeout)


def _plan_head(known: _Known, head: bytes) -> _Plan:
    """The plan of a JSON that bytes may follow."""
    try:
        said = orjson.loads(head)
        # orjson takes the last of two keys.  Each has a colon after it, so if there are no more
        # colons than keys that are left, there is none of that.
        if head.count(b":") != _keys_in(said):
            raise _UnsureError
        return _plan(known, said, whole=False)
    except _UNSURE:
        return _plan(known, _parse(head), whole=False)


def _keys_in(said: dict[str, Any]) -> int:
    """How many keys there are, in the objects that belong in a request."""
    objects = [said, *said["inputs"], *said.get("outputs", ())]
    return sum(len(entry) + len(entry.get("parameters", ())) for entry in objects)


def _read_json(known: _Known, body: bytes, header: Header) -> Asked:
    """What a body asks that is JSON to its end."""
    try:
        return _plan(known, _parse_fast(known, body), whole=True).asked
    except _UNSURE:
        pass
    try:
        said = _parse(body)
    except BadRequest as error:
        if header("Content-Type") == binary.CONTENT_TYPE:
            # Most likely there are tensors after the JSON, and nothing says where.
            raise wrong(binary.LENGTH, "the bytes of the JSON", "no such header") from error
        raise
    return _plan(known, said, whole=True).asked


def _parse(body: bytes) -> Any:
    if not body.strip():
        raise wrong("body", 'a JSON object with "inputs"', "no body")
    return bodies.parse(body)


def _plan(known: _Known, said: Any, *, whole: bool) -> _Plan:
    """What a JSON says; numbers in it may be arrays already.

    Raises:
        BadRequest: with everything that is wrong with it.
    """
    if not isinstance(said, dict):
        raise wrong("body", 'an object with "inputs"', show(said))
    notes = Notes()
    refuse_unknown(said, "key", _KEYS, "", notes)
    name = said.get("id")
    if name is not None and not fits(name, "string"):
        notes.add("id", "text", show(name))
    parameters = _parameters(said, "", notes)
    for reserved in parameters:
        if reserved == "headers" or reserved.startswith("triton_"):
            expected = "other names than headers and triton_…, which Triton keeps for itself"
            notes.add(f"parameters{key(reserved)}", expected, "one of those")
    timeout = parameters.get("timeout")
    if timeout is not None and not _is_whole(timeout, 1):
        notes.add("parameters.timeout", "a whole number of microseconds, from 1", show(timeout))
    wanted = _read_outputs(known, said, parameters, notes)
    heads = tuple(output.head for output in wanted)
    arrays, pieces = _read_inputs(known, said, known.needed(heads), notes)
    if whole and pieces:
        at = f"{pieces[0].at.removesuffix('.data')}.parameters.binary_data_size"
        notes.add(at, f"a header {binary.LENGTH} that says where the JSON ends", "none")
    notes.stop()
    seconds = None if timeout is None else timeout / 1e6
    return _Plan(Asked(arrays, heads, wanted, name, seconds), pieces)


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _MOST


def _shown(value: Any) -> str:
    return "nothing" if value is MISSING else show(value)


def _parameters(holder: Mapping[str, Any], at: str, notes: Notes) -> Mapping[str, Any]:
    """The parameters of a request, an input or an output: texts, numbers and booleans."""
    given = holder.get("parameters")
    if given is None:
        return {}
    at = f"{at}.parameters".removeprefix(".")
    if not isinstance(given, dict):
        notes.add(at, "an object", show(given))
        return {}
    for name, value in given.items():
        if not isinstance(value, (str, int)) and not (
            type(value) is float and math.isfinite(value)
        ):
            notes.add(f"{at}{key(name)}", "text, a number, true or false", show(value))
        elif name.startswith(_SHARED_MEMORY):
            received = "shared memory, which is not served"
            notes.add(f"{at}{key(name)}", "tensors in the bodies", received)
    return given


def _flag(parameters: Mapping[str, Any], name: str, at: str, notes: Notes) -> bool | None:
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    notes.add(f"{at}.parameters.{name}".removeprefix("."), "true or false", show(value))
    return None


def _name(
    entry: Mapping[str, Any], names: Collection[str], seen: Collection[str], at: str, notes: Notes
) -> str | None:
    """The name of an input or an output; `None` where it is none, or stands there again."""
    name = entry.get("name", MISSING)
    if not isinstance(name, str) or name not in names:
        close = nearest(name, names) if isinstance(name, str) and not notes.full else ""
        notes.add(f"{at}.name", f"one of {listing(names)}{close}", _shown(name))
    elif name in seen:
        notes.add(f"{at}.name", "each name once", f"{show(name)} again")
    else:
        return name
    return None


def _entries(
    said: Mapping[str, Any], what: str, keys: Collection[str], known: Collection[str], notes: Notes
) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects in a list of inputs or outputs, with the path of each."""
    listed = said.get(what, MISSING)
    if not isinstance(listed, list):
        notes.add(what, f"a list of {what}: {listing(known)}", _shown(listed))
        return []
    found: list[tuple[str, Mapping[str, Any]]] = []
    for i, entry in enumerate(listed):
        at = f"{what}[{i}]"
        if isinstance(entry, dict):
            refuse_unknown(entry, "key", keys, at, notes)
            found.append((at, entry))
        else:
            notes.add(at, f"an object of {', '.join(keys)}", show(entry))
    return found


def _read_outputs(
    known: _Known, said: Mapping[str, Any], parameters: Mapping[str, Any], notes: Notes
) -> tuple[Wanted, ...]:
    """The outputs that are asked for, or all where none is named."""
    default = _flag(parameters, "binary_data_output", "", notes)
    found: dict[str, tuple[str, Wanted]] = {}
    if said.get("outputs") in (None, []):
        found = {head: ("outputs", Wanted(head, bool(default))) for head in known.every}
    else:
        for at, entry in _entries(said, "outputs", _OUTPUT_KEYS, known.every, notes):
            name = _name(entry, known.every, found, at, notes)
            own = _parameters(entry, at, notes)
            flag = _flag(own, "binary_data", at, notes)
            classes = own.get("classification")
            if name is None:
                continue
            if classes is not None:
                _check_classes(classes, known.heads[name], at, notes)
            in_bytes = bool(default if flag is None else flag)
            found[name] = at, Wanted(name, in_bytes, classes or 0)
    for at, output in found.values():
        dtype = known.heads[output.head].tensor.dtype
        if dtype == "float16" and not output.binary and not output.classes:
            expected = f"binary_data for {output.head}, which is FP16 and has no form in JSON"
            notes.add(at, expected, "no such parameter")
    return tuple(output for _, output in found.values())


def _check_classes(classes: Any, head: Head, at: str, notes: Notes) -> None:
    at = f"{at}.parameters.classification"
    if not _is_whole(classes, 1):
        notes.add(at, "how many classes, a whole number from 1", show(classes))
    elif head.tensor.dtype == "string":
        notes.add(at, f"numbers to choose the highest of, and {head.name} is BYTES", show(classes))


def _read_inputs(
    known: _Known, said: Mapping[str, Any], needed: tuple[str, ...], notes: Notes
) -> tuple[dict[str, NDArray[Any]], tuple[binary.Piece, ...]]:
    """The tensors in the JSON that are needed, and those that are to follow it."""
    arrays: dict[str, NDArray[Any]] = {}
    pieces = []
    seen: dict[str, str] = {}
    first: tuple[str, int] | None = None
    for at, entry in _entries(said, "inputs", _INPUT_KEYS, known.tensors, notes):
        name = _name(entry, known.tensors, seen, at, notes)
        parameters = _parameters(entry, at, notes)
        if name is None:
            continue
        seen[name] = at
        tensor = known.tensors[name]
        if entry.get("datatype", MISSING) != DATATYPES[tensor.dtype]:
            received = _shown(entry.get("datatype", MISSING))
            notes.add(f"{at}.datatype", DATATYPES[tensor.dtype], received)
        shape = _shape(entry, tensor, at, notes)
        if shape is None:
            continue
        if first is None:
            first = at, shape[0]
        elif shape[0] != first[1]:
            expected = f"{count(first[1], 'row')}, as {first[0]} has"
            notes.add(f"{at}.shape[0]", expected, count(shape[0], "row"))
        wanted = Tensor(name, tensor.dtype, shape)
        if parameters.get("binary_data_size") is not None:
            size = _size(parameters["binary_data_size"], entry, wanted, at, notes)
            kept = name if name in needed else ""
            pieces.append(binary.Piece(kept, size, tensor.dtype, shape, f"{at}.data"))
        else:
            found = _values(entry, wanted, f"{at}.data", notes)
            if name in needed and found is not None:
                arrays[name] = found
    missing = [name for name in needed if name not in seen]
    if missing and isinstance(said.get("inputs"), list):
        notes.add("inputs", f"all of {listing(needed)}", f"no {listing(missing)}")
    return arrays, tuple(pieces)


def _shape(
    entry: Mapping[str, Any], tensor: Tensor, at: str, notes: Notes
) -> tuple[int, ...] | None:
    """An input's shape, if it is one of the tensor's."""
    given = entry.get("shape", MISSING)
    if (
        isinstance(given, list)
        and len(given) == len(tensor.shape) + 1
        and _is_whole(given[0], 1)
        and all(
            _is_whole(length, 0) and axis in (None, length)
            for length, axis in zip(given[1:], tensor.shape, strict=True)
        )
    ):
        return tuple(given)
    axes = ["rows", *("any" if axis is None else str(axis) for axis in tensor.shape)]
    legible = isinstance(given, list) and len(given) <= _SHOWN_AXES
    received = json.dumps(given)[:40] if legible else _shown(given)
    notes.add(f"{at}.shape", f"[{', '.join(axes)}], with 1 row at least", received)
    return None


def _size(size: Any, entry: Mapping[str, Any], wanted: Tensor, at: str, notes: Notes) -> int:
    """The bytes of an input that follows the JSON, which its dtype and shape must have."""
    if entry.get("data") is not None:
        expected = "no data in the JSON, since binary_data_size says that it follows"
        notes.add(f"{at}.data", expected, show(entry["data"]))
    right = binary.size_of(wanted.dtype, wanted.fixed)
    least = 4 * (wanted.size or 0)
    if _is_whole(size, 0) and (size >= least if right is None else size == right):
        return int(size)
    expected = f"at least {least}" if right is None else str(right)
    expected = f"{expected}, the bytes of {wanted}"
    notes.add(f"{at}.parameters.binary_data_size", expected, show(size))
    return 0


def _values(entry: Mapping[str, Any], wanted: Tensor, at: str, notes: Notes) -> NDArray[Any] | None:
    """An input's values from the JSON, flat or nested."""
    data = entry.get("data")
    if isinstance(data, np.ndarray):
        return _narrow(data, wanted).reshape(wanted.fixed)
    if wanted.dtype == "float16":
        notes.add(
            at, "binary data, since FP16 has no form in JSON", _shown(entry.get("data", MISSING))
        )
        return None
    if data is None:
        received = _shown(entry.get("data", MISSING))
        notes.add(at, "the values, flat or nested, or the parameter binary_data_size", received)
        return None
    # All of it is one row of a tensor in just that shape: flat or nested, with the same words.
    whole = Input(wanted.name, "tensor", (wanted,))
    found = read(whole, Rows([data], lambda _: at), notes)
    return found[wanted.name][0] if found else None


def _parse_fast(known: _Known, body: bytes) -> dict[str, Any]:
    """A body that is JSON, with its numbers as arrays; raises one of `_UNSURE` if it is unusual."""
    # A byte order mark is white space to simdjson, and an error to everybody else.
    if body[:1] != b"{":
        raise _UnsureError
    try:
        parsed = _local.parser.parse(body)
    except (AttributeError, RuntimeError):
        # The thread's first, or its last document is held by a traceback: leave it that parser.
        parser = _local.parser = simdjson.Parser()
        parsed = parser.parse(body)
    said = _but(parsed, "inputs")
    said["inputs"] = inputs = []
    brackets = 1 + ("outputs" in said)
    for each in parsed["inputs"]:
        entry = _but(each, "data")
        data, dtype = each["data"], known.tensors[entry["name"]].dtype
        if dtype in ("bool", "string", "uint64"):
            entry["data"] = data.as_list()
            brackets += 2
        else:
            brackets += 1 + _brackets(data, entry["shape"])
            kind = "d" if dtype in LARGEST else "i"
            entry["data"] = np.frombuffer(data.as_buffer(of_type=kind), _WIDEST[kind])
        inputs.append(entry)
    # simdjson has keys twice and flattens a list within a list of numbers.  No more colons than
    # keys and no more brackets than are accounted for mean that there is none of that.
    if body.count(b":") != _keys_in(said) or body.count(b"[") != brackets:
        raise _UnsureError
    return said


def _but(parsed: Any, left_out: str) -> dict[str, Any]:
    """An object of simdjson's as Python has it, but for one key."""
    said = {name: parsed[name] for name in list(parsed.keys()) if name != left_out}
    for name, value in said.items():
        if isinstance(value, simdjson.Object):
            said[name] = value.as_dict()
        elif isinstance(value, simdjson.Array):
            said[name] = value.as_list()
    return said


def _brackets(data: Any, shape: list[int]) -> int:
    """How many brackets numbers have that are flat, or nested in their shape."""
    return _nested(data, shape) if type(data[0]) is simdjson.Array else 1


def _nested(data: Any, shape: list[int]) -> int:
    if len(data) != shape[0]:
        raise _UnsureError
    if len(shape) == 1:
        return 1
    return sum((_nested(part, shape[1:]) for part in data), start=1)


def _narrow(data: NDArray[Any], wanted: Tensor) -> NDArray[Any]:
    """The same numbers in the dtype, if they all fit."""
    if wanted.dtype in LARGEST:
        least, most = -LARGEST[wanted.dtype], LARGEST[wanted.dtype]
    else:
        least, most = RANGES[wanted.dtype]
    if len(data) != wanted.size or not (least <= data.min() and data.max() <= most):
        raise _UnsureError
    return data.astype(wanted.dtype)


def encode(
    asked: Asked, name: str, version: str, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> Reply:
    """The answer, and whatever of it is to be bytes after its JSON."""
    parts: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for wanted in asked.wanted:
        head = signature.heads[wanted.head]
        array, datatype = outputs[wanted.head], DATATYPES[head.tensor.dtype]
        if wanted.classes:
            array, datatype = _classify(array, head, wanted.classes), "BYTES"
        part: dict[str, Any] = {"name": wanted.head, "datatype": datatype, "shape": array.shape}
        if wanted.binary:
            tail.append(binary.write(array))
            part["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            flat = np.ascontiguousarray(array).reshape(-1)
            part["data"] = flat.tolist() if array.dtype == object else flat
        parts.append(part)
    said: dict[str, Any] = {"model_name": name, "model_version": version}
    if asked.id is not None:
        said["id"] = asked.id
    said["outputs"] = parts
    content = _dump(said)
    if b"null" in content:
        for part in parts:
            if isinstance(part.get("data"), np.ndarray):
                part["data"] = _with_words(part["data"])
        content = _dump(said)
    if not any(wanted.binary for wanted in asked.wanted):
        return Reply(content)
    headers = ((binary.LENGTH, str(len(content))),)
    return Reply(b"".join((content, *tail)), binary.CONTENT_TYPE, headers)


def _dump(said: Any) -> bytes:
    return orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)


def _with_words(data: NDArray[Any]) -> Any:
    """Numbers with NaN, Infinity and -Infinity in place of the `null` that orjson has for them."""
    if data.dtype.kind != "f" or np.isfinite(data).all():
        return data
    words = iter(json.dumps(data[~np.isfinite(data)].tolist())[1:-1].encode().split(b", "))
    return orjson.Fragment(re.sub(b"null", lambda _: next(words), _dump(data)))


def _classify(array: NDArray[Any], head: Head, classes: int) -> NDArray[Any]:
    """A row's highest values each, highest first and NaN last, as texts: value:index[:label].

    The one value of a binary head has the label of its row: it is the score of one label, and what
    that of the other would be is not known.
    """
    rows = array.reshape(len(array), -1)
    # Of whole numbers and booleans the complement is in the opposite order, without an overflow.
    order = np.argsort(-rows if rows.dtype.kind == "f" else ~rows, axis=1, kind="stable")
    order = order[:, :classes]
    best = np.take_along_axis(rows, order, axis=1)
    # As text, a float has as many digits as its dtype needs.
    values = (best.view(np.uint8) if best.dtype == np.bool_ else best).astype(str).tolist()
    texts = np.empty(order.shape, object)
    by_row = labels_of(head, array) if head.kind == "binary" and head.labels else None
    for i, places in enumerate(order.tolist()):
        for j, place in enumerate(places):
            label = by_row[i] if by_row is not None else head.labels and head.labels[place]
            texts[i, j] = f"{values[i][j]}:{place}" + (f":{label}" if label is not None else "")
    return texts


def encode_error(error: RequestError) -> Reply:
    """What is wrong with a request: in a sentence, and if it is its body, all of it."""
    said: dict[str, Any] = {"error": str(error)}
    if isinstance(error, BadRequest):
        said["problems"] = [vars(problem) for problem in error.problems]
        said["count"] = error.count
    return Reply(orjson.dumps(said))


DIALECT = Dialect("oip", (), reader, encode, encode_error)
