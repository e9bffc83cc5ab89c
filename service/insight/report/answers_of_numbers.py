"""The part of a report about a regression: figures of each value, and drawings of its residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.insight.evaluation import residuals
from service.insight.report import histogram
from service.insight.report.document import more, table
from service.insight.report.elements import cut, element, figure, rounded
from service.insight.scores import shown

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

    from numpy.typing import NDArray

    from service.insight.evaluation.judged import Judged

MOST_VALUES = 40  # of a table
MOST_DRAWN = 2  # values
BARS = 30
SQUARES = 20  # a side
_NAME = 32  # characters of a name
_COLUMNS = ("rows", "mae", "rmse", "median error", "mean residual", "R²")
_UNIT = (
    "All but R² are in the unit of the column. Half of the rows are off by less than the median "
    "error. A residual is target minus answer: if their mean is above 0, the answers are too low."
)
_VARIANCE = (
    "R² is the part of the variance that the answers explain: 1 is perfect, and always answering "
    "the mean of these rows has 0."
)


def regression(judged: Judged, targets: NDArray[Any], answers: NDArray[Any]) -> list[ET.Element]:
    """Return the part of a regression.

    Args:
        judged: the head.
        targets: the values that are right, [rows, values], of at least one row with finite answers.
        answers: the values of the head, [rows, values].
    """
    wanted = targets.reshape(answers.shape)
    values = answers.shape[1]
    names = [cut(name, _NAME) for name in judged.target_columns or _numbered(judged.name, values)]
    rows, drawn = [], []
    for place, name in enumerate(names[:MOST_VALUES]):
        pair = wanted[:, place], answers[:, place]
        figures = residuals.figures(*pair)
        numbers = (figures.mae, figures.rmse, figures.median, figures.bias)
        rows.append(
            (
                name,
                str(figures.rows),
                *(rounded(number, 4) for number in numbers),
                shown(figures.r2),
            )
        )
        if place < MOST_DRAWN:
            drawn += _drawings(name, *pair)
    return [
        table(("value", *_COLUMNS), rows),
        *more(len(names), MOST_VALUES, "values"),
        element("p", _UNIT),
        element("p", _VARIANCE),
        element("div", *drawn, class_="side"),
        *more(min(len(names), MOST_VALUES), MOST_DRAWN, "values, which are not drawn"),
    ]


def _numbered(name: str, values: int) -> list[str]:
    return [name] if values == 1 else [f"{name}.{place}" for place in range(values)]


def _drawings(name: str, wanted: NDArray[Any], answers: NDArray[Any]) -> list[ET.Element]:
    residual = wanted.astype("float64") - answers.astype("float64")
    bars = residuals.histogram(residual, BARS)
    squares = residuals.squares(wanted, answers, SQUARES)
    what = f"Residuals of {name}"
    shaded = f"Answers of {name} by target"
    return [
        figure(
            histogram.histogram(
                bars.counts.tolist(), bars.edges.tolist(), "target minus answer", what
            ),
            f"{what}; the outermost bars have what lies beyond",
        ),
        figure(
            histogram.squares(
                squares.counts.tolist(), squares.low, squares.high, ("target", "answer"), shaded
            ),
            f"{shaded}: the stronger the colour, the more rows; on the diagonal, they are right",
        ),
    ]
