"""The model that `service.load` finds: by a path, or by a name in a repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import service
from service.errors import TricepsError
from tests.harness import small

ROW = {"fruit": [1, 2]}


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch):
    """Return a folder with a repository, in which the program runs."""
    for version in (1, 2, 3):
        small.put(tmp_path / "models", "three", version, small.three(scale=float(version)))
    (tmp_path / "models" / "three" / "3" / "model.onnx").write_bytes(b"broken")
    (tmp_path / "models" / "three" / "aliases.json").write_text(json.dumps({"stable": "1"}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "version"),
    [
        pytest.param(["models/three"], "2", id="the folder of a model"),
        pytest.param(["models/three/"], "2", id="with a slash"),
        pytest.param([Path("models", "three")], "2", id="a Path"),
        pytest.param(["./models/../models/three"], "2", id="a winding path"),
        pytest.param(["models/three/1"], "1", id="the folder of a version"),
        pytest.param(["models/three/1/model.onnx"], "1", id="a file"),
        pytest.param(["models/three/stable"], "1", id="an alias behind a path"),
        pytest.param(["models"], "2", id="a repository of one model"),
        pytest.param(["three"], "2", id="a name"),
        pytest.param(["three", "models"], "2", id="a name and a repository"),
        pytest.param(["three/1", Path("models")], "1", id="a version"),
        pytest.param(["three/stable", "models"], "1", id="an alias"),
    ],
)
def test_a_model_is_found(folder, arguments, version):
    """The newest version that can serve is loaded, unless another one is named."""
    model = service.load(*arguments)

    assert (model.name, model.version) == ("three", version)
    assert model.predict(ROW, "size")["size"].value.tolist() == [3 * int(version)]


def test_a_file_is_a_model(folder):
    """A file outside of a repository has the name of the file."""
    (folder / "mine.onnx").write_bytes(small.three())

    assert service.load("mine.onnx").name == "mine"
    assert service.load(folder / "mine.onnx").predict(ROW, "size")["size"].value.tolist() == [3]


def test_a_model_of_the_repository_precedes_a_path(folder):
    """As for `triceps predict`."""
    small.put(folder, "three", 1, small.three(scale=7.0))

    assert service.load("three").version == "2"
    assert service.load("./three").predict(ROW, "size")["size"].value.tolist() == [21]


def test_a_link_to_a_model_is_followed(folder):
    """The caller has named it, so it may lead anywhere; links inside a repository may not."""
    (folder / "other").mkdir()
    (folder / "other" / "linked").symlink_to(folder / "models" / "three")

    assert service.load("other/linked").name == "three"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["thre"], r"there is none of that name \(did you mean 'three'\?\)", id="typo"),
        pytest.param(["three/9", "models"], "has no version '9'. Available: ", id="no version"),
        pytest.param(["models/three/9"], "has no version '9'. Available: ", id="no such folder"),
        pytest.param(
            ["three/stabel"], r"no alias 'stabel' \(did you mean 'stable'\?\)", id="alias"
        ),
        pytest.param(["three/3", "models"], "refused, ", id="refused"),
        pytest.param(["models/three/3"], "refused, it is not an ONNX file", id="broken"),
        pytest.param(["three", "nowhere"], "no repository nowhere", id="no repository"),
        pytest.param(["modles/three"], "modles/three.*there is none of that name", id="no path"),
        pytest.param(
            ["models/thre"],
            r"^models/thre: there is no file or folder at that path \(did you mean 'three'\?\)$",
            id="a typo in a path",
        ),
        pytest.param(["empty"], "received none in it", id="an empty folder"),
        pytest.param(["both"], "received a repository of 2: a, b", id="several models"),
    ],
)
def test_what_is_no_model_is_refused_with_the_way_out(folder, arguments, message):
    """The message says what there is, or why a model cannot serve."""
    (folder / "empty").mkdir()
    small.put(folder / "both", "a", 1, small.three())
    small.put(folder / "both", "b", 1, small.three())

    with pytest.raises(TricepsError, match=message):
        service.load(*arguments)


def test_without_any_repository_the_message_says_what_to_give(tmp_path, monkeypatch):
    """A notebook often runs in another folder than its author thinks."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(TricepsError, match="expected the path of a model, or a name and the path"):
        service.load("three")
