"""The whole run: a spec and its CSVs become a published file, or nothing and a reason."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.app import create_app  # noqa: E402  (after the check above)
from service.commands.main import main  # noqa: E402  (after the check above)
from service.errors import CannotRun, SettingsError, TricepsError  # noqa: E402  (after the check above)
from service.inference.model import Model  # noqa: E402  (after the check above)
from service.repository import publish as publishing  # noqa: E402  (after the check above)
from service.settings import Settings  # noqa: E402  (after the check above)
from tests.harness import tiny  # noqa: E402  (after the check above)
from training import build, cli, data, export, fit, quiet  # noqa: E402  (after the check above)
from training import spec as specs  # noqa: E402  (after the check above)
from training.built import feed  # noqa: E402  (after the check above)
from training.errors import ExportError, FitError, SpecError  # noqa: E402  (after the check above)
from training.rows import pairs, split  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "training" / "specs"

# Every kind of head, input and align = "sample", in one model: text columns in the block and by
# name, an embedding, a convolution, a shared layer, class weights, another metric, a view.
EVERYTHING = """
name = "everything"
align = "sample"

[inputs.people]
csv = "people.csv"
[inputs.fruit]
csv = "fruits.csv"
columns = ["weight", "length"]
[inputs.picture]
csv = "pictures.csv"
header = false
target = 0
image = [4, 4]

[layers.habit]
after = "people.smoker"
StringLookup = {}
[layers.habit_vector]
after = "habit"
Embedding = { input_dim = 4, output_dim = 2 }
[layers.habit_flat]
after = "habit_vector"
Flatten = {}
[layers.scaled]
after = "people"
Normalization = {}
[layers.pixels]
after = "picture"
Rescaling = { scale = 0.00392156862745098 }
[layers.grid]
after = "pixels"
Reshape = { target_shape = [4, 4, 1] }
[layers.conv]
after = "grid"
Conv2D = { filters = 2, kernel_size = 3 }
[layers.norm]
after = "conv"
BatchNormalization = {}
[layers.flat]
after = "norm"
Flatten = {}
[layers.trunk]
after = ["scaled", "habit_flat", "fruit", "flat"]
Dense = { units = 8, activation = "relu" }
[layers.drop]
after = "trunk"
Dropout = { rate = 0.2 }
[layers.deep]
after = "drop"
Dense = { units = 8, activation = "relu" }
[layers.deeper]
after = "deep"
share = "deep"

[heads.bought]
after = "deeper"
kind = "binary"
target = "people"
labels = ["no", "yes"]
threshold = 0.4
class_weights = "balanced"
[heads.which]
after = "deeper"
kind = "multiclass"
target = "fruit"
class_weights = { apple = 2, cherry = 0.5 }
[heads.side]
after = "trunk"
kind = "multiclass"
target = "picture"
loss = "categorical_crossentropy"
[heads.size]
after = "deep"
kind = "regression"
target = ["fruit.weight2", "fruit.length2"]
loss_weight = 0.1
[heads.marks]
after = "deep"
kind = "multilabel"
target = ["fruit.ripe", "fruit.big"]
metric = "auc"

[models.tables]
heads = ["bought", "which"]

