"""A fitted model becomes one `model.onnx` that answers as Keras does, or nothing at all.

    convert ─▶ name the batch axis ─▶ sign ─▶ verify (through service.inference.model) ─▶ publish

The last step of training is the first of serving: the bytes are loaded and asked by the very
code that will answer requests.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from service.errors import CannotRun, ModelRefused
from service.inference.model import Model, difference
from service.kinds import THRESHOLD, THRESHOLDED
from service.metadata import METADATA_KEY
from service.metadata import dump as dump_signature
from service.repository.publish import FILE, publish
from service.signature import Golden, Head, Input, Signature, Statistics, Tensor
from training.built import ask, every_layer, is_half, objection
from training.cells import EXACT
from training.errors import ExportError, SpecError
from training.graph import tidy
from training.operations import translate
from training.quiet import keras, mute, tf, tf2onnx
from training.rows import pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.built import Built
    from training.fit import Fitted
    from training.rows import Data
    from training.spec import Spec

    Arrays = dict[str, NDArray[Any]]

OPSET = 18  # the highest that tf2onnx writes
GOLDEN_ROWS = 5
# Relative to the answer where that is above 1.  Rows drawn at random reach further out than real
# ones: raw pixels times float32 weights differ by more than 1e-5.
GOLDEN_TOLERANCE = 1e-5
RANDOM_TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2
BATCHES = (1, 2, 33)
_OURS = "triceps"  # of no layer: they have no dot
LIBRARIES = ("keras", "numpy", "onnx", "tensorflow", "tf2onnx")


@dataclass(frozen=True)
class Exported:
    """What was published: the version, its file, and by head the largest difference to Keras."""

    version: str
    path: Path
    differences: dict[str, float]
    batching: str
    """Whether requests may share its runs, and why."""


@dataclass(frozen=True)
class Candidate:
    """A converted model and what to hold it against: rows by tensor, Keras' answers by head."""

    graph: onnx.ModelProto
    inputs: dict[str, Input]
    heads: dict[str, Head]
    models: Mapping[str, tuple[str, ...]]
    golden: Arrays
    golden_answers: Arrays
    random: Arrays
    random_answers: Arrays
    provenance: dict[str, Any]
    half: bool = False  # whether anything in it computes in half precision


def check(spec: Spec, built: Built, data: Data) -> None:
    """Refuse, before the fit, a model that could not be exported after it.

    Raises:
        SpecError: a layer does not convert, ONNX Runtime cannot run what comes out, or Keras
            itself does not answer rows that it has not seen.
    """
    random = _random_rows(data.inputs.values(), max(BATCHES), np.random.default_rng(0))
    try:
        graph = convert(built, spec.heads, spec.name)
        Model.load(graph.SerializeToString()).predict(random, list(spec.heads))
        ask(built, random)
    except (ExportError, ModelRefused) as error:
        raise SpecError(f"{spec.path}: cannot be exported: {error}") from error
    except CannotRun as error:
        # ONNX Runtime names a node of its own making, and not the layer that it comes from.
        text = (
            f"{spec.path}: layers: one of them (which one, ONNX Runtime does not say) does not take"
            f" values like those of the data, as an Embedding over its input_dim: {error}"
        )
        raise SpecError(text) from error


def export(spec: Spec, fitted: Fitted, data: Data, models: Path) -> Exported:
    """Convert, sign, verify and publish a fitted model; golden rows are some of `data`.

    Raises:
        ExportError: the file would not answer as Keras does; nothing is published.
    """
    built = fitted.built
    rng = np.random.default_rng(spec.fit.seed)
    golden = _some_rows(data, rng)
    random = _random_rows(data.inputs.values(), max(BATCHES), rng)
    return publish_verified(
        Candidate(
            graph=convert(built, spec.heads, spec.name),
            inputs=data.inputs,
            heads=_heads(spec, built, data),
            models=spec.models,
            golden=golden,
            golden_answers=ask(built, golden),
            random=random,
            random_answers=ask(built, random),
            provenance=_provenance(spec, fitted, data),
            half=is_half(built.model),
        ),
        spec.name,
        models,
    )


