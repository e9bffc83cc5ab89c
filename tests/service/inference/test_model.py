"""One model: which files are loaded and which refused, its rows, golden rows and weights."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from service.errors import ModelRefused
from service.inference.arrays import difference
from service.inference.model import Model
from service.inference.runner import MOST_ROWS
from service.signature import Golden, Signature
from tests.harness import small
from tests.harness.loading import I64, F, S, X, Y, built, floats, node


def refusal(source):
    """Return the reason for which a file is refused."""
    with pytest.raises(ModelRefused) as refused:
        Model.load(source)
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "it is not an ONNX model: it has no outputs", id="empty"),
        pytest.param(
            b"\x80\x04pickle", "it is not an ONNX file, or not the whole of one", id="a pickle"
        ),
        pytest.param(
            b"<!DOCTYPE html>", "it is not an ONNX file, or not the whole of one", id="a web page"
        ),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\n",
            "it is not an ONNX file, or not the whole of one",
            id="a Git LFS pointer",
        ),
    ],
)
def test_a_file_that_is_no_onnx_is_refused(tmp_path, content, reason):
    """The reason is the same for bytes in memory and for a file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    assert (refusal(content), refusal(path)) == (reason, reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("absent.onnx", "it cannot be read: No such file or directory", id="missing"),
        pytest.param(".", "it cannot be read: Is a directory", id="folder"),
    ],
)
def test_a_path_that_is_no_file_is_refused(tmp_path, name, reason):
    """The message has the operating system's reason."""
    assert refusal(tmp_path / name) == reason


def test_a_file_is_read_as_onnx_whatever_its_name_is(tmp_path):
    """The suffix of a file's name does not choose another reader."""
    path = tmp_path / "model.json"
    path.write_bytes(small.three())

    assert list(Model.load(path).signature.heads) == ["risk", "size", "digits", "tags"]


def test_a_file_cut_off_anywhere_is_refused():
    """A truncated copy of a model is not served.

    Only a file that ends right before the signature cannot be recognized: the rest is a valid
    foreign file, and is served as one.
    """
    content = small.three()
    signature = content.index(b"triceps")
    reasons = {
        refusal(content[:length])
        for length in range(0, len(content), 7)
        if not signature - 50 < length < signature
    }

    assert reasons >= {
        "it is not an ONNX file, or not the whole of one",
        "it is not an ONNX model: it has no outputs",
    }


@settings(max_examples=60)
@given(st.integers(0, len(small.three()) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_refused_or_harmless(place, flipped):
    """A damaged byte leads to a refusal or does no harm; one bad file does not stop the others."""
    content = bytearray(small.three())
    content[place] ^= flipped
    try:
        model = Model.load(bytes(content))
    except ModelRefused:
        return
    assert model.signature.heads


@pytest.mark.parametrize(
    "name", [b"insurance.smoker", b"Sigmoid", b"batch", b"risk", b'"features"']
)
def test_names_that_are_no_text_are_refused(name, capfd):
    """Names that are not UTF-8 are refused; neither Protobuf nor ONNX Runtime reports them."""
    reason = refusal(small.three().replace(name, b"\xff" * len(name)))

    assert reason.startswith(("a name in it is not UTF-8: ", "ONNX Runtime 1.", "its metadata"))
    assert "xff" in reason or "codec" in reason
    assert capfd.readouterr() == ("", "")


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(content):
    """Random bytes are refused with a `ModelRefused`."""
    assert refusal(content)


def _altered(**values):
    """Return the bytes of y = relu(x) with one change."""
    model = small.model([node("Relu", ["x"], ["y"])], [X], [Y])
    if "opset" in values:
        model.opset_import[0].version = values["opset"]
    if "ir" in values:
        model.ir_version = values["ir"]
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(_altered(opset=99), "Opset 99 is under development", id="future opset"),
        pytest.param(_altered(opset=0), "No Op registered for Relu", id="no opset"),
        pytest.param(_altered(ir=99), "Unsupported model IR version: 99", id="future format"),
        pytest.param(built([node("Frob", ["x"], ["y"])]), "registered for Frob", id="unknown op"),
        pytest.param(
            built([node("Frob", ["x"], ["y"], domain="acme")]), "domain 'acme'", id="custom domain"
        ),
    ],
)
def test_a_graph_that_this_runtime_cannot_run_is_refused_with_its_reason(content, words):
    """The message has ONNX Runtime's reason with its version number, without C++ details."""
    reason = refusal(content)

    assert reason.startswith("ONNX Runtime 1.")
    assert words in reason
    assert "[ONNXRuntimeError]" not in reason
    assert "std::" not in reason


