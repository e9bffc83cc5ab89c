"""The spec: what a right one is read as, and what a wrong one is told."""

import subprocess
import sys
from pathlib import Path

import pytest

from training import spec as specs
from training.errors import SpecError
from training.head_spec import HeadSpec
from training.input_spec import InputSpec
from training.spec import FitSpec, LayerSpec
from training.toml_file import LARGEST

SPECS = Path(__file__).parents[2] / "training" / "specs"

GOOD = """\
name = "small"

[inputs.a]
csv = "a.csv"

[inputs.b]
csv = "b.csv"
header = false
target = 0
image = [2, 2]

[layers.h]
after = ["a", "b"]
Dense = { units = 3 }

[heads.x]
after = "h"
kind = "binary"
target = "a"
labels = ["no", "yes"]

[heads.y]
after = "h"
kind = "regression"
target = "b"
"""


@pytest.fixture(name="told")
def _told(tmp_path):
    """What loading a text as a spec complains about, one line a problem, without the file."""

    def tell(text):
        path = tmp_path / "small.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(SpecError) as raised:
            specs.load(path)
        lines = str(raised.value).splitlines()
        assert all(line.startswith(f"{path}: ") for line in lines)
        return [line.removeprefix(f"{path}: ") for line in lines]

    return tell


def _edit(old, new, text=GOOD):
    assert old in text
    return text.replace(old, new, 1)


def test_a_spec_is_read_as_its_inputs_layers_and_heads(tmp_path):
    """Everything a small spec says is in what is loaded, with the defaults filled in."""
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
    """Views, shared layers, keys, targets by column, weights and the fit all arrive."""
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
[models.one]
heads = ["m", "c"]
[fit]
optimizer = { SGD = { momentum = 0.9 } }
learning_rate = 0.1
epochs = 3
batch_size = 4
rows = 10
validation_split = 0.25
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
    assert spec.models == {"one": ("m", "c")}
    arguments = {"momentum": 0.9, "learning_rate": 0.1}
    assert spec.fit == FitSpec("SGD", arguments, 3, 4, 10, 0.25, 2, 7)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_specs_are_right(path):
    """Each spec in the repository loads, and has the name of its file."""
    assert specs.load(path).name == path.stem


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"# \xc3\xa4\r\n"])
def test_what_other_editors_write_is_read(tmp_path, before):
    """A byte order mark, Windows line ends and UTF-8 are no mistakes."""
    path = tmp_path / "small.toml"
    path.write_bytes(before + GOOD.replace("\n", "\r\n").encode())

    assert specs.load(path).name == "small"


