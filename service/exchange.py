"""The server as the pipeline knows it: an exchange for each request, and an executor.

An `Exchange` is one HTTP request and the way back to its client.  An `Executor` runs models: from
the queues of an event loop, or at once in the thread of a WSGI server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.inference.lane import Asker, Lane
    from service.wire.numbers import Tensors


class Exchange(Protocol):
    """One HTTP request, and the way back to its client."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The request's headers, by their names in lower case."""

    @property
    def origin(self) -> Any:
        """The request for the access log, of a server that has one."""

    @property
    def body(self) -> bytes:
        """The request's body as it was sent, compressed or not."""

    @property
    def caller(self) -> object:
        """The connection, or another object that is the same for one client's requests."""

    @property
    def what(self) -> str:
        """The method and the path, for messages and the log."""

    @property
    def request_id(self) -> str:
        """The request ID that the client sent; where there is none, a new one at each call."""

    def header(self, name: str) -> str:
        """Return a header's value, or an empty string if the request does not have it."""

    def is_open(self) -> bool:
        """Return whether the client still waits for an answer."""

    def common(self, request_id: str = "") -> bytes:
        """Return the header lines that every answer to this request has.

        Args:
            request_id: the request ID to name, if one was logged; empty for any that fits.
        """

    def respond(self, status: int, content: bytes, lines: bytes) -> None:
        """Answer with a body and header lines."""

    def abort(self) -> None:
        """Close the connection without an answer."""


class Executor(Protocol):
    """Runs models, and other work that takes long: `Queued` or `Direct`."""

    def submit(
        self, lane: Lane, name: str, heads: Sequence[str], arrays: Tensors, asker: Asker
    ) -> None:
        """Have `heads` computed from `arrays`, and call `asker.done` with the outcome."""

    def apart(
        self, size: int, work: Callable[[], Any], then: Callable[[Any], None], caller: object
    ) -> None:
        """Do work where it delays no other request.

        Args:
            size: the bytes of the body, or the values of the answer.
            work: the work.
            then: called with its result, or with the exception that it raised.
            caller: the client, whose work takes turns with that of others.
        """

    def answered(self, now: float) -> None:
        """Note that a run was answered at `now`, by `perf_counter`."""
