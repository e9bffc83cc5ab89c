"""`:classify` and `:regress`: a head's scores of examples (api_rest.md, Classify and Regress API).

    :classify  {"examples": [{"x": [1, 2]}, …]}  ─▶  {"results": [[["no", 0.1], ["yes", 0.9]], …]}
    :regress   {"examples": [{"x": [1, 2]}, …]}  ─▶  {"results": [3, …]}

`signature_name` is the head; what `context` has, each example has.  An example names features one
by one, or tensors.  The key is `results`: so the code has it (json_tensor.cc), and not what a part
of the document says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.errors import nearest
from service.wire import tensors
from service.wire.body import Notes, key, listing, parse_object, refuse_unknown, show, too_many
from service.wire.scalars import expected_value, fits
from service.wire.tfserving.request import SIGNATURE, Query
from service.wire.tfserving.values import is_spelled, read, spells, texts, written
from service.wire.values import MISSING, Rows, shown
from service.wire.written import in_pieces, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Head, Signature, Tensor
    from service.wire.dialect import Header, Reader

_KEYS = ("examples", "context", "signature_name")
_ZEROS: dict[str, Any] = {"string": "", "bool": False}


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
    known = tensors.by_name(signature)
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
            # A feature's value may be in a list or not, so this is the whole tensor, too.
            named = [tuple(dict.fromkeys((*(named[0] if named else ()), name)))]
        layouts.append(_Layout(tensor, tuple(named)))
    return layouts


def reader(what: str, fit: Callable[[Head], bool], signature: Signature) -> Reader:
    """What reads examples, for one head.

    It raises `BadRequest`, with everything that is wrong with a body.

    Args:
        what: in a message, what heads can be asked.
        fit: whether a head can.
        signature: whose heads they are.
    """
    if signature.tensor:
        return partial(tensors.refuse_rows, signature)
    layouts = _layouts(signature)
    names = list(dict.fromkeys(name for layout in layouts for name in layout.names))
    heads = tuple(name for name, head in signature.heads.items() if fit(head))

    def read_body(body: bytes, header: Header) -> Query:
        del header
        said = parse_object(body, '"examples"')
        notes = Notes()
        refuse_unknown(said, "key", _KEYS, "", notes)
        chosen = _choose(said.get("signature_name", ""), heads, what, notes)
        examples = _examples(said, names, notes)
        needed = tensors.needed(signature, chosen)
        spelled = spells(body)
        arrays: dict[str, NDArray[Any]] = {}
        for layout in layouts:
            if examples and layout.tensor.name in needed:
                rows = [_row(layout, example, notes) for example in examples]
                places = Rows([row for row, _ in rows], [at for _, at in rows].__getitem__)
                arrays |= read(layout.tensor, places, notes, spelled=spelled)
        notes.stop()
        return Query(arrays, chosen)

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
        notes.add("examples", "a list of at least one example", shown(examples))
        return []
    if too_many(len(examples), "examples", notes):
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
        value = texts(value, 0, at, notes)
    if fits(value, dtype) or is_spelled(value, dtype):
        return value
    notes.add(at, expected_value(dtype, value), shown(value))
    return _ZEROS.get(dtype, 0)


def has_scores(head: Head) -> bool:
    """Whether a head has labels, and a score for each."""
    # The only value of a binary head stands for both labels where it is a probability, and nothing
    # else is compared with a number between 0 and 1.
    is_probability = "float" in head.tensor.dtype and 0 < head.cutoff < 1
    return head.labels is not None and (head.kind != "binary" or is_probability)


def has_one_number(head: Head) -> bool:
    """Whether a head is one number a row, and that is no score of a label."""
    number = head.tensor.size == 1 and head.tensor.dtype not in ("bool", "string")
    return number and head.kind in ("regression", "tensor")


def say_classes(
    asked: Query, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """By example, each label of the head with its score, in the labels' order."""
    head = signature.heads[asked.heads[0]]
    scores = outputs[head.name].reshape(len(outputs[head.name]), -1)
    if head.kind == "binary":
        scores = np.concatenate((1 - scores, scores), axis=1)
    numbers = written(head.name, _floats(scores).reshape(-1))
    labels = head.labels or ()
    each = range(0, len(numbers), len(labels))
    found = [list(zip(labels, numbers[i : i + len(labels)], strict=True)) for i in each]
    return {"results": in_pieces(found)}


def say_numbers(
    asked: Query, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """By example, the head's number."""
    del signature
    numbers = outputs[asked.heads[0]].reshape(-1)
    return {"results": whole(_floats(numbers))}


def _floats(array: NDArray[Any]) -> NDArray[Any]:
    """Scores and regressions are floats to whoever reads them."""
    return array if array.dtype.kind == "f" else array.astype(np.float64)
