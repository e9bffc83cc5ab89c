"""The shares of a model's traffic: their file, their versions, and what serves beside them."""

import json
import logging

import pytest

from service.api.descriptions import summary
from service.host.files import write_file
from service.repository import traffic
from service.repository.declarations import declared_in
from service.repository.reloader import Library
from service.repository.traffic import Canary, Shadow, Traffic
from service.server import proposals
from tests.harness import small
from tests.harness.changing import BAD, NO_FILE, point, put, refused, size, states

CANARY = {"canary": {"version": "2", "share": 0.05}}


def share(models, content=CANARY, name="m"):
    """Write a file of shares."""
    write_file(models / name / "traffic.json", json.dumps(content).encode())


@pytest.fixture
def three(models):
    """Return a repository with three versions of a model, the first of which is stable."""
    for version in (1, 2, 3):
        put(models, version)
    point(models, stable="1")
    return models


@pytest.mark.parametrize("policy", ["latest", "all", "pinned"])
def test_a_model_with_shares_is_served_by_its_stable_version(three, policy):
    """The candidates are loaded; the policy of the service is that of other models."""
    put(three, 1, "other")
    put(three, 2, "other")
    point(three, "other", stable="1")
    share(three, {**CANARY, "shadow": {"version": "3", "share": 0.1}})
    library = Library(three, policy=policy)
    repository = library.current

    assert size(library.find("m")) == 2.0
    assert states(library) == dict.fromkeys("123", "loaded")
    assert size(repository.candidates.canaries["m"]) == 4.0
    assert size(repository.candidates.shadows["m"]) == 6.0
    assert repository.traffic("m") == Traffic(Canary("2", 0.05), Shadow("3", 0.1))
    assert library.find("other").version == ("1" if policy == "pinned" else "2")
    assert refused(library) == []


def test_a_version_without_a_share_is_not_loaded(three):
    """A new version waits until the alias or a share names it, as under the policy pinned."""
    share(three)
    library = Library(three)

    assert states(library) == {"1": "loaded", "2": "loaded", "3": "on demand"}


def test_shares_follow_their_file(three, caplog):
    """The log has each change; without the file, the policy of the service is in force again."""
    caplog.set_level(logging.INFO)
    library = Library(three)
    seen = []

    def look():
        library.refresh()
        canary = library.current.candidates.canaries.get("m")
        seen.append((library.find("m").version, canary and canary.version))

    look()
    share(three)
    look()
    share(three, {"canary": {"version": "3", "share": 0.5}})
    look()
    share(three, {})
    look()
    (three / "m/traffic.json").unlink()
    look()

    assert seen == [("3", None), ("1", "2"), ("1", "3"), ("1", None), ("3", None)]
    assert [line for line in caplog.messages if "canary" in line] == [
        "m, version 2, is the canary of 5 % of the requests",
        "m, version 3, is the canary of 50 % of the requests",
        "m, version 3, is no canary any more",
    ]
    assert "now serving m, version 1 (was 3, alias stable)" in caplog.messages


def test_without_a_stable_version_the_model_serves_as_ever(models):
    """The reason is in /models."""
    put(models, 1)
    put(models, 2)
    share(models)
    library = Library(models)

    assert library.find("m").version == "2"
    assert library.current.candidates.canaries == {}
    assert library.current.traffic("m") is None
    reason = (
        "traffic.json: expected an alias 'stable', which names the version that answers all other "
        "requests, and there is none: triceps alias m stable VERSION"
    )
    assert refused(library) == [("m", None, reason)]


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        pytest.param("9", "version 9 does not exist", id="not there"),
        pytest.param("4", f"version 4 is refused: {NO_FILE}", id="broken"),
        pytest.param(
            "5",
            "version 5: it has no input 'insurance', which the stable version has",
            id="another signature",
        ),
    ],
)
def test_a_version_that_cannot_be_the_canary_gets_no_share(three, version, reason):
    """The stable version answers all requests, and the reason is in /models and /models/<name>."""
    small.put(three, "m", 4, BAD)
    small.put(three, "m", 5, small.joint())
    share(three, {"canary": {"version": version, "share": 1.0}})
    library = Library(three)

    assert library.find("m").version == "1"
    assert library.current.candidates.canaries == {}
    assert ("m", None, f"traffic.json, canary: {reason}") in refused(library)
    assert summary(library.current, "m")["traffic"] == {
        "canary": {
            "version": version,
            "share": 1.0,
            "fail": 0.01,
            "slower": 2.0,
            "reason": reason,
        }
    }


def test_a_version_with_more_heads_is_no_canary_of_one_with_a_single_head(models):
    """TensorFlow Serving's and MLflow's answers name heads only where there are several."""
    for version, content in enumerate((small.steps(), small.long()), 1):
        small.put(models, "m", version, content)
    point(models, stable="1")
    share(models)
    library = Library(models)

    assert library.current.candidates.canaries == {}
    [(_, _, reason)] = refused(library)
    assert "it has the heads y, long, and the stable version has a single one" in reason


def test_a_shadow_may_have_another_signature(three):
    """It answers nobody."""
    small.put(three, "m", 5, small.joint())
    share(three, {"shadow": {"version": "5", "share": 1.0}})
    library = Library(three)

    assert library.current.candidates.shadows["m"].version == "5"
    assert refused(library) == []