def _typed(inputs, outputs, *nodes, constants=()):
    """Return a graph with an input of this type."""
    graph = helper.make_graph(list(nodes), "typed", inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


_TENSOR_X = helper.make_tensor_value_info(*X)
_DTYPES = (
    "expected a tensor of one of float32, float64, float16, bool, string, "
    "int8, int16, int32, int64, uint8, uint16, uint32, uint64"
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(
            built(
                [node("Identity", ["c"], ["y"])],
                inputs=(),
                outputs=(("y", F, [2]),),
                constants={"c": np.float32([0, 0])},
            ),
            "it has no inputs",
            id="no inputs",
        ),
        pytest.param(
            _typed(
                [_TENSOR_X],
                [helper.make_tensor_sequence_value_info("y", F, None)],
                node("SequenceConstruct", ["x"], ["y"]),
            ),
            f"head 'y' is a seq(tensor(float)): {_DTYPES}",
            id="a sequence out",
        ),
        pytest.param(
            _typed(
                [_TENSOR_X],
                [
                    helper.make_value_info(
                        "y",
                        helper.make_sequence_type_proto(
                            helper.make_map_type_proto(I64, helper.make_tensor_type_proto(F, []))
                        ),
                    )
                ],
                node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
            ),
            f"head 'y' is a seq(map(int64,tensor(float))): {_DTYPES} "
            "(skl2onnx makes tensors of it with options={'zipmap': False})",
            id="a map out",
        ),
        pytest.param(
            _typed(
                [helper.make_tensor_sequence_value_info("x", F, None)],
                [helper.make_tensor_value_info("y", F, None)],
                node("SequenceAt", ["x", "i"], ["y"]),
                constants=[numpy_helper.from_array(np.array(0), "i")],
            ),
            f"input 'x' is a seq(tensor(float)): {_DTYPES}",
            id="a sequence in",
        ),
        pytest.param(
            built(
                [node("Identity", ["x"], ["y"])],
                (("x", TensorProto.BFLOAT16, ["batch", 2]),),
                (("y", TensorProto.BFLOAT16, ["batch", 2]),),
            ),
            f"input 'x' is a tensor(bfloat16): {_DTYPES}",
            id="a type that numpy has not",
        ),
        pytest.param(
            built([node("Relu", ["x"], ["y"])], (("x", F, None),)),
            "input 'x' does not say how many axes it has",
            id="an input of any number of axes",
        ),
        pytest.param(
            small.signed(
                small.model(
                    [node("ReduceMean", ["x", "rows"], ["y"])],
                    [X],
                    [("y", F, [1, 2])],
                    {"rows": np.array([0])},
                ),
                Signature({"x": small.entry("x", (2,))}, {}),
            ),
            "head 'y' does not answer row by row: expected 3 rows for 3, received the shape [1, 2]",
            id="a signature of rows for a mean over all of them",
        ),
        pytest.param(
            small.signed(
                small.model([node("Relu", ["x"], ["y"])], [("x", F, [3, 2])], [("y", F, [3, 2])]),
                Signature({"x": small.entry("x", (2,))}, {}),
            ),
            "its signature is for rows, and its graph takes none: the first axis of input 'x' is 3",
            id="a signature of rows for a fixed batch of three",
        ),
    ],
)
def test_a_graph_that_cannot_be_served_is_refused_by_name(content, reason):
    """The message names the input or head, and the requirement."""
    assert refusal(content).startswith(reason)


def test_every_dtype_that_json_can_hold_is_served():
    """Integers, floats, booleans and strings of all sizes keep the dtype of the graph."""
    types = {
        "float16": TensorProto.FLOAT16,
        "float64": TensorProto.DOUBLE,
        "bool": TensorProto.BOOL,
        "string": S,
        "uint8": TensorProto.UINT8,
        "int64": I64,
    }
    model = Model.load(
        built(
            [node("Identity", [name], [f"{name}/out:0"]) for name in types],
            [(name, kind, ["batch", 1]) for name, kind in types.items()],
            [(f"{name}/out:0", kind, ["batch", 1]) for name, kind in types.items()],
        )
    )
    values = {name: np.array([[1]], name) for name in types if name != "string"}
    values["string"] = np.array([["ä"]], object)

    answers = model.predict(values, list(model.signature.heads))

    assert {head: value.tolist() for head, value in answers.items()} == {
        f"{name}/out:0": value.tolist() for name, value in values.items()
    }


def test_a_fixed_batch_of_one_takes_many_rows():
    """The rows run one by one, and the outputs are joined."""
    model = Model.load(
        built(
            [node("Relu", ["x"], ["y"]), node("ReduceSum", ["x"], ["sum"], keepdims=0)],
            (("x", F, [1, 2]),),
            (("y", F, [1, 2]), ("sum", F, [])),
        )
    )

    answers = model.predict({"x": floats([1, -1], [2, 3])}, ["sum", "y"])

    assert model.signature.batch == 1
    assert {head: value.tolist() for head, value in answers.items()} == {
        "sum": [0, 5],
        "y": [[1, 0], [2, 3]],
    }


