"""The memory that a container needs, by the formula in docs/container.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def needed(max_body: int, max_in_flight: int) -> float:
    """Return the bytes for one worker with the models of the repository.

    Args:
        max_body: `TRICEPS_MAX_BODY`.
        max_in_flight: `TRICEPS_MAX_IN_FLIGHT`.
    """
    page = (ROOT / "docs" / "container.md").read_text()
    formula = re.search(
        r"^> (\d+) MB \+ workers . \((\d+) MB \+ (\d+) . models \+ (\d+) . `TRICEPS_MAX_BODY` "
        r"\+ ([\d.]+) . `TRICEPS_MAX_IN_FLIGHT`\)$",
        page,
        re.MULTILINE,
    )
    assert formula is not None
    others, worker, models, body, in_flight = map(float, formula.groups())
    size = sum(path.stat().st_size for path in (ROOT / "models").rglob("*.onnx"))
    bodies = body * max_body + in_flight * max_in_flight
    return (others + worker) * 1e6 + models * size + bodies
