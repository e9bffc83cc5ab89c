"""The page of a report: scores, warnings, evaluation, learning curves, notes, differences."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from service.insight.report import chart
from service.insight.report.document import document, listed, more, room, shown, table
from service.insight.report.elements import cut, element
from training.report import evaluation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree as ET

    from training.fit import Fitted
    from training.run_warnings import RunWarning
    from training.scores import Score
    from training.spec import Spec
    from training.verify import Verified

# Bounds, so that the page of any model has less than 300 kB; the evaluation takes what is left.
MOST_HEADS = 50
MOST_CURVES = 20
_NAME = 60  # characters of a name


def page(
    spec: Spec,
    fitted: Fitted,
    verified: Verified,
    warnings: Sequence[RunWarning],
    notes: Sequence[str],
) -> bytes:
    """Return the page about a run, as HTML in UTF-8, of less than 300 kB.

    Args:
        spec: the spec of the model.
        fitted: the model after its fit.
        verified: its file, with the differences between Keras and ONNX Runtime.
        warnings: the warnings of the run.
        notes: the notes about its data, such as rows that were left out.
    """
    before = [
        element("h2", "Scores"),
        *_scores(fitted),
        element("h2", "Warnings"),
        *listed([f"{warning.message} ({warning.code})" for warning in warnings]),
        element("h2", "Evaluation"),
    ]
    after = [
        element("h2", "Learning curves"),
        *_curves(fitted),
        element("h2", "Data: what was left out, and why"),
        *listed(notes),
        element("h2", "Differences between Keras and ONNX"),
        *_differences(verified),
    ]
    evaluated = evaluation.section(spec, fitted.answered, room([*before, *after]))
    return document(f"Report of {spec.name}", *before, *evaluated, *after)


def _scores(fitted: Fitted) -> list[ET.Element]:
    rows = [
        (
            cut(name, _NAME),
            score.metric,
            shown(score.train),
            shown(score.held_out),
            shown(score.test),
            shown(score.baseline),
            _counts(score),
        )
        for name, score in islice(fitted.scores.items(), MOST_HEADS)
    ]
    columns = ("head", "metric", "training", "held out", "test", "baseline", "rows")
    return [table(columns, rows), *more(len(fitted.scores), MOST_HEADS, "heads")]


def _counts(score: Score) -> str:
    return " + ".join(str(n) for n in (score.rows, score.held_out_rows, score.test_rows) if n)


def _curves(fitted: Fitted) -> list[ET.Element]:
    legend = "The loss by epoch: a solid line for training rows"
    if any(curve.held_out for curve in fitted.curves.values()):
        legend += ", a dashed one for held-out rows"
    legend += f".  The model has the weights of epoch {fitted.chosen}, the dotted line."
    figures = [element("p", legend)]
    for name, curve in islice(fitted.curves.items(), MOST_CURVES):
        short = cut(name, _NAME)
        series = {"train": curve.train} | ({"held": curve.held_out} if curve.held_out else {})
        drawn = chart.lines(series, fitted.chosen, f"Loss of {short} by epoch")
        figures.append(element("figure", element("figcaption", short), drawn))
    return [*figures, *more(len(fitted.curves), MOST_CURVES, "heads")]


def _differences(verified: Verified) -> list[ET.Element]:
    listed = islice(verified.differences.items(), MOST_HEADS)
    rows = [(cut(name, _NAME), f"{distance:.1e}") for name, distance in listed]
    return [
        element("p", "The largest difference on golden and random rows, relative above 1."),
        table(("head", "difference"), rows),
        *more(len(verified.differences), MOST_HEADS, "heads"),
    ]
