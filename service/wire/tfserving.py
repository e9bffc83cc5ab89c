"""TensorFlow Serving's REST API, whose predictions KServe v1 and Vertex AI speak too.

    :predict   {"instances": [{"x": [1, 2]}, …]}  ─▶  {"predictions": [{"y": [3], "z": [4]}, …]}
               {"inputs": {"x": [[1, 2], …]}}     ─▶  {"outputs": {"y": [[3], …], "z": [[4], …]}}
    :classify  {"examples": [{"x": [1, 2]}, …]}   ─▶  {"results": [[["no", 0.1], ["yes", 0.9]], …]}
    :regress   {"examples": [{"x": [1, 2]}, …]}   ─▶  {"results": [3, …]}

Inputs are the tensors of the graph, in its shapes; so are outputs, whose [batch, 1] is [0.93] a
row.  Where there is only one of them, its name may be left out, and is.  NaN and infinities of
floats are written as TensorFlow Serving does, which is no JSON: NaN, Infinity, -Infinity.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from service.errors import nearest
from service.signature import Input
from service.wire import body as bodies
from service.wire.body import Imputed, Notes, count, key, listing, refuse_unknown, show
from service.wire.dialect import Dialect, Reply
from service.wire.values import MISSING, Rows, expected_value, fits, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Head, Signature, Tensor
    from service.wire.dialect import Header, Reader

SIGNATURE = "serving_default"
"""The name of a model's only signature, which has all its inputs and heads."""

_DTYPES = {
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "float16": "DT_HALF",
    "bool": "DT_BOOL",
    "string": "DT_STRING",
}
_PREDICT_KEYS = ("instances", "inputs", "signature_name", "parameters")
_EXAMPLES_KEYS = ("examples", "context", "signature_name")
_EITHER = 'either "instances" (by row) or "inputs" (by column)'
_ZEROS: dict[str, Any] = {"string": "", "bool": False}
_BASE64 = 'text, or {"b64": …} with the base64 of UTF-8'


class _Constant(float):
    """NaN or an infinity that a body spells out, told apart from a number too large for any."""


_CONSTANTS = json.JSONDecoder(parse_constant=_Constant)


@dataclass(frozen=True)
class Request:
    """A decoded body: arrays by tensor, and how the answer is wanted."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    by_row: bool = True
    imputed: Sequence[Imputed] = ()


def signature_def(signature: Signature) -> dict[str, Any]:
    """What TensorFlow Serving calls a signature: tensors with their dtypes and shapes."""
    inputs = [tensor for entry in signature.inputs.values() for tensor in entry.tensors]
    outputs = [head.tensor for head in signature.heads.values()]
    return {
        "inputs": {tensor.name: _tensor_info(tensor) for tensor in inputs},
        "outputs": {tensor.name: _tensor_info(tensor) for tensor in outputs},
        "method_name": "tensorflow/serving/predict",
    }


def _tensor_info(tensor: Tensor) -> dict[str, Any]:
    axes = [{"size": str(-1 if axis is None else axis), "name": ""} for axis in tensor.shape]
    return {
        "dtype": _DTYPES.get(tensor.dtype, f"DT_{tensor.dtype.upper()}"),
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, *axes], "unknown_rank": False},
        "name": tensor.name,
    }


def _predict_reader(signature: Signature) -> Reader:
    tensors = _tensors(signature)
    needed = _needed(signature, signature.head_names)

    def read_body(body: bytes, header: Header) -> Request:
        del header
        said = _parse(body, 'an object with "instances" or "inputs"')
        notes = Notes()
        refuse_unknown(said, "key", _PREDICT_KEYS, "", notes)
        name = said.get("signature_name", "")
        if name not in ("", SIGNATURE):
            notes.add("signature_name", f"{show(SIGNATURE)}, or no such key", show(name))
        if said.get("parameters") not in (None, {}):
            # Vertex AI passes on what its caller gives; what has no effect is not to seem to.
            notes.add("parameters", "none, since there are none to set", show(said["parameters"]))
        by_row = "instances" in said
        arrays: dict[str, NDArray[Any]] = {}
        if by_row == ("inputs" in said):
            notes.add("body", _EITHER, "both" if by_row else "neither")
        else:
            collect = _instances if by_row else _columns
            spelled = _spells_constants(body)
            for tensor, rows in collect(said, tuple(tensors), needed, notes).items():
                found = _read(tensors[tensor], rows, notes, spelled=spelled)
                if tensor in needed:
                    arrays |= found
        notes.stop()
        return Request(arrays, signature.head_names, by_row)

    return read_body


def _tensors(signature: Signature) -> dict[str, Tensor]:
    """The graph's inputs, by name."""
    return {tensor.name: tensor for entry in signature.inputs.values() for tensor in entry.tensors}


