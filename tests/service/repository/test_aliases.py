"""The versions that serve: policies, aliases, views and a default model that is set."""

import pytest
from click.testing import CliRunner

from service import create_app
from service.app import create_app as create_worker_app
from service.commands.main import main
from service.errors import NotFound, NotReady, SettingsError
from service.repository.reloader import Library
from service.settings import Settings
from tests.harness import small
from tests.harness.changing import BAD, FRUIT, NO_FILE, point, put, refused, size, states


def test_all_loads_every_version(models):
    """Versions that arrive later are loaded too."""
    for version in (1, 2):
        put(models, version)
    library = Library(models, policy="all")
    put(models, 3)
    library.refresh()

    assert states(library) == {"1": "loaded", "2": "loaded", "3": "loaded"}
    assert library.current.catalog.kept == frozenset()


def test_an_alias_answers_by_the_version_it_names(models):
    """The version is loaded under any policy, and changes with the alias."""
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
    """Commands name versions and aliases as the service does."""
    for version in (1, 2, 3):
        put(models, version)
    point(models, stable="2")
    monkeypatch.chdir(tmp_path)
    first_lines = [
        CliRunner().invoke(main, ["show", model]).stdout.splitlines()[0]
        for model in ("m", "m/1", "m/stable")
    ]

    assert first_lines == ["m, version 3", "m, version 1", "m, version 2"]


@pytest.mark.parametrize(
    ("version", "why"),
    [
        pytest.param("9", "which does not exist", id="not there"),
        pytest.param("2", f"which is refused: {NO_FILE}", id="broken"),
    ],
)
def test_an_alias_of_an_unusable_version_keeps_its_former_version(models, version, why):
    """A new alias of such a version does not answer."""
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
        pytest.param(b'{"a": "1", "a": "2"}', "'a' appears twice", id="twice"),
        pytest.param(b"[]", "expected an object like", id="a list"),
        pytest.param(b'{"stable": 2}', "stable: expected a version like", id="a number"),
        pytest.param(b'{"stable": "02"}', "stable: expected a version like", id="zeros"),
        pytest.param(
            b'{"2": "2"}', "expected aliases of at most 128 letters", id="a version's name"
        ),
        pytest.param(b'{"../x": "2"}', "expected aliases of at most 128 letters", id="no name"),
    ],
)
def test_damaged_aliases_are_refused_and_the_former_ones_stay(models, content, reason):
    """The refusal has the model's name and the reason."""
    put(models, 1)
    put(models, 2)
    point(models, stable="1")
    library = Library(models)
    (models / "m" / "aliases.json").write_bytes(content)
    for _ in range(2):
        library.refresh()

    assert library.find("m", alias="stable").version == "1"
    [(name, version, received)] = refused(library)
    assert (name, version) == ("m", None)
    assert received.startswith("aliases.json")
    assert reason in received
    assert received.endswith(". The previous aliases stay: stable")
    assert library.find("m").version == "2"
    point(models, stable="2")
    library.refresh()
    assert (library.find("m", alias="stable").version, refused(library)) == ("2", [])


def test_aliases_that_cannot_be_read_are_refused(models):
    """A folder in place of the file is refused with the system's reason."""
    put(models, 1)
    (models / "m" / "aliases.json").mkdir()

    assert refused(Library(models)) == [
        (
            "m",
            None,
            "aliases.json: cannot be read: Is a directory. The previous aliases stay: none",
        )
    ]


def test_pinned_serves_the_stable_version(models):
    """A roll-back is one change of the alias; a new version waits until the alias names it."""
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
    """The refusal says how to set the alias; any version is still there by number."""
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


def test_views_follow_the_versions_and_aliases_of_their_file(models):
    """A view belongs to the version that serves; by number or alias, to that version."""
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
    # A version on demand may be unloaded in a minute, so its views have no names of their own.
    with pytest.raises(NotFound, match="model 'old': there is none of that name"):
        library.find("old", "1")
    with pytest.raises(NotFound, match=r"model 'v' has no version '3'\. Available: 1, 2"):
        library.find("v", "3")

    put(models, 4, models={"v": ["size"]})
    library.refresh()

    assert list(library.find("v").signature.heads) == ["size"]
    assert library.find("v", alias="stable").version == "2"


def test_a_version_on_demand_that_has_no_such_view_says_so(models):
    """The views of a version are known only once it has been loaded."""
    put(models, 1)
    put(models, 2, models={"v": ["risk"]})
    library = Library(models)
    assert states(library, "v") == {"1": "on demand", "2": "loaded"}

    with pytest.raises(NotFound, match=r"model 'v' has no version '1'\. Available: 2"):
        library.find("v", "1")

    assert states(library, "v") == {"2": "loaded"}


def test_a_default_that_is_not_there_yet_is_waited_for(models):
    """A missing default means that the service is not ready: the client has made no mistake."""
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
    """A typing error should stop the start, but must not end a service that replaces a worker."""
    put(models, 1)
    settings = Settings(models=models, default_model="x", watch=0)
    with pytest.raises(SettingsError, match="TRICEPS_DEFAULT_MODEL: expected the name of a model"):
        create_app(settings)

    client = create_worker_app(settings, library=Library.of(settings)).test_client()

    assert client.post("/predict", json=FRUIT).status_code == 503
    assert client.post("/models/m/predict", json=FRUIT).status_code == 200


def test_pages_have_versions_states_aliases_and_the_policy(models):
    """The signature page of an older version loads it."""
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
        "batching": signature["batching"],
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


def test_pages_of_a_pinned_repository_name_the_models_without_stable(models):
    """The reason says how to set the alias."""
    put(models, 1)
    client = create_app(Settings(models=models, policy="pinned", watch=0)).test_client()
    page = client.get("/models").get_json()

    assert page["models"] == [
        {
            "name": "m",
            "version": None,
            "versions": {"1": "on demand"},
            "aliases": {},
            "heads": [],
        }
    ]
    assert "triceps alias m stable VERSION" in page["refused"][0]["reason"]
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/readyz").status_code == 503
