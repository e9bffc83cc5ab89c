"""The Keras model of a spec, and objections of Keras, reported with the spec's keys."""

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the train extra")

from tests.harness import tiny  # noqa: E402  (after the check above)
from training import build, data, fit, objectives  # noqa: E402  (after the check above)
from training import spec as specs  # noqa: E402  (after the check above)
from training.errors import SpecError  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras

SPECS = Path(__file__).parents[2] / "training" / "specs"
NUMBERS = "p,q,r,t\n" + "".join(f"{n},{n * n},7,{n % 2}\n" for n in range(1, 9))
SPEC = """
name = "tiny"
[inputs.a]
csv = "a.csv"
{layers}
[heads.y]
after = "{after}"
kind = "{kind}"
target = "{target}"
{head}
{fit}
"""


def _spec(layers="", *, after="a", kind="binary", target="a", head="", fit=""):
    """Return a spec with these parts."""
    return SPEC.format(layers=layers, after=after, kind=kind, target=target, head=head, fit=fit)


def _layers(model):
    """Return the names and classes of a model's layers."""
    return [(layer.name, type(layer).__name__) for layer in model.layers]


def _shipped(name):
    """Build a shipped spec."""
    spec = specs.load(SPECS / f"{name}.toml")
    fit.seed(spec.fit.seed)
    return build.build(spec, data.load(spec, None)).model


def _refused(folder, spec, **tables):
    """Return the lines of the error for a spec, without the path."""
    with pytest.raises(SpecError) as raised:
        tiny.built(folder, spec, **(tables or {"a": NUMBERS}))
    path = f"{folder / 'tiny.toml'}: "
    lines = str(raised.value).splitlines()
    assert all(line.startswith(path) for line in lines)
    return [line.removeprefix(path) for line in lines]


def test_functional_is_input_dense_2_dense_1():
    """The shipped spec `functional` is exactly this chain."""
    model = _shipped("functional")

    assert _layers(model) == [
        ("insurance", "InputLayer"),
        ("hidden", "Dense"),
        ("out", "Dense"),
    ]
    assert [layer.units for layer in model.layers[1:]] == [2, 1]
    assert model.count_params() == 2 * 2 + 3


def test_shared_has_its_first_layer_once():
    """Both models of the shipped spec `shared` use one `h1` with one set of weights."""
    model = _shipped("shared")

    assert _layers(model) == [
        ("insurance", "InputLayer"),
        ("h1", "Dense"),
        ("h2", "Dense"),
        ("h22", "Dense"),
        ("out", "Dense"),
        ("out22", "Dense"),
    ]
    assert list(model.output) == ["out", "out22"]


def test_three_heads_is_the_graph_it_says_to_the_letter():
    """The shipped spec is three raw inputs, Dense(10, relu) and three heads: 8,022 weights."""
    model = _shipped("three_heads")

    assert _layers(model) == [
        ("insurance", "InputLayer"),
        ("fruit", "InputLayer"),
        ("digit", "InputLayer"),
        ("h1.all", "Concatenate"),
        ("h1", "Dense"),
        ("o1", "Dense"),
        ("o2", "Dense"),
        ("o3", "Dense"),
    ]
    assert [(layer.units, layer.activation.__name__) for layer in model.layers[4:]] == [
        (10, "relu"),
        (1, "sigmoid"),
        (1, "sigmoid"),
        (10, "softmax"),
    ]
    assert model.count_params() == 8_022
    assert {name: loss.__name__ for name, loss in model.loss.items()} == {
        "o1": "binary_crossentropy",
        "o2": "binary_crossentropy",
        "o3": "sparse_categorical_crossentropy",
    }
    assert model.optimizer.name == "adam"


def test_text_columns_become_one_hot_beside_the_numbers(tmp_path):
    """A table with a text column is its numbers and a look-up with a place for unseen strings."""
    built = tiny.built(tmp_path, _spec(), a=tiny.people())

    assert dict(_layers(built.model)) == {
        "a": "InputLayer",
        "a.smoker": "InputLayer",
        "a.smoker.one_hot": "StringLookup",
        "a.all": "Concatenate",
        "y": "Dense",
    }
    assert built.tensors == {"a": "a", "a.smoker": "a.smoker"}
    assert built.model.get_layer("y").kernel.shape == (1 + 3, 1)


