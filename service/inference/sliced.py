"""Many rows of one request, run in slices, between which the rows of other requests run.

    [rows, …] ─▶ slice ─ submit ─▶ done ─▶ next slice ─ … ─▶ all outputs by head, [rows, …]

Each slice waits in the queue like a request of its own, so it is dropped if the deadline of the
request passes or its client goes, and the slices after it never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.run import Part, Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.inference.lane import Asker, Lane
    from service.wire.numbers import Arrays


class Sliced:
    """An `Asker` for each slice; all outputs go to the `done` of one for the whole request."""

    def __init__(
        self, submit: Callable[[Arrays, Asker], None], arrays: Arrays, lane: Lane, asker: Asker
    ) -> None:
        """Prepare to run rows; `start` begins.

        Args:
            submit: queues rows for an asker.
            arrays: all rows by tensor, [rows, …].
            lane: the lane of the model.
            asker: the request.
        """
        self._submit = submit
        self._arrays = arrays
        self._lane = lane
        self._asker = asker
        self._rows = len(next(iter(arrays.values())))
        # The rows that are submitted, and the answers to them.
        self._submitted = 0
        self._parts: list[Part] = []
        self._waits = False
        self._is_looping = False

    def start(self) -> None:
        """Run the first slice, and the others after it."""
        # A loop, since an executor may answer within `submit`: slices must not nest.
        self._is_looping = True
        while self._submitted < self._rows and not self._waits:
            # A model that runs each request whole gets it whole.
            step = self._rows if self._lane.model.runs_whole else self._lane.most
            start, end = self._submitted, self._submitted + step
            self._submitted, self._waits = end, True
            self._submit({name: array[start:end] for name, array in self._arrays.items()}, self)
        self._is_looping = False

    def wanted(self) -> bool:
        """Return whether the answer is still wanted."""
        return self._asker.wanted()

    def may_return(self) -> bool:
        """Return whether the client, once it is answered, may send another request."""
        return self._asker.may_return()

    def done(self, result: Part | Exception) -> None:
        """Take the answer to a slice: submit the next one, or answer the request."""
        if isinstance(result, Exception):
            self._asker.done(result)
            return
        self._parts.append(result)
        self._waits = False
        if self._submitted >= self._rows:
            self._asker.done(self._joined())
        elif not self._is_looping:
            try:
                self.start()
            except Exception as error:  # noqa: BLE001  the request is answered with it
                self._asker.done(error)

    def _joined(self) -> Part:
        """Return the answers to all slices as those of one run."""
        parts = [part.outputs() for part in self._parts]
        outputs = {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}
        first, last = self._parts[0].run, self._parts[-1].run
        return Part(Run(self._rows, first.started, last.ended, outputs), 0, self._rows)
