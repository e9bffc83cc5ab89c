"""Triceps' own JSON: all inputs in, the heads asked for out, by row or by column.

    {"instances": [{"insurance": {"age": 47}, "digit": […]}, …], "heads": ["o1"]}
        ─▶  {"predictions": [{"o1": {"value": 0.93, "label": "yes"}}, …]}
    {"inputs": {"insurance": [[47], …], "digit": [[…], …]}}
        ─▶  {"outputs": {"o1": [0.93, …]}, "labels": {"o1": ["yes", …]}}

A graph that takes no rows is asked by `inputs` alone, for whole tensors in its own shapes:

    {"inputs": {"audio": [[…]], "rate": 16000}}  ─▶  {"outputs": {"speech": [[0.93]]}}

A row's missing values take the defaults that the signature records, and the answer says which.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import nearest
from service.wire import tensors
from service.wire.body import Notes, count, key, listing, parse_object, refuse_unknown, show
from service.wire.columns import EITHER, columns, instances
from service.wire.labels import labels_of
from service.wire.values import MISSING, Rows, read_inputs, read_tensor, shown
from service.wire.written import in_pieces, plain, problems, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Head, Signature
    from service.wire.body import Imputed

_KEYS = ("instances", "inputs", "heads")
# Past so many names for each head, they are not gone through.
_MOST_NAMED = 64


class Query(NamedTuple):
    """A decoded body: arrays by tensor, and how the answer is wanted."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    by_row: bool
    imputed: Sequence[Imputed]


def decode(body: bytes, signature: Signature) -> Query:
    """The arrays that a body holds, [rows, …] in the graph's dtypes, by tensor.

    Raises:
        BadRequest: with everything that is wrong with the body.
    """
    return interpret(parse_object(body, '"instances" or "inputs"'), signature)


def interpret(said: dict[str, Any], signature: Signature) -> Query:
    """As `decode`, of a body that is parsed already."""
    notes = Notes()
    refuse_unknown(said, "key", _KEYS, "", notes)
    heads = _read_heads(said.get("heads", MISSING), signature, notes)
    by_row = "instances" in said
    arrays: dict[str, NDArray[Any]] = {}
    if signature.tensor:
        arrays = _read_whole(said, signature, heads, notes)
    elif by_row == ("inputs" in said):
        notes.add("body", EITHER, "both" if by_row else "neither")
    else:
        names, needed = tuple(signature.inputs), signature.needed(heads)
        if by_row:
            bare = partial(_is_bare, signature)
            found = instances(said["instances"], names, needed, bare, notes)
        else:
            found = columns(said["inputs"], names, needed, partial(_wanted, signature), notes)
        arrays = read_inputs(signature.inputs, found, needed, notes)
    notes.stop()
    return Query(arrays, heads, by_row, notes.imputed)


def _read_whole(
    said: dict[str, Any], signature: Signature, heads: tuple[str, ...], notes: Notes
) -> dict[str, NDArray[Any]]:
    """The tensors in `inputs`, each in its graph's shape."""
    if "instances" in said:
        expected = f"{tensors.WHOLE}, since this model takes no rows: {signature.tensor}"
        notes.add("instances", expected, show(said["instances"]))
        return {}
    known, needed = tensors.by_name(signature), tensors.needed(signature, heads)
    given = said.get("inputs", MISSING)
    bare = len(known) == 1 and given is not MISSING and not isinstance(given, dict)
    if bare:
        given = dict.fromkeys(known, given)
    if not isinstance(given, dict):
        notes.add("inputs", f"an object of tensors: {listing(known)}", shown(given))
        return {}
    refuse_unknown(given, "input", known, "inputs", notes)
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in known.items():
        at = "inputs" + ("" if bare else key(name))
        if name not in given and name not in needed:
            continue
        # A tensor is all of one row in just that shape, with the same words for what is wrong.
        made = read_tensor(tensor, Rows([given.get(name, MISSING)], partial(_at, at)), notes)
        for rows in made.values():
            if 0 in rows.shape and 0 not in tensor.shape:
                notes.add(at, "at least one value along each axis", show(given[name]))
        if name in needed:
            # Its row, as an array even where that is one value.
            arrays |= {name: rows.reshape(rows.shape[1:]) for name, rows in made.items()}
    return arrays


def _at(path: str, _: int) -> str:
    return path


def _read_heads(asked: Any, signature: Signature, notes: Notes) -> tuple[str, ...]:
    every = tuple(signature.heads)
    if asked is MISSING:
        return every
    if not isinstance(asked, list) or not asked:
        notes.add("heads", f"a list of some of {listing(every)}, or no such key", show(asked))
        return ()
    if len(asked) > _MOST_NAMED * len(every):
        notes.add("heads", f"each head once: {listing(every)}", show(asked))
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


def _is_bare(signature: Signature, instance: Any) -> bool:
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


def _wanted(signature: Signature, name: str, height: int) -> str:
    """What belongs where an input has no column; nothing where all of it has defaults."""
    features = signature.inputs[name].features
    if features and all(feature.default is not None for feature in features):
        return ""
    return f"{count(height, 'row') if height else 'a list of rows'}, since it has no default"


def encode(
    request: Query,
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
        answer["predictions"] = in_pieces(predictions(request.heads, signature, outputs))
    else:
        values, labels = _answers(request.heads, signature, outputs)
        answer["outputs"] = {head: in_pieces(value) for head, value in values.items()}
        if labels:
            answer["labels"] = {head: in_pieces(value) for head, value in labels.items()}
    if request.imputed:
        answer["imputed"] = in_pieces(listed(request.imputed))
    return write(answer)


def listed(imputed: Sequence[Imputed]) -> list[dict[str, Any]]:
    """Missing values as an answer has them: where each is, and what stood in."""
    return [{"at": entry.at, "value": entry.value} for entry in imputed]


def encode_error(error: RequestError) -> bytes:
    """What is wrong with a request, all of it."""
    return write({"error": str(error), **problems(error)})


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
    of_head = _whole if signature.tensor else _values
    values = {head.name: of_head(head, outputs[head.name]) for head in chosen}
    labelled = [head for head in chosen if head.labels is not None]
    return values, {head.name: labels_of(head, outputs[head.name]) for head in labelled}


def _values(head: Head, output: NDArray[Any]) -> Any:
    """A head's output as JSON has it: a [rows, 1] head is a number a row."""
    if head.tensor.shape == (1,):
        output = output[:, 0]
    return plain(output)


def _whole(_: Head, output: NDArray[Any]) -> Any:
    """A whole tensor as JSON has it; one without axes is a bare value."""
    if output.ndim:
        return plain(output)
    return output.item() if output.dtype == object else output[()]
