"""How requests for a model may share its runs, what shows that, and why.

rows    requests run together, and a large one in pieces: each row's answer depends on it alone
alone   each request runs by itself: its graph takes one row a run, or a setting asks for it
joint   each request runs by itself, whole, in one run: its rows depend on each other, or may
tensor  each request runs by itself, whole: its graph has no batch axis to join or to cut along
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Mode = Literal["rows", "alone", "joint", "tensor"]
Evidence = Literal["operators", "trial", "setting"]


@dataclass(frozen=True)
class Batching:
    """The verdict on one model."""

    mode: Mode
    evidence: Evidence
    """What shows it: the graph's operators, a trial of its runs, or a person's setting."""
    reason: str

    def __str__(self) -> str:
        """Name mode, evidence and reason, as a log and a terminal show them."""
        return f"{self.mode} ({self.evidence}): {self.reason}"

    def as_json(self) -> dict[str, str]:
        """Give the verdict as `/models/<name>` shows it."""
        return asdict(self)
