"""Reloading: changes to a repository are loaded, and broken files harm no other model."""

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
from pathlib import Path
from types import SimpleNamespace

import pytest

from service import create_app
from service.errors import NotFound, NotReady, Shortage
from service.host.files import write_file
from service.inference.model import Model
from service.repository import declarations, loader, reloader, scan
from service.repository.publish import publish
from service.repository.reloader import Library
from service.settings import Settings
from tests.harness import small
from tests.harness.changing import BAD, FRUIT, NO_FILE, point, put, refused, size, states
from tests.harness.served import JSON, Served
from tests.harness.waiting import PATIENCE, until


def test_an_unchanged_version_is_not_loaded_again(models, loads):
    """It is not loaded again either when another version changes."""
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


def test_a_repository_does_not_change_under_its_user(models):
    """A request goes on with the repository that it began with."""
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
    """The refusal is logged and listed, and the version is not tried again until it changes."""
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
    assert caplog.messages == [
        f"refused m, version 2: {NO_FILE}",
        "serving m, version 3",
        "now serving m, version 3 (was 1)",
    ]


def test_a_version_that_breaks_its_promise_is_refused(models):
    """The version loads, but does not answer its golden rows."""
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


def test_half_a_file_is_loaded_once_it_is_whole(models, loads):
    """`cp` leaves half a file while it copies."""
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
    """Other changes are served meanwhile."""
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


def test_weights_beside_a_graph_are_watched_too(models, loads):
    """The weights may arrive after the graph."""
    put(models, 1)
    library = Library(models)
    (models / "m" / "1" / "weights.bin").write_bytes(b"x")
    library.refresh()

    assert loads == [("m", "1"), ("m", "1")]


def test_a_version_that_becomes_worse_serves_on_as_it_was(models):
    """A loaded version is as good as before, although its file was overwritten."""
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


def test_a_bug_while_loading_concerns_one_version_alone(models, monkeypatch, caplog):
    """The bug is logged with its traceback, and the other versions serve."""
    put(models, 1)
    library = Library(models)
    put(models, 2)
    put(models, 1, "other")
    real = Model.load

    def load(source, *more):
        if source.parts[-2] == "2":
            raise RuntimeError("boom")
        return real(source, *more)

    monkeypatch.setattr(Model, "load", load)
    library.refresh()

    assert refused(library) == [("m", "2", "loading it failed: RuntimeError: boom")]
    assert (library.find("m").version, library.find("other").version) == ("1", "1")
    assert "Traceback" in caplog.text


def test_a_removed_version_is_unloaded(models, caplog):
    """A version goes, then its model's folder, and the default with it."""
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
        "now serving m, version 1 (was 2)",
        "unloaded m, version 1",
        "no longer serving m (was version 1)",
        "the default model m is gone: /predict is answered with an error",
    ]
    with pytest.raises(NotFound, match="model 'm': there is none of that name"):
        library.find("m")
    with pytest.raises(NotReady) as raised:
        library.find()
    assert str(raised.value) == (
        "the default model 'm' (TRICEPS_DEFAULT_MODEL) is not there. Available: other"
    )


def test_a_repository_that_is_gone_is_logged_once_and_loaded_models_serve_on(models, caplog):
    """A mount that is lost usually comes back."""
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


def test_a_bug_while_looking_is_logged_once_and_looking_goes_on(models, monkeypatch, caplog):
    """The log has the traceback."""
    library = Library(models)
    monkeypatch.setattr(reloader, "look", lambda *_: 1 / 0)
    for _ in range(3):
        library.look_again()

    assert caplog.messages == ["division by zero; what is loaded serves on"]
    assert "Traceback" in caplog.text
    monkeypatch.undo()
    put(models, 1)
    library.look_again()
    assert library.find("m").version == "1"


@pytest.mark.skipif(os.getresuid()[0] != 0, reason="only root can become another user")
def test_a_model_whose_folder_cannot_be_read_serves_on(models, caplog):
    """An unreadable folder does not mean that its model is gone; other changes are served."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    put(models, 1, "other")
    library = Library(models)
    before = library.current
    (models / "m").rename(models / ".m")
    # Root may read everything, but not a folder that is a link to itself.
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
def test_a_file_that_cannot_be_read_is_not_taken_for_missing(models, monkeypatch, file):
    """A disk that fails for a moment neither removes aliases nor brings back an unloaded model."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    if file == "unloaded":
        (models / "m" / file).touch()
    library = Library(models)
    before = library.current
    put(models, 1, "other")
    real = scan._folder

    def stat():
        raise OSError(errno.EIO, "Input/output error")

    def folder(path):
        failing = SimpleNamespace(name=file, stat=stat, is_dir=lambda: False)
        return {**real(path), **({file: failing} if path.endswith("/m") else {})}

    monkeypatch.setattr(scan, "_folder", folder)
    library.refresh()

    assert library.find("other").version == "1"
    assert library.current.catalog.scan.unloaded == before.catalog.scan.unloaded
    assert library.current.catalog.declared == before.catalog.declared
    assert refused(library) == [("m", None, "its folder cannot be read: Input/output error")]


