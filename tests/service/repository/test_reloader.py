"""The life of a repository: what changes while it is served, and that no request notices."""

import contextlib
import errno
import gc
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from service import create_app
from service.app import create_app as create_worker_app
from service.commands.main import main
from service.errors import NotFound, NotReady, SettingsError, Shortage
from service.host.files import write_file
from service.inference.model import Model
from service.repository import catalog, declarations, kept, loader, reloader, scan
from service.repository.kept import IDLE_SECONDS, MOST_KEPT
from service.repository.publish import publish
from service.repository.reloader import Library
from service.settings import Settings
from tests.harness import small, tokens
from tests.harness.served import Served
from tests.harness.serving import Server
from tests.harness.waiting import PATIENCE, until

BAD = b"not a model"
NO_FILE = "it is not an ONNX file, or not the whole of one"
FRUIT = {"instances": [{"fruit": [1, 1]}], "heads": ["size"]}
JSON = {"Content-Type": "application/json"}
# Looks quickly, and forgets quickly.
BRISK = (
    "from service.commands import main; from service.repository import kept, reloader; "
    "reloader.SETTLE_SECONDS, kept.IDLE_SECONDS = 0.01, 0.1; main.main()"
)


@pytest.fixture(autouse=True)
def _brisk(monkeypatch):
    monkeypatch.setattr(reloader, "SETTLE_SECONDS", 0.001)