def test_zeros_that_a_foreign_graph_does_not_take_prove_nothing():
    """A foreign graph that fails on zeros is served, since it may work on real values."""
    model = Model.load(
        built(
            [node("Sub", ["x", "one"], ["i"]), node("GatherND", ["table", "i"], ["y"])],
            (("x", I64, ["batch", 1]),),
            (("y", F, ["batch"]),),
            {"one": np.array(9), "table": np.float32([5, 6])},
        )
    )

    assert model.predict({"x": np.array([[9], [10]])}, ["y"])["y"].tolist() == [5, 6]


def _three_with(outputs=None, inputs=None, **more):
    """Return `three` with some of its golden rows replaced."""
    signature = small.three_signature()
    model = onnx.load_from_string(small.three())
    golden = Golden(
        {**signature.golden.inputs, **(inputs or {})},
        signature.golden.outputs | outputs if outputs else signature.golden.outputs,
        **more,
    )
    return small.signed(model, replace(signature, golden=golden))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(
            _three_with({"size": [[2.0], [2.6]]}),
            "head 'size' does not answer its golden rows as it did when it was made: "
            "expected a difference of at most 0.0001, found 0.038",
            id="another answer",
        ),
        pytest.param(
            _three_with({"size": [[2.0], [None]]}),
            "head 'size' does not answer its golden rows as it did when it was made: "
            "expected a difference of at most 0.0001, found inf",
            id="a number for what was none",
        ),
        pytest.param(
            _three_with({"size": [2.0, 2.5]}),
            "head 'size' does not answer its golden rows as it did when it was made: "
            "expected the shape [2], found [2, 1]",
            id="another shape",
        ),
        pytest.param(
            _three_with(inputs={"fruit": [[1, 1], [2]]}),
            "its golden rows do not fit its graph: ",
            id="ragged rows",
        ),
        pytest.param(
            _three_with(inputs={"fruit": [["one", 1], [2, 1]]}),
            "its golden rows do not fit its graph: ",
            id="text for numbers",
        ),
        pytest.param(
            _three_with(inputs={"fruit": [[1], [2]]}),
            "it fails on its own golden rows: ",
            id="too few values",
        ),
        pytest.param(
            _three_with({"size": [[2.0], [2.51]]}, tolerances={"size": 1e-3}),
            "head 'size' does not answer its golden rows as it did when it was made: "
            "expected a difference of at most 0.001, found 0.004",
            id="more than the stated tolerance",
        ),
        pytest.param(
            _three_with(tolerances={"size": 0.5}),
            "the tolerance of the golden rows of head 'size' is 0.5: expected a number from 0 to",
            id="a tolerance that would let any answer pass",
        ),
        pytest.param(
            _three_with(tolerances={"size": True}),
            "the tolerance of the golden rows of head 'size' is True: expected a number from 0 to",
            id="a tolerance that is no number",
        ),
        pytest.param(
            _three_with(tolerances=["size"]),
            "its signature (metadata 'triceps') is damaged: ",
            id="tolerances of no head",
        ),
    ],
)
def test_a_model_that_does_not_answer_its_golden_rows_is_refused(content, reason):
    """A model is served only if it answers as it did after training."""
    assert refusal(content).startswith(reason)


def test_golden_rows_may_differ_by_the_tolerance():
    """Processors round differently, which does not make a model wrong."""
    near = _three_with({"size": [[2.00019], [2.5]]})

    model = Model.load(near)

    assert model.check_golden(1e-4) == pytest.approx(9.5e-5, rel=1e-2)
    with pytest.raises(ModelRefused, match=r"at most 1e-05, found 9\.5e-05"):
        model.check_golden(1e-5)


def test_a_head_may_differ_by_the_tolerance_that_its_signature_states():
    """The tolerance of a head counts where it is larger, and for that head alone."""
    stated = _three_with({"size": [[2.001], [2.5]]}, tolerances={"size": 1e-3, "other": 1e-3})

    model = Model.load(stated)

    assert model.signature.golden.tolerances == {"size": 1e-3, "other": 1e-3}
    assert model.check_golden(1e-5) == pytest.approx(5e-4, rel=1e-2)
    with pytest.raises(ModelRefused, match=r"at most 0\.0001"):
        Model.load(_three_with({"size": [[2.001], [2.5]]}, tolerances={"size": 1e-9}))


def test_without_golden_rows_there_is_nothing_to_differ_from():
    """A file without golden rows passes."""
    model = Model.load(small.three(golden=False))

    assert (model.check_golden(0), model.golden_arrays()) == (0.0, {})