def test_the_stable_version_needs_no_share(three):
    """After a promotion the share has no effect; that is no mistake, and /models says it."""
    share(three)
    library = Library(three)
    point(three, stable="2")
    library.refresh()

    assert library.find("m").version == "2"
    assert library.current.candidates.canaries == {}
    assert refused(library) == []
    reasons = summary(library.current, "m")["traffic"]["canary"]["reason"]
    assert reasons == "version 2 is the one that stable names"


def test_a_view_is_shared_as_its_file_is(models):
    """A version without the view answers none of its requests."""
    views = {"fruity": ["risk", "size"], "risky": ["risk"]}
    put(models, 1, models=views)
    put(models, 2, models={"fruity": ["risk", "size", "tags"]})
    point(models, stable="1")
    share(models)
    repository = Library(models).current

    assert {name: c.version for name, c in repository.candidates.canaries.items()} == {
        "m": "2",
        "fruity": "2",
    }
    canary = repository.candidates.canaries["fruity"]
    assert canary.signature.head_names == ("risk", "size", "tags")
    assert repository.candidates.reasons == {("risky", "canary"): "version 2 has no such view"}
    assert repository.refused == []


def test_a_model_with_shares_stays_loaded(three):
    """A request never waits for the load of its candidate, however many models there are."""
    for name in "abc":
        put(three, 1, name)
    share(three)
    catalog = Library(three).current.catalog

    assert "m" in catalog.held
    share(three, {})
    assert "m" not in Library(three).current.catalog.held


def test_a_damaged_file_leaves_the_former_shares(three):
    """At the start, the stable version answers all, and no newer one does by accident."""
    share(three)
    library = Library(three)
    (three / "m/traffic.json").write_text("{")
    library.refresh()
    former, kept = refused(library), library.current.candidates.canaries["m"].version
    started = Library(three)

    assert kept == "2"
    assert started.find("m").version == "1"
    assert started.current.candidates.canaries == {}
    [(name, version, reason)] = former
    assert (name, version) == ("m", None)
    assert reason.startswith("traffic.json: expected JSON like ")
    assert reason.endswith("; until it is fixed, the previous shares stay")
    assert refused(started)[0][2].endswith("; until it is fixed, the alias stable answers all")


@pytest.mark.parametrize("target", ["gone.json", "traffic.json"], ids=["nowhere", "to itself"])
def test_a_link_that_leads_nowhere_leaves_the_former_shares(three, target):
    """A file that is gone would let the newest version answer all requests."""
    share(three)
    library = Library(three)
    (three / "m/traffic.json").unlink()
    (three / "m/traffic.json").symlink_to(target)
    library.refresh()

    assert library.current.candidates.canaries["m"].version == "2"
    assert refused(library)[0][2].startswith("traffic.json: cannot be read: ")
    assert Library(three).find("m").version == "1"


def test_a_link_out_of_the_repository_is_not_followed(three, tmp_path):
    """The file may be written by somebody who may not read what the service may."""
    (tmp_path / "secret").write_text("{}")
    (three / "m/traffic.json").symlink_to(tmp_path / "secret")

    assert "a link leads out of the repository" in refused(Library(three))[0][2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("[]", 'expected an object like {"canary": {"version"', id="a list"),
        pytest.param(
            '{"canery": {}}',
            "expected keys out of canary, shadow, received 'canery' (did you mean 'canary'?)",
            id="a key",
        ),
        pytest.param(
            '{"canary": {"share": 0.1}}', "canary: expected a version, received none", id="version"
        ),
        pytest.param(
            '{"shadow": {"version": "1"}}', "shadow: expected a share, received none", id="share"
        ),
        pytest.param(
            '{"shadow": {"version": "1", "share": 0.1, "fail": 0.1}}',
            "shadow: expected keys out of version, share, received 'fail'",
            id="a bound of a shadow",
        ),
        pytest.param(
            '{"canary": {"version": 4, "share": 0.1}}',
            'canary.version: expected a version like "4", received 4',
            id="a number",
        ),
        pytest.param(
            '{"canary": {"version": "stable", "share": 0.1}}',
            'canary.version: expected a version like "4", received "stable"',
            id="an alias",
        ),
        *(
            pytest.param(
                f'{{"canary": {{"version": "4", "share": {share}}}}}',
                f"canary.share: expected a number above 0, up to 1, received {share}",
                id=f"a share of {share}",
            )
            for share in ("0", "-0.1", "1.1", "true", '"5%"', "NaN")
        ),
        pytest.param(
            '{"canary": {"version": "4", "share": 1, "slower": 0.5}}',
            "canary.slower: expected a number from 1 to 1000, received 0.5",
            id="faster",
        ),
        pytest.param(
            '{"canary": {"version": "4", "share": 1, "fail": -1}}',
            "canary.fail: expected a number from 0 to 1, received -1",
            id="fewer",
        ),
        pytest.param('{"canary": {}, "canary": {}}', "'canary' appears twice", id="twice"),
        pytest.param("[" * 60_000, "expected JSON like", id="depth"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, content, message):
    """The error has the place, what was expected and what was received."""
    file = tmp_path / "traffic.json"
    file.write_text(content)

    with pytest.raises(traffic.TrafficError) as raised:
        traffic.read(file)

    assert str(raised.value).startswith("traffic.json")
    assert message in str(raised.value)


def test_a_proposal_keeps_shares(three):
    """All workers load what one of them has read."""
    shares = {**CANARY, "shadow": {"version": "3", "share": 1}}
    share(three, shares)
    catalog = Library(three).current.catalog
    scan, declared = proposals.load(proposals.dump(catalog.scan, declared_in(catalog)))

    assert scan == catalog.scan
    assert declared.traffic == catalog.traffic
