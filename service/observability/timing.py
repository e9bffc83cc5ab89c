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

# The indices, in `moments`, of the beginning and the end of each stage.
STAGES = {"decode": (0, 1), "queue": (1, 2), "run": (2, 3), "encode": (4, 5)}


def moments(times: Times) -> tuple[float, float, float, float, float, float]:
    """Return the six moments of an answer: its own, and the beginning and end of its run."""
    received, decoded, run, handed, encoded = times
    return received, decoded, run.started, run.ended, handed, encoded


def stage_seconds(times: Times) -> tuple[float, float, float, float]:
    """Return the seconds of each of the `STAGES`."""
    received, decoded, run, handed, encoded = times
    started = run.started
    return decoded - received, started - decoded, run.ended - started, encoded - handed


def server_timing(times: Times) -> str:
    """Return the value of a Server-Timing header, in milliseconds."""
    return ", ".join(
        f"{stage};dur={1000 * seconds:.3f}"
        for stage, seconds in zip(STAGES, stage_seconds(times), strict=True)
    )
