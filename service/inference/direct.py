"""The executor of WSGI servers: each request runs in its own thread, and they are the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.errors import RequestError
from service.inference.batcher import run_batch
from service.wire import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.inference.lane import Asker, Lane
    from service.wire.numbers import Tensors


class Direct:
    """An executor that runs each request at once and by itself, in the calling thread."""

    def submit(
        self, lane: Lane, name: str, heads: Sequence[str], arrays: Tensors, asker: Asker
    ) -> None:
        """Run a request, unless its answer is no longer wanted, and call `asker.done`.

        Args:
            lane: the lane of the model.
            name: the model or the view that the request names; unused, as no runs are shared.
            heads: the heads to compute, as for `model.predict`.
            arrays: the request's arrays, as for `model.predict`.
            asker: the request.
        """
        del name
        if asker.wanted():
            rows = 1 if lane.whole else limits.rows_of(arrays)
            [result] = run_batch(lane.model, heads, [(asker, arrays, rows)], rows)
            asker.done(result)

    def apart(
        self,
        size: int,
        work: Callable[[], Any],
        then: Callable[[Any], None],
        caller: object = None,
    ) -> None:
        """Do long work in this thread, and call `then` with its result or its exception."""
        del size, caller
        try:
            result = work()
        except RequestError as error:
            result = error.alone()
        except Exception as error:  # noqa: BLE001  `then` answers with it
            result = error
        try:
            then(result)
        finally:
            # As in `Queued`: an error must not be one of the variables that it refers to.
            del result

    def answered(self, now: float) -> None:
        """Do nothing: there is no event loop to keep awake."""
