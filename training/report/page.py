"""The page of a report: scores, warnings, learning curves, notes about the data, differences."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from training.report import chart
from training.report.elements import as_bytes, cut, element

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree import ElementTree as ET

    from training.fit import Fitted
    from training.run_warnings import RunWarning
    from training.scores import Score
    from training.spec import Spec
    from training.verify import Verified

# Bounds, so that the page of any model has less than 300 kB.
MOST_HEADS = 50
MOST_CURVES = 20
MOST_LINES = 30
_NAME = 60  # characters of a name

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--soft:#767676;--a:#0b62b8;--b:#b34700}
@media (prefers-color-scheme:dark){
:root{--ink:#e8e8e8;--paper:#161616;--soft:#9a9a9a;--a:#6cb2ff;--b:#ffa35c}}
@media print{:root{--ink:#000;--paper:#fff;--soft:#555;--a:#0b62b8;--b:#b34700}
figure,tr{break-inside:avoid}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:56rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid var(--soft)}
th:first-child,td:first-child{text-align:left}
figure{margin:1rem 0}svg{width:100%;max-width:40rem;height:auto}
svg text{font-size:12px;fill:var(--ink)}
.grid{stroke:var(--soft);stroke-width:.5}.mark{stroke:var(--ink);stroke-dasharray:2 3}
polyline{fill:none;stroke-width:2}
.train{stroke:var(--a)}.held{stroke:var(--b);stroke-dasharray:7 3}
"""


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
    title = f"Report of {spec.name}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
    )
    body = element(
        "body",
        element("h1", title),
        element("h2", "Scores"),
        *_scores(fitted),
        element("h2", "Warnings"),
        *_listed([f"{warning.message} ({warning.code})" for warning in warnings]),
        element("h2", "Learning curves"),
        *_curves(fitted),
        element("h2", "Data: what was left out, and why"),
        *_listed(notes),
        element("h2", "Differences between Keras and ONNX"),
        *_differences(verified),
    )
    return as_bytes(element("html", head, body, lang="en"), _STYLE)


def _scores(fitted: Fitted) -> list[ET.Element]:
    rows = [
        (
            cut(name, _NAME),
            score.metric,
            _shown(score.train),
            _shown(score.held_out),
            _shown(score.test),
            _shown(score.baseline),
            _counts(score),
        )
        for name, score in islice(fitted.scores.items(), MOST_HEADS)
    ]
    columns = ("head", "metric", "training", "held out", "test", "baseline", "rows")
    return [_table(columns, rows), *_more(len(fitted.scores), MOST_HEADS, "heads")]


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
    return [*figures, *_more(len(fitted.curves), MOST_CURVES, "heads")]


def _differences(verified: Verified) -> list[ET.Element]:
    listed = islice(verified.differences.items(), MOST_HEADS)
    rows = [(cut(name, _NAME), f"{distance:.1e}") for name, distance in listed]
    return [
        element("p", "The largest difference on golden and random rows, relative above 1."),
        _table(("head", "difference"), rows),
        *_more(len(verified.differences), MOST_HEADS, "heads"),
    ]


def _listed(texts: Sequence[str]) -> list[ET.Element]:
    if not texts:
        return [element("p", "None.")]
    listed = element("ul", *(element("li", text) for text in texts[:MOST_LINES]))
    return [listed, *_more(len(texts), MOST_LINES, "lines")]


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> ET.Element:
    top = element("tr", *(element("th", column) for column in columns))
    lines = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    return element("div", element("table", top, *lines), class_="wide")


def _more(count: int, most: int, what: str) -> list[ET.Element]:
    return [element("p", f"and {count - most} more {what}")] if count > most else []


def _shown(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"  # noqa: RUF001  (a dash)