[fit]
optimizer = { Adam = { learning_rate = 0.01 } }
epochs = 2
batch_size = 8
validation_split = 0.25
patience = 5
seed = 3
"""


def _fruits():
    lines = tiny.fruits().splitlines()
    rows = [f"weight2,length2,ripe,big,{lines[0]}"]
    rows += [f"{n / 7},{n % 5},{n % 2},{int(n > 8)},{line}" for n, line in enumerate(lines[1:])]
    return "\n".join(rows) + "\n"


SMALL = """
name = "small"
[inputs.people]
csv = "people.csv"
[layers.n]
after = "people"
Normalization = {}
[layers.h]
after = "n"
Dense = { units = 4, activation = "relu" }
[heads.bought]
after = "h"
kind = "binary"
target = "people"
[fit]
epochs = 2
"""


# Ages go up to 59.
EMBEDDED = """[layers.vectors]
after = "people"
Embedding = { input_dim = 5, output_dim = 2 }
[layers.flat]
after = "vectors"
Flatten = {}
[heads"""


def _run(*arguments):
    """The command as the program runs it; the exit code and what was said."""
    command = {"train": cli.train, "export": cli.export}[arguments[0]]
    arguments = [str(argument) for argument in arguments[1:]]
    return CliRunner().invoke(command, arguments, catch_exceptions=True)


@pytest.fixture(scope="module", name="everything")
def _everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything")
    path = tiny.write(
        folder, EVERYTHING, people=tiny.people(), fruits=_fruits(), pictures=tiny.pictures()
    )
    done = _run("train", path, "--models", folder / "models")
    assert done.exit_code == 0, (done.output, done.exception)
    return path, folder / "models", done


def _fitted(folder, text=SMALL, **tables):
    loaded, rows = tiny.load(folder, text, **(tables or {"people": tiny.people()}))
    fit.seed(loaded.fit.seed)
    seen, held_out = split(rows, loaded.fit.validation_split, loaded.fit.seed)
    built = build.build(loaded, seen)
    return loaded, seen, fit.fit(loaded, built, seen, held_out)


def test_a_run_publishes_one_file_and_says_where(everything):
    """The model's first version is there, and nothing else is left behind."""
    path, models, done = everything

    assert [str(file.relative_to(models)) for file in models.rglob("*")] == [
        "everything",
        "everything/1",
        "everything/1/model.onnx",
    ]
    last = done.stdout.splitlines()[-1]
    assert last == f"published everything, version 1: {models / 'everything/1/model.onnx'}"
    assert path.exists()


def test_a_run_ends_with_a_table_of_its_heads(everything):
    """Per head: rows, metric, both scores, the baseline and the difference to Keras."""
    *_, done = everything
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in done.stdout.splitlines()
        if line.startswith("│")
    ]

    assert "head" in done.stdout
    assert [row[:3] for row in rows] == [
        ["bought", "18 + 6", "accuracy"],
        ["which", "14 + 4", "accuracy"],
        ["side", "15 + 5", "accuracy"],
        ["size", "14 + 4", "mae"],
        ["marks", "14 + 4", "auc"],
    ]
    assert all(float(cell) >= 0 for row in rows for cell in row[3:6])
    assert all(float(row[6]) < 1e-4 for row in rows)


def test_a_run_tells_every_epoch_in_a_plain_line(everything):
    """Where there is no terminal, each epoch is one line with every head's loss and metric."""
    *_, done = everything
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch")]

    number = r"\d+\.\d{4}"
    heads = "  ".join(
        rf"{head} loss {number} {metric} {number}"
        for head, metric in [
            ("bought", "accuracy"),
            ("which", "accuracy"),
            ("side", "accuracy"),
            ("size", "mae"),
            ("marks", "auc"),
        ]
    )
    expected = rf"epoch [12]/2  loss {number}  {heads}  held out: loss {number}  {heads}"
    assert len(lines) == 2
    assert all(re.fullmatch(expected, line) for line in lines)


def test_the_file_says_what_it_is(everything):
    """Inputs, features, labels, thresholds, defaults, views and golden rows are in the file."""
    _, models, _ = everything
    signature = Model.load(models / "everything/1/model.onnx").signature

    assert list(signature.inputs) == ["people", "fruit", "picture"]
    assert {t.name for t in signature.inputs["people"].tensors} == {"people", "people.smoker"}
    smoker = next(f for f in signature.inputs["people"].features if f.name == "smoker")
    assert (smoker.vocabulary, smoker.default) == (("no", "yes"), "yes")
    assert signature.inputs["picture"].size == (4, 4)
    assert [(h.name, h.kind, h.labels, h.threshold) for h in signature.heads.values()] == [
        ("bought", "binary", ("no", "yes"), 0.4),
        ("which", "multiclass", ("apple", "banana", "cherry"), None),
        ("side", "multiclass", ("0", "1"), None),
        ("size", "regression", None, None),
        ("marks", "multilabel", ("ripe", "big"), 0.5),
    ]
    assert signature.models == {"tables": ("bought", "which")}
    assert signature.batch is None
    assert {len(rows) for rows in signature.golden.inputs.values()} == {5}
    assert list(signature.golden.outputs) == list(signature.heads)


