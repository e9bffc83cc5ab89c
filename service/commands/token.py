"""`triceps token`: make a token, or take one back; a running service follows within a second."""

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

from service.errors import nearest, printable
from service.host import files
from service.http import tokens
from service.http.tokens import HASHED, HEADER, METRICS, SCOPES, Entry, TokensError
from service.names import NAME, NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

# By this, what looks for secrets that have got into code or logs knows one of ours.
PREFIX = "triceps_"
VARIABLE = "TRICEPS_TOKENS_FILE"

_HEAD = (
    "# Who may ask: `triceps token` writes here, and a hash tells nobody the token.\n"
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
    help="What it is for: predict (and all pages about models), admin (loading models) or metrics; "
    "may be given several times.",
)
@click.option(
    *("--model", "models"),
    multiple=True,
    help="A model that it is for, if not for all; may be given several times.",
)
@click.option("--remove", is_flag=True, help="Remove the token NAME.")
@click.option(
    *("--file", "file"),
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=VARIABLE,
    required=True,
    help=f"The file of tokens [{VARIABLE}].",
)
def token(
    name: str, scopes: tuple[str, ...], models: tuple[str, ...], file: Path, *, remove: bool
) -> None:
    """Make a token for the client NAME, and print it: this once, since only its hash is kept.

    The client sends it as `Authorization: Bearer TOKEN`.  To replace one, make a second of another
    name, and remove the first when nobody uses it any more.
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
    made = PREFIX + secrets.token_urlsafe(32)
    entry = Entry(name, sha256(made.encode()).digest(), frozenset(scopes), frozenset(models))
    _change(file, lambda text: _with(text, entry, file))
    click.echo(
        printable(f"{file}: {name} is added; its token, which is not shown again:"), err=True
    )
    click.echo(made)


def _check(name: str, where: str) -> None:
    if not NAME.fullmatch(name):
        raise click.BadParameter(f"expected {NAMES}, received {name!r}", param_hint=where)


def _with(text: str, entry: Entry, file: Path) -> str:
    """The text of a file of tokens with one more.

    Raises:
        TokensError: it has one of that name, or is not what it should be.
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
        # Last, since no table may be without: one that was cut off has lost them.
        f"scopes = {json.dumps(sorted(entry.scopes))}",
    ]
    made = (text.rstrip("\n") + "\n" if text else _HEAD) + "\n" + "\n".join(table) + "\n"
    return _holding(made, (*entries, entry), file)


def _without(text: str, name: str, file: Path) -> str:
    """The text of a file of tokens without one; what stands above the next table is that one's.

    Raises:
        TokensError: it has none of that name, or is not what it should be.
    """
    entries = tokens.parse(text, str(file))
    names = [entry.name for entry in entries]
    if name not in names:
        available = ", ".join(sorted(names)) or "none"
        raise TokensError(
            f"{file}: there is no token {name!r}{nearest(name, names)}. Available: {available}"
        )
    index = names.index(name)
    starts = [*(found.start() for found in HEADER.finditer(text)), len(text)]
    if len(starts) == len(names) + 1:
        above = _comments_at_end(text[starts[index] : starts[index + 1]])
        text = (text[: starts[index]] + above + text[starts[index + 1] :]).rstrip("\n") + "\n"
    return _holding(text, entries[:index] + entries[index + 1 :], file)


def _counted(text: str, count: int) -> str:
    """The text with the number of its tokens in front."""
    line = f"{tokens.COUNT} = {count}"
    made, found = _COUNT.subn(line, text, count=1)
    return made if found else f"{line}\n{text}"


def _comments_at_end(table: str) -> str:
    lines = table.splitlines(keepends=True)
    own = len(lines)
    while not lines[own - 1].strip() or lines[own - 1].lstrip().startswith("#"):
        own -= 1
    return "".join(lines[own:]).lstrip("\n")


def _holding(text: str, entries: tuple[Entry, ...], file: Path) -> str:
    """See that a text that was put together without a parser means what it should.

    Raises:
        TokensError: it does not; so it was written in an unusual way.
    """
    text = _counted(text, len(entries))
    with contextlib.suppress(TokensError):
        if tokens.parse(text, str(file)) == entries:
            return text
    message = "expected [[tokens]] tables of name, hash, scopes and models; change it by hand"
    raise TokensError(f"{file}: {message}")


def _change(file: Path, edit: Callable[[str], str]) -> None:
    """Replace what a file has by what `edit` makes of that; of two at once, one waits.

    Raises:
        TokensError: it cannot be read or written.
    """
    try:
        # Where it is a link, what it leads to is replaced, and the link stays.
        path = file.resolve()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            # Some network file systems lock no folder: there, two at once may lose one change.
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
    except RuntimeError as error:  # Python 3.11's word for it
        raise TokensError(f"{file}: cannot be changed: links that lead in a circle") from error
    except UnicodeDecodeError as error:
        raise TokensError(f"{file}: expected TOML, which is UTF-8, received other bytes") from error
