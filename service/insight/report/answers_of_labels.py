"""The parts of a report about heads with labels: binary, multiclass and multilabel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight.evaluation import calibration, confusion, ranking, thresholds
from service.insight.report import curves
from service.insight.report.document import more, table
from service.insight.report.elements import cut, element, figure
from service.insight.report.matrix import matrix
from service.insight.scores import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

    from numpy.typing import NDArray

    from service.insight.evaluation.judged import Judged
    from service.insight.evaluation.ranking import Ranking
    from service.insight.evaluation.thresholds import Outcome

MOST_CLASSES = 12  # of a matrix, with the other ones as one
MOST_LABELS = 40  # of a table
_LABEL = 24  # characters of a label
NO_PROBABILITIES = "The values are no probabilities, so that nothing is said of their calibration."


def binary(judged: Judged, targets: NDArray[Any], answers: NDArray[Any]) -> list[ET.Element]:
    """Return the part of a binary head.

    Args:
        judged: the head.
        targets: 0 or 1, [rows, 1], of at least one row with a finite answer.
        answers: the values of the head, [rows, 1].
    """
    no, yes = _labels(judged, 2)
    true = targets.reshape(-1) > 0
    ranked = ranking.ranking(true, answers[:, 0])
    outcome = thresholds.at(ranked, judged.cutoff)
    probabilities = calibration.are_probabilities(answers, of_classes=False)
    counts = (
        (outcome.true_negatives, outcome.false_positives),
        (outcome.false_negatives, outcome.true_positives),
    )
    told = f"The answer is {yes!r} above {judged.cutoff:.4g}: precision {shown(outcome.precision)}"
    told += f", recall {shown(outcome.recall)}, F1 {shown(outcome.f1)}."
    return [
        element("p", told),
        matrix((no, yes), counts),
        *_drawings(
            ranked, outcome, (no, yes), _bins(true, answers[:, 0], probabilities=probabilities)
        ),
        *([] if probabilities else [element("p", NO_PROBABILITIES)]),
        element("h4", "Other thresholds"),
        _threshold_table(ranked, judged.cutoff, yes, probabilities=probabilities),
    ]


def multiclass(judged: Judged, targets: NDArray[Any], answers: NDArray[Any]) -> list[ET.Element]:
    """Return the part of a multiclass head.

    Args:
        judged: the head.
        targets: the index of the class, [rows], of at least one row with a finite answer.
        answers: the values of the head, [rows, classes].
    """
    classes = answers.shape[1]
    labels = _labels(judged, classes)
    said = answers.argmax(axis=1)
    few = MOST_CLASSES if classes <= MOST_CLASSES else MOST_CLASSES - 1
    counted = confusion.confusion(targets, said, classes, few)
    names = [labels[place] for place in counted.classes]
    if counted.rest:
        names.append(f"other ({counted.rest})")
    parts = [matrix(names, counted.counts.tolist()), *_class_table(labels, targets, said, answers)]
    if not calibration.are_probabilities(answers, of_classes=True):
        return [*parts, element("p", NO_PROBABILITIES)]
    binned = _bins(said == targets, answers.max(axis=1), probabilities=True)
    drawn = _calibration(binned, "rows whose answer is right")
    return [*parts, element("div", *drawn, class_="side")]


def multilabel(judged: Judged, targets: NDArray[Any], answers: NDArray[Any]) -> list[ET.Element]:
    """Return the part of a multilabel head.

    Args:
        judged: the head.
        targets: 0 or 1, [rows, labels], of at least one row with finite answers.
        answers: the values of the head, [rows, labels].
    """
    labels = _labels(judged, answers.shape[1])
    probabilities = calibration.are_probabilities(answers, of_classes=False)
    rows = []
    for place, label in enumerate(labels[:MOST_LABELS]):
        true = targets[:, place] > 0
        ranked = ranking.ranking(true, answers[:, place])
        outcome = thresholds.at(ranked, judged.cutoff)
        error = (
            calibration.expected_error(calibration.bins(true, answers[:, place]))
            if probabilities
            else None
        )
        areas = ranking.area_under_roc(ranked), ranking.average_precision(ranked)
        figures = (outcome.precision, outcome.recall, outcome.f1, *areas, error)
        rows.append((label, str(ranked.positives), *map(shown, figures)))
    columns = ("precision", "recall", "F1", "ROC area", "average precision", "calibration error")
    return [
        element("p", f"A label is part of the answer above {judged.cutoff:.4g}."),
        table(("label", "rows", *columns), rows),
        *more(len(labels), MOST_LABELS, "labels"),
        *([] if probabilities else [element("p", NO_PROBABILITIES)]),
    ]


def _labels(judged: Judged, count: int) -> list[str]:
    return [cut(judged.label(place), _LABEL) for place in range(count)]


def _drawings(
    ranked: Ranking,
    outcome: Outcome,
    labels: tuple[str, str],
    binned: Sequence[tuple[float, float, int]] | None,
) -> list[ET.Element]:
    no, yes = labels
    curve, recalled = ranking.roc(ranked), ranking.precision_recall(ranked)
    if curve is None or recalled is None:
        only = yes if ranked.positives else no
        text = f"Every row is {only!r}, so that there is no ROC curve and none of precision."
        return [element("p", text), *_calibration(binned, repr(yes))]
    share = ranked.positives / ranked.rows
    wrong = outcome.false_positives / (ranked.rows - ranked.positives)
    area, average = ranking.area_under_roc(ranked), ranking.average_precision(ranked)
    recall = outcome.recall or 0.0
    drawn = [
        figure(
            curves.roc(_points(curve), (wrong, recall), f"ROC curve, area {shown(area)}"),
            f"ROC, area {shown(area)}: how many of the rows that are {yes!r} are found, and how "
            f"many of those that are {no!r} are taken for it",
        ),
        figure(
            curves.precision_recall(
                _points(recalled),
                None if outcome.precision is None else (recall, outcome.precision),
                share,
                f"Precision by recall, average precision {shown(average)}",
            ),
            f"Precision by recall, average precision {shown(average)}; a guess has {shown(share)}",
        ),
    ]
    text = "The dots are at the threshold of the head."
    calibrated = _calibration(binned, f"rows that are {yes!r}")
    return [element("div", *drawn, *calibrated, class_="side"), element("p", text)]


def _bins(
    true: NDArray[np.bool_], values: NDArray[Any], *, probabilities: bool
) -> list[tuple[float, float, int]] | None:
    """Return mean, share and rows of the bins that have rows; `None` for no probabilities."""
    if not probabilities:
        return None
    binned = calibration.bins(true, values)
    return [
        (float(binned.mean[place]), float(binned.share[place]), int(binned.rows[place]))
        for place in np.flatnonzero(binned.rows)
    ]


def _calibration(binned: Sequence[tuple[float, float, int]] | None, what: str) -> list[ET.Element]:
    if binned is None:
        return []
    total = sum(rows for *_, rows in binned)
    error = sum(rows * abs(share - mean) for mean, share, rows in binned) / total
    text = f"Calibration, expected error {shown(error)}: the share of {what}, by the probability "
    text += f"that was answered, in {calibration.BINS} bins; a larger dot has more rows"
    drawn = curves.calibration(binned, f"Calibration, expected error {shown(error)}")
    return [figure(drawn, text)]


def _threshold_table(
    ranked: Ranking, cutoff: float, yes: str, *, probabilities: bool
) -> ET.Element:
    marks = dict.fromkeys(thresholds.spread(ranked, probabilities=probabilities), "")
    # The cutoff is rounded to float32: 0.30000001192092896 is what others call 0.3.
    own = float(f"{cutoff:.6g}")
    marks[own] = " (the head's)"
    best = thresholds.best(ranked)
    if best is not None:
        marks[best] = marks.get(best, "") + " (highest F1 here)"
    rows = []
    for threshold in sorted(marks):
        outcome = thresholds.at(ranked, cutoff if threshold == own else threshold)
        figures = (outcome.precision, outcome.recall, outcome.f1, outcome.share)
        rows.append((f"{threshold:.6g}{marks[threshold]}", *map(shown, figures)))
    return table(("threshold", "precision", "recall", "F1", f"share answered {yes!r}"), rows)


def _class_table(
    labels: Sequence[str], targets: NDArray[Any], said: NDArray[Any], answers: NDArray[Any]
) -> list[ET.Element]:
    counted = confusion.confusion(targets, said, len(labels), MOST_LABELS)
    rows = []
    for place, figures in zip(counted.classes, confusion.by_class(counted), strict=True):
        area = ranking.area_under_roc(ranking.ranking(targets == place, answers[:, place]))
        cells = map(shown, (figures.precision, figures.recall, area))
        rows.append((labels[place], str(figures.rows), *cells))
    columns = ("class", "rows", "precision", "recall", "ROC area, to the others")
    return [table(columns, rows), *more(len(labels), MOST_LABELS, "classes, which have fewer rows")]


def _points(curve: ranking.Curve) -> list[tuple[float, float]]:
    return list(zip(curve.x.tolist(), curve.y.tolist(), strict=True))
