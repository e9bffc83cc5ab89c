"""`triceps check`: whether a file would serve, and how, without a service.

FILE ─ named_model.locate ─▶ version ─ repository.check ─▶ facts ─▶ table, or JSON
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands import options
from service.errors import FAILED, printable
from service.host import progress
from service.wire.body import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.repository.loader import Servable
    from service.signature import Head, Input

_MB = 2**20
_EXAMPLE = "\b\nExample:\n  triceps check my_model.onnx\n  triceps check triceps@2 --json\n"


@click.command(short_help="Check whether a file would serve.", epilog=_EXAMPLE)
@options.model
@options.as_json
@options.models
def check(model: str, models: Path | None, *, as_json: bool) -> None:
    """Load MODEL as `triceps serve` would, in a process of its own, and print what comes of it.

    MODEL is a path, or a name in the repository: triceps for its newest version, triceps@2 for
    version 2, or triceps@stable for the version that the alias stable names.

    The exit code is 0 if it would serve; else it is 1, and the reason is printed.  Memory and times
    are those of this machine, now.
    """
    import logging

    from service import settings as all_settings
    from service.commands import other_files
    from service.repository.check import check as check_version
    from service.repository.named_model import is_named, locate
    from service.repository.publish import FILE, versions
    from service.repository.scan import look

    # The reason of the trial has all that it logs.
    logging.getLogger("service").addHandler(logging.NullHandler())
    settings = all_settings.load(models=models)
    path = Path(model)
    if not is_named(model, settings.models) and not (path / FILE).is_file() and not versions(path):
        other_files.check(path, look(path))
    located = locate(model, settings)
    found = located.found
    # The processes are forked before the line has a thread that holds a lock.
    with progress.shown(f"loading {model}"):
        checked = check_version(found, located.own, settings, _describe)
    # The name of a file may have any bytes.
    place = printable(found.path)
    facts: dict[str, Any] = {"name": found.name, "version": found.version, "file": place}
    if checked.reason is None:
        facts |= {"serves": True, **checked.facts}
        facts["notes"] = [*located.notes, *facts["notes"]]
    else:
        facts |= {"serves": False, "reason": checked.reason, "notes": list(located.notes)}
    if as_json:
        options.print_json(facts)
    elif checked.reason is None:
        _print(facts)
    else:
        click.echo(printable(f"triceps: {model}: refused, {checked.reason}"), err=True)
    if checked.reason is not None:
        raise click.exceptions.Exit(FAILED)


def _describe(servable: Servable) -> dict[str, Any]:
    """Return what `/models/<name>` says of a version, and what it lacks."""
    from service.api.descriptions import describe, in_force

    execution = servable.model.execution
    return {
        "model": {**describe(servable), **in_force(servable)},
        "provider": {"name": execution.provider, "difference": servable.model.difference},
        "notes": [*_notes(servable)],
    }


def _notes(servable: Servable) -> Iterator[str]:
    """Yield what the version lacks for good service, with the way out."""
    signature = servable.signature
    if servable.proof.no_example:
        yield f"no example is known that it answers: {servable.proof.no_example}"
    if signature.tensor:
        return
    for entry in signature.inputs.values():
        yield from _notes_on_input(entry)
    for head in signature.heads.values():
        yield from _notes_on_head(head)
    if signature.golden is None:
        yield (
            "it has no golden rows, so nothing shows that it answers here as where it was made: "
            "triceps train and triceps export write them"
        )


def _notes_on_input(entry: Input) -> Iterator[str]:
    tensor = entry.tensors[0]
    # A column alone, as files of scikit-learn have them, goes by the name of its input.
    is_one = tensor.size == 1
    if not entry.features and entry.kind == "tensor" and len(tensor.shape) <= 1 and not is_one:
        yield (
            f"input {entry.name!r}: its columns have no names: "
            f"triceps sign --features {entry.name}=A,B,…"
        )
    missing = [feature.name for feature in entry.features if feature.default is None]
    if missing:
        listed = ", ".join(missing[:5]) + " …" * (len(missing) > 5)  # noqa: PLR2004
        yield (
            f"input {entry.name!r}: no default for {listed}, so a row that misses a value is an "
            f"error: triceps sign --default {entry.name}.{missing[0]}=VALUE"
        )


def _notes_on_head(head: Head) -> Iterator[str]:
    if head.labels is None and head.kind != "regression" and head.tensor.dtype != "string":
        yield (
            f"head {head.name!r}: its answers have no labels: triceps sign --labels "
            f"{head.name}=A,B, or --kind {head.name}=regression if they are numbers"
        )


def _print(facts: Mapping[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = options.console()
    title = f"{facts['name']}, version {facts['version']}: it would serve"
    console.print(printable(title), style="bold", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, show_header=False)
    for _ in range(2):
        table.add_column(overflow="fold")
    for what, text in _lines(facts):
        table.add_row(what, printable(text))
    options.print_table(table)
    for note in facts["notes"]:
        console.print(printable(f"note: {note}"), soft_wrap=True)


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model = facts["model"]
    yield "inputs", ", ".join(map(_input, model["inputs"].items()))
    yield "heads", ", ".join(map(_head, model["heads"].items()))
    batching = model["batching"]
    yield "batching", f"{batching['mode']} ({batching['evidence']}): {batching['reason']}"
    newest = facts["opset"]["newest"]
    yield (
        "opset",
        ", ".join(
            f"{domain} {version} of up to {newest.get(domain, 'none')}"
            for domain, version in facts["opset"]["graph"].items()
        ),
    )
    memory = facts["memory"]
    counted = f"{_mb(memory['counted'])} counted for each worker, which has {_mb(memory['budget'])}"
    yield "memory", f"{_mb(memory['added'])} added here; {counted}"
    yield "provider", _provider(facts["provider"])
    yield "time", ", ".join(_times(facts))


def _input(item: tuple[str, Mapping[str, Any]]) -> str:
    name, entry = item
    if "features" in entry:
        return f"{name} ({count(len(entry['features']), 'feature')})"
    return f"{name} ({entry['kind']}, {entry['dtype']}[{_axes(entry['shape'])}])"


def _head(item: tuple[str, Mapping[str, Any]]) -> str:
    name, head = item
    return f"{name} ({head['kind']}, {head['dtype']}[{_axes(head['shape'])}])"


def _axes(shape: list[int | None]) -> str:
    return " x ".join("any" if axis is None else str(axis) for axis in shape)


def _mb(size: int) -> str:
    return f"{size / _MB:.1f} MB"


def _provider(provider: Mapping[str, Any]) -> str:
    if provider["name"] == "CPUExecutionProvider":
        return str(provider["name"])
    return f"{provider['name']}, {provider['difference']:.2g} from the CPU's answers"


def _times(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the times of a run as text, each with its rows."""
    from service.repository.check import MANY

    one, many = facts["seconds"]["one"], facts["seconds"]["many"]
    what = "whole tensors" if facts["model"]["batching"]["mode"] == "tensor" else "one row"
    if one is None:
        yield "not measured: no row is known that it answers, or a run took too long"
        return
    yield f"{what} in {_time(one)}"
    if many is not None:
        yield f"{MANY} rows in {_time(many)}"
    yield "on this machine, the median of some runs"


def _time(seconds: float) -> str:
    if seconds < 1e-3:  # noqa: PLR2004
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
