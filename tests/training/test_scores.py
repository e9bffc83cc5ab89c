"""The scores of a fitted model."""

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
