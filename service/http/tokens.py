"""Who may ask for what: a file of tokens, and the token that comes with a request.

    Authorization: Bearer … ─ SHA-256 ─▶ an entry of the file ─ its scopes, its models ─▶ its name

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

import hmac
import ipaddress
import logging
import re
import stat
import time
import tomllib
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from service.errors import Forbidden, TricepsError, Unauthorized, nearest
from service.host.files import read_file
from service.names import NAME, NAMES

log = logging.getLogger(__name__)

PREDICT = "predict"
ADMIN = "admin"
METRICS = "metrics"
SCOPES = (PREDICT, ADMIN, METRICS)
# In place of a model's name, for what tells of every model; no model can be called that.
ALL = "*"
HASHED = "sha256:"
# How long a change of the file may go unnoticed.
LOOK_SECONDS = 1.0
# A hundred thousand tokens; a file of another size is something else.
MAX_FILE = 2**24

COUNT = "count"
_KEYS = ("name", "hash", "scopes", "models")
HEADER = re.compile(r"^[ \t]*\[\[[ \t]*tokens[ \t]*\]\]", re.MULTILINE)
_HASH = re.compile(HASHED + r"[0-9a-f]{64}")

# What changes when the file does, its owner and mode included.
_Stamp = tuple[int, ...]


class TokensError(TricepsError):
    """The file of tokens cannot be read, or is not what it should be."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A token, as the file knows it."""

    name: str
    digest: bytes
    scopes: frozenset[str]
    models: frozenset[str] = frozenset()
    """Those that it is for; none: it is for all."""


# Who asks where no tokens are told apart.
ANYBODY = Entry("", b"", frozenset((PREDICT, METRICS)))


@dataclass(frozen=True, slots=True)
class _Tokens:
    """What one state of the file says.

    `known` remembers by digest whose token has been found before; both go together when the file
    changes, so that nothing is remembered of a token that is gone.
    """

    entries: tuple[Entry, ...]
    known: dict[bytes, Entry] = field(default_factory=dict)

    def find(self, token: str) -> Entry | None:
        """Whose token it is."""
        # One SHA-256, and no slow hash as for passwords: tokens are 32 random bytes, which nobody
        # finds by trying, however fast that is.
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        # Only digests are kept and compared, and only those that were right: so there are never
        # more than entries, strangers do not fill it, and how long the look-up takes tells
        # nothing of a token, since nobody can choose what a guess is hashed to.
        found = self.known.get(digest)
        if found is None:
            for entry in self.entries:
                # All of them, equally long each, wherever the right one stands.
                if hmac.compare_digest(entry.digest, digest):
                    found = entry
            if found is not None:
                self.known[digest] = found
        return found


