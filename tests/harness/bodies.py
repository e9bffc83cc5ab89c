"""Right and mutated bodies of every dialect and form, from a seeded random generator.

    a signature ─ rows ─▶ every form of every dialect ─▶ Body ─ mutate ─▶ Body

Right bodies are mutated as JSON (a value of another kind, an extra key, a list in a list) and as
bytes (a flipped bit, a repeated piece, half of another body), since readers can fail on either.
Messages of gRPC are mutated by their fields, in place of JSON.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.errors import BadRequest
from service.wire.oip.request import DATATYPES
from service.wire.protobuf import DELIMITED, as_varint, delimited, fields
from service.wire.tensors import by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from service.signature import Signature, Tensor

LENGTH = "Inference-Header-Content-Length"
FORMS = (
    *("native", "oip", "predict", "classify", "regress", "mlflow"),
    *("oip_grpc", "tfserving_grpc"),
)
_LARGEST = 1 << 17


class Body(NamedTuple):
    """A prediction request: its form, its model, its headers and its bytes."""

    form: str
    model: str
    headers: tuple[tuple[str, str], ...]
    content: bytes

    def header(self, name: str) -> str:
        """Return the value of a header, like `dialect.Header`."""
        return dict(self.headers).get(name, "")


def pack(body: Body) -> bytes:
    """Return a body as a corpus file: form and model, headers, an empty line, the bytes."""
    lines = [f"{body.form} {body.model}", *(f"{name}: {value}" for name, value in body.headers)]
    return "\n".join([*lines, "", ""]).encode() + body.content


def unpack(text: bytes) -> Body:
    """Return the body in a corpus file."""
    head, _, content = text.partition(b"\n\n")
    first, *lines = head.decode().split("\n")
    form, model = first.split(" ")
    headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    return Body(form, model, headers, content)


# Right bodies.


def every(name: str, signature: Signature, random: Random) -> Iterator[tuple[str, Body]]:
    """Yield a right body in each form that a model accepts, with the name of the form."""
    rows = signature.batch or random.choice((1, 1, 2, 5))
    tensors = by_name(signature)
    arrays = {key: _rows(tensor, rows, random) for key, tensor in tensors.items()}
    inputs = _inputs(signature, arrays, rows)
    records = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    heads = random.sample(signature.head_names, random.randint(1, len(signature.heads)))
    forms: dict[str, Any] = {
        "native-rows": {"instances": records},
        "native-columns": {"inputs": inputs},
        "native-tables": {"inputs": _by_feature(signature, inputs)},
        "native-heads": {"instances": records, "heads": heads},
        "predict-rows": {"instances": _listed(arrays)},
        "predict-columns": {"inputs": arrays},
        "mlflow-instances": {"instances": records},
        "mlflow-inputs": {"inputs": inputs},
        "mlflow-records": {"dataframe_records": [_flat(record) for record in records]},
        "mlflow-split": {
            "dataframe_split": {
                "columns": list(_flat(records[0])),
                "data": [list(_flat(record).values()) for record in records],
            }
        },
    }
    if len(inputs) == 1:
        (alone,) = inputs.values()
        forms |= {"native-bare": {"instances": alone}, "mlflow-bare": {"inputs": alone}}
    for verb, kinds in (
        ("classify", ("binary", "multiclass", "multilabel")),
        ("regress", ("regression", "tensor")),
    ):
        for head in signature.heads.values():
            if head.kind in kinds:
                forms[verb] = {"signature_name": head.name, "examples": _listed(arrays)}
    for called, said in forms.items():
        form = called.partition("-")[0]
        yield called, Body(form, name, (), json.dumps(said).encode())
    yield from ((f"oip-{k}", body) for k, body in _oip(name, tensors, arrays, heads, random))
    yield "mlflow-csv", Body("mlflow", name, (("Content-Type", "text/csv"),), _csv(records))
    yield from (
        (called, Body(called.partition("-")[0], name, (), content))
        for called, content in _messages(tensors, arrays, heads)
    )


def _messages(
    tensors: dict[str, Tensor], arrays: dict[str, list[Any]], heads: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield a message of each form of the gRPC protocols."""
    from tests.harness import grpc_messages

    rows = {
        key: np.array(arrays[key], object if tensor.dtype == "string" else tensor.dtype)
        for key, tensor in tensors.items()
    }
    outputs = [{"name": head} for head in heads]
    has_field = all(tensor.dtype != "float16" for tensor in tensors.values())
    for called in ("raw", "typed") if has_field else ("raw",):
        request = grpc_messages.infer(rows, raw=called == "raw", id="x", outputs=outputs)
        yield f"oip_grpc-{called}", request.SerializeToString()
    for called in ("content", "values"):
        predict = grpc_messages.predict(rows, content=called == "content")
        predict.output_filter.extend(heads)
        yield f"tfserving_grpc-{called}", predict.SerializeToString(deterministic=True)