@pytest.fixture
def models(tmp_path):
    """An empty repository."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def loads(monkeypatch):
    """The versions that are loaded, as (name, version), each time that one is."""
    seen = []
    real = Model.load

    def load(source):
        seen.append(source.parts[-3:-1])
        return real(source)

    monkeypatch.setattr(Model, "load", load)
    return seen


def put(folder, version, name="m", **more):
    """Lay down a version whose `size` is its number times what that of others is."""
    small.put(folder, name, version, small.three(version, **more))


def point(models, name="m", **aliases):
    """Let aliases name versions."""
    write_file(models / name / "aliases.json", json.dumps(aliases).encode())


def states(library, name="m"):
    """The versions and their states."""
    return library.current.states(name)


def refused(library):
    """What is refused, as (name, version, reason)."""
    return [(entry.name, entry.version, entry.reason) for entry in library.current.refused]


def size(servable):
    """What a version answers for a fruit of 1 and 1: twice its number."""
    rows = {"fruit": np.ones((1, 2), np.float32)}
    return float(servable.model.predict(rows, ["size"])["size"][0, 0])


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def test_what_has_not_changed_is_not_loaded_again(models, loads):
    """Neither where nothing has, nor where something else has."""
    put(models, 1)
    put(models, 1, "other")
    library = Library(models)
    first = library.current

    library.refresh()
    assert library.current is first

    put(models, 2)
    library.refresh()

    assert loads == [("m", "1"), ("other", "1"), ("m", "2")]
    assert library.find("m").version == "2"
    assert library.find("other") is first.find("other")


def test_a_repository_is_the_same_one_after_a_swap(models):
    """Who has it goes on with it, to the end of a request."""
    put(models, 1)
    library = Library(models)
    before = library.current
    held = before.find("m")

    put(models, 2)
    library.refresh()
    shutil.rmtree(models / "m" / "1")
    library.refresh()

    assert before.find("m") is held
    assert (held.version, size(held)) == ("1", 2.0)
    assert states(library) == {"2": "loaded"}


def test_a_new_version_that_is_broken_is_refused_once_and_the_old_one_serves_on(models, caplog):
    """It is named in the log and in the repository, and is not tried again until it changes."""
    put(models, 1)
    library = Library(models)
    small.put(models, "m", 2, BAD)
    with caplog.at_level("INFO"):
        for _ in range(3):
            library.refresh()

        assert library.find("m").version == "1"
        assert refused(library) == [("m", "2", NO_FILE)]
        put(models, 3)
        library.refresh()

    assert library.find("m").version == "3"
    assert caplog.messages == [f"refused m, version 2: {NO_FILE}", "serving m, version 3"]


def test_a_version_that_breaks_its_promise_is_refused(models):
    """It loads, and does not answer its golden rows."""
    import onnx

    put(models, 1)
    library = Library(models)
    wrong = small.signed(onnx.load_from_string(small.three(2.0)), small.three_signature(1.0))
    small.put(models, "m", 2, wrong)
    library.refresh()

    assert library.find("m").version == "1"
    [(_, version, reason)] = refused(library)
    assert version == "2"
    assert reason.startswith("head 'size' does not answer its golden rows")


def test_half_a_file_is_looked_at_again_when_it_is_whole(models, loads):
    """As `cp` leaves it while it is at it, and once it is done."""
    put(models, 1)
    library = Library(models)
    content = small.three(2)
    small.put(models, "m", 2, content[: len(content) // 2])
    library.refresh()
    assert refused(library) == [("m", "2", NO_FILE)]

    (models / "m" / "2" / "model.onnx").write_bytes(content)
    library.refresh()

    assert size(library.find("m")) == 4.0
    assert refused(library) == []
    assert loads == [("m", "1"), ("m", "2"), ("m", "2")]


def test_a_file_that_grows_is_left_alone_until_it_is_done(models, loads, monkeypatch):
    """And what else has changed meanwhile is served."""
    put(models, 1)
    put(models, 1, "other")
    library = Library(models)
    content = small.three(2)
    small.put(models, "m", 2, content[:100])
    put(models, 2, "other")
    file = models / "m" / "2" / "model.onnx"
    rest = iter([content[:200], content])
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", lambda _: file.write_bytes(next(rest)))
        library.refresh()
        assert (library.find("m").version, library.find("other").version) == ("1", "2")
        assert refused(library) == []
        library.refresh()
        assert library.find("m").version == "1"
    library.refresh()

    assert library.find("m").version == "2"
    assert loads == [("m", "1"), ("other", "1"), ("other", "2"), ("m", "2")]


def test_weights_beside_a_graph_are_looked_at_too(models, loads):
    """They may come after it."""
    put(models, 1)
    library = Library(models)
    (models / "m" / "1" / "weights.bin").write_bytes(b"x")
    library.refresh()

    assert loads == [("m", "1"), ("m", "1")]


def test_a_version_that_becomes_worse_serves_on_as_it_was(models):
    """It should never have been changed; what was loaded of it is as good as before."""
    put(models, 1)
    library = Library(models)
    (models / "m" / "1" / "model.onnx").write_bytes(BAD)
    library.refresh()

    assert size(library.find("m")) == 2.0
    assert states(library) == {"1": "loaded"}
    assert refused(library) == [("m", "1", NO_FILE)]
    (models / "m" / "1" / "model.onnx").write_bytes(small.three(5))
    library.refresh()
    assert (size(library.find("m")), refused(library)) == (10.0, [])


def test_a_bug_while_loading_is_that_versions_alone(models, monkeypatch, caplog):
    """It is logged with its traceback, and the others are served."""
    put(models, 1)
    library = Library(models)
    put(models, 2)
    put(models, 1, "other")
    real = Model.load

    def load(source):
        if source.parts[-2] == "2":
            raise RuntimeError("boom")
        return real(source)

    monkeypatch.setattr(Model, "load", load)
    library.refresh()

    assert refused(library) == [("m", "2", "loading it failed: RuntimeError: boom")]
    assert (library.find("m").version, library.find("other").version) == ("1", "1")
    assert "Traceback" in caplog.text


def test_what_is_removed_goes(models, caplog):
    """A version, and then its folder; the default goes with it."""
    put(models, 1)
    put(models, 2)
    put(models, 1, "other")
    library = Library(models, "m")
    shutil.rmtree(models / "m" / "2")
    with caplog.at_level("INFO"):
        library.refresh()
        assert library.find().version == "1"
        shutil.rmtree(models / "m")
        library.refresh()

    assert caplog.messages == [
        "serving m, version 1",
        "unloaded m, version 2",
        "unloaded m, version 1",
    ]
    with pytest.raises(NotFound, match="model 'm': there is none of that name"):
        library.find("m")
    with pytest.raises(NotReady) as raised:
        library.find()
    assert str(raised.value) == (
        "the default model 'm' (TRICEPS_DEFAULT_MODEL) is not there. Available: other"
    )


def test_a_repository_that_is_gone_is_told_once_and_what_is_loaded_serves_on(models, caplog):
    """A mount that is lost comes back, more often than not."""
    put(models, 1)
    library = Library(models)
    models.rename(models.with_name("gone"))
    for _ in range(3):
        library.look_again()

    assert library.find("m").version == "1"
    [message] = caplog.messages
    assert message.startswith(f"{models}: there is nothing there; expected a folder of models")
    assert message.endswith("; what is loaded serves on")
    models.with_name("gone").rename(models)
    put(models, 2)
    library.look_again()
    assert library.find("m").version == "2"


def test_a_bug_while_looking_is_told_once_and_looking_goes_on(models, monkeypatch, caplog):
    """With its traceback."""
    library = Library(models)
    monkeypatch.setattr(reloader, "look", lambda _: 1 / 0)
    for _ in range(3):
        library.look_again()

    assert caplog.messages == ["division by zero; what is loaded serves on"]
    assert "Traceback" in caplog.text
    monkeypatch.undo()
    put(models, 1)
    library.look_again()
    assert library.find("m").version == "1"


@pytest.mark.skipif(os.getresuid()[0] != 0, reason="only root can become somebody else")
def test_a_model_whose_folder_cannot_be_read_serves_on(models, caplog):
    """That is no reason to think that it has gone; it is said, and what else is new is served."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    put(models, 1, "other")
    library = Library(models)
    before = library.current
    (models / "m").rename(models / ".m")
    # As root, who may read everything: a folder that is a link to itself.
    (models / "m").symlink_to("m")
    put(models, 2, "other")
    library.refresh()

    assert refused(library) == [
        ("m", None, "its folder cannot be read: Too many levels of symbolic links")
    ]
    assert library.find("m") is before.find("m")
    assert library.find("m", alias="stable") is before.find("m", alias="stable")
    assert library.find("other").version == "2"
    same = library.current
    library.refresh()
    assert library.current is same

    (models / "m").unlink()
    (models / ".m").rename(models / "m")
    library.refresh()

    assert refused(library) == []
    assert library.find("m") is before.find("m")


