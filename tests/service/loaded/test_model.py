"""A loaded model: what it answers, what it refuses, and what it leaves in the process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import service
from service.commands.main import main
from service.errors import BadRequest, CannotRun, TooLarge, UndeclaredAnswer
from tests.harness import graphs, mixers, small, three

ROOT = Path(__file__).parents[3]
ROW = {
    "insurance": {"age": 47, "smoker": "yes", "bmi": 20},
    "fruit": [1, 2],
    "digit": [[0, 1], [2, 3]],
}


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small.put(folder, "three", 1, small.three(models={"risky": ["risk"]}))
    for name in ("ragged", "brittle", "logs", "plant", "alone", "double", "string"):
        small.put(folder, name, 1, small.every()[name])
    small.put(folder, "voice", 1, graphs.voice())
    small.put(folder, "joint", 1, mixers.softmax().SerializeToString())
    return folder


@pytest.fixture(scope="module", name="model")
def _model(folder):
    return service.load("three", folder)


def test_a_row_is_answered_by_every_head(model):
    """A dict is one row; values are arrays with a row each, and labels their texts."""
    answers = model.predict(ROW)

    assert list(answers) == ["risk", "size", "digits", "tags"]
    assert answers["size"].value.tolist() == [3]
    assert answers["size"].value.dtype == np.float32
    assert answers["size"].label is None
    assert answers["digits"].value.tolist() == [[0, 1, 2]]
    assert answers["digits"].label.tolist() == ["two"]
    assert answers["risk"].label.tolist() == ["high"]
    assert answers["tags"].label.tolist() == [["long"]]


def test_rows_keep_their_order(model):
    """Lists of rows are answered in their order, and for the heads that are asked."""
    rows = [{"fruit": [i, 0]} for i in range(1000)]

    answers = model.predict(rows, heads=["size"])

    assert list(answers) == ["size"]
    assert answers["size"].value.tolist() == list(range(1000))


def test_one_head_may_be_named_without_a_list(model):
    """A text is the name of a head, and not a sequence of letters."""
    assert list(model.predict({"fruit": [1, 2]}, "size")) == ["size"]


def test_inputs_are_arrays_by_name(model):
    """Arrays of any dtype and order of memory are rows; a table may be columns or rows."""
    arrays = three.rows(5)
    expected = three.answers(arrays)
    numbers = arrays["insurance"]
    table = {"age": numbers[:, 0], "smoker": arrays["insurance.smoker"][:, 0], "bmi": numbers[:, 1]}

    answers = model.predict(
        inputs={
            "insurance": table,
            "fruit": np.asfortranarray(arrays["fruit"], dtype=np.float64),
            "digit": arrays["digit"].reshape(5, 2, 2)[::-1][::-1],
        }
    )

    for head in ("size", "risk", "digits", "tags"):
        wanted = expected[head].reshape(answers[head].value.shape)
        assert np.allclose(answers[head].value, wanted, rtol=1e-6)


def test_missing_and_unseen_values_are_named_by_row(model):
    """A missing value takes its default; the answers have the numbers of the rows, by feature."""
    rows = [{"insurance": {"smoker": smoker, "bmi": 20}} for smoker in ("no", "maybe", None)]
    rows += [{"insurance": {"age": float("nan"), "smoker": "yes", "bmi": 20}}]

    answers = model.predict(rows, "risk")

    assert {name: rows.tolist() for name, rows in answers.imputed.items()} == {
        "insurance.age": [0, 1, 2, 3],
        "insurance.smoker": [2],
    }
    assert {name: rows.tolist() for name, rows in answers.unseen.items()} == {
        "insurance.smoker": [1]
    }


def test_mistakes_are_all_in_one_error(model):
    """The error has every problem, and its text the first: enough for a traceback."""
    row = {"insurence": {}, "fruit": [1, "7"], "digit": [0, 0]}

    with pytest.raises(BadRequest) as caught:
        model.predict(row, ["sise"])

    assert "did you mean 'size'?" in str(caught.value)
    assert [problem.at for problem in caught.value.problems] == [
        "heads[0]",
        "instances[0].insurence",
        "instances[0].fruit[1]",
        "instances[0].digit",
    ]
    assert caught.value.count == 4
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("row", [{"fruit": {1: 2, "1": 3}}, {1: 2, "1": 3}])
def test_keys_of_the_same_text_are_refused(model, row):
    """None of them is lost silently."""
    with pytest.raises(BadRequest, match="each key of a dict once"):
        model.predict(row)


def test_a_number_of_thousands_of_digits_is_a_mistake(model):
    """Python does not even write such a number."""
    long = 10**5000
    with pytest.raises(BadRequest, match="received a whole number of 16610 bits"):
        model.predict({**ROW, "fruit": [long, 1]})
    with pytest.raises(BadRequest, match="received a whole number of 16610 bits"):
        model.predict(inputs={"fruit": [[1, -long]]}, heads="size")
    with pytest.raises(BadRequest, match="received a whole number of 16610 bits"):
        model.explain(ROW, samples=long)


def test_an_array_in_itself_is_a_mistake(model):
    """It has no end."""
    endless = np.empty(2, object)
    endless[:] = [endless, 1]
    with pytest.raises(BadRequest, match="fruit"):
        model.predict({**ROW, "fruit": endless})


def test_a_nan_is_missing_in_a_table_alone(model):
    """In a picture it is a mistake, and the message says that it came."""
    nan = float("nan")

    with pytest.raises(BadRequest) as caught:
        model.predict([{"fruit": [nan, 1], "digit": [0, nan, 0, 0]}], ["size", "digits"])

    assert [(p.at, p.received) for p in caught.value.problems] == [("instances[0].digit[1]", "NaN")]


@pytest.mark.parametrize("arguments", [{}, {"instances": [], "inputs": {}}])
def test_either_instances_or_inputs_are_given(model, arguments):
    """A call without rows, or with two kinds of them, is a mistake in the program."""
    with pytest.raises(TypeError, match="expected either instances or inputs"):
        model.predict(**arguments)


def test_an_array_is_rows_of_the_only_input(folder):
    """With one input, an array of rows needs no name; a row of one value no axis of its own."""
    double = service.load("double", folder)
    values = np.arange(6.0).reshape(3, 2)

    assert double.predict(values)["y"].value.tolist() == values.tolist()
    assert double.predict(inputs=values.astype(np.float16))["y"].value.dtype == np.float64
    assert double.predict(values.tolist())["y"].value.tolist() == values.tolist()


def test_a_model_of_whole_tensors_takes_inputs_by_name(folder):
    """Tensors have the shapes of the graph; there are no rows, so none can be given."""
    voice = service.load("voice", folder)
    state = np.zeros((2, 1, 4), np.float32)

    answers = voice.predict(inputs={"audio": [[1, 2, 3]], "state": state, "sr": 2})

    assert answers["speech"].value.tolist() == [[1]]
    assert answers["next"].value.shape == (2, 1, 4)
    with pytest.raises(BadRequest, match="takes no rows"):
        voice.predict([{"audio": [1]}])
    with pytest.raises(TypeError, match="no rows"):
        answers.frame()


def test_a_view_is_a_model(folder):
    """A view is loaded by its name, and knows its own heads and inputs alone."""
    view = service.load("risky", folder)

    assert (view.name, view.version, list(view.signature.heads)) == ("risky", "1", ["risk"])
    assert list(view.predict({"insurance": ROW["insurance"]})) == ["risk"]


def test_many_rows_are_read_in_pieces(folder, model, monkeypatch):
    """However many rows there are, they are answered as one call, with their own numbers."""
    monkeypatch.setattr("service.loaded.reading.ROWS_AT_ONCE", 7)
    rows = [{"fruit": {"weight": i, **({} if i % 10 else {"length": None})}} for i in range(100)]
    rows = [{"fruit": {"length": 0, **row["fruit"]}} for row in rows]

    answers = model.predict(rows, "size")

    expected = [i if i % 10 else i + 2 for i in range(100)]
    assert answers["size"].value.tolist() == expected
    assert answers.imputed["fruit.length"].tolist() == list(range(0, 100, 10))


def test_any_number_of_values_may_be_missing(tmp_path):
    """The bound of a request, which lists each of them, is none here."""
    small.put(tmp_path, "wide", 1, small.wide_table(100, 1.0))
    wide = service.load("wide", tmp_path)

    answers = wide.predict([{}] * 3000)

    assert answers["total"].value.tolist() == [100] * 3000
    assert answers.imputed["table.f99"].tolist() == list(range(3000))


def test_mistakes_in_later_pieces_have_their_rows(model, monkeypatch):
    """The number of a row is that in the call, and all mistakes are counted."""
    monkeypatch.setattr("service.loaded.reading.ROWS_AT_ONCE", 7)
    rows = [{"fruit": [i, "x" if i % 10 == 9 else 0]} for i in range(100)]
    columns = {"weight": [0.0] * 20, "length": [0.0] * 19 + ["x"]}

    with pytest.raises(BadRequest) as caught:
        model.predict(rows, "size")
    with pytest.raises(BadRequest) as by_column:
        model.predict(inputs={"fruit": columns}, heads="size")

    assert caught.value.count == 10
    assert [p.at for p in caught.value.problems] == [
        f"instances[{i}].fruit[1]" for i in range(9, 100, 10)
    ]
    assert [p.at for p in by_column.value.problems] == ["inputs.fruit.length[19]"]


def test_rows_of_another_shape_in_a_later_piece_are_refused(folder, monkeypatch):
    """An axis of any length has one length in all rows of a call."""
    ragged = service.load("ragged", folder)
    monkeypatch.setattr("service.loaded.reading.ROWS_AT_ONCE", 2)

    assert ragged.predict([[[1, 2]]] * 5)["y"].value.tolist() == [[1, 2]] * 5
    with pytest.raises(BadRequest, match=r"instances\[4\]: expected the shape of the first row"):
        ragged.predict([[[1, 2]]] * 4 + [[[1, 2], [1, 2]]])


def test_rows_that_depend_on_each_other_are_one_run(folder):
    """They are never cut, so there may be only so many; more are refused as by HTTP."""
    joint = service.load("joint", folder)
    name = next(iter(joint.signature.inputs))
    one = np.zeros((4096, *joint.signature.inputs[name].tensors[0].shape), np.float32)

    assert len(next(iter(joint.predict(one).values())).value) == 4096
    with pytest.raises(TooLarge, match="at most 4096 rows"):
        joint.predict(np.concatenate([one, one]))


def test_rows_that_are_to_run_whole_are_one_run(tmp_path):
    """The settings of a model hold: `alone` says that a request is never cut."""
    small.put(tmp_path, "alone", 1, small.every()["double"])
    (tmp_path / "alone" / "settings.toml").write_text("alone = true\n")
    alone = service.load("alone", tmp_path)

    assert len(alone.predict(np.zeros((4096, 2)))["y"].value) == 4096
    with pytest.raises(TooLarge, match="at most 4096 rows"):
        alone.predict(np.zeros((4097, 2)))


def test_more_rows_than_one_request_may_have_are_answered(tmp_path, folder):
    """Neither the bounds of a body nor those of an answer apply to the caller's own process."""
    double = service.load("double", folder)
    small.put(tmp_path, "quiet", 1, small.every()["double"])
    (tmp_path / "quiet" / "settings.toml").write_text("queue = 0\ntimeout = 0.001\n")
    quiet = service.load("quiet", tmp_path)
    rows = np.random.default_rng(0).random((150_000, 2))

    assert np.array_equal(double.predict(rows)["y"].value, rows)
    assert quiet.predict(rows)["y"].value.tobytes() == rows.tobytes()


