"""The evaluation of each head in a report: figures and drawings by its kind, and its worst rows.

judged.Judged ─┬─ answers_of_labels, answers_of_numbers ─▶ the part of its kind
               └─ worst rows
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight.report.answers_of_labels import binary, multiclass, multilabel
from service.insight.report.answers_of_numbers import regression
from service.insight.report.document import table
from service.insight.report.elements import cut, element, rounded, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from xml.etree import ElementTree as ET

    from numpy.typing import NDArray

    from service.insight.evaluation.judged import Judged

_NAME = 60  # characters of a name
_CELL = 32  # characters of a cell
_VALUES = 4  # of an answer
_PARTS = {
    "binary": binary,
    "multiclass": multiclass,
    "multilabel": multilabel,
    "regression": regression,
}


def evaluation(
    heads: Sequence[str], judged: Callable[[str], Judged | None], most: int
) -> list[ET.Element]:
    """Return a section for each head, as many as have room in `most` bytes, and how many have not.

    Args:
        heads: the names of the heads.
        judged: returns the answers of a head; `None` if no row has its target.  It is called for
            no head after the first that has no room.
        most: the largest size of all sections together.
    """
    sections: list[ET.Element] = []
    for place, name in enumerate(heads):
        section = element("section", element("h3", cut(name, _NAME)), *_part(judged(name)))
        most -= size(section)
        if most < 0:
            left_out = f"and {len(heads) - place} more heads, for which this page has no room"
            return [*sections, element("p", left_out)]
        sections.append(section)
    return sections


def _part(judged: Judged | None) -> list[ET.Element]:
    if judged is None:
        return [element("p", "No row has its target.")]
    targets, answers = judged.finite()
    notes = [f"{judged.rows} {'row' if judged.rows == 1 else 'rows'}."]
    if judged.distinct:
        paired = "each with several rows of other files"
        notes = [f"{judged.rows} answers to {judged.distinct} rows, {paired}."]
    if judged.rows > len(judged.answers):
        notes.append(f"Drawn from a uniform sample of {len(judged.answers)} of {judged.rows} rows.")
    if without := len(judged.answers) - len(answers):
        notes.append(f"{without} answers are no finite numbers; their rows are left out here.")
    if not len(answers):
        notes.append("No row has a finite answer.")
    told = element("p", " ".join(notes))
    if not len(answers):
        return [told, *_worst(judged)]
    return [told, *_PARTS[judged.kind](judged, targets, answers), *_worst(judged)]


def _worst(judged: Judged) -> list[ET.Element]:
    if not judged.worst:
        return []
    loss = "absolute error" if judged.kind == "regression" else "log loss"
    columns = [cut(column, _CELL) for column in judged.cell_columns]
    # A binary head answers one number, whichever label it says; a reader would take the number
    # beside "no" for that of "no".
    answer = f"answer (value of {_label(judged, 1)!r})" if judged.kind == "binary" else "answer"
    rows = [
        (
            cut(row.place, _NAME),
            _target(judged, row.target),
            _answer(judged, row.answer.reshape(-1)),
            rounded(row.loss, 4),
            *(cut(cell, _CELL) for cell in row.cells),
        )
        for row in judged.worst
    ]
    return [
        element("h4", "The worst rows"),
        table(("row", "target", answer, loss, *columns), rows),
    ]


def _target(judged: Judged, target: NDArray[Any]) -> str:
    if judged.kind == "regression":
        return _numbers(np.reshape(target, -1))
    if judged.kind == "multilabel":
        return _labels(judged, np.reshape(target, -1) > 0)
    return _label(judged, int(np.reshape(target, -1)[0]))


def _answer(judged: Judged, answer: NDArray[Any]) -> str:
    if not np.isfinite(answer.astype(np.float64)).all() or judged.kind == "regression":
        return _numbers(answer)
    if judged.kind == "multilabel":
        return _labels(judged, answer > judged.cutoff)
    if judged.kind == "binary":
        return f"{_label(judged, int(answer[0] > judged.cutoff))} ({float(answer[0]):.4g})"
    place = int(answer.argmax())
    return f"{_label(judged, place)} ({float(answer[place]):.4g})"


def _label(judged: Judged, place: int) -> str:
    return cut(judged.label(place), _CELL)


def _labels(judged: Judged, chosen: NDArray[np.bool_]) -> str:
    names = [_label(judged, int(place)) for place in np.flatnonzero(chosen)[: _VALUES + 1]]
    return ", ".join([*names[:_VALUES], *(["…"] if len(names) > _VALUES else [])]) or "none"


def _numbers(values: NDArray[Any]) -> str:
    shown = [_number(float(value)) for value in values[:_VALUES]]
    return ", ".join([*shown, *(["…"] if len(values) > _VALUES else [])])


def _number(value: float) -> str:
    """Return a number with the seven digits of a float32, and commas as `rounded` has them."""
    return f"{value:,.7g}" if abs(value) >= 1e4 else f"{value:.7g}"  # noqa: PLR2004