@pytest.mark.parametrize("file", ["aliases.json", "unloaded"])
def test_a_file_that_cannot_be_looked_at_is_not_taken_for_gone(models, monkeypatch, file):
    """A disk that fails for a moment neither removes aliases nor brings a model back."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    if file == "unloaded":
        (models / "m" / file).touch()
    library = Library(models)
    before = library.current
    put(models, 1, "other")
    real = Path.stat

    def stat(path, **more):
        if path.name == file and path.parent.name == "m":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **more)

    monkeypatch.setattr(Path, "stat", stat)
    library.refresh()

    assert library.find("other").version == "1"
    assert library.current.catalog.scan.unloaded == before.catalog.scan.unloaded
    assert library.current.catalog.declared == before.catalog.declared
    assert refused(library) == [("m", None, "its folder cannot be read: Input/output error")]


def test_a_folder_whose_name_is_no_text_is_refused_and_all_pages_answer(models):
    """A file system takes any bytes; JSON and Prometheus do not."""
    put(models, 1)
    os.mkdir(os.fsencode(models) + b"/caf\xe9")  # noqa: PTH102  a Path would be no bytes
    client = create_app(Settings(models=models)).test_client()

    assert client.get("/models").json["refused"] == [
        {
            "name": "caf\\xe9",
            "version": None,
            "reason": "its folder's name is no model name: expected letters, digits, '_', '.' and "
            "'-'",
        }
    ]
    for page in ("/", "/readyz", "/metrics", "/openapi.json", "/ping", "/v1/models"):
        assert client.get(page).status_code == 200, page
    assert client.post("/v2/repository/index").status_code == 200
    assert client.post("/predict", json=FRUIT).status_code == 200


def test_only_a_folder_whose_name_is_no_text_says_so(models):
    """Where nothing else is there, it is the reason why nothing is ready."""
    os.mkdir(os.fsencode(models) + b"/\xff")  # noqa: PTH102
    client = create_app(Settings(models=models)).test_client()

    for answer in (client.get("/readyz"), client.post("/predict", json=FRUIT)):
        assert answer.status_code == 503
        assert "\\\\xff" in answer.text


def test_aliases_that_are_renamed_all_the_time_are_taken(models, monkeypatch):
    """Each look finds another file, and each of them is whole."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    library = Library(models)
    assert library.find("m", alias="stable").version == "1"
    monkeypatch.setattr(reloader, "SETTLE_SECONDS", 0.05)
    ended = threading.Event()

    def rename():
        while not ended.wait(0.005):
            point(models, stable="2")

    point(models, stable="2")
    thread = threading.Thread(target=rename)
    thread.start()
    try:
        library.refresh()
    finally:
        ended.set()
        thread.join()

    assert library.find("m", alias="stable").version == "2"


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.EMFILE, "Too many open files"), id="descriptors"),
        pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), id="memory"),
        pytest.param(MemoryError(), id="memory of Python"),
        pytest.param(RuntimeError("can't start new thread"), id="threads"),
        pytest.param(Shortage("loading it takes 2 MB"), id="a trial"),
    ],
)
@pytest.mark.parametrize("on_demand", [False, True])
def test_what_the_machine_was_short_of_is_asked_for_again(models, monkeypatch, error, on_demand):
    """Later and later, though no file changes; what is the file's fault is not."""
    now = [1000.0]
    monkeypatch.setattr(loader.time, "monotonic", lambda: now[0])
    put(models, 1)
    put(models, 2)
    failures = [error, error]
    tries = []
    real = Model.load

    def load(source):
        number = source.parts[-2]
        if number == ("1" if on_demand else "2"):
            tries.append(now[0])
            if failures:
                raise failures.pop()
        return real(source)

    monkeypatch.setattr(Model, "load", load)
    library = Library(models)
    for _ in range(12):
        if on_demand:
            with contextlib.suppress(NotReady):
                library.find("m", "1")
        library.refresh()
        now[0] += 0.5

    assert [round(then - tries[0]) for then in tries] == [0, 1, 3]
    assert refused(library) == []
    assert library.find("m", "1").version == "1"
    assert library.find("m").version == "2"


def test_aliases_that_could_not_be_read_for_want_of_descriptors_are_read_again(models, monkeypatch):
    """Their file has not changed since; all that was missing was a descriptor."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    monkeypatch.setattr(declarations, "AGAIN_SECONDS", 0.0)
    with monkeypatch.context() as patch:

        def fail(*_):
            raise OSError(errno.EMFILE, "Too many open files")

        patch.setattr(declarations.files, "read_file", fail)
        library = Library(models)
        assert refused(library)[0][2].startswith("aliases.json: cannot be read: Too many open")
    library.refresh()

    assert refused(library) == []
    assert library.find("m", alias="stable").version == "1"


def test_what_may_be_read_again_is_served_again():
    """A folder and a file that are closed and opened up, whose contents never change."""
    with tempfile.TemporaryDirectory() as name:
        models = Path(name)
        models.chmod(0o755)
        put(models, 1)
        put(models, 1, "other")
        file = models / "other" / "1" / "model.onnx"
        (models / "m").chmod(0)
        file.chmod(0)
        user = os.getresuid()
        os.setresuid(65534, 65534, 0)
        try:
            library = Library(models)
            closed = refused(library)
            os.setresuid(*user)
            (models / "m").chmod(0o755)
            file.chmod(0o644)
            os.setresuid(65534, 65534, 0)
            library.refresh()
        finally:
            os.setresuid(*user)

    assert closed == [
        ("m", None, "its folder cannot be read: Permission denied"),
        ("other", "1", "it cannot be read: Permission denied"),
    ]
    assert sorted(library.current.serving) == ["m", "other"]


def test_a_folder_that_goes_while_we_look_is_not_there(models, monkeypatch):
    """It was listed a moment ago."""
    put(models, 1)
    put(models, 1, "other")
    real = scan.versions

    def versions(folder):
        if folder.name == "m":
            shutil.rmtree(folder)
            raise FileNotFoundError(2, "No such file or directory")
        return real(folder)

    monkeypatch.setattr(scan, "versions", versions)

    assert sorted(Library(models).current.serving) == ["other"]


def test_one_file_is_followed_too(tmp_path):
    """In whatever way it is served."""
    file = tmp_path / "model.onnx"
    file.write_bytes(small.three(1))
    for path in (file, tmp_path):
        library = Library(path)
        write_file(file, small.three(3))
        library.refresh()
        assert size(library.find()) == 6.0
        write_file(file, small.three(1))


# ── on demand ────────────────────────────────────────────────────────────────────────────────────


def test_an_older_version_is_loaded_when_it_is_asked_for(models, loads):
    """And stays, for who asks again."""
    for version in (1, 2, 3):
        put(models, version)
    library = Library(models)
    assert states(library) == {"1": "on demand", "2": "on demand", "3": "loaded"}

    answers = [size(library.find("m", version)) for version in ("1", "1", "3")]

    assert answers == [2.0, 2.0, 6.0]
    assert loads == [("m", "3"), ("m", "1")]
    assert states(library) == {"1": "loaded", "2": "on demand", "3": "loaded"}
    assert library.find("m").version == "3"


def test_an_older_version_is_unloaded_once_nobody_asks(models, monkeypatch):
    """Its memory is freed at once; who still has it is not hurt."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    held = library.find("m", "1")
    monkeypatch.setattr(kept, "IDLE_SECONDS", 0.05)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and states(library)["1"] == "loaded":
        library.refresh()
        time.sleep(0.01)

    assert states(library) == {"1": "on demand", "2": "loaded"}
    assert size(held) == 2.0
    there = weakref.ref(held.model)
    held.model.predict({"fruit": np.ones((1, 2), np.float32)}, ["size", "tags"])
    gc.disable()
    try:
        del held
        assert there() is None
    finally:
        gc.enable()


