"""`triceps report`: a page about the answers of a model to a labelled file, or the published one.

    rows.csv ── labelled_rows ─▶ targets, answers by head ── insight.report ─▶ FILE.html

Of each head, a bounded number of rows is in memory: a uniform sample, if the file has more.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands import labelled_rows, options, row_runs, target_columns
from service.errors import printable
from service.host.files import writing
from service.insight.evaluation.judged import MOST_CELLS, Judged, Sample, most_rows
from service.insight.report.document import document, listed, more, room, table
from service.insight.report.elements import cut, element
from service.insight.report.evaluation import evaluation
from service.insight.scores import shown
from service.wire.body import count
from service.wire.column_names import ColumnNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree import ElementTree as ET

    from service.commands.labelled_rows import LabelledRows
    from service.commands.row_files import Row
    from service.commands.target_columns import Targets
    from service.signature import Head

# Bounds, so that the page of any model has less than 300 kB; the evaluation takes what is left.
MOST_HEADS = 50  # of the table of scores
_NAME = 60  # characters of a name
_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps report customers --on march.csv --out march.html\n"
    "  triceps report customers@2 --out customers.html\n"
)


@click.command(short_help="Make a page about a model's answers.", epilog=_EXAMPLE)
@options.model
@click.option(
    "--on",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A CSV with the targets of some heads; without it, the report that training published.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file for the page, which replaces one that is there; - is standard output.",
)
@target_columns.option
@options.allow_missing
@options.models
def report(  # noqa: PLR0913  (click passes each option by its name)
    model: str,
    file: Path | None,
    out: Path,
    targets: dict[str, str],
    models: Path | None,
    *,
    allow: tuple[str, ...],
) -> None:
    """Write a page about the answers of MODEL to the rows of a file, as HTML without scripts.

    The page has the scores of the heads and, for each head, figures and drawings: which classes are
    taken for which, other thresholds, calibration, residuals, and the ten worst rows.  MODEL is a
    path, or a name in the repository: triceps, triceps@2 for version 2, or triceps@stable for the
    version that the alias stable names.

    Without --on, the page is the report that was published with the version.
    """
    if file is None:
        _copy(model, models, out, [*targets, *allow])
        return
    if out.exists() and out.samefile(file):
        raise click.BadParameter(f"{out} has the rows; name another file", param_hint="--out")
    servable = row_runs.open_rows_model(model, models)
    with labelled_rows.opened(file, servable, targets, allow) as labelled:
        judged = _judge(labelled, file)
    page = _page(labelled, judged, file)
    with writing(out) as target:
        target.write(page)
    labelled.tell()


def _copy(model: str, models: Path | None, out: Path, about_rows: list[str]) -> None:
    from service.repository.named_model import read_report

    if about_rows:
        message = "expected rows to read targets and features from, received none"
        raise click.BadParameter(message, param_hint="--on")
    servable, page = read_report(model, models)
    with writing(out) as target:
        target.write(page)
    about = f"the report that was published with {servable.name}, version {servable.version}"
    click.echo(printable(about), err=True)


def _judge(labelled: LabelledRows, file: Path) -> dict[str, Judged | None]:
    """Run all rows, and return the answers of each head; `None` if no row has its target."""
    heads = {entry.head.name: entry for entry in labelled.targets}
    most = most_rows(
        [len(entry.columns) + (entry.head.tensor.size or 0) for entry in labelled.targets]
    )
    samples = {name: Sample(entry.head.kind, most) for name, entry in heads.items()}
    shown_columns = {name: _features(labelled, entry.head) for name, entry in heads.items()}
    for some in labelled.run():
        columns = shown_columns[some.head.name].values()
        describe = partial(_describe, some.rows, columns, f"{file}, ")
        samples[some.head.name].add(some.targets, some.answers, describe)
    return {
        name: _judged(entry, samples[name], tuple(shown_columns[name]))
        for name, entry in heads.items()
    }


def _describe(
    rows: Sequence[Row], columns: Iterable[int], prefix: str, place: int
) -> tuple[str, tuple[str, ...]]:
    """Return the place of a row in its file, and its cells in some columns."""
    row = rows[place]
    return row.place.removeprefix(prefix), tuple(row.others[column] for column in columns)


def _features(labelled: LabelledRows, head: Head) -> dict[str, int]:
    """Return the first columns that are features which the head reads, with their positions."""
    names = ColumnNames.of(labelled.servable.signature)
    columns = {
        column: position
        for position, column in enumerate(labelled.csv.header)
        if any(
            isinstance(step, str) and entry.name in head.inputs
            for entry, step in names.meanings(column)
        )
    }
    return dict(islice(columns.items(), MOST_CELLS))


def _judged(entry: Targets, sample: Sample, columns: tuple[str, ...]) -> Judged | None:
    kept = sample.kept()
    if kept is None:
        return None
    head = entry.head
    return Judged(
        head.name,
        head.kind,
        head.labels,
        head.cutoff,
        *kept,
        sample.rows,
        target_columns=entry.columns,
        worst=sample.worst,
        cell_columns=columns,
    )


def _page(labelled: LabelledRows, judged: dict[str, Judged | None], file: Path) -> bytes:
    name, version = labelled.servable.name, labelled.servable.version
    told = [*row_runs.notes(labelled.counts), *labelled.unscored()]
    before = [
        element("p", f"Its answers to {count(labelled.rows, 'row')} of {file.name}."),
        element("h2", "Scores"),
        *_scores(labelled),
        element("h2", "What was missing"),
        *listed(told),
        element("h2", "Evaluation"),
    ]
    evaluated = evaluation([*judged], judged.get, room(before))
    return document(cut(f"Report of {name}, version {version}", _NAME), *before, *evaluated)


def _scores(labelled: LabelledRows) -> list[ET.Element]:
    scored = labelled.scored()
    rows = [
        (
            cut(name, _NAME),
            str(entry["rows"]),
            entry["metric"],
            shown(entry["value"]),
            shown(entry["baseline"]),
        )
        for name, entry in islice(scored.items(), MOST_HEADS)
    ]
    columns = ("head", "rows", "metric", "score", "baseline")
    return [table(columns, rows), *more(len(scored), MOST_HEADS, "heads")]
