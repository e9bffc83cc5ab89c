"""The report of a run: self-contained, escaped, bounded, and the same bytes each time."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from service.signature import Feature, tabular
from training.report import page
from training.rows import Data, Source

HOSTILE = "<script>alert(1)</script>"
# Of the ten rows of a file, the third is the worst.
ANSWERS = np.float32([0.1, 0.2, 0.9, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9, 0.9]).reshape(-1, 1)
TARGETS = np.float32([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]).reshape(-1, 1)


def _answered(heads, rows, texts):
    """Return answers to ten rows of a file in which line 5 is missing, for each of these heads."""
    table = tabular("t", [Feature("age", ""), Feature("plan", "", vocabulary=texts)])
    arrays = {"t": np.arange(10.0).reshape(-1, 1), "t.plan": np.full((10, 1), texts[0], object)}
    lines = np.array([2, 3, 4, 6, 7, 8, 9, 10, 11, 12])
    targets = dict.fromkeys(heads, TARGETS)
    source = Source(Path("t.csv"), 10, arrays, targets, "", ("age", "plan", "y"), lines)
    labels, columns = dict.fromkeys(heads, ("no", "yes")), dict.fromkeys(heads, ("y",))
    data = Data({"t.csv": source}, "position", {"t": table}, labels, columns, ())
    targets, answers = dict.fromkeys(heads, TARGETS), dict.fromkeys(heads, ANSWERS)
    return SimpleNamespace(rows=rows, data=data, sources=[source], targets=targets, answers=answers)


def _page(heads=("o1",), *, epochs=3, warnings=(), notes=(), rows="held-out", patience=None):
    """Return the report of a run with these heads, as text."""
    score = SimpleNamespace(
        metric="accuracy",
        train=0.9,
        held_out=0.8,
        test=None,
        baseline=0.5,
        rows=90,
        held_out_rows=10,
        test_rows=0,
    )
    losses = tuple(1 / (epoch + 1) for epoch in range(epochs))
    curve = SimpleNamespace(train=losses, held_out=losses)
    fitted = SimpleNamespace(
        scores=dict.fromkeys(heads, score),
        curves=dict.fromkeys(heads, curve),
        chosen=2,
        answered=_answered(heads, rows, (HOSTILE, "b")),
    )
    verified = SimpleNamespace(differences=dict.fromkeys(heads, 2e-7))
    told = [SimpleNamespace(message=text, code="code") for text in warnings]
    head = SimpleNamespace(kind="binary", threshold=None)
    spec = SimpleNamespace(
        name="m", heads=dict.fromkeys(heads, head), fit=SimpleNamespace(patience=patience)
    )
    return page(spec, fitted, verified, told, notes).decode()


def test_has_scores_the_chosen_epoch_and_notes():
    """Scores are beside their baseline, and what was left out is said."""
    text = _page(warnings=["few rows"], notes=["3 rows are left out"])

    cells = re.findall("<td>(.*?)</td>", text)
    assert cells[:7] == ["o1", "accuracy", "0.9000", "0.8000", "–", "0.5000", "90 + 10"]  # noqa: RUF001  (a dash)
    assert "the weights of epoch 2" in text
    assert "<li>few rows (code)</li>" in text
    assert "<li>3 rows are left out</li>" in text
    assert cells[-1] == "2.0e-07"


def test_the_worst_rows_are_named_by_their_line_with_some_features():
    """A row is found in its file, though others were left out."""
    text = _page()

    worst = re.findall("<td>(line .*?)</tr>", text)
    assert len(worst) == 10
    cells = "line 4</td><td>no</td><td>yes (0.9)</td><td>2.303</td><td>2</td><td>"
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
    assert words in _page(rows=rows, patience=patience)


def test_names_are_text_not_markup():
    """A name of a head, a warning and a note reach the page escaped."""
    text = _page(heads=[HOSTILE], warnings=[HOSTILE], notes=["a\x00\ud800b" + HOSTILE])

    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "a  b&lt;script" in text


def test_nothing_is_fetched():
    """The page refers to no other file."""
    assert not re.search(r"\b(src|href|url|@import)\b|https?:", _page())


def test_is_bounded_for_any_model():
    """A model of many heads with long names says how many are left out."""
    names = [f"{n}" + "&" * 5000 for n in range(500)]
    text = _page(heads=names, epochs=5000, warnings=names, notes=names)

    assert len(text.encode()) <= 300_000
    assert "and 480 more heads" in text
    assert re.search("and 4.. more heads, for which this page has no room", text)
    assert "and 470 more lines" in text


def test_losses_that_are_equal_or_of_one_epoch_are_drawn():
    """One epoch is a point, and no number is divided by nought."""
    text = _page(epochs=1)

    assert re.findall('<circle class="(train|held)"', text) == ["train", "held"]
    assert "nan" not in text