def _needed(signature: Signature, heads: tuple[str, ...]) -> frozenset[str]:
    """The names of the graph's inputs that heads depend on."""
    entries = [signature.inputs[name] for name in signature.needed(heads)]
    return frozenset(tensor.name for entry in entries for tensor in entry.tensors)


def _parse(body: bytes, expected: str) -> dict[str, Any]:
    """A body's object, in which NaN and infinities that it spells out are `_Constant`s.

    Raises:
        BadRequest: there is none.
    """
    if not body.strip():
        raise bodies.wrong("body", f"JSON: {expected}", "no body")
    said = bodies.parse(body)
    if _spells_constants(body):
        said = _CONSTANTS.decode(body.decode())
    if not isinstance(said, dict):
        raise bodies.wrong("body", expected, show(said))
    return said


def _spells_constants(body: bytes) -> bool:
    """Whether there may be a `_Constant` in a body; the words may also stand in a text."""
    return b"NaN" in body or b"Infinity" in body


def _instances(
    said: dict[str, Any], names: tuple[str, ...], needed: frozenset[str], notes: Notes
) -> dict[str, Rows]:
    """By tensor, its rows: all of them where a head needs it, else those that are there."""
    instances = said["instances"]
    if not isinstance(instances, list) or not instances:
        notes.add("instances", "a list of at least one row", show(instances))
        return {}
    rows: list[tuple[int, dict[str, Any]]] = []
    bare: set[int] = set()
    for i, instance in enumerate(instances):
        if len(names) == 1 and (not isinstance(instance, dict) or _is_base64(instance)):
            bare.add(i)
            rows.append((i, {names[0]: instance}))
        elif isinstance(instance, dict):
            refuse_unknown(instance, "input", names, f"instances[{i}]", notes)
            rows.append((i, instance))
        else:
            expected = f"an object of inputs: {listing(names)}"
            notes.add(f"instances[{i}]", expected, show(instance))
    found = {}
    for name in names:
        chosen = [(i, row) for i, row in rows if name in needed or name in row]
        if chosen:
            values = [row.get(name, MISSING) for _, row in chosen]
            found[name] = Rows(values, _by_row([i for i, _ in chosen], bare, key(name)))
    return found


def _by_row(places: list[int], bare: set[int], step: str) -> Callable[[int], str]:
    return lambda i: f"instances[{places[i]}]" + ("" if places[i] in bare else step)


def _columns(
    said: dict[str, Any], names: tuple[str, ...], needed: frozenset[str], notes: Notes
) -> dict[str, Rows]:
    """By tensor, its rows; as many in each as in the first that is there."""
    columns = said["inputs"]
    bare = len(names) == 1 and not isinstance(columns, dict)
    if bare:
        columns = {names[0]: columns}
    if not isinstance(columns, dict) or not columns:
        notes.add("inputs", f"an object of inputs: {listing(names)}", show(columns))
        return {}
    refuse_unknown(columns, "input", names, "inputs", notes)
    found: dict[str, list[Any]] = {}
    paths = {name: "inputs" + ("" if bare else key(name)) for name in names}
    first, height = "", 0
    for name in names:
        column = columns.get(name, MISSING)
        if isinstance(column, list) and column:
            found[name] = column
            if not first:
                first, height = paths[name], len(column)
            elif len(column) != height:
                expected = f"{count(height, 'row')}, as {first} has"
                notes.add(paths[name], expected, count(len(column), "row"))
        elif column is not MISSING or name in needed:
            received = "nothing" if column is MISSING else show(column)
            notes.add(paths[name], "a list of at least one row", received)
    return {name: Rows(column, _by_column(paths[name])) for name, column in found.items()}


def _by_column(path: str) -> Callable[[int], str]:
    return lambda i: f"{path}[{i}]"


def _read(tensor: Tensor, rows: Rows, notes: Notes, *, spelled: bool) -> dict[str, NDArray[Any]]:
    """One tensor's rows as its array; once anything is wrong, what is returned means nothing."""
    values, rank = rows.values, len(tensor.shape)
    seen: list[Any] = []
    if tensor.dtype == "string":
        values = [_texts(value, rank, rows.at(i), notes) for i, value in enumerate(values)]
    elif spelled and tensor.dtype.startswith("float"):
        values = [_finite(value, rank, seen) for value in values]
    found = read(Input(tensor.name, "tensor", (tensor,)), Rows(values, rows.at), notes)
    for array in found.values():
        for i, value in enumerate(seen):
            if isinstance(value, _Constant):
                array.reshape(-1)[i] = value
    return found


def _finite(value: Any, depth: int, seen: list[Any]) -> Any:
    """A value with 0 in place of NaN and infinities; `seen` takes all there were."""
    if isinstance(value, list) and depth:
        return [_finite(part, depth - 1, seen) for part in value]
    seen.append(value)
    return 0.0 if isinstance(value, _Constant) else value