def _rows(tensor: Tensor, rows: int, random: Random) -> list[Any]:
    shape = [axis if axis is not None else random.randint(1, 3) for axis in tensor.shape]
    return [_nested(shape, lambda: _value(tensor.dtype, random)) for _ in range(rows)]


def _nested(shape: Sequence[int], value: Callable[[], Any]) -> Any:
    return [_nested(shape[1:], value) for _ in range(shape[0])] if shape else value()


def _value(dtype: str, random: Random) -> Any:
    if dtype == "string":
        return random.choice(("yes", "no", "", "größe", 'say "x"', "\x00", "x" * 50))
    if dtype == "bool":
        return random.random() < 0.5
    if dtype.startswith("float"):
        return random.choice((0.0, 1, -2.5, round(random.uniform(-60, 60), 3)))
    return random.choice((0, 1, 2, 127, *((-1, -128) if dtype.startswith("i") else (255,)))[:5])


def _inputs(signature: Signature, arrays: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return the rows of each input; tabular rows are objects."""
    found: dict[str, Any] = {}
    for name, entry in signature.inputs.items():
        found[name] = arrays.get(name)
        if entry.features:
            found[name] = [
                {f.name: arrays[f.tensor][i][f.column] for f in entry.features} for i in range(rows)
            ]
    return found


def _by_feature(signature: Signature, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs with each table as an object of its columns."""
    return {
        name: {f.name: [row[f.name] for row in rows] for f in signature.inputs[name].features}
        or rows
        for name, rows in inputs.items()
    }


def _listed(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row in a table of all inputs."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= {f"{name}.{feature}": cell for feature, cell in value.items()}
        else:
            found[name] = value
    return found


def _csv(records: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    rows = [_flat(record) for record in records]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in row.items()}
        )
    return text.getvalue().encode()


def _oip(
    name: str,
    tensors: dict[str, Tensor],
    arrays: dict[str, list[Any]],
    heads: list[str],
    random: Random,
) -> Iterator[tuple[str, Body]]:
    outputs = [{"name": head} for head in heads]
    for called in ("flat", "nested", "binary", "mixed"):
        inputs: list[dict[str, Any]] = []
        tail = b""
        for key, tensor in tensors.items():
            shape = _shape(arrays[key], len(tensor.shape) + 1)
            entry = {"name": key, "datatype": DATATYPES[tensor.dtype], "shape": shape}
            inputs.append(entry)
            values = list(_leaves(arrays[key]))
            if called == "binary" or (called == "mixed" and random.getrandbits(1)):
                raw = _raw(values, tensor.dtype)
                tail += raw
                entry["parameters"] = {"binary_data_size": len(raw)}
            else:
                entry["data"] = arrays[key] if called == "nested" else values
        said: dict[str, Any] = {"id": "x", "inputs": inputs}
        if called == "nested":
            said["outputs"] = [
                {"name": head, "parameters": {"classification": 2}} for head in heads
            ]
        elif called != "flat":
            said["parameters"] = {"binary_data_output": True, "timeout": 10**6}
            if called == "mixed":
                said["outputs"] = outputs
        head = json.dumps(said).encode()
        headers = ((LENGTH, str(len(head))),) if called in ("binary", "mixed") else ()
        yield called, Body("oip", name, headers, head + tail)
    if len(tensors) == 1:
        (tensor,) = tensors.values()
        raw = _raw(list(_leaves(arrays[tensor.name][0])), tensor.dtype)
        yield "alone", Body("oip", name, ((LENGTH, "0"),), raw)


def _shape(value: Any, axes: int) -> list[int]:
    shape = []
    for _ in range(axes):
        shape.append(len(value))
        value = value[0] if value else []
    return shape


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _raw(values: list[Any], dtype: str) -> bytes:
    if dtype == "string":
        texts = [value.encode() for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.array(values).astype(dtype).tobytes()


# Wrong ones.

_WORDS = (
    *("instances", "inputs", "heads", "outputs", "name", "shape", "datatype", "data", "id"),
    *("parameters", "binary_data_size", "binary_data", "binary_data_output", "classification"),
    *("timeout", "priority", "model_name", "headers", "triton_x", "shared_memory_region"),
    *("signature_name", "examples", "context", "b64", "params", "index", "columns"),
    *("dataframe_split", "dataframe_records", "instance", "x.0", "0", "1", "-1", ".", ""),
)
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 1.5, 2.0, -0.0, 1e39, 1e308, 65504, 65520, 0.1),
    *(math.nan, math.inf, -math.inf, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63)),
    *(-(2**63) - 1, 10**19, 10**400, 10**4299, 10**4300, "", "x", "1", "NaN", "null", "yes", "no"),
    *("\ud800", "é", "\U0001f40d", "\x00", "\n", "x" * 300, "BYTES", "FP32", "INT64", "BOOL"),
    *([], {}, [[]], [1, 2], [[1, 2], []], [None], [[[[1]]]], [1, [2]], {"b64": "eA=="}),
    *({"b64": "!"}, {"b64": 1}, {"b64": "/w=="}, {"b64": "eA=="}, {"x": 1}, [{}], [[{}]]),
)
_TOKENS = (
    *(b"1e400", b"-1e400", b"1e-400", b"NaN", b"-Infinity", b"nan", b"-0", b"01", b"1.", b".5"),
    *(b"+1", b"1E5", b"0x1", b"1_000", b"9" * 25, b"9" * 4400, b"0." + b"3" * 500, b"true"),
    *(b"null", b"\\u0000", b"\\ud800", b"\\ud83d\\udc0d", b"\\x", b"\\", b"\xff", b"\x00", b"\x1f"),
    *(b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x0b"),
    *(b"[", b"]", b"{", b"}", b"[]", b"{}", b",", b":", b'"', b'""', b"'", b"/**/", b"#", b";"),
    *(b"\r\n", b"\r", b"\n\n", b"\t", b" ", b"[" * 300, b'{"x":' * 300, b"[[],", b",,", b'"":0,'),
)
_LENGTHS = ("", "0", "-1", "+1", "1.0", "1e2", "9" * 30, "٣", " 1", "1 ", "0x10", "007", "²")
_TYPES = ("", "text/csv", "application/json", "text/csv; header=1", "application/octet-stream")


def mutate(body: Body, others: Sequence[Body], random: Random) -> Body:
    """Return a body with a few mutations, which may still be right."""
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        how = random.random()
        if body.form.endswith("_grpc"):
            other = random.choice(others).content
            way = _as_message if how < 0.6 else _as_bytes
            body = body._replace(content=way(body.content, other, random))
        elif how < 0.55:
            body = _as_json(body, random)
        elif how < 0.95:
            other = random.choice(others).content
            body = body._replace(content=_as_bytes(body.content, other, random))
        else:
            body = body._replace(headers=_headers(body, random))
    return body._replace(content=body.content[:_LARGEST])


def _headers(body: Body, random: Random) -> tuple[tuple[str, str], ...]:
    """Return changed headers; most often a length that is slightly wrong."""
    found = dict(body.headers)
    if body.form == "oip":
        said = body.header(LENGTH)
        near = str(int(said) + random.randint(-2, 2)) if said.isascii() and said.isdigit() else "1"
        found[LENGTH] = random.choice((near, near, str(len(body.content)), *_LENGTHS))
    else:
        found["Content-Type"] = random.choice(_TYPES)
    return tuple(found.items())


def _as_json(body: Body, random: Random) -> Body:
    """Return a body with changed JSON; a body without JSON stays the same."""
    said = body.header(LENGTH)
    split = body.form == "oip" and said.isascii() and said.isdigit()
    end = int(said) if split and len(said) < 10 else len(body.content)
    try:
        value = json.loads(body.content[:end])
    except (ValueError, RecursionError):
        return body
    holder = [value]
    if body.form == "oip" and random.random() < 0.2:
        _announce(value, random)
    else:
        _change(holder, random)
    indent, separators = random.choice(((None, (",", ":")), (None, None), (1, None)))
    try:
        text = json.dumps(
            holder[0],
            ensure_ascii=bool(random.getrandbits(1)),
            indent=indent,
            separators=separators,
        )
    except (ValueError, RecursionError):  # a number with more digits than Python converts
        return body
    head = text.encode(errors="surrogatepass")
    if random.random() < 0.05:
        head = _twice(head, random)
    content = head + body.content[end:]
    if split and end != 0:
        return body._replace(headers=((LENGTH, str(len(head))),), content=content)
    return body._replace(content=content)


def _twice(text: bytes, random: Random) -> bytes:
    """Return JSON with a repeated key in an object."""
    places = [i for i, byte in enumerate(text) if byte == ord("{")]
    keys = text.split(b'"')[1::2]
    if not places or not keys:
        return text
    at = random.choice(places) + 1
    return text[:at] + b'"' + random.choice(keys) + b'":0,' + text[at:]


def _change(holder: list[Any], random: Random) -> None:
    """Change one place in a value."""
    parent: Any = holder
    step: Any = 0
    while isinstance(parent[step], (dict, list)) and parent[step] and random.random() < 0.8:
        parent = parent[step]
        steps = list(parent) if isinstance(parent, dict) else range(len(parent))
        step = random.choice(steps)
    value = parent[step]
    how = random.randrange(10)
    if how <= 2:
        parent[step] = _other(value, random)
    elif how == 3 and parent is not holder:
        del parent[step]
    elif how == 4:
        parent[step] = [value]
    elif how == 5 and isinstance(value, list) and value:
        parent[step] = random.choice((value[0], value[:-1], [*value, value[0]], value[::-1]))
    elif how == 6 and isinstance(value, dict):
        value[random.choice(_WORDS)] = random.choice((*_ODD, *value.values()))
    elif how == 7 and isinstance(parent, dict):
        name = random.choice(
            (*_WORDS, f"{step}x", step[:-1], step.upper(), step.rpartition(".")[2])
        )
        parent[name] = parent.pop(step)
    elif how == 8 and isinstance(value, list) and value:
        parent[step] = value * random.choice((2, 2, 3, 300))
    elif isinstance(value, str):
        parent[step] = {"b64": base64.b64encode(value.encode(errors="replace")).decode()}
    else:
        parent[step] = _other(value, random)


_AXES = (0, 0, 0, 1, 1, 2, 3, 4, 300, 2**16, 2**31, 2**40, 2**62, 2**63 - 1, 2**63)


def _announce(said: Any, random: Random) -> None:
    """Change the shapes of an OIP request, with or without the right number of values."""
    inputs = said.get("inputs") if isinstance(said, dict) else None
    for entry in inputs if isinstance(inputs, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("shape"), list):
            continue
        shape = [random.choice((axis, random.choice(_AXES))) for axis in entry["shape"]]
        # The mutations before may have left values of any type; bool is a subclass of int.
        size = math.prod(shape) if all(type(axis) is int for axis in shape) else 0
        entry["shape"] = shape
        values = list(_leaves(entry.get("data", [])))
        if "data" in entry:
            few = 0 <= size < 1000 and values
            entry["data"] = (values * size)[:size] if few else []
        else:
            entry["parameters"] = {"binary_data_size": size * random.choice((0, 1, 2, 4, 8))}


def _other(value: Any, random: Random) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and random.getrandbits(1):
        return random.choice((value + 1, -value, float(value) if abs(value) < 1e9 else 0, 0, 1, 2))
    return random.choice(_ODD)


_SIZES = (
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    127,
    128,
    300,
    2**14,
    2**21,
    2**31 - 1,
    2**31,
    2**32,
    2**63,
    2**64 - 1,
)
_TAGS = (0, *(number << 3 | kind for number in (*range(1, 19), 2**29 - 1) for kind in range(8)))


def _as_message(content: bytes, other: bytes, random: Random) -> bytes:
    """Return a message with a changed field, at any depth."""
    try:
        each = list(fields(content, 0, len(content)))
    except BadRequest:
        return _as_bytes(content, other, random)
    if not each:
        return content
    tag, begin, start, stop = random.choice(each)
    before, inner, after = content[:begin], content[start:stop], content[stop:]
    if tag & 7 == DELIMITED and inner and random.random() < 0.6:
        # Its lengths are still right, so that what is in it is read.
        return before + delimited(tag >> 3, _as_message(inner, other, random)) + after
    whole = content[begin:stop]
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: before + after,
        lambda: before + whole * random.choice((2, 2, 3, 300)) + after,
        lambda: after + whole + before,
        lambda: before + as_varint(random.choice(_TAGS)) + content[start:],
        lambda: before + as_varint(tag) + as_varint(random.choice(_SIZES)) + inner + after,
        lambda: before + as_varint(random.choice(_TAGS)) + as_varint(len(inner)) + inner + after,
        lambda: before + delimited(tag >> 3, inner * random.choice((2, 3, 1000))) + after,
        lambda: before + delimited(tag >> 3, _as_bytes(inner, other, random)) + after,
        lambda: before + as_varint(tag & ~7) + as_varint(random.choice(_SIZES)) + after,
        lambda: before + whole + as_varint(random.choice(_TAGS)) + as_varint(1) + b"x" + after,
    )
    return random.choice(ways)()


def _as_bytes(content: bytes, other: bytes, random: Random) -> bytes:
    """Return slightly changed bytes."""
    at = random.randrange(len(content) + 1)
    end = min(len(content), at + random.choice((1, 1, 2, 4, 16, 64)))
    before, after = content[:at], content[end:]
    piece = content[at:end]
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: before + bytes([random.randrange(256)]) + content[at + 1 :],
        lambda: before + random.choice(_TOKENS) + content[at:],
        lambda: before + random.choice(_TOKENS) + after,
        lambda: before + after,
        lambda: content[:end] + content[at:],
        lambda: before,
        lambda: before + other[random.randrange(len(other) + 1) :],
        lambda: before + piece * random.choice((3, 100, 1000)) + after,
        lambda: before + bytes(byte ^ 1 << random.randrange(8) for byte in piece[:1]) + after,
    )
    return random.choice(ways)()
