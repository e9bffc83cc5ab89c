"""Specs: a valid one is read, and a wrong one is refused with all its mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.names import NAMES
from tests.training.spec_text import GOOD, LAYER, X_KIND, edit
from training import spec as specs
from training.head_spec import HeadSpec
from training.input_spec import InputSpec
from training.spec import FitSpec, LayerSpec

SPECS = Path(__file__).parents[2] / "training" / "specs"


def test_a_spec_is_read_as_its_inputs_layers_and_heads(tmp_path):
    """A small spec is loaded with defaults for all other keys."""
    path = tmp_path / "small.toml"
    path.write_text(GOOD)

    spec = specs.load(path)

    assert spec.path == path
    assert len(spec.digest) == 64
    assert spec.name == "small"
    assert spec.inputs == {
        "a": InputSpec("a", "a.csv"),
        "b": InputSpec("b", "b.csv", header=False, target=0, image=(2, 2)),
    }
    assert spec.layers == {"h": LayerSpec("h", ("a", "b"), "Dense", {"units": 3})}
    assert spec.heads == {
        "x": HeadSpec("x", ("h",), "binary", (("a", None),), labels=("no", "yes")),
        "y": HeadSpec("y", ("h",), "regression", (("b", None),)),
    }
    assert (spec.models, spec.align, spec.fit) == ({}, "position", FitSpec())


def test_every_key_of_a_spec_is_read(tmp_path):
    """Views, shared layers, keys, targets by column, weights and the fit are loaded."""
    path = tmp_path / "all.toml"
    path.write_text("""
