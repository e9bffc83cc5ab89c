"""The reader of the JSON of an inference request ($inference_request of inference_rest.md).

    an object ─▶ Plan: the heads, the tensors in the JSON, and the places of those that are bytes

It notes every mistake in the JSON with its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import nearest
from service.signature import Tensor
from service.wire import tensors, unseen
from service.wire.body import Notes, count, key, listing, refuse_unknown, show
from service.wire.columns import as_many
from service.wire.oip import binary
from service.wire.oip.tensor import Beside, checked_size, size_of, values_of
from service.wire.raw import Piece
from service.wire.rows import MISSING, shown
from service.wire.scalars import RANGES, fits
from service.wire.shapes import is_whole, shape_of, whole_shape_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Head, Signature
    from service.wire.body import Imputed, Unseen

DATATYPES = {
    "bool": "BOOL",
    "string": "BYTES",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **{dtype: dtype.upper() for dtype in RANGES},
}
"""For each dtype, its name in the protocol (Tensor Data Types of the specification)."""

# KServe's client and Triton's own examples repeat the model, although the path names it.
KEYS = ("id", "inputs", "outputs", "parameters", "model_name", "model_version")
INPUT_KEYS = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_KEYS = ("name", "parameters")
_SHARED_MEMORY = "shared_memory_"
# The entries for each input or output that exists; a longer list is refused unread.
_MOST_NAMED = 64


@dataclass(frozen=True)
class Wanted:
    """A requested output, as bytes or JSON; with `classes`, only its best classes, as strings."""

    head: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Query:
    """A decoded request: arrays by tensor, and the wanted outputs; `timeout` is in seconds."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    wanted: tuple[Wanted, ...]
    id: str | None = None
    timeout: float | None = None
    imputed: Sequence[Imputed] = ()
    unseen: Sequence[Unseen] = ()
    explain = None  # this protocol has no explanations


@dataclass(frozen=True)
class Plan:
    """The content of the JSON: a request without its binary tensors, and the places of these."""

    query: Query
    pieces: tuple[Piece, ...]


class Known:
    """The facts of a signature that requests need, by tensor."""

    def __init__(self, signature: Signature) -> None:
        """Collect the facts once for all requests."""
        self.heads = signature.heads
        self.every = signature.head_names
        self.tensors = tensors.by_name(signature)
        self.categorical = unseen.categorical(signature)
        self.is_whole = bool(signature.tensor)
        self._signature = signature
        self._by_all = tensors.needed(signature, self.every)

    def needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the input tensors that at least one of `heads` depends on."""
        return self._by_all if heads == self.every else tensors.needed(self._signature, heads)


def plan(known: Known, value: dict[str, Any], *, whole: bool) -> Plan:
    """Interpret the JSON of a request.

    Args:
        known: the facts of the signature.
        value: the parsed JSON; numbers in it may already be flat arrays in the graph's dtypes.
        whole: whether the JSON is the whole body, so that no tensor may follow as bytes.

    Raises:
        BadRequest: the JSON has mistakes; the error has all of them.
        ValueError: an array has more or fewer numbers than its shape.
    """
    notes = Notes()
    refuse_unknown(value, "key", KEYS, "", notes)
    name = value.get("id")
    if name is not None and not fits(name, "string"):
        notes.add("id", "text", show(name))
    parameters = _parameters(value, "", notes)
    for reserved in parameters:
        if reserved == "headers" or reserved.startswith("triton_"):
            expected = "other names than headers and triton_…, which Triton keeps for itself"
            notes.add(f"parameters{key(reserved)}", expected, "one of those")
    timeout = parameters.get("timeout")
    if timeout is not None and not is_whole(timeout, 1):
        notes.add("parameters.timeout", "a whole number of microseconds, from 1", show(timeout))
    wanted = _read_outputs(known, value, parameters, notes)
    heads = tuple(output.head for output in wanted)
    arrays, pieces = _read_inputs(known, value, known.needed(heads), notes)
    if whole and pieces:
        at = f"{pieces[0].at.removesuffix('.data')}.parameters.binary_data_size"
        notes.add(at, f"a header {binary.LENGTH} that says where the JSON ends", "none")
    notes.stop()
    seconds = None if timeout is None else timeout / 1e6
    return Plan(Query(arrays, heads, wanted, name, seconds, unseen=notes.unseen), pieces)


def _parameters(holder: Mapping[str, Any], at: str, notes: Notes) -> Mapping[str, Any]:
    """Return the parameters of a request, an input or an output: strings, numbers and booleans."""
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    at = f"{at}.parameters".removeprefix(".")
    if not isinstance(parameters, dict):
        notes.add(at, "an object", show(parameters))
        return {}
    for name, value in parameters.items():
        if not isinstance(value, (str, int)) and not (
            type(value) is float and math.isfinite(value)
        ):
            notes.add(f"{at}{key(name)}", "text, a number, true or false", show(value))
        elif name.startswith(_SHARED_MEMORY):
            received = "shared memory, which is not served"
            notes.add(f"{at}{key(name)}", "tensors in the bodies", received)
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, at: str, notes: Notes) -> bool | None:
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    notes.add(f"{at}.parameters.{name}".removeprefix("."), "true or false", show(value))
    return None


def _name(
    entry: Mapping[str, Any], names: Collection[str], seen: Collection[str], at: str, notes: Notes
) -> str | None:
    """Return the name of an input or an output; `None` if it is unknown or repeated."""
    name = entry.get("name", MISSING)
    if not isinstance(name, str) or name not in names:
        close = nearest(name, names) if isinstance(name, str) and not notes.full else ""
        notes.add(f"{at}.name", f"one of {listing(names)}{close}", shown(name))
    elif name in seen:
        notes.add(f"{at}.name", "each name once", f"{show(name)} again")
    else:
        return name
    return None


def _entries(
    value: Mapping[str, Any], what: str, keys: Collection[str], known: Collection[str], notes: Notes
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the objects in a list of inputs or outputs, with the path of each."""
    listed = value.get(what, MISSING)
    if not isinstance(listed, list):
        notes.add(what, f"a list of {what}: {listing(known)}", shown(listed))
        return []
    if len(listed) > _MOST_NAMED * len(known):
        notes.add(what, f"each of {listing(known)} once", show(listed))
        return []
    entries: list[tuple[str, Mapping[str, Any]]] = []
    for i, entry in enumerate(listed):
        at = f"{what}[{i}]"
        if isinstance(entry, dict):
            refuse_unknown(entry, "key", keys, at, notes)
            entries.append((at, entry))
        else:
            notes.add(at, f"an object of {', '.join(keys)}", show(entry))
    return entries