A_TABLE = 'csv = "a.csv"'
LAYER = "Dense = { units = 3 }"
X_KIND = 'kind = "binary"'
X_LABELS = 'labels = ["no", "yes"]'
Y_KIND = 'kind = "regression"'
NODE = "the name of an input, layer or head"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # unknown keys, at every level
        pytest.param(
            'name = "small"',
            'name = "small"\nalgn = "key"',
            "algn: no such key (did you mean 'align'?)",
            id="unknown key of the spec",
        ),
        pytest.param(
            A_TABLE,
            f"{A_TABLE}\nheder = true",
            "inputs.a.heder: no such key (did you mean 'header'?)",
            id="unknown key of an input",
        ),
        pytest.param(
            LAYER,
            f"{LAYER}\nzzz = 1",
            "layers.h.zzz: no such key; known: after, share, Dense",
            id="unknown key of a layer",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nlabel = 1",
            "heads.x.label: no such key (did you mean 'labels'?)",
            id="unknown key of a head",
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
        # wrong types
        pytest.param(
            'name = "small"',
            "name = 7",
            "name: expected a text, received 7",
            id="name that is a number",
        ),
        pytest.param('name = "small"', "", "name: missing; expected a text", id="no name"),
        pytest.param(
            'csv = "a.csv"',
            "csv = true",
            "inputs.a.csv: expected the name of a CSV file, received true",
            id="csv that is a flag",
        ),
        pytest.param(
            'csv = "a.csv"',
            "",
            "inputs.a.csv: missing; expected the name of a CSV file",
            id="no csv",
        ),
        pytest.param(
            "header = false",
            'header = "no"',
            'inputs.b.header: expected true or false, received "no"',
            id="header that is a text",
        ),
        pytest.param(
            A_TABLE,
            f"{A_TABLE}\ntarget = 0",
            "inputs.a.target: expected the name of a column, received 0",
            id="column by number in a file with names",
        ),
        pytest.param(
            "target = 0",
            "target = -1",
            "inputs.b.target: expected a column: a name or a number from 0, received -1",
            id="column before the first",
        ),
        pytest.param(
            A_TABLE,
            f'{A_TABLE}\ncolumns = ["p", 1]',
            'inputs.a.columns: expected an array of column names, received ["p", 1]',
            id="columns that are numbers",
        ),
        pytest.param(
            A_TABLE,
            f'{A_TABLE}\ncolumns = ["p", "q", "p"]',
            'inputs.a.columns: "p" is there 2 times',
            id="a column twice",
        ),
        pytest.param(
            "image = [2, 2]",
            "image = [2, 0]",
            "inputs.b.image: expected [height, width] or [height, width, channels],"
            " received [2, 0]",
            id="image of no width",
        ),
        pytest.param(
            "image = [2, 2]",
            "image = 4",
            "inputs.b.image: expected [height, width] or [height, width, channels], received 4",
            id="image of one number",
        ),
        pytest.param(
            "image = [2, 2]",
            'image = [2, 2]\ncategorical = ["p"]',
            "inputs.b.categorical: an image takes all its columns; remove it, or image",
            id="image with categories",
        ),
        pytest.param(
            A_TABLE,
            f'{A_TABLE}\nkey = "id"',
            'inputs.a.key: only read with align = "key"; here align = "position"',
            id="key without align",
        ),
        pytest.param(
            "[inputs.a]",
            "[inputs.c]",
            "heads.x.target: expected the name of an input (or input.column),"
            ' received "a"; inputs: c, b\n'
            'layers.h.after: expected the name of an input, layer or head, received "a"'
            "; known: c, b, h, x, y",
            id="unknown input in after and target",
        ),
        # names
        pytest.param(
            'name = "small"',
            'name = "9 lives"',
            "name: expected a name (a letter or underscore, then letters, digits, _ or -),"
            ' received "9 lives"',
            id="model name with a blank",
        ),
        pytest.param(
            "[heads.y]",
            '[heads."y.1"]',
            "heads.y.1: expected a name (a letter or underscore, then letters, digits, _ or -),"
            ' received "y.1"',
            id="head name with a dot",
        ),
        pytest.param(
            "[heads.y]",
            "[heads.h]",
            "heads.h: layers.h has that name too; rename one of them",
            id="layer and head of one name",
        ),
        pytest.param(
            "[heads.y]",
            "[heads.H]",
            "heads.H: differs from layers.h in case alone; rename one of them",
            id="names that differ in case",
        ),
        # layers
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
            "[heads.x]",
            (
                '[layers.k]\nafter = "h"\nshare = "g"\n[heads.z]\nafter = "k"\n'
                'kind = "binary"\ntarget = "a"\n[heads.x]'
            ),
            'layers.k.share: expected the name of a layer, received "g"; layers: h',
            id="share of no layer",
        ),
        pytest.param(
            "[heads.x]",
            (
                '[layers.k]\nafter = "h"\nshare = "h"\n[layers.l]\nafter = "k"\n'
                'share = "k"\n[heads.z]\nafter = "l"\nkind = "binary"\ntarget = "a"\n[heads.x]'
            ),
            "layers.l.share: 'k' itself shares 'h'; name a layer with a class of its own",
            id="share of a share",
        ),
        # wiring
        pytest.param(
            'after = ["a", "b"]',
            "",
            f"layers.h.after: missing; expected {NODE}, or of an input's text column"
            " (input.column), or an array of them",
            id="layer after nothing",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = ["a", "b", "hh"]',
            f"layers.h.after: expected {NODE}, received \"hh\" (did you mean 'h'?)",
            id="after names nothing",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = ["a", "b", "h.p"]',
            f'layers.h.after: expected {NODE}, received "h.p"; known: a, b, h, x, y',
            id="column of a layer",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = ["a", "b.0"]',
            "layers.h.after: 'b' is an image; it has no columns to take by name\n"
            "inputs.b: no head reads it; name it in an after, or remove it",
            id="column of an image",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = ["a", "b", "h"]',
            "layers.h.after: goes in a circle: h → h",
            id="layer after itself",
        ),
        pytest.param(
            "[heads.x]",
            (
                '[layers.k]\nafter = "l"\nFlatten = {}\n[layers.l]\nafter = "m"\n'
                'Flatten = {}\n[layers.m]\nafter = "k"\nFlatten = {}\n[heads.x]'
            ),
            "layers.k.after: goes in a circle: k → m → l → k",
            id="circle of three",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = "b"',
            "inputs.a: no head reads it; name it in an after, or remove it",
            id="input that is a target alone",
        ),
        pytest.param(
            "[heads.x]",
            '[layers.k]\nafter = "h"\nFlatten = {}\n[heads.x]',
            "layers.k: leads to no head; name it in an after, or remove it",
            id="layer that leads nowhere",
        ),
        # heads
        pytest.param(
            X_KIND,
            "",
            "heads.x.kind: missing; expected one of binary, multiclass, multilabel, regression",
            id="head without a kind",
        ),
        pytest.param(
            X_KIND,
            'kind = "multi"',
            "heads.x.kind: expected one of binary, multiclass, multilabel, regression,"
            " received \"multi\" (did you mean 'multilabel'?)",
            id="head of an unknown kind",
        ),
        pytest.param(
            'target = "a"',
            "",
            "heads.x.target: missing; expected the name of an input (its target) or"
            " input.column, or an array of them",
            id="head without a target",
        ),
        pytest.param(
            'target = "a"',
            'target = "a."',
            'heads.x.target: expected input.column, received "a."',
            id="target with a dot and no column",
        ),
        pytest.param(
            'target = "a"',
            'target = ["a.p", "a.q"]',
            "heads.x.target: expected one target, as the head is binary, received 2",
            id="two targets of a binary head",
        ),
        pytest.param(
            'target = "b"',
            'target = ["a", "b"]',
            "heads.y.target: expected targets of one file, received a.csv and b.csv",
            id="targets of two files",
        ),
        pytest.param(
            X_LABELS,
            'labels = ["no", "no"]',
            'heads.x.labels: "no" is there 2 times\n'
            "heads.x.labels: expected 2 labels, as the head is binary, received 1",
            id="a label twice",
        ),
        pytest.param(
            X_LABELS,
            "labels = [0, 1]",
            'heads.x.labels: expected an array of texts, as ["no", "yes"], received [0, 1]',
            id="labels that are numbers",
        ),
        pytest.param(
            X_LABELS,
            'labels = ["a", "b", "c"]',
            "heads.x.labels: expected 2 labels, as the head is binary, received 3",
            id="three labels of a binary head",
        ),
        pytest.param(
            f'{X_KIND}\ntarget = "a"\n{X_LABELS}',
            'kind = "multiclass"\ntarget = "a"\nlabels = ["one"]',
            "heads.x.labels: expected 2 labels or more, received 1",
            id="one label of a multiclass head",
        ),
        pytest.param(
            f'{X_KIND}\ntarget = "a"',
            'kind = "multilabel"\ntarget = ["a.p", "a.q", "a.r"]',
            "heads.x.labels: expected one label for each of the 3 targets, received 2",
            id="labels that do not cover the targets",
        ),
        pytest.param(
            Y_KIND,
            f'{Y_KIND}\nlabels = ["p"]',
            "heads.y.labels: a regression head has none",
            id="labels of a regression",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nthreshold = 1",
            "heads.x.threshold: expected a number between 0 and 1, received 1",
            id="threshold of one",
        ),
        pytest.param(
            Y_KIND,
            f"{Y_KIND}\nthreshold = 0.5",
            "heads.y.threshold: only binary and multilabel heads have one; this is regression",
            id="threshold of a regression",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nloss_weight = 0",
            "heads.x.loss_weight: expected a number over 0, received 0",
            id="weight of nothing",
        ),
        pytest.param(
            X_KIND,
            f'{X_KIND}\nDense = {{ units = 2, name = "d" }}',
            "heads.x.Dense.name: is the head's own; remove it\n"
            "heads.x.Dense.units: is set by the kind and its labels; remove it",
            id="head with units of its own",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nclass_weights = {{ noo = 1, yes = -1 }}",
            "heads.x.class_weights.noo: no such label (did you mean 'no'?)\n"
            "heads.x.class_weights.yes: expected a number, 0 or more, received -1",
            id="weights of unknown and negative",
        ),
        pytest.param(
            X_KIND,
            f'{X_KIND}\nclass_weights = "even"',
            'heads.x.class_weights: expected "balanced" or a table of numbers by label,'
            ' received "even"',
            id="weights by an unknown word",
        ),
        pytest.param(
            Y_KIND,
            f'{Y_KIND}\nclass_weights = "balanced"',
            "heads.y.class_weights: only binary and multiclass heads have them; this is regression",
            id="class weights of a regression",
        ),
        # views
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
        # fit
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
            "[fit]\npatience = 3\n[heads.y]",
            "fit.patience: needs held-out rows to watch; set validation_split too",
            id="patience with nothing to watch",
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
            id="learning rate that is no number",
        ),
        pytest.param(
            'name = "small"',
            'name = "small"\nalign = "keys"',
            "align: expected one of position, key, sample, received \"keys\" (did you mean 'key'?)",
            id="unknown align",
        ),
        pytest.param(
            'name = "small"',
            'name = "small"\nalign = "key"',
            'inputs.a.key: missing; align = "key" needs the joining column of every input\n'
            'inputs.b.key: missing; align = "key" needs the joining column of every input',
            id="no key",
        ),
        # files
        pytest.param(
            'csv = "b.csv"',
            'csv = "a.csv"',
            "inputs.b.header: expected true as inputs.a has it for the same file, received false",
            id="two views of one file",
        ),
        pytest.param(
            'name = "small"\n\n[inputs.a]\ncsv = "a.csv"',
            'name = "small"\nalign = "key"\n[inputs.a]\ncsv = "b.csv"\nheader = false\nkey = 3',
            'inputs.b.key: missing; align = "key" needs the joining column of every input\n'
            'inputs.b.key: expected "3" as inputs.a has it for the same file, received nothing',
            id="one file with two keys",
        ),
        # TOML itself
        pytest.param(
            "[heads.y]",
            "[heads.x]",
            "line 22: a second [heads.x]; every name is given once",
            id="a name twice",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\n{X_KIND}",
            "line 19: a key that is given twice; every key is given once",
            id="a key twice",
        ),
        pytest.param(
            'target = "a"',
            "target = ",
            "line 19: not TOML: Invalid value",
            id="no TOML",
        ),
        pytest.param(
            'target = "b"\n',
            'target = "b"\nlabels = ["p",',
            "at the end: not TOML: Invalid value",
            id="no end",
        ),
        pytest.param(
            'target = "b"\n',
            f'target = "b"\nlabels = {"[" * 100_000}',
            "brackets are nested too deeply",
            id="brackets without end",
        ),
        pytest.param(
            "[heads.y]",
            f"[fit]\nseed = {'9' * 5000}\n[heads.y]",
            "a number has more than 4,300 digits",
            id="digits without end",
        ),
        pytest.param(
            "[heads.y]",
            f"#{'x' * LARGEST}\n[heads.y]",
            f"expected a spec of at most {LARGEST:,} bytes, received more",
            id="megabytes",
        ),
    ],
)
def test_a_wrong_spec_is_told_where_and_what(told, old, new, expected):
    """Every mistake is named with its key, what was expected, what came and the way out."""
    assert told(_edit(old, new)) == expected.splitlines()


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf", "1" + "0" * 400, "1e999"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(X_KIND, f"{X_KIND}\n{{}} = VALUE", id="head"),
        pytest.param("[heads.y]", "[fit]\n{} = VALUE\n[heads.y]", id="fit"),
    ],
)
def test_no_number_of_a_spec_takes_what_is_no_finite_number(told, old, new, value):
    """Whichever key it is: of these, NaN passes every comparison that is made the wrong way."""
    keys = {
        "head": ["threshold", "loss_weight"],
        "fit": [
            *("epochs", "batch_size", "rows", "validation_split", "patience", "seed"),
            "learning_rate",
        ],
    }["head" if old == X_KIND else "fit"]
    for key in keys:
        if key in ("epochs", "batch_size", "patience", "rows") and value.isdigit():
            continue  # many of a thing, and still a number of them
        lines = told(_edit(old, new.format(key).replace("VALUE", value)))
        assert any(f"{key}: expected a" in line for line in lines), (key, lines)


