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


# Two heads of one layer without preparation, which a run of plain Keras repeats below.
SKIPPING = """
name = "skipping"
[inputs.t]
csv = "t.csv"
columns = ["p", "q"]
[layers.h]
after = "t"
Dense = { units = 4, activation = "tanh" }
[heads.yes]
after = "h"
kind = "binary"
target = "t.yes"
missing = "skip"
[heads.much]
after = "h"
kind = "regression"
target = "t.much"
[fit]
batch_size = 8
epochs = 4
validation_split = 0.25
seed = 5
"""


def _plain_keras(seen, held_out, weights_of):
    """Fit the model of `SKIPPING` with Keras alone; return its history and model.

    Sample weights of the head `yes` are `weights_of` its targets.
    """
    fit.seed(5)
    inputs = keras.Input((2,), name="t")
    h = keras.layers.Dense(4, activation="tanh", name="h")(inputs)
    heads = {
        "yes": keras.layers.Dense(1, activation="sigmoid", name="yes")(h),
        "much": keras.layers.Dense(1, activation="linear", name="much")(h),
    }
    model = keras.Model(inputs, heads)
    model.compile(
        optimizer="adam",
        loss={"yes": "binary_crossentropy", "much": "mean_squared_error"},
        weighted_metrics={"yes": ["accuracy"]},
        jit_compile=False,
    )

    def arrays(rows):
        [source] = rows.sources.values()
        weights = {name: weights_of(source.targets[name].reshape(-1)) for name in heads}
        return source.arrays["t"], {n: np.nan_to_num(source.targets[n]) for n in heads}, weights

    x, y, weights = arrays(seen)
    rng = np.random.default_rng(5)
    rng.permutation(len(x))  # of the batch that Keras takes before the first epoch
    history = []
    for _ in range(4):
        order = rng.permutation(len(x))
        done = model.fit(
            x[order],
            {name: targets[order] for name, targets in y.items()},
            sample_weight={name: weight[order] for name, weight in weights.items()},
            validation_data=arrays(held_out),
            validation_batch_size=512,  # as ours: Keras averages the losses of batches
            batch_size=8,
            shuffle=False,
            verbose=0,
        )
        history.append({name: values[0] for name, values in done.history.items()})
    return history, model


def _skipping(tmp_path, monkeypatch, gaps):
    """Fit `SKIPPING` with `gaps` in a head; return the history, its data and the fitted model."""
    rng = np.random.default_rng(0)
    rows = [(p, q, int(p > q), f"{p + q:.3f}") for p, q in rng.normal(size=(40, 2)).round(3)]
    lines = [f"{p},{q},{'' if n in gaps else yes},{m}" for n, (p, q, yes, m) in enumerate(rows)]
    loaded, data_ = tiny.load(tmp_path, SKIPPING, t="\n".join(["p,q,yes,much", *lines]) + "\n")
    fit.seed(5)
    seen, held_out = split(data_, 0.25, 5)
    built = build.build(loaded, seen)
    histories, keras_fit = [], built.model.fit
    monkeypatch.setattr(
        built.model,
        "fit",
        lambda *a, **more: histories.append(keras_fit(*a, **more)) or histories[0],
    )
    fitted = fit.fit(loaded, built, seen, held_out)
    logs = histories[0].history
    return [{n: v[e] for n, v in logs.items()} for e in range(4)], (seen, held_out), fitted


def test_a_head_that_skips_rows_has_the_losses_of_keras_with_weights_of_0_and_1(
    tmp_path, monkeypatch
):
    """Losses of all epochs are those of a run that weighs rows without the target 0."""
    # The first 12 rows: a batch of 8 may have no row of the head, and another one only such.
    gaps = {*range(12), 30, 33}

    ours, (seen, held_out), fitted = _skipping(tmp_path, monkeypatch, gaps)
    theirs, plain = _plain_keras(seen, held_out, lambda y: (~np.isnan(y)).astype(np.float32))

    assert seen.partial == ("yes",)
    for mine, keras_own in zip(ours, theirs, strict=True):
        for name in ("loss", "yes_loss", "much_loss", "val_loss", "val_yes_loss", "yes_accuracy"):
            assert mine[name] == pytest.approx(keras_own[name], abs=1e-6), name
    for mine, keras_own in zip(fitted.built.model.get_weights(), plain.get_weights(), strict=True):
        assert np.allclose(mine, keras_own, atol=1e-6)
    score = fitted.scores["yes"]
    assert (score.rows + score.held_out_rows, fitted.scores["much"].rows) == (26, 30)
    assert score.held_out == pytest.approx(ours[-1]["val_yes_accuracy"], abs=1e-6)


