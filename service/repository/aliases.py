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
# Ten thousand aliases; a file of another size is something else.
MAX_FILE = 2**20
# Of what stands there wrongly, how much is said again.
SHOWN = 100


class AliasError(TricepsError):
    """The aliases are not what they should be, or cannot be read."""


def is_alias(name: str) -> bool:
    """Whether an alias may be called that: as a model may, and like no version."""
    return NAME.fullmatch(name) is not None and not name.isdigit()


def read(file: Path) -> dict[str, str]:
    """A model's aliases, each with its version; none where there is no file.

    Raises:
        AliasError: the file is damaged, or cannot be read.
    """
    try:
        said = json.loads(read_file(file, MAX_FILE), object_pairs_hook=_once)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AliasError(f"{ALIASES}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        message = f'{ALIASES}: expected JSON like {{"{STABLE}": "3"}}, received something else: '
        raise AliasError(f"{message}{error}") from error
    if not isinstance(said, dict):
        kind = type(said).__name__
        message = f'{ALIASES}: expected an object like {{"{STABLE}": "3"}}, received a {kind}'
        raise AliasError(message)
    for alias, version in said.items():
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
    return said


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[dict[str, str]]:
    """A model's aliases, which nobody changes until the block ends.

    Raises:
        AliasError: what is there is damaged, or its folder cannot be read.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise AliasError(f"{folder}: cannot be read: {error.strerror}") from error
    try:
        # Some network file systems lock no folder: there, two at once may lose one change.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield read(folder / ALIASES)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[dict[str, str]]:
    """A model's aliases, to change; written whole when the block ends, and two take turns.

    Raises:
        AliasError: as `locked` does.
        FileError: it cannot be written.
    """
    with locked(folder) as aliases:
        yield aliases
        content = json.dumps(aliases, indent=2, sort_keys=True) + "\n"
        write_file(folder / ALIASES, content.encode())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand there once each: of two, which was meant nobody can say."""
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return made
