"""Signing: a graph with its signature, golden rows and provenance included, as a file's bytes."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from service.inference.arrays import difference
from service.inference.model import SERVING_TOLERANCE
from service.metadata import METADATA_KEY, dump
from service.signature import LARGEST_TOLERANCE, Golden
from training.cells import EXACT
from training.errors import ExportError
from training.rounding import rounding
from training.verify import GOLDEN_TOLERANCE, answers_of, load

if TYPE_CHECKING:
    from service.signature import Signature
    from training.rows import Arrays
    from training.samples import Samples

LIBRARIES = ("keras", "numpy", "onnx", "tensorflow", "tf2onnx")


def sign(graph: onnx.ModelProto, signature: Signature, samples: Samples) -> bytes:
    """Write the signature into the graph, with the golden rows of `samples`; return the bytes.

    The same model gives the same bytes.

    Raises:
        ExportError: an answer to a golden row is not finite, or the service would refuse the file.
    """
    for head, answer in samples.golden_answers.items():
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            raise ExportError(
                f"head {head!r} answers rows of its own data with what is no finite number; "
                "nothing was published"
            )
    model = load(_write(graph, signature))
    answers = answers_of(model, samples.golden, list(signature.heads), "golden rows")
    golden = Golden(_as_lists(samples.golden), _as_lists(samples.golden_answers))
    if samples.half:
        # The file meets Keras' answers only roughly, but its own as exactly as any other file does.
        golden = replace(golden, outputs=_as_lists(answers))
    else:
        differences = {
            name: difference(answers[name], y) for name, y in samples.golden_answers.items()
        }
        tolerances = _tolerances(graph, samples.golden, differences)
        stated = {name: float(f"{differences[name]:.2g}") for name in tolerances}
        golden = replace(golden, tolerances=tolerances, differences=stated)
    return _write(graph, replace(signature, golden=golden))


def _tolerances(
    graph: onnx.ModelProto, golden: Arrays, differences: dict[str, float]
) -> dict[str, float]:
    """Return the tolerances of the heads for which the usual ones are too small.

    They are the rounding error of float32 for the golden rows, and never over `LARGEST_TOLERANCE`.
    """
    errors = rounding(graph, golden)
    return {
        head: float(f"{min(error, LARGEST_TOLERANCE):.2g}")
        for head, error in errors.items()
        if error > SERVING_TOLERANCE or differences[head] > GOLDEN_TOLERANCE < error
    }


def _write(graph: onnx.ModelProto, signature: Signature) -> bytes:
    onnx.helper.set_model_props(graph, {METADATA_KEY: dump(signature)})
    return graph.SerializeToString(deterministic=True)


def libraries() -> dict[str, Any]:
    """Return the versions of Python and of the libraries that a file can depend on."""
    major, minor, *_ = platform.python_version_tuple()
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return {"python": f"{major}.{minor}", "libraries": versions}


def _as_lists(arrays: Arrays) -> dict[str, list[Any]]:
    """Return arrays as lists for JSON, in the fewest digits that give the same float32 again."""
    return {name: _listed(array) for name, array in arrays.items()}


def _listed(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return [_listed(value) for value in values]
    if isinstance(values, np.floating):
        return shortest(values)
    return values.item() if isinstance(values, np.generic) else values


def shortest(value: Any) -> float | int:
    """Return the number in the fewest digits that give it again in its own precision."""
    number = float(str(value))
    return int(number) if number.is_integer() and abs(number) < EXACT else number
