"""The errors that Triceps raises on purpose, on one screen.

TricepsError
├── RequestError            a request that gets an error; `status` is the HTTP status
│   ├── BadRequest     400  the body does not fit the model; has `problems`
│   ├── CannotRun      400  the values have the right types, and the model has no answer for them
│   ├── Unauthorized   401  the request has no token, or an unknown one
│   ├── Forbidden      403  the token is for another scope, or for other models
│   ├── NotFound       404  there is no such model, version, alias or example
│   ├── TooLarge       413  the body is too large, as sent or once inflated, or has too many rows
│   ├── NotJSON        415  the body has a content type or encoding that is not read
│   ├── TooBusy        429  there are more requests than can be answered soon
│   ├── NotReady       503  no version is usable yet, or no longer
│   ├── TooLate        504  the deadline passed before the request could run
│   └── HTTPError           any other status: an unknown route or method, broken HTTP, a bug, …
├── ModelRefused            a `model.onnx` must not serve; the message says why
│   └── Shortage            the machine is short of something that loading needs; try again later
├── UndeclaredAnswer        an output has another shape or dtype than its graph declares
└── SettingsError           a setting is wrong; the message has the nearest right one

Any other exception is a bug: it is logged with its traceback and answered with a plain 500.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The exit codes of `triceps`.
FAILED = 1  # the command ran, and failed
MISUSED = 2  # the command was used wrongly: an argument, a setting or a file that it reads is wrong
INTERRUPTED = 130  # 128 + SIGINT, as in a shell

# The number of problems, and of names, that a message lists.
SHOWN = 20
# nginx' status for a request whose client closed the connection before the answer.
GONE = 499
# In seconds: the obstacle may be gone by then.
_COME_AGAIN = (("Retry-After", "1"),)
# By difflib's cut-off, names are close if 0.6 of all their characters are in both; so the longer of
# two close names has at most this many characters for each of the shorter.
_LONGEST_NEAR = 2 / 0.6 - 1


@dataclass(frozen=True)
class Problem:
    """One mistake in a body: where it is, what was expected there and what was received."""

    at: str
    expected: str
    received: str


class TricepsError(Exception):
    """The parent of every error that is raised on purpose.

    `exit_code` is the exit code of `triceps` after this error: `FAILED` or `MISUSED`.
    """

    exit_code: ClassVar[int] = FAILED


class RequestError(TricepsError):
    """A request that is answered with an error.

    The client can fix the cause, the service cannot answer now, or the cause is a bug: `status`
    says which.
    """

    status: int = 400
    headers: tuple[tuple[str, str], ...] = ()

    def alone(self) -> Self:
        """Return this error without the functions that raised it, which hold what a body became.

        With them, the memory of a large body would stay in use until the error has been answered,
        or until the next collection of cycles if they refer to the error.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)

    """Headers of the answer, besides those that every answer has."""


class BadRequest(RequestError):
    """A body that does not fit the model; one answer names all its problems."""

    def __init__(self, problems: Sequence[Problem], count: int | None = None) -> None:
        """Keep the first `SHOWN` of `problems`; `count` is the number of all problems."""
        self.problems = tuple(problems[:SHOWN])
        self.count = len(problems) if count is None else count
        first = self.problems[0]
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        super().__init__(f"{first.at}: expected {first.expected}, received {first.received}{more}")


class CannotRun(RequestError):
    """A run whose graph fails on its shapes or values, such as an index past the end of a list."""


class Unauthorized(RequestError):
    """A request without a token, or with an unknown one."""

    status = 401
    headers = (("WWW-Authenticate", 'Bearer realm="triceps"'),)


class Forbidden(RequestError):
    """A request whose token is known, but is for another scope or for other models."""

    status = 403


class NotFound(RequestError):
    """A model, version, alias or example that does not exist; routes have `HTTPError`."""

    status = 404


class TooLarge(RequestError):
    """A body over `TRICEPS_MAX_BODY`, as sent or once inflated, or with too many rows."""

    status = 413


class NotJSON(RequestError):
    """A body with a content type or encoding that the route does not read."""

    status = 415


class NotReady(RequestError):
    """A model of which no version is usable at the moment."""

    status = 503
    headers = _COME_AGAIN


class TooBusy(RequestError):
    """A request that is refused before it runs: more are waiting than can be answered soon."""

    status = 429
    headers = _COME_AGAIN


class TooLate(RequestError):
    """A request that was not run because its deadline had passed."""

    status = 504
    is_own = False
    """True if the deadline is the client's, and earlier than that of the service."""


class HTTPError(RequestError):
    """An error with a status of its own: an unknown route or method, broken HTTP or a bug."""

    def __init__(self, status: int, message: str) -> None:
        """Answer `message` with `status`."""
        self.status = status
        super().__init__(message)


class ModelRefused(TricepsError):
    """A file that cannot be served as a model; the message says why."""


class Shortage(ModelRefused):
    """A lack of memory, descriptors or processes while a file is loaded; the file may be good."""


class UndeclaredAnswer(TricepsError):
    """An output that has another shape or dtype than its graph declares.

    No client can fix that: the answer is a plain 500, and this message goes to the log.
    """

    def __init__(
        self, model: str, head: str, expected: str, received: str, shape: tuple[int, ...]
    ) -> None:
        """Compose the message from the model, the head, what is declared and what was received."""
        self.head = head
        self.shape = shape
        where = f"model {model}, head {head!r}" if model else f"head {head!r}"
        super().__init__(
            f"{where}: expected {expected}, as its graph declares, received {received}"
        )


class SettingsError(TricepsError):
    """A setting that is unknown or wrong; the message says which, and what is right."""

    exit_code = MISUSED


def defect(what: str, status: int = 500) -> HTTPError:
    """Return the error that a client gets for a bug, of which only the log has the details."""
    return HTTPError(status, f"{what}: an error of the service; it is logged")


def printable(text: str) -> str:
    """Escape the control characters of a string for a terminal; it may hold names of files."""
    return "".join(
        char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text
    )


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown `name`: the closest of `names`, if any is close.

    The text is empty if none is.
    """
    close = closest(name, names)
    return "" if close is None else f" (did you mean {close!r}?)"


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return the closest of `names` to a name that is none of them; `None` if none is close."""
    names = list(names)
    # A longer name is close to none of them, and comparing takes some 40 bytes for each character.
    if len(name) > _LONGEST_NEAR * max(map(len, names), default=0):
        return None
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)