name = "all"
align = "key"
[inputs.a]
csv = "a.csv"
columns = ["p", "q"]
categorical = ["q"]
key = "id"
[inputs.b]
csv = "b.csv"
header = false
columns = [1, "2"]
key = 0
[layers.h]
after = "a"
Dense = { units = 2, kernel_regularizer = { L2 = { l2 = 0.1 } } }
[layers.again]
after = ["a.q", "b"]
share = "h"
[heads.m]
after = ["h", "again"]
kind = "multilabel"
target = ["a.r.s", "a.t"]
labels = ["r", "t"]
threshold = 0.25
loss = "binary_focal_crossentropy"
loss_weight = 2
metric = "auc"
Dense = { use_bias = false }
[heads.c]
after = "h"
kind = "multiclass"
target = "b.3"
class_weights = { x = 1, y = 2.5 }
[heads.d]
after = "c"
kind = "binary"
target = "b"
class_weights = "balanced"
[models."one.2"]
heads = ["m", "c"]
[fit]
optimizer = { SGD = { momentum = 0.9 } }
learning_rate = 0.1
epochs = 3
batch_size = 4
rows = 10
validation_split = 0.25
test_split = 0.125
stratify = "c"
patience = 2
seed = 7
""")

    spec = specs.load(path)

    assert spec.align == "key"
    assert spec.inputs["a"] == InputSpec(
        "a", "a.csv", columns=("p", "q"), categorical=("q",), key="id"
    )
    assert spec.inputs["b"] == InputSpec("b", "b.csv", header=False, columns=("1", "2"), key="0")
    assert spec.layers["again"] == LayerSpec("again", ("a.q", "b"), "Dense", {}, share="h")
    assert spec.heads["m"] == HeadSpec(
        *("m", ("h", "again"), "multilabel", (("a", "r.s"), ("a", "t")), ("r", "t")),
        threshold=0.25,
        loss="binary_focal_crossentropy",
        loss_weight=2.0,
        metric="auc",
        arguments={"use_bias": False},
    )
    assert spec.heads["c"].targets == (("b", 3),)
    assert spec.heads["c"].class_weights == {"x": 1, "y": 2.5}
    assert spec.heads["d"].class_weights == "balanced"
    assert spec.models == {"one.2": ("m", "c")}
    arguments = {"momentum": 0.9, "learning_rate": 0.1}
    assert spec.fit == FitSpec("SGD", arguments, 3, 4, 10, 0.25, 0.125, "c", 2, 7)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_specs_are_right(path):
    """Each spec in the repository loads, and has the name of its file."""
    assert specs.load(path).name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            'name = "small"',
            'name = "small"\nalgn = "key"',
            "algn: no such key (did you mean 'align'?)",
            id="unknown key of the spec",
        ),
        pytest.param(
            LAYER,
            f"{LAYER}\nzzz = 1",
            "layers.h.zzz: no such key; known: after, share, Dense",
            id="unknown key of a layer",
        ),
        pytest.param(
            "[heads.y]",
            "[fit]\nepoch = 3\n[heads.y]",
            "fit.epoch: no such key (did you mean 'epochs'?)",
            id="unknown key of the fit",
        ),
        pytest.param(
            "[heads.y]",
            '[models.v]\nheads = ["x"]\nhead = 1\n[heads.y]',
            "models.v.head: no such key (did you mean 'heads'?)",
            id="unknown key of a view",
        ),
        pytest.param(
            'name = "small"',
            "name = 7",
            "name: expected a text, received 7",
            id="name that is a number",
        ),
        pytest.param('name = "small"', "", "name: missing; expected a text", id="no name"),
        pytest.param(
            'name = "small"',
            'name = "9 lives"',
            f'name: expected a name ({NAMES}), received "9 lives"',
            id="model name with a blank",
        ),
        pytest.param(
            'name = "small"',
            f'name = "{"m" * 129}"',
            f'name: expected a name ({NAMES}), received "{"m" * 59}…',
            id="model name too long to publish",
        ),
        pytest.param(
            "[heads.y]",
            '[models."v/1"]\nheads = ["x"]\n[heads.y]',
            f'models.v/1: expected a name ({NAMES}), received "v/1"',
            id="view name that no URL can name",
        ),
        pytest.param(
            "[heads.y]",
            '[heads."y.1"]',
            "heads.y.1: expected a name (a letter or underscore, then letters, digits, _ or -),"
            ' received "y.1"',
            id="head name with a dot",
        ),
        pytest.param(
            LAYER,
            "",
            "layers.h: expected one Keras layer class with its arguments,"
            " as Dense = { units = 10 }; received none",
            id="layer without a class",
        ),
        pytest.param(
            LAYER,
            f"{LAYER}\nFlatten = {{}}",
            "layers.h: expected one Keras layer class with its arguments,"
            " as Dense = { units = 10 }; received Dense and Flatten",
            id="layer with two classes",
        ),
        pytest.param(
            LAYER,
            "Dense = 3",
            "layers.h.Dense: expected a table of Dense's arguments ({} for none), received 3",
            id="layer class with a number",
        ),
        pytest.param(
            LAYER,
            'Dense = { units = 3, name = "d" }',
            "layers.h.Dense.name: the layer's name is 'h'; remove it",
            id="layer with another name",
        ),
        pytest.param(
            LAYER,
            f'{LAYER}\nshare = "h"',
            "layers.h: expected share or a layer class, received share and Dense",
            id="share and a class",
        ),
        pytest.param(
            "[heads.y]",
            '[models.v]\nheads = ["xx"]\n[heads.y]',
            "models.v.heads: expected names of heads, received \"xx\" (did you mean 'x'?)",
            id="view of no head",
        ),
        pytest.param(
            "[heads.y]",
            "[models.v]\nheads = []\n[heads.y]",
            "models.v.heads: expected an array of names of heads, received []",
            id="empty view",
        ),
        pytest.param(
            "[heads.y]",
            '[models.Small]\nheads = ["x"]\n[heads.y]',
            "models.Small: named like the model itself, which serves all heads; rename it",
            id="view named like its model",
        ),
        pytest.param(
            "[heads.y]",
            "[models]\nv = 1\n[heads.y]",
            "models.v: expected a table, received 1",
            id="view that is a number",
        ),
        pytest.param(
            "[heads.y]",
            "[fit]\nepochs = 0\nbatch_size = 1.5\nrows = true\n[heads.y]",
            "fit.epochs: expected a whole number, 1 or more, received 0\n"
            "fit.batch_size: expected a whole number, 1 or more, received 1.5\n"
            "fit.rows: expected a whole number, 1 or more, received true",
            id="counts that are none",
        ),
        pytest.param(
            "[heads.y]",
            "[fit]\nvalidation_split = 1\n[heads.y]",
            "fit.validation_split: expected a number from 0 to less than 1, received 1",
            id="all rows held out",
        ),
        pytest.param(
            "[heads.y]",
            "[fit]\nvalidation_split = 0.6\ntest_split = 0.4\n[heads.y]",
            "fit.test_split: leaves no rows to learn, together with validation_split",
            id="no rows left",
        ),
        pytest.param(
            "[heads.y]",
            "[fit]\npatience = 3\n[heads.y]",
            "fit.patience: needs held-out rows to watch; set validation_split too",
            id="patience with nothing to watch",
        ),
        pytest.param(
            "[heads.y]",
            '[fit]\nvalidation_split = 0.5\nstratify = "y"\n[heads.y]',
            "fit.stratify: expected the name of a binary or multiclass head, received the"
            " regression head y; there are x",
            id="stratified by numbers",
        ),
        pytest.param(
            "[heads.y]",
            '[fit]\nstratify = "x"\n[heads.y]',
            "fit.stratify: needs held-out rows; set validation_split too",
            id="stratified with nothing held out",
        ),
        pytest.param(
            "[heads.y]",
            "[fit]\nseed = 4294967296\n[heads.y]",
            "fit.seed: expected a whole number from 0 to 4294967295, received 4294967296",
            id="seed that is too large",
        ),
        pytest.param(
            "[heads.y]",
            "[fit]\noptimizer = { Adam = {}, SGD = {} }\n[heads.y]",
            "fit.optimizer: expected the name of a Keras optimizer, or"
            " { Name = { its arguments } }, received a table",
            id="two optimizers",
        ),
        pytest.param(
            "[heads.y]",
            (
                "[fit]\noptimizer = { Adam = { learning_rate = 1.0 } }\n"
                "learning_rate = 0.1\n[heads.y]"
            ),
            "fit.learning_rate: given twice: here and in optimizer.Adam",
            id="learning rate twice",
        ),
        pytest.param(
            "[heads.y]",
            "[fit]\nlearning_rate = nan\n[heads.y]",
            "fit.learning_rate: expected a number over 0, received NaN",
            id="learning rate that is not a number",
        ),
        pytest.param(
            'name = "small"',
            'name = "small"\nalign = "keys"',
            "align: expected one of position, key, sample, received \"keys\" (did you mean 'key'?)",
            id="unknown align",
        ),
    ],
)
def test_a_wrong_spec_is_refused_with_its_keys(problems_of, old, new, expected):
    """Every mistake is reported with its key, expected and received value, and the way out."""
    assert problems_of(edit(old, new)) == expected.splitlines()


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf", "1" + "0" * 400, "1e999"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(X_KIND, f"{X_KIND}\n{{}} = VALUE", id="head"),
        pytest.param("[heads.y]", "[fit]\n{} = VALUE\n[heads.y]", id="fit"),
    ],
)
def test_numbers_of_a_spec_must_be_finite(problems_of, old, new, value):
    """Every number must be finite.

    NaN passes a comparison that tests for being outside a range.
    """
    keys = {
        "head": ["threshold", "loss_weight"],
        "fit": [
            *("epochs", "batch_size", "rows", "validation_split", "patience", "seed"),
            "learning_rate",
        ],
    }["head" if old == X_KIND else "fit"]
    for key in keys:
        if key in ("epochs", "batch_size", "patience", "rows") and value.isdigit():
            continue  # A large count is still a count.
        lines = problems_of(edit(old, new.format(key).replace("VALUE", value)))
        assert any(f"{key}: expected a" in line for line in lines), (key, lines)


def test_all_mistakes_are_reported_at_once(problems_of):
    """Five mistakes are reported at once."""
    text = edit('name = "small"', 'name = "sm all"')
    text = edit('csv = "a.csv"', "csv = 1", text)
    text = edit("Dense = { units = 3 }", "", text)
    text = edit('kind = "binary"', 'kind = "binry"', text)
    text = edit('target = "b"', 'target = "bb"', text)

    assert [line.split(":")[0] for line in problems_of(text)] == [
        "name",
        "inputs.a.csv",
        "layers.h",
        "heads.x.kind",
        "heads.y.target",
    ]


def test_an_empty_spec_is_refused_with_the_missing_keys(problems_of):
    """An empty file lacks a name, inputs and heads."""
    assert problems_of("") == [
        "name: missing; expected a text",
        "inputs: missing; expected at least one table [inputs.<name>]",
        "heads: missing; expected at least one table [heads.<name>]",
    ]


def test_sections_that_are_no_tables_are_refused(problems_of):
    """`inputs` and `heads` must be tables of tables."""
    assert problems_of('name = "n"\ninputs = 3\n[heads]\nx = 1\n') == [
        "inputs: expected a table, received 3",
        "heads.x: expected a table, received 1",
    ]


def test_a_spec_is_checked_without_heavy_imports():
    """Reading a spec imports neither TensorFlow nor pandas nor numpy."""
    code = (
        "import sys; from pathlib import Path; from training import spec\n"
        f"spec.load(Path({str(SPECS / 'three_heads.toml')!r}))\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'numpy', 'onnx'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=SPECS.parent.parent,
    )

    assert (done.returncode, done.stderr) == (0, "")
