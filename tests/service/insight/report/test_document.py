"""The style of a report: its text is readable in light, in dark and in print."""

import re

import pytest

from service.insight.report.document import document
from service.insight.report.elements import element, rounded

# https://www.w3.org/TR/WCAG22/#contrast-minimum, and #non-text-contrast for what is drawn.
TEXT, DRAWN = 4.5, 3.0


def _colours():
    """Return the colours of the style sheet by name: in light, in dark and in print."""
    style = document("t", element("p", "a")).decode()
    roots = [
        dict(re.findall(r"--(\w+):(#\w+)", root))
        for root in re.findall(r":root\{(.*?)\}", style, re.DOTALL)
    ]
    return dict(zip(("light", "dark", "print"), roots, strict=True))


def _luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one, other):
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("ground", ["paper", "tint"])
def test_text_and_lines_stand_out(scheme, ground):
    """Text and lines have the contrasts of WCAG 2.2 at level AA, on both grounds."""
    colours = _colours()[scheme]

    for text in ("ink", "soft", "b"):
        assert _contrast(colours[text], colours[ground]) >= TEXT, text
    for drawn in ("a", "b"):
        assert _contrast(colours[drawn], colours[ground]) >= DRAWN, drawn


def test_a_contrast_is_that_of_the_standard():
    """Black on white has 21, and the grey #767676 is the lightest that text may have."""
    assert _contrast("#000", "#fff") == pytest.approx(21)
    assert _contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2007.0, "2007"),
        (123456.7, "123,457"),
        (44.45, "44.5"),
        (-0.01234, "-0.0123"),
        (0.5, "0.5"),
        (1.2e-7, "1.20e-07"),
        (3.4e38, "3.40e+38"),
    ],
)
def test_numbers_are_rounded_as_people_write_them(value, text):
    """Three digits are shown, without zeros at the end, and powers of ten where there are many."""
    assert rounded(value) == text


def test_numbers_of_a_table_have_more_digits():
    """Figures of two models are compared digit by digit."""
    texts = ["215.8", "0.01235", "2.000e-09"]

    assert [rounded(value, 4) for value in (215.84, 0.012346, 2e-9)] == texts