def _texts(value: Any, depth: int, at: str, notes: Notes) -> Any:
    """A value with texts in place of their base64."""
    if isinstance(value, list) and depth:
        return [_texts(part, depth - 1, f"{at}[{i}]", notes) for i, part in enumerate(value)]
    if not _is_base64(value):
        return value
    encoded = value["b64"]
    try:
        # TensorFlow Serving does without the padding.
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except UnicodeDecodeError:
        notes.add(at, _BASE64, "bytes that are not UTF-8")
    except ValueError:
        notes.add(f"{at}.b64", "base64", show(encoded))
    return ""


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


@dataclass(frozen=True)
class _Layout:
    """Where a tensor's values are in an example: under its own name, or one by one."""

    tensor: Tensor
    columns: tuple[tuple[str, ...], ...]
    """By column, the names of its only value there; none of a tensor without features."""

    @property
    def names(self) -> list[str]:
        """Of all that an example may have."""
        return [*(name for column in self.columns for name in column), self.tensor.name]


def _layouts(signature: Signature) -> list[_Layout]:
    """A feature is known by its name, or after its input's where something else has that name."""
    tensors = _tensors(signature)
    entries = signature.inputs.values()
    times = Counter([*tensors, *(f.name for entry in entries for f in entry.features)])
    columns: dict[str, list[tuple[str, ...]]] = {name: [] for name in tensors}
    for entry in entries:
        for feature in entry.features:
            name = feature.name if times[feature.name] == 1 else f"{entry.name}.{feature.name}"
            columns[feature.tensor].append((name,))
    layouts = []
    for name, tensor in tensors.items():
        named = columns[name]
        if tensor.size == 1:
            # A feature's value may be in a list or not, so this is the whole tensor, too.
            named = [tuple(dict.fromkeys((*(named[0] if named else ()), name)))]
        layouts.append(_Layout(tensor, tuple(named)))
    return layouts


def _examples_reader(what: str, fit: Callable[[Head], bool], signature: Signature) -> Reader:
    layouts = _layouts(signature)
    names = list(dict.fromkeys(name for layout in layouts for name in layout.names))
    heads = tuple(name for name, head in signature.heads.items() if fit(head))

    def read_body(body: bytes, header: Header) -> Request:
        del header
        said = _parse(body, 'an object with "examples"')
        notes = Notes()
        refuse_unknown(said, "key", _EXAMPLES_KEYS, "", notes)
        chosen = _choose(said.get("signature_name", ""), heads, what, notes)
        examples = _examples(said, names, notes)
        needed = _needed(signature, chosen)
        spelled = _spells_constants(body)
        arrays: dict[str, NDArray[Any]] = {}
        for layout in layouts:
            if examples and layout.tensor.name in needed:
                rows = [_row(layout, example, notes) for example in examples]
                places = Rows([row for row, _ in rows], [at for _, at in rows].__getitem__)
                arrays |= _read(layout.tensor, places, notes, spelled=spelled)
        notes.stop()
        return Request(arrays, chosen)

    return read_body


def _choose(name: Any, heads: tuple[str, ...], what: str, notes: Notes) -> tuple[str, ...]:
    """The head that is named, or the only one that fits."""
    if name in heads:
        return (name,)
    if name in ("", SIGNATURE) and len(heads) == 1:
        return heads
    if heads:
        close = nearest(name, heads) if isinstance(name, str) else ""
        expected = f"one of {listing(heads)}, the heads {what}{close}"
    else:
        expected = f"a head {what}, and there is none: ask :predict"
    notes.add("signature_name", expected, "nothing" if name == "" else show(name))
    return ()


class _Example(NamedTuple):
    """One example: by name, its values and their paths; and its own path."""

    features: dict[str, tuple[Any, str]]
    at: str


def _examples(said: dict[str, Any], names: Sequence[str], notes: Notes) -> list[_Example]:
    """Every example, with what the context has for all of them."""
    context = _features(said.get("context", {}), names, "context", notes) or {}
    examples = said.get("examples", MISSING)
    if not isinstance(examples, list) or not examples:
        received = "nothing" if examples is MISSING else show(examples)
        notes.add("examples", "a list of at least one example", received)
        return []
    found = []
    for i, example in enumerate(examples):
        at = f"examples[{i}]"
        features = _features(example, names, at, notes)
        if features is None:
            continue  # no example, so nothing of it can be missing either
        for name, (_, place) in features.items():
            if name in context:
                notes.add(place, 'what "context" does not have', "it again")
        found.append(_Example({**context, **features}, at))
    return found


