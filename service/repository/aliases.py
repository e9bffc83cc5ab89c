"""The aliases of a model: names for its versions, in one small file beside them.

{"stable": "3", "canary": "4"}
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from typing import TYPE_CHECKING, Any

from service.errors import TricepsError
from service.host.files import read_file, write_file
from service.names import NAME, NAMES
from service.repository.scan import ALIASES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The alias that serves as the model where the policy is "pinned".
STABLE = "stable"
_VERSION = re.compile(r"0|[1-9][0-9]*")
# In bytes: enough for ten thousand aliases; a larger file is something else.
MAX_FILE = 2**20
# The maximum number of characters of an invalid value that a message quotes.
SHOWN = 100


class AliasError(TricepsError):
    """The file of a model's aliases is invalid, or cannot be read."""


def is_alias(name: str) -> bool:
    """Return whether a string may name an alias: a valid model name that is not a version."""
    return NAME.fullmatch(name) is not None and not name.isdigit()


def read(file: Path) -> dict[str, str]:
    """Read a model's aliases, each with its version; without a file there are none.

    Raises:
        AliasError: the file is damaged, or cannot be read.
    """
    try:
        named = json.loads(read_file(file, MAX_FILE), object_pairs_hook=unique)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AliasError(f"{ALIASES}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        message = f'{ALIASES}: expected JSON like {{"{STABLE}": "3"}}, received something else: '
        raise AliasError(f"{message}{error}") from error
    if not isinstance(named, dict):
        kind = type(named).__name__
        message = f'{ALIASES}: expected an object like {{"{STABLE}": "3"}}, received a {kind}'
        raise AliasError(message)
    for alias, version in named.items():
        if not is_alias(alias):
            message = (
                f"{ALIASES}: expected aliases of {NAMES}, and not of digits alone, "
                f"received {repr(alias)[:SHOWN]}"
            )
            raise AliasError(message)
        if not (isinstance(version, str) and _VERSION.fullmatch(version)):
            received = repr(version)[:SHOWN]
            message = f'{ALIASES}, {alias}: expected a version like "3", received {received}'
            raise AliasError(message)
    return named


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[dict[str, str]]:
    """Yield a model's aliases, which no other process changes until the block ends.

    Raises:
        AliasError: the file is damaged, or the folder cannot be read.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise AliasError(f"{folder}: cannot be read: {error.strerror}") from error
    try:
        # Some network file systems cannot lock a folder: there, one of two changes may be lost.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield read(folder / ALIASES)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[dict[str, str]]:
    """Yield a model's aliases for changes, and replace the file when the block ends.

    Two processes that change them take turns.

    Raises:
        AliasError: the file is damaged, or the folder cannot be read.
        FileError: the file cannot be written.
    """
    with locked(folder) as aliases:
        yield aliases
        content = json.dumps(aliases, indent=2, sort_keys=True) + "\n"
        write_file(folder / ALIASES, content.encode())


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; refuse duplicate keys, which are ambiguous."""
    unique = dict(pairs)
    if len(unique) != len(pairs):
        twice = next(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
        raise ValueError(f"{twice!r} appears twice")
    return unique