def test_what_is_asked_for_again_and_again_stays(models, monkeypatch):
    """Idle is who has not been asked for a while."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    now = [0.0]
    monkeypatch.setattr(reloader.time, "monotonic", lambda: now[0])
    for turn in range(4):
        now[0] = turn * (IDLE_SECONDS - 1)
        library.find("m", "1")
        library.refresh()
    assert states(library)["1"] == "loaded"

    now[0] += IDLE_SECONDS + 1
    library.refresh()

    assert states(library)["1"] == "on demand"


def test_only_so_many_are_kept_at_once(models):
    """Those asked for last: who asks for all there are does not fill the memory."""
    latest = MOST_KEPT + 4
    for version in range(1, latest + 1):
        put(models, version)
    library = Library(models)
    for version in range(1, latest):
        library.find("m", str(version))

    loaded = [version for version, state in states(library).items() if state == "loaded"]
    assert loaded == [str(version) for version in range(4, latest + 1)]


def test_many_who_ask_for_a_version_at_once_share_one_load(models, loads, monkeypatch):
    """And the other versions are loaded beside it."""
    for version in (1, 2, 3):
        put(models, version)
    library = Library(models)
    real = Model.load

    def slowly(source):
        time.sleep(0.1)
        return real(source)

    monkeypatch.setattr(Model, "load", slowly)
    found = []

    def ask(version):
        found.append((version, size(library.find("m", version))))

    threads = [threading.Thread(target=ask, args=(v,)) for v in ("1", "2") * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(found) == {("1", 2.0): 8, ("2", 4.0): 8}
    assert sorted(loads[1:]) == [("m", "1"), ("m", "2")]


def test_a_version_that_turns_out_to_be_broken_is_tried_once(models, loads):
    """It is refused from then on, by its reason."""
    small.put(models, "m", 1, BAD)
    put(models, 2)
    library = Library(models)
    assert refused(library) == []
    for _ in range(2):
        with pytest.raises(NotReady) as raised:
            library.find("m", "1")
        assert str(raised.value) == f"model 'm', version 1: refused, {NO_FILE}"

    library.refresh()
    assert refused(library) == [("m", "1", NO_FILE)]
    assert loads == [("m", "2"), ("m", "1")]


def test_a_version_that_is_gone_before_it_is_loaded_is_not_there(models):
    """Between two looks, the repository is as it was."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    shutil.rmtree(models / "m" / "1")
    with pytest.raises(NotReady, match="version 1: refused, it cannot be read"):
        library.find("m", "1")
    library.refresh()

    with pytest.raises(NotFound, match=r"model 'm' has no version '1'\. Available: 2"):
        library.find("m", "1")
    assert refused(library) == []


def test_a_version_that_is_removed_while_it_is_loaded_is_not_there(models, monkeypatch):
    """It is not put back by the load that began before."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    real = loader.load

    def load(found):
        made = real(found)
        shutil.rmtree(models / "m" / "1")
        library.refresh()
        return made

    monkeypatch.setattr(reloader, "load", load)
    with pytest.raises(NotFound, match=r"model 'm' has no version '1'\. Available: 2"):
        library.find("m", "1")


def test_what_is_loaded_on_demand_during_a_refresh_is_not_lost(models, monkeypatch):
    """The two may take long, and do not wait for each other."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    put(models, 3)
    real = loader.load
    asked = []

    def load(found):
        if found.version == "3":
            asked.append(library.find("m", "1").version)
        return real(found)

    monkeypatch.setattr(catalog, "load", load)
    library.refresh()

    assert asked == ["1"]
    assert states(library) == {"1": "loaded", "2": "loaded", "3": "loaded"}
    assert library.find("m").version == "3"