def _read_outputs(
    known: Known, value: Mapping[str, Any], parameters: Mapping[str, Any], notes: Notes
) -> tuple[Wanted, ...]:
    """Return the requested outputs, or all outputs if the request names none."""
    default = _flag(parameters, "binary_data_output", "", notes)
    outputs: dict[str, tuple[str, Wanted]] = {}
    if value.get("outputs") in (None, []):
        outputs = {head: ("outputs", Wanted(head, bool(default))) for head in known.every}
    else:
        for at, entry in _entries(value, "outputs", _OUTPUT_KEYS, known.every, notes):
            name = _name(entry, known.every, outputs, at, notes)
            own = _parameters(entry, at, notes)
            flag = _flag(own, "binary_data", at, notes)
            classes = own.get("classification")
            if name is None:
                continue
            if classes is not None and known.is_whole:
                received = "it, and this model has no rows to classify"
                notes.add(f"{at}.parameters.classification", "no such parameter", received)
            elif classes is not None:
                _check_classes(classes, known.heads[name], at, notes)
            in_bytes = bool(default if flag is None else flag)
            outputs[name] = at, Wanted(name, in_bytes, classes or 0)
    for at, output in outputs.values():
        dtype = known.heads[output.head].tensor.dtype
        if dtype == "float16" and not output.binary and not output.classes:
            expected = f"binary_data for {output.head}, which is FP16 and has no form in JSON"
            notes.add(at, expected, "no such parameter")
    return tuple(output for _, output in outputs.values())


def _check_classes(classes: Any, head: Head, at: str, notes: Notes) -> None:
    at = f"{at}.parameters.classification"
    if not is_whole(classes, 1):
        notes.add(at, "how many classes, a whole number from 1", show(classes))
    elif head.tensor.dtype == "string":
        notes.add(at, f"numbers to choose the highest of, and {head.name} is BYTES", show(classes))


def _read_inputs(
    known: Known, value: Mapping[str, Any], needed: tuple[str, ...], notes: Notes
) -> tuple[dict[str, NDArray[Any]], tuple[Piece, ...]]:
    """Return the needed tensors that are in the JSON, and those that follow it as bytes."""
    arrays: dict[str, NDArray[Any]] = {}
    pieces = []
    seen: dict[str, str] = {}
    first: tuple[str, int] | None = None
    for at, entry in _entries(value, "inputs", INPUT_KEYS, known.tensors, notes):
        name = _name(entry, known.tensors, seen, at, notes)
        parameters = _parameters(entry, at, notes)
        if name is None:
            continue
        seen[name] = at
        tensor = known.tensors[name]
        if entry.get("datatype", MISSING) != DATATYPES[tensor.dtype]:
            received = shown(entry.get("datatype", MISSING))
            notes.add(f"{at}.datatype", DATATYPES[tensor.dtype], received)
        read_shape = whole_shape_of if known.is_whole else shape_of
        shape = read_shape(entry.get("shape", MISSING), tensor, f"{at}.shape", notes)
        if shape is None:
            continue
        if known.is_whole:
            pass
        elif first is None:
            first = at, shape[0]
        elif shape[0] != first[1]:
            expected = as_many(first[1], first[0])
            notes.add(f"{at}.shape[0]", expected, count(shape[0], "row"))
        wanted = Tensor(name, tensor.dtype, shape)
        feature = unseen.checked(known.categorical, name, needed)
        kept, data = name if name in needed else "", entry.get("data")
        if isinstance(data, Beside):
            size = 0 if data.size is None else checked_size(data.size, wanted, data.at, notes)
            pieces.append(Piece(kept, size, tensor.dtype, shape, data.at, feature))
        elif parameters.get("binary_data_size") is not None:
            size = size_of(parameters["binary_data_size"], entry, wanted, at, notes)
            pieces.append(Piece(kept, size, tensor.dtype, shape, f"{at}.data", feature))
        else:
            array = values_of(entry, wanted, f"{at}.data", notes, feature)
            if name in needed and array is not None:
                arrays[name] = array
    missing = [name for name in needed if name not in seen]
    if missing and isinstance(value.get("inputs"), list):
        notes.add("inputs", f"all of {listing(needed)}", f"no {listing(missing)}")
    return arrays, tuple(pieces)
