"""The comparison of two models' answers, head by head, with the rows that differ most.

paired_rows ─▶ outputs of both ─ insight.comparison ─▶ Compared, by head
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.commands import options
from service.errors import printable
from service.insight import comparison
from service.wire import native

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.commands.paired_rows import Pair, Paired
    from service.insight.comparison import Comparison, Differences
    from service.repository.loader import Servable

# The rows that differ most, of each head.
MOST = 5


class DifferingRow(NamedTuple):
    """A row with the answers of both models to it, and how much these differ."""

    difference: float
    labels_differ: bool
    place: str
    first: Any
    second: Any


@dataclass
class Compared:
    """The comparison of one head so far, and its rows that differ most, worst first."""

    comparison: Comparison | None = None
    most: list[DifferingRow] = field(default_factory=list)


def shared(
    first: Servable, second: Servable, asked: str | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return the heads whose answers can be compared, and a message about each other head."""
    of_first, of_second = first.signature.heads, second.signature.heads
    heads, notes = [], []
    for name in options.chosen_heads(asked, [*dict.fromkeys([*of_first, *of_second])]):
        if name not in of_second:
            notes.append(f"head {name!r} is not compared: only A has it")
        elif name not in of_first:
            notes.append(f"head {name!r} is not compared: only B has it")
        elif why := comparison.objection(of_first[name], of_second[name]):
            notes.append(f"head {name!r} is not compared: {why}")
        else:
            heads.append(name)
    return tuple(heads), notes


def compare(pair: Pair, paired: Iterator[Paired]) -> tuple[int, dict[str, Compared]]:
    """Return the number of rows, and what was compared by head."""
    answers = {head: Compared() for head in pair.heads}
    rows = 0
    for some in paired:
        rows += len(some.rows)
        for head, compared in answers.items():
            sides = pair.first.signature.heads[head], pair.second.signature.heads[head]
            differences = comparison.differences(*sides, some.first[head], some.second[head])
            batch = comparison.tally(differences)
            before = compared.comparison
            compared.comparison = batch if before is None else before + batch
            _note_most(compared, head, pair, some, differences)
    return rows, answers


def _note_most(
    compared: Compared, head: str, pair: Pair, some: Paired, differences: Differences
) -> None:
    """Keep the rows of a batch that are among those that differ most."""
    rows = len(some.rows)
    numbers = np.zeros(rows) if differences.numbers is None else differences.numbers
    labels = np.zeros(rows, bool) if differences.labels is None else differences.labels
    least = compared.most[-1][:2] if len(compared.most) == MOST else (0.0, False)
    # The first of equal rows is kept, so that the outcome does not depend on batches.
    for index in np.lexsort((~labels, -numbers))[:MOST].tolist():
        key = float(numbers[index]), bool(labels[index])
        if key <= least:
            break
        answers = (
            _answer(servable, head, outputs[head][index : index + 1])
            for servable, outputs in ((pair.first, some.first), (pair.second, some.second))
        )
        compared.most.append(DifferingRow(*key, printable(some.rows[index].place), *answers))
    compared.most.sort(key=lambda row: row[:2], reverse=True)
    del compared.most[MOST:]


def _answer(servable: Servable, head: str, output: Any) -> Any:
    """Return the answer of a row as the native format has it."""
    [row] = native.predictions((head,), servable.signature, {head: output})
    return row[head]


def exceeds(answers: Mapping[str, Compared], tolerance: float) -> bool:
    """Return whether some answer is not the same within the tolerance, or none is known."""
    totals = [compared.comparison for compared in answers.values()]
    return not totals or any(total is None or total.exceeds(tolerance) for total in totals)
