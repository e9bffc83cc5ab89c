"""The floor: the cost of a request in one process without a server, checks or a queue.

    bytes ─ simdjson ─▶ arrays ─ session.run ─▶ arrays ─ orjson ─▶ bytes

`python -m benchmarks.floor` prints that cost.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import orjson
import simdjson

from benchmarks import models

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks.models import Arrays


def best(work: Callable[[], Any], seconds: float = 0.5) -> float:
    """Return the microseconds that some work takes: the minimum of many tries within `seconds`.

    Disturbances only make a measurement longer, so the minimum is the best estimate.  Short work
    runs in loops, so that reading the clock does not count.
    """
    started = time.perf_counter()
    work()
    loops = max(1, int(0.001 / (time.perf_counter() - started)))
    least = float("inf")
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        for _ in range(loops):
            work()
        least = min(least, (time.perf_counter() - started) / loops)
    return least * 1e6


class Floor:
    """A session and a parser, without anything else of a service."""

    def __init__(self, model: bytes) -> None:
        """Load a model of `benchmarks.models`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._parser = simdjson.Parser()

    def answer(self, body: bytes) -> bytes:
        """Answer a body that is known to be valid."""
        outputs = self._session.run(list(models.HEADS), self._parse(body))
        o1, o2, o3 = outputs
        rows = zip(o1[:, 0], o2[:, 0], o3, strict=True)
        predictions = [
            {"o1": {"value": first}, "o2": {"value": second}, "o3": {"value": third}}
            for first, second, third in rows
        ]
        return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)

    def _parse(self, body: bytes) -> Arrays:
        # A function of its own: the parser accepts no document while parts of another are held.
        document: Any = self._parser.parse(body)
        rows = document["instances"]
        return {name: _join([row[name] for row in rows]) for name in models.INPUTS}


def _join(parts: list[Any]) -> NDArray[np.float32]:
    buffers = [part.as_buffer(of_type="d") for part in parts]
    joined = buffers[0] if len(buffers) == 1 else b"".join(buffers)
    return np.frombuffer(joined).astype(np.float32).reshape(len(parts), -1)


def measure(seconds: float = 0.5) -> dict[str, float]:
    """Return the microseconds of each request of the benchmark, by body."""
    floor = Floor(models.seed())
    times = {}
    for name, rows in models.BODIES.items():
        body = models.body(rows)
        times[name] = best(lambda body=body: floor.answer(body), seconds)  # type: ignore[misc]
    return times


def main() -> None:
    """Print the cost of each body."""
    for name, microseconds in measure().items():
        print(f"{name}: {microseconds:,.1f} µs")


if __name__ == "__main__":
    main()
