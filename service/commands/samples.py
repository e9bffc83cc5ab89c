"""`triceps samples`: samples of a running service as a CSV, joined with the truth about them.

    samples ─ read ─▶ the inputs and features that they have ─▶ columns
       └─ read again ─ truth, by request ID and row ─▶ rows.csv ─▶ score, report, train

One row is in memory at a time, and the whole truth.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands import options
from service.commands.opened_rows import samples_of
from service.commands.row_files import RowsError
from service.commands.sample_columns import SampleColumns
from service.commands.truths import Truths
from service.errors import printable
from service.host import progress
from service.host.files import writing
from service.wire import cells
from service.wire.body import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.commands.row_files import Row

_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps samples customers /samples/customers --truth left.csv --out rows.csv\n"
    "  triceps score customers rows.csv\n"
)


@click.command(short_help="Write samples as a CSV, with the truth.", epilog=_EXAMPLE)
@options.model
@click.argument("source", metavar="SAMPLES", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--truth",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A CSV with the columns request_id and row, and the targets; without a row, all are of "
    "row 0.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="INPUT",
    help="An input to write, by default all; may be given several times.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="-",
    help="The CSV; by default standard output (-).",
)
@options.models
def samples(  # noqa: PLR0913  (click passes each option by its name)
    model: str,
    source: Path,
    truth: Path | None,
    inputs: tuple[str, ...],
    out: Path,
    *,
    models: Path | None,
) -> None:
    """Write SAMPLES, a file or the folder of MODEL, as a CSV that other commands and training read.

    Its columns are the features, named as in the tables that the model was trained on (age, or
    insurance.age if two inputs have an age), the values of an image or another tensor (digit.0 to
    digit.783), and with --truth the targets, last.  A missing value is an empty cell.

    With --truth, samples without a truth are left out, and so are, always, those that lack an
    input, as those of requests for other heads do.
    """
    from service.repository.named_model import open_model

    with progress.shown(f"loading {model}"):
        signature = open_model(model, models).signature
    notes: list[str] = []
    with progress.shown(f"{source}"):
        columns = SampleColumns.of(source, signature, _samples(source, []), inputs)
        truths = None if truth is None else Truths.read(truth, columns.names)
        with writing(out) as target:
            text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
            try:
                total = _write(cells.writer(text), columns, truths, source, notes)
            finally:
                text.detach()  # otherwise it would close `target`, which may be standard output
    for note in (f"{count(total, 'sample')} written", *notes):
        click.echo(printable(note), err=True)


def _write(
    writer: Any, columns: SampleColumns, truths: Truths | None, source: Path, notes: list[str]
) -> int:
    """Write the samples that have all inputs, and a truth if there are any; return their number."""
    writer.writerow([*columns.names, *(() if truths is None else truths.names)])
    total = incomplete = unknown = 0
    for row in _samples(source, notes):
        targets: Sequence[str] | None = () if truths is None else truths.of(row.sample)
        try:
            values = columns.cells(row.instance)
            if values is None:
                incomplete += 1
            elif targets is None:
                unknown += 1
            else:
                total += 1
                writer.writerow([*values, *targets])
        except (TypeError, UnicodeEncodeError) as error:
            # Half a surrogate pair, NaN or an integer of more than 64 bits.
            expected = "expected values as triceps serve writes them"
            raise RowsError(f"{row.place}: {expected}, received one without a cell") from error
    if incomplete:
        notes.append(f"{count(incomplete, 'sample')} left out, without all inputs")
    if unknown:
        notes.append(f"{count(unknown, 'sample')} left out, without a truth")
    return total


def _samples(source: Path, notes: list[str]) -> Iterator[Row]:
    """Yield the samples of a file or a folder.

    Raises:
        RowsError: it has something else.
    """
    for row in samples_of(source, notes):
        if row.sample is None:
            raise RowsError(f"{row.place}: expected a sample, as triceps serve writes them")
        yield row
