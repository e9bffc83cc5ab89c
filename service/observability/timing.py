"""The moments of one answer, and the stages between them: decode, queue, run and encode."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.run import Run

    # When a request was received, decoded, run (with whom), handed back and encoded.
    Times = tuple[float, float, Run, float, float]

# A request that sends this header with the value 1 gets Server-Timing.  A header, and no query: the
# answer to one URL stays one answer.
ASK_TIMING = "X-Server-Timing"

STAGES = ("decode", "queue", "run", "encode")


def server_timing(times: Times) -> str:
    """The value of a Server-Timing header, in its milliseconds."""
    received, decoded, run, handed, encoded = times
    spent = (decoded - received, run.started - decoded, run.ended - run.started, encoded - handed)
    return ", ".join(
        f"{stage};dur={1000 * seconds:.3f}" for stage, seconds in zip(STAGES, spent, strict=True)
    )