def test_an_answer_may_have_any_number_of_values(folder, monkeypatch):
    """The bound of an answer protects a service, which has to write it as JSON."""
    monkeypatch.setattr("service.wire.limits.MOST_NUMBERS", 100)
    double = service.load("double", folder)

    assert len(double.predict(np.zeros((5000, 2)))["y"].value) == 5000


def test_a_model_that_fails_raises_its_error(folder, tmp_path):
    """What the graph has no answer for is the caller's mistake, with its reason."""
    brittle = service.load("brittle", folder)

    assert brittle.predict({"x": 1, "place": 2})["wild"].value.tolist() == [30]
    with pytest.raises(CannotRun, match="no answer for these values"):
        brittle.predict({"x": 1, "place": 99})


def test_numbers_that_are_none_have_no_label(folder):
    """A NaN among the values of a row leaves its label open."""
    logs = service.load("logs", folder)

    answers = logs.predict([[1, -1], [3, 1]])

    assert answers["best"].label.tolist() == [None, "a"]
    assert answers["text"].value.tolist() == [["1", "-1"], ["3", "1"]]


# --- the process -------------------------------------------------------------------------------


def test_the_environment_of_a_service_does_not_count(tmp_path, monkeypatch):
    """Neither tokens nor other settings, nor one that does not exist, change a notebook."""
    small.put(tmp_path / "models", "three", 1, small.three())
    for name, value in {
        "MODELS": "/nowhere",
        "TOKENS_FILE": "/nowhere",
        "QUEUE": "0",
        "TIMEOUT": "0.001",
        "POLICY": "pinned",
        "NO_SUCH": "1",
    }.items():
        monkeypatch.setenv(f"TRICEPS_{name}", value)
    monkeypatch.chdir(tmp_path)

    assert service.load("three").predict(ROW)["size"].value.tolist() == [3]