def convert(built: Built, heads: Iterable[str], name: str) -> onnx.ModelProto:
    """Turn a Keras model into ONNX: a graph called `name` that answers `heads` in that order.

    Raises:
        ExportError: something in it has no counterpart in ONNX.
    """
    model = built.model
    # Names that TensorFlow certainly takes, and that no layer has; the right ones are set below.
    inputs = {f"{_OURS}.in{position}": key for position, key in enumerate(built.tensors)}
    outputs = {f"{_OURS}.out{position}": head for position, head in enumerate(heads)}
    whole = keras.Model(
        model.input,
        {
            safe: keras.layers.Identity(name=safe)(model.output[key])
            for safe, key in outputs.items()
        },
        name=_OURS,
    )
    given = {
        key: tf.TensorSpec(model.input[key].shape, model.input[key].dtype, name=safe)
        for safe, key in inputs.items()
    }
    try:
        with mute():
            converted, _ = tf2onnx.convert.from_keras(whole, [given], opset=OPSET)
    except Exception as error:  # tf2onnx and TensorFlow raise whatever they happen to
        raise ExportError(f"tf2onnx cannot convert it: {objection(error)}") from error
    translate(converted.graph)
    for node in converted.graph.node:
        # tf2onnx leaves an operation that it does not know in the graph as it is.
        if not onnx.defs.has(node.op_type, node.domain):
            raise ExportError(
                f"{_layer(model, node.name)}ONNX has no counterpart of TensorFlow's {node.op_type}"
            )
    renamed = {safe: built.tensors[key] for safe, key in inputs.items()}
    return tidy(converted, name, renamed, outputs)


def _layer(model: keras.Model, node: str) -> str:
    """The layer that a node of the graph comes from, to put in front of a message."""
    parts = {part for path in node.split("/") for part in (path, re.sub(r"_\d+$", "", path))}
    found = [layer.name for layer in every_layer(model) if layer.name in parts]
    return f"layer {found[-1]!r}: " if found else ""


def _heads(spec: Spec, built: Built, data: Data) -> dict[str, Head]:
    heads = {}
    for name, head in spec.heads.items():
        output = built.model.output[name]
        threshold = head.threshold or THRESHOLD if head.kind in THRESHOLDED else None
        tensor = Tensor(name, str(output.dtype), tuple(output.shape[1:]))
        heads[name] = Head(name, head.kind, tensor, data.labels[name], threshold)
    return heads


def _provenance(spec: Spec, fitted: Fitted, data: Data) -> dict[str, Any]:
    """Where the model comes from: nothing that differs when it is made again in the same way."""
    return {
        "spec": spec.name,
        "spec_sha256": spec.digest,
        "seed": spec.fit.seed,
        "epochs": fitted.epochs,
        "rows": {_without_host(name): source.rows for name, source in data.sources.items()},
        "scores": {
            name: {
                "metric": score.metric,
                "rows": score.rows,
                "held_out_rows": score.held_out_rows,
                "train": _short(np.float32(score.train)),
                "held_out": None if score.held_out is None else _short(np.float32(score.held_out)),
                "baseline": _short(np.float32(score.baseline)),
            }
            for name, score in fitted.scores.items()
        },
        **versions(),
    }


def _without_host(csv: str) -> str:
    """A file as the spec names it, but for where on its machine an absolute path puts it."""
    return PurePath(csv).name if PurePath(csv).is_absolute() else csv


def versions() -> dict[str, Any]:
    """What made the file: Python and the libraries whose version can show in it."""
    major, minor, *_ = platform.python_version_tuple()
    found = {name: metadata.version(name) for name in LIBRARIES}
    return {"python": f"{major}.{minor}", "libraries": found}


def publish_verified(candidate: Candidate, name: str, models: Path) -> Exported:
    """Sign, verify through the code that serves, and publish as the next version of `name`.

    Raises:
        ExportError: the file would not answer as Keras does; nothing is published.
    """
    for head, answers in candidate.golden_answers.items():
        if answers.dtype.kind == "f" and not np.isfinite(answers).all():
            raise ExportError(
                f"head {head!r} answers rows of its own data with what is no finite number; "
                "nothing was published"
            )
    if candidate.half:
        # Held against Keras loosely; later against itself, which is as strict as for any other.
        content = _sign(candidate, None)
        _, differences = _verify(candidate, content)
        own = Model.load(content).predict(candidate.golden, list(candidate.heads))
        content = _sign(candidate, own)
        batching = str(Model.load(content).batching)
    else:
        content = _sign(candidate, candidate.golden_answers)
        batching, differences = _verify(candidate, content)
    version = publish(models, name, content)
    return Exported(version, models / name / version / FILE, differences, batching)