def test_the_file_says_where_it_comes_from(everything):
    """Spec, seed, libraries, rows, epochs and scores; no time and no path of this machine."""
    path, models, done = everything
    provenance = Model.load(models / "everything/1/model.onnx").signature.provenance

    assert provenance["spec"] == "everything"
    assert provenance["spec_sha256"] == specs.load(path).digest
    assert (provenance["seed"], provenance["epochs"]) == (3, 2)
    assert provenance["rows"] == {"people.csv": 18, "fruits.csv": 14, "pictures.csv": 15}
    assert set(provenance["libraries"]) == {"keras", "numpy", "onnx", "tensorflow", "tf2onnx"}
    assert provenance["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    scores = provenance["scores"]
    assert list(scores) == ["bought", "which", "side", "size", "marks"]
    assert (scores["size"]["rows"], scores["size"]["held_out_rows"]) == (14, 4)
    assert set(scores["size"]) >= {"metric", "train", "held_out", "baseline"}
    assert f"{scores['size']['held_out']:.4f}" in done.stdout
    assert str(path.parent) not in json.dumps(provenance)


def test_the_graph_takes_any_number_of_rows(everything):
    """All inputs and outputs share one batch axis, and unseen texts are answered too."""
    _, models, _ = everything
    model = Model.load(models / "everything/1/model.onnx")
    arrays = {
        "people": np.array([[30.0]], np.float32),
        "people.smoker": np.array([["never heard of"]], object),
        "fruit": np.array([[1.0, 2.0]], np.float32),
        "picture": np.full((1, 16), 9, np.float32),
    }

    one = model.predict(arrays, list(model.signature.heads))
    three = model.predict(
        {name: np.repeat(array, 3, axis=0) for name, array in arrays.items()},
        list(model.signature.heads),
    )

    for head, answer in one.items():
        assert np.allclose(three[head], np.repeat(answer, 3, axis=0), atol=1e-6)
    graph = onnx.load(models / "everything/1/model.onnx").graph
    axes = {
        axis.dim_param
        for value in (*graph.input, *graph.output)
        for axis in value.type.tensor_type.shape.dim[:1]
    }
    assert axes == {"batch"}


def test_the_same_seed_gives_the_same_bytes_in_another_process(everything):
    """Trained again elsewhere, with other hash seeds, the file is equal byte for byte."""
    path, models, _ = everything
    again = path.parent / "again"
    code = "from training.cli import train; train()"

    done = subprocess.run(
        [sys.executable, "-c", code, str(path), "--models", str(again)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "4"},
    )

    assert done.returncode == 0, done.stderr
    files = [folder / "everything/1/model.onnx" for folder in (models, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    # And whatever TensorFlow has to say of the processor is not said.
    assert all(line.startswith("epoch") for line in done.stderr.splitlines())


def test_another_seed_and_other_epochs_give_another_version(tmp_path):
    """`--seed` and `--epochs` win over the spec, and a second run is the next version."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    models = tmp_path / "models"

    first = _run("train", path, "--models", models)
    second = _run("train", path, "--models", models, "--seed", 5, "--epochs", 1)

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert second.stdout.splitlines()[-1].startswith("published small, version 2: ")
    found = [
        Model.load(models / "small" / version / "model.onnx").signature.provenance
        for version in ("1", "2")
    ]
    assert [(entry["seed"], entry["epochs"]) for entry in found] == [(0, 2), (5, 1)]
    assert found[0]["scores"]["bought"]["held_out"] is None
    assert "–" in first.stdout  # noqa: RUF001  (a dash)


def test_data_are_looked_for_where_the_command_says(tmp_path):
    """`--data` names another folder than that of the spec."""
    (tmp_path / "elsewhere").mkdir()
    path = tiny.write(tmp_path, SMALL)
    (tmp_path / "elsewhere" / "People.csv").write_text(tiny.people().replace(",no,", ",,"))

    done = _run(
        "train", path, "--models", tmp_path / "m", "--data", tmp_path / "elsewhere", "--epochs", 1
    )

    assert done.exit_code == 0, (done.output, done.exception)
    assert "note: People.csv: column 'smoker'" in done.stderr


def _heads_of(answer):
    """The heads in an answer by rows, or in one by head."""
    rows = answer.get("predictions") or [answer["outputs"]]
    return set().union(*rows)


@pytest.mark.parametrize(
    ("name", "arguments", "heads"),
    [
        pytest.param("functional", (), {"out"}, id="functional"),
        pytest.param("shared", (), {"out", "out22"}, id="shared"),
        pytest.param("three_heads", (), {"o1", "o2", "o3"}, id="three_heads"),
        pytest.param("triceps", ("--epochs", 1), {"o1", "o2", "o3"}, id="triceps"),
    ],
)
def test_the_shipped_specs_train_and_answer(tmp_path, name, arguments, heads):
    """Each shipped spec is trained, exported and answers its golden rows by every view."""
    done = _run("train", SPECS / f"{name}.toml", "--models", tmp_path, *arguments)

    assert done.exit_code == 0, (done.output, done.exception)
    model = Model.load(tmp_path / name / "1" / "model.onnx")
    assert set(model.signature.heads) == heads
    assert (model.batching.mode, model.batching.evidence) == ("rows", "operators")
    assert done.stdout.splitlines()[-2] == f"batching: {model.batching}"
    views = {"all": tuple(model.signature.heads), **model.signature.models}
    for view in views.values():
        answers = model.predict(model.golden_arrays(), view)
        assert {len(answer) for answer in answers.values()} == {5}
    assert model.check_golden(1e-5) <= 1e-5
    client = create_app(Settings(models=tmp_path)).test_client()
    for view, expected in {name: heads, **model.signature.models}.items():
        example = client.get(f"/models/{view}/example")
        answer = client.post(f"/models/{view}/predict", json=example.json)
        described = client.get(f"/models/{view}").json
        assert (example.status_code, answer.status_code) == (200, 200)
        assert set(described["heads"]) == set(expected)
        assert _heads_of(answer.json) == set(expected)
    assert len((tmp_path / name / "1" / "model.onnx").read_bytes()) <= 1_000_000


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
    """With align = "sample", all rows of the longest are used, and pairs differ by epoch."""
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
    """A row counts what its label counts; a head without weights counts each row once."""
    text = EVERYTHING.replace("validation_split = 0.25\npatience = 5\n", "")
    tables = {"people": tiny.people(), "fruits": _fruits(), "pictures": tiny.pictures()}
    loaded, rows = tiny.load(tmp_path, text, **tables)
    weights = {name: fit._weights(loaded, head, rows) for name, head in loaded.heads.items()}

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


def test_a_class_weight_for_a_label_that_the_data_lack_is_refused(tmp_path):
    """Where the spec has no labels, the data's are those that weights may name."""
    text = SMALL.replace('kind = "binary"', 'kind = "binary"\nclass_weights = { yes = 2 }')

    with pytest.raises(SpecError) as raised:
        _fitted(tmp_path, text)

    expected = f"{tmp_path}/tiny.toml: heads.bought.class_weights.yes: no such label; labels: 0, 1"
    assert str(raised.value) == expected


def test_patience_stops_early_and_keeps_the_best_weights(tmp_path, capsys):
    """The fit ends when held-out loss has not improved, with the weights of its best epoch."""
    text = SMALL.replace("epochs = 2", "epochs = 40\nlearning_rate = 0.3").replace(
        "[fit]", "[fit]\nvalidation_split = 0.3\npatience = 2"
    )

    loaded, _, fitted = _fitted(tmp_path, text)

    told = [
        float(found)
        for found in re.findall(r"held out: bought loss (\d+\.\d+)", capsys.readouterr().err)
    ]
    assert fitted.epochs == len(told) < 40
    assert told.index(min(told)) == len(told) - 3
    _, held_out = split(data.load(loaded, None), 0.3, 0)
    x, y = pairs(held_out, np.random.default_rng(0))
    inputs = {name: feed(array) for name, array in x.items()}
    loss = fitted.built.model.evaluate(inputs, y, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(min(told), abs=1e-4)


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
    """Always the commonest class, or the mean: what a head has to beat."""
    table = "p,b,c,d,e\n1,1,x,0,0\n2,1,y,0,0\n3,1,z,0,0\n4,0,x,0,3\n" * 2
    table = table.replace("p,b,c,d,e\n", "", 1)
    table = "p,b,c,d,e\n" + table.replace("p,b,c,d,e\n", "").replace(",0,3", ",0,6")
    text = (
        'name = "base"\n[inputs.t]\ncsv = "t.csv"\ncolumns = ["p"]\n'
        f'[heads.y]\nafter = "t"\nkind = "{kind}"\ntarget = {target}\n[fit]\nepochs = 1\n'
    )
    if kind == "regression":
        expected = (1.5 * 6 + 4.5 * 2) / 8

    *_, fitted = _fitted(tmp_path, text, t=table)

    assert fitted.scores["y"].baseline == pytest.approx(expected)


def test_a_fit_that_diverges_publishes_nothing(tmp_path):
    """When the loss is no number, the run ends there, with what usually helps."""
    text = SMALL.replace("epochs = 2", "epochs = 9\noptimizer = 'sgd'\nlearning_rate = 1e30")
    text = text.replace('kind = "binary"', 'kind = "regression"')
    path = tiny.write(tmp_path, text, people=tiny.people())

    done = _run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, FitError)
    assert re.fullmatch(
        rf"{re.escape(str(path))}: the fit diverged: the loss is no number in epoch \d; nothing is"
        " published. A smaller fit.learning_rate, or a Normalization layer behind the inputs,"
        " usually helps",
        str(done.exception),
    )
    assert not (tmp_path / "models").exists()


def test_a_step_that_keras_cannot_take_is_told_in_its_words(tmp_path):
    """A metric that does not fit its target stops the fit with a message and no traceback."""
    text = SMALL.replace('kind = "binary"', 'kind = "multiclass"\nmetric = "f1_score"')

    with pytest.raises(FitError) as raised:
        _fitted(tmp_path, text)

    assert str(raised.value).startswith(f"{tmp_path}/tiny.toml: Keras could not fit it: ")


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        pytest.param(1.01, "head 'bought' does not answer its golden rows", id="other answers"),
        pytest.param(np.nan, "what is no finite number", id="no answers"),
    ],
)
def test_a_file_that_answers_otherwise_than_keras_is_not_published(
    tmp_path, monkeypatch, factor, expected
):
    """The finished bytes are held against Keras; a difference is refused by head."""
    loaded, seen, fitted = _fitted(tmp_path)
    predict = export.predict
    monkeypatch.setattr(
        export, "predict", lambda *given: {h: a * factor for h, a in predict(*given).items()}
    )

    with pytest.raises(ExportError) as raised:
        export.export(loaded, fitted, seen, tmp_path / "models")

    assert expected in str(raised.value)
    assert str(raised.value).endswith("; nothing was published")
    assert not (tmp_path / "models").exists()


def test_a_difference_in_random_rows_alone_is_refused_too(tmp_path, monkeypatch):
    """Golden rows that agree are not enough: head, rows and the largest difference are named."""
    loaded, seen, fitted = _fitted(tmp_path)
    predict = export.predict

    def wrong(built, arrays):
        answers = predict(built, arrays)
        rows = len(next(iter(arrays.values())))
        return {h: a + (0.001 if rows == 33 else 0) for h, a in answers.items()}

    monkeypatch.setattr(export, "predict", wrong)

    with pytest.raises(ExportError) as raised:
        export.export(loaded, fitted, seen, tmp_path / "models")

    assert str(raised.value) == (
        "head 'bought' does not answer as Keras does: random rows in a batch of 1 differ by 0.001,"
        " expected at most 0.0001; nothing was published"
    )
    assert not (tmp_path / "models").exists()


def test_a_layer_that_does_not_convert_is_refused_before_the_fit(tmp_path):
    """What ONNX has no counterpart of is told at once, with the layer, and not after an hour."""
    text = SMALL.replace(
        '[heads.bought]\nafter = "h"',
        '[layers.words]\nafter = "people.smoker"\n'
        'TextVectorization = { output_mode = "multi_hot" }\n'
        '[layers.flat]\nafter = "words"\nFlatten = {}\n'
        '[heads.bought]\nafter = ["h", "flat"]',
    )
    path = tiny.write(tmp_path, text, people=tiny.people())

    done = _run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, SpecError)
    said = str(done.exception)
    assert said.startswith(f"{path}: cannot be exported: layer 'words': ONNX has no counterpart of")
    assert "epoch" not in done.stderr


