"""The settings of one model: a file beside its versions, which is watched."""

import os

import numpy as np
import pytest

from service.repository import scan
from service.repository.model_settings import ModelSettings, ModelSettingsError, read
from service.repository.reloader import Library
from tests.harness import mixers, small


@pytest.fixture
def models(tmp_path):
    """Return a repository of one model whose rows may run together."""
    small.put(tmp_path, "three", 1, small.three(models={"risky": ["risk"]}))
    return tmp_path


def mode(library, name="three"):
    """Return the batching mode of a model, and its evidence."""
    batching = library.find(name).model.batching
    return batching.mode, batching.evidence


def test_a_file_makes_requests_run_alone_until_it_is_removed(models, loads):
    """The next look applies the change to the model and its views, without a new load."""
    library = Library(models)
    before = library.find("three").model

    (models / "three" / "settings.toml").write_text("alone = true\n")
    library.refresh()
    alone = library.find("three").model
    modes = [mode(library), mode(library, "risky")]
    (models / "three" / "settings.toml").unlink()
    library.refresh()

    assert before.batching.mode == "rows"
    assert modes == [("alone", "setting")] * 2
    assert alone.runs_alone
    assert loads == [("three", "1")]
    assert mode(library) == ("rows", "operators")


def test_no_setting_forces_rows_together(models):
    """The mode without proof is the same, whatever the file says."""
    (models / "three" / "settings.toml").write_text("alone = false\n")

    assert mode(Library(models)) == ("rows", "operators")


def test_a_joint_model_stays_joint_whatever_is_set(tmp_path):
    """`alone` promises less than `joint`: `triceps predict` would cut a file into pieces."""
    small.put(tmp_path, "centred", 1, mixers.centred().SerializeToString())
    (tmp_path / "centred" / "settings.toml").write_text("alone = true\n")

    assert mode(Library(tmp_path), "centred") == ("joint", "operators")


def test_a_model_that_is_set_to_run_alone_runs_a_request_whole(models):
    """The rows of a request are one run, however many there are."""
    (models / "three" / "settings.toml").write_text("alone = true\n")
    model = Library(models).find("three").model
    session, runs = model._whole[0], []

    class Counted:
        def run(self, heads, feeds):
            runs.append(len(feeds["fruit"]))
            return session.run(heads, feeds)

    model._whole = Counted(), model._whole[1]
    rows = {
        "insurance": np.zeros((300, 2), np.float32),
        "insurance.smoker": np.full((300, 1), "no", object),
        "fruit": np.zeros((300, 2), np.float32),
        "digit": np.zeros((300, 4), np.float32),
    }
    model.predict(rows, list(model.signature.heads))

    assert runs == [300]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "alon = true",
            "settings.toml: expected keys out of alone, keep, received 'alon' (did you mean 'alone'?)",
            id="a key that is close",
        ),
        pytest.param(
            "alone = 1", "settings.toml, alone: expected true or false, received 1", id="a number"
        ),
        pytest.param("alone", "settings.toml: expected TOML like alone = true: ", id="no TOML"),
        pytest.param(
            "#" * 2**17,
            "settings.toml: cannot be read: expected a file of at most 65536",
            id="large",
        ),
    ],
)
def test_a_wrong_settings_file_is_refused_by_name(models, text, message):
    """The former settings stay; if there were none, requests run alone until the file is fixed."""
    file = models / "three" / "settings.toml"
    file.write_text(text)
    with pytest.raises(ModelSettingsError) as raised:
        read(file)

    first = Library(models)
    file.unlink()
    file.write_text("alone = false")
    second = Library(models)
    file.write_text(text)
    second.refresh()

    assert str(raised.value).startswith(message)
    assert mode(first) == ("alone", "setting")
    assert mode(second) == ("rows", "operators")
    for library, stays in ((first, "each request runs alone"), (second, "the previous settings")):
        [refused] = library.current.refused
        assert (refused.name, refused.version) == ("three", None)
        assert refused.reason.startswith(message)
        assert f"; until it is fixed, {stays}" in refused.reason


def test_only_a_regular_file_is_read(tmp_path):
    """A pipe or a missing file is an error, and the service waits for neither."""
    pipe = tmp_path / "settings.toml"
    os.mkfifo(pipe)

    with pytest.raises(ModelSettingsError, match="expected a file"):
        read(pipe)
    with pytest.raises(ModelSettingsError, match="cannot be read"):
        read(tmp_path / "none")


def test_the_default_settings_change_nothing():
    """An empty file and a missing file mean the same."""
    assert ModelSettings() == ModelSettings(alone=False)
    assert scan.SETTINGS == "settings.toml"
