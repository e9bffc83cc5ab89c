"""The signature: what a model is, as one JSON value inside its own `model.onnx`.

Names, dtypes and shapes are the graph's own and are never written twice.  What a graph
cannot hold (features, labels, defaults, statistics, golden rows) travels in the file's
metadata under one key, so that there is no sidecar to lose:

    training  ── dump ──▶  metadata["triceps"]  ── parse (+ the graph) ──▶  service

A foreign file without that value gets a signature too, from its graph alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import orjson

from service.errors import ModelRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Of where a model comes from, what names it: a view does not tell whose it is.
_NAMING = ("spec", "source")
METADATA_KEY = "triceps"
FORMAT = 1
# Golden rows of large pictures and vocabularies of a language fit many times over.
MAX_NOTE = 64 * 2**20

# How a CSV's cell says that it is empty, and how it says yes and no: to training and to scoring.
MISSING_CELLS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
TRUE_FALSE = {"true": 1.0, "false": 0.0}

INPUT_KINDS = ("tabular", "image", "tensor")
HEAD_KINDS = ("binary", "multiclass", "multilabel", "regression", "tensor")
DTYPES = (
    *("float32", "float64", "float16", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


@dataclass(frozen=True)
class Tensor:
    """A named tensor at the edge of the graph.

    `shape` is that of one row: the batch axis is left out, `None` marks an axis of any length.  Of
    a graph that is served as whole tensors (`Signature.tensor`) it has every axis.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Name dtype and shape in a message: float32[28 x 28], string[any], or int64 alone."""
        axes = " x ".join("any" if axis is None else str(axis) for axis in self.shape)
        return f"{self.dtype}[{axes}]" if axes else self.dtype

    @cached_property
    def size(self) -> int | None:
        """How many values one row holds; `None` where an axis has any length."""
        return math.prod(self.fixed) if len(self.fixed) == len(self.shape) else None

    @cached_property
    def fixed(self) -> tuple[int, ...]:
        """The axes that have a length: all of them, where `size` is not `None`."""
        return tuple(axis for axis in self.shape if axis is not None)


@dataclass(frozen=True)
class Statistics:
    """What the data were, held-out rows included: a feature, or all values of an image."""

    min: float
    max: float
    mean: float
    std: float


@dataclass(frozen=True)
class Feature:
    """One named column of a tabular input.

    A number is the `column`-th value of its tensor; a categorical (one with a `vocabulary`) is
    a string tensor of its own, `input.feature`.  `default` stands in for a missing value; where
    it is `None`, a missing value is an error.
    """

    name: str
    tensor: str
    column: int = 0
    default: float | str | None = None
    vocabulary: tuple[str, ...] | None = None
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Input:
    """What a request names: one or several tensors of the graph.

    `tabular` has features; `image` has a size (height, width and, where given, channels);
    `tensor` is anything else, taken in the graph's own shape.
    """

    name: str
    kind: str
    tensors: tuple[Tensor, ...]
    features: tuple[Feature, ...] = ()
    size: tuple[int, ...] | None = None
    statistics: Statistics | None = None

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """By tensor, where its features stand among all of them."""
        return {
            tensor.name: [i for i, f in enumerate(self.features) if f.tensor == tensor.name]
            for tensor in self.tensors
        }

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """In column order."""
        return tuple(feature.name for feature in self.features)


@dataclass(frozen=True)
class Head:
    """A named output.  `inputs` are the inputs that its part of the graph reads."""

    name: str
    kind: str
    tensor: Tensor
    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    inputs: tuple[str, ...] = ()

    @cached_property
    def cutoff(self) -> float:
        """The threshold in the head's own dtype, as numpy compares: 0.1 is not float32's 0.1."""
        threshold = 0.5 if self.threshold is None else self.threshold
        return float(np.array(threshold, self.tensor.dtype))


@dataclass(frozen=True)
class Golden:
    """A few rows and the answers the trained model gave: lists, by tensor and by head."""

    inputs: Mapping[str, list[Any]]
    outputs: Mapping[str, list[Any]]


@dataclass(frozen=True)
class Signature:
    """A model's inputs, heads, views over its heads (`models`), golden rows and provenance.

    `batch` is `None` when the graph takes any number of rows, 1 when it takes one at a time.
    `tensor` says why it takes no rows at all, such as for a scalar among its inputs: it is served
    as whole tensors, one run a request, and every shape is the graph's own.  Else it is empty.
    """

    inputs: Mapping[str, Input]
    heads: Mapping[str, Head]
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    golden: Golden | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    tensor: str = ""

    @cached_property
    def head_names(self) -> tuple[str, ...]:
        """All of them, in the graph's order."""
        return tuple(self.heads)

    @cached_property
    def _needed_by_all(self) -> tuple[str, ...]:
        return self._needed(self.head_names)

    def needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        """The inputs that at least one of some heads reads."""
        return self._needed_by_all if heads == self.head_names else self._needed(heads)

    def _needed(self, heads: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            name for name in self.inputs if any(name in self.heads[head].inputs for head in heads)
        )

    def restrict(self, heads: Iterable[str]) -> Signature:
        """The same model, seen through some of its heads and the inputs that those need."""
        kept = {name: self.heads[name] for name in heads}
        needed = {name for head in kept.values() for name in head.inputs}
        inputs = {name: entry for name, entry in self.inputs.items() if name in needed}
        scores = self.provenance.get("scores")
        provenance = {
            **{key: said for key, said in self.provenance.items() if key not in _NAMING},
            **({"scores": {n: s for n, s in scores.items() if n in kept}} if scores else {}),
        }
        return replace(self, inputs=inputs, heads=kept, models={}, provenance=provenance)