def test_a_text_column_taken_by_name_is_left_out_of_the_block(tmp_path):
    """`after = "a.smoker"` is the raw text, and `a` is the rest of the table."""
    layers = """
[layers.place]
after = "a.smoker"
StringLookup = {}
[layers.vector]
after = "place"
Embedding = { input_dim = 3, output_dim = 4 }
[layers.flat]
after = "vector"
Flatten = {}
[layers.h]
after = ["a", "flat"]
Dense = { units = 2 }
"""
    built = tiny.built(tmp_path, _spec(layers, after="h"), a=tiny.people())

    assert built.model.get_layer("place").get_vocabulary() == ["[UNK]", "yes", "no"]
    assert built.model.get_layer("h").kernel.shape == (1 + 4, 2)


def test_a_table_of_one_text_column_needs_no_concatenation(tmp_path):
    """The node of a single text column is its look-up."""
    table = "color,t\n" + "red,0\nblue,1\n" * 4
    built = tiny.built(tmp_path, _spec(), a=table)

    assert _layers(built.model) == [
        ("a.color", "InputLayer"),
        ("a.color.one_hot", "StringLookup"),
        ("y", "Dense"),
    ]


def test_columns_may_be_called_anything(tmp_path):
    """A text column whose name TensorFlow does not allow keeps its name outside of Keras."""
    table = "is it / red?,t\n" + "yes,0\nno,1\n" * 4
    built = tiny.built(tmp_path, _spec(), a=table)

    assert list(built.tensors.values()) == ["a.is it / red?"]


def test_names_may_start_with_an_underscore(tmp_path):
    """A name that the spec allows works although TensorFlow would refuse it."""
    text = _spec('[layers._h]\nafter = "a"\nDense = { units = 2 }', after="_h")
    built = tiny.built(tmp_path, text.replace('"tiny"', '"_tiny"'), a=NUMBERS)

    assert built.model.get_layer("_h").units == 2


def test_several_inputs_of_a_layer_are_concatenated_and_of_a_merge_are_not(tmp_path):
    """Dense receives one concatenation, Add a list, and MultiHeadAttention query and value."""
    layers = """
[layers.p]
after = "a"
Dense = { units = 3 }
[layers.q]
after = "a"
Dense = { units = 3 }
[layers.sum]
after = ["p", "q"]
Add = {}
[layers.side]
after = ["sum", "p"]
Dense = { units = 4 }
[layers.rows]
after = "side"
Reshape = { target_shape = [2, 2] }
[layers.look]
after = ["rows", "rows"]
MultiHeadAttention = { num_heads = 1, key_dim = 2 }
[layers.flat]
after = "look"
Flatten = {}
"""
    with pytest.raises(SpecError, match=r'layers\.look\.after: "rows" is there 2 times'):
        tiny.built(tmp_path, _spec(layers, after="flat"), a=NUMBERS)
    layers = layers.replace('["rows", "rows"]', '["rows", "again"]').replace(
        "[layers.look]", '[layers.again]\nafter = "rows"\nReLU = {}\n[layers.look]'
    )

    built = tiny.built(tmp_path, _spec(layers, after="flat"), a=NUMBERS)

    assert built.model.get_layer("side").kernel.shape == (3 + 3, 4)
    assert len(built.model.get_layer("sum").input) == 2
    assert "look.all" not in dict(_layers(built.model))


def test_a_head_after_several_nodes_sees_all_of_them(tmp_path):
    """A head may follow several nodes, including another head."""
    text = _spec('[heads.x]\nafter = "a"\nkind = "binary"\ntarget = "a"', after="x")
    text = text.replace('after = "x"', 'after = ["a", "x"]')
    built = tiny.built(tmp_path, text, a=NUMBERS)

    assert built.model.get_layer("y").kernel.shape == (3 + 1, 1)


def test_a_shared_layer_is_one_object_called_again(tmp_path):
    """`share` creates no second set of weights."""
    layers = """
[layers.h]
after = "a"
Dense = { units = 3 }
[layers.again]
after = "h"
share = "h"
"""
    built = tiny.built(tmp_path, _spec(layers, after="again"), a=NUMBERS)

    assert _layers(built.model) == [("a", "InputLayer"), ("h", "Dense"), ("y", "Dense")]
    assert built.model.count_params() == 3 * 3 + 3 + 4


