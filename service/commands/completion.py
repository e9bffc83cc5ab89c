"""Completion of the names of models in a shell, without importing anything that loads models.

A shell runs the program for each completion: `eval "$(_TRICEPS_COMPLETE=bash_source triceps)"`.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from service.names import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import click

_MARK = "@"


@add_completion_class
class Bash(BashComplete):
    """The completion of bash, which takes an at sign for a word of its own: `triceps @ 2`."""

    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, and that word, put together again."""
        words, last = super().get_completion_args()
        joined: list[str] = []
        is_open = False
        for word in [*words, last]:
            if joined and (is_open or word == _MARK):
                joined[-1] += word
            else:
                joined.append(word)
            is_open = word == _MARK
        whole = joined.pop()
        # Bash replaces the word from the at sign on, unless it has not cut the word there.
        if len(joined) < len(words) and _MARK in whole:
            self._before = whole[: whole.rindex(_MARK)]
        return joined, whole

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a line for the shell, with the part of the word that bash replaces."""
        return f"{item.type},{item.value.removeprefix(self._before)}"


def models(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Return the models, or behind an at sign or a slash the versions and aliases, and files."""
    del parameter
    texts: list[str] = []
    repository = _repository(ctx)
    if repository is not None:
        model, mark, _ = re.match(r"([^@/]*)([@/]?)(.*)", incomplete, re.DOTALL).groups()  # type: ignore[union-attr]
        if mark and NAME.fullmatch(model) and (repository / model).is_dir():
            texts = [f"{model}{mark}{which}" for which in _versions(repository / model)]
        else:
            texts = _names(repository)
    items = [CompletionItem(text) for text in texts if text.startswith(incomplete)]
    # First, since bash forgets what came before it, and takes files only if nothing else is there.
    return [CompletionItem(incomplete, type="file"), *items]


def names(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Return the models, for a command that takes a name alone."""
    del parameter
    repository = _repository(ctx)
    known = [] if repository is None else _names(repository)
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def _repository(ctx: click.Context) -> Path | None:
    """Return the repository that the command would use; `None` if a setting is wrong."""
    from service import settings
    from service.errors import SettingsError

    try:
        return settings.load(models=ctx.params.get("models")).models
    except SettingsError:
        return None


def _names(repository: Path) -> list[str]:
    try:
        return sorted(e.name for e in repository.iterdir() if NAME.fullmatch(e.name) and e.is_dir())
    except OSError:  # it is not there, or no folder
        return []


def _versions(folder: Path) -> Iterator[str]:
    from service.repository import aliases
    from service.repository.publish import versions
    from service.repository.scan import ALIASES

    with contextlib.suppress(OSError):
        yield from map(str, versions(folder))
    with contextlib.suppress(aliases.AliasError):
        yield from sorted(aliases.read(folder / ALIASES))
