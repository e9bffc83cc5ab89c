"""Repositories with more models than are loaded at the start, or than there is memory for."""

import threading

import pytest
from click.testing import CliRunner

from service.commands.main import main
from service.errors import NotFound, NotReady, Shortage
from service.host.files import write_file
from service.repository import loader, reloader, repository, selection
from service.repository.assembly import make
from service.repository.budget import FIRST, Budget
from service.repository.declarations import declare
from service.repository.reloader import Library
from service.repository.sandbox import Passed
from service.repository.selection import Choice
from service.server import proposals
from tests.harness import small
from tests.harness.changing import BAD, point, put, refused, size
from tests.harness.waiting import until

NAMES = ("a", "b", "c", "d")
EACH = 1000


@pytest.fixture
def many(models, monkeypatch):
    """Return a repository of four models that take a thousand bytes each; `a` is the default."""
    for name in NAMES:
        put(models, 1, name)
    (models / "a" / "default").touch()
    monkeypatch.setattr(loader, "_size", lambda *_: EACH)
    return models


def loaded(library):
    """Return the names of the models that are loaded, sorted."""
    return "".join(sorted({name for name, _ in library.current.catalog.models}))


def library_of(models, *, room=10, first=1, policy="latest"):
    """Return a library that loads one model at the start and has room for some."""
    return Library(models, policy=policy, budget=Budget(room * EACH, first=first))


def test_a_small_repository_is_loaded_at_the_start(many, loads):
    """Nothing is left to the first request of each model."""
    library = Library(many)

    assert len(NAMES) <= FIRST
    assert loaded(library) == "abcd"
    assert not library.load_more()
    assert len(loads) == len(NAMES)


def test_later_models_are_listed_at_once_and_loaded_when_they_are_requested(many, loads):
    """The service is ready before, and each is loaded once."""
    library = library_of(many)
    assert loads == [("a", "1")]
    assert library.reason_not_ready() is None
    assert library.current.names() == sorted(library.current.answering) == [*NAMES]
    assert library.current.states("c") == {"1": "on demand"}

    assert [size(library.find("c")) for _ in range(2)] == [2.0, 2.0]

    assert loads == [("a", "1"), ("c", "1")]
    assert library.current.states("c") == {"1": "loaded"}


def test_later_models_are_loaded_in_the_background_while_there_is_room(many, loads):
    """The last one is tried, so that its file is known, and is not loaded."""
    library = library_of(many, room=3)

    while library.load_more():
        pass

    assert loaded(library) == "abc"
    assert library.current.catalog.unknown == []
    assert [name for name, _ in library.current.catalog.tried] == ["d"]
    assert library.current.states("d") == {"1": "on demand"}
    assert ("d", "1") not in loads


def test_the_model_that_was_requested_the_longest_ago_gives_way(many):
    """It is loaded again when it is requested again; the default model stays."""
    library = library_of(many, room=3)
    order = []
    for name in ("b", "c", "b", "d", "c", "b"):
        assert size(library.find(name)) == 2.0
        order.append(loaded(library))

    assert order == ["ab", "abc", "abc", "abd", "acd", "abc"]


def test_a_model_that_is_kept_stays(many):
    """So says its file of settings."""
    (many / "b" / "settings.toml").write_text("keep = true\n")
    library = library_of(many, room=3)
    assert loaded(library) == "ab"

    for name in ("c", "d", "c", "d"):
        library.find(name)

    assert loaded(library) == "abd"


def test_a_model_that_is_set_to_be_kept_later_is_loaded_then(many):
    """No request has to come first."""
    library = library_of(many)
    assert loaded(library) == "a"

    (many / "d" / "settings.toml").write_text("keep = true\n")
    library.refresh()

    assert loaded(library) == "ad"


def test_a_model_larger_than_the_budget_is_refused_by_name(many, monkeypatch):
    """The reason names the setting; the others are served."""
    monkeypatch.setattr(
        loader, "_size", lambda found, _: (1 if found.name != "c" else 9) * EACH * 1000
    )
    library = Library(many, budget=Budget(3 * EACH * 1000, workers=2, first=1))

    with pytest.raises(NotReady, match=r"'c', version 1: refused, loading it takes 8 MB in each"):
        library.find("c")

    [(name, version, reason)] = refused(library)
    assert (name, version) == ("c", "1")
    assert "expected at most 2 MB (TRICEPS_MEMORY is 6000000)" in reason
    assert size(library.find("d")) == 2.0