def test_what_tf2onnx_says_is_told_before_the_fit(tmp_path, monkeypatch):
    """An exception from deep inside is one line, without the places that it came through."""

    def fail(*_, **__):
        raise ValueError(
            'in user code:\n\n    File "/somewhere/inside.py", line 1, in call\n\n'
            "    ValueError: Negative dimension [[{{node somewhere}}]]\n"
        )

    loaded, rows = tiny.load(tmp_path, SMALL, people=tiny.people())
    built = build.build(loaded, rows)
    monkeypatch.setattr(quiet.tf2onnx.convert, "from_keras", fail)

    with pytest.raises(SpecError) as raised:
        export.check(loaded, built, rows)

    assert str(raised.value) == (
        f"{loaded.path}: cannot be exported: tf2onnx cannot convert it:"
        " ValueError: Negative dimension"
    )


def test_a_model_that_cannot_answer_new_rows_is_refused_before_the_fit(tmp_path):
    """A look-up without a place for unseen texts would fail on the first of them."""
    text = SMALL.replace(
        '[heads.bought]\nafter = "h"',
        '[layers.words]\nafter = "people.smoker"\n'
        'StringLookup = { output_mode = "one_hot", num_oov_indices = 0 }\n'
        '[heads.bought]\nafter = ["h", "words"]',
    )
    path = tiny.write(tmp_path, text, people=tiny.people())

    done = _run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, SpecError)
    said = str(done.exception)
    assert said.startswith(f"{path}: cannot be exported: Keras does not answer new rows: ")
    assert "num_oov_indices" in said


