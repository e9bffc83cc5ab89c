"""The environment of these tests, which is not the one of the others."""

from importlib import metadata

from packaging.requirements import Requirement

from tests.harness.locks import check_nothing_else, pins_of


def test_lock_has_nothing_else():
    """As of the other locks: what no longer is asked for is gone."""
    check_nothing_else("clients")


def test_what_is_installed_is_what_is_locked():
    """At its version; else `make clients` is due."""

    def needed(pin: Requirement) -> bool:
        return pin.marker is None or pin.marker.evaluate()

    pins = {name: pin.specifier for name, pin in pins_of("clients").items() if needed(pin)}

    assert {name: f"=={metadata.version(name)}" for name in pins} == {
        name: str(specifier) for name, specifier in pins.items()
    }
