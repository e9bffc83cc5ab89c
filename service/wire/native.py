"""Triceps' own JSON: all inputs in, the heads asked for out, by row or by column.

    {"instances": [{"insurance": {"age": 47}, "digit": […]}, …], "heads": ["o1"]}
        ─▶  {"predictions": [{"o1": {"value": 0.93, "label": "yes"}}, …]}
    {"inputs": {"insurance": [[47], …], "digit": [[…], …]}}
        ─▶  {"outputs": {"o1": [0.93, …]}, "labels": {"o1": ["yes", …]}}

A row's missing values take the defaults that the signature records, and the answer says which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from service.errors import BadRequest, RequestError, nearest
from service.wire import body as bodies
from service.wire.body import Imputed, Notes, count, key, listing, refuse_unknown, show
from service.wire.dialect import Dialect, Reply
from service.wire.labels import labels_of
from service.wire.values import MISSING, Rows, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Head, Signature
    from service.wire.dialect import Header, Reader

_KEYS = ("instances", "inputs", "heads")


class Request(NamedTuple):
    """A decoded body: arrays by tensor, and how the answer is wanted."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    by_row: bool
    imputed: Sequence[Imputed]


def decode(body: bytes, signature: Signature) -> Request:
    """The arrays that a body holds, [rows, …] in the graph's dtypes, by tensor.

    Raises:
        BadRequest: with everything that is wrong with the body.
    """
    return interpret(bodies.parse(body), signature)


def interpret(said: Any, signature: Signature) -> Request:
    """As `decode`, of a body that is parsed already."""
    if not isinstance(said, dict):
        raise bodies.wrong("body", 'an object with "instances" or "inputs"', show(said))
    notes = Notes()
    refuse_unknown(said, "key", _KEYS, "", notes)
    heads = _read_heads(said.get("heads", MISSING), signature, notes)
    by_row = "instances" in said
    arrays: dict[str, NDArray[Any]] = {}
    if by_row == ("inputs" in said):
        received = "both" if by_row else "neither"
        notes.add("body", 'either "instances" (by row) or "inputs" (by column)', received)
    else:
        collect = _instances if by_row else _columns
        needed = {name for head in heads for name in signature.heads[head].inputs}
        for name, rows in collect(said, signature, needed, notes).items():
            imputed = len(notes.imputed)
            found = read(signature.inputs[name], rows, notes)
            if name in needed:
                arrays |= found
            else:
                # Nothing depends on it: it was only checked.
                del notes.imputed[imputed:]
    notes.stop()
    return Request(arrays, heads, by_row, notes.imputed)


def _read_heads(asked: Any, signature: Signature, notes: Notes) -> tuple[str, ...]:
    every = tuple(signature.heads)
    if asked is MISSING:
        return every
    if not isinstance(asked, list) or not asked:
        notes.add("heads", f"a list of some of {listing(every)}, or no such key", show(asked))
        return ()
    heads: list[str] = []
    for i, name in enumerate(asked):
        if not isinstance(name, str) or name not in signature.heads:
            close = nearest(name, every) if isinstance(name, str) and not notes.full else ""
            notes.add(f"heads[{i}]", f"one of {listing(every)}{close}", show(name))
        elif name in heads:
            notes.add(f"heads[{i}]", "each head once", f"{show(name)} again")
        else:
            heads.append(name)
    return tuple(heads)


def _instances(
    said: dict[str, Any], signature: Signature, needed: set[str], notes: Notes
) -> dict[str, Rows]:
    """By input, its rows: all of them where a head needs it, else those that are there."""
    instances = said["instances"]
    if not isinstance(instances, list) or not instances:
        notes.add("instances", "a list of at least one row", show(instances))
        return {}
    names = tuple(signature.inputs)
    rows: list[dict[str, Any]] = []
    bare: list[bool] = []
    for i, instance in enumerate(instances):
        bare.append(_is_bare(instance, signature))
        if bare[i]:
            rows.append({names[0]: instance})
        elif isinstance(instance, dict):
            rows.append(instance)
            refuse_unknown(instance, "input", names, f"instances[{i}]", notes)
        else:
            # No row, so nothing of it can be missing either.
            rows.append({})
            expected = f"an object of inputs: {listing(names)}"
            notes.add(f"instances[{i}]", expected, show(instance))

    def path(i: int, name: str) -> str:
        return f"instances[{i}]" + ("" if bare[i] else key(name))

    found = {}
    for name in names:
        chosen = [
            i
            for i, row in enumerate(rows)
            if name in row or (name in needed and isinstance(instances[i], dict))
        ]
        if chosen:
            values = [rows[i].get(name, MISSING) for i in chosen]
            found[name] = Rows(values, [path(i, name) for i in chosen].__getitem__)
    return found


