"""Hostile or damaged files: each is refused by name, and the other models keep serving."""

import ast
import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from service.app import create_app
from service.errors import ModelRefused
from service.inference import model_file
from service.inference.model import Model
from service.repository.assembly import open_repository
from service.repository.reloader import Library
from service.settings import Settings
from tests.harness import small
from tests.harness.hostile_graphs import (
    GOOD,
    ROOT,
    F,
    X,
    Y,
    built,
    large,
    looping,
    node,
    own_function,
    spread,
)
from tests.harness.serving import Server


@pytest.fixture
def models(tmp_path):
    """Return a repository with a good model."""
    small.put(tmp_path / "models", "good", 1, GOOD)
    return tmp_path / "models"


def refusals(models):
    """Return the reasons of the refused versions by name; the good model has to serve."""
    repository = open_repository(models)
    assert repository.find("good").version == "1"
    return {(entry.name, entry.version): entry.reason for entry in repository.refused}


def _socket(path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        os.chdir(path.parent)  # the path of a socket has to be short
        listener.bind(path.name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(os.mkfifo, "it is not a file: expected one, received a pipe", id="a pipe"),
        pytest.param(_socket, "it cannot be read: No such device or address", id="a socket"),
        pytest.param(Path.mkdir, "it cannot be read: Is a directory", id="a folder"),
        pytest.param(
            lambda path: path.symlink_to("/dev/zero"),
            "a link leads out of the repository, to /dev/zero: expected the file",
            id="a link to a device",
        ),
        pytest.param(
            lambda path: path.symlink_to(path),
            "it cannot be read: Too many levels of symbolic links",
            id="a link to itself",
        ),
        pytest.param(
            lambda path: (path.touch(), os.truncate(path, 5 << 30)),
            "it has 5368709120 bytes, and an ONNX file at most 2147483647",
            id="five gigabytes of holes",
        ),
    ],
)
def test_anything_but_a_file_in_its_place_is_refused(models, monkeypatch, make, reason):
    """The refusal comes at once: a pipe has no writer, and a device has no end."""
    monkeypatch.chdir(models)
    (models / "bad" / "1").mkdir(parents=True)
    make(models / "bad" / "1" / "model.onnx")
    started = time.monotonic()

    assert refusals(models)["bad", "1"].startswith(reason)
    assert time.monotonic() - started < 30


def test_a_device_is_refused_as_a_model():
    """A device is not a file, even where no link is checked because there is no repository."""
    with pytest.raises(ModelRefused, match="it is not a file: expected one, received a pipe or a"):
        Model.load(Path("/dev/zero"))


@pytest.mark.parametrize("place", ["good2", "good/2", "good/2/model.onnx"])
def test_links_out_of_the_repository_are_refused(models, place):
    """The user that places a link there may not be permitted to read its target."""
    outside = models.parent / "secret"
    small.put(outside, "m", 2, GOOD)
    target = {1: outside / "m", 2: outside / "m" / "2", 3: outside / "m" / "2" / "model.onnx"}
    (models / place).parent.mkdir(parents=True, exist_ok=True)
    (models / place).symlink_to(target[len(Path(place).parts)])

    [(name, reason)] = refusals(models).items()

    assert name == (Path(place).parts[0], "2")
    assert reason == (
        f"a link leads out of the repository, to {outside / 'm' / '2' / 'model.onnx'}: expected "
        "the file, or a link inside; the repository itself may be a link"
    )


def test_a_mounted_folder_of_links_serves(tmp_path):
    """Kubernetes mounts each file, weights too, as a link to a link in a folder beside it."""
    folder = tmp_path / "models" / "m" / "1"
    hidden = folder / "..2024_01_01" / "model.onnx"
    _external(hidden, "w.bin", bytes(8))
    (folder / "..data").symlink_to("..2024_01_01")
    for name in ("model.onnx", "w.bin"):
        (folder / name).symlink_to(f"..data/{name}")

    servable = open_repository(tmp_path / "models").find("m")

    assert servable.model.predict({"x": np.ones((1, 2), np.float32)}, ["y"])["y"].tolist() == [
        [0, 0]
    ]


