"""Runs in the thread that asks: what a WSGI server has, whose threads are the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.inference.batcher import run_batch
from service.wire import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.inference.lane import Asker, Given, Lane


class Direct:
    """An executor that runs each request at once, by itself."""

    def submit(
        self, lane: Lane, name: str, heads: Sequence[str], arrays: Given, asker: Asker
    ) -> None:
        """Compute `heads` from `arrays`, and tell `asker`, if it still waits.

        Args:
            lane: of the model.
            name: what was asked, which makes no difference here.
            heads: as for `model.predict`.
            arrays: likewise.
            asker: whom to tell.
        """
        del name
        if asker.wanted():
            rows = 1 if lane.whole else limits.rows_of(arrays)
            [came] = run_batch(lane.model, heads, [(asker, arrays, rows)], rows)
            asker.done(came)

    def apart(self, size: int, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do long work right here, and go on with what came of it, be that an exception."""
        del size
        try:
            came = work()
        except Exception as error:  # noqa: BLE001  `then` answers with it
            came = error
        then(came)

    def answered(self, now: float) -> None:
        """Note nothing: there is no event loop to keep awake."""
