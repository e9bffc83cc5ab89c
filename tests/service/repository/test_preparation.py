"""Large models: prepared once, proven, and loaded with weights that are mapped."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.host import processors
from service.inference.execution import PLAIN, Execution
from service.inference.model import Model
from service.repository import cache, file_trial, preparation
from service.repository.preparation import Preparations
from tests.harness import heavy, small

ROWS = {"x": np.random.default_rng(1).standard_normal((5, heavy.FEATURES)).astype(np.float32)}


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch):
    monkeypatch.setattr(preparation, "LEAST_BYTES", heavy.LEAST)


def killed(*_):
    """End this process, as the kernel does for lack of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def fails(*_):
    """Raise an error that nobody expects."""
    raise ValueError("no")


@pytest.fixture
def place(tmp_path):
    """Return the folder that holds the cache."""
    return tmp_path / "cache"


@pytest.fixture
def prepare(place):
    """Return a function that tries a file, and returns the verdict."""
    preparations = Preparations(str(place), 2)
    return lambda path: preparations.attempt(str(path), "stamp", None, None, PLAIN)


def put(tmp_path, content, name="model"):
    """Write the file of a version, and return its path."""
    path = tmp_path / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def inside(place):
    """Return the names of what is in the private folder."""
    return sorted(path.name for path in place.glob("triceps-*/*"))