def test_normalization_learns_from_the_training_rows(tmp_path):
    """Mean and variance are those of the layer's input; a constant column is only shifted."""
    layers = '[layers.n]\nafter = "a"\nNormalization = {}'
    built = tiny.built(tmp_path, _spec(layers, after="n"), a=NUMBERS)
    rows = np.array([[n, n * n, 7] for n in range(1, 9)], np.float32)

    answers = keras.Model(built.model.input, built.model.get_layer("n").output).predict(
        {"a": np.vstack([rows, [[9, 9, 8]]]).astype(np.float32)}, verbose=0
    )

    assert np.allclose(answers[:8].mean(axis=0), 0, atol=1e-6)
    assert np.allclose(answers[:8, :2].std(axis=0), 1, atol=1e-6)
    # A difference of one is not a million standard deviations.
    assert answers[8, 2] == pytest.approx(1)


def test_numbers_that_normalization_would_make_zero_are_refused(tmp_path):
    """Their variance is infinite as float32, and so is what each of them is divided by."""
    layers = '[layers.n]\nafter = "a"\nNormalization = {}'
    far = "p,q,r,t\n" + "".join(f"{n},{'-' * (n % 2)}1e38,7,{n % 2}\n" for n in range(8))

    [message] = _refused(tmp_path, _spec(layers, after="n"), a=far)

    assert message.endswith(
        "layers.n.Normalization: numbers with a deviation of 1e+38, the square of which is no"
        " float32; give them in a larger unit"
    )


def test_statistics_count_each_row_once_where_files_are_paired_at_random(tmp_path):
    """Pairs repeat the rows of a short file, but its statistics count each row once."""
    text = _spec('[layers.n]\nafter = "a"\nNormalization = {}', after="n").replace(
        'name = "tiny"', 'name = "tiny"\nalign = "sample"\n[inputs.b]\ncsv = "b.csv"'
    )
    text = text.replace('after = "n"\nkind', 'after = ["n", "both"]\nkind').replace(
        "[heads.y]", '[layers.both]\nafter = ["a", "b"]\nNormalization = {}\n[heads.y]'
    )
    longer = "q,u\n" + "".join(f"{n},0\n" for n in range(20))
    built = tiny.built(tmp_path, text, a="p,t\n0,0\n3,1\n6,1\n", b=longer)

    alone = np.asarray(built.model.get_layer("n").mean).reshape(-1)
    paired = np.asarray(built.model.get_layer("both").mean).reshape(-1)
    assert alone.tolist() == [3.0]
    assert paired[1] == pytest.approx(9.5)


def test_normalization_behind_a_layer_learns_from_its_output(tmp_path):
    """A layer that adapts may stand anywhere, and adapts to the output of the layers before it."""
    layers = """
[layers.tenth]
after = "a"
Rescaling = { scale = 0.1 }
[layers.n]
after = "tenth"
Normalization = { axis = "none" }
"""
    layers = layers.replace('axis = "none"', "axis = [-1]")
    built = tiny.built(tmp_path, _spec(layers, after="n"), a=NUMBERS)

    mean = np.asarray(built.model.get_layer("n").mean).reshape(-1)
    assert np.allclose(mean, np.array([4.5, 25.5, 7]) / 10, atol=1e-5)


def test_a_mean_that_is_given_is_taken(tmp_path):
    """Mean and variance of the spec replace those of the data."""
    layers = '[layers.n]\nafter = "a"\nNormalization = { mean = [1, 2, 3], variance = [1, 1, 1] }'
    built = tiny.built(tmp_path, _spec(layers, after="n"), a=NUMBERS)

    assert np.asarray(built.model.get_layer("n").mean).reshape(-1).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "target", "head", "expected"),
    [
        pytest.param(
            "binary",
            '"a"',
            "",
            (1, "sigmoid", "binary_crossentropy", "BinaryAccuracy"),
            id="binary",
        ),
        pytest.param(
            "multiclass",
            '"a"',
            'labels = ["x", "y", "z"]',
            (3, "softmax", "sparse_categorical_crossentropy", "SparseCategoricalAccuracy"),
            id="multiclass",
        ),
        pytest.param(
            "multiclass",
            '"a"',
            'loss = "categorical_crossentropy"',
            (2, "softmax", "categorical_crossentropy", "CategoricalAccuracy"),
            id="multiclass by another loss",
        ),
        pytest.param(
            "multilabel",
            '["a.t", "a.s"]',
            "",
            (2, "sigmoid", "binary_crossentropy", "BinaryAccuracy"),
            id="multilabel",
        ),
        pytest.param(
            "regression",
            '["a.q", "a.r"]',
            "",
            (2, "linear", "mean_squared_error", "MeanAbsoluteError"),
            id="regression to a vector",
        ),
        pytest.param(
            "regression",
            '"a.q"',
            'loss = "huber"\nmetric = "mse"',
            (1, "linear", "huber", "MeanSquaredError"),
            id="regression by another loss and metric",
        ),
        pytest.param(
            "binary",
            '"a"',
            'Dense = { activation = "hard_sigmoid" }',
            (1, "hard_sigmoid", "binary_crossentropy", "BinaryAccuracy"),
            id="another activation",
        ),
    ],
)
def test_a_head_has_what_its_kind_means(tmp_path, kind, target, head, expected):
    """The kind decides units, activation, loss and metric, and the head may override them."""
    table = "p,q,r,s,t\n" + "".join(f"{n},{n},7,{n % 3 % 2},{n % 2}\n" for n in range(8))
    text = _spec(kind=kind, target="TARGET", head=head).replace('"TARGET"', target)
    loaded, rows = tiny.load(tmp_path, text, a=table)
    built = build.build(loaded, rows)

    layer, loss = built.model.get_layer("y"), built.model.loss["y"].__name__
    metric = type(objectives.metric(loaded.heads["y"])).__name__
    assert (layer.units, layer.activation.__name__, loss, metric) == expected
    assert built.one_hot == ({"y"} if loss == "categorical_crossentropy" else set())


