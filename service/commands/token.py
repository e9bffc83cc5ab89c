"""`triceps token`: tokens for clients; a running service notices a change within a second."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service import settings as all_settings
from service.errors import SettingsError, nearest, printable
from service.host import files
from service.http import tokens
from service.http.tokens import HASHED, HEADER, METRICS, SCOPES, Entry, TokensError
from service.names import NAME, NAMES
from service.repository.scan import look

if TYPE_CHECKING:
    from collections.abc import Callable

# By this prefix, scanners for leaked secrets recognize a token.
PREFIX = "triceps_"
VARIABLE = "TRICEPS_TOKENS_FILE"

_HEAD = (
    "# Tokens of clients, written by `triceps token`.  A token cannot be read from its hash.\n"
    f"{tokens.COUNT} = 0\n"
)

_COUNT = re.compile(rf"^[ \t]*{tokens.COUNT}[ \t]*=.*$", re.MULTILINE)

_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  export TRICEPS_TOKENS_FILE=tokens.toml\n"
    "  triceps token shop --scope predict --model triceps\n"
    "  triceps token shop --remove\n"
)


@click.command(short_help="Make a token for a client, or remove it.", epilog=_EXAMPLE)
@click.argument("name")
@click.option(
    *("--scope", "scopes"),
    multiple=True,
    type=click.Choice(SCOPES),
    help="What the token permits: predict (and all pages about models), admin (loading models) or "
    "metrics; may be given several times.",
)
@click.option(
    *("--model", "models"),
    multiple=True,
    help="A model that the token is for, by default all; may be given several times.",
)
@click.option("--remove", is_flag=True, help="Remove the token NAME.")
@click.option(
    *("--file", "file"),
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=VARIABLE,
    required=True,
    help=f"The tokens file [{VARIABLE}].",
)
def token(
    name: str, scopes: tuple[str, ...], models: tuple[str, ...], file: Path, *, remove: bool
) -> None:
    """Make a token for the client NAME, and print it once: the file keeps only its hash.

    The client sends it as `Authorization: Bearer TOKEN`.  To replace a token, make a second one
    with another name, and remove the first when no client uses it any more.
    """
    if remove == bool(scopes) or (remove and models):
        raise click.UsageError("expected at least one --scope for NAME, or --remove, and not both")
    _check(name, "NAME")
    for model in models:
        _check(model, "--model")
    if models and METRICS in scopes:
        message = f"expected none beside --scope {METRICS}, since metrics tell of every model"
        raise click.BadParameter(message, param_hint="--model")
    if remove:
        _change(file, lambda text: _without(text, name, file))
        click.echo(printable(f"{file}: {name} is removed"), err=True)
        return
    secret = PREFIX + secrets.token_urlsafe(32)
    entry = Entry(name, sha256(secret.encode()).digest(), frozenset(scopes), frozenset(models))
    _change(file, lambda text: _with(text, entry, file))
    click.echo(
        printable(f"{file}: {name} is added; its token, which is not shown again:"), err=True
    )
    click.echo(secret)
    _note_unknown(models)


def _note_unknown(models: tuple[str, ...]) -> None:
    """Print a note for each name that is no model of the repository, if there is one here."""
    with contextlib.suppress(SettingsError):  # tokens may be made where no models are
        settings = all_settings.load()
        place = settings.models
        known = look(place, settings.model_name).by_name
        for model in models:
            if known and model not in known:
                note = f"note: {place} has no model {model!r} now{nearest(model, known)}"
                note += "; the token is for a view or model of that name"
                click.echo(printable(note), err=True)


def _check(name: str, where: str) -> None:
    if not NAME.fullmatch(name):
        raise click.BadParameter(f"expected {NAMES}, received {name!r}", param_hint=where)


def _with(text: str, entry: Entry, file: Path) -> str:
    """Return the text of a tokens file with one more token.

    Raises:
        TokensError: the file has a token of that name already, or is not a valid tokens file.
    """
    entries = tokens.parse(text, str(file))
    if any(other.name == entry.name for other in entries):
        raise TokensError(
            f"{file}: there is a token {entry.name!r} already: choose another name, or --remove it"
        )
    table = [
        "[[tokens]]",
        f'name = "{entry.name}"',
        f'hash = "{HASHED}{entry.digest.hex()}"',
        *([f"models = {json.dumps(sorted(entry.models))}"] if entry.models else []),
        # Last, since every table needs scopes: a file that was cut off here is then invalid.
        f"scopes = {json.dumps(sorted(entry.scopes))}",
    ]
    changed = (text.rstrip("\n") + "\n" if text else _HEAD) + "\n" + "\n".join(table) + "\n"
    return _checked(changed, (*entries, entry), file)


def _without(text: str, name: str, file: Path) -> str:
    """Return the text of a tokens file without one token; comments above the next table stay.

    Raises:
        TokensError: the file has no token of that name, or is not a valid tokens file.
    """
    entries = tokens.parse(text, str(file))
    names = [entry.name for entry in entries]
    if name not in names:
        available = ", ".join(sorted(names)) or "none"
        raise TokensError(
            f"{file}: there is no token {name!r}{nearest(name, names)}. Available: {available}"
        )
    index = names.index(name)
    starts = [*(match.start() for match in HEADER.finditer(text)), len(text)]
    if len(starts) == len(names) + 1:
        above = _comments_at_end(text[starts[index] : starts[index + 1]])
        text = (text[: starts[index]] + above + text[starts[index + 1] :]).rstrip("\n") + "\n"
    return _checked(text, entries[:index] + entries[index + 1 :], file)


def _counted(text: str, count: int) -> str:
    """Return the text of a tokens file with the number of its tokens brought up to date."""
    line = f"{tokens.COUNT} = {count}"
    changed, matches = _COUNT.subn(line, text, count=1)
    return changed if matches else f"{line}\n{text}"


def _comments_at_end(table: str) -> str:
    lines = table.splitlines(keepends=True)
    own = len(lines)
    while not lines[own - 1].strip() or lines[own - 1].lstrip().startswith("#"):
        own -= 1
    return "".join(lines[own:]).lstrip("\n")


def _checked(text: str, entries: tuple[Entry, ...], file: Path) -> str:
    """Check that an edited file parses to `entries`, since it was edited without a TOML parser.

    Raises:
        TokensError: it does not, since the file is written in an unusual way.
    """
    text = _counted(text, len(entries))
    with contextlib.suppress(TokensError):
        if tokens.parse(text, str(file)) == entries:
            return text
    message = "expected [[tokens]] tables of name, hash, scopes and models; change it by hand"
    raise TokensError(f"{file}: {message}")


def _change(file: Path, edit: Callable[[str], str]) -> None:
    """Replace the text of a file by what `edit` makes of it; two changes at once take turns.

    Raises:
        TokensError: the file cannot be read or written.
    """
    try:
        # If the file is a link, its target is replaced, and the link stays.
        path = file.resolve()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            # Some network file systems cannot lock a folder: there, one of two changes may be lost.
            with contextlib.suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX)
            before = path.read_text("utf-8") if files.replaceable(path) else ""
            after = edit(before).encode()
            with files.replacing(path, 0o600) as part:
                part.write(after)
        finally:
            os.close(folder)
    except OSError as error:
        raise TokensError(f"{file}: cannot be changed: {error.strerror or error}") from error
    except files.FileError as error:
        raise TokensError(str(error)) from error
    except RuntimeError as error:  # so Python 3.11 reports a loop of links
        raise TokensError(f"{file}: cannot be changed: links that lead in a circle") from error
    except UnicodeDecodeError as error:
        raise TokensError(f"{file}: expected TOML, which is UTF-8, received other bytes") from error
