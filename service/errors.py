"""Everything that can go wrong, on one screen.

TricepsError
├── RequestError            the caller's fault; `status` is the HTTP status
│   ├── BadRequest     400  the body is not what the model takes; carries `problems`
│   ├── CannotRun      400  the values are of the right kind, and the model has no answer for them
│   ├── Unauthorized   401  no token came, or one that nobody knows
│   ├── Forbidden      403  the token is for other things, or for other models
│   ├── NotFound       404  no such model, version or head
│   ├── TooLarge       413  the body, or what it inflates to, is over the limit
│   ├── NotJSON        415  the body says it is something else
│   ├── TooBusy        429  more is asked than can be answered soon
│   ├── NotReady       503  nothing to answer with yet, or not any more
│   ├── TooLate        504  its time was over before it could be run
│   └── HTTPError           HTTP's own: no such route or method; or a bug of ours, to its sender
├── ModelRefused            a `model.onnx` that must not serve, and why
│   └── Shortage            one that may serve later: the machine is short of what loading takes
├── UndeclaredAnswer        a run's answer has another shape or dtype than its graph declares
└── SettingsError           a setting that is wrong, and the nearest right one

Anything else that is raised is a bug: logged with its traceback, answered as a plain 500.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What `triceps` ends with.
FAILED = 1  # it ran, and failed
MISUSED = 2  # it was asked for something wrong
INTERRUPTED = 130  # 128 + SIGINT, as a shell has it

SHOWN = 20
# nginx' status for a request whose sender hung up before it was answered.
GONE = 499
# Seconds; what stands in the way may be gone by then.
_COME_AGAIN = (("Retry-After", "1"),)
# By difflib's own cut-off, of two names that are near 0.6 of their characters are in both.
_LONGEST_NEAR = 2 / 0.6 - 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a body: where it is, what belongs there, what came."""

    at: str
    expected: str
    received: str


class TricepsError(Exception):
    """The parent of every error that is raised on purpose.

    `exit_code` is what `triceps` ends with: `FAILED`, or `MISUSED` when it was asked for something
    wrong.
    """

    exit_code: ClassVar[int] = FAILED


class RequestError(TricepsError):
    """The request cannot be answered, and its sender can mend it."""

    status: int = 400
    headers: tuple[tuple[str, str], ...] = ()
    """Of the answer, besides those that every answer has."""


class BadRequest(RequestError):
    """The body does not fit the model; all its problems are found in one go."""

    def __init__(self, problems: Sequence[Problem], count: int | None = None) -> None:
        """Keep the first `SHOWN` of `problems`; `count` is how many there are in all."""
        self.problems = tuple(problems[:SHOWN])
        self.count = len(problems) if count is None else count
        first = self.problems[0]
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        super().__init__(f"{first.at}: expected {first.expected}, received {first.received}{more}")


class CannotRun(RequestError):
    """The model's graph fails on these shapes or values, such as a place past the end of a list."""


class Unauthorized(RequestError):
    """No token came with the request, or one that is not known."""

    status = 401
    headers = (("WWW-Authenticate", 'Bearer realm="triceps"'),)


class Forbidden(RequestError):
    """The token is known, and is for other things or other models."""

    status = 403


class NotFound(RequestError):
    """There is no such model, version or route; the message names those there are."""

    status = 404


class TooLarge(RequestError):
    """The body is larger than `TRICEPS_MAX_BODY`, as sent or once inflated."""

    status = 413


class NotJSON(RequestError):
    """The body's content type or encoding is one that this route does not read."""

    status = 415


class NotReady(RequestError):
    """No version of the model is usable, now."""

    status = 503
    headers = _COME_AGAIN


class TooBusy(RequestError):
    """More is asked than can be answered soon: nothing of this was computed."""

    status = 429
    headers = _COME_AGAIN


class TooLate(RequestError):
    """The time that the request had is over, and it was not run."""

    status = 504


class HTTPError(RequestError):
    """What has a status of its own: no such route or method, or a bug of ours, which is logged."""

    def __init__(self, status: int, message: str) -> None:
        """Answer `message` with `status`."""
        self.status = status
        super().__init__(message)


class ModelRefused(TricepsError):
    """The file is no model that can be served; the message says why."""


class Shortage(ModelRefused):
    """The machine is short of memory, descriptors or processes; the file may be as good as any."""


class UndeclaredAnswer(TricepsError):
    """A head answers with another shape or dtype than its graph declares.

    No caller can mend that: it is answered as a plain 500, and this message goes to the log.
    """

    def __init__(
        self, model: str, head: str, expected: str, received: str, shape: tuple[int, ...]
    ) -> None:
        """Say of which model and head it is, what its graph declares and what came."""
        self.head = head
        self.shape = shape
        where = f"model {model}, head {head!r}" if model else f"head {head!r}"
        super().__init__(
            f"{where}: expected {expected}, as its graph declares, received {received}"
        )


class SettingsError(TricepsError):
    """A setting is unknown or wrong; the message says which and what is right."""

    exit_code = MISUSED


def printable(text: str) -> str:
    """A text that may hold names of files, for a terminal: what would drive it is escaped."""
    return "".join(
        char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text
    )


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown `name`: the right one it is close to, if any."""
    names = list(names)
    # What is longer can share too little with any of them, and takes some 40 bytes a character.
    if len(name) > _LONGEST_NEAR * max(map(len, names), default=0):
        return ""
    close = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