def test_layers_that_tf2onnx_alone_does_not_convert_are_exported(tmp_path):
    """Discretization and gelu are put into ONNX's words here; half precision is held loosely."""
    layers = (
        '[layers.bins]\nafter = "people"\nDiscretization = { num_bins = 3 }\n'
        '[layers.bent]\nafter = "bins"\n'
        'Dense = { units = 3, activation = "gelu", dtype = "mixed_float16" }\n'
        '[heads.bought]\nafter = ["h", "bent"]'
    )
    text = SMALL.replace('[heads.bought]\nafter = "h"', layers)
    loaded, seen, fitted = _fitted(tmp_path, text)

    exported = export.export(loaded, fitted, seen, tmp_path / "models")

    assert 0 < exported.verified.differences["bought"] < 0.01
    assert Model.load(exported.path).check_golden(0) == 0


def test_no_path_of_this_machine_is_in_the_file(tmp_path):
    """A CSV file named by an absolute path is remembered by its name alone."""
    text = SMALL.replace('"people.csv"', f'"{tmp_path}/people.csv"')
    loaded, seen, fitted = _fitted(tmp_path, text)

    exported = export.export(loaded, fitted, seen, tmp_path / "models")

    assert Model.load(exported.path).signature.provenance["rows"] == {"people.csv": 24}
    assert str(tmp_path).encode() not in exported.path.read_bytes()


