"""Foreign Keras models, which are exported as they are or refused by name."""

import re
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

keras = pytest.importorskip("keras", reason="needs the train extra")

from service.inference.model import Model  # noqa: E402  (after the check above)
from service.repository.publish import WrongName  # noqa: E402  (after the check above)
from training import cli, foreign  # noqa: E402  (after the check above)
from training.errors import ExportError, SpecError  # noqa: E402  (after the check above)

pytestmark = pytest.mark.keras

layers = keras.layers


def _dense(units, name, tensor, activation=None):
    """Apply a Dense layer to a tensor."""
    return layers.Dense(units, activation=activation, name=name)(tensor)


def _export(folder, model, name="model.keras"):
    """Save a model, export the file and load the result."""
    path = folder / name
    model.save(path)
    exported = foreign.export_keras(path, "mine", folder / "models")
    assert max(exported.verified.differences.values()) <= 1e-4
    return Model.load(exported.path)


def test_many_inputs_of_many_kinds_and_every_kind_of_head(tmp_path):
    """Inputs may be numbers, strings and pictures; activation and units decide a head's kind."""
    inputs = {
        "a": keras.Input((4,), name="a"),
        "tokens": keras.Input((5,), name="tokens", dtype="int32"),
        "word": keras.Input((1,), name="word", dtype="string"),
        "picture": keras.Input((6, 6, 3), name="picture", dtype="uint8"),
    }
    embedded = layers.Flatten()(layers.Embedding(7, 3)(inputs["tokens"]))
    look_up = layers.StringLookup(vocabulary=["p", "q"], output_mode="one_hot")
    pixels = layers.Flatten()(layers.Rescaling(1 / 255)(inputs["picture"]))
    trunk = layers.Concatenate()([inputs["a"], embedded, look_up(inputs["word"]), pixels])
    model = keras.Model(
        inputs,
        {
            "yes": _dense(1, "d1", trunk, "sigmoid"),
            "which": _dense(3, "d2", trunk, "softmax"),
            "marks": _dense(4, "d3", trunk, "sigmoid"),
            "size": _dense(2, "d4", trunk),
        },
    )

    signature = _export(tmp_path, model).signature

    assert [(i.name, i.kind, t.dtype, t.shape) for i in signature.inputs.values()
            for t in i.tensors] == [
        ("a", "tensor", "float32", (4,)),
        ("picture", "tensor", "uint8", (6, 6, 3)),
        ("tokens", "tensor", "int32", (5,)),
        ("word", "tensor", "string", (1,)),
    ]  # fmt: skip
    assert {h.name: (h.kind, h.tensor.shape, h.threshold) for h in signature.heads.values()} == {
        "yes": ("binary", (1,), 0.5),
        "which": ("multiclass", (3,), None),
        "marks": ("multilabel", (4,), 0.5),
        "size": ("regression", (2,), None),
    }
    golden = signature.golden.inputs
    assert {value for row in golden["tokens"] for value in row} <= set(range(7))
    assert {value for [value] in golden["word"]} <= {"p", "q", *foreign.TEXTS}
    assert signature.provenance["source"] == "model.keras"
    assert len(signature.provenance["source_sha256"]) == 64


def test_nested_inputs_and_outputs_are_flattened_by_name(tmp_path):
    """Lists within dicts become inputs and heads with the names of inputs and output layers."""
    x, z = keras.Input((4,), name="x"), keras.Input((3,), name="z")
    model = keras.Model({"p": [x, {"q": z}]}, [_dense(2, "d", x), [_dense(3, "e", z)]])

    signature = _export(tmp_path, model).signature

    assert list(signature.inputs) == ["x", "z"]
    assert {name: head.inputs for name, head in signature.heads.items()} == {
        "d": ("x",),
        "e": ("z",),
    }


def test_repeated_names_get_a_number(tmp_path):
    """Two outputs of one layer, and an input that is an output, get names of their own."""
    x, z = keras.Input((4,), name="x"), keras.Input((4,), name="z")
    shared = layers.Dense(2, name="d")
    twice = keras.Model([x, z], [shared(x), shared(z)])
    (tmp_path / "twice").mkdir()
    (tmp_path / "through").mkdir()

    assert list(_export(tmp_path / "twice", twice).signature.heads) == ["d", "d_2"]
    y = keras.Input((4,), name="y")
    through = keras.Model(y, {"y": y, "z": _dense(1, "e", y)})
    assert list(_export(tmp_path / "through", through).signature.heads) == ["y_2", "z"]


def _sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(2, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, name="digit", activation="softmax"),
        ]
    )