def test_a_file_that_grows_is_read_to_the_size_it_had(models, monkeypatch):
    """Bytes that are written after the file was opened are not waited for."""
    path = models / "good" / "1" / "model.onnx"
    stop = threading.Event()

    def grow():
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"\0" * 65536)
                file.flush()
                time.sleep(0.001)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        while path.stat().st_size == len(GOOD):
            time.sleep(0.001)
        started = time.monotonic()
        content = model_file.content(path)
        took = time.monotonic() - started
    finally:
        stop.set()
        writer.join()

    assert content.startswith(GOOD)
    assert took < 2
    assert "good" in {entry.name for entry in open_repository(models).refused}


def _external(path, location, weights=None, *, dims=(2,), **more):
    """Write a file of two heads whose weights lie elsewhere, as it says."""
    model = small.model(
        [node("Mul", ["x", "w"], ["y"]), node("Add", ["x", "x"], ["z"])], [X], [Y, ("z", *Y[1:])]
    )
    tensor = model.graph.initializer.add(name="w", data_type=F, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    if weights is not None:
        (path.parent / location).write_bytes(weights)


def _with_pipe(path):
    _external(path, "w.bin")
    os.mkfifo(path.parent / "w.bin")


def _with_folder(path):
    _external(path, "w.bin")
    (path.parent / "w.bin").mkdir()


def _with_link(path):
    _external(path, "w.bin")
    (path.parent / "w.bin").symlink_to("/etc/hostname")


def _with_linked_folder(path):
    _external(path, "there/hostname")
    (path.parent / "there").symlink_to("/etc")


def _with_loop(path):
    _external(path, "w.bin")
    (path.parent / "w.bin").symlink_to("w.bin")


def _without_place(path):
    _external(path, "w.bin", bytes(8), offset="eight")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(
            lambda path: _external(path, "/proc/self/environ", length="8"),
            "'/proc/self/environ', which is outside of its folder",
            id="absolute",
        ),
        pytest.param(
            lambda path: _external(path, "../../../../../../../../etc/passwd", length="8"),
            "'../../../../../../../../etc/passwd', which is outside of its folder",
            id="above",
        ),
        pytest.param(_with_link, "'w.bin', which is outside of its folder", id="a link"),
        pytest.param(
            _with_linked_folder,
            "'there/hostname', which is outside of its folder",
            id="a folder that is a link",
        ),
        pytest.param(_with_loop, "'w.bin', which ", id="a link to itself"),
        pytest.param(_with_pipe, "'w.bin', which is no file", id="a pipe"),
        pytest.param(_with_folder, "'w.bin', which is no file", id="a folder"),
        pytest.param(
            # For ONNX Runtime's own parts, this location means an address in this process.
            lambda path: _external(path, "*/_ORT_MEM_ADDR_/*", offset="4096", length="8"),
            "'*/_ORT_MEM_ADDR_/*', which cannot be read: No such file or directory",
            id="an address in memory",
        ),
        pytest.param(
            lambda path: _external(path, "w.bin", bytes(8), offset="-8"),
            "'w.bin', bytes -8 to 8, and that has 8",
            id="before its beginning",
        ),
        pytest.param(
            lambda path: _external(path, "w.bin", bytes(8), offset=str(2**64 - 8), length="8"),
            f"'w.bin', bytes {2**64 - 8} to {2**64}, and that has 8",
            id="far behind its end",
        ),
        pytest.param(
            lambda path: _external(path, "w.bin", bytes(8), length=str(2**62)),
            f"'w.bin', bytes 0 to {2**62}, and that has 8",
            id="longer than it is",
        ),
        pytest.param(_without_place, "'w.bin', which names no place in a file", id="no number"),
        pytest.param(
            lambda path: _external(path, "a\0b"), "which names no place in a file", id="no path"
        ),
    ],
)
def test_weights_that_are_not_beside_the_file_are_refused(models, make, reason):
    """They are refused before ONNX Runtime opens them, so that no other file is read as weights."""
    make(models / "bad" / "1" / "model.onnx")

    message = refusals(models)["bad", "1"]

    assert message.startswith("its weights 'w' are in ")
    assert reason in message


