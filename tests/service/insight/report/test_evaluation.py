"""The evaluation of heads in a report: figures, drawings, and bounds for any answers."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from service.insight.evaluation.judged import Judged, WorstRow
from service.insight.report.curves import thinned
from service.insight.report.evaluation import evaluation

HOSTILE = '<script>alert("1")</script>'
NAN = np.nan


def _judged(kind, targets, answers, **known):
    """Return the answers of a head whose loss is largest in the first row."""
    answers = np.array(answers)
    answers = answers.astype(np.float32) if answers.dtype.kind == "f" else answers
    targets = np.array(targets, np.int32 if kind == "multiclass" else np.float32)
    worst = WorstRow(2.5, "line 7", targets[0], answers[0], ("41",)) if len(answers) else None
    defaults = {
        "labels": None,
        "cutoff": 0.5,
        "rows": len(answers),
        "worst": (worst,) if worst else (),
        "cell_columns": ("age",),
    }
    return Judged("y", kind, targets=targets, answers=answers, **{**defaults, **known})


def _text(*heads, most=250_000):
    left = iter(heads)
    sections = evaluation([head.name for head in heads], lambda _: next(left), most)
    return "".join(ET.tostring(section, encoding="unicode", method="html") for section in sections)


def _tables(text):
    """Return the cells of each table by line."""
    return [
        [
            re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line)
            for line in re.findall("<tr>(.*?)</tr>", one)
        ]
        for one in re.findall("<table.*?>(.*?)</table>", text)
    ]


BINARY = ([[1], [0], [1], [0]], [[0.2], [0.3], [0.9], [0.6]])


def test_a_binary_head_has_its_confusion_curves_thresholds_and_worst_rows():
    """Counts have the shares of their line beside them."""
    text = _text(_judged("binary", *BINARY, labels=("no", "yes")))

    matrix, others, worst = _tables(text)
    half = "<b>1</b><small>50%</small>"
    assert matrix == [["target ↓ answer →", "no", "yes"], ["no", half, half], ["yes", half, half]]
    assert ["0.5 (the head's)", "0.5000", "0.5000", "0.5000", "0.5000"] in others
    assert any(line[0].endswith("(highest F1 here)") for line in others)
    assert worst == [
        ["row", "target", "answer (value of 'yes')", "log loss", "age"],
        ["line 7", "yes", "no (0.2)", "2.5", "41"],
    ]
    assert "ROC, area 0.5000" in text
    assert "average precision 0.7500" in text
    assert "Calibration, expected error" in text
    assert text.count("<svg") == 3


def test_a_multiclass_head_has_its_confusion_and_each_class():
    """The probability of the answered class is calibrated."""
    answers = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]
    text = _text(_judged("multiclass", [1, 1, 0], answers, labels=("a", "b", "c")))

    matrix, classes, worst = _tables(text)
    assert matrix[2] == [
        "b",
        "<b>1</b><small>50%</small>",
        "<b>1</b><small>50%</small>",
        "<b>0</b><small>0%</small>",
    ]
    assert classes[1:] == [
        ["a", "1", "0.5000", "1.0000", "0.5000"],
        ["b", "2", "1.0000", "0.5000", "0.5000"],
        ["c", "0", "–", "–", "–"],  # noqa: RUF001  (a dash)
    ]
    assert worst[1][1:3] == ["b", "a (0.8)"]
    assert text.count("<svg") == 1


def test_many_classes_are_bounded():
    """The commonest have a line of their own."""
    random = np.random.default_rng(0)
    answers = random.dirichlet(np.ones(100), 1000)
    targets = random.integers(0, 100, 1000)
    text = _text(_judged("multiclass", targets, answers))

    matrix, classes, _ = _tables(text)
    assert (len(matrix), matrix[-1][0]) == (13, "other (89)")
    assert len(classes) == 41
    assert "and 60 more classes, which have fewer rows" in text


def test_a_multilabel_head_has_a_line_for_each_label():
    """Each label is a binary head of its own."""
    text = _text(
        _judged("multilabel", [[1, 0], [0, 0]], [[0.4, 0.9], [0.1, 0.2]], labels=("new", "big"))
    )

    labels, worst = _tables(text)
    assert [line[:2] for line in labels] == [["label", "rows"], ["new", "1"], ["big", "0"]]
    assert labels[1][5:7] == ["1.0000", "1.0000"]
    assert labels[2][5:7] == ["–", "–"]  # noqa: RUF001  (a dash)
    assert worst[1][1:3] == ["new", "big"]


def test_a_regression_has_figures_in_its_unit_and_two_pictures():
    """The worst rows have the absolute error."""
    text = _text(
        _judged("regression", [[30.0], [10.0]], [[20.0], [10.0]], target_columns=("spend",))
    )

    figures, worst = _tables(text)
    assert figures[1] == ["spend", "2", "5", "7.071", "5", "5", "0.5000"]
    assert worst[:2] == [
        ["row", "target", "answer", "absolute error", "age"],
        ["line 7", "30", "20", "2.5", "41"],
    ]
    assert text.count("<svg") == 2


def test_targets_and_answers_of_the_worst_rows_have_commas_as_their_errors_have():
    """2500000 beside an error of 1,227,876 has to be counted out."""
    text = _text(_judged("regression", [[2_500_000.0], [2007.0]], [[1_272_124.25], [0.5]]))

    assert _tables(text)[1][1][1:3] == ["2,500,000", "1,272,124"]


def test_several_values_have_a_line_each_and_few_pictures():
    """A vector of a hundred numbers is bounded."""
    values = np.random.default_rng(0).normal(size=(50, 100))
    text = _text(_judged("regression", values, values + 1))

    assert _tables(text)[0][1][0] == "y.0"
    assert text.count("<svg") == 4
    assert "and 60 more values" in text
    assert "and 38 more values, which are not drawn" in text


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        pytest.param(None, "No row has its target", id="no targets"),
        pytest.param(
            _judged("binary", [[1], [0]], [[NAN], [np.inf]]), "No row has a finite", id="no numbers"
        ),
        pytest.param(
            _judged("binary", [[1], [0], [1]], [[NAN], [0.5], [0.2]]),
            "1 answers are no finite numbers; their rows are left out here",
            id="one is no number",
        ),
        pytest.param(
            _judged("binary", [[1], [1]], [[0.2], [0.4]], labels=("no", "yes")),
            "Every row is 'yes', so that there is no ROC curve",
            id="one class",
        ),
        pytest.param(_judged("binary", [[1], [0]], [[0.2], [0.2]]), "ROC, area 0.5", id="constant"),
        pytest.param(_judged("binary", [[1], [0]], [[7.0], [-3]]), "are no probab", id="logits"),
        pytest.param(_judged("binary", [[1], [0]], [[True], [False]]), "area 1.0", id="booleans"),
        pytest.param(_judged("multiclass", [0, 1], [[7.0, 1], [3, 9]]), "no probab", id="scores"),
        pytest.param(_judged("multiclass", [0], [[1.0, 0.0]]), "error 0.0000", id="a row"),
        pytest.param(
            _judged("multilabel", [[1, 0]], [[2.0, 0.0]]), "no probabilities", id="label logits"
        ),
        pytest.param(_judged("regression", [[1.0]], [[1.0]]), "Residuals of y", id="one number"),
        pytest.param(_judged("regression", [[1]], [[2]]), "Residuals of y", id="integers"),
        pytest.param(
            _judged("regression", [[3e38], [-3e38]], [[-3e38], [3e38]]), "3e+38", id="far apart"
        ),
        pytest.param(
            _judged("binary", *BINARY, rows=9), "a uniform sample of 4 of 9 rows", id="sample"
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(judged, words):
    """No answer makes a number on the page that is none."""
    sections = evaluation(["y"], lambda _: judged, 250_000)
    text = "".join(ET.tostring(s, encoding="unicode", method="html") for s in sections)

    assert words in text
    assert not re.search(r'="[^"]*\b(nan|inf)\b', text)


def test_names_are_text_not_markup():
    """Labels, names, places and cells come from files."""
    row = WorstRow(1.0, HOSTILE, np.float32([1]), np.float32([0.2]), (HOSTILE,))
    judged = _judged(
        "binary", *BINARY, labels=(HOSTILE, HOSTILE), worst=(row,), cell_columns=(HOSTILE,)
    )

    text = "".join(
        ET.tostring(section, encoding="unicode", method="html")
        for section in evaluation([HOSTILE], lambda _: judged, 250_000)
    )

    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 5


def test_what_has_no_room_is_counted():
    """A section is whole or left out, and the bytes are bounded."""
    judged = _judged("binary", *BINARY)

    text = _text(*[judged] * 30, most=50_000)

    drawn = text.count("<section>")
    assert 3 < drawn < 30
    assert f"and {30 - drawn} more heads" in text
    assert len(text.encode()) <= 51_000


def test_any_head_alone_has_room_in_the_report_of_a_run():
    """Long labels and names are cut, also those whose characters have several bytes."""
    random = np.random.default_rng(0)
    labels = tuple(f"{place}" + "&" * 500 for place in range(200))
    worst = WorstRow(1.0, "&" * 500, np.int32(1), random.dirichlet(np.ones(200)), ("&" * 500,) * 5)
    judged = _judged(
        "multiclass",
        random.integers(0, 200, 5000),
        random.dirichlet(np.ones(200), 5000),
        labels=labels,
        worst=(worst,) * 10,
        cell_columns=("&" * 500,) * 5,
    )

    assert len(_text(judged, most=90_000)) < 60_000
    values = random.standard_cauchy((5000, 60))
    judged = _judged("regression", values, values[::-1], target_columns=labels[:60])
    assert len(_text(judged, most=90_000)) < 60_000
    targets = random.integers(0, 2, (5000, 1))
    judged = _judged("binary", targets, random.random((5000, 1)), labels=labels[:2])
    assert len(_text(judged, most=90_000)) < 60_000
    judged = _judged("multilabel", random.integers(0, 2, (500, 200)), random.random((500, 200)))
    assert len(_text(judged, most=90_000)) < 60_000


def test_a_long_curve_keeps_its_shape_in_few_points():
    """Points are spread along the curve, and its ends stay."""
    points = [(0.0, place / 5000) for place in range(5000)]
    points += [(place / 5000, 1.0) for place in range(5001)]

    kept = thinned(points, 100)

    assert len(kept) <= 100
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert any(abs(x) + abs(1 - y) < 0.03 for x, y in kept)
    assert thinned(points[:5], 100) == points[:5]
    assert thinned([(0.0, 0.0)] * 500, 100) == [(0.0, 0.0)] * 2
