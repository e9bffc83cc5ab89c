"""The log of moves: which version answers from when on."""

import pytest

from service.repository.reloader import Library
from tests.harness.changing import point, put


def moves(caplog):
    """Return the messages about moves, and forget them."""
    messages = [m for m in caplog.messages if m.startswith(("now serving", "no longer serving"))]
    caplog.clear()
    return messages


@pytest.fixture(name="log")
def _log(caplog):
    """Return the log at a level that shows moves."""
    with caplog.at_level("INFO"):
        yield caplog


def test_moves_of_stable_are_logged_as_moves_of_the_model(models, log):
    """Also back to a version that has been loaded before."""
    for version in (1, 2):
        put(models, version, "customers", models={"view": ["risk"]})
    point(models, "customers", stable="1")
    library = Library(models, policy="pinned")
    for version in "2", "1":
        point(models, "customers", stable=version)
        library.refresh()
    point(models, "customers")
    library.refresh()

    assert moves(log) == [
        "now serving customers, version 1 (was none, alias stable)",
        "now serving customers, version 2 (was 1, alias stable)",
        "now serving customers, version 1 (was 2, alias stable)",
        "no longer serving customers (was version 1)",
    ]


@pytest.mark.parametrize("policy", ["latest", "all"])
def test_moves_of_an_alias_name_the_alias_where_it_is_not_the_model(models, log, policy):
    """Under these policies, `stable` is an alias like any other."""
    for version in (1, 2):
        put(models, version)
    library = Library(models, policy=policy)
    for aliases in ({"stable": "1"}, {"stable": "2", "canary": "1"}, {"canary": "1"}):
        point(models, **aliases)
        library.refresh()
        library.refresh()
    put(models, 3)
    library.refresh()

    assert moves(log) == [
        "now serving m, version 2 (was none)",
        "now serving m, alias stable, version 1 (was none)",
        "now serving m, alias canary, version 1 (was none)",
        "now serving m, alias stable, version 2 (was 1)",
        "no longer serving m, alias stable (was version 2)",
        "now serving m, version 3 (was 2)",
    ]


def test_shares_do_not_move_the_alias_that_serves_by_them(models, log):
    """`stable` answers before a model has shares, while it has them, and after that."""
    for version in (1, 2):
        put(models, version)
    point(models, stable="1")
    library = Library(models)
    moves(log)
    file = models / "m/traffic.json"
    file.write_text("{}")
    library.refresh()
    shared = moves(log)
    file.unlink()
    library.refresh()
    later = moves(log)
    file.write_text("{}")
    library.refresh()
    moves(log)
    point(models)
    library.refresh()

    assert shared == ["now serving m, version 1 (was 2, alias stable)"]
    assert later == ["now serving m, version 2 (was 1)"]
    assert moves(log) == [
        "now serving m, version 2 (was 1)",
        "no longer serving m, alias stable (was version 1)",
    ]


def test_an_alias_that_cannot_move_is_not_logged_as_moved(models, log):
    """The version that it named before serves on, and the refusal says so."""
    put(models, 1)
    point(models, stable="1")
    library = Library(models, policy="pinned")
    moves(log)
    point(models, stable="9")
    library.refresh()

    assert moves(log) == []


def test_versions_on_demand_are_not_moves(models, log):
    """They are loaded and unloaded, and answer nobody who did not ask for them by number."""
    put(models, 1)
    put(models, 2)
    library = Library(models)
    moves(log)
    library.find("m", "1")
    library.kept.idle_seconds = 0
    library.refresh()

    assert moves(log) == []
