"""The scores of a fitted model."""

import csv
import json
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.commands.main import main  # noqa: E402  (after the check above)
from service.commands.report import report  # noqa: E402  (after the check above)
from service.commands.score import score  # noqa: E402  (after the check above)
from service.inference.model import Model  # noqa: E402  (after the check above)
from tests.harness import small, tiny  # noqa: E402  (after the check above)
from tests.training.runs import SMALL, fit_spec  # noqa: E402  (after the check above)
from training import export  # noqa: E402  (after the check above)
from training.report import evaluation  # noqa: E402  (after the check above)
from training.rows import split  # noqa: E402  (after the check above)

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


ALL_KINDS = """
name = "scored"
[inputs.t]
csv = "t.csv"
columns = ["row", "p", "q"]
[layers.h]
after = "t"
Normalization = {}
[heads.b]
after = "h"
kind = "binary"
target = "t.bought"
labels = ["no", "yes"]
threshold = 0.4
[heads.c]
after = "h"
kind = "multiclass"
target = "t.which"
LOSS
[heads.d]
after = "h"
kind = "multilabel"
target = ["t.x", "t.y"]
[heads.e]
after = "h"
kind = "regression"
target = ["t.q2", "t.p2"]
[fit]
epochs = 3
validation_split = 0.3
seed = 2
"""


@pytest.mark.parametrize(
    "loss", ["", 'loss = "categorical_crossentropy"'], ids=["sparse", "one-hot"]
)
def test_the_command_gives_the_scores_of_training(tmp_path, monkeypatch, loss):
    """`triceps score` on the held-out rows has the numbers of training's table, baseline included.

    So has `triceps report`, with the same rows as the worst.  The commands find the columns of the
    targets in the signature.
    """
    lines = ["row,p,q,bought,which,x,y,q2,p2"]
    for n in range(60):
        p, q = n * 7 % 11, n * 5 % 13
        label = "no" if p + q < 12 else "yes"
        lines.append(f"{n},{p},{q},{label},{'abc'[n * p % 3]},{n % 2},{p // 6},{q / 2},{p * p}")
    loaded, seen, fitted = fit_spec(tmp_path, ALL_KINDS.replace("LOSS", loss), t="\n".join(lines))
    content = export.export(loaded, fitted, seen).content
    small.put(tmp_path / "models", "scored", 1, content)
    _, rows = tiny.load(tmp_path, ALL_KINDS.replace("LOSS", loss), t="\n".join(lines))
    _, held_out = split(rows, loaded.fit.validation_split, loaded.fit.seed)
    numbers = [int(number) for number in held_out.sources["t.csv"].arrays["t"][:, 0]]
    with (tmp_path / "held_out.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            lines[place].split(",") for place in (0, *(n + 1 for n in numbers))
        )
    monkeypatch.setitem(main.commands, "score", score)
    monkeypatch.setitem(main.commands, "report", report)

    models = ["--models", str(tmp_path / "models")]
    table = str(tmp_path / "held_out.csv")
    done = CliRunner().invoke(main, ["score", "scored", table, *models, "--json"])
    other = CliRunner().invoke(main, ["report", "scored", "--on", table, "--out", "-", *models])

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "rows": len(numbers),
        "heads": {
            name: {
                "metric": entry.metric,
                "value": pytest.approx(entry.held_out, rel=1e-5),
                "baseline": pytest.approx(entry.baseline, rel=1e-5),
                "rows": entry.held_out_rows,
            }
            for name, entry in fitted.scores.items()
        },
    }
    own = "".join(
        ET.tostring(part, encoding="unicode", method="html")
        for part in evaluation.section(loaded, fitted.answered, 300_000)
    )
    assert "the held-out rows" in own
    for pattern in ("<h3>(.*?)</h3>", r"<b>(\d+)</b>", "ROC, area (.{4})", r"(\d+) rows\."):
        assert re.findall(pattern, own) == re.findall(pattern, other.stdout) != [], pattern
    worst = [int(line) - 2 for line in re.findall(r">t.csv, line (\d+)<", own)]
    # The command counts lines of the file that has the held-out rows alone.
    same = [numbers[int(line) - 2] for line in re.findall(r">line (\d+)<", other.stdout)]
    assert sorted(worst) == sorted(same)
    assert {n: head.targets for n, head in Model.load(content).signature.heads.items()} == {
        "b": ("bought",),
        "c": ("which",),
        "d": ("x", "y"),
        "e": ("q2", "p2"),
    }


def test_another_metric_is_that_of_keras(tmp_path):
    """A spec may name any metric of Keras."""
    *_, fitted = fit_spec(tmp_path)
    *_, other = fit_spec(
        tmp_path, SMALL.replace('kind = "binary"', 'kind = "binary"\nmetric = "mse"')
    )

    assert (fitted.scores["bought"].metric, other.scores["bought"].metric) == ("accuracy", "mse")
    assert 0 < other.scores["bought"].train < 1