def _features(
    given: Any, names: Sequence[str], at: str, notes: Notes
) -> dict[str, tuple[Any, str]] | None:
    """By name, a value and its path; `None` where it is no object of them."""
    if not isinstance(given, dict):
        notes.add(at, f"an object of features: {listing(names)}", show(given))
        return None
    refuse_unknown(given, "feature", names, at, notes)
    return {name: (value, at + key(name)) for name, value in given.items()}


def _row(layout: _Layout, example: _Example, notes: Notes) -> tuple[Any, str]:
    """One example's row of a tensor, and its path."""
    tensor, given = layout.tensor, example.features
    if tensor.size != 1 and (tensor.name in given or not layout.columns):
        value, at = given.get(tensor.name, (MISSING, example.at + key(tensor.name)))
        if features := [name for column in layout.columns for name in column if name in given]:
            notes.add(at, f"either it or {listing(features)}", "both")
        return value, at
    values = [_value(column, tensor.dtype, example, notes) for column in layout.columns]
    return values if tensor.shape else values[0], example.at


def _value(names: tuple[str, ...], dtype: str, example: _Example, notes: Notes) -> Any:
    """The only value under one of a few names, in a list or not."""
    given = [name for name in names if name in example.features]
    value, at = MISSING, example.at + key(names[0])
    if given:
        value, at = example.features[given[0]]
    if len(given) > 1:
        notes.add(at, f"either it or {listing(given[1:])}", "both")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if dtype == "string":
        value = _texts(value, 0, at, notes)
    if fits(value, dtype) or (isinstance(value, _Constant) and dtype.startswith("float")):
        return value
    notes.add(at, expected_value(dtype, value), "nothing" if value is MISSING else show(value))
    return _ZEROS.get(dtype, 0)


def _classifies(head: Head) -> bool:
    # The only value of a binary head stands for both labels where it is a probability, and nothing
    # else is compared with a number between 0 and 1.
    return head.labels is not None and (head.kind != "binary" or 0 < head.cutoff < 1)


def _regresses(head: Head) -> bool:
    number = head.tensor.size == 1 and head.tensor.dtype not in ("bool", "string")
    return number and head.kind in ("regression", "tensor")


def _encode_predictions(
    asked: Request,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    del name, version, signature
    values = {head: _values(head, outputs[head]) for head in asked.heads}
    said: Any = values
    if len(values) == 1:
        said = values[asked.heads[0]]
    elif asked.by_row:
        rows = zip(*values.values(), strict=True)
        said = [dict(zip(values, row, strict=True)) for row in rows]
    return _reply({"predictions" if asked.by_row else "outputs": said})


def _encode_classes(
    asked: Request,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    del name, version
    head = signature.heads[asked.heads[0]]
    scores = outputs[head.name].reshape(len(outputs[head.name]), -1)
    if head.kind == "binary":
        scores = np.concatenate((1 - scores, scores), axis=1)
    labels = head.labels or ()
    rows = _values(head.name, _floats(scores))
    return _reply({"results": [list(zip(labels, row, strict=True)) for row in rows]})


def _encode_numbers(
    asked: Request,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    del name, version, signature
    numbers = outputs[asked.heads[0]].reshape(-1)
    return _reply({"results": _values(asked.heads[0], _floats(numbers))})


def _floats(array: NDArray[Any]) -> NDArray[Any]:
    """Scores and regressions are floats to whoever reads them."""
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _values(name: str, array: NDArray[Any]) -> Any:
    """An output as JSON has it, a list or what is written as one."""
    if array.dtype == object:
        texts = array.tolist()
        return _as_base64(texts) if name.endswith("_bytes") else texts
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [_with_words(part) for part in array]
    # Slices of a Fortran-ordered or strided output are not contiguous, and orjson takes no other.
    return np.ascontiguousarray(array)


def _as_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_base64(part) for part in value]
    return {"b64": base64.b64encode(value.encode()).decode()}


def _with_words(value: Any) -> Any:
    """Numbers that JSON has, and words for those that it has not."""
    if np.ndim(value):
        return [_with_words(part) for part in value]
    if np.isfinite(value):
        return value
    return orjson.Fragment("NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity")


def _reply(said: dict[str, Any]) -> Reply:
    return Reply(orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY))


def _refusal(error: RequestError) -> Reply:
    return Reply(orjson.dumps({"error": str(error)}))


PREDICT = Dialect("tfserving", (), _predict_reader, _encode_predictions, _refusal)
"""`:predict`; a body's content type says nothing, since curl's own is that of a form."""

CLASSIFY = replace(
    PREDICT,
    reader=partial(_examples_reader, "with labels and a score for each", _classifies),
    encode=_encode_classes,
)
"""`:classify`: the labels of a head, each with its score."""

REGRESS = replace(
    PREDICT,
    reader=partial(_examples_reader, "of one number a row", _regresses),
    encode=_encode_numbers,
)
"""`:regress`: a head's number."""