def test_a_version_that_is_superseded_is_kept_for_a_while(models, loads, monkeypatch):
    """Who asks for it by its number had it a moment ago."""
    put(models, 1)
    library = Library(models)
    put(models, 2)
    library.refresh()
    assert library.find("m", "1").version == "1"
    assert loads == [("m", "1"), ("m", "2")]

    monkeypatch.setattr(kept, "IDLE_SECONDS", -1)
    library.refresh()

    assert states(library) == {"1": "on demand", "2": "loaded"}


# ── unloading ────────────────────────────────────────────────────────────────────────────────────


def test_a_model_is_unloaded_and_loaded_by_a_file(models, loads, caplog):
    """In all its versions; whoever puts it there or takes it away, and at a start, too."""
    put(models, 1)
    put(models, 2)
    put(models, 1, "other")
    point(models, stable="1")
    library = Library(models)
    held = library.find("m", alias="stable")
    mark = models / "m" / "unloaded"
    mark.touch()
    with caplog.at_level("INFO"):
        library.refresh()
    assert caplog.messages == [
        "m is out of service: the file m/unloaded says so",
        "unloaded m, version 1",
        "unloaded m, version 2",
    ]
    assert size(held) == 2.0

    for each in (library, Library(models), Library(models, policy="pinned")):
        assert states(each) == {"1": "unloaded", "2": "unloaded"}
        for ask in (["m"], ["m", "1"], ["m", None, "stable"]):
            with pytest.raises(NotReady, match=r"model 'm': it is unloaded\. The file m/unloaded"):
                each.find(*ask)
    assert loads == [("m", "1"), ("m", "2"), ("other", "1"), ("other", "1")]
    put(models, 3)
    library.refresh()
    assert states(library)["3"] == "unloaded"

    mark.unlink()
    library.refresh()

    assert states(library) == {"1": "loaded", "2": "on demand", "3": "loaded"}
    assert library.find("m", alias="stable").version == "1"


def test_a_version_that_is_loaded_while_its_model_is_unloaded_is_dropped(models, monkeypatch):
    """The load that began before does not put it back."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    real = loader.load

    def load(found):
        made = real(found)
        library.unload("m")
        return made

    monkeypatch.setattr(reloader, "load", load)
    with pytest.raises(NotReady, match="it is unloaded"):
        library.find("m", "1")
    assert library.current.catalog.models == {}


def test_what_is_loaded_on_demand_during_an_unload_is_dropped(models, monkeypatch):
    """Nor does one that ends while the others are let go of."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    real = reloader.make

    def make(*arguments):
        library.find("m", "1")
        return real(*arguments)

    monkeypatch.setattr(reloader, "make", make)
    library.unload("m")

    assert library.current.catalog.models == {}


# ── policies and aliases ─────────────────────────────────────────────────────────────────────────


def test_all_loads_every_version(models):
    """And those that come."""
    for version in (1, 2):
        put(models, version)
    library = Library(models, policy="all")
    put(models, 3)
    library.refresh()

    assert states(library) == {"1": "loaded", "2": "loaded", "3": "loaded"}
    assert library.current.catalog.kept == frozenset()


def test_an_alias_answers_by_the_version_it_names(models):
    """Which is loaded, whatever the policy; and follows the alias."""
    for version in (1, 2, 3):
        put(models, version)
    point(models, stable="1")
    library = Library(models)
    assert states(library) == {"1": "loaded", "2": "on demand", "3": "loaded"}
    assert size(library.find("m", alias="stable")) == 2.0

    point(models, stable="2", canary="3")
    library.refresh()

    assert size(library.find("m", alias="stable")) == 4.0
    assert library.find("m", alias="canary") is library.find("m")
    with pytest.raises(NotFound) as raised:
        library.find("m", alias="stabel")
    assert str(raised.value) == (
        "model 'm' has no alias 'stabel' (did you mean 'stable'?). Available: canary, stable"
    )
    (models / "m" / "aliases.json").unlink()
    library.refresh()
    with pytest.raises(NotFound, match=r"has no alias 'stable'\. Available: none"):
        library.find("m", alias="stable")


def test_commands_know_versions_and_aliases(models, tmp_path, monkeypatch):
    """As the service does."""
    for version in (1, 2, 3):
        put(models, version)
    point(models, stable="2")
    monkeypatch.chdir(tmp_path)
    said = [
        CliRunner().invoke(main, ["show", model]).stdout.splitlines()[0]
        for model in ("m", "m/1", "m/stable")
    ]

    assert said == ["m, version 3", "m, version 1", "m, version 2"]


