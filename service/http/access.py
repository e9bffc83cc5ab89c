"""Access control by tokens.

    Authorization: Bearer … ─ SHA-256 ─▶ an entry of the file ─ its scopes, its models ─▶ its name

No scope includes another: a token that may load models need not be good for predictions.  If an
entry has models, requests for other models are refused, and so are pages about all models.
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

# The entry of every client where no tokens are required.
ANYBODY = Entry("", b"", frozenset((PREDICT, METRICS)))


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The entries of the tokens file, and a cache of those that were found before, by digest.

    A change of the file replaces both at once, so that no removed token stays in the cache.
    """

    entries: tuple[Entry, ...]
    known: dict[bytes, Entry] = field(default_factory=dict)

    def find(self, token: str) -> Entry | None:
        """Return the entry of a token, or `None` if the token is unknown."""
        # A single SHA-256, not a slow hash as for passwords: tokens are 32 random bytes, which
        # cannot be guessed, however fast each guess is checked.
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        # The cache holds only digests, and only of valid tokens.  So it never has more items than
        # the file has entries, and wrong tokens do not fill it.  The time of a look-up reveals
        # nothing about a token, since a client cannot choose the digest of a guess.
        match = self.known.get(digest)
        if match is None:
            for entry in self.entries:
                # Every entry is compared, so the time does not depend on the place of the match.
                if hmac.compare_digest(entry.digest, digest):
                    match = entry
            if match is not None:
                self.known[digest] = match
        return match


class Access:
    """The rules by which requests are admitted; safe to share between threads."""

    def __init__(self, file: Watched[_Tokens] | None) -> None:
        self._file = file

    @classmethod
    def open(cls, file: Path | str) -> Access:
        """Return the access that a tokens file grants.

        Args:
            file: the tokens file.  If it is empty, no token is required, and nothing that needs
                the scope admin is allowed.

        Raises:
            TokensError: the file cannot be read, or is wrong.
        """
        if not file:
            return cls(None)
        path = Path(file)
        watched = Watched(
            lambda: _look_at(path),
            lambda: _Tokens(tokens.read(path)),
            lambda now: _log_change(path, now),
            _log_failure,
        )
        warn_of_readers(path, log)
        return cls(watched)

    @property
    def is_on(self) -> bool:
        """True if a token is required."""
        return self._file is not None

    def check(self, authorization: str, scope: str | None, model: str | None) -> str:
        """Check the token of a request, and return the token's name; empty if none is required.

        Args:
            authorization: the Authorization header; empty without one.
            scope: the scope that the request needs; `None` if it needs none.
            model: the name of the model that the request is for; `ALL` if its answer is about every
                model, `None` if it is about none.

        Raises:
            Unauthorized: there is no token, or it is unknown.
            Forbidden: the token has other scopes, or is for other models.
        """
        return self.admit(authorization, scope, model).name

    def admit(self, authorization: str, scope: str | None, model: str | None) -> Entry:
        """Check the token of a request as `check` does, and return its entry."""
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
            # The message tells nothing about other models, not even whether they exist; nor does it
            # name the default model, which the request need not have named.
            what = "every model" if model == ALL else "the model that is asked"
            raise Forbidden(
                f"token {entry.name!r}: expected one for {what}, received one for "
                f"{_listed(entry.models)}"
            )
        return entry

    def allows(self, authorization: str, scope: str | None, model: str | None) -> bool:
        """Return whether `check` would pass, for pages that show some clients more than others."""
        try:
            self.admit(authorization, scope, model)
        except (Unauthorized, Forbidden):
            return False
        return True

    def identify(self, authorization: str) -> Entry:
        """Return the entry of a request's token, whatever its scopes and models are.

        Where no token is required, that is `ANYBODY`.

        Raises:
            Unauthorized: there is no token, or it is unknown.
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
                "know, or no longer knows"
            )
        return entry

    def keep_up(self) -> None:
        """Load a changed file even if no request arrives."""
        if self._file is not None:
            self._file.current()

    def look_again(self) -> None:
        """Have the file checked for changes before the next request is answered."""
        if self._file is not None:
            self._file.look_again()


def _look_at(path: Path) -> tuple[int, ...]:
    try:
        return stamp(path)
    except OSError as error:
        raise TokensError(f"{path}: cannot be read: {error.strerror}") from error


def _log_change(path: Path, now: _Tokens) -> None:
    log.info("%s: has changed, and has %d tokens", path, len(now.entries))
    warn_of_readers(path, log)


def _log_failure(error: TricepsError) -> None:
    log.error("%s; the previous tokens stay valid", error)


def warning(host: str, tokens_file: Path | str) -> str | None:
    """Return the warning for a service that other machines can reach and that needs no token.

    `None` if tokens are required, or only this machine can reach `host`.
    """
    if tokens_file or _is_loopback(host):
        return None
    return (
        f"whoever reaches {host} may use this service: no tokens are asked for. Make one by "
        "`triceps token`, and start with TRICEPS_TOKENS_FILE; or listen on 127.0.0.1 alone"
    )


def _is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