def test_a_head_that_skips_no_row_learns_as_without_the_key(tmp_path, monkeypatch):
    """Weights of 1 change nothing: the weights of the layers are equal, byte for byte."""
    _, (seen, held_out), fitted = _skipping(tmp_path, monkeypatch, set())
    _, plain = _plain_keras(seen, held_out, lambda y: np.ones(len(y), np.float32))
    text = SKIPPING.replace('missing = "skip"\n', "")
    *_, without = fit_spec(tmp_path, text, t=(tmp_path / "t.csv").read_text())

    assert seen.partial == ()
    for array, of_keras, other in zip(
        *(m.get_weights() for m in (fitted.built.model, plain, without.built.model)), strict=True
    ):
        assert array.tobytes() == of_keras.tobytes() == other.tobytes()


def test_weights_of_classes_and_of_missing_targets_are_multiplied(tmp_path):
    """A row without the target has weight 0; "balanced" counts the other rows alone."""
    lines = ["p,y,z", *(f"{n},{'' if n % 3 == 0 else int(n > 5)},{n}" for n in range(12))]
    text = SKIPPING.replace('columns = ["p", "q"]', 'columns = ["p"]')
    text = (
        text.replace("t.yes", "t.y").replace("t.much", "t.z").replace("_split = 0.25", "_split = 0")
    )
    text = text.replace('missing = "skip"', 'missing = "skip"\nclass_weights = "balanced"')
    loaded, rows = tiny.load(tmp_path, text.replace("size = 8", "size = 12"), t="\n".join(lines))
    weights = {name: fit._weights(head, rows) for name, head in loaded.heads.items()}
    batches = fit.Batches(loaded, build.build(loaded, rows), rows, weights)

    x, y, w = batches[0]

    assert weights["yes"].tolist() == [1, 1]
    assert np.array_equal(w["yes"], (x["t"].reshape(-1) % 3 != 0).astype(np.float32))
    assert np.array_equal(w["much"], np.ones(12))
    assert np.isfinite(y["yes"]).all()


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
        rf"{re.escape(str(path))}: the fit diverged: the loss of head 'bought' is no finite number,"
        r" since batch 1 of epoch \d/9; nothing is published. A smaller fit.learning_rate, or a"
        " Normalization layer behind the inputs, usually helps",
        str(done.exception),
    )
    assert not (tmp_path / "models").exists()


def test_the_head_whose_loss_is_not_finite_is_named_at_once(tmp_path):
    """The square of 1e30 is infinite in float32, in the first batch; the other is not named."""
    text = SMALL + "batch_size = 8\n"
    text = text.replace(
        "[fit]", '[heads.much]\nafter = "h"\nkind = "regression"\ntarget = "people.much"\n[fit]'
    )
    lines = tiny.people().splitlines()
    table = "\n".join([f"much,{lines[0]}", *(f"1e30,{line}" for line in lines[1:])])

    with pytest.raises(FitError) as raised:
        fit_spec(tmp_path, text, people=table)

    expected = "the loss of head 'much' is no finite number, since batch 1 of epoch 1/2; nothing"
    assert expected in str(raised.value)


def test_a_step_that_keras_refuses_is_reported_with_its_message(tmp_path):
    """A metric that does not fit its target stops the fit with a message and no traceback."""
    text = SMALL.replace('kind = "binary"', 'kind = "multiclass"\nmetric = "f1_score"')

    with pytest.raises(FitError) as raised:
        fit_spec(tmp_path, text)

    assert str(raised.value).startswith(f"{tmp_path}/tiny.toml: Keras could not fit it: ")


def test_a_metric_with_a_value_for_each_class_is_their_mean(tmp_path):
    """F1Score has such values, and the line of an epoch has one number."""
    text = SMALL.replace('kind = "binary"', 'kind = "binary"\nmetric = "f1_score"')
    path = tiny.write(tmp_path, text, people=tiny.people())

    done = run("train", path, "--models", tmp_path / "models")

    assert done.exit_code == 0, (done.output, done.exception)
    assert re.search(r"epoch 2/2 +bought loss \d\.\d{4} f1_score \d\.\d{4}\n", done.stderr)


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
