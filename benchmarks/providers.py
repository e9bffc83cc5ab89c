"""The execution providers of the installed ONNX Runtime, beside its CPU provider.

    build/accelerators/bin/python -m benchmarks.providers [--write]     (after make accelerators)

Each model is loaded as the service loads it, with its proof against the CPU, and then runs rows in
this process.  One and all processors are measured apart, since a worker's runs usually have one.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click
import numpy as np
import onnxruntime

from benchmarks import report
from benchmarks.threads import SIDE, picture
from service.errors import ModelRefused
from service.host import processors
from service.inference.execution import CPU, FULL, Execution
from service.inference.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.float32]]

PAGE = Path(__file__).parent / "PROVIDERS.md"
ROUNDS = 7
SEED = Path("models/triceps/1/model.onnx")
OPENVINO = "OpenVINOExecutionProvider"


def executions() -> dict[str, Execution]:
    """Return the executions to measure, by name: one processor and all, by each provider."""
    every = processors.available()
    found = {f"{CPU}, {n} of {every} processors": Execution(n) for n in sorted({1, every})}
    for provider in onnxruntime.get_available_providers():
        if provider == OPENVINO:
            for threads in sorted({1, every}):
                options = (("device_type", "CPU"), ("num_of_threads", str(threads)))
                name = f"{provider}, {threads} of {every} processors"
                found[name] = Execution(provider=provider, options=options)
        elif provider not in {CPU, "AzureExecutionProvider"}:
            found[provider] = Execution(provider=provider)
    return found


def seed_rows(count: int) -> Arrays:
    """Return rows of the shipped model."""
    model = Model.load(SEED)
    golden = model.golden_arrays()
    return {name: np.resize(array, (count, *array.shape[1:])) for name, array in golden.items()}


def pictures(count: int) -> Arrays:
    """Return pictures for the model of `benchmarks.threads`."""
    random = np.random.default_rng(1)
    return {"x": random.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)}


def milliseconds(model: Model, arrays: Arrays) -> float:
    """Return the time of a run, the median of several."""
    heads, taken = list(model.signature.heads), []
    model.predict(arrays, heads)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        model.predict(arrays, heads)
        taken.append(time.perf_counter() - began)
    return median(taken) * 1e3


def table(
    title: str, source: Path | bytes, rows: Callable[[int], Arrays], many: int
) -> report.Table:
    """Return the figures of a model by each provider."""
    lines, base = [], 0.0
    for name, execution in executions().items():
        began = time.perf_counter()
        try:
            model = Model.load(source, execution)
        except ModelRefused as error:
            lines.append([name, f"refused: {error}", "", "", "", ""])
            continue
        loaded = time.perf_counter() - began
        one, several = milliseconds(model, rows(1)), milliseconds(model, rows(many))
        base = base or one
        mode, apart = model.batching.mode, f"{model.difference:.1e}"
        figures = [f"{loaded:.2f}", f"{one:.3g}", f"{base / one:.2f}", f"{several:.3g}"]
        lines.append([name, *figures, mode, apart])
    header = ("provider", "load, s", "1 row, ms", "times as fast", f"{many} rows, ms", "mode")
    return report.Table(title, (*header, f"difference (goal ≤ {FULL:g})"), lines)


@click.command()
@click.option("--write", "writes", is_flag=True, help=f"Write benchmarks/{PAGE.name}.")
def main(*, writes: bool) -> None:
    """Measure, print a table for each model, and write them if asked to."""
    tables = [
        table("The shipped model", SEED, seed_rows, 64),
        table("Sixteen convolutions over a picture", picture(), pictures, 4),
    ]
    console = report.console()
    for one in tables:
        report.show(one, console)
    if writes:
        how = f"medians of {ROUNDS} runs, by ONNX Runtime {onnxruntime.__version__}"
        report.write_page(PAGE, "Execution providers", tables, how=how)


if __name__ == "__main__":
    main()