def tabular(name: str, features: Iterable[Feature], dtype: str = "float32") -> Input:
    """A tabular input with its tensors placed: numbers together, each categorical alone.

    Args:
        name: the input's name, which is also that of its numeric tensor.
        features: in column order; their `tensor` and `column` are set here.
        dtype: of the numeric tensor.
    """
    placed, numbers = [], 0
    for feature in features:
        if feature.vocabulary is None:
            placed.append(replace(feature, tensor=name, column=numbers))
            numbers += 1
        else:
            placed.append(replace(feature, tensor=f"{name}.{feature.name}", column=0))
    tensors = [Tensor(name, dtype, (numbers,))] if numbers else []
    tensors += [Tensor(f.tensor, "string", (1,)) for f in placed if f.vocabulary is not None]
    return Input(name, "tabular", tuple(tensors), tuple(placed))


def dump(signature: Signature) -> str:
    """The value for the file's metadata: all that the graph does not say itself.

    Deterministic: the same signature is the same text.
    """
    note = {
        "format": FORMAT,
        "inputs": {name: _dump_input(entry) for name, entry in signature.inputs.items()},
        "heads": {
            head.name: _given(
                kind=head.kind,
                labels=None if head.labels is None else list(head.labels),
                threshold=head.threshold,
            )
            for head in signature.heads.values()
        },
        "models": {name: list(heads) for name, heads in signature.models.items()},
        "golden": signature.golden
        and {"inputs": signature.golden.inputs, "outputs": signature.golden.outputs},
        "provenance": signature.provenance,
    }
    return json.dumps(_given(**note), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _dump_input(entry: Input) -> dict[str, Any]:
    features = [
        _given(
            name=feature.name,
            default=feature.default,
            vocabulary=None if feature.vocabulary is None else list(feature.vocabulary),
            **_dump_statistics(feature.statistics),
        )
        for feature in entry.features
    ]
    return _given(
        kind=entry.kind,
        features=features or None,
        size=None if entry.size is None else list(entry.size),
        **_dump_statistics(entry.statistics),
    )


def _dump_statistics(statistics: Statistics | None) -> dict[str, float]:
    return {} if statistics is None else dict(vars(statistics))


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def parse(
    text: str | None,
    inputs: Iterable[Tensor],
    outputs: Iterable[Tensor],
    needs: Mapping[str, Iterable[str]],
    batch: int | None = None,
) -> Signature:
    """What a file says of itself, joined to what its graph says.

    Args:
        text: the metadata value, or `None` for a foreign file.
        inputs: the graph's inputs, in its order.
        outputs: the graph's outputs, in its order.
        needs: by output, the names of the graph's inputs that it depends on.
        batch: 1 when the graph takes one row at a time.

    Raises:
        ModelRefused: the value is not one of ours, or contradicts its graph.
    """
    note = {} if text is None else _load_note(text)
    tensors = {tensor.name: tensor for tensor in inputs}
    try:
        entries = _parse_inputs(note.get("inputs"), tensors)
        owners = {t.name: entry.name for entry in entries.values() for t in entry.tensors}
        for name in tensors:
            if name not in owners:
                _disagree("input", name)
        heads = {
            tensor.name: _parse_head(
                tensor,
                note.get("heads", {}).get(tensor.name, {}),
                tuple(
                    dict.fromkeys(owners[name] for name in tensors if name in needs[tensor.name])
                ),
            )
            for tensor in outputs
        }
        models = {name: _texts(listed) for name, listed in note.get("models", {}).items()}
        golden = note.get("golden")
        signature = Signature(
            inputs=entries,
            heads=heads,
            models=models,
            golden=None
            if golden is None
            else Golden(dict(golden["inputs"]), dict(golden["outputs"])),
            provenance=dict(note.get("provenance", {})),
            batch=batch,
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        message = f"its signature (metadata {METADATA_KEY!r}) is damaged: {error!r}"
        raise ModelRefused(message) from error
    _check_names(note, signature, tensors)
    _check_golden(signature.golden)
    return signature


def _load_note(text: str) -> dict[str, Any]:
    if len(text) > MAX_NOTE:
        message = f"its metadata {METADATA_KEY!r} has {len(text)} characters, {MAX_NOTE} at most"
        raise ModelRefused(message)
    try:
        note = json.loads(text, parse_constant=_no_number)
        # What no answer could hold, such as half a surrogate pair, would else be found by whoever
        # asks for the signature; and there it stands some levels deeper.
        orjson.dumps([[[[[[[[note]]]]]]]])
    except (TypeError, ValueError, RecursionError) as error:
        message = f"its metadata {METADATA_KEY!r} is not JSON: {error}"
        raise ModelRefused(message) from error
    if not isinstance(note, dict) or not isinstance(note.get("format"), int):
        message = (
            f"its metadata {METADATA_KEY!r} is not a signature: expected an object with a format"
        )
        raise ModelRefused(message)
    if note["format"] != FORMAT:
        message = (
            f"its signature has format {note['format']}, and this Triceps reads format {FORMAT}: "
            "sign it again, or serve it with the Triceps that signed it"
        )
        raise ModelRefused(message)
    return note


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _parse_inputs(note: dict[str, Any] | None, tensors: Mapping[str, Tensor]) -> dict[str, Input]:
    if note is None:
        return {name: Input(name, "tensor", (tensor,)) for name, tensor in tensors.items()}
    entries: dict[str, Input] = {}
    for name, said in note.items():
        kind = said["kind"]
        if kind not in INPUT_KINDS:
            message = f"input {name!r} has the kind {kind!r}, which is none of {INPUT_KINDS}"
            raise ModelRefused(message)
        if kind == "tabular":
            dtype = tensors[name].dtype if name in tensors else "float32"
            entry = tabular(name, map(_parse_feature, said["features"]), dtype)
            _check_features(entry, tensors)
        else:
            size = said.get("size")
            entry = Input(
                name,
                kind,
                (_in_graph(name, tensors),),
                size=None if size is None else tuple(map(int, size)),
                statistics=_parse_statistics(said),
            )
            _check_size(entry)
        entries[name] = entry
    return entries


def _in_graph(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    if name not in tensors:
        _disagree("input", name)
    return tensors[name]


def _check_size(entry: Input) -> None:
    values = entry.tensors[0].size
    if entry.size is not None and math.prod(entry.size) != values:
        message = f"input {entry.name!r} has the size {list(entry.size)} for {values} values a row"
        raise ModelRefused(message)


def _check_features(entry: Input, tensors: Mapping[str, Tensor]) -> None:
    names = [feature.name for feature in entry.features]
    if not names or len(set(names)) != len(names):
        message = f"input {entry.name!r} has the features {names}: expected different names"
        raise ModelRefused(message)
    for tensor in entry.tensors:
        actual = _in_graph(tensor.name, tensors)
        if actual.shape != tensor.shape or (actual.dtype == "string") != (tensor.dtype == "string"):
            message = f"its input {tensor.name!r} is {actual} a row, and its features say {tensor}"
            raise ModelRefused(message)
    dtypes = {tensor.name: tensor.dtype for tensor in entry.tensors}
    for feature in entry.features:
        dtype = dtypes[feature.tensor]
        if feature.default is not None and not holds(dtype, feature.default):
            message = (
                f"{entry.name}.{feature.name} has the default {feature.default!r}, "
                f"which no {dtype} holds"
            )
            raise ModelRefused(message)


def holds(dtype: str, value: Any) -> bool:
    """Whether a default, or a threshold, goes into a tensor of this dtype as it is."""
    if dtype == "string" or isinstance(value, str):
        return dtype == "string" and isinstance(value, str)
    if (dtype == "bool") != isinstance(value, bool):
        return False
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            held = np.array(value).astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return False
    # float32 rounds 0.1, and that is what it is there for; an int64 does not make 1 of 1.5.
    return held.shape == () and bool(np.isfinite(held) if "float" in dtype else held == value)


def _parse_feature(said: dict[str, Any]) -> Feature:
    vocabulary = said.get("vocabulary")
    return Feature(
        name=str(said["name"]),
        tensor="",
        default=said.get("default"),
        vocabulary=None if vocabulary is None else _texts(vocabulary),
        statistics=_parse_statistics(said),
    )


def _texts(listed: Any) -> tuple[str, ...]:
    """A list of texts; a text is a list of letters to Python, and is none here."""
    if not isinstance(listed, list) or not listed:
        raise TypeError(f"expected a list of at least one text, received {listed!r}")
    return tuple(map(str, listed))


def _parse_statistics(said: dict[str, Any]) -> Statistics | None:
    if "mean" not in said:
        return None
    return Statistics(*(float(said[key]) for key in ("min", "max", "mean", "std")))


def _parse_head(tensor: Tensor, said: dict[str, Any], inputs: tuple[str, ...]) -> Head:
    labels = said.get("labels")
    head = Head(
        name=tensor.name,
        kind=said.get("kind", "tensor"),
        tensor=tensor,
        labels=None if labels is None else _texts(labels),
        threshold=said.get("threshold"),
        inputs=inputs,
    )
    check_head(head)
    return head


def check_head(head: Head) -> None:
    """See that a head's kind, labels and threshold are such as its values can have.

    Raises:
        ModelRefused: they are not.
    """
    wrong = None
    if head.kind not in HEAD_KINDS:
        wrong = f"has the kind {head.kind!r}, which is none of {HEAD_KINDS}"
    elif head.kind != "tensor" and head.tensor.dtype == "string":
        wrong = f"is {head.kind}, and its values are texts"
    elif head.kind == "binary" and head.tensor.size != 1:
        wrong = f"is binary, and not one value but {head.tensor} a row"
    elif head.threshold is not None and not holds("float64", head.threshold):
        wrong = f"has the threshold {head.threshold!r}: expected a number"
    elif head.labels is not None:
        wanted = 2 if head.kind == "binary" else head.tensor.size
        if head.kind not in ("binary", "multiclass", "multilabel"):
            wrong = f"is {head.kind}, and has labels"
        elif wanted is None:
            wrong = f"has labels, and no fixed number of classes: it is {head.tensor} a row"
        elif len(head.labels) != wanted:
            wrong = f"has {len(head.labels)} labels for {wanted} classes"
        elif len(set(head.labels)) != len(head.labels):
            wrong = f"has the labels {list(head.labels)}: expected each once"
    if wrong is not None:
        raise ModelRefused(f"head {head.name!r} {wrong}")


def _check_names(note: dict[str, Any], signature: Signature, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a note that names what the graph has not, or one of its tensors twice."""
    named = [t.name for entry in signature.inputs.values() for t in entry.tensors]
    for what, unknown in (
        ("input", {name for name, times in Counter(named).items() if times > 1}),
        ("head", set(note.get("heads", {})) - set(signature.heads)),
        ("head", {h for heads in signature.models.values() for h in heads} - set(signature.heads)),
        ("input", set(signature.golden.inputs if signature.golden else tensors) ^ set(tensors)),
        ("head", set(signature.golden.outputs if signature.golden else ()) - set(signature.heads)),
    ):
        if unknown:
            _disagree(what, min(unknown))


def _disagree(what: str, name: str) -> NoReturn:
    raise ModelRefused(f"its signature and its graph disagree on the {what} {name!r}")


def _check_golden(golden: Golden | None) -> None:
    """Refuse golden rows that are none, or not the same number everywhere."""
    if golden is None:
        return
    columns: dict[str, Any] = {**golden.inputs, **golden.outputs}
    counts = {name: len(rows) if isinstance(rows, list) else 0 for name, rows in columns.items()}
    if not golden.outputs or len(set(counts.values())) != 1 or 0 in counts.values():
        message = f"its golden rows do not line up: expected as many of each, received {counts}"
        raise ModelRefused(message)
