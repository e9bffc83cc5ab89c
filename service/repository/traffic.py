"""The shares of a model's traffic that other versions than the stable one get: a small file.

{"canary": {"version": "4", "share": 0.05, "fail": 0.01, "slower": 2.0},
 "shadow": {"version": "5", "share": 0.1}}

The canary answers its share of the requests that name neither a version nor an alias.  The shadow
gets the rows of its share after they were answered.  The alias `stable` names the version that
answers all others, whatever the policy of the service is, also if the file is `{}`.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from service.errors import TricepsError, nearest
from service.host.files import read_file, write_file
from service.repository.aliases import locked, unique
from service.repository.publish import VERSION
from service.repository.scan import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MAX_FILE = 2**16
# The number of characters of a wrong value that a message repeats.
SHOWN = 100
FAIL, SLOWER = 0.01, 2.0
MOST_SLOWER = 1000.0
_EXAMPLE = '{"canary": {"version": "4", "share": 0.05}}'


class TrafficError(TricepsError):
    """The file of a model's shares is invalid, or cannot be read."""


@dataclass(frozen=True)
class Canary:
    """The version that answers a share of the requests, and the bounds that it has to keep."""

    version: str
    share: float
    fail: float = FAIL
    """The share of requests that it may fail, above that of the stable version."""
    slower: float = SLOWER
    """The number of times that it may take as long as the stable version."""


@dataclass(frozen=True)
class Shadow:
    """The version that runs a share of the rows after they were answered by the stable one."""

    version: str
    share: float


@dataclass(frozen=True)
class Traffic:
    """The versions that get shares of a model's traffic; without any, the stable one gets all."""

    canary: Canary | None = None
    shadow: Shadow | None = None
    stamp: str = field(default="", compare=False)
    """That of the file; what is written anew begins anew, even with the same content."""

    def versions(self) -> dict[str, str]:
        """Return the versions that are named, by role."""
        parts = {"canary": self.canary, "shadow": self.shadow}
        return {role: part.version for role, part in parts.items() if part is not None}

    def identity(self, owner: str) -> int:
        """Return a number for the canary of a model; another file has another number."""
        return hashed(owner, "" if self.canary is None else self.canary.version, self.stamp)

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        parts = {"canary": self.canary, "shadow": self.shadow}
        return {role: asdict(part) for role, part in parts.items() if part is not None}


def hashed(*texts: str) -> int:
    """Return a number for texts that fits into a word of shared memory, and is never 0."""
    digest = blake2b(repr(texts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 | 1


def of_json(content: Mapping[str, Any], stamp: str = "") -> Traffic:
    """Return the shares that `Traffic.as_json` has written, with the stamp of their file."""
    canary, shadow = content.get("canary"), content.get("shadow")
    return Traffic(
        None if canary is None else Canary(**canary),
        None if shadow is None else Shadow(**shadow),
        stamp,
    )


def _is_number(value: Any, most: float) -> bool:
    # In Python, a boolean is a whole number; NaN is in no range.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= most


# By key, the expected value for a message, and its check.
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "version": (
        'a version like "4"',
        lambda value: isinstance(value, str) and VERSION.fullmatch(value) is not None,
    ),
    "share": ("a number above 0, up to 1", lambda value: _is_number(value, 1)),
    "fail": (
        "a number from 0 to 1",
        lambda value: _is_number(value, 1) or (value == 0 and not isinstance(value, bool)),
    ),
    "slower": (
        f"a number from 1 to {MOST_SLOWER:g}",
        lambda value: _is_number(value, MOST_SLOWER) and value >= 1,
    ),
}
_KEYS = {"canary": ("version", "share", "fail", "slower"), "shadow": ("version", "share")}
_REQUIRED = ("version", "share")


def read(file: Path) -> Traffic:
    """Read the shares of a model's traffic.

    Raises:
        TrafficError: the file cannot be read, or has an unknown key or an invalid value.
    """
    try:
        content = json.loads(read_file(file, MAX_FILE), object_pairs_hook=unique)
    except OSError as error:
        raise TrafficError(f"{TRAFFIC}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        message = f"{TRAFFIC}: expected JSON like {_EXAMPLE}, received something else: {error}"
        raise TrafficError(message) from error
    _check_keys("", content, tuple(_KEYS))
    for role, part in content.items():
        _check_keys(role, part, _KEYS[role])
        for key in _REQUIRED:
            if key not in part:
                raise TrafficError(f"{TRAFFIC}, {role}: expected a {key}, received none")
        for key, value in part.items():
            expected, is_right = _CHECKS[key]
            if not is_right(value):
                received = json.dumps(value)[:SHOWN]
                message = f"{TRAFFIC}, {role}.{key}: expected {expected}, received {received}"
                raise TrafficError(message)
    return of_json(content)


def _check_keys(role: str, content: Any, keys: tuple[str, ...]) -> None:
    """Check that a part of the file is an object of known keys.

    Raises:
        TrafficError: it is something else, or has another key.
    """
    where = f"{TRAFFIC}, {role}" if role else TRAFFIC
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise TrafficError(f"{where}: expected an object like {_EXAMPLE}, received a {kind}")
    for key in content:
        if key not in keys:
            raise TrafficError(
                f"{where}: expected keys out of {', '.join(keys)}, "
                f"received {key[:SHOWN]!r}{nearest(key, keys)}"
            )


@contextlib.contextmanager
def locked_with_aliases(folder: Path) -> Iterator[tuple[Mapping[str, str], Traffic | None]]:
    """Yield a model's aliases and shares, which no other command changes until the block ends.

    The shares are `None` without a file.

    Raises:
        AliasError: the aliases are damaged, or the folder cannot be read.
        TrafficError: the shares are.
    """
    with locked(folder) as aliases:
        yield aliases, read_if_there(folder)


def read_if_there(folder: Path) -> Traffic | None:
    """Return the shares of the model in a folder, for a command; `None` without a file.

    Raises:
        TrafficError: the file is damaged, or cannot be read; the message has its path.
    """
    file = folder / TRAFFIC
    # A link that leads nowhere is a file that cannot be read.
    if not (file.exists() or file.is_symlink()):
        return None
    try:
        return read(file)
    except TrafficError as error:
        raise TrafficError(f"{folder}/{error}; mend the file, or remove it") from error


def write(folder: Path, traffic: Traffic) -> None:
    """Replace the shares of the model in a folder.

    Raises:
        FileError: the file cannot be written.
    """
    content = json.dumps(traffic.as_json(), indent=2) + "\n"
    write_file(folder / TRAFFIC, content.encode())
