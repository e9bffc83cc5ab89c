"""The repository: its forms, the versions that serve, and the reasons of the others."""

import os
import tempfile
from pathlib import Path

import pytest

from service.errors import NotFound, NotReady, SettingsError
from service.repository.assembly import open_repository
from service.repository.reloader import Library
from service.repository.scan import Refused
from tests.harness import small

GOOD, BAD = small.three(), b"not a model"
NO_FILE = "it is not an ONNX file, or not the whole of one"


@pytest.fixture
def models(tmp_path):
    """Return the folder of an empty repository."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def served(repository):
    """Return the versions that serve by name, oldest first."""
    return {name: [s.version for s in servables] for name, servables in repository.served.items()}


def refused(repository):
    """Return the refusals as (name, version, reason)."""
    return [(entry.name, entry.version, entry.reason) for entry in repository.refused]


# ── its forms ────────────────────────────────────────────────────────────────────────────────────


def test_a_repository_serves_every_model(models):
    """The models have the names of their folders."""
    small.put(models, "one", 1, GOOD)
    small.put(models, "two", 7, GOOD)

    repository = open_repository(models)

    assert served(repository) == {"one": ["1"], "two": ["7"]}
    assert repository.refused == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("churn", "churn", id="a folder that holds model.onnx"),
        pytest.param("churn/model.onnx", "model", id="its file"),
        pytest.param("My model (v2).onnx", "My_model__v2_", id="a file of any name"),
        pytest.param("..onnx", "model", id="a file of hardly a name"),
    ],
)
def test_one_model_is_named_like_its_folder_or_file(tmp_path, path, name):
    """The name is made fit for a URL; the model is version 1 and the default."""
    (tmp_path / "churn").mkdir()
    for file in ("churn/model.onnx", "My model (v2).onnx", "..onnx"):
        (tmp_path / file).write_bytes(GOOD)

    repository = open_repository(tmp_path / path)

    assert (served(repository), repository.default) == ({name: ["1"]}, name)


def test_the_current_folder_has_a_name_too(tmp_path, monkeypatch):
    """`--models .` takes the name of the working directory."""
    (tmp_path / "churn").mkdir()
    (tmp_path / "churn" / "model.onnx").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path / "churn")

    assert served(open_repository(Path())) == {"churn": ["1"]}


def test_links_inside_are_followed(models, tmp_path):
    """The repository may be a link, and may have links between its own folders."""
    small.put(models, "release", 1, GOOD)
    (models / "linked").symlink_to("release")
    (models / "half").mkdir()
    (models / "half" / "3").symlink_to(models / "release" / "1")
    (models / "gone").symlink_to(tmp_path / "nowhere")
    (models / "loop").symlink_to(models / "loop")
    (tmp_path / "current").symlink_to(models)

    repository = open_repository(tmp_path / "current")

    assert served(repository) == {"half": ["3"], "linked": ["1"], "release": ["1"]}
    assert refused(repository) == [
        ("loop", None, "its folder cannot be read: Too many levels of symbolic links")
    ]


def test_an_empty_repository_waits(models):
    """A trainer will fill the repository; until then the answer says that it is empty."""
    repository = open_repository(models)

    assert (repository.served, repository.refused, repository.default) == ({}, [], None)
    assert repository.reason_not_ready() == (
        "the model repository is empty: train or publish a model into it"
    )
    with pytest.raises(NotReady, match="the model repository is empty"):
        repository.find()


def test_a_missing_repository_stops_the_start(tmp_path):
    """The error names the three things that may be there, and the two ways to say where."""
    with pytest.raises(SettingsError) as raised:
        open_repository(tmp_path / "absent")

    assert str(raised.value) == (
        f"{tmp_path}/absent: there is nothing there; expected a folder of models "
        "(<name>/<version>/model.onnx), a folder with a model.onnx or an ONNX file, "
        "by --models or TRICEPS_MODELS"
    )


def test_a_named_pipe_is_no_repository(tmp_path):
    """A pipe, a socket or a device is refused at once, and not said to be absent."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(SettingsError, match="pipe: it is neither a folder nor a file; expected a"):
        open_repository(tmp_path / "pipe")


