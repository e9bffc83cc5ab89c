"""The page of a report: its sections, and those that are short enough to be here."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from service.insight.report import chart
from service.insight.report.document import (
    MOST_BYTES,
    bounded,
    document,
    listed,
    more,
    room,
    table,
    titled,
)
from service.insight.report.elements import cut, element
from service.insight.scores import shown
from training.report import evaluation
from training.report.features import features
from training.report.graph import graph
from training.report.importances import importances
from training.summary import held_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from xml.etree import ElementTree as ET

    from training.fit import Fitted
    from training.rows import Data
    from training.run_warnings import RunWarning
    from training.scores import Score
    from training.spec import Spec
    from training.verify import Verified

# Bounds, so that the page of any model has less than 300 kB; the evaluation takes what is left.
EVALUATION = 90_000  # bytes of it, at least
MOST_HEADS = 50
_LARGEST = "The largest difference on golden and random rows, relative to answers above 1."
MOST_CURVES = 20
_NAME = 60  # characters of a name


def page(
    spec: Spec,
    fitted: Fitted,
    verified: Verified,
    warnings: Sequence[RunWarning],
    sides: Mapping[str, Data],
) -> bytes:
    """Return the page about a run, as HTML in UTF-8, of at most 300 kB.

    Args:
        spec: the spec of the model.
        fitted: the model after its fit.
        verified: its file, with the differences between Keras and ONNX Runtime.
        warnings: the warnings of the run.
        sides: the training rows, and the held-out and test rows if there are any, by these names.
    """
    inputs = sides["training"].inputs
    notes = dict.fromkeys(note for side in sides.values() for note in side.notes)
    told = [f"{warning.message} ({warning.code})" for warning in warnings]
    sections: dict[str, list[ET.Element]] = {
        "Scores": _scores(fitted, held_out(spec)),
        "Warnings": listed(told),
        "Network": graph(spec, inputs, fitted.built.shapes),
        "Evaluation": [],
        "Learning curves": _curves(fitted),
        "Importance of the inputs": importances(fitted.importance),
        "Data: the distribution of each feature": features(sides),
        "Data: notes": listed(list(notes)),
        "Differences between Keras and ONNX": _differences(verified),
    }
    sections = bounded(sections, MOST_BYTES - EVALUATION)
    left = room(titled(sections))
    sections["Evaluation"] = evaluation.section(spec, fitted.answered, left)
    return document(f"Report of {spec.name}", *titled(sections))


def _scores(fitted: Fitted, held: str) -> list[ET.Element]:
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
    columns = ("head", "metric", "training", held, "test", "baseline", "rows")
    return [table(columns, rows), *more(len(fitted.scores), MOST_HEADS, "heads")]


def _counts(score: Score) -> str:
    return " + ".join(str(n) for n in (score.rows, score.held_out_rows, score.test_rows) if n)


def _curves(fitted: Fitted) -> list[ET.Element]:
    legend = "The loss by epoch: a solid line for training rows"
    if any(curve.held_out for curve in fitted.curves.values()):
        legend += ", a dashed one for held-out rows"
    legend += f".  The model has the weights of epoch {fitted.chosen}, the dotted line."
    figures = []
    for name, curve in islice(fitted.curves.items(), MOST_CURVES):
        short = cut(name, _NAME)
        series = {"train": curve.train} | ({"held": curve.held_out} if curve.held_out else {})
        drawn = chart.lines(series, fitted.chosen, f"Loss of {short} by epoch")
        figures.append(element("figure", element("figcaption", short), drawn))
    grid = element("div", *figures, class_="tiles")
    return [element("p", legend), grid, *more(len(fitted.curves), MOST_CURVES, "heads")]


def _differences(verified: Verified) -> list[ET.Element]:
    first = islice(verified.differences.items(), MOST_HEADS)
    rows = [(cut(name, _NAME), f"{distance:.1e}") for name, distance in first]
    return [
        element("p", _LARGEST),
        table(("head", "difference"), rows),
        *more(len(verified.differences), MOST_HEADS, "heads"),
    ]
