"""The small drawings of a report: bars with their spread, paired distributions, pictures."""

import math

import pytest

from service.insight.report import chart
from service.insight.report.bars import Bar, bars
from service.insight.report.compared import bins, categories
from service.insight.report.histogram import squares
from service.insight.report.picture import picture


def _numbers(part, *names):
    return [float(part.get(name)) for name in names]


def _cells(table):
    return [[cell.text for cell in row if cell.text] for row in table.findall("tr")]


def test_bars_have_one_scale():
    """Half the value is half the width, whatever the order; the spread lies around the end."""
    table = bars([Bar("a", 1.0), Bar("b", 2.0, 0.5)], "what")

    [first, second] = table.findall(".//rect")
    assert _numbers(first, "x", "width") == [0, 400]
    assert _numbers(second, "x", "width") == [0, 800]
    [spread] = [line for line in table.iter("line") if line.get("class") == "spread"]
    assert _numbers(spread, "x1", "x2") == [600, 1000]
    assert _cells(table) == [["a", "1.00"], ["b", "2.00 ± 0.50"]]


def test_a_bar_below_zero_goes_to_the_left():
    """Zero is inside the drawing then, and the number has a minus sign."""
    table = bars([Bar("a", -1.0, faint=True, level="part"), Bar("b", 3.0)], "what")

    [first, second] = table.findall(".//rect")
    assert _numbers(first, "x", "width") == [0, 250]
    assert _numbers(second, "x", "width") == [250, 750]
    assert _cells(table)[0] == ["a", "−1.00"]  # noqa: RUF001  (a minus sign)
    assert [row.get("class") for row in table.findall("tr")] == ["part faint", None]


def test_bars_of_nothing_have_no_width():
    """Neither all zeros nor numbers that are none divide by nought; nearly nought has no sign."""
    table = bars([Bar("a", 0.0), Bar("b", math.nan)], "what")

    assert [rect.get("width") for rect in table.findall(".//rect")] == ["0", "0"]
    assert _cells(table) == [["a", "0"], ["b", "–"]]  # noqa: RUF001  (a dash)
    assert _cells(bars([Bar("a", -1e-9), Bar("b", 1.0)], "what"))[0] == ["a", "0.00"]


def test_numbers_have_the_digits_of_the_largest():
    """Three digits of it are enough, and large numbers have no decimals."""
    assert _cells(bars([Bar("a", 12345.6), Bar("b", 7.0)], "what")) == [
        ["a", "12,346"],
        ["b", "7"],
    ]
    assert _cells(bars([Bar("a", 0.012345), Bar("b", 0.001)], "what"))[0] == ["a", "0.0123"]


def test_distributions_share_their_height():
    """The highest share of either fills the drawing."""
    drawn = bins([0.5, 0.5], [1.0, 0.0])

    filled, outline = [path.get("d") for path in drawn.findall("path")]
    assert filled == "M0 59V30H120V30H240V59"
    assert outline == "M0 59V2H120V59H240V59"


def test_a_distribution_may_be_alone():
    """Without held-out rows there is one path, and one bar for each category."""
    assert len(bins([0.5, 0.5]).findall("path")) == 1
    assert len(bins([]).findall("path")) == 1
    assert len(categories(["a", "b"], [0.4, 0.6]).findall(".//rect")) == 2
    assert len(categories(["a", "b"], [0.4, 0.6], [0.5, 0.5]).findall(".//rect")) == 4


def test_a_picture_has_a_line_for_each_run_of_a_shade():
    """Black is the ground, and neighbours of one shade are one line."""
    drawn = picture([[0, 1, 1], [0.5, 0, 1]], "what")

    shades = {path.get("stroke-opacity"): path.get("d") for path in drawn.iter("path")}
    assert shades == {"0.50": "M0 1h1", "1.00": "M1 0h2M2 1h1"}
    assert drawn.find("title").text == "what"


@pytest.mark.parametrize("high", [1.0, 2_500_000.0, 987_654_321.0, 1e30])
def test_the_numbers_of_an_axis_are_inside_the_drawing(high):
    """2,500,000 without its first digit would be another number."""
    drawings = {
        7: squares([[1, 0], [0, 1]], -high / 2, high, ("target", "answer"), "what"),
        8: chart.lines({"train": [high, high / 3]}, 1, "what"),
    }

    for digit, drawing in drawings.items():
        beside = [text for text in drawing.iter("text") if text.get("dy")]
        assert len(beside) >= 2
        for text in beside:
            assert float(text.get("x")) >= digit * len(text.text)


def test_long_numbers_below_a_drawing_do_not_overlap():
    """The middle one gives way to the ends."""
    drawing = squares([[1, 0], [0, 1]], 123_456_789.0, 987_654_321.0, ("target", "answer"), "what")

    below = [text.text for text in drawing.iter("text") if not text.get("dy")]
    assert below == ["123,456,789", "987,654,321", "target", "answer"]
