"""The reference of a trained model, which `triceps drift` compares later rows with.

Features are those of the training rows, and answers those to the rows that judge the model: held
out or for the test, if there are any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight.drift.quantities import columns, quantities
from service.insight.drift.record import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.reference import Reference
    from service.signature import Signature
    from training.rows import Arrays, Data, Source
    from training.scores import Answered


def reference(signature: Signature, data: Data, answered: Answered) -> Reference:
    """Return the distributions of the features and of the answers.

    Args:
        signature: the signature of the model.
        data: the training rows.
        answered: the answers to the rows that judge the model.
    """
    chosen = quantities(signature)
    arrays: Arrays = {}
    missing: Arrays = {}
    for source in data.sources.values():
        arrays |= source.arrays
        missing |= source.missing
    for head, outputs in answered.outputs.items():
        arrays[head] = outputs[: independent_rows(outputs, answered.sources, answered.data)]
    read = columns(chosen, arrays, missing)
    return record(chosen, read, {"inputs": "training", "heads": answered.side}, own=True)


def independent_rows(outputs: NDArray[Any], sources: Sequence[Source], data: Data) -> int:
    """Return as how many independent rows a head's answers count.

    Of independent files, the rows of a shorter one are repeated until it is as long as the longest.
    Answers that follow from the repeated rows are no more evidence than those rows; what is
    repeated without an effect on a head does not matter to it.  In between, the variance of the
    mean among the repeated rows says how much (L. Kish, Survey Sampling, 1965).

    Args:
        outputs: the answers, [rows, …].
        sources: the files with their rows as the answers are to them.
        data: the files with each of their rows once.
    """
    rows = len(outputs)
    if data.align != "sample":
        return rows
    least = float(rows)
    values = outputs.reshape(rows, -1).astype(np.float64)
    total = values.var(axis=0)
    values, total = values[:, total > 0], total[total > 0]
    for source in sources:
        lines, group, times = np.unique(source.lines, return_inverse=True, return_counts=True)
        if len(lines) < rows and len(total):
            sums = [np.bincount(group, column) for column in values.T]
            between = np.var(np.array(sums) / times, axis=1)
            effective = float((len(lines) * total / between).min())
            least = min(least, max(effective, len(lines)))
    return int(least)