def _inner_softmax():
    inputs = keras.Input((4,), name="x")
    inner = keras.Model(inputs, _dense(3, "s", inputs, "softmax"), name="inner")
    outer = keras.Input((4,), name="w")
    return keras.Model(outer, inner(outer))


def _operation():
    inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, keras.ops.sigmoid(_dense(1, "d", inputs)))


def _sequence():
    inputs = keras.Input((None,), name="tokens")  # float32, the default
    embedded = layers.Embedding(50, 4)(inputs)
    return keras.Model(inputs, _dense(3, "tags", layers.LSTM(4, return_sequences=True)(embedded)))


def _words_and_tokens():
    tokens = keras.Input((3,), name="tokens")
    word = keras.Input((1,), name="word", dtype="string")
    look_up = layers.StringLookup(vocabulary=["p"], output_mode="one_hot")(word)
    embedded = layers.Flatten()(layers.Embedding(4, 2)(tokens))
    return keras.Model([tokens, word], _dense(1, "y", layers.Concatenate()([embedded, look_up])))


def _any_size():
    inputs = keras.Input((None, None, 3), name="picture")
    small = layers.Conv2D(2, 9, strides=2)(inputs)
    return keras.Model(inputs, _dense(2, "y", layers.GlobalMaxPooling2D()(small)))


def _attention():
    inputs = keras.Input((6, 8), name="x")
    looked = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(inputs, inputs) + inputs)
    return keras.Model(inputs, _dense(2, "y", layers.GlobalMaxPooling1D()(looked)))


def _double():
    inputs = keras.Input((4,), name="x", dtype="float64")
    return keras.Model(inputs, layers.Dense(2, name="y", dtype="float64")(inputs))


def _flags():
    inputs = keras.Input((4,), name="x", dtype="bool")
    return keras.Model(inputs, _dense(2, "y", keras.ops.cast(inputs, "float32")))


def _fixed(rows):
    inputs = keras.Input(batch_shape=(rows, 4), name="x")
    return keras.Model(inputs, _dense(2, "y", inputs))


def _one_at_a_time():
    inputs = keras.Input(batch_shape=(1, 4, 2), name="x")
    return keras.Model(inputs, _dense(2, "y", layers.GRU(2, stateful=False)(inputs)))


@pytest.mark.parametrize(
    ("make", "head", "kind"),
    [
        pytest.param(_sequential, "digit", "multiclass", id="sequential"),
        pytest.param(_inner_softmax, "inner", "multiclass", id="a model as the last layer"),
        pytest.param(_operation, "sigmoid", "binary", id="an operation as the last layer"),
        pytest.param(_sequence, "tags", "tensor", id="sequences of any length"),
        pytest.param(_words_and_tokens, "y", "regression", id="texts and embedded floats"),
        pytest.param(_any_size, "y", "regression", id="pictures of any size"),
        pytest.param(_attention, "y", "regression", id="attention"),
        pytest.param(_double, "y", "regression", id="float64"),
        pytest.param(_flags, "y", "regression", id="bool"),
        pytest.param(lambda: _fixed(1), "y", "regression", id="a batch of 1"),
        pytest.param(lambda: _fixed(32), "y", "regression", id="a batch of 32"),
        pytest.param(_one_at_a_time, "y", "regression", id="a recurrent layer of batch 1"),
    ],
)
def test_functional_models_of_every_kind_are_exported(tmp_path, make, head, kind):
    """Every functional Keras model is served, with batches of any size."""
    model = _export(tmp_path, make())

    assert {name: entry.kind for name, entry in model.signature.heads.items()} == {head: kind}
    assert model.signature.batch is None
    assert model.check_golden(1e-5) <= 1e-5


def test_half_precision_is_held_against_keras_loosely_and_itself_strictly(tmp_path):
    """float16 agrees with Keras to three digits, and golden rows are the file's own outputs."""
    inputs = keras.Input((4,), name="x")
    hidden = layers.Dense(8, dtype="mixed_float16")(inputs)

    model = _export_half(tmp_path, keras.Model(inputs, layers.Dense(2, name="y")(hidden)))

    assert model.check_golden(0) == 0


def _export_half(folder, model):
    path = folder / "half.keras"
    model.save(path)
    return Model.load(foreign.export_keras(path, "half", folder / "models").path)


@pytest.mark.filterwarnings("ignore")  # Keras warns about its older format.
def test_the_older_file_format_is_read_too(tmp_path):
    """A model that was saved as .h5 is exported like any other."""
    assert list(_export(tmp_path, _fixed(1), "old.h5").signature.heads) == ["y"]


