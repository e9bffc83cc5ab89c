"""The evaluation of a run: the answers to the rows that the model is judged by, and the worst."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from service.insight.evaluation import losses
from service.insight.evaluation.judged import MOST_CELLS, WORST, Judged, WorstRow, most_rows
from service.insight.report.elements import element
from service.insight.report.evaluation import evaluation
from service.kinds import THRESHOLD
from training.rows import known

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

    from numpy.typing import NDArray

    from service.signature import Feature
    from training.rows import Source
    from training.scores import Answered
    from training.spec import Spec

_ROWS = {
    "test": "These are the test rows, which the fit has not even watched.",
    "held-out": "These are the held-out rows, to which the model was not fitted.",
    "chosen": "These are the held-out rows. The model was not fitted to them, but they chose the "
    "epoch, so that the figures are a little too good.",
    "training": "These are the training rows, since none were held out: on new rows, the figures "
    "are worse.",
}


def section(spec: Spec, answered: Answered, most: int) -> list[ET.Element]:
    """Return the evaluation of the heads that have room, with the rows that it is of.

    Args:
        spec: the spec of the model.
        answered: the answers to the rows that the model is judged by.
        most: the bytes that there is room for.
    """
    chosen = answered.side == "held-out" and spec.fit.patience is not None
    rows = element("p", _ROWS["chosen" if chosen else answered.side])
    values = [answers[:1].size for answers in answered.answers.values()]
    sample = most_rows([2 * count for count in values])
    judged = partial(_judged, spec, answered, sample)
    return [rows, *evaluation([*spec.heads], judged, most)]


def _judged(spec: Spec, answered: Answered, most: int, name: str) -> Judged:
    """Return the answers of a head, or a sample of `most` of them, and its worst rows."""
    head = spec.heads[name]
    targets, answers = answered.targets[name], answered.answers[name]
    if answers.dtype.kind != "f":
        answers = answers.astype(np.float32)  # numpy knows of no bfloat16
    source = next(source for source in answered.sources if name in source.targets)
    rows = np.flatnonzero(known(source.targets[name]))
    loss = losses.by_row(head.kind, targets, answers)
    features = _features(answered, source)
    worst = [
        WorstRow(
            float(loss[row]),
            f"{source.path.name}, line {source.lines[rows[row]]}",
            targets[row],
            answers[row],
            tuple(_cell(source, *feature, rows[row]) for feature in features),
        )
        for row in _worst(loss, source.lines[rows])
    ]
    distinct = len(np.unique(source.lines[rows]))
    kept = np.arange(len(rows))
    if len(rows) > most:
        kept = np.sort(np.random.default_rng(0).permutation(len(rows))[:most])
    return Judged(
        name,
        head.kind,
        answered.data.labels[name],
        head.threshold or THRESHOLD,
        targets[kept],
        answers[kept],
        len(rows),
        distinct=distinct if distinct < len(rows) else 0,
        target_columns=answered.data.columns[name],
        worst=tuple(worst),
        cell_columns=tuple(feature.name for _, feature in features),
    )


def _worst(loss: NDArray[np.float64], lines: NDArray[np.int64]) -> list[int]:
    """Return the places of the largest losses, each line of the file once."""
    order = losses.worst(loss, len(loss))
    _, first = np.unique(lines[order], return_index=True)
    return [int(row) for row in order[np.sort(first)[:WORST]]]


def _features(answered: Answered, source: Source) -> list[tuple[str, Feature]]:
    """Return the first features of a file, each with the name of its input."""
    every = [
        (name, feature)
        for name, entry in answered.data.inputs.items()
        for feature in entry.features
    ]
    return [pair for pair in every if pair[1].tensor in source.arrays][:MOST_CELLS]


def _cell(source: Source, name: str, feature: Feature, row: int) -> str:
    """Return a cell as the file has it: a missing one is empty, though the model got a default."""
    mask = source.missing.get(f"{name}.{feature.name}")
    if mask is not None and mask[row]:
        return ""
    value = source.arrays[feature.tensor][row, feature.column]
    return value if isinstance(value, str) else f"{float(value):.7g}"
