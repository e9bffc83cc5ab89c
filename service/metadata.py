"""The signature as one JSON value in the metadata of its own `model.onnx`.

The parts that a graph cannot hold (features, labels, defaults, statistics, golden rows) are stored
under one key of the file's metadata, so that there is no sidecar to lose.  Facts that the graph
states itself are never stored twice:

    training  ── dump ──▶  metadata["triceps"]  ── parse (+ the graph) ──▶  service
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from service import reference
from service import signature_checks as checks
from service.errors import ModelRefused
from service.kinds import UNSEEN
from service.signature import (
    INPUT_KINDS,
    Feature,
    Golden,
    Head,
    Input,
    Signature,
    Statistics,
    Tensor,
    tabular,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

METADATA_KEY = "triceps"
FORMAT = 1
# Characters: golden rows of large images, or the vocabulary of a language, fit many times over.
MAX_NOTE = 64 * 2**20


def dump(signature: Signature) -> str:
    """Return the metadata value of a signature: everything that the graph does not state itself.

    Equal signatures give equal strings.
    """
    note = {
        "format": FORMAT,
        "inputs": {name: _dump_input(entry) for name, entry in signature.inputs.items()},
        "heads": {
            head.name: _without_none(
                kind=head.kind,
                labels=None if head.labels is None else list(head.labels),
                threshold=head.threshold,
                targets=list(head.targets) or None,
                constant=list(head.constant) or None,
                **_dump_statistics(head.statistics),
            )
            for head in signature.heads.values()
        },
        "models": {name: list(heads) for name, heads in signature.models.items()},
        "golden": None if signature.golden is None else _dump_golden(signature.golden),
        "provenance": signature.provenance,
        "warnings": [dict(warning) for warning in signature.warnings] or None,
        "reference": None if signature.reference is None else reference.dump(signature.reference),
    }
    return json.dumps(
        _without_none(**note), ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def _dump_golden(golden: Golden) -> dict[str, Any]:
    return _without_none(
        inputs=golden.inputs,
        outputs=golden.outputs,
        tolerances=golden.tolerances or None,
        differences=golden.differences or None,
    )


def _dump_input(entry: Input) -> dict[str, Any]:
    features = [
        _without_none(
            name=feature.name,
            default=feature.default,
            vocabulary=None if feature.vocabulary is None else list(feature.vocabulary),
            unseen=None if feature.unseen == UNSEEN[0] else feature.unseen,
            **_dump_statistics(feature.statistics),
        )
        for feature in entry.features
    ]
    return _without_none(
        kind=entry.kind,
        features=features or None,
        size=None if entry.size is None else list(entry.size),
        **_dump_statistics(entry.statistics),
    )


def _dump_statistics(statistics: Statistics | None) -> dict[str, float]:
    return {} if statistics is None else dict(vars(statistics))


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def parse(
    text: str | None,
    inputs: Iterable[Tensor],
    outputs: Iterable[Tensor],
    needs: Mapping[str, Iterable[str]],
    batch: int | None = None,
) -> Signature:
    """Combine the metadata of a file with its graph into a signature.

    Args:
        text: the metadata value, or `None` for a foreign file.
        inputs: the graph's inputs, in its order.
        outputs: the graph's outputs, in its order.
        needs: for each output, the names of the graph's inputs that it depends on.
        batch: 1 if the graph takes one row at a time, else `None`.

    Raises:
        ModelRefused: the value is not a signature, is damaged, or contradicts its graph.
    """
    note = {} if text is None else _load_note(text)
    tensors = {tensor.name: tensor for tensor in inputs}
    try:
        signature = _join(note, tensors, outputs, needs, batch)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        message = f"its signature (metadata {METADATA_KEY!r}) is damaged: {error!r}"
        raise ModelRefused(message) from error
    checks.check_names(note, signature, tensors)
    checks.check_golden(signature.golden)
    return signature


def _join(
    note: dict[str, Any],
    tensors: Mapping[str, Tensor],
    outputs: Iterable[Tensor],
    needs: Mapping[str, Iterable[str]],
    batch: int | None,
) -> Signature:
    """Build the signature; a note of another form raises one of Python's own errors."""
    inputs = _parse_inputs(note.get("inputs"), tensors)
    owners = _owners(inputs, tensors)
    return Signature(
        inputs=inputs,
        heads={
            tensor.name: _parse_head(
                tensor,
                note.get("heads", {}).get(tensor.name, {}),
                tuple(
                    dict.fromkeys(owners[name] for name in tensors if name in needs[tensor.name])
                ),
            )
            for tensor in outputs
        },
        models={name: _texts(listed) for name, listed in note.get("models", {}).items()},
        golden=_parse_golden(note.get("golden")),
        provenance=dict(note.get("provenance", {})),
        warnings=tuple(map(_parse_warning, note.get("warnings", ()))),
        reference=reference.parse(note["reference"]) if "reference" in note else None,
        batch=batch,
    )


