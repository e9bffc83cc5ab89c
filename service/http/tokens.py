"""The file of tokens: by the digest of each, what it is for.

    [[tokens]]
    name = "shop"
    hash = "sha256:…"               of the token, which stands nowhere
    scopes = ["predict"]            of predict, admin and metrics
    models = ["triceps"]            all, if there is no such line

In front of them may stand `count = 1`, which says how many tokens follow; `triceps token` writes
it, and its tables end with what none may be without, so that a file that was cut off is noticed.

No scope is in another: who may have models loaded need not see a prediction.  `models` limits
whatever names a model, and closes what tells of all of them.
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
# In place of a model's name, for what tells of every model; no model can be called that.
ALL = "*"
HASHED = "sha256:"
# A hundred thousand tokens; a file of another size is something else.
MAX_FILE = 2**24

COUNT = "count"
_KEYS = ("name", "hash", "scopes", "models")
HEADER = re.compile(r"^[ \t]*\[\[[ \t]*tokens[ \t]*\]\]", re.MULTILINE)
_HASH = re.compile(HASHED + r"[0-9a-f]{64}")


class TokensError(TricepsError):
    """The file of tokens cannot be read, or is not what it should be."""

    exit_code = MISUSED


@dataclass(frozen=True, slots=True)
class Entry:
    """A token, as the file knows it."""

    name: str
    digest: bytes
    scopes: frozenset[str]
    models: frozenset[str] = frozenset()
    """Those that it is for; none: it is for all."""


def read(path: Path) -> tuple[Entry, ...]:
    """The entries of a file of tokens.

    Raises:
        TokensError: it cannot be read, or is wrong; or it is empty, as no file is on purpose.
    """
    try:
        text = read_file(path, MAX_FILE).decode()
    except OSError as error:
        raise TokensError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TokensError(f"{path}: expected TOML, which is UTF-8, received other bytes") from error
    entries = parse(text, str(path))
    if not entries and not re.search(rf"^[ \t]*{COUNT}[ \t]*=", text, re.MULTILINE):
        expected = f"at least one table [[tokens]], or {COUNT} = 0 where nobody is to be let in"
        raise TokensError(f"{path}: expected {expected}, received none: an emptied file?")
    return entries


def parse(text: str, path: str) -> tuple[Entry, ...]:
    """The entries that the text of a file of tokens has.

    Args:
        text: that.
        path: of the file, for messages.

    Raises:
        TokensError: the text is wrong.
    """
    try:
        said = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TokensError(f"{path}: expected TOML, received something else: {error}") from error
    for key in said:
        if key not in ("tokens", COUNT):
            message = f"expected tables of [[tokens]], received the unknown key {key!r}"
            raise TokensError(f"{path}: {message}{nearest(key, ['tokens', COUNT])}")
    tables = said.get("tokens", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise TokensError(f"{path}: expected tables of [[tokens]], received another tokens")
    count = said.get(COUNT, len(tables))
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
    """Where something stands in a file, which the parser of TOML does not tell."""

    text: str
    path: str
    count: int

    def wrong(self, index: int, key: str, expected: str, received: str) -> TokensError:
        """The error for a key of the table of that index."""
        headers = [found.start() for found in HEADER.finditer(self.text)]
        where = f"tokens[{index}]"
        # They may be written otherwise, as a list.
        if len(headers) == self.count:
            end = headers[index + 1] if index + 1 < self.count else len(self.text)
            name = key.partition("[")[0]
            line = re.compile(rf'^[ \t]*["\']?{re.escape(name)}["\']?[ \t]*=', re.MULTILINE)
            found = line.search(self.text, headers[index], end)
            at = headers[index] if found is None else found.start()
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
        # It may be the token itself, which no log is to have.
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