def test_a_model_larger_than_the_budget_is_loaded_once_it_is_to_be_kept(many, monkeypatch):
    """Its refusal says that this is a way out; no restart is needed."""
    monkeypatch.setattr(loader, "_size", lambda found, _: (1 if found.name != "c" else 9) * EACH)
    library = library_of(many, room=3)
    with pytest.raises(NotReady, match="set keep = true for the model"):
        library.find("c")

    (many / "c" / "settings.toml").write_text("keep = true\n")
    library.refresh()

    assert size(library.find("c")) == 2.0
    assert refused(library) == []


def test_models_that_stay_may_take_the_whole_budget(many):
    """Others are answered with the reason, and are tried again later."""
    (many / "b" / "settings.toml").write_text("keep = true\n")
    library = library_of(many, room=2)

    with pytest.raises(NotReady, match="with keep = true leave less of TRICEPS_MEMORY"):
        library.find("c")

    assert library.current.catalog.broken["c", "1"].is_short


def test_the_first_models_need_not_fit(many):
    """Those beyond the budget are tried, so that all workers know the same of them."""
    library = library_of(many, room=2, first=4)

    assert loaded(library) == "ab"
    assert sorted(library.current.catalog.tried) == [("c", "1"), ("d", "1")]
    assert size(library.find("d")) == 2.0


def test_a_later_version_that_cannot_serve_is_refused_at_its_first_request(many):
    """The version before it answers, also for an alias that named it before."""
    library = library_of(many)
    small.put(many, "c", 2, BAD)
    library.refresh()
    assert library.current.answering["c"] == "2"

    assert library.find("c").version == "1"

    assert [(name, version) for name, version, _ in refused(library)] == [("c", "2")]
    assert library.current.answering["c"] == "1"
    assert library.find("c").version == "1"


def test_a_model_without_any_version_that_can_serve_says_why(many):
    """Each file is read once."""
    write_file(many / "c" / "1" / "model.onnx", BAD)
    library = library_of(many)

    for _ in range(2):
        with pytest.raises(NotReady, match="model 'c', version 1: refused, it is not an ONNX file"):
            library.find("c")
    assert library.current.reason_not_ready() is None


def test_an_alias_of_a_later_model_is_answered(many):
    """The version that it names is loaded, and no other."""
    put(many, 2, "c")
    point(many, "c", old="1")
    library = library_of(many)
    assert library.current.versions_of_aliases("c") == {"old": "1"}

    assert library.find("c", alias="old").version == "1"

    assert library.current.states("c") == {"1": "loaded", "2": "on demand"}
    with pytest.raises(NotFound, match="model 'c' has no alias 'older'"):
        library.find("c", alias="older")


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_later_model_whose_stable_is_moved_to_a_broken_version_serves_on(many, is_loaded):
    """No worker has to have the former version loaded at that moment."""
    point(many, "c", stable="1")
    library = library_of(many, policy="pinned")
    small.put(many, "c", 2, BAD)
    library.refresh()
    if is_loaded:
        library.find("c")

    point(many, "c", stable="2")
    library.refresh()
    assert library.find("c").version == "1"
    put(many, 2, "d")
    library.refresh()

    assert library.find("c").version == library.find("c", alias="stable").version == "1"
    assert (
        "version 1, which it named before, serves on"
        in library.current.catalog.amiss["c", "stable"]
    )
    put(many, 3, "c")
    point(many, "c", stable="3")
    library.refresh()
    assert library.find("c").version == "3"


def test_a_new_worker_serves_aliases_as_the_others_do(many):
    """It could not join them otherwise; one names a version that cannot serve."""
    point(many, "b", stable="1")
    library = library_of(many, first=9)
    small.put(many, "b", 2, BAD)
    point(many, "b", stable="2")
    library.refresh()
    catalog = library.current.catalog

    proposal = proposals.dump(catalog.scan, declare(catalog.scan, catalog))
    scan, declared = proposals.load(proposal)
    new = make(scan, Choice(), None, declared)

    assert new.find("b", alias="stable").version == "1"
    assert proposals.outcome(new) == proposals.outcome(library.current)


def test_the_policy_pinned_lists_what_stable_names(many):
    """A model without it is refused, as ever."""
    point(many, "c", stable="1")
    library = library_of(many, policy="pinned")

    assert library.find("c").version == "1"
    with pytest.raises(NotReady, match="it has no alias 'stable'"):
        library.find("d")