def test_objects_inside_arguments_are_made(tmp_path):
    """A table with one capitalized name becomes that Keras object, such as a regularizer."""
    layers = """
[layers.h]
after = "a"
Dense = { units = 2, kernel_regularizer = { L2 = { l2 = 0.5 } } }
[layers.rows]
after = "h"
Reshape = { target_shape = [2, 1] }
[layers.both]
after = "rows"
Bidirectional = { layer = { LSTM = { units = 3 } } }
"""
    schedule = (
        "[fit]\noptimizer = { SGD = { learning_rate = { ExponentialDecay = "
        "{ initial_learning_rate = 0.5, decay_steps = 10, decay_rate = 0.9 } } } }"
    )
    built = tiny.built(tmp_path, _spec(layers, after="both", fit=schedule), a=NUMBERS)

    assert built.model.get_layer("h").kernel_regularizer.l2 == 0.5
    assert built.model.get_layer("both").output.shape == (None, 6)
    assert float(built.model.optimizer.learning_rate) == 0.5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"layers": '[layers.h]\nafter = "a"\nDens = { units = 2 }', "after": "h"},
            "layers.h.Dens: Keras has no such layer (did you mean 'Dense'?)",
            id="unknown layer",
        ),
        pytest.param(
            {"layers": '[layers.h]\nafter = "a"\nInputLayer = {}', "after": "h"},
            "layers.h.InputLayer: Keras has no such layer",
            id="an input is not a layer",
        ),
        pytest.param(
            {"layers": '[layers.h]\nafter = "a"\nDense = { unit = 2 }', "after": "h"},
            "layers.h.Dense.unit: Dense takes no such argument (did you mean 'units'?)",
            id="unknown argument",
        ),
        pytest.param(
            {
                "layers": '[layers.h]\nafter = "a"\nDense = { units = 2, activation = "rellu" }',
                "after": "h",
            },
            "layers.h.Dense.activation: Keras has no activation 'rellu' (did you mean 'relu'?)",
            id="unknown activation",
        ),
        pytest.param(
            {"layers": '[layers.h]\nafter = "a"\nFlatten = { zzz = 2 }', "after": "h"},
            "layers.h.Flatten.zzz: Flatten takes no such argument; it takes data_format,"
            " activity_regularizer, trainable, dtype, autocast",
            id="unknown argument that is like none",
        ),
        pytest.param(
            {
                "layers": '[layers.h]\nafter = "a"\n'
                "Dense = { units = 2, kernel_regularizer = { L1L3 = {} } }",
                "after": "h",
            },
            "layers.h.Dense.kernel_regularizer.L1L3: Keras has no such thing"
            " (did you mean 'L1L2'?)",
            id="unknown object in an argument",
        ),
        pytest.param(
            {"head": "Dense = { use_bia = false }"},
            "heads.y.Dense.use_bia: Dense takes no such argument (did you mean 'use_bias'?)",
            id="unknown argument of a head",
        ),
        pytest.param(
            {"head": 'loss = "binary_crossentropi"'},
            "heads.y.loss: Keras has no loss 'binary_crossentropi'"
            " (did you mean 'binary_crossentropy'?)",
            id="unknown loss",
        ),
        pytest.param(
            {"head": 'loss = "categorical_generalized_cross_entropy"'},
            "heads.y.loss: Keras has no loss 'categorical_generalized_cross_entropy'"
            " (did you mean 'categorical_focal_crossentropy'?)",
            id="a loss that Keras exports and does not find by its name",
        ),
        pytest.param(
            {"head": 'loss = "accuracy"'},
            "heads.y.loss: Keras has no loss 'accuracy'",
            id="a metric as a loss",
        ),
        pytest.param(
            {"head": 'Dense = { activation = "accuracy" }'},
            "heads.y.Dense.activation: Keras has no activation 'accuracy'",
            id="a metric as an activation",
        ),
        pytest.param(
            {"head": 'metric = "accurcy"'},
            "heads.y.metric: Keras has no metric 'accurcy' (did you mean 'Accuracy'?)",
            id="unknown metric",
        ),
        pytest.param(
            {
                "layers": '[layers.h]\nafter = "a"\nReshape = { target_shape = [3, 1] }',
                "after": "h",
            },
            "heads.y.after: expected a flat row of values, received the shape [3, 1];"
            " Flatten it first",
            id="a head after something that is not flat",
        ),
        pytest.param(
            {"fit": '[fit]\noptimizer = "adamm"'},
            "fit.optimizer: Keras has no optimizer 'adamm' (did you mean 'adam'?)",
            id="unknown optimizer",
        ),
        pytest.param(
            {"fit": "[fit]\noptimizer = { Adam = { learning_rte = 1.0 } }"},
            "fit.optimizer.Adam.learning_rte: Adam takes no such argument"
            " (did you mean 'learning_rate'?)",
            id="unknown argument of an optimizer",
        ),
    ],
)
def test_names_that_keras_does_not_know_are_refused_with_their_key(tmp_path, changes, expected):
    """The message names the key, the reason and the nearest right name, before any training."""
    assert _refused(tmp_path, _spec(**changes)) == [expected]


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        pytest.param(
            {"fit": '[fit]\noptimizer = { Adam = { learning_rate = "fast" } }'},
            "fit.optimizer",
            "learning_rate=fast",
            id="an optimizer",
        ),
        pytest.param(
            {
                "layers": '[layers.h]\nafter = "a"\n'
                'Dense = { units = 2, kernel_regularizer = { L2 = { l2 = "x" } } }',
                "after": "h",
            },
            "layers.h.Dense",
            "l2=x",
            id="an object in an argument",
        ),
        pytest.param(
            {"head": 'metric = "MeanIoU"'},
            "heads.y.metric",
            "MeanIoU cannot be had by its name alone: ",
            id="a metric with arguments",
        ),
        pytest.param(
            {"layers": '[layers.h]\nafter = "a"\nDense = { units = -2 }', "after": "h"},
            "layers.h.Dense",
            "units=-2",
            id="a layer's argument",
        ),
        pytest.param(
            {
                "layers": '[layers.h]\nafter = "a"\nConv2D = { filters = 2, kernel_size = 3 }',
                "after": "h",
            },
            "layers.h.Conv2D",
            "expected min_ndim=4, found ndim=2",
            id="a layer's input",
        ),
        pytest.param(
            {
                "layers": '[layers.h]\nafter = "a"\nDense = { units = 2 }\n'
                '[layers.k]\nafter = "h"\nshare = "h"',
                "after": "k",
            },
            "layers.k.share",
            "received input with shape (None, 2)",
            id="a shared layer's second input",
        ),
        pytest.param(
            {
                "layers": '[layers.h]\nafter = "a"\nReshape = { target_shape = [3, 1] }\n'
                '[layers.k]\nafter = ["a", "h"]\nDense = { units = 2 }\n'
                '[layers.l]\nafter = "k"\nFlatten = {}',
                "after": "l",
            },
            "layers.k.after",
            "Concatenate",
            id="shapes that cannot be concatenated",
        ),
    ],
)
def test_values_that_keras_refuses_are_refused_with_its_message(tmp_path, changes, key, message):
    """A value that Keras refuses is reported with Keras' message in one line."""
    [line] = _refused(tmp_path, _spec(**changes))

    assert line.startswith(f"{key}: ")
    assert message in line
    assert "\x1b" not in line


