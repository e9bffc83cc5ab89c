"""Runs of the rows of a file, some hundred at a time, by the code that serves requests.

rows ─▶ instances ─ native.interpret ─▶ model.predict ─▶ outputs by head
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from service.commands import explained_rows
from service.commands.row_files import RowsError
from service.errors import BadRequest, CannotRun, TooLarge, printable
from service.host import progress
from service.inference.batching import MOST_ROWS_WHOLE
from service.wire import body, native
from service.wire.body import count
from service.wire.tensors import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.commands.row_files import Row
    from service.repository.loader import Servable
    from service.signature import Signature
    from service.wire.explanations import Explain, Explanations

ROWS_AT_ONCE = 256
# The place of a value in the body of a request: the index of its row, and the place within it.
_PLACE = re.compile(r"instances\[(\d+)\]\.?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Counts:
    """The missing values of the rows so far, and the texts that training never saw, by feature."""

    imputed: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)


class Run(NamedTuple):
    """The rows of a run, with their inputs by tensor and outputs by head, [rows, …].

    `missing` has the indices of the rows that a feature takes its default in, by its full name;
    `explained` has explanations, if they are wanted.
    """

    rows: Sequence[Row]
    arrays: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    missing: Mapping[str, Sequence[int]]
    explained: Explanations | None = None


def open_rows_model(model: str, models: Path | None) -> Servable:
    """Open a model that takes rows, by its name in the repository or its path.

    Raises:
        RowsError: it takes whole tensors.
    """
    from service.repository.named_model import open_model

    with progress.shown(f"loading {model}"):
        servable = open_model(model, models)
    if servable.signature.tensor:
        message = (
            f"{model}: expected a model of rows, received one that takes {WHOLE}: "
            f"{servable.signature.tensor}"
        )
        raise RowsError(message)
    return servable


def runs(
    rows: Iterator[Row],
    servable: Servable,
    heads: Sequence[str],
    counts: Counts,
    explain: Explain | None = None,
) -> Iterator[Run]:
    """Run the rows of a file, as many at once as the model allows; add to `counts`.

    Raises:
        RowsError: a row is not what the model takes; the message has the places of all such rows.
    """
    # Rows that depend on each other form one request; the model refuses more than it takes whole.
    whole = servable.model.batching.mode == "joint"
    most = MOST_ROWS_WHOLE + 1 if whole else _rows_at_once(servable.signature)
    while batch := list(itertools.islice(rows, most)):
        request = {"instances": [row.instance for row in batch], "heads": list(heads)}
        try:
            query = native.interpret(request, servable.signature)
        except BadRequest as error:
            raise RowsError(_relocate(error, batch)) from error
        missing: dict[str, list[int]] = {}
        for entry in query.imputed:
            row, place = _PLACE.fullmatch(entry.at).groups()  # type: ignore[union-attr]
            missing.setdefault(entry.feature, []).append(int(row))
            counts.imputed[place] += 1
        counts.unseen.update(entry.feature for entry in query.unseen)
        try:
            start = 0
            for outputs, explained in explained_rows.answers(servable, query, explain):
                end = start + len(outputs[query.heads[0]])
                arrays = {name: array[start:end] for name, array in query.arrays.items()}
                those = {
                    feature: [row - start for row in rows_of if start <= row < end]
                    for feature, rows_of in missing.items()
                }
                yield Run(batch[start:end], arrays, outputs, those, explained)
                start = end
        except TooLarge as error:
            raise RowsError(str(error)) from error
        except CannotRun as error:
            first, last = batch[0].place, batch[-1].place
            where = first if first == last else f"{first} to {last}"
            raise RowsError(f"{where}: {error}") from error


def _rows_at_once(signature: Signature) -> int:
    """Return the rows of a run, fewer if the model has so many features that all may be missing."""
    features = sum(len(entry.features) for entry in signature.inputs.values())
    # The reader refuses a body with more missing or unseen values than these.
    most = min(body.MOST_IMPUTED, body.MOST_UNSEEN)
    return max(1, min(ROWS_AT_ONCE, most // max(1, features)))


def _relocate(error: BadRequest, batch: Sequence[Row]) -> str:
    """Return the problems of a batch as text, each with the place of its row in the file."""
    problems = []
    for problem in error.problems:
        index, inside = _PLACE.fullmatch(problem.at).groups()  # type: ignore[union-attr]
        where = f"{batch[int(index)].place}, {inside}".removesuffix(", ")
        line = f"{where}: expected {problem.expected}, received {problem.received}"
        problems.append((int(index), line))
    # The reader reports them by input; a user expects them in the order of the file.
    lines = [line for _, line in sorted(problems, key=lambda entry: entry[0])]
    if error.count > len(lines):
        lines.append(f"and {error.count - len(lines)} more in these rows")
    return "\n".join(lines)


def tell(rows: int, servable: Servable, counts: Counts, others: Sequence[str] = ()) -> None:
    """Print on standard error how many rows were scored, and notes about them and others."""
    scored_by = f"{servable.name}, version {servable.version}"
    click.echo(f"{count(rows, 'row')} scored by {scored_by}", err=True)
    for message in (*notes(counts), *others):
        click.echo(printable(message), err=True)


def notes(counts: Counts) -> Iterator[str]:
    """Yield what is to be said about missing values and unseen texts."""
    for feature, times in sorted(counts.imputed.items()):
        yield f"{feature}: missing in {times} of them, took its default"
    for feature, times in sorted(counts.unseen.items()):
        yield f"{feature}: a text that training never saw in {times} of them"