def test_all_mistakes_are_told_in_one_go(told):
    """Whoever has five mistakes to mend reads of five, not five times of one."""
    text = _edit('name = "small"', 'name = "sm all"')
    text = _edit('csv = "a.csv"', "csv = 1", text)
    text = _edit("Dense = { units = 3 }", "", text)
    text = _edit('kind = "binary"', 'kind = "binry"', text)
    text = _edit('target = "b"', 'target = "bb"', text)

    assert [line.split(":")[0] for line in told(text)] == [
        "name",
        "inputs.a.csv",
        "layers.h",
        "heads.x.kind",
        "heads.y.target",
    ]


def test_a_spec_without_anything_in_it_is_told_what_is_missing(told):
    """An empty file lacks a name, inputs and heads."""
    assert told("") == [
        "name: missing; expected a text",
        "inputs: missing; expected at least one table [inputs.<name>]",
        "heads: missing; expected at least one table [heads.<name>]",
    ]


def test_sections_that_are_no_tables_are_told(told):
    """`inputs` and `heads` hold named tables, and nothing else."""
    assert told('name = "n"\ninputs = 3\n[heads]\nx = 1\n') == [
        "inputs: expected a table, received 3",
        "heads.x: expected a table, received 1",
    ]


def test_bytes_that_are_no_utf_8_are_told_with_their_line(told):
    """A file in another encoding stops with the line and the byte."""
    assert told(b'name = "a"\n# caf\xe9\n') == ["line 2: not UTF-8 (byte 0xe9); save it as UTF-8"]


