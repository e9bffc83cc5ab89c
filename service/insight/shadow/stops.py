"""The stops of candidates: the reasons for which one is not run any more.

A stopped candidate starts again when the file of shares, or that of one of both versions, changes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from service.insight.shadow import figures

if TYPE_CHECKING:
    from service.insight.shadow.figures import Pair
    from service.observability.shared_memory import Region

log = logging.getLogger(__name__)

# One run may take no longer, in processor time and in time; a run that does not end is ended with
# its process.
RUN_SECONDS = 10.0
WAIT_SECONDS = 600.0
# The mean of the last runs, and their number, from which on a candidate is too slow.
SLOW_SECONDS = 1.0
SLOW_RUNS = 8
# The runs in succession that fail before a candidate is not run any more.
MOST_FAILURES = 10
# By reason, as the label of the metric has it: the sentence for a client.
REASONS = {
    "refused": "it is refused",
    "large": "it takes more memory than the process of the shadow may have",
    "unlike": "no head can be compared",
    "failed": f"{MOST_FAILURES} runs in succession failed",
    "slow": f"a run took longer than {RUN_SECONDS:g} s, or the mean of {SLOW_RUNS} runs was above "
    f"{SLOW_SECONDS:g} s, in processor time",
    "ended": "the process of the shadow ended during a run of it",
}


class StopError(Exception):
    """A candidate is not run any more; the reason by its name in `REASONS`, and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def note(region: Region, pair: Pair, stop: StopError) -> None:
    """Note that the candidate of a pair has stopped, and log why."""
    with region.writing() as numbers:
        numbers[region.place("shadow_stopped", *pair, stop.reason)] = 1
    figures.tell(region)
    report(pair, str(stop))


def report(pair: Pair, why: str) -> None:
    """Log why the candidate of a pair has stopped."""
    log.error(
        "%s: the shadow, version %s beside version %s, has stopped: %s; it starts again once its "
        "shares are set again",
        *(*pair, why),
    )