def test_a_view_that_is_a_model_already_is_refused(tmp_path):
    """`models/<view>` on the disk and a view of that name cannot both be served."""
    text = SMALL + '[models.one]\nheads = ["bought"]\n'
    path = tiny.write(tmp_path, text, people=tiny.people())
    (tmp_path / "models" / "one" / "1").mkdir(parents=True)

    done = _run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, SpecError)
    folder = tmp_path / "models" / "one"
    assert str(done.exception) == (
        f"{path}: models.one: {folder} is a model of its own already; rename one of them"
    )


def test_a_name_that_another_model_has_as_a_view_is_refused(tmp_path):
    """Before the fit: two models cannot serve one name; a damaged file has no views."""
    models = tmp_path / "models"
    first = SMALL + '[models.one]\nheads = ["bought"]\n'
    path = tiny.write(tmp_path, first, people=tiny.people())
    assert _run("train", path, "--models", models, "--epochs", 1).exit_code == 0
    file = models / "small" / "1" / "model.onnx"
    said = {}
    for key, text in {
        "name": SMALL.replace('"small"', '"one"'),
        "models.one": first.replace('"small"', '"other"'),
    }.items():
        path = tiny.write(tmp_path, text)
        done = _run("train", path, "--models", models)
        assert isinstance(done.exception, SpecError)
        assert "epoch" not in done.stderr
        said[key] = str(done.exception)
    done = _run("export", tmp_path / "any.keras", "--name", "one", "--models", models)
    said["export"] = str(done.exception)
    (models / "damaged" / "1").mkdir(parents=True)
    (models / "damaged" / "1" / "model.onnx").write_bytes(b"no model")
    (models / "small" / "2").mkdir()
    tiny.write(tmp_path, SMALL.replace('"small"', '"one"'))

    tail = f"'one' is a view in {file} already; rename one of them"
    assert said == {
        "name": f"{path}: name: {tail}",
        "models.one": f"{path}: models.one: {tail}",
        "export": f"--name: {tail}",
    }
    cli._check_models(specs.load(path), models)