# ── versions ─────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_version_serves(models):
    """Versions are ordered by number, not as text."""
    for version in (2, 10, 9):
        small.put(models, "m", version, small.three(version))

    repository = open_repository(models, policy="all")

    assert served(repository) == {"m": ["2", "9", "10"]}
    assert repository.find("m").version == "10"
    assert repository.find("m", "9").version == "9"


def test_an_older_good_version_serves_when_the_newest_is_refused(models):
    """The newest version is listed with the reason, and a request for it is answered so."""
    small.put(models, "m", 1, GOOD)
    small.put(models, "m", 2, GOOD)
    small.put(models, "m", 3, BAD)

    repository = open_repository(models)

    assert repository.find("m").version == "2"
    assert refused(repository) == [("m", "3", NO_FILE)]
    assert repository.reason_not_ready() is None
    with pytest.raises(NotReady) as raised:
        repository.find("m", "3")
    assert str(raised.value) == f"model 'm', version 3: refused, {NO_FILE}"


def test_a_model_without_a_usable_version_is_not_ready(models):
    """A model without a usable version is not ready, which differs from not found."""
    small.put(models, "m", 1, BAD)

    repository = open_repository(models)

    assert repository.reason_not_ready() == f"no model is usable: m, version 1: {NO_FILE}"
    for ask in (["m"], []):
        with pytest.raises(NotReady) as raised:
            repository.find(*ask)
        assert str(raised.value) == f"model 'm', version 1: refused, {NO_FILE}"


def test_entries_that_are_no_version_are_ignored(models):
    """Notes, checkpoints and other spellings of a number are not versions."""
    small.put(models, "m", 1, GOOD)
    for name in ("latest", "01", "1.5", "-2", "+3", "٣", "checkpoints"):
        (models / "m" / name).mkdir()
    (models / "m" / "2").write_text("a file")
    (models / "README.md").write_text("a file")

    repository = open_repository(models)

    assert (served(repository), refused(repository)) == ({"m": ["1"]}, [])


def test_a_version_may_be_a_time_stamp(models):
    """The number may have nineteen digits, as a time stamp in nanoseconds has."""
    small.put(models, "m", 1_732_540_000_000_000_000, GOOD)

    assert served(open_repository(models)) == {"m": ["1732540000000000000"]}


def test_a_version_without_a_file_is_refused(models):
    """A trainer that was interrupted may leave an empty folder."""
    (models / "m" / "1").mkdir(parents=True)

    assert refused(open_repository(models)) == [
        ("m", "1", "it cannot be read: No such file or directory")
    ]


def test_folders_that_are_no_model_are_refused_by_name(models):
    """Each refusal says which file was expected; the good model serves."""
    small.put(models, "good", 1, GOOD)
    small.put(models, "two words", 1, GOOD)
    (models / "hollow").mkdir()
    (models / "flat").mkdir()
    (models / "flat" / "model.onnx").write_bytes(GOOD)

    repository = open_repository(models)

    assert served(repository) == {"good": ["1"]}
    assert refused(repository) == [
        (
            "flat",
            None,
            ("it has no version: expected flat/1/model.onnx, and model.onnx is in flat itself"),
        ),
        ("hollow", None, "it has no version: expected hollow/1/model.onnx"),
        (
            "two words",
            None,
            (
                "its folder's name is no model name: expected at most 128 letters, digits, "
                "'_', '.' and '-', the first none of the last two"
            ),
        ),
    ]


def test_hidden_folders_are_ignored(models):
    """A version that is being published is hidden, as is all that begins with a dot."""
    (models / ".new-abc").mkdir()
    (models / ".new-abc" / "model.onnx").write_bytes(BAD)
    small.put(models, ".git", 1, BAD)

    repository = open_repository(models)

    assert (repository.served, repository.refused) == ({}, [])


