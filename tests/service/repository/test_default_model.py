"""The default model: how files say it, how it stays, and how it is lost."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from service.errors import NotFound, NotReady
from service.host.files import FileError
from service.repository import default_model, publish
from service.repository.reloader import Library
from service.repository.scan import look
from tests.harness import small
from tests.harness.changing import put, refused

KEPT = "{} stays the default model until a restart: no file default says so"
GONE = "the default model {} is gone: /predict is answered with an error"


def mark(models, *names):
    """Mark models as the default."""
    for name in names:
        (models / name / "default").touch()


def told(caplog):
    """Return the messages about the default model."""
    return [message for message in caplog.messages if "default" in message]


@pytest.mark.parametrize(
    ("names", "marked", "before", "default"),
    [
        pytest.param("", "", None, None, id="no model"),
        pytest.param("a", "", None, "a", id="the only one"),
        pytest.param("ab", "", None, None, id="several"),
        pytest.param("ab", "", "a", "a", id="the one before"),
        pytest.param("bc", "", "a", None, id="the one before, which is gone"),
        pytest.param("b", "", "a", "b", id="the only one that is left"),
        pytest.param("abt", "", None, "triceps", id="triceps among several"),
        pytest.param("abt", "", "a", "triceps", id="triceps, which joins"),
        pytest.param("abt", "a", "triceps", "a", id="the marked one"),
        pytest.param("ab", "b", "a", "b", id="another one is marked"),
        pytest.param("ab", "ab", None, None, id="two are marked"),
        pytest.param("ab", "ab", "b", "b", id="two are marked, one was the default"),
    ],
)
def test_the_default_is_the_marked_the_only_or_triceps_or_the_one_before(
    models, names, marked, before, default
):
    """The files come first, since they say the same after a restart."""
    full = {"a": "a", "b": "b", "c": "c", "t": "triceps"}
    for name in names:
        small.put(models, full[name], 1, b"")
    mark(models, *(full[name] for name in marked))

    assert default_model.choose(look(models), before) == default


def test_the_first_model_stays_the_default_though_nothing_says_so(models, caplog):
    """A model that is copied into a running repository does not take `/predict` away."""
    put(models, 1, "a")
    library = Library(models)
    put(models, 1, "b")
    library.refresh()
    put(models, 2, "b")
    library.refresh()
    library.find("b", "1")

    assert library.find().name == "a"
    assert told(caplog) == [KEPT.format("a")]
    # After a restart, nothing would say which of the two it was.
    with pytest.raises(NotFound, match="no model was named, and none is the default"):
        Library(models).find()

    mark(models, "a")
    library.refresh()

    assert library.find().name == Library(models).find().name == "a"
    assert told(caplog) == [KEPT.format("a")]


def test_another_mark_and_the_name_triceps_change_the_default(models, caplog):
    """Each change is logged once, and a lost default too."""
    put(models, 1, "a")
    put(models, 1, "b")
    mark(models, "a")
    library = Library(models)
    (models / "a" / "default").rename(models / "b" / "default")
    library.refresh()
    assert library.find().name == "b"
    (models / "b" / "default").unlink()
    put(models, 1, "triceps")
    library.refresh()
    assert library.find().name == "triceps"
    shutil.rmtree(models / "triceps")
    library.refresh()

    with pytest.raises(NotFound, match="none is the default"):
        library.find()
    assert told(caplog) == [
        "the default model is now b (was a)",
        "the default model is now triceps (was b)",
        GONE.format("triceps"),
    ]


def test_a_default_that_is_removed_takes_its_mark_with_it(models, caplog):
    """The only model that is left is the default, as it is after a restart."""
    put(models, 1, "a")
    put(models, 1, "b")
    mark(models, "a")
    library = Library(models)
    (models / "a").rename(models / ".a")
    library.refresh()

    assert library.find().name == Library(models).find().name == "b"
    (models / ".a").rename(models / "a")
    library.refresh()
    assert library.find().name == "a"
    assert told(caplog) == [
        "the default model is now b (was a)",
        "the default model is now a (was b)",
    ]


def test_an_unloaded_default_stays_the_default(models, caplog):
    """No other model answers in its place meanwhile."""
    put(models, 1, "a")
    put(models, 1, "b")
    mark(models, "a")
    library = Library(models)
    (models / "a" / "unloaded").touch()
    library.refresh()

    with pytest.raises(NotReady, match="model 'a': it is unloaded"):
        library.find()
    assert told(caplog) == []


def test_several_marks_are_refused_and_change_nothing(models):
    """`/models` names the models, and what is asked for stays as it was."""
    put(models, 1, "a")
    put(models, 1, "b")
    mark(models, "b")
    library = Library(models)
    mark(models, "a")
    library.refresh()

    reason = (
        "the file default is to mark one model as the default, and marks 2: a, b; "
        "until one is left, none counts"
    )
    assert refused(library) == [("a", None, reason), ("b", None, reason)]
    assert library.find().name == "b"


def test_the_setting_takes_precedence(models, caplog):
    """Nothing about the default is logged while it does, until its model is gone."""
    put(models, 1, "a")
    library = Library(models, "a")
    put(models, 1, "b")
    mark(models, "b")
    library.refresh()
    (models / "b" / "default").unlink()
    library.refresh()
    assert (library.find().name, told(caplog)) == ("a", [])
    shutil.rmtree(models / "a")
    library.refresh()

    with pytest.raises(NotReady, match=r"the default model 'a' \(TRICEPS_DEFAULT_MODEL\)"):
        library.find()
    assert told(caplog) == [GONE.format("a")]


def test_publishing_another_model_marks_the_only_one(models):
    """The default is the same after a restart, and for a service that cannot write."""
    content = small.three()
    publish.publish(models, "a", content)
    publish.publish(models, "a", content)
    assert not (models / "a" / "default").exists()
    publish.publish(models, "b", content)
    publish.publish(models, "c", content)

    assert [file.parent.name for file in models.glob("*/default")] == ["a"]
    assert Library(models).find().name == "a"


@pytest.mark.parametrize("names", [["triceps", "a", "b"], ["a", "triceps", "b"]])
def test_the_model_triceps_needs_no_mark(models, names):
    """It is the default by its name, and says so itself when it joins."""
    for name in names:
        publish.publish(models, name, small.three())

    assert [*models.glob("*/default")] == []
    assert Library(models).find().name == "triceps"


def test_what_only_looks_like_a_model_is_not_marked(models):
    """A folder without versions was never the default."""
    (models / "notes").mkdir()
    small.put(models, ".hidden", 1, b"")
    (models / "file").touch()
    publish.publish(models, "a", small.three())

    assert [*models.rglob("default")] == []


def test_a_mark_that_cannot_be_written_prevents_no_publication(models, monkeypatch):
    """A running service keeps its default all the same."""
    publish.publish(models, "a", small.three())

    def fail(*_):
        raise FileError("no")

    monkeypatch.setattr(publish, "write_file", fail)

    assert publish.publish(models, "b", small.three()) == "1"


def test_a_repository_that_cannot_be_written_keeps_its_default():
    """The service only reads; the mark was made where the models were published."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        models = Path(name) / "models"
        for model in ("a", "b"):
            publish.publish(models, model, small.three())
        for folder in (models, models / "a", models / "b"):
            folder.chmod(0o555)
            stack.callback(folder.chmod, 0o755)

        assert Library(models).find().name == "a"