def test_a_folder_whose_name_is_not_utf_8_is_refused_and_all_pages_answer(models):
    """A file system accepts any bytes as a name; JSON and Prometheus do not."""
    put(models, 1)
    os.mkdir(os.fsencode(models) + b"/caf\xe9")  # noqa: PTH102  a Path cannot be bytes
    client = create_app(Settings(models=models)).test_client()

    assert client.get("/models").json["refused"] == [
        {
            "name": "caf\\xe9",
            "version": None,
            "reason": "its folder's name is no model name: "
            "expected at most 128 letters, digits, '_', '.' and '-', "
            "the first none of the last two",
        }
    ]
    for page in ("/", "/readyz", "/metrics", "/openapi.json", "/ping", "/v1/models"):
        assert client.get(page).status_code == 200, page
    assert client.post("/v2/repository/index").status_code == 200
    assert client.post("/predict", json=FRUIT).status_code == 200


def test_a_folder_whose_name_is_not_utf_8_may_be_all_there_is(models):
    """It is then the reason why the service is not ready."""
    os.mkdir(os.fsencode(models) + b"/\xff")  # noqa: PTH102
    client = create_app(Settings(models=models)).test_client()

    for answer in (client.get("/readyz"), client.post("/predict", json=FRUIT)):
        assert answer.status_code == 503
        assert "\\\\xff" in answer.text


def test_aliases_that_are_replaced_all_the_time_are_read(models):
    """Each look finds another file, and each of the files is whole."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    library = Library(models)
    assert library.find("m", alias="stable").version == "1"
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
def test_a_load_that_failed_for_a_shortage_is_tried_again(models, monkeypatch, error, on_demand):
    """The load is tried at growing intervals, though no file changes."""
    now = [1000.0]
    monkeypatch.setattr(loader.time, "monotonic", lambda: now[0])
    put(models, 1)
    put(models, 2)
    failures = [error, error]
    tries = []
    real = Model.load

    def load(source, *more):
        number = source.parts[-2]
        if number == ("1" if on_demand else "2"):
            tries.append(now[0])
            if failures:
                raise failures.pop()
        return real(source, *more)

    monkeypatch.setattr(Model, "load", load)
    library = Library(models)
    for _ in range(12):
        if on_demand:
            with contextlib.suppress(NotReady):
                library.find("m", "1")
        library.refresh()
        now[0] += 0.5

    assert [round(tried_at - tries[0]) for tried_at in tries] == [0, 1, 3]
    assert refused(library) == []
    assert library.find("m", "1").version == "1"
    assert library.find("m").version == "2"


def test_aliases_that_failed_for_a_lack_of_descriptors_are_read_again(models, monkeypatch):
    """The file has not changed meanwhile; only a descriptor was missing."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    with monkeypatch.context() as patch:

        def fail(*_):
            raise OSError(errno.EMFILE, "Too many open files")

        patch.setattr(declarations.files, "read_file", fail)
        library = Library(models)
        assert refused(library)[0][2].startswith("aliases.json: cannot be read: Too many open")
    time.sleep(loader.AGAIN_SECONDS)
    library.refresh()

    assert refused(library) == []
    assert library.find("m", alias="stable").version == "1"


def test_a_model_that_becomes_readable_again_is_served_again():
    """The modes of a folder and a file change, but never their contents."""
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


def test_a_folder_that_disappears_during_a_look_is_ignored(models, monkeypatch):
    """The folder was listed a moment before."""
    put(models, 1)
    put(models, 1, "other")
    real = scan._folder

    def folder(path):
        if path == f"{models}/m":
            shutil.rmtree(path)
        return real(path)

    monkeypatch.setattr(scan, "_folder", folder)

    assert sorted(Library(models).current.serving) == ["other"]


def test_a_repository_of_one_file_is_watched_too(tmp_path):
    """The file is watched, whether it or its folder is the repository."""
    file = tmp_path / "model.onnx"
    file.write_bytes(small.three(1))
    for path in (file, tmp_path):
        library = Library(path)
        write_file(file, small.three(3))
        library.refresh()
        assert size(library.find()) == 6.0
        write_file(file, small.three(1))


def test_an_empty_repository_is_filled_by_publishing(models):
    """The service becomes ready, and the same app answers."""
    app = create_app(Settings(models=models, default_model="m", watch=0))
    client = app.test_client()
    assert client.get("/readyz").status_code == 503
    assert client.post("/predict", json=FRUIT).status_code == 503

    publish(models, "m", small.three(1))
    app.extensions["triceps"].refresh()

    assert client.get("/readyz").get_json() == {"status": "ready", "models": ["m"]}
    assert client.post("/predict", json=FRUIT).get_json()["version"] == "1"


def test_the_front_follows_the_repository(models):
    """The routes are those of the current repository; the app loads versions on demand."""
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
    """Return the threads that look for changes."""
    return [thread for thread in threading.enumerate() if thread.name == "watch"]


@pytest.fixture
def _no_watchers():
    """Wait until the apps of other tests are gone, and their threads with them."""
    gc.collect()
    until(lambda: not watchers())


@pytest.mark.usefixtures("_no_watchers")
def test_a_thread_watches_until_its_library_is_gone(models):
    """There is at most one thread, and none if the interval is 0."""
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


@pytest.mark.usefixtures("_no_watchers")
def test_an_app_watches_from_its_first_request_on(models):
    """A server may load the app and fork; a thread would not survive the fork."""
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


@pytest.mark.usefixtures("_no_watchers")
def test_an_app_watches_after_a_fork_too(models):
    """Some servers load the app before they fork their workers."""
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