def mapped():
    """Return the files of a cache that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if line.endswith("/weights")}


@pytest.mark.parametrize(
    "content",
    [
        *(heavy.dense(), heavy.picture(), heavy.dense(heads=3), heavy.dividing()),
        *(heavy.training(), heavy.constants(), heavy.half()),
    ],
    ids=["dense", "picture", "heads", "dividing", "training", "constants", "half"],
)
def test_a_prepared_model_answers_with_the_same_bits(tmp_path, prepare, content):
    """The file is optimised, fused and packed once, as each session would do by itself."""
    path = put(tmp_path, content)

    verdict = prepare(path)

    assert verdict.reason is None
    ours, theirs = Model.load(path), Model.load(path, PLAIN, Path(verdict.entry.folder))
    assert theirs.signature == ours.signature
    assert theirs.established == ours.established
    rows = {
        tensor.name: np.random.default_rng(2)
        .integers(1, 9, (7, *tensor.shape))
        .astype(tensor.dtype)
        for entry in ours.signature.inputs.values()
        for tensor in entry.tensors
    }
    heads = list(ours.signature.heads)
    for wanted in [heads, heads[:1], heads[-1:]]:
        expected, received = ours.predict(rows, wanted), theirs.predict(rows, wanted)
        assert all(expected[head].tobytes() == received[head].tobytes() for head in wanted)


def test_a_model_that_is_cut_down_is_not_prepared(tmp_path, place, prepare, caplog):
    """A session of what is left is made of a copy."""
    verdict = prepare(put(tmp_path, heavy.idle()))

    assert (verdict.reason, verdict.entry) == (None, None)
    assert "no head needs some of its inputs, so it is cut down, to a copy" in caplog.text


def test_the_weights_of_a_prepared_model_are_mapped(tmp_path, prepare):
    """They are pages of a file, which all processes share."""
    path = put(tmp_path, heavy.dense())
    folder = Path(prepare(path).entry.folder)

    model = Model.load(path, PLAIN, folder)

    assert str(folder / "weights") in mapped()
    del model
    assert str(folder / "weights") not in mapped()


def test_both_sessions_of_a_model_with_idle_cores_map_its_weights(tmp_path, place, monkeypatch):
    """A long run has another session, which is no other copy."""
    monkeypatch.setattr(processors, "available", lambda: 2)
    path = put(tmp_path, heavy.dense())
    auto = Execution(auto=True)
    preparations = Preparations(str(place), 2)

    verdict = preparations.attempt(str(path), "stamp", None, None, auto)

    assert verdict.reason is None
    assert verdict.entry is not None
    model = Model.load(path, auto, Path(verdict.entry.folder))
    assert model.wide.hold is not None
    answers = [each.predict(ROWS, ["y0"])["y0"].tobytes() for each in (model, model.wide)]
    assert answers == [Model.load(path).predict(ROWS, ["y0"])["y0"].tobytes()] * 2


def test_an_entry_is_made_once(tmp_path, place, prepare):
    """A keeper that starts later finds it, for any file of this content."""
    first = prepare(put(tmp_path, heavy.dense()))

    second = Preparations(str(place), 2).attempt(
        str(put(tmp_path, heavy.dense(), "other")), "stamp", None, None, PLAIN
    )

    assert second.entry == first.entry
    assert len(inside(place)) == 1


def test_weights_in_a_file_of_their_own_are_part_of_the_name(tmp_path, place, prepare):
    """Two versions may have the same graph and other weights."""
    for seed in (0, 1):
        heavy.put_external(tmp_path / str(seed), seed)
    paths = [tmp_path / str(seed) / "model.onnx" for seed in (0, 1)]
    assert paths[0].read_bytes() == paths[1].read_bytes()

    entries = [prepare(path).entry.folder for path in paths]

    assert len(set(entries)) == len(inside(place)) == 2
    assert [prepare(path).entry.folder for path in paths] == entries
    answers = [
        Model.load(path, PLAIN, Path(folder)).predict(ROWS, ["y0"])["y0"]
        for path, folder in zip(paths, entries, strict=True)
    ]
    assert answers[0].tobytes() == Model.load(paths[0]).predict(ROWS, ["y0"])["y0"].tobytes()
    assert answers[1].tobytes() == Model.load(paths[1]).predict(ROWS, ["y0"])["y0"].tobytes()


def test_a_small_model_is_not_prepared(tmp_path, place, prepare, caplog):
    """Files beside it do not count."""
    path = put(tmp_path, small.three())
    (path.parent / "report.html").write_bytes(b"x" * 2 * heavy.LEAST)

    assert prepare(path).entry is None
    assert not inside(place)
    assert not caplog.records


def test_without_a_cache_nothing_is_prepared(tmp_path, place, caplog):
    """Off means that each worker has its own weights, and says nothing."""
    verdict = Preparations("off", 2).attempt(
        str(put(tmp_path, heavy.dense())), "stamp", None, None, PLAIN
    )

    assert (verdict.reason, verdict.entry) == (None, None)
    assert not place.exists()
    assert not caplog.records


def test_a_refused_file_is_not_prepared(tmp_path, place, prepare):
    """Nothing is written of a file that has not passed its trial."""
    verdict = prepare(put(tmp_path, heavy.dense()[: 2 * heavy.LEAST]))

    assert verdict.reason == "it is not an ONNX file, or not the whole of one"
    assert not inside(place)


@pytest.mark.parametrize("name", ["weights", "model.onnx", "entry.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_entry_is_made_anew(tmp_path, name, damage, caplog):
    """ONNX Runtime would load other weights without a word."""
    place = tmp_path / "cache"
    preparations = Preparations(str(place), 2)
    path = put(tmp_path, heavy.dense())
    first = preparations.attempt(str(path), "stamp", None, None, PLAIN)
    file = Path(first.entry.folder) / name
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        middle = len(content) // 2
        end = content[middle + 1 :] if damage == "changed" else b""
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + end)

    assert not first.entry.is_unchanged()
    second = preparations.attempt(str(path), "stamp", None, None, PLAIN)

    assert second.entry.is_unchanged()
    assert (Path(second.entry.folder) / name).read_bytes() == content
    assert len(inside(place)) == 1
    assert f"the prepared model of {path} is damaged, and is made anew" in caplog.text


def test_a_file_that_changes_while_it_is_prepared_is_not_kept(
    tmp_path, place, prepare, monkeypatch, caplog
):
    """Its entry would have the name of one content, and the weights of the other."""
    path = put(tmp_path, heavy.dense())
    write = preparation.prepared.write

    def changes(*given):
        write(*given)
        path.write_bytes(heavy.dense(seed=1))

    monkeypatch.setattr(preparation.prepared, "write", changes)

    verdict = prepare(path)

    assert (verdict.reason, verdict.entry) == (None, None)
    assert not inside(place)
    assert f"{path} is not prepared: " in caplog.text


def test_a_model_whose_answers_change_is_not_prepared(tmp_path, place, prepare, caplog):
    """The answers of rows are compared bit by bit; a random one never has the same."""
    made = heavy.graph()
    made.graph.node[-1].output[0] = "before"
    made.graph.node.append(onnx.helper.make_node("RandomNormalLike", ["before"], ["noise"]))
    made.graph.node.append(onnx.helper.make_node("Add", ["before", "noise"], ["y0"]))
    path = put(tmp_path, made.SerializeToString())

    verdict = prepare(path)

    assert (verdict.reason, verdict.entry) == (None, None)
    assert not inside(place)
    assert "its answers are not the same once it is prepared; each worker has a copy" in caplog.text


@pytest.mark.parametrize("how", [killed, fails, lambda *_: os._exit(0)])
def test_a_preparation_that_fails_refuses_no_model(tmp_path, prepare, how, monkeypatch, caplog):
    """The model serves as it does without a cache, and the log says why."""
    monkeypatch.setattr(preparation.prepared, "write", how)

    verdict = prepare(put(tmp_path, heavy.dense()))

    assert (verdict.reason, verdict.entry) == (None, None)
    assert not inside(tmp_path / "cache")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_preparation_that_takes_too_long_is_ended(tmp_path, place, prepare, monkeypatch, caplog):
    """It has the time of a trial."""
    # Enough for the trial itself, on a machine that is busy.
    monkeypatch.setattr(file_trial, "WALL_SECONDS", 15)
    monkeypatch.setattr(preparation.prepared, "write", lambda *_: os.read(os.pipe()[0], 1))

    assert prepare(put(tmp_path, heavy.dense())).reason is None
    assert "it took longer than 15 s" in caplog.text
    assert not inside(place)


def test_a_disk_without_room_leaves_the_model_as_it_is(
    tmp_path, place, prepare, monkeypatch, caplog
):
    """The room is looked at before anything is written."""
    monkeypatch.setattr(preparation.disk, "free", lambda _: 2**20)

    assert prepare(put(tmp_path, heavy.dense())).reason is None
    assert "of the disk of" in caplog.text
    assert not inside(place)


def test_a_disk_that_is_full_meanwhile_leaves_the_model_as_it_is(
    tmp_path, place, prepare, monkeypatch, caplog
):
    """What was written is removed; a limit of the size of files stands for the disk."""
    limit_files = preparation._limit_files
    monkeypatch.setattr(preparation, "_limit_files", lambda _: limit_files(2**12))
    path = put(tmp_path, heavy.dense())

    assert prepare(path).reason is None
    assert f"{path} is not prepared: " in caplog.text
    assert not inside(place)


def test_a_cache_that_cannot_be_used_is_said_once(tmp_path, caplog):
    """The line says what a folder on a disk would save."""
    (tmp_path / "file").write_bytes(b"")
    preparations = Preparations(str(tmp_path / "file"), 4)
    for name in ("a", "b"):
        path = str(put(tmp_path, heavy.dense(width=600), name))
        assert preparations.attempt(path, "stamp", None, None, PLAIN).reason is None

    [record] = caplog.records
    assert record.message == (
        f"no cache for prepared models: {tmp_path}/file: File exists. Each of 4 workers has a copy "
        f"of the 2 MB of weights of {tmp_path}/a/1/model.onnx; a folder on a disk, named by "
        "TRICEPS_CACHE, would let them share one"
    )


def test_a_prepared_model_that_cannot_be_loaded_is_made_anew(tmp_path, place, prepare):
    """Its digests are right, and yet its trial fails."""
    path = put(tmp_path, heavy.dense())
    folder = Path(prepare(path).entry.folder)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(b"no model")
    known = json.loads((folder / "entry.json").read_text())
    known["files"]["model.onnx"] = cache._digest(folder / "model.onnx")
    (folder / "entry.json").write_text(json.dumps(known))

    entry = prepare(path).entry

    assert (Path(entry.folder) / "model.onnx").read_bytes() != b"no model"


def test_cuts_are_read_from_the_file_once_they_are_needed(tmp_path, prepare):
    """A prepared model holds no other copy of its weights; once the file is gone, none is cut."""
    path = put(tmp_path, heavy.dense(heads=2))
    folder = Path(prepare(path).entry.folder)
    model = Model.load(path, PLAIN, folder)
    expected = Model.load(path).predict(ROWS, ["y1"])["y1"]

    assert model.predict(ROWS, ["y1"])["y1"].tobytes() == expected.tobytes()
    assert model.subgraphs.kept == {frozenset({"y1"})}

    path.write_bytes(heavy.dense(seed=1, heads=2))
    answer = model.predict(ROWS, ["y0"])["y0"]

    assert model.subgraphs.kept == {frozenset({"y1"})}
    assert (
        answer.tobytes() == Model.load(heavy.dense(heads=2)).predict(ROWS, ["y0"])["y0"].tobytes()
    )


def test_a_removed_entry_stays_mapped(tmp_path, place, prepare):
    """A version that serves does not need the names of its files."""
    path = put(tmp_path, heavy.dense())
    model = Model.load(path, PLAIN, Path(prepare(path).entry.folder))
    expected = model.predict(ROWS, ["y0"])["y0"].tobytes()

    shutil.rmtree(place)

    assert model.predict(ROWS, ["y0"])["y0"].tobytes() == expected
