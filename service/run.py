"""A run of a model, and the part of it that belongs to one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(slots=True)
class Run:
    """One execution of a model: its rows, its outputs by head, [rows, …], and its start and end.

    Times are those of `perf_counter`, in seconds.  All requests of a run share one `Run`, so the
    metrics mark it as `counted`.  The writers of answers keep the pieces of its text in `pieces`
    for the other requests, and the bytes of its outputs by head in `contents`.  `inputs` are the
    rows by tensor, and `taken` the numbers of those whose features are counted for drift.
    """

    rows: int
    started: float
    ended: float
    outputs: Mapping[str, NDArray[Any]]
    counted: bool = False
    pieces: list[bytes] | None = None
    contents: Mapping[str, bytes] | None = None
    inputs: Mapping[str, NDArray[Any]] | None = None
    taken: range | None = None


class Part(NamedTuple):
    """The rows of a run from `start` up to, but not including, `end`."""

    run: Run
    start: int
    end: int

    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """Return the outputs of these rows by head, [rows, …]."""
        run, start, end = self
        if end - start == run.rows:
            return run.outputs
        return {head: output[start:end] for head, output in run.outputs.items()}