def test_a_replaced_file_changes_nothing(tmp_path):
    """A model answers by the file that it has loaded; another load has the new one."""
    small.put(tmp_path, "three", 1, small.three())
    model = service.load("three", tmp_path)
    (tmp_path / "three" / "1" / "model.onnx").write_bytes(small.three(scale=10.0))

    assert model.predict(ROW, "size")["size"].value.tolist() == [3]
    assert service.load("three", tmp_path).predict(ROW)["size"].value.tolist() == [30]


def test_a_notebook_runs_in_an_event_loop(tmp_path):
    """There as elsewhere, many values may be missing: no request of others waits."""
    small.put(tmp_path, "wide", 1, small.wide_table(100, 1.0))
    wide = service.load("wide", tmp_path)

    async def cell():
        rows = wide.predict([{}] * 100)
        columns = wide.predict(inputs={"table": {"f0": np.full(100, np.nan)}})
        return rows["total"].value.tolist() == columns["total"].value.tolist() == [100] * 100

    assert asyncio.run(cell())


def test_numpy_may_raise_what_it_usually_ignores(folder, model):
    """The caller's settings of numpy hold for the caller's own code."""
    with np.errstate(all="raise"):
        tiny = model.predict({"fruit": [1e-300, 1e-300]}, "size")
        array = service.load("double", folder).predict(np.array([[1e-320, 1.0]]))

        with pytest.raises(FloatingPointError):
            np.float32(1e-30) * np.float32(1e-30)

    assert tiny["size"].value.tolist() == [0]
    assert array["y"].value.tolist() == [[1e-320, 1.0]]


