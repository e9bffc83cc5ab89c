"""Many rows of one request, run in slices, between which the rows of other requests run.

    [rows, …] ─▶ slice ─ submit ─▶ done ─▶ next slice ─ … ─▶ parts ─ join ─▶ one run

Each slice waits in the queue like a request of its own.  It is dropped if the deadline of the
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
    """The slices of one request, and an `Asker` for each of them."""

    def __init__(
        self,
        submit: Callable[[Arrays, Asker], None],
        lane: Lane,
        asker: Asker,
        then: Callable[[list[Part] | Exception], None],
        keep: Callable[[Part, int], Part] = lambda part, _: part,
    ) -> None:
        """Prepare to run rows; `start` begins.

        Args:
            submit: queues rows for an asker.
            lane: the lane of the model.
            asker: the request; its own `done` is not called.
            then: called with the answers to all slices in order, or with the first exception.
            keep: returns what is kept of the answer to a slice, whose first row it gets the number
                of; by default all of it.
        """
        self._submit = submit
        self._lane = lane
        self._asker = asker
        self._then = then
        self._keep = keep
        self._arrays: Arrays = {}
        self._rows = 0
        self._submitted = 0
        self._answered = 0
        self._parts: list[Part] = []
        # Whether a slice waits or runs, and whether `_go_on` is at work.
        self._waits = False
        self._is_going = False
        self._is_over = False

    def start(self, arrays: Arrays) -> None:
        """Submit the first slice; the others follow, each after the answer to the one before.

        Args:
            arrays: all rows by tensor, [rows, …].
        """
        self._arrays = arrays
        self._rows = len(next(iter(arrays.values())))
        self._lane.sliced_rows += self._rows
        self._lane.sliced_requests += 1
        try:
            self._go_on()
        except BaseException:
            self._end()
            raise

    def _go_on(self) -> None:
        # A loop, since an executor may answer within `submit`: slices must not nest.
        self._is_going = True
        while self._submitted < self._rows and not self._waits:
            # A model that runs each request whole gets it whole.
            step = self._rows if self._lane.model.runs_whole else self._lane.most
            start, end = self._submitted, min(self._submitted + step, self._rows)
            self._lane.sliced_rows -= end - start
            self._submitted, self._waits = end, True
            self._submit({name: array[start:end] for name, array in self._arrays.items()}, self)
        self._is_going = False

    def _end(self) -> None:
        """Forget the slices that are not submitted; called once, by whatever comes first."""
        if not self._is_over:
            self._is_over = True
            self._lane.sliced_requests -= 1
            self._lane.sliced_rows -= self._rows - self._submitted
            self._submitted = self._rows

    def wanted(self) -> bool:
        """Return whether the answer is still wanted; if not, no further slice is."""
        try:
            is_wanted = self._asker.wanted()
        except BaseException:
            self._end()
            raise
        if not is_wanted:
            self._end()
        return is_wanted

    def may_return(self) -> bool:
        """Return whether the client may send another request: not before the last slice."""
        return self._is_over and self._asker.may_return()

    def done(self, result: Part | Exception) -> None:
        """Take the answer to a slice: submit the next one, or answer the request."""
        if isinstance(result, Exception):
            self._end()
            self._then(result)
            return
        try:
            self._parts.append(self._keep(result, self._answered))
            self._answered += result.end - result.start
            self._waits = False
            if self._submitted < self._rows:
                if not self._is_going:
                    self._go_on()
                return
        except Exception as error:  # noqa: BLE001  the request is answered with it
            self._end()
            self._then(error)
            return
        self._end()
        self._then(self._parts)


def join(parts: list[Part]) -> Run:
    """Return the answers to all slices, or what is kept of them, as one run; this copies them."""
    outputs = [part.outputs() for part in parts]
    joined = {head: np.concatenate([each[head] for each in outputs]) for head in outputs[0]}
    rows = sum(part.end - part.start for part in parts)
    return Run(rows, parts[0].run.started, parts[-1].run.ended, joined)