@pytest.mark.parametrize(
    ("version", "why"),
    [
        pytest.param("9", "which is not there", id="not there"),
        pytest.param("2", f"which is refused: {NO_FILE}", id="broken"),
    ],
)
def test_an_alias_of_what_cannot_serve_stays_with_what_it_named(models, version, why):
    """Until it names something better; and where it named nothing, it does not answer."""
    put(models, 1)
    point(models, stable="1")
    library = Library(models, policy="pinned")
    small.put(models, "m", 2, BAD)
    point(models, stable=version, canary=version)
    for _ in range(2):
        library.refresh()

    assert library.find("m").version == "1"
    assert [entry for entry in refused(library) if entry[1] is None] == [
        ("m", None, f"alias 'canary' names version {version}, {why}"),
        (
            "m",
            None,
            (
                f"alias 'stable' names version {version}, {why}; "
                "version 1, which it named before, serves on"
            ),
        ),
    ]
    with pytest.raises(NotReady) as raised:
        library.find("m", alias="canary")
    assert str(raised.value) == f"model 'm': alias 'canary' names version {version}, {why}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "expected JSON like", id="empty"),
        pytest.param(b'{"stable": "2"', "expected JSON like", id="half"),
        pytest.param(b"[" * 100_000, "expected JSON like", id="deep"),
        pytest.param(b'{"stable": "\xff"}', "expected JSON like", id="not UTF-8"),
        pytest.param(b'{"a": "1", "a": "2"}', "'a' stands there twice", id="twice"),
        pytest.param(b"[]", "expected an object like", id="a list"),
        pytest.param(b'{"stable": 2}', "stable: expected a version like", id="a number"),
        pytest.param(b'{"stable": "02"}', "stable: expected a version like", id="zeros"),
        pytest.param(b'{"2": "2"}', "expected aliases of letters", id="a version's name"),
        pytest.param(b'{"../x": "2"}', "expected aliases of letters", id="no name"),
    ],
)
def test_damaged_aliases_are_refused_and_those_of_before_stay(models, content, reason):
    """By the model's name, with the reason."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    library = Library(models)
    (models / "m" / "aliases.json").write_bytes(content)
    for _ in range(2):
        library.refresh()

    assert library.find("m", alias="stable").version == "1"
    [(name, version, said)] = refused(library)
    assert (name, version) == ("m", None)
    assert said.startswith("aliases.json")
    assert reason in said
    assert said.endswith(". The aliases of before stay: stable")
    assert library.find("m").version == "2"
    point(models, stable="2")
    library.refresh()
    assert (library.find("m", alias="stable").version, refused(library)) == ("2", [])


def test_aliases_that_cannot_be_read_are_refused(models):
    """A folder of that name, for one."""
    put(models, 1)
    (models / "m" / "aliases.json").mkdir()

    assert refused(Library(models)) == [
        (
            "m",
            None,
            "aliases.json: cannot be read: Is a directory. The aliases of before stay: none",
        )
    ]


def test_pinned_serves_what_stable_names(models):
    """A roll-back is one change of it; a new version waits for its turn."""
    for version in (1, 2):
        put(models, version)
    point(models, stable="2")
    library = Library(models, policy="pinned")
    put(models, 3)
    library.refresh()
    assert (library.find().version, states(library)["3"]) == ("2", "on demand")

    point(models, stable="1")
    library.refresh()

    assert size(library.find()) == 2.0
    assert size(library.find("m", "3")) == 6.0
    assert library.find().version == "1"


def test_pinned_does_not_serve_a_model_without_stable(models):
    """And says how to; any version is there for who asks for it by number."""
    put(models, 1)
    library = Library(models, policy="pinned")
    reason = "the policy is pinned, and it has no alias 'stable': triceps alias m stable VERSION"

    assert refused(library) == [("m", None, reason)]
    assert library.current.reason_not_ready() == f"no model is usable: m: {reason}"
    for ask in ([], ["m"]):
        with pytest.raises(NotReady) as raised:
            library.find(*ask)
        assert str(raised.value) == f"model 'm': refused, {reason}"
    assert library.find("m", "1").version == "1"

    point(models, stable="1")
    library.refresh()

    assert (library.find().version, refused(library)) == ("1", [])


# ── views and the default ────────────────────────────────────────────────────────────────────────


def test_views_follow_the_versions_and_aliases_of_their_file(models):
    """A view is of the version that serves; by number or alias, of that one."""
    put(models, 1, models={"v": ["risk"], "old": ["tags"]})
    put(models, 2, models={"v": ["risk", "size"]})
    put(models, 3)
    point(models, stable="2")
    library = Library(models)

    assert states(library, "v") == {"1": "on demand", "2": "loaded"}
    with pytest.raises(NotReady) as raised:
        library.find("v")
    assert str(raised.value) == (
        "model 'v': it is a view of a model, and the version of that which serves has no such "
        "view. Available by version: 1, 2"
    )
    assert list(library.find("v", alias="stable").signature.heads) == ["risk", "size"]
    first = library.find("v", "1")
    assert (first.name, list(first.signature.heads)) == ("v", ["risk"])
    assert library.find("m", "1").model is first.model
    # What only a version that may be gone in a minute has is no name of its own.
    with pytest.raises(NotFound, match="model 'old': there is none of that name"):
        library.find("old", "1")
    with pytest.raises(NotFound, match=r"model 'v' has no version '3'\. Available: 1, 2"):
        library.find("v", "3")

    put(models, 4, models={"v": ["size"]})
    library.refresh()

    assert list(library.find("v").signature.heads) == ["size"]
    assert library.find("v", alias="stable").version == "2"


def test_a_version_on_demand_that_has_no_such_view_says_so(models):
    """Which is only known once it has been looked into."""
    put(models, 1)
    put(models, 2, models={"v": ["risk"]})
    library = Library(models)
    assert states(library, "v") == {"1": "on demand", "2": "loaded"}

    with pytest.raises(NotFound, match=r"model 'v' has no version '1'\. Available: 2"):
        library.find("v", "1")

    assert states(library, "v") == {"2": "loaded"}


def test_the_default_is_that_of_the_moment(models):
    """The only model, or triceps; as at a start."""
    put(models, 1, "a")
    library = Library(models)
    assert library.find().name == "a"
    put(models, 1, "b")
    library.refresh()
    with pytest.raises(NotFound, match="no model was named, and none is the default"):
        library.find()
    put(models, 1, "triceps")
    library.refresh()
    assert library.find().name == "triceps"


def test_a_default_that_is_not_there_yet_is_waited_for(models):
    """The service has no model: that is nobody's fault who asks."""
    library = Library(models, "m")
    with pytest.raises(NotReady, match="the model repository is empty"):
        library.find()
    put(models, 1, "other")
    library.refresh()
    with pytest.raises(NotReady, match=r"the default model 'm' .* is not there\. Available: other"):
        library.find()
    put(models, 1)
    library.refresh()
    assert library.find().name == "m"


