"""The memory that counting for drift takes for a model that was asked, in each worker.

    python -m benchmarks.drift_memory

It has the cells of the reference, the rows that wait to be counted, and the counts of both windows
in shared memory.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import report
from service.inference.model import Model
from service.insight.drift.quantities import columns, quantities
from service.insight.drift.record import record
from service.insight.serving.drift import Drift
from service.observability.metrics import Metrics
from service.repository.loader import Servable
from service.run import Part, Run
from tests.harness import small

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Signature

    Arrays = Mapping[str, NDArray[Any]]

SHIPPED = Path("models/triceps/1/model.onnx")
FEATURES = 1000
RUNS = 2000


def wide() -> tuple[Signature, Arrays, Arrays]:
    """Return the signature, rows and answers of a model of very many features."""
    model = Model.load(small.wide_table(FEATURES, 0.0))
    random = np.random.default_rng(1)
    [tensor] = [tensor for entry in model.signature.inputs.values() for tensor in entry.tensors]
    inputs = {tensor.name: random.normal(size=(1000, FEATURES)).astype(np.float32)}
    outputs = model.predict(inputs, list(model.signature.heads))
    chosen = quantities(model.signature)
    about = {"inputs": "training", "heads": "training"}
    reference = record(chosen, columns(chosen, {**inputs, **outputs}, {}), about)
    return replace(model.signature, reference=reference), inputs, outputs


def shipped() -> tuple[Signature, Arrays, Arrays]:
    """Return the signature of the shipped model, with its golden rows and the answers to them."""
    model = Model.load(SHIPPED)
    inputs = model.golden_arrays()
    return model.signature, inputs, model.predict(inputs, list(model.signature.heads))


def measure(setting: str, signature: Signature, inputs: Arrays, outputs: Arrays) -> tuple[int, int]:
    """Return the most bytes of one worker's own memory, and those of shared memory.

    Args:
        setting: TRICEPS_DRIFT.
        signature: the signature of the model.
        inputs: rows.
        outputs: the answers to them.
    """
    metrics = Metrics()
    drift = Drift(setting, metrics)
    model: Any = None
    meter: Any = drift.meter(Servable("model", "1", model, signature))
    inputs = {name: array[:1].copy() for name, array in inputs.items()}
    outputs = {name: array[:1].copy() for name, array in outputs.items()}
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    most = 0
    for _ in range(RUNS):
        meter.answered(Part(Run(1, 0.0, 0.0, outputs, inputs=inputs), 0, 1), ())
        # What counting takes meanwhile is freed, and is not of this model.
        most = max(most, tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    meter.flush()
    shared = sum(numbers.nbytes for _, numbers in metrics.own_vectors.read())
    return most, shared


def main() -> None:
    """Print the memory of the shipped model, and of one with very many features."""
    rows = []
    for name, made in (("shipped", shipped()), (f"{FEATURES:,} features", wide())):
        for setting in ("heads", "features"):
            own, shared = measure(setting, *made)
            rows.append(
                [name, setting, *(f"{size / 1000:,.0f} kB" for size in (own, shared, own + shared))]
            )
    header = ("model", "TRICEPS_DRIFT", "own", "shared", "together")
    report.show(report.Table("Memory of a model in each worker", header, rows), report.console())


if __name__ == "__main__":
    main()
