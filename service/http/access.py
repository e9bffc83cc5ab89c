"""Access: whether the token of a request lets it do what it asks for.

    Authorization: Bearer … ─ SHA-256 ─▶ an entry of the file ─ its scopes, its models ─▶ its name

No scope is in another: who may have models loaded need not see a prediction.  An entry's models
limit whatever names a model, and close what tells of all of them.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import Forbidden, Unauthorized
from service.host.watched import Watched, stamp, warn_of_readers
from service.http import tokens
from service.http.tokens import ALL, METRICS, PREDICT, Entry, TokensError

if TYPE_CHECKING:
    from service.errors import TricepsError

log = logging.getLogger(__name__)

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

    def __init__(self, file: Watched[_Tokens] | None) -> None:
        self._file = file

    @classmethod
    def open(cls, file: Path | str) -> Access:
        """By the tokens of a file; where that is empty, all may do what is not an admin's.

        Raises:
            TokensError: it cannot be read, or is wrong.
        """
        if not file:
            return cls(None)
        path = Path(file)
        watched = Watched(
            lambda: _look_at(path),
            lambda: _Tokens(tokens.read(path)),
            lambda now: _tell_of_change(path, now),
            _tell_of_failure,
        )
        warn_of_readers(path, log)
        return cls(watched)

    @property
    def is_on(self) -> bool:
        """Whether tokens are asked for."""
        return self._file is not None

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
        if self._file is None:
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
        if self._file is None:
            return ANYBODY
        known = self._file.current()
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            received = "another scheme" if scheme else "none"
            raise Unauthorized(f"Authorization: expected Bearer and a token, received {received}")
        entry = known.find(token.strip(" "))
        if entry is None:
            raise Unauthorized(
                "Authorization: expected a token of this service, received one that it does not "
                "know, or not any more"
            )
        return entry

    def keep_up(self) -> None:
        """Take over what has changed, where nobody asks."""
        if self._file is not None:
            self._file.current()

    def look_again(self) -> None:
        """Look at the file before the next request is answered."""
        if self._file is not None:
            self._file.look_again()


def _look_at(path: Path) -> tuple[int, ...]:
    try:
        return stamp(path)
    except OSError as error:
        raise TokensError(f"{path}: cannot be read: {error.strerror}") from error


def _tell_of_change(path: Path, now: _Tokens) -> None:
    log.info("%s: has changed, and has %d tokens", path, len(now.entries))
    warn_of_readers(path, log)


def _tell_of_failure(error: TricepsError) -> None:
    log.error("%s; the tokens of before hold", error)


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
