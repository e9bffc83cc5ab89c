"""Versions and models that are loaded and unloaded on request."""

import contextlib
import gc
import shutil
import threading
import time
import weakref
from collections import Counter

import numpy as np
import pytest

from service.errors import NotFound, NotReady
from service.host.files import write_file
from service.inference.model import Model
from service.repository import loader, reloader, selection
from service.repository.kept import IDLE_SECONDS, MOST_KEPT
from service.repository.reloader import Library
from service.repository.scan import is_replaced, look
from tests.harness import small
from tests.harness.changing import BAD, NO_FILE, point, put, refused, size, states
from tests.harness.waiting import PATIENCE


def test_an_older_version_is_loaded_when_it_is_asked_for(models, loads):
    """The version stays loaded for later requests."""
    for version in (1, 2, 3):
        put(models, version)
    library = Library(models)
    assert states(library) == {"1": "on demand", "2": "on demand", "3": "loaded"}

    answers = [size(library.find("m", version)) for version in ("1", "1", "3")]

    assert answers == [2.0, 2.0, 6.0]
    assert loads == [("m", "3"), ("m", "1")]
    assert states(library) == {"1": "loaded", "2": "on demand", "3": "loaded"}
    assert library.find("m").version == "3"


def test_an_older_version_is_unloaded_once_it_is_idle(models):
    """Its memory is freed at once, except for requests that still use it."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    held = library.find("m", "1")
    library.kept.idle_seconds = 0.05
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and states(library)["1"] == "loaded":
        library.refresh()
        time.sleep(0.01)

    assert states(library) == {"1": "on demand", "2": "loaded"}
    assert size(held) == 2.0
    reference = weakref.ref(held.model)
    held.model.predict({"fruit": np.ones((1, 2), np.float32)}, ["size", "tags"])
    gc.disable()
    try:
        del held
        assert reference() is None
    finally:
        gc.enable()


def test_a_version_that_is_asked_for_again_stays(models, monkeypatch):
    """A version is idle only if it has not been requested during the whole interval."""
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


def test_the_number_of_kept_versions_has_a_bound(models):
    """The latest requests decide, so that asking for every version does not fill the memory."""
    latest = MOST_KEPT + 4
    for version in range(1, latest + 1):
        put(models, version)
    library = Library(models)
    for version in range(1, latest):
        library.find("m", str(version))

    loaded = [version for version, state in states(library).items() if state == "loaded"]
    assert loaded == [str(version) for version in range(4, latest + 1)]


def test_simultaneous_requests_for_a_version_share_one_load(models, loads, monkeypatch):
    """Other versions are loaded beside it."""
    for version in (1, 2, 3):
        put(models, version)
    library = Library(models)
    real = Model.load

    def slowly(source, *more):
        time.sleep(0.1)
        return real(source, *more)

    monkeypatch.setattr(Model, "load", slowly)
    answers = []

    def ask(version):
        answers.append((version, size(library.find("m", version))))

    threads = [threading.Thread(target=ask, args=(v,)) for v in ("1", "2") * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(answers) == {("1", 2.0): 8, ("2", 4.0): 8}
    assert sorted(loads[1:]) == [("m", "1"), ("m", "2")]


def test_a_version_that_turns_out_to_be_broken_is_tried_once(models, loads):
    """The version is refused from then on, with its reason."""
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
    """Until the next look, the repository lists the version; the request has it look."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    shutil.rmtree(models / "m" / "1")
    assert library.current.states("m") == {"1": "on demand", "2": "loaded"}

    with pytest.raises(NotFound, match=r"model 'm' has no version '1'\. Available: 2"):
        library.find("m", "1")
    assert refused(library) == []