class Access:
    """Whose requests are answered; safe to share between threads."""

    def __init__(self, path: Path | None, tokens: _Tokens, stamp: _Stamp) -> None:
        self._path = path
        self._tokens = tokens
        self._stamp = stamp
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._trouble = ""

    @classmethod
    def open(cls, file: Path | str) -> Access:
        """By the tokens of a file; where that is empty, all may do what is not an admin's.

        Raises:
            TokensError: it cannot be read, or is wrong.
        """
        if not file:
            return cls(None, _Tokens(()), ())
        path = Path(file)
        stamp = _look_at(path)
        tokens = _Tokens(read(path))
        _warn_of_readers(path, stamp)
        return cls(path, tokens, stamp)

    @property
    def is_on(self) -> bool:
        """Whether tokens are asked for."""
        return self._path is not None

    def check(self, authorization: str, scope: str | None, model: str | None) -> str:
        """The name of a request's token; empty where none is asked for.

        Args:
            authorization: the header of that name; empty without one.
            scope: what the request needs; `None` is open to everybody.
            model: what it asks; `ALL` if that tells of every one, `None` if of none.

        Raises:
            Unauthorized: there is no token, or nobody knows it.
            Forbidden: it is for other things, or other models.
        """
        return self.admit(authorization, scope, model).name

    def admit(self, authorization: str, scope: str | None, model: str | None) -> Entry:
        """As `check`, and all that is known of the token."""
        if scope is None:
            return ANYBODY
        if self._path is None:
            if scope not in ANYBODY.scopes:
                message = (
                    f"this needs a token with the scope {scope!r}, and this service knows none: "
                    f"make one by `triceps token NAME --scope {scope}`, and start the service with "
                    "TRICEPS_TOKENS_FILE"
                )
                raise Forbidden(message)
            return ANYBODY
        entry = self.identify(authorization)
        if scope not in entry.scopes:
            raise Forbidden(
                f"token {entry.name!r}: expected one with the scope {scope!r}, received one with "
                f"{_listed(entry.scopes)}"
            )
        if entry.models and model is not None and model not in entry.models:
            # Of other models it says nothing, be they there or not; nor which one is the default,
            # whose name need not stand in the request.
            what = "every model" if model == ALL else "the model that is asked"
            raise Forbidden(
                f"token {entry.name!r}: expected one for {what}, received one for "
                f"{_listed(entry.models)}"
            )
        return entry

    def allows(self, authorization: str, scope: str | None, model: str | None) -> bool:
        """Whether `check` would pass, for what is told to some and answered to all."""
        try:
            self.admit(authorization, scope, model)
        except (Unauthorized, Forbidden):
            return False
        return True

    def identify(self, authorization: str) -> Entry:
        """Whose token it is, whatever that is for; where none is asked for, everybody is nobody.

        Raises:
            Unauthorized: there is no token, or nobody knows it.
        """
        if self._path is None:
            return ANYBODY
        now = time.monotonic()
        if now >= self._next_look:
            self._look(self._path, now)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            received = "another scheme" if scheme else "none"
            raise Unauthorized(f"Authorization: expected Bearer and a token, received {received}")
        entry = self._tokens.find(token.strip(" "))
        if entry is None:
            raise Unauthorized(
                "Authorization: expected a token of this service, received one that it does not "
                "know, or not any more"
            )
        return entry

    def keep_up(self) -> None:
        """Take over what has changed, where nobody asks."""
        now = time.monotonic()
        if self._path is not None and now >= self._next_look:
            self._look(self._path, now)

    def look_again(self) -> None:
        """Look at the file before the next request is answered."""
        self._next_look = 0.0

    def _look(self, path: Path, now: float) -> None:
        """Take over what has changed; what is wrong with it is logged, once."""
        self._next_look = now + LOOK_SECONDS
        trouble = ""
        try:
            stamp = _look_at(path)
            if stamp == self._stamp:
                return
            self._tokens = _Tokens(read(path))
            # Only now: what could not be read is read again, until it can be.
            self._stamp = stamp
            log.info("%s: has changed, and has %d tokens", path, len(self._tokens.entries))
            _warn_of_readers(path, stamp)
        except TokensError as error:
            trouble = str(error)
            if trouble != self._trouble:
                log.error("%s; the tokens of before hold", trouble)  # noqa: TRY400  a slip, no bug
        self._trouble = trouble


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


def warning(host: str, tokens_file: Path | str) -> str | None:
    """What to tell who starts a service that others can reach and that asks nobody for a token."""
    if tokens_file or _is_own(host):
        return None
    return (
        f"whoever reaches {host} may use this service: no tokens are asked for. Make one by "
        "`triceps token`, and start with TRICEPS_TOKENS_FILE; or listen on 127.0.0.1 alone"
    )


def _is_own(host: str) -> bool:
    """Whether an address is this machine's alone."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _look_at(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise TokensError(f"{path}: cannot be read: {error.strerror}") from error
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode


def _warn_of_readers(path: Path, stamp: _Stamp) -> None:
    mode = stat.S_IMODE(stamp[-1])
    if mode & stat.S_IROTH:
        log.warning("%s: expected a mode such as 0600, received %04o: all may read it", path, mode)


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