def test_threads_share_a_model(model):
    """Calls from several threads at once have their own answers."""
    wrong = []

    def ask(number):
        for i in range(50):
            rows = [{"fruit": [number, i]}] * (i + 1)
            if model.predict(rows, "size")["size"].value.tolist() != [number + i] * (i + 1):
                wrong.append((number, i))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_no_thread_is_left_and_memory_is_freed(folder):
    """A model starts no thread, and its session goes with the last reference to the model."""
    before = threading.active_count()
    model = service.load("three", folder)
    session = weakref.ref(model._servable.model)
    answers = model.predict([ROW, ROW])
    with pytest.raises(BadRequest):
        model.predict(3)
    gc.disable()
    try:
        del model

        assert session() is None
    finally:
        gc.enable()
    assert threading.active_count() == before
    assert answers["size"].value.tolist() == [3, 3]


def test_an_error_of_a_run_holds_no_memory(folder):
    """Without cycles of references, all is freed once the caller has dealt with the error."""
    brittle = service.load("brittle", folder)
    session = weakref.ref(brittle._servable.model)
    gc.disable()
    try:
        with contextlib.suppress(CannotRun):
            brittle.predict({"x": 1, "place": 99})
        del brittle

        assert session() is None
    finally:
        gc.enable()


def test_a_model_is_not_pickled(model):
    """A session belongs to its process; the message says to load the model there."""
    with pytest.raises(TypeError, match="load it in the process that uses it"):
        pickle.dumps(model)


