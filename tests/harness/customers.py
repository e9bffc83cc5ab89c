"""Customers who stay or leave, and three versions of a model of them, as ONNX files to be signed.

customer (age, income, visits) → churn: 0.9 - visits / 25, "leaves" from 0.5 on, as half of them do;
value: age + income / 10.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.harness import small

FEATURES = ("age", "income", "visits")
# The share of customers who have another label in version 2, and what it adds to all chances.
DISAGREEMENT = 0.1
DIFFERENCE = 0.08
MOST_VISITS = 20
_SLOWER = 240
_WIDTH = 1024


def rows(count: int, seed: int, *, months: int = 1) -> list[dict[str, float]]:
    """Return customers, all drawn alike.

    Args:
        count: their number.
        seed: of the draw.
        months: those of the income, which a client may send for a year by mistake.
    """
    random = np.random.default_rng(seed)
    return [
        {
            "age": round(random.uniform(18, 70), 1),
            "income": round(months * random.normal(3000, 500), 2),
            "visits": round(random.uniform(0, MOST_VISITS), 3),
        }
        for _ in range(count)
    ]


def csv(customers: list[dict[str, float]]) -> str:
    """Return customers as a table."""
    lines = [",".join(FEATURES), *(",".join(map(str, one.values())) for one in customers)]
    return "\n".join(lines) + "\n"


def model(version: int) -> bytes:
    """Return a version: 2 says "leaves" of a tenth more, and 3 says the same, but takes long."""
    nodes = [
        helper.make_node("MatMul", ["customer", "weights"], ["sums"]),
        helper.make_node("Add", ["sums", "bias"], ["scores"]),
        helper.make_node("Split", ["scores"], ["fast", "value"], axis=1, num_outputs=2),
    ]
    constants: dict[str, Any] = {
        "weights": np.float32([[0, 1], [0, 0.1], [-0.8 / MOST_VISITS, 0]]),
        "bias": np.float32([0.9 + (DIFFERENCE if version > 1 else 0), 0]),
    }
    if version < 3:
        nodes.append(helper.make_node("Identity", ["fast"], ["churn"]))
    else:
        steps = ["wide", *(f"step{number}" for number in range(_SLOWER))]
        nodes.append(helper.make_node("MatMul", ["fast", "row"], ["wide"]))
        nodes += [
            helper.make_node("MatMul", [before, "square"], [after])
            for before, after in itertools.pairwise(steps)
        ]
        nodes.append(helper.make_node("ReduceSum", [steps[-1], "last"], ["nothing"], keepdims=1))
        nodes.append(helper.make_node("Add", ["fast", "nothing"], ["churn"]))
        constants |= {
            "row": np.zeros((1, _WIDTH), np.float32),
            "square": np.eye(_WIDTH, dtype=np.float32),
            "last": np.array([1]),
        }
    heads = [(name, TensorProto.FLOAT, ["batch", 1]) for name in ("churn", "value")]
    made = small.model(nodes, [("customer", TensorProto.FLOAT, ["batch", 3])], heads, constants)
    return bytes(made.SerializeToString())