def test_all_names_that_keras_does_not_know_are_reported_at_once(tmp_path):
    """Layers, arguments, losses and the optimizer are checked before any object is created."""
    text = _spec(
        '[layers.h]\nafter = "a"\nDens = {}\n[layers.k]\nafter = "h"\nDense = { unit = 1 }',
        after="k",
        head='loss = "hinje"',
        fit='[fit]\noptimizer = "adm"',
    )

    assert [line.split(": ")[0] for line in _refused(tmp_path, text)] == [
        "layers.h.Dens",
        "layers.k.Dense.unit",
        "heads.y.loss",
        "fit.optimizer",
    ]


def test_a_column_taken_by_name_must_exist(tmp_path):
    """A misspelt column is refused with the nearest one."""
    text = _spec().replace('after = "a"', 'after = ["a", "a.smokr"]')

    assert _refused(tmp_path, text, a=tiny.people()) == [
        "heads.y.after: 'a' has no column 'smokr' (did you mean 'smoker'?)"
    ]


def test_a_layer_takes_number_columns_by_name(tmp_path):
    """A layer gets the columns that it names, in its order; the rest stay with the input."""
    layers = """
[layers.some]
after = ["a.r", "a.p"]
Rescaling = { scale = 10 }
[layers.whole]
after = ["a", "some"]
Identity = {}
"""
    text = _spec(layers, after="whole")

    model = tiny.built(tmp_path, text, a=NUMBERS).model
    seen = keras.Model(model.input, model.get_layer("whole").output)

    answers = seen.predict({"a": np.array([[3, 9, 7]], np.float32)}, verbose=0)
    assert answers.tolist() == [[9, 70, 30]]


