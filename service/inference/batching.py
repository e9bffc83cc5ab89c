"""The batching modes: which requests may share a run of a model, and on what evidence.

rows    requests run together, and a large one in pieces: each answer depends on its row alone
alone   each request runs by itself: its graph takes one row per run, or a setting requires it
joint   each request runs by itself, whole, in one run: its rows depend on each other, or may
tensor  each request runs by itself, whole: its graph has no batch axis to join or to cut along
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Mode = Literal["rows", "alone", "joint", "tensor"]
Evidence = Literal["operators", "trial", "setting"]

# The most rows of a request that must not be cut into several runs.
MOST_ROWS_WHOLE = 4096


@dataclass(frozen=True)
class Batching:
    """The batching mode of one model, with its evidence and its reason."""

    mode: Mode
    evidence: Evidence
    """The source of the verdict: the graph's operators, a trial of its runs, or a setting."""
    reason: str

    def __str__(self) -> str:
        """Return mode, evidence and reason, as logs and terminals show them."""
        return f"{self.mode} ({self.evidence}): {self.reason}"

    def as_json(self) -> dict[str, str]:
        """Return the verdict as `/models/<name>` shows it."""
        return asdict(self)
