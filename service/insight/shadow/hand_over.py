"""The hand-over of answered rows to the process of the shadow; a worker's event loop calls it.

take ─ its turn? idle enough? ─▶ copies, as one message ─ send ─▶ the process that runs shadows
                   │                                        │
                   └─ no ─────────▶ dropped, counted ◀─ no ─┘
"""

from __future__ import annotations

import logging
from collections import Counter
from random import random
from time import perf_counter
from typing import TYPE_CHECKING, Any

from service.inference.lane import LEAST_WAITING
from service.insight.shadow import figures
from service.insight.shadow.handed import Handed, size_of
from service.insight.shadow.pairs import Chosen, pairs_of
from service.observability.shared_memory import STOPS
from service.wire.numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from service.inference.lane import Lane
    from service.inference.model import Model
    from service.insight.shadow.figures import Pair
    from service.observability.metrics import Metrics
    from service.repository.repository import Repository
    from service.run import Part
    from service.wire.dialect import Query

log = logging.getLogger(__name__)

# The most rows of a request that are handed over, and their bytes.
MOST_ROWS = 256
MOST_BYTES = 2**20
# Rows with more texts are not handed over: to measure each would take milliseconds.
MOST_TEXTS = 2**15
# The time for which nothing is handed over after there was no room.
PAUSE_SECONDS = 0.01
# The time between two requests of a pair that has stopped: they tell the other process what has
# changed since.
STOPPED_SECONDS = 1.0


class HandOver:
    """The hand-over of one worker."""

    def __init__(
        self, send: Callable[[bytes], bool], metrics: Metrics, note: Callable[[int], None]
    ) -> None:
        """Hand over rows.

        Args:
            send: sends a message, and returns whether there was room for it; it never blocks.
            metrics: count what was dropped, and have what other processes count.
            note: takes the number of models with a shadow, whenever it may have changed.
        """
        self._send = send
        self._metrics = metrics
        self._note = note
        self._chosen: Mapping[Model, Chosen] = {}
        # The last pair and files of each model, to count anew once they change.
        self._known: dict[str, tuple[Pair, str]] = {}
        self._dropped: Counter[Pair] = Counter()
        self._stopped: Mapping[Pair, str] = {}
        self._changes = -1
        self._resumes = 0.0
        self._told: dict[Pair, float] = {}
        self._has_failed = False

    @property
    def is_needed(self) -> bool:
        """True if a model has a shadow."""
        return bool(self._chosen)

    def use(self, repository: Repository) -> None:
        """Choose rows of the pairs of another repository from now on."""
        self._chosen = pairs_of(repository)
        self._note(len(self._chosen))
        for chosen in self._chosen.values():
            pair = chosen.pair
            known = self._known.get(pair.model)
            if known not in (None, (pair, chosen.files)):
                self._dropped.pop(pair, None)
                figures.restart(self._metrics.region, pair)
            self._known[pair.model] = pair, chosen.files

    def take(self, lane: Lane, query: Query, part: Part) -> None:
        """Hand over rows of an answered request, if it is its turn.  This raises nothing.

        Args:
            lane: the lane of the model that answered.
            query: the decoded request.
            part: its rows of a run.
        """
        chosen = self._chosen.get(lane.model)
        # The rows of an explanation are run many times already.
        if chosen is None or query.explain is not None:
            return
        if random() >= chosen.share:  # noqa: S311  nobody gains by a guess
            return
        try:
            rows = self._take(chosen, lane, query, part)
        except Exception:
            if not self._has_failed:
                log.exception("rows could not be handed to the shadow")
            self._has_failed = True
            rows = part.end - part.start
        if rows:
            self._dropped[chosen.pair] += rows

    def look(self) -> None:
        """Count what was dropped, and see what has stopped; to be called once a second."""
        dropped, self._dropped = self._dropped, Counter()
        for pair, rows in dropped.items():
            figures.count(self._metrics.region, pair, figures.DROPPED, rows)
        region = self._metrics.shadow
        changes = region.header[STOPS]
        if self._chosen and changes != self._changes:
            # Not each time: there may be the names of thousands of pairs, and the other process may
            # be left without a processor while it writes.
            self._changes = changes
            self._stopped = figures.stopped(region)

    def _take(self, chosen: Chosen, lane: Lane, query: Query, part: Part) -> int:
        """Hand over rows of a request, and return the number of rows that are dropped."""
        now, rows = perf_counter(), part.end - part.start
        if chosen.pair in self._stopped:
            if now - self._told.get(chosen.pair, 0.0) < STOPPED_SECONDS:
                return 0
            self._told[chosen.pair] = now
        elif now < self._resumes or _is_busy(lane):
            return rows
        arrays = query.arrays.make() if isinstance(query.arrays, Numbers) else query.arrays
        outputs = {head: part.outputs()[head] for head in query.heads}
        # Cut first: to look at all texts of a large request would take long.
        most = min(MOST_ROWS, rows)
        arrays, outputs = _first(most, arrays), _first(most, outputs)
        if sum(array.size for array in arrays.values() if array.dtype == object) > MOST_TEXTS:
            return rows
        size = _size(arrays, outputs)
        if size > MOST_BYTES:
            most = most * MOST_BYTES // size
            arrays, outputs = _first(most, arrays), _first(most, outputs)
            size = _size(arrays, outputs)
        # One row may have nearly all bytes, and be the first.
        if not most or size > MOST_BYTES or (most < rows and not chosen.by_row):
            return rows
        message = Handed(chosen.pair, chosen.files, chosen.file, arrays, outputs).encode()
        if self._send(message):
            return 0
        self._resumes = now + PAUSE_SECONDS
        return most


def _first(rows: int, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: array[:rows] for name, array in arrays.items()}


def _size(*groups: Mapping[str, NDArray[Any]]) -> int:
    return sum(size_of(array) for group in groups for array in group.values())


def _is_busy(lane: Lane) -> bool:
    """Return whether callers wait for the model; the shadow is shed first."""
    return lane.admission.is_short or lane.requests + lane.coming >= LEAST_WAITING
