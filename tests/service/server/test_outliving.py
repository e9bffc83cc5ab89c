"""Versions that outlive their files in some workers: no answer is older, none by another model."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from service.errors import NotReady, Shortage
from service.host.files import write_file
from service.repository import loader, reloader
from service.repository.changes import without
from service.server import shared_library
from service.server.generations import Generations, Member
from service.server.shared_library import SharedLibrary
from service.settings import Settings
from tests.harness import small

GARBAGE = b"not a model"
REFUSED = "version 2: refused, it is not an ONNX file"


class Stepped(SharedLibrary):
    """The library of a worker that does a step only when a test says so."""

    first = 32

    def _begin(self) -> None:
        self._choice = replace(self._choice, budget=replace(self._choice.budget, first=self.first))


class Workers:
    """The libraries of some workers, in one process and one thread."""

    def __init__(self, models, count=2, first=32, policy="latest"):
        self._settings = Settings(models=models, watch=0, policy=policy)
        self._first = first
        self.generations = Generations(count)
        self.libraries = [self._start(slot) for slot in range(count)]
        self.settle()

    def _start(self, slot):
        self.generations.start(slot)
        worker = type("Worker", (Stepped,), {"first": self._first})
        return worker(self._settings, Member(self.generations, slot))

    def kill(self, slot):
        """End a worker as the kernel does, and start its successor."""
        self.generations.end(slot)
        self.libraries[slot] = self._start(slot)
        self.settle(look=False)

    def settle(self, *, look=True):
        """Have the leader look, and all workers do what follows from that."""
        if look:
            self.libraries[0].look_again()
        for _ in range(20):
            for library in self.libraries:
                library.step()

    def answers(self, name, version=None, alias=None):
        """Return the version and the size of apples that each worker answers; "" for a 503."""
        return [answer(library, name, version, alias) for library in self.libraries]

    def is_whole(self):
        """Return whether all workers serve the last proposal, and none has to be replaced."""
        members = [library._member for library in self.libraries]
        number = members[0].proposed()
        return all(m.is_admitted() and m.committed() == number for m in members) and not any(
            self.generations.is_expelled(slot) for slot in range(len(members))
        )


def answer(library, name, version=None, alias=None):
    """Return the version that answers in one worker and what it says; "" for a 503."""
    try:
        servable = library.find(name, version, alias)
    except NotReady:
        return ""
    size = servable.model.predict({"fruit": [[1.0, 1.0]]}, ("size",))["size"]
    return f"{servable.version}: {size.item():g}"


@pytest.fixture(name="models")
def _models(tmp_path, monkeypatch):
    """Return a repository of the models a, with two versions, and b."""
    monkeypatch.setattr(reloader, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(shared_library, "AGAIN_SECONDS", 0)
    small.put(tmp_path, "a", 1, small.three(1))
    small.put(tmp_path, "a", 2, small.three(2))
    small.put(tmp_path, "b", 1, small.three(3))
    return tmp_path


def spoil(models, name="a", version=2):
    """Replace the file of a version by one that cannot serve."""
    write_file(models / name / str(version) / "model.onnx", GARBAGE)


def test_a_successor_serves_all_but_what_others_alone_have_loaded(models):
    """Its requests for that are answered with 503, and not by an older version."""
    workers = Workers(models, 3)
    spoil(models)
    workers.settle()
    assert workers.answers("a") == ["2: 4", "2: 4", "2: 4"]
    workers.kill(0)

    assert workers.answers("a") == ["", "2: 4", "2: 4"]
    assert workers.answers("a", "2") == ["", "2: 4", "2: 4"]
    assert workers.answers("a", "1") == ["1: 2", "1: 2", "1: 2"]
    assert workers.answers("b") == ["1: 6", "1: 6", "1: 6"]
    with pytest.raises(NotReady, match=REFUSED):
        workers.libraries[0].find("a")


def test_other_changes_are_not_held_up(models):
    """They are served by all workers at once, and so is the file once it is mended."""
    workers = Workers(models)
    spoil(models)
    workers.settle()
    workers.kill(1)
    small.put(models, "b", 2, small.three(5))
    workers.settle()
    assert workers.answers("b") == ["2: 10", "2: 10"]
    assert workers.answers("a") == ["2: 4", ""]
    assert workers.is_whole()
    write_file(models / "a" / "2" / "model.onnx", small.three(7))
    workers.settle()

    assert workers.answers("a") == ["2: 14", "2: 14"]
    assert workers.is_whole()


def test_the_log_says_what_to_mend_once(models, caplog):
    """It names the version and the reason."""
    workers = Workers(models)
    spoil(models)
    workers.settle()
    workers.kill(1)
    small.put(models, "b", 2, small.three(5))
    workers.settle()

    [message] = [r.getMessage() for r in caplog.records if "with 503" in r.getMessage()]
    assert message.startswith("a, version 2: this worker answers requests for it with 503")
    assert "it is not an ONNX file" in message


def test_an_older_version_answers_once_no_worker_has_it_loaded(models):
    """All workers go back at one moment."""
    workers = Workers(models)
    spoil(models)
    workers.settle()
    workers.kill(0)
    before = workers.generations.common[0]
    assert workers.answers("a") == ["", "2: 4"]
    workers.kill(1)

    assert workers.answers("a") == ["1: 2", "1: 2"]
    assert workers.generations.common[0] == before + 1
    assert workers.is_whole()


def test_what_one_worker_serves_on_does_not_keep_another_version_from_going_back(models):
    """Which versions are loaded somewhere is known one by one."""
    small.put(models, "b", 2, small.three(5))
    workers = Workers(models)
    spoil(models)
    workers.settle()
    workers.kill(0)
    for library in workers.libraries:
        library._swap(lambda now, own=library: without(now, {("b", "2")}, own._choice))
    spoil(models, "b")
    workers.settle()

    assert workers.answers("a") == ["", "2: 4"]
    assert workers.answers("b") == ["1: 6", "1: 6"]
    assert workers.is_whole()


def test_a_version_that_some_workers_have_let_go_of_waits_there(models):
    """It is served on where it is loaded, and the change is committed at once."""
    workers = Workers(models)
    second = workers.libraries[1]
    second._swap(lambda now: without(now, {("a", "2")}, second._choice))
    spoil(models)
    small.put(models, "b", 2, small.three(5))
    workers.settle()

    assert workers.answers("a") == ["2: 4", ""]
    assert workers.answers("b") == ["2: 10", "2: 10"]
    assert workers.is_whole()


def test_a_setting_that_no_session_can_be_made_with_is_no_different(models):
    """The loaded version serves on, and a successor waits for it to be mended."""
    workers = Workers(models)
    settings = models / "a" / "settings.toml"
    settings.write_text('provider = "NoSuchProvider"')
    workers.settle()
    workers.kill(1)
    assert workers.answers("a") == ["2: 4", ""]
    assert workers.answers("b") == ["1: 6", "1: 6"]
    settings.unlink()
    workers.settle()

    assert workers.answers("a") == ["2: 4", "2: 4"]
    assert workers.is_whole()


def test_an_alias_of_such_a_version_is_answered_with_503(models):
    """It is there, and is no reason for a 404 or for another version."""
    (models / "a" / "aliases.json").write_text('{"stable": "2"}')
    workers = Workers(models, policy="pinned")
    spoil(models)
    workers.settle()
    workers.kill(1)

    assert workers.answers("a", alias="stable") == ["2: 4", ""]
    assert workers.answers("a") == ["2: 4", ""]
    with pytest.raises(NotReady, match=REFUSED):
        workers.libraries[1].find("a", alias="stable")


def test_a_view_of_such_a_version_is_not_answered_by_another_model(models):
    """A successor knows of its views from the others."""
    write_file(models / "a" / "2" / "model.onnx", small.three(2, models={"fruity": ["size"]}))
    write_file(models / "b" / "1" / "model.onnx", small.three(3, models={"fruity": ["size"]}))
    workers = Workers(models)
    assert workers.answers("fruity") == ["2: 4", "2: 4"]
    spoil(models)
    workers.settle()
    workers.kill(1)

    assert workers.answers("fruity") == ["2: 4", ""]
    assert workers.answers("fruity", "2") == ["2: 4", ""]


def test_a_file_that_grows_anew_again_and_again_holds_nothing_up(models):
    """A version that never served is refused, however often its file is replaced."""
    small.put(models, "a", 3, GARBAGE)
    workers = Workers(models)
    for _ in range(3):
        spoil(models, version=3)
        workers.settle()
        assert workers.answers("a") == ["2: 4", "2: 4"]
    workers.kill(1)

    assert workers.answers("a") == ["2: 4", "2: 4"]


def test_a_version_that_only_some_requests_needed_does_not_outlive_its_file(models):
    """Not every worker has it loaded, and none has to agree on it."""
    small.put(models, "a", 3, small.three(5))
    workers = Workers(models)
    assert answer(workers.libraries[0], "a", "2") == "2: 4"
    shutil.rmtree(models / "a" / "3")
    spoil(models)
    workers.settle()

    assert workers.answers("a") == ["1: 2", "1: 2"]
    assert workers.is_whole()


def test_a_later_model_waits_for_the_next_look_in_all_workers(models):
    """What one worker has loaded before is not answered in another by what came after."""
    workers = Workers(models, first=1)
    first, second = workers.libraries
    assert answer(first, "b") == "1: 6"
    spoil(models, "b", 1)
    assert answer(second, "b") == ""
    write_file(models / "b" / "1" / "model.onnx", small.three(5))
    assert workers.answers("b") == ["1: 6", ""]
    workers.settle(look=False)

    assert workers.answers("b") == ["1: 10", "1: 10"]


def test_a_later_model_does_not_go_back_in_one_worker_alone(models):
    """A worker that has not loaded it knows that another one may have."""
    small.put(models, "b", 2, small.three(5))
    workers = Workers(models, first=1)
    assert answer(workers.libraries[0], "b") == "2: 10"
    spoil(models, "b")
    workers.settle()
    assert workers.answers("b") == ["2: 10", ""]
    workers.kill(0)
    workers.answers("b")
    workers.settle(look=False)

    assert workers.answers("b") == ["1: 6", "1: 6"]


def test_a_later_model_that_one_worker_is_short_of_is_not_served_on_there(models, monkeypatch):
    """Others have loaded its new file, and answer by that."""
    workers = Workers(models, first=1)
    assert workers.answers("b") == ["1: 6", "1: 6"]
    write_file(models / "b" / "1" / "model.onnx", small.three(5))
    first, second = workers.libraries
    load = loader.Model.load
    first.look_again()
    first.step()
    first.step()

    def fail(*_):
        raise Shortage("there is no memory")

    monkeypatch.setattr(loader.Model, "load", fail)
    second.step()
    monkeypatch.setattr(loader.Model, "load", load)
    workers.settle(look=False)

    assert workers.answers("b") == ["1: 10", ""]


def test_a_successor_waits_for_a_file_that_was_just_replaced(models):
    """An older version does not answer in the meantime, and nor does the new file."""
    workers = Workers(models)
    write_file(models / "a" / "2" / "model.onnx", small.three(7))
    workers.kill(1)
    assert workers.answers("a") == ["2: 4", ""]
    assert workers.answers("b") == ["1: 6", "1: 6"]
    workers.settle()

    assert workers.answers("a") == ["2: 14", "2: 14"]


def test_a_worker_that_was_short_for_a_while_takes_part_in_the_next_change(models, monkeypatch):
    """What it could not load again counts like what it loads later."""
    workers = Workers(models)
    first, second = workers.libraries
    second._swap(lambda now: without(now, {("a", "2")}, second._choice))

    def fail(*_):
        raise Shortage("there is no memory")

    with monkeypatch.context() as patch:
        patch.setattr(loader.Model, "load", fail)
        assert answer(second, "a") == ""
        small.put(models, "c", 1, GARBAGE)
        workers.settle()
        assert workers.is_whole()
        assert answer(first, "a") == "2: 4"

    assert "c" in {entry.name for entry in second.current.refused}


def test_a_file_that_all_were_short_of_is_not_loaded_by_one_worker_alone(models, monkeypatch):
    """That another model goes back to an older version is no reason to try again."""
    monkeypatch.setattr(loader, "AGAIN_SECONDS", 0)
    small.put(models, "b", 2, GARBAGE)
    workers = Workers(models, first=1)

    def fail(*_):
        raise Shortage("there is no memory")

    with monkeypatch.context() as patch:
        patch.setattr(loader.Model, "load", fail)
        write_file(models / "a" / "2" / "model.onnx", small.three(7))
        workers.settle()
        assert workers.answers("a") == ["2: 4", "2: 4"]
    assert answer(workers.libraries[0], "b") == "1: 6"
    assert workers.answers("a") == ["2: 4", "2: 4"]
    workers.settle()

    assert workers.answers("a") == ["2: 14", "2: 14"]