def test_rows_that_the_graph_has_no_answer_for_are_told_before_the_fit(tmp_path):
    """An Embedding too small for its column: the spec is named, and what ONNX Runtime says."""
    text = re.sub(r"(?s)\[layers\.n\].*\[heads", EMBEDDED, SMALL)
    path = tiny.write(tmp_path, text.replace('after = "h"', 'after = "flat"'), people=tiny.people())

    done = _run("train", path, "--models", tmp_path / "models")

    assert isinstance(done.exception, SpecError), (done.output, done.exception)
    said = str(done.exception)
    assert said.startswith(f"{path}: layers: one of them (which one, ONNX Runtime does not say)")
    assert "the model has no answer for these values: " in said
    assert "epoch" not in done.stderr


def test_rows_that_the_finished_file_has_no_answer_for_are_refused(tmp_path, monkeypatch):
    """What escapes the look before the fit is refused before it is published."""
    loaded, seen, fitted = _fitted(tmp_path)

    def fail(*_):
        raise CannotRun("no answer for these values")

    monkeypatch.setattr(Model, "predict", fail)

    with pytest.raises(ExportError, match=r"no answer.*; nothing was published"):
        export.export(loaded, fitted, seen, tmp_path / "models")


@pytest.mark.parametrize("command", [("train", "spec.toml"), ("export", "a.keras", "--name", "a")])
def test_the_environment_is_checked_as_by_the_service(tmp_path, monkeypatch, command):
    """A variable that is no setting stops with the nearest name; one of them is the repository."""
    monkeypatch.setenv("TRICEPS_MODEL", str(tmp_path))
    done = _run(*command)
    assert isinstance(done.exception, SettingsError)
    assert "TRICEPS_MODEL: expected a setting" in str(done.exception)
    assert "did you mean 'TRICEPS_MODELS'?" in str(done.exception)

    monkeypatch.delenv("TRICEPS_MODEL")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRICEPS_MODELS", str(tmp_path / "file"))
    done = _run(*command)
    assert done.exception.exit_code == 2
    assert str(done.exception).startswith("TRICEPS_MODELS: expected a folder")

    shown = " ".join(_run(command[0], "--help").output.split())
    assert "[TRICEPS_MODELS; default models]" in shown


@pytest.fixture(name="program")
def _program(monkeypatch):
    """The whole program with the two commands in it, whether or not it is installed."""
    monkeypatch.setitem(main.commands, "train", cli.train)
    monkeypatch.setitem(main.commands, "export", cli.export)
    return lambda *arguments: CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.mark.parametrize(
    ("text", "table", "code"),
    [
        pytest.param(SMALL.replace("epochs", "epoch"), tiny.people(), 2, id="spec"),
        pytest.param(SMALL.replace("Dense", "Dens"), tiny.people(), 2, id="layer"),
        pytest.param(SMALL, tiny.people().replace("20,", "old,", 1), 1, id="data"),
    ],
)
def test_exit_codes_say_whose_fault_it_is(tmp_path, program, text, table, code):
    """2 for what the spec says, 1 for what the data are; one message and no traceback."""
    path = tiny.write(tmp_path, text, people=table)

    done = program("train", path, "--models", tmp_path / "models")

    assert done.exit_code == code
    assert done.stderr.startswith("triceps: ")
    assert "Traceback" not in done.output
    assert not (tmp_path / "models").exists()


def test_a_repository_that_cannot_be_written_is_told(tmp_path, program):
    """A file where the models' folder should be: exit 2 before the fit, by the option's name."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    (tmp_path / "models").write_text("")

    done = program("train", path, "--models", tmp_path / "models")

    assert done.exit_code == 2
    assert "--models" in done.stderr


def test_a_folder_without_permission_is_told_before_the_fit(tmp_path, program, monkeypatch):
    """Who may not write into the models is told before waiting for a fit."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    access = os.access
    monkeypatch.setattr(
        cli.os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode)
    )

    done = program("train", path, "--models", tmp_path / "models" / "deep")

    assert done.exit_code == 1
    assert done.stderr == (
        f"triceps: {tmp_path}/models/deep: cannot be written to: permission denied for {tmp_path}\n"
    )


