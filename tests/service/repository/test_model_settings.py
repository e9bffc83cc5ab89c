"""The settings of one model: a file beside its versions, which is watched."""

import math
import os

import numpy as np
import pytest

from service.app import create_app
from service.errors import ModelRefused
from service.host import processors
from service.inference.lane import Lane
from service.inference.model import Model
from service.repository import scan
from service.repository.declarations import Declared
from service.repository.model_settings import ModelSettings, ModelSettingsError, read
from service.repository.reloader import Library
from service.server import proposals
from service.settings import Settings
from tests.harness import mixers, small
from tests.harness.served import Served
from tests.harness.waiting import until

THREADS = 'a whole number from 1 to 512, or "auto"'


@pytest.fixture
def models(tmp_path):
    """Return a repository of one model whose rows may run together."""
    small.put(tmp_path, "three", 1, small.three(models={"risky": ["risk"]}))
    return tmp_path


def mode(library, name="three"):
    """Return the batching mode of a model, and its evidence."""
    batching = library.find(name).model.batching
    return batching.mode, batching.evidence


def rows_of(count):
    """Return rows for a model, by tensor."""
    return {
        "insurance": np.zeros((count, 2), np.float32),
        "insurance.smoker": np.full((count, 1), "no", object),
        "fruit": np.zeros((count, 2), np.float32),
        "digit": np.zeros((count, 4), np.float32),
    }


def counted(model):
    """Have a model note the rows of each run of all heads, and return them in a list."""
    session, runs = model._whole[0], []

    class Counted:
        def run(self, heads, feeds):
            runs.append(len(feeds["fruit"]))
            return session.run(heads, feeds)

    model._whole = Counted(), model._whole[1]
    return runs


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
    runs = counted(model)
    model.predict(rows_of(300), list(model.signature.heads))

    assert runs == [300]


def threads(model):
    """Return the threads of a model's session."""
    return model._whole[0].get_session_options().intra_op_num_threads


def test_threads_take_a_new_session_with_the_same_answers(models, loads):
    """The version is loaded anew before it is swapped, and again only if its threads change."""
    file = models / "three" / "settings.toml"
    library = Library(models)
    before = library.find("three").model

    file.write_text("threads = 2")
    library.refresh()
    after, view = library.find("three").model, library.find("risky").model
    file.write_text("threads = 2\nkeep = true")
    library.refresh()

    assert (threads(before), threads(after)) == (1, 2)
    assert view is after
    assert library.find("three").model is after
    assert loads == [("three", "1")] * 2


def test_auto_is_a_second_session_of_all_processors(models, monkeypatch):
    """A change takes effect without a restart, and the page says what is set."""
    monkeypatch.setattr(processors, "available", lambda: 3)
    settings = Settings(models=models)
    library = Library.of(settings)
    client = create_app(settings, library=library).test_client()
    (models / "three" / "settings.toml").write_text('threads = "auto"')
    library.refresh()
    model = library.find("three").model

    assert (threads(model), threads(model.wide)) == (1, 3)
    assert client.get("/models/three").json["settings"] == {"threads": "auto"}


def test_a_kept_version_with_other_threads_is_loaded_when_it_is_asked_for(models):
    """A version that only clients ask for has the settings of its model, too."""
    small.put(models, "three", 2, small.three(2.0))
    library = Library(models)
    before = library.find("three", "1").model

    (models / "three" / "settings.toml").write_text("threads = 2")
    library.refresh()

    assert (threads(before), threads(library.find("three", "1").model)) == (1, 2)


def test_a_version_that_other_settings_refuse_serves_on_with_the_former(models, monkeypatch):
    """A load that fails is reported, and is not tried again until something changes."""
    library = Library(models)
    before = library.find("three").model

    def fails(*_):
        raise ModelRefused("there are not so many threads")

    monkeypatch.setattr(Model, "load", fails)
    (models / "three" / "settings.toml").write_text("threads = 8")
    library.refresh()

    assert library.find("three").model is before
    [refused] = library.current.refused
    assert refused.reason == "there are not so many threads"


def test_rows_bound_a_run_of_joined_requests_and_the_pieces_of_a_large_one(models):
    """A change takes effect at once, and needs no new session."""
    library = Library(models)
    before = library.find("three").model
    (models / "three" / "settings.toml").write_text("rows = 16")
    library.refresh()
    model = library.find("three").model
    lane, slow = Lane(model), Lane(model)
    slow.note(1.0)
    assert model._whole is before._whole
    runs = counted(model)
    model.predict(rows_of(40), list(model.signature.heads))

    assert model is not before
    assert (Lane(before).most, lane.most, slow.most) == (64, 16, 16)
    assert runs == [16, 16, 8]