def test_a_view_is_known_once_its_file_has_been_tried(many):
    """Until then, a name that is not known may be that of a view."""
    small.put(many, "d", 2, small.three(models={"lent": ["size"]}))
    library = library_of(many, room=2)

    with pytest.raises(NotReady, match="none of that name so far, and 3 files that may have a vi"):
        library.find("lent")
    while library.load_more():
        pass
    with pytest.raises(NotFound, match="model 'nobody': there is none of that name"):
        library.find("nobody")


def test_a_view_answers_after_its_file_has_been_let_go_of(many):
    """It loads its file again, whose name need not be known."""
    small.put(many, "d", 2, small.three(models={"lent": ["size"]}))
    library = library_of(many, room=2)
    library.find("d")
    assert size(library.find("lent")) == 2.0
    library.find("b")
    assert loaded(library) == "ab"

    # Of the older version, nobody knows.
    assert library.current.states("lent") == {"1": "on demand", "2": "on demand"}
    assert "lent" in library.current.names()
    assert size(library.find("lent")) == 2.0


def test_a_view_stays_known_while_the_next_version_of_its_model_is_not_tried_yet(many):
    """The first request for it loads that version, which may not have the view any more."""
    small.put(many, "d", 2, small.three(models={"lent": ["size"]}))
    library = library_of(many, room=2)
    library.find("d")
    library.find("b")
    assert loaded(library) == "ab"

    for scale in (3, 4):
        small.put(many, "d", scale, small.three(scale, models={"lent": ["size"]}))
        library.refresh()
    assert library.current.names() == ["a", "b", "c", "d", "lent"]
    assert size(library.find("lent")) == 8.0

    library.find("b")
    put(many, 5, "d")
    library.refresh()
    while library.load_more():
        pass
    with pytest.raises(NotFound, match="model 'lent': there is none of that name"):
        library.find("lent")


def test_a_view_of_a_model_that_was_let_go_of_waits_for_the_machine_with_it(many, monkeypatch):
    """A client is not told that there is no such model."""
    small.put(many, "d", 2, small.three(models={"lent": ["size"]}))
    library = library_of(many, room=2)
    library.find("d")
    library.find("b")
    while library.load_more():
        pass

    def load(found, *_):
        return loader.Broken(found, "no memory", is_short=True)

    for module in (reloader, selection):
        monkeypatch.setattr(module, "load", load)
    for _ in range(2):
        with pytest.raises(NotReady, match="a view of a model of which no version can answer now"):
            library.find("lent")
        library.refresh()


def test_what_replaces_a_loaded_version_is_loaded_before_it_answers(many, loads):
    """What replaces one that is not loaded waits for a request, too."""
    library = library_of(many)
    library.find("b")
    for name in ("b", "c"):
        put(many, 2, name)
    loads.clear()

    library.refresh()

    assert loads == [("b", "2")]
    assert library.find("b").version == library.find("c").version == "2"


def test_a_file_that_was_replaced_by_a_broken_one_is_not_let_go_of(many):
    """It could not be loaded again."""
    library = library_of(many, room=3)
    library.find("b")
    write_file(many / "b" / "1" / "model.onnx", BAD)
    library.refresh()

    for name in ("c", "d", "c"):
        library.find(name)

    assert loaded(library) == "abc"
    assert size(library.find("b")) == 2.0


@pytest.mark.parametrize(("first", "version"), [(1, None), (9, "1")], ids=["a later", "a first"])
def test_a_shortage_brings_no_older_version_of_a_later_model_back(
    many, monkeypatch, first, version
):
    """In another worker, the newer one may have answered already; the first models agree on it."""
    library = library_of(many, first=first)
    assert library.find("c").version == "1"
    put(many, 2, "c")
    real = loader.load

    def load(found, *more):
        if found.version == "2":
            return loader.Broken(found, "no memory", is_short=True)
        return real(found, *more)

    monkeypatch.setattr(selection, "load", load)
    library.refresh()

    if version is None:
        with pytest.raises(NotReady, match="model 'c', version 2: refused, no memory"):
            library.find("c")
        assert size(library.find("c", "1")) == 2.0
    else:
        assert library.find("c").version == version