def test_every_refusal_is_logged(models, caplog):
    """A reader of the log alone learns of each refusal too."""
    small.put(models, "m", 1, BAD)
    small.put(models, "n", 2, GOOD)
    (models / "hollow").mkdir()

    with caplog.at_level("INFO"):
        Library(models)

    assert caplog.messages == [
        "refused hollow: it has no version: expected hollow/1/model.onnx",
        f"refused m, version 1: {NO_FILE}",
        "serving n, version 2",
        "now serving n, version 2 (was none)",
    ]


@pytest.fixture
def public():
    """Yield a folder that all users may enter, and a function that drops the rights of root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        user = os.getresuid()
        root = user[0] == 0

        def drop():
            if root:
                os.setresuid(65534, 65534, 0)

        try:
            yield folder, drop
        finally:
            os.setresuid(*user)
            for path in folder.rglob("*"):
                if path.is_dir():
                    path.chmod(0o755)


def test_unreadable_folders_and_files_are_refused_and_the_rest_serves(public):
    """A model's folder, a version's folder and a file are refused, each with the reason."""
    folder, drop = public
    for name in ("closed", "open", "version", "file"):
        small.put(folder, name, 1, GOOD)
    (folder / "closed").chmod(0)
    (folder / "version" / "1").chmod(0)
    (folder / "file" / "1" / "model.onnx").chmod(0)
    drop()

    repository = open_repository(folder)

    assert served(repository) == {"open": ["1"]}
    assert refused(repository) == [
        ("closed", None, "its folder cannot be read: Permission denied"),
        ("file", "1", "it cannot be read: Permission denied"),
        ("version", "1", "it cannot be read: Permission denied"),
    ]


@pytest.mark.parametrize("mode", [pytest.param(0, id="closed"), pytest.param(0o644, id="listed")])
@pytest.mark.parametrize("place", ["models", "models/inner"])
def test_an_unreadable_repository_stops_the_start(public, mode, place):
    """The error is one sentence, whether the repository or a folder above it is closed."""
    folder, drop = public
    small.put(folder / "models" / "inner", "m", 1, GOOD)
    (folder / "models").chmod(mode)
    drop()

    with pytest.raises(SettingsError) as raised:
        open_repository(folder / place)

    assert str(raised.value) == (
        f"{folder}/{place}: cannot be read: Permission denied; "
        "choose the models by --models or TRICEPS_MODELS"
    )


# ── views ────────────────────────────────────────────────────────────────────────────────────────


def test_a_view_serves_some_heads_under_its_own_name(models):
    """A view has the inputs that its heads need; the file's own name serves all heads."""
    small.put(models, "m", 3, small.three(models={"fruity": ["tags", "size"], "risky": ["risk"]}))

    repository = open_repository(models)
    fruity = repository.find("fruity", "3")

    assert served(repository) == {"m": ["3"], "fruity": ["3"], "risky": ["3"]}
    assert fruity.model is repository.find("m").model
    assert (fruity.name, list(fruity.signature.inputs), list(fruity.signature.heads)) == (
        "fruity",
        ["fruit"],
        ["tags", "size"],
    )
    assert list(repository.find("m").signature.heads) == ["risk", "size", "digits", "tags"]


def test_each_version_has_its_own_views(models):
    """A view has the versions whose files have it, each with the heads of that file."""
    small.put(models, "m", 1, small.three(models={"v": ["risk"]}))
    small.put(models, "m", 2, small.three(models={"v": ["size"], "w": ["risk"]}))
    small.put(models, "m", 3, small.three())

    repository = open_repository(models, policy="all")

    assert served(repository) == {"m": ["1", "2", "3"], "v": ["1", "2"], "w": ["2"]}
    assert [list(s.signature.heads) for s in repository.served["v"]] == [["risk"], ["size"]]


@pytest.mark.parametrize("other", [GOOD, BAD, None], ids=["good", "refused", "empty"])
def test_a_view_that_collides_with_a_folder_is_refused(models, other):
    """The view is refused even if the folder does not serve, since it might later."""
    small.put(models, "m", 1, small.three(models={"taken": ["risk"]}))
    (models / "taken").mkdir()
    if other is not None:
        small.put(models, "taken", 1, other)

    repository = open_repository(models)

    assert (
        Refused("taken", "1", "it is a view of a model, and a folder has that name already")
        in repository.refused
    )
    assert [s.signature.models for s in repository.served.get("taken", [])] in ([], [{}])
    assert len(repository.find("m").signature.heads) == 4