def test_a_missing_spec_is_told_with_the_nearest_file(tmp_path):
    """A path that is wrong by a letter names the file that was meant."""
    (tmp_path / "three_heads.toml").write_text(GOOD)

    with pytest.raises(SpecError) as raised:
        specs.load(tmp_path / "three_head.toml")

    expected = f"{tmp_path}/three_head.toml: no such file (did you mean 'three_heads.toml'?)"
    assert str(raised.value) == expected


def test_a_folder_is_no_spec(tmp_path):
    """A path to a folder says so."""
    with pytest.raises(SpecError) as raised:
        specs.load(tmp_path)

    assert str(raised.value) == f"{tmp_path}: expected a spec (a TOML file), but: Is a directory"


def test_long_values_and_dates_are_shown_short(told):
    """What came is shown as it stands in the file, cut where it is long."""
    assert told(_edit('name = "small"', f"name = [{'1, ' * 60}]"))[0].endswith(" 1, 1, 1,…")
    assert told(_edit('name = "small"', "name = 2020-01-01")) == [
        "name: expected a text, received 2020-01-01"
    ]


def test_a_spec_is_checked_without_anything_heavy():
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


@pytest.mark.parametrize("first", ["a", "n1999"])
def test_a_chain_may_be_long(tmp_path, first):
    """Two thousand layers in a row are read, and a circle of as many is found."""
    after = [first, *(f"n{n}" for n in range(1999))]
    chain = "".join(
        f'[layers.n{n}]\nafter = "{name}"\nFlatten = {{}}\n' for n, name in enumerate(after)
    )
    path = tmp_path / "long.toml"
    path.write_text(
        f'name = "m"\n[inputs.a]\ncsv = "a.csv"\n{chain}'
        '[heads.h]\nafter = "n1999"\nkind = "binary"\ntarget = "a"\n'
    )

    if first == "a":
        assert len(specs.load(path).layers) == 2000
    else:
        with pytest.raises(SpecError, match=r"goes in a circle: n0 → n1 → .* → n1999 → n0"):
            specs.load(path)
