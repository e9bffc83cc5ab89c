"""The fit: batches, weights of rows, early stopping, progress, and errors."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from tests.harness import tiny  # noqa: E402  (after the check above)
from tests.training.runs import EVERYTHING, SMALL, fit_spec, fruits, run  # noqa: E402  (after the check above)
from training import build, data, fit  # noqa: E402  (after the check above)
from training.built import feed  # noqa: E402  (after the check above)
from training.errors import FitError  # noqa: E402  (after the check above)
from training.rows import pairs, split  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras


def test_rows_are_joined_by_their_key(tmp_path):
    """With align = "key", a row of one file meets its partner of another in every batch."""
    text = """
name = "joined"
align = "key"
[inputs.a]
csv = "a.csv"
key = "id"
[inputs.b]
csv = "b.csv"
key = "id"
[heads.y]
after = ["a", "b"]
kind = "regression"
target = "a"
[fit]
batch_size = 4
"""
    a = "id,p,t\n" + "".join(f"{n},{n},{n}\n" for n in range(9))
    b = "id,q,u\n" + "".join(f"{n},{n * 10},0\n" for n in reversed(range(9)))
    loaded, rows = tiny.load(tmp_path, text, a=a, b=b)
    fit.seed(0)
    batches = fit.Batches(loaded, build.build(loaded, rows), rows, {"y": None})

    seen = [batches[n] for n in range(len(batches))]

    assert [len(y["y"]) for _, y in seen] == [4, 4, 1]
    for x, y in seen:
        assert np.array_equal(x["a"] * 10, x["b"][:, :1])
        assert np.array_equal(x["a"], y["y"])
    assert sorted(np.concatenate([y["y"] for _, y in seen]).reshape(-1)) == list(range(9))


def test_rows_of_independent_files_meet_others_each_epoch(tmp_path):
    """With align = "sample", all rows of the longest file are used, and pairs differ by epoch."""
    text = """