def test_settings_in_force_are_on_the_page_of_the_model(models):
    """A change shows at once, on the pages of a version and of a view, too."""
    settings = Settings(models=models)
    library = Library.of(settings)
    client = create_app(settings, library=library).test_client()
    pages = ("/models/three", "/models/three/versions/1", "/models/risky")
    before = [client.get(page).json.get("settings") for page in pages]
    text = "keep = true\nrows = 8\nqueue = 0.0\ntimeout = 5\nalone = false"
    (models / "three" / "settings.toml").write_text(text)
    library.refresh()

    assert before == [None] * 3
    for page in pages:
        assert client.get(page).json["settings"] == {
            "keep": True,
            "rows": 8,
            "queue": 0.0,
            "timeout": 5,
        }


def test_queue_and_timeout_take_the_place_of_those_of_the_service(models):
    """They are read from the route, so a change takes effect at once, and messages name them."""
    served = Served(models, queue=0.3)
    front = served.front
    before = front.table.find(b"/predict")
    (models / "three" / "settings.toml").write_text("queue = 0.5\ntimeout = 0.25")
    front.library.refresh()
    until(lambda: front.table.find(b"/predict") is not before)
    after = front.table.find(b"/predict")
    messages = [str(front.pipeline.too_busy(route)) for route in (before, after)]
    served.stop()

    assert (before.queue, before.timeout) == (0.3, 30)
    assert (after.queue, after.timeout) == (0.5, 0.25)
    assert after.lane is before.lane
    assert "(TRICEPS_QUEUE is 0.3 s of work)" in messages[0]
    assert "(queue in settings.toml is 0.5 s of work)" in messages[1]


def test_a_proposal_carries_every_setting():
    """All workers load the settings that the leader has read."""
    settings = ModelSettings(
        *(True, True, 2, 8, 0.5, 5.0, "CUDAExecutionProvider", {"device_id": "1"}, ("digit",))
    )
    assert all(vars(settings)[key] != value for key, value in vars(ModelSettings()).items())
    declared = Declared({}, {"m": settings}, (), None, math.inf, {}, {})

    _, loaded = proposals.load(proposals.dump(scan.Scan((), (), ()), declared))

    assert loaded.settings == {"m": settings}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "alon = true",
            "settings.toml: expected keys out of alone, keep, threads, rows, queue, timeout, "
            "provider, provider_options, private, "
            "received 'alon' (did you mean 'alone'?)",
            id="a key that is close",
        ),
        pytest.param(
            "alone = 1", "settings.toml, alone: expected true or false, received 1", id="a number"
        ),
        pytest.param(
            'keep = "yes"', "settings.toml, keep: expected true or false, received 'yes'", id="keep"
        ),
        *(
            pytest.param(f"{key} = {value}", f"settings.toml, {key}: expected {message}", id=name)
            for key, value, message, name in [
                ("threads", "0", f"{THREADS}, received 0", "no thread"),
                ("threads", "1.0", f"{THREADS}, received 1.0", "a fraction"),
                ("threads", "true", f"{THREADS}, received true", "a flag"),
                ("threads", "'all'", f"{THREADS}, received 'all'", "another word"),
                ("rows", "257", "a whole number from 1 to 256, received 257", "many rows"),
                ("rows", "[8]", "a whole number from 1 to 256, received [8]", "a list of rows"),
                ("queue", "-0.1", "seconds from 0 to 3600, received -0.1", "a negative queue"),
                ("queue", "nan", "seconds from 0 to 3600, received nan", "no number"),
                ("timeout", "0", "seconds above 0, up to 3600, received 0", "no time"),
                ("timeout", "inf", "seconds above 0, up to 3600, received inf", "endless"),
                ("provider", "1", "the name of an execution provider, such as ", "a numbered one"),
                ("provider", "''", "the name of an execution provider, such as ", "no provider"),
                ("provider_options", "'0'", "texts by name, such as { device_id", "no table"),
                ("provider_options", "{ id = 0 }", "texts by name, such as ", "a bare option"),
                ("provider_options", "{ id = '0' }", "a provider beside them", "options of none"),
                ("timeout", "'5 s'", "seconds above 0, up to 3600, received '5 s'", "a unit"),
            ]
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


def test_an_option_of_a_provider_names_no_other_folder(models):
    """Some options load a library, and whoever writes the file must not choose which."""
    file = models / "three" / "settings.toml"
    file.write_text(
        'provider = "TensorrtExecutionProvider"\n'
        'provider_options = { trt_extra_plugin_lib_paths = "models/three/1/evil.so" }'
    )

    with pytest.raises(ModelSettingsError) as raised:
        read(file)

    assert str(raised.value) == (
        "settings.toml, provider_options.trt_extra_plugin_lib_paths: expected no path to another "
        "folder, received 'models/three/1/evil.so'"
    )


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
    assert ModelSettings() == ModelSettings(alone=False, keep=False, threads=1)
    assert ModelSettings().as_json() == {}
    assert scan.SETTINGS == "settings.toml"