def test_a_view_called_like_its_own_model_is_refused(models):
    """The file's own name serves all heads."""
    small.put(models, "m", 1, small.three(models={"m": ["risk"]}))

    repository = open_repository(models)

    assert served(repository) == {"m": ["1"]}
    assert len(repository.find("m").signature.heads) == 4
    assert refused(repository) == [
        ("m", "1", "it is a view of a model, and a folder has that name already")
    ]


def test_a_view_that_two_models_have_belongs_to_the_first(models):
    """Models are ordered by name, so that the owner is the same at every start."""
    small.put(models, "b", 1, small.three(models={"v": ["size"]}))
    small.put(models, "a", 2, small.three(models={"v": ["risk"]}))

    repository = open_repository(models)

    assert [(s.version, list(s.signature.heads)) for s in repository.served["v"]] == [
        ("2", ["risk"])
    ]
    assert refused(repository) == [
        ("v", "1", "it is a view of a model, and a view of another model has that name already")
    ]


def test_a_view_without_a_valid_name_is_refused(models):
    """No URL could name the view."""
    small.put(models, "m", 1, small.three(models={"two words": ["risk"]}))

    assert refused(open_repository(models)) == [
        (
            "two words",
            "1",
            (
                "it is a view of a model, and its name is no model name: "
                "expected at most 128 letters, digits, '_', '.' and '-', "
                "the first none of the last two"
            ),
        )
    ]


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def test_the_error_for_an_unknown_model_names_the_available_ones(models):
    """The error also has the nearest name; for a version, the available versions."""
    small.put(models, "triceps", 1, GOOD)
    small.put(models, "shared", 4, GOOD)
    repository = open_repository(models)

    for ask, message in (
        (
            ["tricep"],
            (
                "model 'tricep': there is none of that name (did you mean 'triceps'?). "
                "Available: shared, triceps"
            ),
        ),
        (["triceps", "2"], "model 'triceps' has no version '2'. Available: 1"),
        (["triceps", "01"], "model 'triceps' has no version '01'. Available: 1"),
    ):
        with pytest.raises(NotFound) as raised:
            repository.find(*ask)
        assert str(raised.value) == message


def test_the_error_without_a_default_says_how_to_choose_one(models):
    """There is no default if there are several models, and none is called triceps."""
    small.put(models, "a", 1, GOOD)
    small.put(models, "b", 1, GOOD)

    with pytest.raises(NotFound) as raised:
        open_repository(models).find()

    assert str(raised.value) == (
        "no model was named, and none is the default: ask /models/<name>/predict, set "
        "TRICEPS_DEFAULT_MODEL, or mark a model by an empty file <name>/default. Available: a, b"
    )


def test_a_view_may_be_the_default(models):
    """A view is a model like any other."""
    small.put(models, "m", 1, small.three(models={"v": ["risk"]}))

    assert list(open_repository(models, "v").find().signature.heads) == ["risk"]


def test_a_default_that_is_no_model_stops_the_start(models):
    """The error names the nearest model; otherwise each prediction would be a 404."""
    small.put(models, "triceps", 1, GOOD)

    with pytest.raises(SettingsError) as raised:
        open_repository(models, "tricep")

    assert str(raised.value) == (
        "TRICEPS_DEFAULT_MODEL: expected the name of a model, received 'tricep' "
        "(did you mean 'triceps'?). Available: triceps"
    )


def test_a_default_that_is_refused_is_not_ready(models):
    """The model exists, and a better version of it may come."""
    small.put(models, "a", 1, GOOD)
    small.put(models, "b", 1, BAD)

    with pytest.raises(NotReady, match="model 'b', version 1: refused, it is not an ONNX file"):
        open_repository(models, "b").find()


def test_a_default_may_be_set_before_it_exists(models):
    """The repository may be empty until a trainer fills it."""
    assert open_repository(models, "triceps").default == "triceps"