name = "sampled"
align = "sample"
[inputs.a]
csv = "a.csv"
[inputs.b]
csv = "b.csv"
[heads.y]
after = ["a", "b"]
kind = "regression"
target = "a"
[heads.z]
after = ["a", "b"]
kind = "regression"
target = "b"
"""
    a = "p,t\n" + "".join(f"{n},{n}\n" for n in range(20))
    b = "q,u\n" + "".join(f"{n},{n}\n" for n in range(6))
    loaded, rows = tiny.load(tmp_path, text, a=a, b=b)
    fit.seed(0)
    batches = fit.Batches(loaded, build.build(loaded, rows), rows, {"y": None, "z": None})
    epochs = []
    for _ in range(2):
        batches.on_epoch_begin()
        [(x, y)] = [batches[n] for n in range(len(batches))]
        assert np.array_equal(x["a"], y["y"])
        assert np.array_equal(x["b"], y["z"])
        assert sorted(x["a"].reshape(-1)) == list(range(20))
        assert set(np.bincount(x["b"].reshape(-1).astype(int))) <= {3, 4}
        epochs.append(dict(zip(x["a"].reshape(-1), x["b"].reshape(-1), strict=True)))
    assert epochs[0] != epochs[1]


def test_class_weights_become_weights_of_rows(tmp_path):
    """A row has the weight of its label; for a head without weights it counts once."""
    text = EVERYTHING.replace("validation_split = 0.25\npatience = 5\n", "")
    tables = {"people": tiny.people(), "fruits": fruits(), "pictures": tiny.pictures()}
    loaded, rows = tiny.load(tmp_path, text, **tables)
    weights = {name: fit._weights(head, rows) for name, head in loaded.heads.items()}

    assert weights["which"].tolist() == [2, 1, 0.5]
    bought = rows.sources["people.csv"].targets["bought"]
    no, yes = (bought == 0).sum(), (bought == 1).sum()
    assert weights["bought"].tolist() == pytest.approx([24 / (2 * no), 24 / (2 * yes)])
    assert weights["size"] is None

    fit.seed(0)
    batches = fit.Batches(loaded, build.build(loaded, rows), rows, weights)
    _, y, w = batches[0]
    assert np.array_equal(w["which"], weights["which"][y["which"]])
    assert np.array_equal(w["bought"], weights["bought"][y["bought"].astype(int).reshape(-1)])
    assert np.array_equal(w["size"], np.ones(8))
    assert y["side"].shape == (8, 2)


def test_patience_stops_early_and_keeps_the_best_weights(tmp_path, capsys):
    """The fit ends when the held-out loss has not improved, with the weights of the best epoch."""
    text = SMALL.replace("epochs = 2", "epochs = 40\nlearning_rate = 0.3").replace(
        "[fit]", "[fit]\nvalidation_split = 0.3\npatience = 2"
    )

    loaded, _, fitted = fit_spec(tmp_path, text)

    losses = [
        float(number)
        for number in re.findall(r"held out: bought loss (\d+\.\d+)", capsys.readouterr().err)
    ]
    assert fitted.epochs == len(losses) < 40
    assert losses.index(min(losses)) == len(losses) - 3
    _, held_out = split(data.load(loaded, None), 0.3, 0)
    x, y = pairs(held_out, np.random.default_rng(0))
    inputs = {name: feed(array) for name, array in x.items()}
    loss = fitted.built.model.evaluate(inputs, y, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(min(losses), abs=1e-4)


def test_a_fit_that_diverges_publishes_nothing(tmp_path):
    """A loss of NaN ends the run with a message about the usual remedies."""
    text = SMALL.replace("epochs = 2", "epochs = 9\noptimizer = 'sgd'\nlearning_rate = 1e30")
    text = text.replace('kind = "binary"', 'kind = "regression"')
    path = tiny.write(tmp_path, text, people=tiny.people())

    done = run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, FitError)
    assert re.fullmatch(
        rf"{re.escape(str(path))}: the fit diverged: the loss is no number in epoch \d; nothing is"
        " published. A smaller fit.learning_rate, or a Normalization layer behind the inputs,"
        " usually helps",
        str(done.exception),
    )
    assert not (tmp_path / "models").exists()


def test_a_step_that_keras_refuses_is_reported_with_its_message(tmp_path):
    """A metric that does not fit its target stops the fit with a message and no traceback."""
    text = SMALL.replace('kind = "binary"', 'kind = "multiclass"\nmetric = "f1_score"')

    with pytest.raises(FitError) as raised:
        fit_spec(tmp_path, text)

    assert str(raised.value).startswith(f"{tmp_path}/tiny.toml: Keras could not fit it: ")


def test_a_terminal_shows_a_bar_while_an_epoch_runs(tmp_path, monkeypatch):
    """On a terminal, a bar moves with every batch, and the line of each epoch stays above it."""
    written = []

    class Terminal:
        encoding = "utf-8"

        def write(self, text):
            written.append(text)
            return len(text)

        def flush(self):
            pass

        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    fit_spec(tmp_path)

    shown = "".join(written)
    assert "━" in shown
    assert "1/1" in shown
    assert re.search(r"epoch 2/2 +bought loss \d\.\d{4} accuracy \d\.\d{4}", shown)


def test_the_seed_of_the_fit_alone_decides(tmp_path):
    """Two fits with one seed in one process end with equal weights, and another seed does not."""
    weights = []
    for seed in (1, 1, 2):
        loaded, rows = tiny.load(tmp_path, SMALL, people=tiny.people())
        loaded = replace(loaded, fit=replace(loaded.fit, seed=seed))
        fit.seed(seed)
        built = build.build(loaded, rows)
        fitted = fit.fit(loaded, built, rows, None)
        weights.append(np.concatenate([a.reshape(-1) for a in fitted.built.model.get_weights()]))

    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])
