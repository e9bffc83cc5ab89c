"""`triceps up`: from a table to a service, by `init`, `train` and `serve` one after another.

Each step is said in a line with the command that does it alone, and left out if its result is
there already: a spec stays as it is, and a model is trained again only if its spec or a table has
changed.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service import settings
from service.errors import printable
from service.repository.publish import FILE, versions
from service.server.listening import listen
from training import cli, repositories
from training import spec as specs
from training.cells import listed
from training.csv_file import digest, find
from training.errors import SpecError
from training.init import command
from training.init.plan import model_name, plan
from training.init.text import spec_text

if TYPE_CHECKING:
    from training.init.plan import Plan, Request
    from training.spec import Spec

_EXAMPLE = "\b\nExample:\n  triceps up penguins.csv --head species --head body_mass_g\n"
# -P keeps modules of the current folder out, as the installed program does.
_SERVE = ("-P", "-c", "from service.commands.main import main; main(prog_name='triceps')", "serve")


@click.command(short_help="Serve a model of CSV files: init, train, serve.", epilog=_EXAMPLE)
@command.tables
@command.heads
@command.key
@command.name
@repositories.models
@click.option("--port", type=click.IntRange(1, 65535), help="The port to serve on.  [PORT]")
def up(models: Path | None, port: int | None, **wanted: Any) -> None:
    """Write a spec for TABLEs, train it and serve its model, until you interrupt it.

    A spec that is there is trained as it is, and a model of an unchanged spec and unchanged tables
    is served at once.
    """
    request = command.request_of(**wanted)
    repository = repositories.folder(models)
    # A port that is in use is said now, and not after the training.
    listen(settings.load(port=port)).close()
    path = write_spec(request)
    spec = specs.load(path)
    version = current_version(spec, repository)
    training = ["train", str(path), "--models", str(repository)]
    if version is None:
        _say(f"2/3 {_shown(training)}")
        cli.train.main(training[1:], prog_name="triceps train", standalone_mode=False)
    else:
        file = repository / spec.name / version / FILE
        _say(f"2/3 {file} is of this spec and these tables; again: {_shown(training)}")
    serving = ["--models", str(repository), "--default-model", spec.name]
    serving += [] if port is None else ["--port", str(port)]
    _say(f"3/3 {_shown(['serve', *serving])}")
    sys.stdout.flush()
    sys.stderr.flush()
    # In place of this process, so that signals reach the service and nothing of training stays.
    os.execv(sys.executable, [sys.executable, *_SERVE, *serving])  # noqa: S606  (no shell: words)


def write_spec(request: Request) -> Path:
    """Write the spec of a request, unless it is there, and return its path.

    Raises:
        SpecError: a spec of that name is there, and is for other tables or heads.
    """
    path = Path(f"{model_name(request)}.toml")
    planned = plan(request, path.parent)
    text = spec_text(planned, request.heads)
    words = ["init", *map(str, request.files)]
    words += [word for head in request.heads for word in ("--head", head)]
    words += ["--key", request.key] if request.key is not None else []
    words += ["--name", request.name] if request.name is not None else []
    if not path.exists():
        _say(f"1/3 {_shown(words)}")
        command.save(path, text, force=False)
        command.tell(planned, path)
        return path
    again = _shown([*words, "--force"])
    if path.read_bytes() == text.encode():
        _say(f"1/3 {path} is what init would write")
        return path
    there, expected = _subject(specs.load(path)), _subject_of(planned)
    if there != expected:
        raise SpecError(
            f"{path}: is there already, and learns {listed(sorted(there))}, not"
            f" {listed(sorted(expected))}; write it anew ({again}), or choose another --name"
        )
    _say(f"1/3 {path} is there, and is kept; anew: {again}")
    return path


def _subject(spec: Spec) -> set[str]:
    """Return the tables and columns that a spec is about."""
    targets = {
        f"{column} of {spec.inputs[owner].csv}"
        for head in spec.heads.values()
        for owner, column in head.targets
    }
    return targets | {entry.csv for entry in spec.inputs.values()}


def _subject_of(planned: Plan) -> set[str]:
    inputs = {entry.name: entry.csv for group in planned.groups for entry in group.inputs}
    targets = {
        f"{column} of {inputs[head.owner]}"
        for group in planned.groups
        for head in group.heads
        for column in head.columns
    }
    return targets | set(inputs.values())


def current_version(spec: Spec, repository: Path) -> str | None:
    """Return the newest version of a spec's model, if it is of this very spec and these tables."""
    published = versions(repository / spec.name)
    if not published:
        return None
    file = repository / spec.name / str(published[-1]) / FILE
    origin = repositories.signature_of(file).get("provenance", {})
    paths = {spec.path.parent / entry.csv for entry in spec.inputs.values()}
    tables = sorted(digest(find(path, str(spec.path))) for path in paths)
    same = (
        origin.get("spec_sha256") == spec.digest
        and sorted(origin.get("tables_sha256", {}).values()) == tables
    )
    return str(published[-1]) if same else None


def _shown(words: list[str]) -> str:
    return shlex.join(["triceps", *words])


def _say(text: str) -> None:
    click.echo(printable(text))