@pytest.mark.parametrize("content", [small.three(3), b"not a model"])
def test_a_version_that_was_replaced_before_it_is_loaded_is_taken_as_it_is_now(models, content):
    """The request has the repository look: nothing is loaded that was not found before."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    write_file(models / "m" / "1" / "model.onnx", content)
    with contextlib.suppress(NotReady):
        library.find("m", "1")

    found = library.current.catalog.scan.by_name["m"]["1"]
    assert not is_replaced(found)
    assert (library.current.states("m").get("1") == "loaded") is (not refused(library))


def test_a_file_that_was_replaced_is_not_loaded_in_its_place(models):
    """This holds for the version of a folder, and for a single file."""
    put(models, 1)
    for path in (models, models / "m" / "1", models / "m" / "1" / "model.onnx"):
        [found] = look(path).versions
        assert isinstance(loader.load(found), loader.Loaded)
        write_file(models / "m" / "1" / "model.onnx", small.three(3))
        outcome = loader.load(found)
        assert isinstance(outcome, loader.Broken)
        assert "its files have been replaced since the last look" in outcome.reason


def test_a_version_that_is_removed_while_it_is_loaded_is_not_there(models, monkeypatch):
    """A load that began before the removal does not bring the version back."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    real = loader.load

    def load(entry, *more):
        loaded = real(entry, *more)
        shutil.rmtree(models / "m" / "1")
        library.refresh()
        return loaded

    monkeypatch.setattr(reloader, "load", load)
    with pytest.raises(NotFound, match=r"model 'm' has no version '1'\. Available: 2"):
        library.find("m", "1")


def test_a_version_that_is_loaded_during_a_refresh_is_not_lost(models, monkeypatch):
    """The two may take long, and do not wait for each other."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    put(models, 3)
    real = loader.load
    versions = []

    def load(entry, *more):
        if entry.version == "3":
            versions.append(library.find("m", "1").version)
        return real(entry, *more)

    monkeypatch.setattr(selection, "load", load)
    library.refresh()

    assert versions == ["1"]
    assert states(library) == {"1": "loaded", "2": "loaded", "3": "loaded"}
    assert library.find("m").version == "3"


def test_a_version_that_is_superseded_is_kept_for_a_while(models, loads):
    """Requests by its number may still arrive."""
    put(models, 1)
    library = Library(models)
    put(models, 2)
    library.refresh()
    assert library.find("m", "1").version == "1"
    assert loads == [("m", "1"), ("m", "2")]

    library.kept.idle_seconds = -1
    library.refresh()

    assert states(library) == {"1": "on demand", "2": "loaded"}


def test_a_model_is_unloaded_and_loaded_by_a_file(models, loads, caplog):
    """The file takes all versions out of service, at any time and at a start."""
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
        "no longer serving m (was version 2)",
        "no longer serving m, alias stable (was version 1)",
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


def test_a_view_of_a_model_that_is_unloaded_says_so(models):
    """Its message does not name the model, which the client need not know."""
    put(models, 1, models={"fruity": ["size"]})
    library = Library(models)
    (models / "m" / "unloaded").touch()
    library.refresh()
    for which in ((None, None), ("1", None), (None, "stable")):
        with pytest.raises(NotReady) as raised:
            library.find("fruity", *which)
        assert str(raised.value) == (
            "model 'fruity': it is a view of a model that is unloaded, and comes back with that"
        )
    with pytest.raises(NotFound, match="there is none of that name"):
        library.find("other")
    assert library.current.available() == []
    (models / "m" / "unloaded").unlink()
    library.refresh()

    assert library.find("fruity").version == "1"


def test_a_version_that_is_loaded_while_its_model_is_unloaded_is_dropped(models, monkeypatch):
    """A load that began before the unload does not bring the version back."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    real = loader.load

    def load(entry, *more):
        loaded = real(entry, *more)
        library.unload("m")
        return loaded

    monkeypatch.setattr(reloader, "load", load)
    with pytest.raises(NotReady, match="it is unloaded"):
        library.find("m", "1")
    assert library.current.catalog.models == {}


def test_a_version_that_is_loaded_during_an_unload_is_dropped(models, monkeypatch):
    """A load that ends during the unload does not bring the version back either."""
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
