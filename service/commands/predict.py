"""`triceps predict`: offline scoring of a file, by the code that serves requests.

    rows.csv | rows.json ─▶ instances ─ native.interpret ─▶ model.predict ─▶ answers.csv | .json

Only a few hundred rows are in memory at a time, however long the file is.
"""

from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import orjson

from service.commands import explained_rows, missing_features, options, row_runs
from service.commands.opened_rows import opened
from service.commands.row_files import Row, RowsError
from service.host import progress
from service.host.files import stream, writing
from service.wire import cells, native
from service.wire.column_names import of_answer
from service.wire.explanations import ANSWER_KEY, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from service.commands.row_runs import Counts
    from service.repository.loader import Servable
    from service.signature import Head, Signature
    from service.wire.explanations import Explain

    Scored = Iterator[tuple[Row, dict[str, dict[str, Any]]]]

# In front of the names of all answers, if a column of the file has the name of one.
PREDICTED = "predicted."

_ROWS = click.Path(exists=True, path_type=Path)
_EXAMPLE = "\b\nExample:\n  triceps predict triceps rows.csv --heads o1,o3 --out answers.csv\n"


@click.command(short_help="Score a CSV or JSON file offline.", epilog=_EXAMPLE)
@options.model
@click.argument("file", required=False, type=_ROWS)
@click.option(
    "--in",
    "given",
    type=_ROWS,
    help="The rows, in place of FILE.",
)
@options.heads
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="-",
    help="The file for the answers, .csv or .json; by default standard output (-), in the format "
    "of the rows.",
)
@click.option(
    "--keep-columns", "keep", is_flag=True, help="Pass all columns of a CSV through to the answers."
)
@options.allow_missing
@explained_rows.option
@options.models
def predict(  # noqa: PLR0913  (click passes each option by its name)
    model: str,
    file: Path | None,
    given: Path | None,
    heads: str | None,
    out: Path,
    *,
    models: Path | None,
    allow: tuple[str, ...],
    method: str | None,
    keep: bool,
) -> None:
    """Score the rows of FILE with MODEL: a name in the repository, or a path.

    FILE is a .csv with a header, or a .json of instances, one after another or in a list; or a
    folder of samples.

    The columns of a CSV are features (age, or insurance.age if two inputs have an age) or values
    of an image or another tensor (digit.0 to digit.783).  All other columns are passed through to
    the answers.  If a column that is passed through has the name of an answer, all answers are
    named predicted.HEAD.

    A feature that the whole file misses is an error, unless --allow-missing names it.
    """
    source = file or given
    if source is None or (file and given):
        received = "neither" if source is None else "both"
        raise click.UsageError(f"expected the rows as FILE or by --in FILE, received {received}")
    streamed = stream(out) is not None
    if not streamed and out.suffix.lower() not in (".csv", ".json", ".jsonl"):
        raise click.BadParameter(f"expected .csv or .json, received {out.name}", param_hint="--out")
    if keep and source.suffix.lower() != ".csv":
        message = f"expected rows in a .csv, which has columns, received {source.name}"
        raise click.BadParameter(message, param_hint="--keep-columns")
    servable = row_runs.open_rows_model(model, models)
    names = options.chosen_heads(heads, servable.signature.head_names)
    needed = missing_features.required(servable.signature, names, allow)
    as_csv = (source if streamed else out).suffix.lower() == ".csv"
    explain = explained_rows.read_option(method, names, servable, as_csv=as_csv)
    write = _write_csv if as_csv else _write_json
    counts = row_runs.Counts()
    with opened(source, servable.signature, needed, keep=keep) as read:
        others, rows, text = read.others, read.rows, read.file
        chosen = [servable.signature.heads[head] for head in names]
        answers = [*names, *([] if explain is None else [ANSWER_KEY])]
        if as_csv:
            answers = [n for head in chosen for n in _columns(head, servable.signature, explain)]
        header = [*others, *_distinct(source, answers, others)]
        # At a terminal that the answers are written to, they are the progress.
        wanted = not (streamed and sys.stdout.isatty())
        with progress.shown(f"{source}", text, wanted=wanted), writing(out) as target:
            total = write(_score(rows, servable, names, counts, explain), header, chosen, target)
    row_runs.tell(total, servable, counts, read.notes)


def _distinct(source: Path, answers: Sequence[str], others: Sequence[str]) -> Sequence[str]:
    """Return the names of the answers, all prefixed if a column of the file has one of them.

    Raises:
        RowsError: a column has the name that an answer would then have.
    """
    columns = frozenset(others)
    if columns.isdisjoint(answers):
        return answers
    prefixed = [PREDICTED + name for name in answers]
    for plain, name in zip(answers, prefixed, strict=True):
        if name in columns:
            message = f"{source}, line 1: the column {name!r} has the name of an answer"
            raise RowsError(f"{message}, and so has {plain!r}: rename or remove one of them")
    return prefixed


def _score(
    rows: Iterator[Row],
    servable: Servable,
    heads: Sequence[str],
    counts: Counts,
    explain: Explain | None,
) -> Scored:
    """Yield each row with its answer; count missing and unseen values by feature."""
    for run in row_runs.runs(rows, servable, heads, counts, explain):
        answers = native.predictions(heads, servable.signature, run.outputs)
        if run.explained is not None:
            for answer, explained in zip(answers, listed(run.explained), strict=True):
                answer[ANSWER_KEY] = explained
        yield from zip(run.rows, answers, strict=True)


def _write_csv(
    scored: Scored, header: Sequence[str], heads: Sequence[Head], target: IO[bytes]
) -> int:
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
    writer = cells.writer(text)
    total = 0
    try:
        writer.writerow(header)
        for row, answer in scored:
            answers = [cell for head in heads for cell in _cells(head, answer)]
            writer.writerow([*row.others, *answers])
            total += 1
    finally:
        text.detach()  # otherwise it would close `target`, which may be standard output
    return total


def _columns(head: Head, signature: Signature, explain: Explain | None) -> Iterator[str]:
    """Yield the columns of a head: for each value, for its label, and for its explanation."""
    values, label = of_answer(head)
    yield from values
    if label is not None:
        yield label
    yield from explained_rows.columns(signature, head, explain)


def _cells(head: Head, answers: dict[str, Any]) -> Iterator[Any]:
    answer = answers[head.name]
    value = answer["value"]
    if head.tensor.shape in ((), (1,)):
        yield value
    elif head.tensor.size is None:
        yield orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    else:
        yield from value.ravel() if hasattr(value, "ravel") else _flat(value)
    if head.labels is not None:
        label = answer["label"]
        yield "|".join(label) if isinstance(label, list) else label
    yield from explained_rows.cells(head, answers)


def _flat(value: Any) -> Iterable[Any]:
    """Flatten a nested list of strings."""
    return itertools.chain.from_iterable(map(_flat, value)) if isinstance(value, list) else (value,)


def _write_json(
    scored: Scored, header: Sequence[str], heads: Sequence[Head], target: IO[bytes]
) -> int:
    total = 0
    for row, answer in scored:
        explained = [answer[ANSWER_KEY]] if ANSWER_KEY in answer else []
        values = (*row.others, *(answer[head.name] for head in heads), *explained)
        line = dict(zip(header, values, strict=True))
        target.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        total += 1
    return total
