"""`small.three` with a reference, rows like those that it is of, and shifted ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import load_model_from_string

from service.inference.model import Model
from service.insight.drift.quantities import columns, quantities
from service.insight.drift.record import record
from tests.harness import small

HEADS = ("risk", "size", "digits", "tags.heavy", "tags.long")
FEATURES = (
    *("insurance.age", "insurance.smoker", "insurance.bmi", "fruit.weight", "fruit.length"),
    *("digit.mean", "digit.deviation", "digit.ink"),
)


def instances(count: int, seed: int, *, older: float = 0.0) -> list[dict[str, Any]]:
    """Return rows as a request has them, with other ages than the reference if asked for."""
    rng = np.random.default_rng(seed)
    return [
        {
            "insurance": {
                "age": round(rng.normal(40, 8) + older, 1),
                "smoker": str(rng.choice(["no", "yes"])),
                "bmi": round(rng.normal(30, 4), 1),
            },
            "fruit": rng.normal(1, 1, 2).round(2).tolist(),
            "digit": rng.normal(10, 3, 4).round(1).tolist(),
        }
        for _ in range(count)
    ]


def arrays(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows by tensor."""
    table = [row["insurance"] for row in rows]
    return {
        "insurance": np.float32([[one["age"], one["bmi"]] for one in table]),
        "insurance.smoker": np.array([[one["smoker"]] for one in table], object),
        "fruit": np.float32([row["fruit"] for row in rows]),
        "digit": np.float32([row["digit"] for row in rows]),
    }


def three(
    rows: int = 2000, seed: int = 1, scale: float = 1.0, models: dict[str, Any] | None = None
) -> bytes:
    """Return the model, with a reference of so many rows."""
    content = small.three(scale, models=models)
    model = Model.load(content)
    signature = model.signature
    inputs = arrays(instances(rows, seed))
    values = {**inputs, **model.predict(inputs, list(signature.heads))}
    chosen = quantities(signature)
    about = {"inputs": "training", "heads": "training"}
    reference = record(chosen, columns(chosen, values, {}), about)
    signature = replace(signature, reference=reference)
    return small.signed(load_model_from_string(content), signature)