def test_help_has_an_example(program):
    """`--help` of both commands shows a line to type."""
    assert "Example: triceps train " in program("train", "--help").output
    assert "Example: triceps export " in program("export", "--help").output


def test_an_interrupt_leaves_the_models_as_they_were(tmp_path, monkeypatch):
    """Ctrl-C during the fit ends with 130 and one line, and nothing is published."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "fit", interrupt)

    done = _run("train", path, "--models", tmp_path / "models")

    assert done.exit_code == 130
    assert done.stderr == "\ninterrupted; nothing was published\n"
    assert not (tmp_path / "models").exists()


def test_a_model_of_somebody_elses_does_not_stop_a_training(tmp_path, monkeypatch):
    """A folder that cannot be looked into serves no view by the name that is wanted."""
    (tmp_path / "theirs" / "1").mkdir(parents=True)
    real = cli.versions

    def look(folder):
        if folder.name == "theirs":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(cli, "versions", look)

    cli._check_free("name", "mine", "mine", tmp_path)


@pytest.mark.parametrize("moment", ["publish", "report"])
def test_an_interrupt_after_publishing_does_not_deny_it(moment, tmp_path, monkeypatch):
    """Ctrl-C as soon as the version is in its place, or while its scores are printed."""
    path = tiny.write(tmp_path, SMALL, people=tiny.people())
    real = publishing._move_to_next

    def interrupt(*arguments):
        if moment == "publish":
            real(*arguments)
        raise KeyboardInterrupt

    where = (publishing, "_move_to_next") if moment == "publish" else (cli, "_report")
    monkeypatch.setattr(*where, interrupt)

    done = _run("train", path, "--models", tmp_path / "models")

    [name] = [folder.name for folder in (tmp_path / "models").iterdir() if folder.name[0] != "."]
    assert done.exit_code == 130
    assert done.stderr.endswith(f"\ninterrupted; {name}, version 1 had been published\n")


def test_a_real_interrupt_ends_a_real_run(tmp_path):
    """SIGINT in the middle of the epochs: exit 130, one line, no models."""
    path = tiny.write(tmp_path, SMALL.replace("epochs = 2", "epochs = 9999"), people=tiny.people())
    code = "from training.cli import train; train()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), "--models", str(tmp_path / "models")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)

    assert first.startswith("epoch")
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "interrupted; nothing was published"
    assert "Traceback" not in rest
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            SMALL, "train needs TensorFlow: pip install 'triceps[train]', or in", id="good spec"
        ),
        pytest.param(
            SMALL.replace("[fit]", "[fitt]"), "no such key (did you mean 'fit'?)", id="wrong spec"
        ),
    ],
)
def test_without_the_extra_a_spec_is_still_checked(tmp_path, text, expected):
    """Without TensorFlow a wrong spec is told all the same, and a right one what to install."""
    path = tiny.write(tmp_path, text, people=tiny.people())
    code = (
        "import sys\n"
        "for name in ('keras', 'tensorflow', 'tf2onnx', 'pandas'): sys.modules[name] = None\n"
        "from training.cli import train\n"
        "from service.errors import TricepsError\n"
        "try: train([sys.argv[1]], standalone_mode=False)\n"
        "except TricepsError as error: print(error, error.exit_code)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout
    assert done.stdout.split()[-1] == ("1" if text == SMALL else "2")


def test_a_module_missing_for_another_reason_is_no_missing_extra(monkeypatch):
    """A bug of ours is not told as something to install."""
    monkeypatch.setitem(sys.modules, "training.data", None)

    with pytest.raises(ModuleNotFoundError), cli._needs_extra("train"):
        raise ModuleNotFoundError(name="training.nothing")
    with pytest.raises(TricepsError, match="needs TensorFlow"), cli._needs_extra("train"):
        raise ModuleNotFoundError(name="keras.layers")


def test_a_terminal_shows_a_bar_while_an_epoch_runs(tmp_path, monkeypatch):
    """On a terminal a bar moves with every batch; each epoch's line stays above it."""
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

    _fitted(tmp_path)

    shown = "".join(written)
    assert "━" in shown
    assert "1/1" in shown
    assert re.search(r"epoch 2/2 +bought loss \d\.\d{4} accuracy \d\.\d{4}", shown)


def test_the_seed_of_the_fit_alone_decides(tmp_path):
    """Two fits in one process with one seed end with the same weights, and with another not."""
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