def test_a_shortage_brings_no_older_version_of_a_first_model_back_that_was_let_go_of(
    many, monkeypatch
):
    """Another worker may still have the newer one loaded, and answer with it."""
    put(many, 2, "c")
    library = library_of(many, room=2, first=9)
    assert library.find("c").version == "2"
    library.find("d")
    assert loaded(library) == "ad"
    real = loader.load

    def load(found, *more):
        if found.key == ("c", "2"):
            return loader.Broken(found, "no memory", is_short=True)
        return real(found, *more)

    for module in (reloader, selection):
        monkeypatch.setattr(module, "load", load)
    with pytest.raises(NotReady, match="model 'c', version 2: refused, no memory"):
        library.find("c")
    library.refresh()
    assert library.current.answering.get("c") is None
    for module in (reloader, selection):
        monkeypatch.setattr(module, "load", real)
    monkeypatch.setattr(loader.Broken, "is_due", lambda _: True)

    assert library.find("c").version == "2"


def test_workers_agree_on_the_first_models_whatever_they_have_loaded_of_the_others(many):
    """A model that one of them has let go of is the same as one that is loaded."""
    one, other = (library_of(many, room=2, first=2) for _ in range(2))
    assert loaded(one) == "ab"
    one.find("d")
    assert loaded(one) == "ad"

    assert proposals.outcome(one.current) == proposals.outcome(other.current)

    put(many, 2, "b")
    other.refresh()
    assert proposals.outcome(one.current) != proposals.outcome(other.current)


def test_requests_from_many_threads_are_all_answered(many):
    """A version that is let go of right after its load has been loaded for its request."""
    library = library_of(many, room=2)
    failures = []

    def ask(turn):
        try:
            for i in range(40):
                assert size(library.find(NAMES[(i * turn + turn) % 4])) == 2.0
        except Exception as error:  # noqa: BLE001  any is a failure
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(loaded(library)) == 2


def test_a_message_names_the_first_of_very_many_models(many, monkeypatch):
    """An error about one name does not grow with the repository."""
    monkeypatch.setattr(repository, "MOST_LISTED", 2)

    with pytest.raises(NotFound) as error:
        Library(many).find("x")

    assert str(error.value) == (
        "model 'x': there is none of that name. Available: a, b and 2 more, which /models lists"
    )


def test_a_thread_loads_the_rest(many):
    """It starts with the watch, also if that never looks."""
    library = library_of(many)

    library.watch(0)

    until(lambda: loaded(library) == "abcd")


def test_the_trial_says_what_a_model_takes_and_which_views_it_has(models, monkeypatch):
    """A file that does not fit is known all the same."""
    small.put(models, "a", 1, small.three())
    small.put(models, "b", 1, small.three(models={"lent": ["size"]}))

    class Trial:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return Passed(700, ("lent",), None)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(loader.sandbox, "passed", Trial)
    library = Library(models, budget=Budget(1000))

    assert loaded(library) == "a"
    assert library.current.states("lent") == {"1": "on demand"}
    assert size(library.find("lent")) == 2.0
    assert loaded(library) == "b"


def test_a_shortage_in_the_trial_is_tried_again(many, monkeypatch):
    """The next request is answered once there is memory."""
    library = library_of(many)
    real, short = loader.sandbox.passed, [True]

    def passed(*arguments):
        if short[0]:
            raise Shortage("no memory, now")
        return real(*arguments)

    monkeypatch.setattr(loader.sandbox, "passed", passed)
    with pytest.raises(NotReady, match="no memory, now"):
        library.find("c")
    short[0] = False
    with pytest.raises(NotReady, match="no memory, now"):
        library.find("c")
    monkeypatch.setattr(loader.Broken, "is_due", lambda _: True)

    assert size(library.find("c")) == 2.0
    assert refused(library) == []


def test_a_model_is_loaded_by_the_request_to_load_it(many):
    """A client of Triton's API may want it warm."""
    library = library_of(many)

    library.load("c")

    assert loaded(library) == "ac"


@pytest.mark.parametrize("arguments", [["alias", "nosuch"], ["check", "nosuch"]])
def test_a_command_names_some_of_many_models(tmp_path, arguments):
    """A message about a misspelt name fits a terminal, however many models there are."""
    for number in range(60):
        folder = tmp_path / f"m{number:02}" / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"")

    done = CliRunner().invoke(main, [*arguments, "--models", str(tmp_path)])

    assert done.exit_code == 1
    assert done.stderr.endswith("m18, m19, … (60 in all)\n")