def test_external_weights_are_found_everywhere_in_a_graph(tmp_path):
    """Weights may be in a node, in the branch of an If, or in a function."""
    tensor = TensorProto(name="w", data_type=F, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    constant = node("Constant", [], ["w"], value=tensor)
    branch = helper.make_graph(
        [constant], "branch", [], [helper.make_tensor_value_info("w", F, [2])]
    )
    sparse = onnx.SparseTensorProto(values=tensor, dims=[2])
    function = helper.make_function(
        "own", "f", [], ["w"], [constant], [helper.make_opsetid("", 18)]
    )
    for model in (
        onnx.ModelProto(graph=onnx.GraphProto(node=[constant])),
        onnx.ModelProto(graph=onnx.GraphProto(node=[node("If", ["c"], ["w"], then_branch=branch)])),
        onnx.ModelProto(graph=onnx.GraphProto(sparse_initializer=[sparse])),
        onnx.ModelProto(functions=[function]),
    ):
        assert [weights.name for weights in model_file.tensors_in(model)] == ["w"]


def test_every_place_of_a_tensor_is_known():
    """All fields of ONNX that lead to a tensor are listed; a release of onnx may add one."""
    kinds, waiting = {}, [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        kind = waiting.pop()
        below = [(field.name, field.message_type) for field in kind.fields if field.message_type]
        kinds[kind.name] = [(name, part.name) for name, part in below]
        waiting += [part for _, part in below if part.name not in kinds]
    leads, holds = set(), {"TensorProto"}
    for _ in kinds:
        leading = {(n, k) for k, parts in kinds.items() for n, part in parts if part in holds}
        leads, holds = {name for name, _ in leading}, holds | {kind for _, kind in leading}

    assert {"graph", "node", "attribute", "t", "g", "initializer"} <= leads <= model_file.HOLDERS


def _altered(**values):
    model = small.model([node("Relu", ["x"], ["y"])], [X], [Y])
    for name, value in values.items():
        setattr(model, name, value)
    return model


def _opset(version):
    model = _altered()
    model.opset_import[0].version = version
    return model.SerializeToString()


def _initialiser(dims, raw=b""):
    model = small.model([node("Add", ["x", "w"], ["y"])], [("x", F, ["n", "m"])], [("y", F, None)])
    model.graph.initializer.add(name="w", data_type=F, dims=dims, raw_data=raw)
    return model.SerializeToString()


def _row(*axes, dtype=F):
    axes = ["n", *axes]
    return built([node("Identity", ["x"], ["y"])], [("x", dtype, axes)], [("y", dtype, axes)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(GOOD[: len(GOOD) // 2], "it is not an ONNX file, or not the", id="truncated"),
        pytest.param(os.urandom(4096), "it is not an ONNX ", id="random bytes"),
        pytest.param(b"", "it is not an ONNX model: it has no outputs", id="empty"),
        pytest.param(_opset(999), "ONNX Runtime 1.", id="an opset that does not exist yet"),
        pytest.param(_opset(-1), "ONNX Runtime 1.", id="an opset below zero"),
        pytest.param(
            _altered(ir_version=99).SerializeToString(), "ONNX Runtime 1.", id="another format"
        ),
        pytest.param(
            built([node("Evil", ["x"], ["y"], domain="com.evil")]),
            "ONNX Runtime 1.",
            id="an operator of its own",
        ),
        pytest.param(
            own_function(node("f", ["a"], ["b"], domain="own")),
            "ONNX Runtime 1.",
            id="a function that calls itself",
        ),
        pytest.param(_initialiser([2**40]), "ONNX Runtime 1.", id="four terabytes announced"),
        pytest.param(_initialiser([2**62, 4]), "ONNX Runtime 1.", id="more than an address"),
        pytest.param(_initialiser([-5], b"12345678"), "ONNX Runtime 1.", id="fewer than none"),
        pytest.param(_initialiser([2**30], b"1234"), "ONNX Runtime 1.", id="less than announced"),
        pytest.param(
            _row(10**9, 10**9),
            "input 'x' is float32[1000000000 x 1000000000] a row: 1 of them are more than memory",
            id="a row that no client can send",
        ),
        pytest.param(_row(2**62, 4), "input 'x' is float32[4611", id="a row of more than 64 bits"),
        pytest.param(
            _row(2**62, dtype=TensorProto.STRING),
            "input 'x' is string[4611",
            id="texts without end",
        ),
        pytest.param(
            built([node("B" + "o" * 10**6 + "gus", ["x"], ["y"])]),
            "ONNX Runtime 1.",
            id="long name",
        ),
        pytest.param(
            built([node("B\x1b[31m\u202eogus", ["x"], ["y"])]), "ONNX Runtime 1.", id="colours"
        ),
    ],
)
def test_a_file_that_is_no_usable_model_is_refused(models, content, reason):
    """The reason is one short line of printable characters."""
    small.put(models, "bad", 1, content)
    started = time.monotonic()

    reason_received = refusals(models)["bad", "1"]

    assert reason_received.startswith(reason)
    assert reason_received.isprintable()
    assert len(reason_received) < 500
    assert time.monotonic() - started < 30


NOTE = json.loads(onnx.load_from_string(GOOD).metadata_props[0].value)


def _noted(text):
    model = onnx.load_from_string(GOOD)
    model.metadata_props[0].value = text
    return model.SerializeToString()


def _deep(levels, inside=1):
    for _ in range(levels):
        inside = [inside]
    return inside


def _provenance(value):
    return json.dumps({**NOTE, "provenance": {"x": value}})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="a list"),
        pytest.param('{"format": 1e0}', id="a format that is not a whole number"),
        pytest.param("[" * 100_000, id="deep, and without end"),
        pytest.param(_provenance(_deep(900)), id="deeper than an answer can be"),
        pytest.param(_provenance(10**30), id="a number that no answer holds"),
        pytest.param(_provenance("\ud800"), id="half of a surrogate pair"),
        pytest.param('{"format": 1, "provenance": {"x": NaN}}', id="no number"),
        pytest.param('{"format": 1, "x": ' + "9" * 5000 + "}", id="five thousand digits"),
        pytest.param(json.dumps({**NOTE, "golden": 7}), id="golden rows that are a number"),
        pytest.param(json.dumps({**NOTE, "models": {"v": "risk"}}), id="a view of a text"),
        pytest.param(" " * (64 * 2**20 + 1), id="larger than any"),
    ],
)
def test_metadata_that_is_not_ours_is_refused(models, text):
    """Errors that would show only in the signature's pages are found at load."""
    small.put(models, "bad", 1, _noted(text))

    assert "metadata 'triceps'" in refusals(models)["bad", "1"]


def _places(value, place=()):
    """Yield the path of every place in a JSON value."""
    yield place
    listed = enumerate(value) if isinstance(value, list) else ()
    for key, part in value.items() if isinstance(value, dict) else listed:
        yield from _places(part, (*place, key))


def _replaced(value, place, other):
    if not place:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _replaced(value[place[0]], place[1:], other)
    return copy


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, 1e308, -1e308, 2**63, "\ud800", "\0", "\x1b[31m", "kind", "risk"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.sampled_from(list(_places(NOTE))), anything)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_no_signature_harms_other_models(tmp_path_factory, place, other):
    """The file is refused, or it serves and all its pages can be read."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "good", 1, GOOD)
    small.put(models, "odd", 1, _noted(json.dumps(_replaced(NOTE, place, other))))
    client = create_app(Settings(models=models)).test_client()

    pages = ["/models", "/models/odd", "/models/odd/example", "/openapi.json", "/v2/models/odd"]
    statuses = {page: client.get(page).status_code for page in [*pages, "/v1/models/odd/metadata"]}

    serves = statuses["/models/odd"] == 200
    # A model may serve although no example is known that it answers.
    assert statuses.pop("/models/odd/example") in ((200, 404) if serves else (503,))
    assert statuses["/models"] == statuses["/openapi.json"] == 200
    assert set(statuses.values()) <= ({200} if serves else {200, 503})


# The memory of each process is limited by the kernel, and trials have little time.
_LIMITED = """
import resource
from service.commands import main
from service.repository import file_trial, reloader
reloader.SETTLE_SECONDS, file_trial.BUSY_SECONDS = 0.01, 2
resource.setrlimit(resource.RLIMIT_DATA, (300 << 20,) * 2)
main.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces such a limit")
def test_a_service_outlives_all_hostile_files_at_once(models):
    """At the start and later, the workers stay the same and the good model answers."""
    row = open_repository(models).find("good")
    assert row.signature.heads
    small.put(models, "endless", 1, looping(2**62))
    words = ("--models", models, "--watch", "0.1", "--workers", "2")
    environment = {"OPENBLAS_NUM_THREADS": "1"}
    with Server(*words, folder=models, program=_LIMITED, environment=environment) as server:
        server.until_alive()
        workers = server.workers()
        assert server.get("/models/good/example")[0] == 200

        small.put(models, "large", 1, large(200))
        small.put(models, "spread", 1, spread(100_000))
        small.put(models, "good", 2, large(200))
        (models / "pipe" / "1").mkdir(parents=True)
        os.mkfifo(models / "pipe" / "1" / "model.onnx")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            names = {entry["name"] for entry in server.get("/models")[1]["refused"]}
            if {"endless", "good", "large", "pipe", "spread"} <= names:
                break
            time.sleep(0.1)

        assert server.get("/models/good")[1]["version"] == "1"
        assert server.get("/models/endless")[1]["error"].endswith(
            "refused, it was not loaded within 2 s of work"
        )
        for name in ("large", "spread"):
            assert "memory" in server.get(f"/models/{name}")[1]["error"]
        assert "it is not a file" in server.get("/models/pipe")[1]["error"]
        assert server.workers() == workers
        code, _, _, err = server.end()
    assert code == 0, err


