"""The moments of one answer, and the stages between them: decode, queue, run and encode."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.run import Run

    # The moments at which a request was received, decoded, run, handed back and encoded, by
    # `perf_counter`; the run has two moments of its own.
    Times = tuple[float, float, Run, float, float]

# A request with this header and the value 1 gets a Server-Timing header in its answer.  It is not a
# query parameter, so that one URL keeps one answer.
ASK_TIMING = "X-Server-Timing"

STAGES = ("decode", "queue", "run", "encode")


def server_timing(times: Times) -> str:
    """Return the value of a Server-Timing header, in milliseconds."""
    received, decoded, run, handed, encoded = times
    spent = (decoded - received, run.started - decoded, run.ended - run.started, encoded - handed)
    return ", ".join(
        f"{stage};dur={1000 * seconds:.3f}" for stage, seconds in zip(STAGES, spent, strict=True)
    )
