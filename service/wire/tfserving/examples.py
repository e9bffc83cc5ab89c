"""`:classify` and `:regress`: the scores of a head (api_rest.md, Classify and Regress API).

    :classify  {"examples": [{"x": [1, 2]}, …]}  ─▶  {"results": [[["no", 0.1], ["yes", 0.9]], …]}
    :regress   {"examples": [{"x": [1, 2]}, …]}  ─▶  {"results": [3, …]}

`signature_name` is the name of the head.  The values in `context` belong to each example.  An
example has features one by one, or tensors.  The key of the answer is `results`, as in the code
(json_tensor.cc); a part of the document has another key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.errors import nearest
from service.wire import tensors, unseen
from service.wire.body import Notes, key, listing, parse_object, refuse_unknown, show, too_many
from service.wire.rows import MISSING, Rows, shown
from service.wire.scalars import expected_value, fits
from service.wire.tfserving.request import SIGNATURE, Query
from service.wire.tfserving.values import is_spelled, read, spells, texts, written
from service.wire.written import in_pieces, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Feature, Head, Signature, Tensor
    from service.wire.dialect import Header, Reader

_KEYS = ("examples", "context", "signature_name")
_ZEROS: dict[str, Any] = {"string": "", "bool": False}


@dataclass(frozen=True)
class _Layout:
    """The names that hold a tensor's values in an example: its own, or those of its features."""

    tensor: Tensor
    columns: tuple[tuple[str, ...], ...]
    """For each column, the possible names of its value; empty for a tensor without features."""
    feature: Feature | None = None
    """The feature with a vocabulary that the tensor holds, if it holds one."""

    @cached_property
    def of_features(self) -> frozenset[str]:
        """The names of the values of single features."""
        return frozenset(name for column in self.columns for name in column)

    @property
    def names(self) -> list[str]:
        """The names of all values of the tensor that an example may have."""
        return [*(name for column in self.columns for name in column), self.tensor.name]


def _layouts(signature: Signature) -> list[_Layout]:
    """Return the layout of each tensor.

    A feature has its own name, or `input.feature` if a tensor or another feature has that name.
    """
    known, categorical = tensors.by_name(signature), unseen.categorical(signature)
    entries = signature.inputs.values()
    times = Counter([*known, *(f.name for entry in entries for f in entry.features)])
    columns: dict[str, list[tuple[str, ...]]] = {name: [] for name in known}
    for entry in entries:
        for feature in entry.features:
            name = feature.name if times[feature.name] == 1 else f"{entry.name}.{feature.name}"
            columns[feature.tensor].append((name,))
    layouts = []
    for name, tensor in known.items():
        named = columns[name]
        if tensor.size == 1:
            # A single value may be in a list or not, so the name of the tensor can hold it too.
            named = [tuple(dict.fromkeys((*(named[0] if named else ()), name)))]
        layouts.append(_Layout(tensor, tuple(named), categorical.get(name)))
    return layouts


def reader(what: str, fit: Callable[[Head], bool], signature: Signature) -> Reader:
    """Return the reader of examples, for one head.

    The reader raises `BadRequest` with all mistakes in a body.

    Args:
        what: describes the heads that can be requested, for messages.
        fit: returns whether a head can be requested.
        signature: the signature of the model or view.
    """
    if signature.tensor:
        return partial(tensors.refuse_rows, signature)
    layouts = _layouts(signature)
    names = list(dict.fromkeys(name for layout in layouts for name in layout.names))
    heads = tuple(name for name, head in signature.heads.items() if fit(head))

    def read_body(body: bytes, header: Header) -> Query:
        del header
        value = parse_object(body, '"examples"')
        notes = Notes()
        refuse_unknown(value, "key", _KEYS, "", notes)
        chosen = _choose(value.get("signature_name", ""), heads, what, notes)
        examples = _examples(value, names, notes)
        needed = tensors.needed(signature, chosen)
        spelled = spells(body)
        arrays: dict[str, NDArray[Any]] = {}
        for layout in layouts:
            if examples and layout.tensor.name in needed:
                rows = [_row(layout, example, notes) for example in examples]
                places = Rows([row for row, _ in rows], [at for _, at in rows].__getitem__)
                arrays |= read(layout.tensor, places, notes, spelled=spelled)
        notes.stop()
        return Query(arrays, chosen, unseen=notes.unseen)

    return read_body


def _choose(name: Any, heads: tuple[str, ...], what: str, notes: Notes) -> tuple[str, ...]:
    """Return the named head, or the only one that can be requested; note a wrong name."""
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
    """One example: its values and their paths, by name, and its own path."""

    features: dict[str, tuple[Any, str]]
    at: str


