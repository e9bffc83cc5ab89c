"""The report of a run: self-contained, escaped, bounded, and the same bytes each time."""

import re
from types import SimpleNamespace

from training.report import page

HOSTILE = "<script>alert(1)</script>"


def _page(heads=("o1",), epochs=3, warnings=(), notes=()):
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
        scores=dict.fromkeys(heads, score), curves=dict.fromkeys(heads, curve), chosen=2
    )
    verified = SimpleNamespace(differences=dict.fromkeys(heads, 2e-7))
    told = [SimpleNamespace(message=text, code="code") for text in warnings]
    return page(SimpleNamespace(name="m"), fitted, verified, told, notes).decode()


def test_has_scores_the_chosen_epoch_and_notes():
    """Scores are beside their baseline, and what was left out is said."""
    text = _page(warnings=["few rows"], notes=["3 rows are left out"])

    cells = re.findall("<td>(.*?)</td>", text)
    assert cells[:7] == ["o1", "accuracy", "0.9000", "0.8000", "–", "0.5000", "90 + 10"]  # noqa: RUF001  (a dash)
    assert "the weights of epoch 2" in text
    assert "<li>few rows (code)</li>" in text
    assert "<li>3 rows are left out</li>" in text
    assert cells[-1] == "2.0e-07"


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
    assert "and 470 more lines" in text


def test_losses_that_are_equal_or_of_one_epoch_are_drawn():
    """One epoch is a point, and no number is divided by nought."""
    text = _page(epochs=1)

    assert text.count("<circle") == 2
    assert "nan" not in text
