"""The pipeline for a client in the same process: decoded values in, arrays or an exception out.

    Query ─▶ Pipeline, with the executor `Direct` ─▶ Part        or the error, as it was raised

The bounds that protect a service from its clients, and clients from each other, do not apply here:
the caller's own program is the only client, and has the machine to itself.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import RequestError
from service.http.access import Access
from service.inference.direct import Direct
from service.inference.lane import Lane
from service.insight import explanations
from service.observability.metrics import Metrics
from service.prediction import Pipeline
from service.settings import Settings
from service.wire import native
from service.wire.dialect import Codec, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.prediction import Route
    from service.repository.loader import Servable
    from service.run import Part
    from service.wire.explanations import Explanations
    from service.wire.numbers import Arrays

    Outputs = Mapping[str, NDArray[Any]]

_JSON = {b"content-type": b"application/json"}
# Bytes that are never counted: bodies and answers of a client in the same process are its own.
_ANY_SIZE = 2**62


class Outcome(NamedTuple):
    """An answer: its outputs by head, [rows, …] in the graph's dtypes, and its explanations."""

    outputs: Outputs
    explained: Explanations | None


class InProcess(Pipeline):
    """A pipeline whose client gets errors as they were raised, and bugs too."""

    def __init__(self) -> None:
        """Start without tokens, and with settings that refuse nothing."""
        settings = Settings(models=Path(), max_in_flight=_ANY_SIZE)
        super().__init__(settings, Metrics(), Access(None), Direct())

    def fail(
        self, route: Route | None, exchange: Any, error: Exception, request_id: str = ""
    ) -> None:
        """Keep the error for the caller, to whom it is raised."""
        del request_id
        if route is not None:
            route.meter.failed(getattr(error, "status", 500))
        exchange.error = error

    def open(self, servable: Servable) -> Route:
        """Return the route to a model, which refuses no request for its time or its size."""
        route = self.route(servable, native.DIALECT, Lane(servable.model))
        return replace(route, rows_at_once=_ANY_SIZE, queue=math.inf, timeout=math.inf)

    def run(self, route: Route, query: native.Query[Arrays]) -> Outcome:
        """Return the answer to a request.

        Raises:
            CannotRun: the graph has no answer for these values.
            TooLarge: the rows must be one run, and are more than that takes; or an explanation
                takes too many.
            UndeclaredAnswer: a head answers with another shape or dtype than the graph declares.
        """
        exchange = Exchange(f"a call of {route.servable.name}")
        codec = Codec(lambda _body, _header: query, exchange.keep_part)
        dialect = replace(native.DIALECT, encode=exchange.keep)
        self.predict(replace(route, codec=codec, dialect=dialect), exchange)
        return exchange.outcome()

    def explain(self, route: Route, query: native.Query[Arrays]) -> list[Explanations]:
        """Return the explanations of a request, in as many parts as its bounds require.

        Raises:
            BadRequest: the rows depend on each other.
            CannotRun, UndeclaredAnswer: as `run`.
            TooLarge: one row alone takes too many runs, or the rows must not be cut.
        """
        signature, model = route.servable.signature, route.servable.model
        pieces = [query] if model.runs_whole else explanations.split(signature, query, model)
        outcomes = (self.run(route, piece) for piece in pieces)
        return [outcome.explained for outcome in outcomes if outcome.explained is not None]


class Exchange:
    """A call of a function as a `service.exchange.Exchange`."""

    caller = None
    origin = None
    body = b""
    headers = _JSON
    request_id = ""

    def __init__(self, what: str) -> None:
        """Stand for the call `what`."""
        self.what = what
        self.error: Exception | None = None
        self._outcome: Outcome | None = None

    def header(self, name: str) -> str:
        """Return an empty string: no header says anything about values."""
        del name
        return ""

    def is_open(self) -> bool:
        """Return that the caller waits."""
        return True

    def common(self, request_id: str = "") -> bytes:
        """Return no header lines."""
        del request_id
        return b""

    def keep_part(self, query: Any, part: Part) -> Reply:
        """Keep a part of a run, as `keep` does."""
        return self.keep(query, "", "", None, part.outputs())

    def keep(self, query: Any, name: str, version: str, signature: Any, outputs: Outputs) -> Reply:
        """Keep the arrays of an answer, which would otherwise be encoded."""
        del name, version, signature
        self._outcome = Outcome(outputs, query.explained)
        return Reply(b"")

    def respond(self, status: int, content: bytes, lines: bytes) -> None:
        """Do nothing: the answer is kept already."""
        del status, content, lines

    def abort(self) -> None:
        """Do nothing: there is no connection."""

    def outcome(self) -> Outcome:
        """Return the answer, or raise the error of the request."""
        error, self.error = self.error, None
        if error is None and self._outcome is not None:
            return self._outcome
        if error is None:
            raise RuntimeError(f"{self.what} ended without an answer: this is a bug")
        try:
            # The frames of the pipeline say nothing to a caller whose values are wrong.
            raise error.alone() if isinstance(error, RequestError) else error
        finally:
            # It must not be one of the variables that its own traceback holds.
            del error
