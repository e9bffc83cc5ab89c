"""Timeouts of a connection, and the progress that its client has to make."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import HTTPError


class Progress:
    """The moment at which a client was last seen to move, and the bytes that it had got to."""

    __slots__ = ("moved", "reached")

    def __init__(self, now: float) -> None:
        """Begin at `now`, with nothing sent or read."""
        self.moved = now
        self.reached = 0

    def note(self, now: float, reached: int) -> None:
        """Note that the client has moved."""
        self.moved = now
        self.reached = reached


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection may take for what, in seconds."""

    idle: float = 75
    """Without a request."""
    request: float = 60
    """From the first byte of a request to its last."""
    linger: float = 2
    """After a refusal, for the client to read it."""
    fresh: float = 2
    """From connecting to the first request, while the service stops; the clock that connections
    are checked by may be 1 s behind."""
    stalled: float = 30
    """Without reading anything, while answers wait."""
    window: float = 10
    """Over which the rate of a request is measured."""
    rate: float = 1000
    """The bytes a second that a request has to arrive at."""

    def check_duration(self, began: float, now: float) -> None:
        """Check the time that a request has taken so far.

        Raises:
            HTTPError: 408, it has taken too long to arrive.
        """
        if now - began > self.request:
            raise HTTPError(408, f"request: expected all of it within {self.request:g} s")

    def check_rate(self, progress: Progress, now: float, received: int) -> None:
        """Check the rate at which a request arrives, once for each window.

        Raises:
            HTTPError: 408, it arrives too slowly.
        """
        seconds = now - progress.moved
        if seconds < self.window:
            return
        is_slow = received - progress.reached < self.rate * seconds
        progress.note(now, received)
        if is_slow:
            raise HTTPError(
                408,
                f"request: expected at least {self.rate:g} bytes a second, received fewer over "
                f"{seconds:.0f} s",
            )