def _is_bare(instance: Any, signature: Signature) -> bool:
    """Whether a row of a single-input model is that input's value, without its name."""
    if len(signature.inputs) != 1:
        return False
    entry = next(iter(signature.inputs.values()))
    if not isinstance(instance, dict):
        return True
    if entry.name in instance:
        # A feature may have its input's name; what is no row of the input is that feature's value.
        feature = any(feature.name == entry.name for feature in entry.features)
        return feature and not isinstance(instance[entry.name], (dict, list))
    return bool(entry.features and instance)


def _columns(
    said: dict[str, Any], signature: Signature, needed: set[str], notes: Notes
) -> dict[str, Rows]:
    """By input, its rows; as many in each as in the first that is there."""
    columns = said["inputs"]
    names = tuple(signature.inputs)
    bare = len(names) == 1 and isinstance(columns, list)
    if bare:
        columns = {names[0]: columns}
    if not isinstance(columns, dict) or not columns:
        notes.add("inputs", f"an object of inputs: {listing(names)}", show(columns))
        return {}
    refuse_unknown(columns, "input", names, "inputs", notes)
    paths = {name: "inputs" + ("" if bare else key(name)) for name in names}
    rows: dict[str, list[Any]] = {}
    for name in names:
        column = columns.get(name, MISSING)
        if isinstance(column, list) and column:
            rows[name] = column
        elif column is not MISSING:
            notes.add(paths[name], "a list of at least one row", show(column))
    first, height = next(((name, len(column)) for name, column in rows.items()), ("", 0))
    for name, column in rows.items():
        if len(column) != height:
            expected = f"{count(height, 'row')}, as {paths[first]} has"
            notes.add(paths[name], expected, count(len(column), "row"))
    for name in names:
        if name in needed and name not in columns:
            features = signature.inputs[name].features
            if not features or any(feature.default is None for feature in features):
                wanted = count(height, "row") if height else "a list of rows"
                notes.add(paths[name], f"{wanted}, since it has no default", "nothing")
            elif height:
                rows[name] = [MISSING] * height
    return {name: Rows(rows[name], _indexed(paths[name])) for name in names if name in rows}


def _indexed(path: str) -> Callable[[int], str]:
    return lambda i: f"{path}[{i}]"


def encode(
    request: Request,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> bytes:
    """The answer: `outputs` in the form that `request` came in.

    Args:
        request: what was asked.
        name: of the model or view that answers.
        version: of that model.
        signature: its signature.
        outputs: by head, [rows, …].
    """
    answer: dict[str, Any] = {"model": name, "version": version}
    if request.by_row:
        answer["predictions"] = predictions(request.heads, signature, outputs)
    else:
        values, labels = _answers(request.heads, signature, outputs)
        answer["outputs"] = values
        if labels:
            answer["labels"] = labels
    if request.imputed:
        answer["imputed"] = [vars(entry) for entry in request.imputed]
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_error(error: RequestError) -> bytes:
    """What is wrong with a request, all of it."""
    said: dict[str, Any] = {"error": str(error)}
    if isinstance(error, BadRequest):
        said["problems"] = [vars(problem) for problem in error.problems]
        said["count"] = error.count
    return orjson.dumps(said)


def predictions(
    heads: Sequence[str], signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> list[dict[str, dict[str, Any]]]:
    """A row's answer each: by head its value, and its label where the head has labels."""
    values, labels = _answers(heads, signature, outputs)
    return [
        {
            head: {"value": values[head][i], "label": labels[head][i]}
            if head in labels
            else {"value": values[head][i]}
            for head in heads
        }
        for i in range(len(values[heads[0]]))
    ]


def _answers(
    heads: Sequence[str], signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Values and labels by head."""
    chosen = [signature.heads[name] for name in heads]
    values = {head.name: _values(head, outputs[head.name]) for head in chosen}
    labelled = [head for head in chosen if head.labels is not None]
    return values, {head.name: labels_of(head, outputs[head.name]) for head in labelled}


def _values(head: Head, output: NDArray[Any]) -> Any:
    """A head's output as JSON has it: a [rows, 1] head is a number a row."""
    if head.tensor.shape == (1,):
        output = output[:, 0]
    if output.dtype == object:
        return output.tolist()
    # Slices of a Fortran-ordered or strided output are not contiguous, and orjson takes no other.
    return np.ascontiguousarray(output)


def _reader(signature: Signature) -> Reader:
    def read_body(body: bytes, header: Header) -> Request:
        del header
        return decode(body, signature)

    return read_body


def _reply(
    asked: Request,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    return Reply(encode(asked, name, version, signature, outputs))


def _refusal(error: RequestError) -> Reply:
    return Reply(encode_error(error))


DIALECT = Dialect("native", ("application/json",), _reader, _reply, _refusal)