def test_a_service_killed_while_it_loads_starts_again(models):
    """Loading writes nothing, so a killed load leaves nothing."""
    context = multiprocessing.get_context("fork")
    for pause in (0.0, 0.002, 0.01):
        process = context.Process(target=Library, args=(models,))
        process.start()
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.join()

    assert Library(models).find("good").version == "1"
    assert sorted(path.name for path in models.rglob("*")) == ["1", "good", "model.onnx"]


def test_nothing_is_unpickled():
    """Neither the service nor training imports a module that unpickles, or reads a numpy file."""
    unsafe_modules = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"}
    for path in [*(ROOT / "service").rglob("*.py"), *(ROOT / "training").rglob("*.py")]:
        for part in ast.walk(ast.parse(path.read_text())):
            if isinstance(part, ast.Import | ast.ImportFrom):
                names = {name.name.partition(".")[0] for name in part.names}
                names |= {(getattr(part, "module", None) or "").partition(".")[0]}
                assert not names & unsafe_modules, path
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                called = part.func
                of_numpy = isinstance(called.value, ast.Name) and called.value.id in ("np", "numpy")
                assert not (of_numpy and called.attr in ("load", "fromfile", "memmap")), path
                assert not {k.arg for k in part.keywords} & {"allow_pickle"}, path


def test_a_pickle_in_place_of_a_model_is_not_run(models):
    """The bytes of a pickle are refused like any others."""
    mark = models / "run"
    evil = b"cposix\nsystem\n(S'touch " + bytes(mark) + b"'\ntR."
    small.put(models, "bad", 1, evil)

    assert refusals(models)["bad", "1"] == "it is not an ONNX file, or not the whole of one"
    assert not mark.exists()
