"""The program `triceps`: a group of commands that other modules provide.

Commands join through the entry-point group `triceps.commands`, so that `service` and `training`
(and any other package) provide theirs without importing one another.  Only the module of the
command that runs is imported, so that `triceps serve` does not wait for the imports of the others.
"""

from __future__ import annotations

import contextlib
import errno
import re
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from service import __version__
from service.commands import completion  # noqa: F401  (registers the completion of bash)
from service.errors import FAILED, INTERRUPTED, TricepsError, nearest, printable
from service.host import standard_streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GROUP = "triceps.commands"
# The groups of the help, each with its commands in the order in which they are used.
HEADINGS = {
    "Make models": ("init", "up", "train", "export", "sign"),
    "Serve": ("serve", "health", "token", "pull", "alias", "traffic", "prune"),
    "Look": ("show", "check", "diff", "predict", "score", "report", "drift", "samples"),
}
# The group of commands that other packages provide.
OTHER = "Other"
DISTRIBUTION = "triceps"
# Errors of the system while writing, and errors about the name of a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
_UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR),
    *(errno.EMFILE, errno.ENFILE),
)


class Commands(click.Group):
    """The commands of the entry-point group, each imported when it is first used."""

    @cached_property
    def entry_points(self) -> dict[str, metadata.EntryPoint]:
        """The entry points by command name, sorted for the help text."""
        entries = metadata.entry_points(group=GROUP)
        return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, without importing any."""
        return [*self.entry_points, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; if that fails, return a command that prints the reason."""
        entry = self.entry_points.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        try:
            return _load(entry)
        except (ImportError, AttributeError, TypeError) as error:
            return _unavailable(cmd_name, error)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in groups, with their short help in one column."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        shown = {name: c for name, c in commands.items() if c is not None and not c.hidden}
        longest = max(map(len, shown), default=0)
        for heading, names in _groups(shown).items():
            # Its column begins behind the longest name of the group.
            spacing = 2 + longest - max(map(len, names))
            limit = formatter.width - 6 - longest
            with formatter.section(heading):
                formatter.write_dl(
                    [(name, shown[name].get_short_help_str(limit)) for name in names],
                    col_spacing=spacing,
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so, without their short help: no command is imported."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        # The options of the program itself; `Group` would import all commands.
        options = super(click.Group, self).shell_complete(ctx, incomplete)
        return [*map(CompletionItem, names), *options]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command, and suggest the one with the most similar name."""
        name, names = args[0], self.list_commands(ctx)
        if name not in names and name.isidentifier():
            ctx.fail(f"No such command {name!r}{nearest(name, names) or '.'}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program, also if its standard streams are closed."""
        standard_streams.make_usable()
        return super().main(*args, **kwargs)

    def make_context(
        self, info_name: str | None, args: list[str], *rest: Any, **extra: Any
    ) -> click.Context:
        """Read the command line; `--help` prints while it is read."""
        with _in_one_line():
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print an expected error as one line on stderr, without a traceback."""
        try:
            with _in_one_line():
                return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (extra := _extra_of(error)) is None:
                raise
            _fail(_missing(ctx.invoked_subcommand, error, extra))
        except KeyboardInterrupt:
            click.echo(err=True)  # the shell's ^C has no line of its own
            raise click.exceptions.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Print an expected error, and one of the system, as one line, and exit."""
    try:
        yield
    except TricepsError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno in _FULL:
            _fail(f"cannot write {error.filename or 'its output'}: {error.strerror}")
        if error.errno not in _UNUSABLE or error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")


def _groups(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the groups that have commands, by heading."""
    names = list(names)
    ours = {name for group in HEADINGS.values() for name in group}
    groups = {heading: [n for n in group if n in names] for heading, group in HEADINGS.items()}
    groups[OTHER] = [name for name in names if name not in ours]
    return {heading: group for heading, group in groups.items() if group}


def _fail(message: str, exit_code: int = FAILED) -> NoReturn:
    """Exit with one line for the user, and an exit code for scripts."""
    click.echo(f"{DISTRIBUTION}: {printable(message)}", err=True)
    raise click.exceptions.Exit(exit_code)


def _load(entry: metadata.EntryPoint) -> click.Command:
    command = entry.load()
    if not isinstance(command, click.Command):
        raise TypeError(f"{entry.value} is no click command")
    return command


def _unavailable(name: str, error: Exception) -> click.Command:
    """Return a command that is listed in the help and, when run, prints why it cannot run."""
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error)) is not None:
        hint, message = f"needs the {extra!r} extra", _missing(name, error, extra)
    else:
        hint, message = "cannot be loaded", f"{name!r} cannot be loaded: {error}"

    def fail(**_: Any) -> NoReturn:
        _fail(message)

    return click.Command(
        name,
        callback=fail,
        short_help=f"({hint})",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
        params=[click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)],
    )


def _extra_of(error: ModuleNotFoundError) -> str | None:
    """Return the smallest extra of this distribution that provides the missing module, if any."""
    missing = (error.name or "").partition(".")[0]
    requirements = "\n".join(metadata.requires(DISTRIBUTION) or ())
    pairs = re.findall(r"^([\w-]+).*\bextra == ['\"]([\w-]+)['\"]$", requirements, re.MULTILINE)
    extras = [extra for _, extra in pairs]
    return min((extra for name, extra in pairs if name == missing), key=extras.count, default=None)


def _missing(command: str | None, error: ModuleNotFoundError, extra: str) -> str:
    return (
        f"{command!r} needs {error.name}, which is not installed: "
        f"pip install '{DISTRIBUTION}-{__version__}-py3-none-any.whl[{extra}]'"
    )


@click.command(
    cls=Commands,
    name=DISTRIBUTION,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command has its own help, with an example: triceps serve --help",
)
@click.version_option(__version__, message="%(prog)s %(version)s", prog_name=DISTRIBUTION)
def main() -> None:
    """Train, export, serve and score models with several inputs and several heads."""