def _examples(body: dict[str, Any], names: Sequence[str], notes: Notes) -> list[_Example]:
    """Return all examples, each with the values of the context."""
    context = _features(body.get("context", {}), names, "context", notes) or {}
    examples = body.get("examples", MISSING)
    if not isinstance(examples, list) or not examples:
        notes.add("examples", "a list of at least one example", shown(examples))
        return []
    if too_many(len(examples), "examples", notes):
        return []
    if context:
        notes.miss(
            "context", len(context) * len(examples), "values of it, counted in each example,"
        )
    merged = []
    for i, example in enumerate(examples):
        at = f"examples[{i}]"
        features = _features(example, names, at, notes)
        if features is None:
            continue  # this is not an example, so none of its values can be missing
        for name, (_, place) in features.items():
            if name in context:
                notes.add(place, 'what "context" does not have', "it again")
        merged.append(_Example({**context, **features}, at))
    return merged


def _features(
    value: Any, names: Sequence[str], at: str, notes: Notes
) -> dict[str, tuple[Any, str]] | None:
    """Return each feature's value and path by name; `None` if `value` is not an object."""
    if not isinstance(value, dict):
        if notes.full:
            notes.count += 1
        else:
            notes.add(at, f"an object of features: {listing(names)}", show(value))
        return None
    refuse_unknown(value, "feature", names, at, notes)
    return {name: (feature, at + key(name)) for name, feature in value.items()}


def _row(layout: _Layout, example: _Example, notes: Notes) -> tuple[Any, str]:
    """Return an example's row of a tensor, and the path of that row."""
    tensor, by_name = layout.tensor, example.features
    if tensor.size != 1 and (tensor.name in by_name or not layout.columns):
        value, at = by_name.get(tensor.name, (MISSING, example.at + key(tensor.name)))
        if features := [name for name in by_name if name in layout.of_features]:
            notes.add(at, f"either it or {listing(features)}", "both")
        return value, at
    values = [_value(layout, column, example, notes) for column in layout.columns]
    return values if tensor.shape else values[0], example.at


def _value(layout: _Layout, names: tuple[str, ...], example: _Example, notes: Notes) -> Any:
    """Return the value that an example has under one of a few names, in a list or not."""
    dtype = layout.tensor.dtype
    present = [name for name in names if name in example.features]
    value, at = MISSING, example.at + key(names[0])
    if present:
        value, at = example.features[present[0]]
    if len(present) > 1:
        notes.add(at, f"either it or {listing(present[1:])}", "both")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if dtype == "string":
        value = texts(value, 0, at, notes)
    if layout.feature is not None and unseen.is_unseen(layout.feature, value):
        unseen.note(layout.feature, value, at, notes)
    if fits(value, dtype) or is_spelled(value, dtype):
        return value
    if value is MISSING:
        notes.miss(at)
    notes.add(at, expected_value(dtype, value), shown(value))
    return _ZEROS.get(dtype, 0)


def has_scores(head: Head) -> bool:
    """Return whether a head has labels, and a score for each of them."""
    # The single value of a binary head gives both scores if it is a probability.  A threshold
    # between 0 and 1 shows that it is one.
    is_probability = "float" in head.tensor.dtype and 0 < head.cutoff < 1
    return head.labels is not None and (head.kind != "binary" or is_probability)


def has_one_number(head: Head) -> bool:
    """Return whether a head answers with one number per row that is not the score of a label."""
    number = head.tensor.size == 1 and head.tensor.dtype not in ("bool", "string")
    return number and head.kind in ("regression", "tensor")


def say_classes(
    query: Query, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Return for each example the labels of the head with their scores, in the labels' order."""
    head = signature.heads[query.heads[0]]
    scores = outputs[head.name].reshape(len(outputs[head.name]), -1)
    if head.kind == "binary":
        scores = np.concatenate((1 - scores, scores), axis=1)
    numbers = written(head.name, _floats(scores).reshape(-1))
    labels = head.labels or ()
    each = range(0, len(numbers), len(labels))
    results = [list(zip(labels, numbers[i : i + len(labels)], strict=True)) for i in each]
    return {"results": in_pieces(results)}


def say_numbers(
    query: Query, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Return for each example the number of the head."""
    del signature
    numbers = outputs[query.heads[0]].reshape(-1)
    return {"results": whole(_floats(numbers))}


def _floats(array: NDArray[Any]) -> NDArray[Any]:
    """Convert an array to floats, since clients expect scores and regressions to be floats."""
    return array if array.dtype.kind == "f" else array.astype(np.float64)