def test_a_default_that_is_not_there_stops_the_start_and_no_worker(models):
    """A slip is better said at once; but a worker that is replaced must not end the service."""
    put(models, 1)
    settings = Settings(models=models, default_model="x", watch=0)
    with pytest.raises(SettingsError, match="TRICEPS_DEFAULT_MODEL: expected the name of a model"):
        create_app(settings)

    client = create_worker_app(settings, library=Library.of(settings)).test_client()

    assert client.post("/predict", json=FRUIT).status_code == 503
    assert client.post("/models/m/predict", json=FRUIT).status_code == 200


# ── the app, the front and the thread ────────────────────────────────────────────────────────────


def test_an_empty_repository_is_filled_by_publishing(models):
    """Not ready becomes ready, and the same app answers."""
    app = create_app(Settings(models=models, default_model="m", watch=0))
    client = app.test_client()
    assert client.get("/readyz").status_code == 503
    assert client.post("/predict", json=FRUIT).status_code == 503

    publish(models, "m", small.three(1))
    app.extensions["triceps"].refresh()

    assert client.get("/readyz").get_json() == {"status": "ready", "models": ["m"]}
    assert client.post("/predict", json=FRUIT).get_json()["version"] == "1"


def test_pages_say_versions_states_aliases_and_policy(models):
    """The signature of an older version is loaded to be shown."""
    for version in (1, 2):
        put(models, version, models={"v": ["size"]})
    point(models, canary="2")
    client = create_app(Settings(models=models, watch=0)).test_client()
    before = client.get("/models").get_json()
    signature = client.get("/models/m/versions/1").get_json()
    of_alias = client.get("/models/v/aliases/canary").get_json()
    document = client.get("/openapi.json").get_json()

    assert before["policy"] == "latest"
    assert before["models"][0] == {
        "name": "m",
        "version": "2",
        "versions": {"1": "on demand", "2": "loaded"},
        "aliases": {"canary": "2"},
        "heads": ["risk", "size", "digits", "tags"],
    }
    assert (signature["version"], signature["versions"]) == ("1", {"1": "loaded", "2": "loaded"})
    assert (of_alias["name"], of_alias["version"], of_alias["aliases"]) == (
        "v",
        "2",
        {"canary": "2"},
    )
    assert client.post("/models/v/aliases/canary/predict", json=FRUIT).get_json()["version"] == "2"
    assert client.get("/models/m/aliases/x").get_json() == {
        "error": "model 'm' has no alias 'x'. Available: canary"
    }
    assert {"/models/m/aliases/canary", "/models/m/aliases/canary/predict"} <= set(
        document["paths"]
    )


