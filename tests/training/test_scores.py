"""The scores of a fitted model."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from tests.training.runs import fit_spec  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        pytest.param("binary", '"t.b"', 0.75, id="binary"),
        pytest.param("multiclass", '"t.c"', 0.5, id="multiclass"),
        pytest.param("multilabel", '["t.b", "t.d"]', (0.75 + 1) / 2, id="multilabel"),
        pytest.param("regression", '"t.e"', 1.5, id="regression"),
    ],
)
def test_the_baseline_is_the_best_answer_that_is_always_the_same(tmp_path, kind, target, expected):
    """The baseline is the score of the most common class, or of the mean."""
    table = "p,b,c,d,e\n1,1,x,0,0\n2,1,y,0,0\n3,1,z,0,0\n4,0,x,0,3\n" * 2
    table = table.replace("p,b,c,d,e\n", "", 1)
    table = "p,b,c,d,e\n" + table.replace("p,b,c,d,e\n", "").replace(",0,3", ",0,6")
    text = (
        'name = "base"\n[inputs.t]\ncsv = "t.csv"\ncolumns = ["p"]\n'
        f'[heads.y]\nafter = "t"\nkind = "{kind}"\ntarget = {target}\n[fit]\nepochs = 1\n'
    )
    if kind == "regression":
        expected = (1.5 * 6 + 4.5 * 2) / 8

    *_, fitted = fit_spec(tmp_path, text, t=table)

    assert fitted.scores["y"].baseline == pytest.approx(expected)


def test_a_score_is_of_the_rows_that_have_the_target(tmp_path):
    """Metric, baseline and counts leave the other rows out, for every form of a target."""
    cells = [("x", 0), ("y", 1), ("z", 1), ("", 1), ("x", 0), ("x", ""), ("", 0), ("y", "")]
    lines = ["p,c,b,d,e", *(f"{n},{c},{b},{1 - n % 2},{n}" for n, (c, b) in enumerate(cells * 2))]
    text = """
name = "base"
[inputs.t]
csv = "t.csv"
columns = ["p"]
[heads.which]
after = "t"
kind = "multiclass"
target = "t.c"
loss = "categorical_crossentropy"
missing = "skip"
[heads.marks]
after = "t"
kind = "multilabel"
target = ["t.b", "t.d"]
metric = "auc"
missing = "skip"
[heads.all]
after = "t"
kind = "regression"
target = "t.e"
[fit]
epochs = 1
"""

    _, seen, fitted = fit_spec(tmp_path, text, t="\n".join(lines))

    assert {name: score.rows for name, score in fitted.scores.items()} == {
        "which": 12,
        "marks": 12,
        "all": 16,
    }
    [source] = seen.sources.values()
    answers = fitted.built.model(source.arrays)
    places = source.targets["which"]
    right = np.argmax(answers["which"], axis=1)[places >= 0] == places[places >= 0]
    assert fitted.scores["which"].train == pytest.approx(right.mean())
    assert fitted.scores["which"].baseline == pytest.approx(6 / 12)
    there = ~np.isnan(source.targets["marks"][:, 0])
    auc = keras.metrics.AUC()
    auc.update_state(source.targets["marks"][there], np.asarray(answers["marks"])[there])
    assert fitted.scores["marks"].train == pytest.approx(float(auc.result()))
