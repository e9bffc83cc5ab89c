"""Runs of a labelled file: the targets and the answers of each head, some hundred rows at a time.

rows.csv ─▶ rows ─ row_runs ─▶ outputs by head ─┐
    └────▶ target_columns ─▶ targets by head ───┴─▶ HeadRows
"""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from service.commands import missing_features, row_runs, target_columns
from service.commands.csv_rows import read_csv
from service.commands.json_rows import JSON_SUFFIXES
from service.commands.row_files import RowsError
from service.errors import printable
from service.host import progress
from service.insight import scores
from service.wire.body import count, listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.commands.csv_rows import CsvRows
    from service.commands.row_files import Row
    from service.commands.target_columns import Targets
    from service.insight.scores import Tally
    from service.repository.loader import Servable
    from service.signature import Head


class HeadRows(NamedTuple):
    """The rows of a run that have the target of a head, with targets and answers, [rows, …]."""

    head: Head
    rows: Sequence[Row]
    targets: NDArray[Any]
    answers: NDArray[Any]


@dataclass
class LabelledRows:
    """An open file with targets for some heads of a model.

    `rows` counts the rows that were run, `counts` what is missing in them, and `tallies` has the
    sums for the score of each head.
    """

    file: Path
    servable: Servable
    csv: CsvRows
    targets: Sequence[Targets]
    counts: row_runs.Counts = field(default_factory=row_runs.Counts)
    tallies: dict[str, Tally] = field(default_factory=dict)
    rows: int = 0

    def run(self) -> Iterator[HeadRows]:
        """Run all rows once, and yield those of each head with known targets in each run.

        Raises:
            RowsError: a row is not what the model takes, or no row has a target.
        """
        heads = tuple(entry.head.name for entry in self.targets)
        for run in row_runs.runs(self.csv.rows, self.servable, heads, self.counts):
            self.rows += len(run.rows)
            for entry in self.targets:
                mask, targets = entry.read(run.rows)
                if not mask.any():
                    continue
                head = entry.head
                answers = run.outputs[head.name][mask]
                part = scores.tally(head.kind, targets, answers, head.cutoff, head.constant)
                before = self.tallies.get(head.name)
                self.tallies[head.name] = part if before is None else before + part
                rows = [row for row, is_known in zip(run.rows, mask, strict=True) if is_known]
                yield HeadRows(head, rows, targets, answers)
        if not self.tallies:
            named = listing([entry.head.name for entry in self.targets])
            received = count(self.rows, "row") + " without one" * bool(self.rows)
            message = f"{self.file}: expected a row with a target of {named}, received {received}"
            raise target_columns.TargetsError(message)

    def scored(self) -> dict[str, dict[str, Any]]:
        """Return the score of each head for JSON; a number that no row gives is `None`."""
        by_head = {}
        for entry in self.targets:
            head, summed = entry.head, self.tallies.get(entry.head.name)
            value = baseline = None
            if summed is not None:
                value = summed.total / summed.rows
                baseline = scores.baseline_score(head.kind, summed, head.constant)
            by_head[head.name] = {
                "metric": scores.METRICS[head.kind],
                "value": value,
                "baseline": baseline,
                "rows": 0 if summed is None else summed.rows,
            }
        return by_head

    def unscored(self) -> Iterator[str]:
        """Yield a message for each head whose targets the file lacks."""
        signature = self.servable.signature
        scored = {entry.head.name for entry in self.targets}
        for name, head in signature.heads.items():
            if name not in scored:
                near = target_columns.near(head, self.csv.header, signature)
                yield f"{name}: not scored, since the file has no column with its targets{near}"

    def tell(self) -> None:
        """Print on standard error what was run, what was missing and what was not scored."""
        row_runs.tell(self.rows, self.servable, self.counts)
        for message in self.unscored():
            click.echo(printable(message), err=True)


@contextlib.contextmanager
def opened(
    file: Path, servable: Servable, targets: Mapping[str, str], allow: Sequence[str]
) -> Iterator[LabelledRows]:
    """Open a labelled CSV for a model, and close it when the block ends.

    Args:
        file: the CSV.
        servable: the model.
        targets: the columns of some heads, as `--target` names them.
        allow: the features that the file may miss, as `--allow-missing` names them.

    Raises:
        RowsError: the file is not CSV, or lacks targets or features.
    """
    signature = servable.signature
    if file.suffix.lower() in JSON_SUFFIXES:
        raise RowsError(
            f"{file}: expected a CSV with targets, received JSON; of samples, triceps samples "
            f"{servable.name} {shlex.quote(str(file))} --truth TRUTH.csv --out ROWS.csv makes one"
        )
    # utf-8-sig, since spreadsheets write a byte order mark first.
    with file.open(encoding="utf-8-sig", newline="") as text:
        read = read_csv(file, text, signature, keep=True)
        known = target_columns.find(f"{file}, line 1", read.header, signature, targets)
        heads = tuple(entry.head.name for entry in known)
        needed = missing_features.required(signature, heads, allow)
        missing_features.check_header(file, read, signature, needed)
        with progress.shown(f"{file}", text):
            yield LabelledRows(file, servable, read, known)