def _sign(candidate: Candidate, answers: Arrays | None) -> bytes:
    """The file's bytes, with the signature in them, and the golden rows where `answers` are."""
    golden = None if answers is None else Golden(as_lists(candidate.golden), as_lists(answers))
    signature = Signature(
        candidate.inputs, candidate.heads, candidate.models, golden, candidate.provenance
    )
    note = {METADATA_KEY: dump_signature(signature)}
    onnx.helper.set_model_props(candidate.graph, note)
    return candidate.graph.SerializeToString(deterministic=True)


def _verify(candidate: Candidate, content: bytes) -> tuple[str, dict[str, float]]:
    """Hold the finished bytes against Keras: golden and random rows, every head alone and all.

    Returns:
        Whether requests may share its runs and why, and by head the largest difference found.
    """
    try:
        model = Model.load(content)
    except ModelRefused as error:
        raise ExportError(f"the service would refuse it: {error}; nothing was published") from error
    half = HALF_TOLERANCE if candidate.half else 0.0
    heads = list(candidate.heads)
    worst = dict.fromkeys(heads, 0.0)
    trials = [
        ("golden rows", candidate.golden, candidate.golden_answers, max(half, GOLDEN_TOLERANCE)),
        *(
            (
                f"random rows in a batch of {rows}",
                {tensor: array[:rows] for tensor, array in candidate.random.items()},
                {head: answer[:rows] for head, answer in candidate.random_answers.items()},
                max(half, RANDOM_TOLERANCE),
            )
            for rows in BATCHES
            # Where rows depend on each other, fewer of them have other answers.
            if rows == max(BATCHES) or model.batching.mode != "joint"
        ),
    ]
    for asked in dict.fromkeys([tuple(heads), *((head,) for head in heads)]):
        for what, arrays, answers, tolerance in trials:
            for head, answer in _answers(model, arrays, asked, what).items():
                found = difference(answer, answers[head])
                worst[head] = max(worst[head], found)
                if not found <= tolerance:
                    raise ExportError(
                        f"head {head!r} does not answer as Keras does: {what} differ by "
                        f"{found:.2g}, expected at most {tolerance:g}; nothing was published"
                    )
    return str(model.batching), worst


def _answers(model: Model, arrays: Arrays, heads: Sequence[str], what: str) -> Arrays:
    try:
        return model.predict(arrays, heads)
    except CannotRun as error:
        raise ExportError(f"{what}: {error}; nothing was published") from error


def _some_rows(data: Data, rng: np.random.Generator) -> Arrays:
    """A few rows as the model was fitted on them."""
    x, _ = pairs(data, rng)
    rows = len(next(iter(x.values())))
    chosen = np.sort(rng.permutation(rows)[:GOLDEN_ROWS])
    return {tensor: array[chosen] for tensor, array in x.items()}


def _random_rows(inputs: Iterable[Input], rows: int, rng: np.random.Generator) -> Arrays:
    """Rows that nobody has seen, spread as the training rows were."""
    arrays: Arrays = {}
    for entry in inputs:
        if entry.statistics is not None:
            [tensor] = entry.tensors
            arrays[tensor.name] = _draw(entry.statistics, (rows, *_sizes(tensor)), rng)
        numbers = []
        for feature in entry.features:
            if feature.vocabulary is not None:
                # One text that the vocabulary has not: the place for unseen ones must agree too.
                texts = np.array([*feature.vocabulary, "never seen"], object)
                arrays[feature.tensor] = rng.choice(texts, (rows, 1))
            elif feature.statistics is not None:
                column = _draw(feature.statistics, (rows,), rng)
                numbers.append(np.round(column) if _is_whole(feature.default) else column)
        if numbers:
            arrays[entry.name] = np.stack(numbers, axis=1)
    return arrays


def _is_whole(default: object) -> bool:
    """A column of whole numbers has one of them as its default."""
    return isinstance(default, int)


def _draw(statistics: Statistics, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    drawn = rng.normal(statistics.mean, statistics.std, shape)
    return np.clip(drawn, statistics.min, statistics.max).astype(np.float32)


def _sizes(tensor: Tensor) -> Sequence[int]:
    return [axis or 1 for axis in tensor.shape]


def as_lists(arrays: Arrays) -> dict[str, list[Any]]:
    """Arrays as JSON has them, in as few digits as give the same float32 again."""
    return {name: _listed(array) for name, array in arrays.items()}


def _listed(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return [_listed(value) for value in values]
    if isinstance(values, np.floating):
        return _short(values)
    return values.item() if isinstance(values, np.generic) else values


def _short(value: Any) -> float | int:
    """The number in the fewest digits that are still this number in its own precision."""
    number = float(str(value))
    return int(number) if number.is_integer() and abs(number) < EXACT else number
