"""The report of a run: self-contained, escaped, bounded, and the same bytes each time."""

import re

import numpy as np
import pytest

from benchmarks import screenshot
from service.insight.report.document import bounded, document, titled
from service.insight.report.elements import element
from tests.training.report.made import answered, page, spec
from training.report import evaluation

HOSTILE = "<script>alert(1)</script>"


def test_has_scores_the_chosen_epoch_and_notes():
    """Scores are beside their baseline, and what was left out is said."""
    text = page(warnings=["few rows"], notes=["3 rows are left out"])

    cells = re.findall("<td>(.*?)</td>", text)
    assert cells[:7] == ["o1", "accuracy", "0.9000", "0.8000", "–", "0.5000", "90 + 10"]  # noqa: RUF001  (a dash)
    assert "<th>held out</th>" in text
    assert "<th>held out (chose epoch)</th>" in page(patience=5)
    assert "the weights of epoch 2" in text
    assert "<li>few rows (code)</li>" in text
    assert "<li>3 rows are left out</li>" in text
    assert "<td>2.0e-07</td>" in text


def test_a_missing_cell_of_a_worst_row_is_empty():
    """Its default is what the model got, and not what the file has."""
    run = answered(["o1"])
    run.sources[0].missing["t.age"] = np.arange(10) == 2

    text = document("m", *evaluation.section(spec(), run, 90_000)).decode()

    assert "<td>t.csv, line 4</td><td>no</td><td>yes (0.9)</td><td>2.303</td><td></td>" in text
    assert len(re.findall("<td></td>", text)) == 1


def test_the_worst_rows_are_named_by_their_line_with_some_features():
    """A row is found in its file, though others were left out."""
    text = page()

    worst = re.findall("<td>(t.csv, line .*?)</tr>", text)
    assert len(worst) == 10
    cells = "t.csv, line 4</td><td>no</td><td>yes (0.9)</td><td>2.303</td><td>2</td><td>"
    assert worst[0].startswith(cells)
    assert "10 rows." in text


@pytest.mark.parametrize(
    ("rows", "patience", "words"),
    [
        ("test", 3, "the test rows, which the fit has not even watched"),
        ("held-out", None, "the held-out rows, to which the model was not fitted"),
        ("held-out", 3, "they chose the epoch, so that the figures are a little too good"),
        ("training", None, "the training rows, since none were held out"),
    ],
)
def test_says_which_rows_the_figures_are_of(rows, patience, words):
    """Rows that were seen make figures too good."""
    assert words in page(rows=rows, patience=patience)


def test_names_are_text_not_markup():
    """A name of a head, a warning and a note reach the page escaped."""
    text = page(heads=[HOSTILE], text=HOSTILE, warnings=[HOSTILE], notes=["a\x00\ud800b" + HOSTILE])

    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "a  b&lt;script" in text


def test_nothing_is_fetched():
    """The page refers to no other file."""
    assert not re.search(r"\b(src|href|url|@import)\b|https?:", page())


@pytest.mark.parametrize("letter", ["a", "&"])
def test_is_bounded_for_any_model(letter):
    """A model of many heads and columns with long names says how many are left out."""
    names = [f"{n}" + letter * 5000 for n in range(500)]
    text = page(heads=names, epochs=5000, warnings=names, notes=names, columns=names)

    assert len(text.encode()) <= 300_000
    assert "and 470 more lines" in text
    if letter == "a":  # an ampersand takes five bytes
        assert "Left out" not in text
        assert "and 488 more heads" in text
        assert re.search("and 4.. more heads, for which this page has no room", text)
        assert "and 493 more features" in text


def test_a_section_that_is_too_large_gives_way_to_the_others():
    """The largest one is left out with a line that says so, and the others stay."""
    sections = {"Small": [element("p", "a")], "Large": [element("p", "b")] * 50_000}

    text = document("t", *titled(bounded(sections, 200_000))).decode()

    assert "<h2>Small</h2><p>a</p><h2>Large</h2><p>Left out, as this page has no room" in text
    assert text.endswith("for its 400 kB.</p></body></html>")


def test_losses_that_are_equal_or_of_one_epoch_are_drawn():
    """One epoch is a point, and no number is divided by nought."""
    text = page(epochs=1)

    assert re.findall('<circle class="(train|held)"', text) == ["train", "held"]
    assert "nan" not in text


def test_the_same_run_has_the_same_bytes():
    """Nothing on the page depends on the time, on memory addresses or on the order of sets."""
    assert page(heads=("a", "b"), layers=9) == page(heads=("a", "b"), layers=9)


def test_the_picture_of_a_report_is_cut_at_titles_that_it_has():
    """The program that makes `docs/report.png` finds sections by their titles."""
    titles = {title for column in screenshot.COLUMNS for piece in column for title in piece[1:]}
    sections = {title for title in titles if title.startswith(("Importance", "Data"))}

    assert len(sections) == 3
    assert all(f"<h2>{title}" in page() for title in sections)
