"""The code that all peers share: rows of JSON to arrays, a run of the model, arrays to JSON.

It is the small amount of code that a user writes around ONNX Runtime, without any checks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.float32]]

# The environment variable with the path of the model.
VARIABLE = "BENCH_MODEL"

INPUTS = ("insurance", "fruit", "digit")
HEADS = ("o1", "o2", "o3")
LABELS = {"o1": ("no", "yes"), "o2": ("Apple", "Banana"), "o3": tuple("0123456789")}


class Predictor:
    """A session that uses one thread, since there is a worker for each core."""

    def __init__(self) -> None:
        """Load the model that the benchmark names."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ[VARIABLE], options, providers=["CPUExecutionProvider"]
        )

    def predict(self, instances: list[dict[str, Any]]) -> dict[str, Any]:
        """Answer the rows of a request."""
        return answer(self.run(to_arrays(instances)))

    def run(self, arrays: Arrays) -> list[NDArray[np.float32]]:
        """Return the arrays of all heads."""
        outputs: list[NDArray[np.float32]] = self._session.run(list(HEADS), arrays)
        return outputs


def to_arrays(instances: list[dict[str, Any]]) -> Arrays:
    """Convert rows to arrays by input."""
    return {name: np.array([row[name] for row in instances], dtype=np.float32) for name in INPUTS}


def answer(outputs: list[NDArray[np.float32]]) -> dict[str, Any]:
    """Convert the arrays of the heads to the same answer as Triceps."""
    o1, o2, o3 = outputs
    rows = zip(
        o1[:, 0].tolist(), o2[:, 0].tolist(), o3.tolist(), o3.argmax(axis=1).tolist(), strict=True
    )
    return {
        "model": "bench",
        "version": "1",
        "predictions": [
            {
                "o1": {"value": first, "label": LABELS["o1"][first > 0.5]},  # noqa: PLR2004  the threshold
                "o2": {"value": second, "label": LABELS["o2"][second > 0.5]},  # noqa: PLR2004  likewise
                "o3": {"value": third, "label": LABELS["o3"][best]},
            }
            for first, second, third, best in rows
        ],
    }
