"""The tokens file: the digest of each token, and the permissions of its client.

    [[tokens]]
    name = "shop"
    hash = "sha256:…"               of the token; the token itself is not stored
    scopes = ["predict"]            any of predict, admin and metrics
    models = ["triceps"]            all models, if the line is missing

The file may begin with `count = 1`, the number of tokens that follow.  `triceps token` writes that
line, and ends each table with a key that is required, so that a truncated file is noticed.

No scope includes another: a client that may load models need not see predictions.  A token with
`models` reaches the routes of these models, and no route that describes all models.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import MISUSED, TricepsError, nearest
from service.host.files import read_file
from service.names import NAME, NAMES

if TYPE_CHECKING:
    from pathlib import Path

PREDICT = "predict"
ADMIN = "admin"
METRICS = "metrics"
SCOPES = (PREDICT, ADMIN, METRICS)
# Stands for a model's name at routes that describe every model; no model can have this name.
ALL = "*"
HASHED = "sha256:"
# In bytes: enough for a hundred thousand tokens.  A larger file is not a tokens file.
MAX_FILE = 2**24

COUNT = "count"
_KEYS = ("name", "hash", "scopes", "models")
HEADER = re.compile(r"^[ \t]*\[\[[ \t]*tokens[ \t]*\]\]", re.MULTILINE)
_HASH = re.compile(HASHED + r"[0-9a-f]{64}")


class TokensError(TricepsError):
    """The tokens file cannot be read, or has a mistake."""

    exit_code = MISUSED


@dataclass(frozen=True, slots=True)
class Entry:
    """A token in the file: its name, the digest of the token, its scopes and its models."""

    name: str
    digest: bytes
    scopes: frozenset[str]
    models: frozenset[str] = frozenset()
    """The models that the token is valid for; if empty, all models."""


def read(path: Path) -> tuple[Entry, ...]:
    """Read a tokens file.

    Raises:
        TokensError: the file cannot be read, has a mistake, or is empty, which is never intended.
    """
    try:
        text = read_file(path, MAX_FILE).decode()
    except OSError as error:
        raise TokensError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TokensError(f"{path}: expected TOML, which is UTF-8, received other bytes") from error
    entries = parse(text, str(path))
    if not entries and not re.search(rf"^[ \t]*{COUNT}[ \t]*=", text, re.MULTILINE):
        expected = f"at least one table [[tokens]], or {COUNT} = 0 if no client is to have access"
        raise TokensError(f"{path}: expected {expected}, received none: an emptied file?")
    return entries


def parse(text: str, path: str) -> tuple[Entry, ...]:
    """Parse the text of a tokens file.

    Args:
        text: the text.
        path: the path of the file, for messages.

    Raises:
        TokensError: the text has a mistake.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TokensError(f"{path}: expected TOML, received something else: {error}") from error
    for key in document:
        if key not in ("tokens", COUNT):
            message = f"expected tables of [[tokens]], received the unknown key {key!r}"
            raise TokensError(f"{path}: {message}{nearest(key, ['tokens', COUNT])}")
    tables = document.get("tokens", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise TokensError(f"{path}: expected tables of [[tokens]], received another tokens")
    count = document.get(COUNT, len(tables))
    if type(count) is not int or count != len(tables):
        raise TokensError(
            f"{path}: {COUNT}: expected {len(tables)}, as many as there are tables [[tokens]], "
            f"received {count!r}: a file that was cut off? Else write the right number, or remove "
            "the line"
        )
    place = _Place(text, path, len(tables))
    entries: dict[str, Entry] = {}
    owners: dict[bytes, str] = {}
    for index, table in enumerate(tables):
        entry = _entry(table, place, index)
        if entry.name in entries:
            raise place.wrong(index, "name", "names that differ", f"{entry.name!r} twice")
        if entry.digest in owners:
            received = f"the token of {owners[entry.digest]!r} again"
            raise place.wrong(index, "hash", "tokens that differ", received)
        entries[entry.name] = entry
        owners[entry.digest] = entry.name
    return tuple(entries.values())


@dataclass(frozen=True)
class _Place:
    """The places of the tables in a file, which the TOML parser does not report."""

    text: str
    path: str
    count: int

    def wrong(self, index: int, key: str, expected: str, received: str) -> TokensError:
        """Return the error for a key of the table with that index."""
        headers = [header.start() for header in HEADER.finditer(self.text)]
        where = f"tokens[{index}]"
        # TOML can also write the tables as an inline list, which has no headers.
        if len(headers) == self.count:
            end = headers[index + 1] if index + 1 < self.count else len(self.text)
            name = key.partition("[")[0]
            line = re.compile(rf'^[ \t]*["\']?{re.escape(name)}["\']?[ \t]*=', re.MULTILINE)
            match = line.search(self.text, headers[index], end)
            at = headers[index] if match is None else match.start()
            where = f"line {self.text.count(chr(10), 0, at) + 1}"
        return TokensError(f"{self.path}, {where}, {key}: expected {expected}, received {received}")


def _entry(table: dict[str, Any], place: _Place, index: int) -> Entry:
    for key in table:
        if key not in _KEYS:
            expected = f"one of {', '.join(_KEYS)}{nearest(key, _KEYS)}"
            raise place.wrong(index, key, expected, "an unknown key")
    name = table.get("name")
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        received = "none" if name is None else repr(name)
        raise place.wrong(index, "name", f"a name of {NAMES}", received)
    digest = table.get("hash")
    if not (isinstance(digest, str) and _HASH.fullmatch(digest)):
        # The value may be the token itself, which must not reach a log.
        received = "none" if digest is None else "something else"
        raise place.wrong(index, "hash", f'"{HASHED}" and 64 digits of 0-9a-f', received)
    scopes = _names(table, "scopes", place, index)
    for at, scope in enumerate(scopes):
        if scope not in SCOPES:
            expected = f"one of {', '.join(SCOPES)}{nearest(scope, SCOPES)}"
            raise place.wrong(index, f"scopes[{at}]", expected, repr(scope))
    models = _names(table, "models", place, index) if "models" in table else []
    for at, model in enumerate(models):
        if not NAME.fullmatch(model):
            raise place.wrong(index, f"models[{at}]", f"a name of {NAMES}", repr(model))
    if models and METRICS in scopes:
        expected = f"none beside the scope {METRICS!r}, since metrics tell of every model"
        raise place.wrong(index, "models", expected, ", ".join(models))
    digest = bytes.fromhex(digest.removeprefix(HASHED))
    return Entry(name, digest, frozenset(scopes), frozenset(models))


def _names(table: dict[str, Any], key: str, place: _Place, index: int) -> list[str]:
    names = table.get(key)
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        received = "none" if names is None or names == [] else repr(names)
        raise place.wrong(index, key, "a list of one or more texts", received)
    return names