def _owners(inputs: Mapping[str, Input], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each tensor of the graph to its input; refuse a tensor that belongs to none."""
    owners = {tensor.name: entry.name for entry in inputs.values() for tensor in entry.tensors}
    for name in tensors:
        if name not in owners:
            checks.disagree("input", name)
    return owners


def _load_note(text: str) -> dict[str, Any]:
    if len(text) > MAX_NOTE:
        message = f"its metadata {METADATA_KEY!r} has {len(text)} characters, {MAX_NOTE} at most"
        raise ModelRefused(message)
    try:
        note = json.loads(text, parse_constant=_no_number)
        # A value that no answer can hold, such as half a surrogate pair, would otherwise fail the
        # first request for the signature.  That answer nests the note some levels deeper.
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
    return {name: _parse_input(name, entry, tensors) for name, entry in note.items()}


def _parse_input(name: str, note: dict[str, Any], tensors: Mapping[str, Tensor]) -> Input:
    kind = note["kind"]
    if kind not in INPUT_KINDS:
        message = f"input {name!r} has the kind {kind!r}, which is none of {INPUT_KINDS}"
        raise ModelRefused(message)
    if kind == "tabular":
        dtype = tensors[name].dtype if name in tensors else "float32"
        entry = tabular(name, map(_parse_feature, note["features"]), dtype)
        checks.check_features(entry, tensors)
        return entry
    size = note.get("size")
    entry = Input(
        name,
        kind,
        (checks.in_graph(name, tensors),),
        size=None if size is None else tuple(map(int, size)),
        statistics=_parse_statistics(note),
    )
    checks.check_size(entry)
    return entry


def _parse_feature(note: dict[str, Any]) -> Feature:
    vocabulary = note.get("vocabulary")
    return Feature(
        name=str(note["name"]),
        tensor="",
        default=note.get("default"),
        vocabulary=None if vocabulary is None else _texts(vocabulary),
        statistics=_parse_statistics(note),
        unseen=note.get("unseen", UNSEEN[0]),
    )


def _parse_golden(note: dict[str, Any] | None) -> Golden | None:
    if note is None:
        return None
    more = {key: dict(note.get(key, {})) for key in ("tolerances", "differences")}
    return Golden(dict(note["inputs"]), dict(note["outputs"]), **more)


def _parse_warning(note: dict[str, Any]) -> dict[str, str]:
    """Return the texts of a warning; keys that are not known are ignored."""
    keys = ("code", "head", "message")
    return {key: str(note[key]) for key in keys if key in note or key != "head"}


def _texts(listed: Any) -> tuple[str, ...]:
    """Return a list of strings as a tuple; refuse a single string, which Python would split."""
    if not isinstance(listed, list) or not listed:
        raise TypeError(f"expected a list of at least one text, received {listed!r}")
    return tuple(map(str, listed))


def _numbers(listed: Any) -> tuple[float, ...]:
    """Return a list of numbers as a tuple; refuse a string, which Python would split."""
    if not isinstance(listed, list) or not listed:
        raise TypeError(f"expected a list of at least one number, received {listed!r}")
    return tuple(map(float, listed))


def _parse_statistics(note: dict[str, Any]) -> Statistics | None:
    if "mean" not in note:
        return None
    return Statistics(*(float(note[key]) for key in ("min", "max", "mean", "std")))


def _parse_head(tensor: Tensor, note: dict[str, Any], inputs: tuple[str, ...]) -> Head:
    labels = note.get("labels")
    head = Head(
        name=tensor.name,
        kind=note.get("kind", "tensor"),
        tensor=tensor,
        labels=None if labels is None else _texts(labels),
        threshold=note.get("threshold"),
        inputs=inputs,
        targets=_texts(note["targets"]) if "targets" in note else (),
        constant=_numbers(note["constant"]) if "constant" in note else (),
        statistics=_parse_statistics(note),
    )
    checks.check_head(head)
    return head