def test_a_golden_answer_that_is_no_number_is_held_to_that():
    """A golden answer of null stands for NaN, and the model must return NaN."""
    graph = small.model([node("Log", ["x"], ["y"])], [X], [Y])
    signature = Model.load(graph.SerializeToString()).signature
    golden = Golden({"x": [[1.0, -1.0]]}, {"y": [[0.0, None]]})

    model = Model.load(small.signed(graph, replace(signature, golden=golden)))

    assert model.check_golden(0) == 0


@pytest.mark.parametrize(
    ("answer", "expected", "apart"),
    [
        pytest.param(floats(0.5), floats(0.25), 0.25, id="absolute below one"),
        pytest.param(floats(1010), floats(1000), 0.01, id="relative above"),
        pytest.param(floats(np.nan), floats(np.nan), 0, id="both NaN"),
        pytest.param(floats(np.nan), floats(1), np.inf, id="one NaN"),
        pytest.param(floats(np.inf), floats(np.inf), 0, id="both infinite"),
        pytest.param(floats(np.inf), floats(1), np.inf, id="one infinite"),
        pytest.param(floats(1, 2), floats(1), np.inf, id="another shape"),
        pytest.param(np.array(["a"], object), np.array(["a"], object), 0, id="same text"),
        pytest.param(np.array(["a"], object), np.array(["b"], object), np.inf, id="other text"),
        pytest.param(floats(), floats(), 0, id="nothing"),
        pytest.param(np.array([2**40]), np.array([2**40]), 0, id="integers"),
    ],
)
def test_a_difference_is_relative_to_the_size(answer, expected, apart):
    """The tolerance is relative, since float32 has seven digits at any size."""
    assert difference(answer, expected) == pytest.approx(apart)


def _external(folder, location="weights.bin"):
    """Write a file of two heads, and its weights beside it."""
    model = small.model(
        [node("Mul", ["x", "w"], ["y"]), node("Add", ["x", "v"], ["z"])],
        [X],
        [Y, ("z", F, ["batch", 2])],
        {"w": np.full(2, 3, np.float32), "v": np.full(2, 5, np.float32)},
    )
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    again = onnx.load(path, load_external_data=False)
    for tensor in again.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = location
    path.write_bytes(again.SerializeToString())
    return path


def test_weights_beside_the_file_are_read(tmp_path):
    """External weights work for all heads, and for a sub-graph, which is built in memory."""
    model = Model.load(_external(tmp_path / "m"))

    both = model.predict({"x": floats([1, 2])}, ["y", "z"])
    one = model.predict({"x": floats([1, 2])}, ["z"])

    assert {head: value.tolist() for head, value in both.items()} == {
        "y": [[3, 6]],
        "z": [[6, 7]],
    }
    assert one["z"].tolist() == [[6, 7]]


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("../secret.bin", id="above"),
        pytest.param("{folder}/secret.bin", id="absolute"),
        pytest.param("absent.bin", id="missing"),
        pytest.param("link.bin", id="a link that leads out"),
    ],
)
def test_weights_outside_the_files_folder_are_refused(tmp_path, location):
    """A foreign model cannot read other files of the machine."""
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    path = _external(tmp_path / "m", location.format(folder=tmp_path))
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "secret.bin")

    assert refusal(path).startswith("its weights 'w' are in ")


def test_weights_elsewhere_are_refused_in_memory_too(tmp_path, monkeypatch):
    """A model in memory has no folder, so it has no external weights."""
    path = _external(tmp_path / "m")
    monkeypatch.chdir(tmp_path)

    assert refusal(path.read_bytes()).startswith("ONNX Runtime 1.")


@pytest.mark.parametrize("name", small.every())
def test_many_rows_run_some_at_a_time(name):
    """Rows run in pieces give the answers of one run, also for a shorter last piece."""
    model = Model.load(small.every()[name])
    heads = model.signature.head_names
    row = {
        tensor.name: np.full((1, *(axis or 2 for axis in tensor.shape)), "yes", object)
        if tensor.dtype == "string"
        else np.ones((1, *(axis or 2 for axis in tensor.shape)), tensor.dtype)
        for entry in model.signature.inputs.values()
        for tensor in entry.tensors
    }
    one = model.predict(row, heads)
    for rows in (MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 1, 2 * MOST_ROWS + 1):
        arrays = {key: np.repeat(array, rows, axis=0) for key, array in row.items()}
        outputs = model.predict(arrays, heads)
        for head in heads:
            assert outputs[head].dtype == one[head].dtype
            assert difference(outputs[head], np.repeat(one[head], rows, axis=0)) <= 1e-6
