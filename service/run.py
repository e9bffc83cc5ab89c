"""One run of a model, and the rows of it that are one request's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(slots=True)
class Run:
    """All rows of a run, what came of them by head, [rows, …], and its time by `perf_counter`.

    Each of its requests gets the same one.  So whoever counts runs notes here that it is `counted`,
    and whoever writes rows keeps here the text of each, for the next request of it.
    """

    rows: int
    started: float
    ended: float
    outputs: Mapping[str, NDArray[Any]]
    counted: bool = False
    texts: list[bytes] | None = None


class Part(NamedTuple):
    """The rows of a run from `start` to before `end`."""

    run: Run
    start: int
    end: int

    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """By head, what came of these rows."""
        run, start, end = self
        if end - start == run.rows:
            return run.outputs
        return {head: output[start:end] for head, output in run.outputs.items()}
