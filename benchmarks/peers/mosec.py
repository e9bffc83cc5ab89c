"""mosec, whose Rust front end gathers requests and hands them to worker processes.

BENCH_BATCH="16 1" python -m benchmarks.peers.mosec --port 8000    (batches of 16, within 1 ms)

It uses orjson, the likely choice of users that pick mosec for its speed.
"""

from __future__ import annotations

import os
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson
from mosec import Server, Worker

from benchmarks.peers.predictor import Predictor, answer, to_arrays


class Inference(Worker):
    """A worker process; `forward` gets a request, or a list of requests if they are batched."""

    def __init__(self) -> None:
        super().__init__()
        self._predictor = Predictor()

    def deserialize(self, data: bytes) -> Any:
        """Parse a body."""
        return orjson.loads(data)

    def serialize(self, data: Any) -> bytes:
        """Encode an answer."""
        return orjson.dumps(data)

    def forward(self, data: Any) -> Any:
        """Answer a batch with one run of the model."""
        if self.max_batch_size == 1:
            return self._predictor.predict(data["instances"])
        arrays = to_arrays([row for body in data for row in body["instances"]])
        outputs = self._predictor.run(arrays)
        ends = accumulate((len(body["instances"]) for body in data), initial=0)
        return [
            answer([np.asarray(output[start:end]) for output in outputs])
            for start, end in pairwise(ends)
        ]


if __name__ == "__main__":
    size, wait = map(int, os.environ.get("BENCH_BATCH", "1 0").split())
    server = Server()
    server.append_worker(
        Inference, num=2, max_batch_size=size, max_wait_time=wait, route="/predict"
    )
    server.run()
