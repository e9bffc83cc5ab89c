"""The reference reader and writer of Triceps' own JSON, by row or by column.

    {"instances": [{"insurance": {"age": 47}, "digit": […]}, …], "heads": ["o1"]}
        ─▶  {"predictions": [{"o1": {"value": 0.93, "label": "yes"}}, …]}
    {"inputs": {"insurance": [[47], …], "digit": [[…], …]}}
        ─▶  {"outputs": {"o1": [0.93, …]}, "labels": {"o1": ["yes", …]}}

A graph that takes no rows is used only by `inputs`, with whole tensors in its own shapes:

    {"inputs": {"audio": [[…]], "rate": 16000}}  ─▶  {"outputs": {"speech": [[0.93]]}}

A missing value is replaced by the default that the signature records, and the answer lists it.  It
lists texts that training never saw, too.  A request with `explain` is answered with explanations,
in each row or by column (`wire.explanations`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

from service.errors import nearest
from service.wire import explanations, tensors, unseen
from service.wire.body import Notes, key, listing, parse_object, refuse_unknown, show
from service.wire.columns import EITHER, instances
from service.wire.labels import labels_of
from service.wire.native import by_column
from service.wire.native.input_names import names_of
from service.wire.rows import MISSING, Rows, shown
from service.wire.tensor_rows import read_tensor
from service.wire.values import read_inputs
from service.wire.written import in_pieces, plain, problems, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Head, Signature
    from service.wire.body import Imputed, Unseen
    from service.wire.explanations import Explain, Explanations
    from service.wire.numbers import Arrays
    from service.wire.rows import Table

_KEYS = ("instances", "inputs", "heads", explanations.KEY)
# The names in `heads` for each head that exists; a longer list is refused unread.
_MOST_NAMED = 64

# Arrays by tensor, or the numbers that become arrays in the fast reader.
T_co = TypeVar("T_co", covariant=True)


class Query(NamedTuple, Generic[T_co]):
    """A decoded body: arrays by tensor, [rows, …], and the form of the answer."""

    arrays: T_co
    heads: tuple[str, ...]
    by_row: bool
    imputed: Sequence[Imputed]
    unseen: Sequence[Unseen] = ()
    explain: Explain | None = None
    explained: Explanations | None = None

    def with_explanations(self, explained: Explanations) -> Self:
        """Return the request with its explanations, for `encode`."""
        return self._replace(explained=explained)


def decode(body: bytes, signature: Signature) -> Query[Arrays]:
    """Decode a body to arrays by tensor, [rows, …] in the graph's dtypes.

    Raises:
        BadRequest: the body has mistakes; the error has all of them.
    """
    return interpret(parse_object(body, '"instances" or "inputs"'), signature)


def interpret(
    value: dict[str, Any], signature: Signature, notes: Notes | None = None
) -> Query[Arrays]:
    """Decode a parsed body, as `decode` does; `notes` are new ones by default."""
    notes = Notes() if notes is None else notes
    refuse_unknown(value, "key", _KEYS, "", notes)
    heads = _read_heads(value.get("heads", MISSING), signature, notes)
    by_row = "instances" in value
    explain = explanations.read(value.get(explanations.KEY, MISSING), heads, signature, notes)
    if explain is not None and by_row and explanations.ANSWER_KEY in heads:
        expected = 'rows by column, as "inputs", since a head has the name of the explanations'
        notes.add("instances", expected, show(value["instances"]))
    arrays: dict[str, NDArray[Any]] = {}
    if signature.tensor:
        arrays = _read_whole(value, signature, heads, notes)
    elif by_row == ("inputs" in value):
        notes.add("body", EITHER, "both" if by_row else "neither")
    else:
        needed = signature.needed(heads)
        names = names_of(signature, needed)
        rows: Mapping[str, Rows | Table]
        if by_row:
            bare = partial(is_bare, signature)
            rows = instances(value["instances"], names, bare, notes)
        else:
            rows = by_column.read(value["inputs"], signature, names, notes)
        arrays = read_inputs(signature.inputs, rows, needed, notes)
    notes.stop()
    return Query(arrays, heads, by_row, notes.imputed, notes.unseen, explain)


def _read_whole(
    value: dict[str, Any], signature: Signature, heads: tuple[str, ...], notes: Notes
) -> dict[str, NDArray[Any]]:
    """Return the tensors in `inputs`, each in its shape in the graph."""
    if "instances" in value:
        expected = f"{tensors.WHOLE}, since this model takes no rows: {signature.tensor}"
        notes.add("instances", expected, show(value["instances"]))
        return {}
    known, needed = tensors.by_name(signature), tensors.needed(signature, heads)
    inputs = value.get("inputs", MISSING)
    bare = len(known) == 1 and inputs is not MISSING and not isinstance(inputs, dict)
    if bare:
        inputs = dict.fromkeys(known, inputs)
    if not isinstance(inputs, dict):
        notes.add("inputs", f"an object of tensors: {listing(known)}", shown(inputs))
        return {}
    refuse_unknown(inputs, "input", known, "inputs", notes)
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in known.items():
        at = "inputs" + ("" if bare else key(name))
        if name not in inputs and name not in needed:
            continue
        # A whole tensor is read as the only row of a tensor of that shape, for the same messages.
        row = Rows([inputs.get(name, MISSING)], partial(_at, at))
        one_row = read_tensor(tensor, row, notes, bare=True)
        for rows in one_row.values():
            if 0 in rows.shape and 0 not in tensor.shape:
                notes.add(at, "at least one value along each axis", show(inputs[name]))
        if name in needed:
            # Remove the axis of rows; the result is an array even if it is a single value.
            arrays |= {name: rows.reshape(rows.shape[1:]) for name, rows in one_row.items()}
    return arrays


def _at(path: str, _: int) -> str:
    return path


def _read_heads(value: Any, signature: Signature, notes: Notes) -> tuple[str, ...]:
    every = tuple(signature.heads)
    if value is MISSING:
        return every
    if not isinstance(value, list) or not value:
        notes.add("heads", f"a list of some of {listing(every)}, or no such key", show(value))
        return ()
    if len(value) > _MOST_NAMED * len(every):
        notes.add("heads", f"each head once: {listing(every)}", show(value))
        return ()
    heads: list[str] = []
    for i, name in enumerate(value):
        if not isinstance(name, str) or name not in signature.heads:
            close = nearest(name, every) if isinstance(name, str) and not notes.full else ""
            notes.add(f"heads[{i}]", f"one of {listing(every)}{close}", show(name))
        elif name in heads:
            notes.add(f"heads[{i}]", "each head once", f"{show(name)} again")
        else:
            heads.append(name)
    return tuple(heads)


def is_bare(signature: Signature, instance: Any) -> bool:
    """Return whether a row is the value of a model's only input, without the input's name."""
    if len(signature.inputs) != 1:
        return False
    entry = next(iter(signature.inputs.values()))
    if not isinstance(instance, dict):
        return True
    if entry.name in instance:
        # A feature may have the name of its input.  A value that cannot be a row of the input is
        # the value of that feature.
        feature = any(feature.name == entry.name for feature in entry.features)
        return feature and not isinstance(instance[entry.name], (dict, list))
    return bool(entry.features and instance)


def encode(
    request: Query[Any],
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> bytes:
    """Return the answer: `outputs` by row or by column, as the request was.

    Args:
        request: the decoded request.
        name: the name of the model or view that answers.
        version: the version of that model.
        signature: the signature of the model or view.
        outputs: the outputs by head, [rows, …].
    """
    answer: dict[str, Any] = {"model": name, "version": version}
    explained = request.explained
    if request.by_row:
        rows: list[dict[str, Any]] = [*predictions(request.heads, signature, outputs)]
        if explained is not None:
            for row, of_row in zip(rows, explanations.listed(explained), strict=True):
                row[explanations.ANSWER_KEY] = of_row
        answer["predictions"] = in_pieces(rows)
        if explained is not None:
            answer[explanations.ABOUT_KEY] = dict(explained.about)
    else:
        values, labels = _answers(request.heads, signature, outputs)
        answer["outputs"] = {head: in_pieces(value) for head, value in values.items()}
        if labels:
            answer["labels"] = {head: in_pieces(value) for head, value in labels.items()}
        if explained is not None:
            answer |= explanations.written(explained)
    return write(answer | noted(request))


def noted(request: Query[Any]) -> dict[str, Any]:
    """Return the last keys of an answer, for `write`: the imputed and the unseen values, if any."""
    notes: dict[str, Any] = {}
    if request.imputed:
        imputed = [{"at": entry.at, "value": entry.value} for entry in request.imputed]
        notes["imputed"] = in_pieces(imputed)
    if request.unseen:
        notes["unseen"] = in_pieces(unseen.listed(request.unseen))
    return notes


def encode_error(error: RequestError) -> bytes:
    """Return the answer to a request that failed, with all its problems."""
    return write({"error": str(error), **problems(error)})


def predictions(
    heads: Sequence[str], signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> list[dict[str, dict[str, Any]]]:
    """Return the answer to each row: for each head its value, and its label if it has labels."""
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
    """Return values by head, and labels by head for the heads that have labels."""
    chosen = [signature.heads[name] for name in heads]
    of_head = _whole if signature.tensor else _values
    values = {head.name: of_head(head, outputs[head.name]) for head in chosen}
    labelled = [head for head in chosen if head.labels is not None]
    return values, {head.name: labels_of(head, outputs[head.name]) for head in labelled}


def _values(head: Head, output: NDArray[Any]) -> Any:
    """Return a head's output for `write`: a [rows, 1] output becomes one number for each row."""
    if head.tensor.shape == (1,):
        output = output[:, 0]
    return plain(output)


def _whole(_: Head, output: NDArray[Any]) -> Any:
    """Return a whole tensor for `write`; a tensor without axes becomes a single value."""
    if output.ndim:
        return plain(output)
    return output.item() if output.dtype == object else output[()]