def test_the_command_prints_the_difference_and_the_path(tmp_path):
    """`triceps export` ends like `triceps train`, with a table and one line."""
    _sequential().save(tmp_path / "my_model.keras")

    done = CliRunner().invoke(
        cli.export,
        [str(tmp_path / "my_model.keras"), "--name", "mine", "--models", str(tmp_path / "models")],
    )

    assert done.exit_code == 0, (done.output, done.exception)
    assert re.search(r"(?m)^digit +\d\.\de-\d\d$", done.stdout)
    path = tmp_path / "models" / "mine" / "1" / "model.onnx"
    assert done.stdout.splitlines()[-1] == f"published mine, version 1: {path}"
    assert path.is_file()


def _refused(path, name="mine"):
    with pytest.raises((ExportError, SpecError)) as raised:
        foreign.export_keras(path, name, path.parent / "models")
    assert not (path.parent / "models").exists()
    return str(raised.value).removeprefix(f"{path}: ")


def _subclass():
    @keras.saving.register_keras_serializable("tests")
    class Own(keras.Model):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.dense = layers.Dense(2)

        def call(self, tensor):
            return self.dense(tensor)

    model = Own()
    model(np.zeros((1, 2)))
    return model


def _own_layer():
    @keras.saving.register_keras_serializable("tests")
    class Twice(layers.Layer):
        def call(self, tensor):
            return tensor * 2

    inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, Twice()(inputs))


def _lambda():
    inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, layers.Lambda(lambda tensor: tensor * 2)(inputs))


def _text_vectorization():
    inputs = keras.Input((1,), name="x", dtype="string")
    words = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4, name="words")
    return keras.Model(inputs, _dense(1, "y", layers.Embedding(9, 2)(words(inputs))))


def _logarithm():
    inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, keras.ops.log(-keras.ops.abs(_dense(3, "d", inputs)) - 1.0))


def _batch_of_four():
    inputs = keras.Input(batch_shape=(4, 3), name="x")
    return keras.Model(inputs, _dense(1, "y", keras.ops.reshape(inputs, (2, 6))))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(
            _subclass,
            "it needs 'Own', which is code of its author and not in the file; only Keras' own"
            " layers can be exported: build the model of them, and save it again",
            id="subclass",
        ),
        pytest.param(
            _own_layer,
            "it needs 'Twice', which is code of its author and not in the file; only Keras' own"
            " layers can be exported: build the model of them, and save it again",
            id="custom layer",
        ),
        pytest.param(
            _lambda,
            "it holds a Lambda layer, which is Python code that would run while loading;"
            " replace it by Keras' own layers",
            id="lambda",
        ),
        pytest.param(
            _text_vectorization,
            "layer 'words': ONNX has no counterpart of TensorFlow's StaticRegexReplace; replace the"
            " layer that needs it by others of Keras",
            id="no counterpart in ONNX",
        ),
        pytest.param(
            _logarithm,
            "it does not answer random rows: its answers are not finite; try model.predict in Keras"
            " with other rows than those of the training, and mend the layer that fails",
            id="no finite answers",
        ),
        pytest.param(
            lambda: keras.Sequential([layers.Dense(2)]),
            "a Sequential that is not functional: its inputs are not known before it is called;"
            " build it with keras.Input and keras.Model(inputs, outputs)",
            id="no inputs",
            marks=pytest.mark.filterwarnings("ignore:You are saving a model"),
        ),
    ],
)
def test_a_model_that_cannot_be_exported_is_refused_by_name(tmp_path, make, expected):
    """The message names code outside the file, layers without a counterpart, or missing inputs."""
    path = tmp_path / "model.keras"
    make().save(path)
    keras.saving.get_custom_objects().clear()

    assert _refused(path) == expected


def test_a_model_that_needs_its_batch_is_refused(tmp_path):
    """A fixed batch size other than 1 cannot be served row by row."""
    path = tmp_path / "model.keras"
    _batch_of_four().save(path)

    assert _refused(path) == (
        "made for batches of 4, it takes no others: its layers have the batch built in; build it"
        " with keras.Input(shape), which has no batch size, and no layer that keeps a state"
    )


def test_a_model_of_one_row_at_a_time_stays_so(tmp_path):
    """With a fixed batch of 1, the file takes one row, and its signature says so."""
    inputs = keras.Input(batch_shape=(1, 4), name="x")
    pairs = layers.GRU(2)(keras.ops.reshape(inputs, (1, 2, 2)))

    signature = _export(tmp_path, keras.Model(inputs, _dense(2, "y", pairs))).signature

    assert signature.batch == 1


