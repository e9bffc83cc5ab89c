"""Export of a fitted model to the bytes of one `model.onnx` that answers as Keras does.

    convert ─▶ sign ─▶ verify (through service.inference.model) ─▶ bytes to publish

`foreign` takes the same steps for a Keras model that was saved elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import CannotRun, ModelRefused
from service.inference.model import Model
from service.kinds import THRESHOLD, THRESHOLDED
from service.signature import Head, Signature, Tensor
from training.built import is_half, predict
from training.convert import convert
from training.errors import ExportError, SpecError
from training.features import statistics_of
from training.reference import reference
from training.rows import known_targets, pairs
from training.samples import GOLDEN_ROWS, Samples, random_rows
from training.scaling import advice
from training.sign import libraries, shortest, sign
from training.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.built import Built
    from training.fit import Fitted
    from training.rows import Arrays, Data
    from training.run_warnings import RunWarning
    from training.scores import Score
    from training.spec import Spec
    from training.verify import Verified


def check(spec: Spec, built: Built, data: Data) -> None:
    """Refuse, before the fit, a model that could not be exported after it.

    Raises:
        SpecError: a layer does not convert, ONNX Runtime cannot run what comes out, or Keras
            itself does not answer rows that it has not seen.
    """
    random = random_rows(data.inputs.values(), np.random.default_rng(0))
    try:
        graph = convert(built, spec.heads, spec.name)
        Model.load(graph.SerializeToString()).predict(random, list(spec.heads))
        predict(built, random)
    except (ExportError, ModelRefused) as error:
        raise SpecError(f"{spec.path}: cannot be exported: {error}") from error
    except CannotRun as error:
        # ONNX Runtime names a node of its optimised graph, not the layer that it comes from.
        text = (
            f"{spec.path}: layers: one of them (which one, ONNX Runtime does not say) does not take"
            f" values like those of the data, as an Embedding over its input_dim: {error}"
        )
        raise SpecError(text) from error


def export(spec: Spec, fitted: Fitted, data: Data, warnings: Iterable[RunWarning] = ()) -> Verified:
    """Convert, sign and verify a fitted model; `data` provides the golden rows.

    Args:
        spec: the spec of the model.
        fitted: the model, its scores and its number of epochs.
        data: the training rows.
        warnings: the warnings of the run, for the signature.

    Raises:
        ExportError: the file would not answer as Keras does.
    """
    built = fitted.built
    rng = np.random.default_rng(spec.fit.seed)
    golden = _some_rows(data, rng)
    random = random_rows(data.inputs.values(), rng)
    graph = convert(built, spec.heads, spec.name)
    samples = Samples(
        golden, predict(built, golden), random, predict(built, random), is_half(built.model)
    )
    signature = Signature(
        inputs=data.inputs,
        heads=_heads(spec, fitted, data),
        models=spec.models,
        provenance=_provenance(spec, fitted, data),
        warnings=tuple(warning.as_json() for warning in warnings),
    )
    signature = replace(signature, reference=reference(signature, data, fitted.answered))
    try:
        return verify(sign(graph, signature, samples), samples)
    except ExportError as error:
        text = f"{error}{advice(spec, data.inputs)}"
        raise ExportError(text) from error


def _heads(spec: Spec, fitted: Fitted, data: Data) -> dict[str, Head]:
    heads = {}
    for name, head in spec.heads.items():
        output = fitted.built.model.output[name]
        threshold = head.threshold or THRESHOLD if head.kind in THRESHOLDED else None
        tensor = Tensor(name, str(output.dtype), tuple(output.shape[1:]))
        constant = map(np.float32, fitted.scores[name].constant)
        is_number = head.kind == "regression" and tensor.size == 1
        heads[name] = Head(
            name,
            head.kind,
            tensor,
            data.labels[name],
            threshold,
            targets=data.columns[name],
            constant=tuple(map(shortest, constant)),
            statistics=statistics_of(known_targets(data, name)) if is_number else None,
        )
    return heads


def _provenance(spec: Spec, fitted: Fitted, data: Data) -> dict[str, Any]:
    """Return the origin of the model: only what is the same when the run is repeated."""
    return {
        "spec": spec.name,
        "spec_sha256": spec.digest,
        "seed": spec.fit.seed,
        "epochs": fitted.epochs,
        "rows": {_without_host(name): source.rows for name, source in data.sources.items()},
        "tables_sha256": {
            _without_host(name): source.digest for name, source in data.sources.items()
        },
        "scores": {
            name: {
                "metric": score.metric,
                "rows": score.rows,
                "held_out_rows": score.held_out_rows,
                "train": _digits(score.train),
                "held_out": _digits(score.held_out),
                **_test(score),
                "baseline": _digits(score.baseline),
            }
            for name, score in fitted.scores.items()
        },
        **libraries(),
    }


def _test(score: Score) -> dict[str, float | int | None]:
    """Return the score on test rows, if there are any."""
    return {"test_rows": score.test_rows, "test": _digits(score.test)} if score.test_rows else {}


def _digits(score: float | None) -> float | None:
    """Return a score in the fewest digits for its precision, float32 as in Keras' metrics."""
    return None if score is None else shortest(np.float32(score))


def _without_host(csv: str) -> str:
    """Return the file's name in the spec; of an absolute path only the last part."""
    return PurePath(csv).name if PurePath(csv).is_absolute() else csv


def _some_rows(data: Data, rng: np.random.Generator) -> Arrays:
    """Return a few rows as the model was fitted on them."""
    x, _ = pairs(data, rng)
    rows = len(next(iter(x.values())))
    chosen = np.sort(rng.permutation(rows)[:GOLDEN_ROWS])
    return {tensor: array[chosen] for tensor, array in x.items()}