def test_number_columns_taken_by_name_must_all_be_read(tmp_path):
    """A number that no layer takes reaches a head through its input alone."""
    layers = '[layers.h]\nafter = "a.p"\nRescaling = { scale = 2 }'

    assert _refused(tmp_path, _spec(layers, after="h")) == [
        "inputs.a: no head reads 'q', 'r'; name 'a' in an after, or leave them out with columns"
    ]


def test_columns_that_no_head_reads_are_refused(tmp_path):
    """A spec that uses a text column by name must use the others too; the message says how."""
    layers = '[layers.h]\nafter = "a.smoker"\nStringLookup = { output_mode = "one_hot" }'

    assert _refused(tmp_path, _spec(layers, after="h"), a=tiny.people()) == [
        "inputs.a: no head reads 'age'; name 'a' in an after, or leave them out with columns"
    ]


def test_a_block_of_nothing_is_refused(tmp_path):
    """An input is empty if layers take all of its columns by name."""
    table = "color,t\n" + "red,0\nblue,1\n" * 4
    layers = '[layers.h]\nafter = "a.color"\nStringLookup = { output_mode = "one_hot" }'
    text = _spec(layers).replace('after = "a"\nkind', 'after = ["a", "h"]\nkind')

    assert _refused(tmp_path, text, a=table) == [
        "inputs.a: nothing is left of it: layers take all its columns by name, and 'a' too"
    ]


def test_twelve_inputs_and_twelve_heads(tmp_path):
    """A spec may have any number of inputs and heads."""
    numbers = range(12)
    text = 'name = "many"\n'
    text += "".join(f'[inputs.i{n}]\ncsv = "t{n}.csv"\n' for n in numbers)
    after = ", ".join(f'"i{n}"' for n in numbers)
    text += f"[layers.h]\nafter = [{after}]\nDense = {{ units = 2 }}\n"
    text += "".join(
        f'[heads.o{n}]\nafter = "h"\nkind = "binary"\ntarget = "i{n}"\n' for n in numbers
    )
    built = tiny.built(tmp_path, text, **{f"t{n}": NUMBERS for n in numbers})

    assert list(built.tensors) == [f"i{n}" for n in numbers]
    assert sorted(built.model.output) == sorted(f"o{n}" for n in numbers)
    assert built.model.get_layer("h").kernel.shape == (36, 2)


def test_a_chain_too_long_for_keras_is_refused(tmp_path):
    """Keras recurses from layer to layer; at its limit, the message names the spec."""
    chain = "".join(
        f'[layers.n{n}]\nafter = "{f"n{n - 1}" if n else "a"}"\nFlatten = {{}}\n'
        for n in range(1000)
    )

    [message] = _refused(tmp_path, _spec(chain, after="n999"))

    assert message == "layers: a chain of 1000 is too long for Keras"