_FORK = """
import os, sys
import service
from service.commands.main import main
from service.errors import NotReady
model = service.load("three", sys.argv[1])
if os.fork():
    os.wait()
else:
    try:
        model.predict({"fruit": [1, 2]}, "size")
    except NotReady as error:
        print(error)
"""


def test_a_model_is_not_inherited_by_a_fork(folder):
    """ONNX Runtime may hang in a forked process, so the model says to load it there."""
    command = [sys.executable, "-c", _FORK, folder]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.endswith(", of which this one is a fork: load it here\n")


_IMPORTS = """
import sys
import service
print(sorted(name for name in sys.modules if name.startswith(("service.", "numpy", "onnx"))))
model = service.load("three", sys.argv[1])
model.predict({"fruit": [1, 2]}, "size")
heavy = ("flask", "httptools", "keras", "pandas", "rich", "tensorflow", "training", "uvloop")
print(sorted({name.partition(".")[0] for name in sys.modules} & set(heavy)))
"""


def test_nothing_is_imported_that_is_not_needed(folder):
    """`import service` costs nothing; a loaded model needs neither the web nor pandas."""
    command = [sys.executable, "-W", "error", "-c", _IMPORTS, folder]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")


def test_a_bug_is_raised_as_it_is(model, monkeypatch):
    """An error that is no caller's reaches the caller with its own traceback, and no status."""

    def fail(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(model._servable.model, "predict", fail)

    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        model.predict(ROW)

    assert any(entry.name == "fail" for entry in caught.traceback)


def test_another_answer_than_is_declared_is_an_error(model, monkeypatch):
    """The error that a service only logs says what the graph did."""
    error = UndeclaredAnswer("m", "size", "float32", "int64", (1,))

    def fail(*_):
        raise error

    monkeypatch.setattr(model._servable.model, "predict", fail)

    with pytest.raises(UndeclaredAnswer, match="as its graph declares"):
        model.predict(ROW)


# --- how it looks ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["three", "risky", "voice"])
def test_a_signature_is_printed_as_by_show(folder, monkeypatch, name):
    """And it has the same facts as values."""
    monkeypatch.setenv("COLUMNS", "100")
    signature = service.load(name, folder).signature

    shown = CliRunner().invoke(main, ["show", name, "--models", str(folder)]).output

    assert repr(signature).splitlines() == [line.rstrip() for line in shown.splitlines()]
    assert str(signature) == repr(signature)
    assert all(head in repr(signature) for head in signature.heads)


def test_a_model_and_its_answers_are_printed_in_short(model):
    """In a notebook, a value at the end of a cell says what it is."""
    answers = model.predict([{**ROW, "fruit": {"weight": 1}}] * 20)

    assert repr(model) == (
        "<model three, version 1: insurance, fruit, digit -> risk, size, digits, tags>"
    )
    assert "size: [3. 3. ... 3. 3.]\n" in repr(answers)
    assert "digits: [[0. 1. 2.] [0. 1. 2.] ... [0. 1. 2.] [0. 1. 2.]] ['two'" in repr(answers)
    assert repr(answers).endswith("missing: fruit.length, in 20 rows")