def test_pages_of_a_pinned_repository_name_what_is_not_served(models):
    """With the way out."""
    put(models, 1)
    client = create_app(Settings(models=models, policy="pinned", watch=0)).test_client()
    said = client.get("/models").get_json()

    assert said["models"] == [
        {
            "name": "m",
            "version": None,
            "versions": {"1": "on demand"},
            "aliases": {},
            "heads": [],
        }
    ]
    assert "triceps alias m stable VERSION" in said["refused"][0]["reason"]
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_the_front_follows(models):
    """Its routes are those of the current repository; what it has not, the app loads."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    served = Served(models, watch=0)
    body = json.dumps(FRUIT).encode()

    def ask(path):
        status, _, content = served.ask("POST", path, body, JSON)
        return status, json.loads(content).get("version")

    try:
        assert ask("/predict") == (200, "2")
        assert ask("/models/m/aliases/stable/predict") == (200, "1")
        put(models, 3)
        point(models, stable="2")
        served.front.library.refresh()
        assert ask("/predict") == (200, "3")
        assert ask("/models/m/aliases/stable/predict") == (200, "2")
        assert b"/models/m/versions/1/predict" not in served.front.table.routes
        assert ask("/models/m/versions/1/predict") == (200, "1")
        assert ask("/models/m/versions/9/predict") == (404, None)
        shutil.rmtree(models / "m")
        served.front.library.refresh()
        assert ask("/predict") == (503, None)
        assert ask("/models/m/predict") == (404, None)
    finally:
        served.stop()
    put(models, 1)
    served.front.library.refresh()


def watchers():
    """The threads that look for changes."""
    return [thread for thread in threading.enumerate() if thread.name == "watch"]


@pytest.fixture
def _nobody_watches():
    """Apps that other tests have made are gone, and their threads with them."""
    gc.collect()
    until(lambda: not watchers())


@pytest.mark.usefixtures("_nobody_watches")
def test_a_thread_looks_until_its_library_is_gone(models):
    """There is one of it however often it is started, and none where it is to look never."""
    library = Library(models)
    library.watch(0)
    assert watchers() == []
    for _ in range(3):
        library.watch(0.01)
    assert len(watchers()) == 1
    put(models, 1)
    until(lambda library=library: library.current.serving)

    del library

    until(lambda: not watchers())


@pytest.mark.usefixtures("_nobody_watches")
def test_an_app_watches_from_its_first_request_on(models):
    """Not before: a server may load it and fork, and a thread would stay behind."""
    app = create_app(Settings(models=models, watch=0.01))
    assert watchers() == []
    client = app.test_client()
    client.get("/livez")
    assert len(watchers()) == 1
    put(models, 1)
    until(lambda client=client: client.get("/readyz").status_code == 200)
    del app, client
    gc.collect()
    until(lambda: not watchers())


@pytest.mark.usefixtures("_nobody_watches")
def test_a_fork_of_an_app_watches_too(models):
    """As with a server that loads the app before it forks its workers."""
    app = create_app(Settings(models=models, watch=0.01))

    def child(ready):
        client = app.test_client()
        client.get("/livez")
        put(models, 1)
        until(lambda: client.get("/readyz").status_code == 200)
        ready.set()

    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=child, args=(ready,))
    process.start()
    process.join(PATIENCE)

    assert ready.is_set()
    assert watchers() == []


# ── as a service ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def serve(models):
    """Start servers that look often; whatever still runs at the end is killed."""
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            words = ("--models", models, "--watch", "0.05", *arguments)
            server = stack.enter_context(Server(*words, folder=models, program=BRISK))
            server.until_alive()
            return server

        yield start


def test_thousands_of_requests_across_swaps(serve, models):
    """None fails, each answer is wholly of the version it names, and no connection goes back."""
    put(models, 1)
    point(models, stable="1")
    server = serve("--workers", "2")
    paths = ["/predict", "/models/m/predict", "/models/m/aliases/stable/predict"]
    everything = json.dumps(
        {"instances": [{"fruit": [1, 1], "digit": [1, 2, 3, 4], "insurance": {"bmi": 20}}]}
    )
    stop = threading.Event()
    answers, wrong = Counter(), []

    def ask(path, body, old):
        with contextlib.closing(server.connect()) as connection:
            newest = 0
            while not stop.is_set():
                connection.request("POST", path, body, JSON)
                answer = connection.getresponse()
                said = json.loads(answer.read())
                if answer.status != 200:
                    wrong.append((path, answer.status, said))
                    return
                version = int(said["version"])
                value = said["predictions"][0]["size"]["value"]
                if value != 2 * version or (version < newest and not old):
                    wrong.append((path, version, newest, value))
                newest = version
                answers[path, version] += 1

    # The alias is set back and forth, the others only ever go on.
    threads = [
        threading.Thread(target=ask, args=(path, body, "aliases" in path))
        for path in paths
        for body in (json.dumps(FRUIT), everything)
    ]
    for thread in threads:
        thread.start()
    for version in range(2, 8):
        time.sleep(0.35)
        put(models, version)
        if version == 4:
            small.put(models, "m", 100, BAD)
        if version == 5:
            shutil.rmtree(models / "m" / "2")
        point(models, stable=str(1 + version % 2 * 2))
    until(lambda: wrong or (answers["/predict", 7] and answers["/models/m/predict", 7]))
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert answers.total() > 2000
    assert {version for path, version in answers if path == "/predict"} >= {1, 7}
    assert {version for path, version in answers if "aliases" in path} == {1, 3}


def test_all_workers_follow_an_unload_and_a_load(serve, models):
    """Whichever is told; and one that is started later, or again."""
    put(models, 1)
    put(models, 1, "other")
    closed = ("--tokens-file", tokens.put(models.parent))
    server = serve("--workers", "2", *closed)
    with contextlib.ExitStack() as stack:
        # Each worker has one of them, since they are handed to whoever has fewer.
        both = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(2)]

        def ask(connection, method, path, body=None):
            connection.request(method, path, body, {**JSON, **tokens.header("all")})
            answer = connection.getresponse()
            answer.read()
            return answer.status

        def follow(status):
            for connection in both:
                until(lambda c=connection: ask(c, "GET", "/v2/models/m/ready") == status)
                assert ask(connection, "POST", "/models/m/predict", json.dumps(FRUIT)) == status
                assert ask(connection, "POST", "/models/other/predict", json.dumps(FRUIT)) == 200

        follow(200)
        for teller in both:
            for verb, status in (("unload", 503), ("load", 200)):
                assert ask(teller, "POST", f"/v2/repository/models/m/{verb}") == 200
                # Who was told has done it before the answer.
                assert ask(teller, "GET", "/v2/models/m/ready") == status
                follow(status)
        assert ask(both[0], "POST", "/v2/repository/models/m/unload") == 200
    server.end()

    server = serve("--workers", "1")

    status, said = server.get("/v2/models/m/ready")
    assert (status, said["ready"]) == (503, False)
    assert server.get("/models/other")[0] == 200


def big(scale):
    """A model of 4 MB, and of some more when it runs: y = scale * 1,000,000 * x."""
    return small.model(
        [
            helper.make_node("Mul", ["x", "w"], ["many"]),
            helper.make_node("ReduceSum", ["many", "last"], ["y"], keepdims=1),
        ],
        [("x", TensorProto.FLOAT, ["n", 1])],
        [("y", TensorProto.FLOAT, ["n", 1])],
        {"w": np.full(1_000_000, scale, np.float32), "last": np.array([1])},
    ).SerializeToString()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells")
def test_memory_does_not_grow_over_fifty_swaps(serve, models):
    """A leak would be of 16 MB and more for each."""
    publish(models, "m", big(1))
    server = serve("--workers", "1", "--watch", "0.01")
    [worker] = server.workers()
    resident = []
    for version in range(2, 52):
        publish(models, "m", big(version))
        while server.get("/models/m")[1]["version"] != str(version):
            time.sleep(0.01)
        pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
        resident.append(pages * os.sysconf("SC_PAGESIZE") / 2**20)

    assert max(resident[-10:]) - max(resident[:10]) < 100, resident