def test_a_model_that_remembers_the_row_before_is_refused(tmp_path):
    """A stateful layer depends on earlier rows, which a served row must not."""
    path = tmp_path / "model.keras"
    inputs = keras.Input(batch_shape=(1, 4, 2), name="x")
    keras.Model(inputs, _dense(2, "y", layers.GRU(2, stateful=True)(inputs))).save(path)

    assert "Keras does not answer new rows" in _refused(path)


def test_a_model_that_takes_no_other_rows_is_refused_with_its_message(tmp_path):
    """Layers that refuse a symbolic batch are reported with their message."""

    class Stubborn:
        def __init__(self):
            self.input = keras.Input(batch_shape=(2, 3), name="x")
            self.inputs = [self.input]

        def __call__(self, _):
            raise ValueError("two rows,\nno more")

    with pytest.raises(ExportError) as raised:
        foreign._call(tmp_path, Stubborn())

    expected = f"{tmp_path}: made for batches of 2, it takes no others: two rows, no more; build it"
    assert str(raised.value).startswith(expected)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param(
            "none.keras", None, "no such file; expected a Keras model, as my_model.keras",
            id="missing",
        ),
        pytest.param(
            "model.txt", b"", "expected a file named .keras or .h5, received '.txt';", id="other"
        ),
        pytest.param(
            "model.keras", b"hello", "not a Keras file, or not the whole of one; copy", id="no zip"
        ),
        pytest.param("model.h5", b"hello", "Keras cannot load it: ", id="no hdf5"),
    ],
)  # fmt: skip
def test_files_that_are_no_models_are_refused(tmp_path, name, content, expected):
    """A wrong path and a file of another type are refused."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    assert _refused(path).startswith(expected)


def test_a_zip_of_something_else_and_a_folder_are_refused(tmp_path):
    """A zip without a configuration and a folder, such as a SavedModel, are refused."""
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("hello", "world")
    (tmp_path / "saved").mkdir()

    refused = _refused(tmp_path / "model.keras")
    assert refused.startswith("Keras cannot load it: ")
    assert refused.endswith(f"; if another version saved it, load it there and save it again with"
                            f" Keras {keras.__version__}")  # fmt: skip
    assert _refused(tmp_path / "saved").startswith("a folder; expected a .keras file")


def test_a_name_that_no_folder_may_have_is_refused(tmp_path):
    """The name is checked before the model is loaded."""
    with pytest.raises(WrongName, match=r"received '\.\./mine'"):
        foreign.export_keras(tmp_path / "model.keras", "../mine", tmp_path / "models")


def test_answers_that_differ_are_refused(tmp_path, monkeypatch):
    """A foreign file, too, must answer as Keras does."""
    path = tmp_path / "model.keras"
    _fixed(1).save(path)
    predict = foreign.predict
    monkeypatch.setattr(
        foreign, "predict", lambda *arguments: {h: a + 1 for h, a in predict(*arguments).items()}
    )

    assert "head 'y' does not answer" in _refused(path)


def test_rows_of_usual_layers_are_proven_apart_by_their_operators(tmp_path):
    """Convolutions, recurrences, look-ups, attention and normalizations need no trial."""
    picture = keras.Input((8, 8, 3), name="picture")
    steps = keras.Input((6, 4), name="steps")
    tokens = keras.Input((None,), name="tokens", dtype="int32")
    seen = layers.Conv2D(4, 3, padding="same")(picture)
    seen = layers.Flatten()(layers.MaxPooling2D()(layers.BatchNormalization()(seen)))
    read = layers.GlobalAveragePooling1D()(layers.Embedding(10, 4)(tokens))
    known = layers.LSTM(4)(layers.TimeDistributed(layers.Dense(4))(steps))
    met = layers.MultiHeadAttention(2, 4)(steps, steps)
    met = layers.Flatten()(layers.LayerNormalization()(met))
    model = keras.Model(
        [picture, steps, tokens],
        [
            layers.Dense(3, "softmax", name="a")(layers.Concatenate()([seen, read, known])),
            layers.Dense(1, name="b")(layers.Dropout(0.5)(met)),
        ],
    )

    batching = _export(tmp_path, model).batching

    assert (batching.mode, batching.evidence) == ("rows", "operators")


def test_a_model_whose_rows_depend_on_each_other_is_exported_as_joint(tmp_path):
    """The file is compared with Keras on the same rows together."""
    inputs = keras.Input((4,), name="x")
    centred = inputs - keras.ops.mean(inputs, axis=0, keepdims=True)

    model = _export(tmp_path, keras.Model(inputs, layers.Dense(2, name="y")(centred)))

    assert (model.batching.mode, model.batching.evidence) == ("joint", "operators")
    assert "the batch axis" in model.batching.reason
