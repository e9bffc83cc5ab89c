"""The timeouts of a connection, and the progress that its client has to make."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import HTTPError


class Progress:
    """The time at which a client last sent or read something, and the byte count at that time."""

    __slots__ = ("moved", "reached")

    def __init__(self, now: float) -> None:
        """Begin at `now`, with nothing sent or read."""
        self.moved = now
        self.reached = 0

    def note(self, now: float, reached: int) -> None:
        """Note that the client has sent or read, and that the byte count is now `reached`."""
        self.moved = now
        self.reached = reached


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The limits on a connection's time, in seconds, and on the rate of its requests."""

    idle: float = 75
    """The time without a request."""
    request: float = 60
    """The time from the first byte of a request to its last."""
    linger: float = 2
    """The time that a client has to read a refusal."""
    fresh: float = 2
    """The time from connecting to the first request, while the service stops; the clock that
    connections are checked by may be 1 s behind."""
    stalled: float = 30
    """The time that a client may read nothing while answers wait for it."""
    window: float = 10
    """The time over which the rate of a request is measured."""
    rate: float = 1000
    """The bytes a second at which a request has to arrive."""

    def check_duration(self, began: float, now: float) -> None:
        """Check the time that a request has taken so far.

        Raises:
            HTTPError: 408, it has taken too long to arrive.
        """
        if now - began > self.request:
            expected = f"all of it within {self.request:g} s"
            raise HTTPError(408, f"request: expected {expected}, received only a part")

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
