"""The comparison of two models' answers, head by head, with the rows that differ most.

paired_rows ─▶ outputs of both ─ insight.comparison ─▶ Compared, by head
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from service.commands import options
from service.errors import printable
from service.insight.comparison import apart, objection, tally
from service.wire import native

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.commands.paired_rows import Pair, Paired
    from service.insight.comparison import Apart, Comparison
    from service.repository.loader import Servable

# The rows that differ most, of each head.
MOST = 5


@dataclass
class Compared:
    """What is known of one head so far: its comparison, and its rows that differ most.

    `most` has the size of the difference, 1 if the labels differ, the place of the row and both
    answers.
    """

    comparison: Comparison | None = None
    most: list[tuple[float, float, str, Any, Any]] = field(default_factory=list)


def shared(
    first: Servable, second: Servable, asked: str | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return the heads whose answers can be compared, and a message about each other head."""
    mine, yours = first.signature.heads, second.signature.heads
    heads, notes = [], []
    for name in options.chosen_heads(asked, [*dict.fromkeys([*mine, *yours])]):
        if name not in yours:
            notes.append(f"head {name!r} is not compared: only A has it")
        elif name not in mine:
            notes.append(f"head {name!r} is not compared: only B has it")
        elif why := objection(mine[name], yours[name]):
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
            differences = apart(*sides, some.first[head], some.second[head])
            batch = tally(differences)
            before = compared.comparison
            compared.comparison = batch if before is None else before + batch
            _note_most(compared, head, pair, some, differences)
    return rows, answers


def _note_most(compared: Compared, head: str, pair: Pair, some: Paired, differences: Apart) -> None:
    """Keep the rows of a batch that are among those that differ most."""
    nought = np.zeros(len(some.rows))
    sizes = nought if differences.numbers is None else differences.numbers
    labels = nought if differences.labels is None else differences.labels.astype(np.float64)
    least = compared.most[-1][:2] if len(compared.most) == MOST else (0.0, 0.0)
    # The first of equal rows is kept, so that the outcome does not depend on batches.
    for place in np.lexsort((-labels, -sizes))[:MOST].tolist():
        key = float(sizes[place]), float(labels[place])
        if key <= least:
            break
        answers = (
            _answer(servable, head, outputs[head][place : place + 1])
            for servable, outputs in ((pair.first, some.first), (pair.second, some.second))
        )
        compared.most.append((*key, printable(some.rows[place].place), *answers))
    compared.most.sort(key=lambda entry: entry[:2], reverse=True)
    del compared.most[MOST:]


def _answer(servable: Servable, head: str, output: Any) -> Any:
    """Return the answer of a row as the native format has it."""
    [row] = native.predictions((head,), servable.signature, {head: output})
    return row[head]


def exceeds(answers: Mapping[str, Compared], tolerance: float) -> bool:
    """Return whether some answer is not the same within the tolerance, or none is known."""
    totals = [compared.comparison for compared in answers.values()]
    return not totals or any(total is None or total.exceeds(tolerance) for total in totals)
