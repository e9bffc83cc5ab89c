"""`triceps diff`: what differs between two models, in their signatures and in their answers.

    A, B ─ signature_changes ─▶ changes
    rows ─ paired_rows ─▶ outputs of both ─ compared_answers ─▶ a comparison by head

Only a few hundred rows are in memory at a time, however long the file is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands import options
from service.errors import FAILED, printable
from service.host import progress
from service.settings import Number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.commands.compared_answers import Compared
    from service.commands.paired_rows import Pair
    from service.commands.signature_changes import Change
    from service.repository.loader import Servable

# The characters of a value, and of an answer, in a table.
_LONG = 60
_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps diff triceps@1 triceps@2\n"
    "  triceps diff triceps@stable new.onnx --in rows.csv --tolerance 0.001\n"
)


@click.command(short_help="Compare two models, and their answers.", epilog=_EXAMPLE)
@options.model_named("first", "A")
@options.model_named("second", "B")
@click.option(
    "--in",
    "file",
    type=click.Path(exists=True, path_type=Path),
    help="The rows to answer, .csv, .json or a folder of samples; by default the golden rows of "
    "both.",
)
@click.option(
    "--tolerance",
    type=Number(0, sys.float_info.max),
    help="End with 1 if a label differs, a number by more than this, or a head is in one alone; "
    "or if no rows are compared.",
)
@options.heads
@options.allow_missing
@options.as_json
@options.models
def diff(  # noqa: PLR0913  (click passes each option by its name)
    first: str,
    second: str,
    file: Path | None,
    tolerance: float | None,
    heads: str | None,
    *,
    allow: tuple[str, ...],
    as_json: bool,
    models: Path | None,
) -> None:
    """Print what differs between the models A and B: in their signatures, and in their answers.

    A and B are paths, or names in the repository: triceps, triceps@2 for version 2, or
    triceps@stable for the version that the alias stable names.

    For each head that both have: the share of rows whose label differs, the largest and the mean
    difference of the numbers, and the rows that differ most.  The difference of a row is the
    largest among the values of its answer.
    """
    from service.commands import compared_answers, signature_changes
    from service.repository.named_model import open_model

    with progress.shown(f"loading {first} and {second}"):
        servables = open_model(first, models), open_model(second, models)
    changes = signature_changes.changes(*servables)
    shared, notes = compared_answers.shared(*servables, heads)
    some_not_compared = bool(notes)
    answers: dict[str, Compared] = {}
    rows = 0
    if (why := _why_no_rows(*servables, shared)) is not None:
        if file is not None:
            raise click.BadParameter(why, param_hint="--in")
        notes.append(why)
    else:
        from service.commands.paired_rows import Pair

        pair = Pair(*servables, shared)
        paired = pair.of_golden_rows() if file is None else pair.of_file(file, allow)
        rows, answers = compared_answers.compare(pair, paired)
        notes += [*pair.notes, *_counted(pair)]
        if file is not None and not rows:
            notes.append(f"no rows are compared: {printable(str(file))} has none")
    if as_json:
        options.print_json(_as_json(servables, changes, answers, rows, notes))
    else:
        _print(servables, changes, answers, notes, _source(rows, file))
    if tolerance is not None and (
        some_not_compared or compared_answers.exceeds(answers, tolerance)
    ):
        raise click.exceptions.Exit(FAILED)


def _why_no_rows(first: Servable, second: Servable, heads: Sequence[str]) -> str | None:
    for side, servable in (("A", first), ("B", second)):
        if servable.signature.tensor:
            return f"no rows are compared: {side} takes whole tensors"
    return None if heads else "no rows are compared: there is no head to compare in both"


def _counted(pair: Pair) -> Iterator[str]:
    """Yield what is to be said about missing and unseen values, once if it is the same of both."""
    from service.commands import row_runs

    first, second = (list(row_runs.notes(counts)) for counts in pair.counts)
    for note in dict.fromkeys([*first, *second]):
        side = "" if note in first and note in second else ("A: " if note in first else "B: ")
        yield f"{side}{note}"


def _as_json(
    servables: tuple[Servable, Servable],
    changes: Sequence[Change],
    answers: Mapping[str, Compared],
    rows: int,
    notes: Sequence[str],
) -> dict[str, Any]:
    first, second = ({"name": s.name, "version": s.version} for s in servables)
    return {
        "first": first,
        "second": second,
        "signature": [change.as_json() for change in changes],
        "rows": rows,
        "heads": {
            head: {
                **compared.comparison.as_json(),
                "most": [
                    {
                        "row": row.place,
                        "difference": row.difference,
                        "first": row.first,
                        "second": row.second,
                    }
                    for row in compared.most
                ],
            }
            for head, compared in answers.items()
            if compared.comparison is not None
        },
        "notes": list(notes),
    }


def _source(rows: int, file: Path | None) -> str:
    from service.wire.body import count

    return f"{count(rows, 'row')} of {'both models' if file is None else file}"


def _print(
    servables: tuple[Servable, Servable],
    changes: Sequence[Change],
    answers: Mapping[str, Compared],
    notes: Sequence[str],
    source: str,
) -> None:
    console = options.console()
    for side, servable in zip("AB", servables, strict=True):
        title = f"{side}: {servable.name}, version {servable.version}"
        console.print(printable(title), style="bold", soft_wrap=True)
    if changes:
        rows = [(c.at, _shown(c.first, c.second), _shown(c.second, c.first)) for c in changes]
        options.print_table(options.table("Signature", ("", "A", "B"), rows))
    else:
        console.print("the signatures are the same")
    if any(compared.comparison for compared in answers.values()):
        columns = ("head", "labels differ", "largest", "mean")
        options.print_table(options.table(f"Answers to {source}", columns, _totals(answers)))
        most = [*_most(answers)]
        if most:
            columns = ("head", "row", "A", "B")
            options.print_table(options.table("Rows that differ most", columns, most))
    for note in notes:
        console.print(printable(f"note: {note}"), soft_wrap=True)


def _totals(answers: Mapping[str, Compared]) -> Iterator[tuple[str, ...]]:
    for head, compared in answers.items():
        total = compared.comparison
        if total is None:
            continue
        differ = ""
        if total.labels_differ is not None:
            differ = f"{total.labels_differ} ({total.labels_differ / total.rows:.2%})"
        infinite = f" ({total.not_finite} not finite)" if total.not_finite else ""
        yield head, differ, _number(total.largest) + infinite, _number(total.mean)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _most(answers: Mapping[str, Compared]) -> Iterator[tuple[str, ...]]:
    for head, compared in answers.items():
        for row in compared.most:
            yield head, row.place, _answer_text(row.first), _answer_text(row.second)


def _answer_text(answer: Mapping[str, Any]) -> str:
    """Return an answer as text: its label, if it has one, and its values."""
    value = answer["value"]
    value = value.tolist() if hasattr(value, "tolist") else value
    values = value if isinstance(value, list) else [value]
    text = " ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
    label = answer.get("label")
    listed = "|".join(label) if isinstance(label, list) else label
    return _cut(text if label is None else f"{listed} {text}")


def _shown(value: Any, other: Any) -> str:
    """Return a value of a change; of two lists of names, what only this one has."""
    if isinstance(value, list):
        if not all(isinstance(entry, str) for entry in value):
            return _cut(str(value))
        own = [entry for entry in value if entry not in other] if isinstance(other, list) else []
        if own or (isinstance(other, list) and len(value) != len(other)):
            return _cut(f"only here: {', '.join(own) or 'nothing'}")
        return _cut(", ".join(value))
    if isinstance(value, dict):
        # Of objects, such as features, the names say enough.
        entries = (k if isinstance(v, dict) else f"{k} {v}" for k, v in value.items())
        return _cut(", ".join(entries))
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]} …"
