"""The environment of the clients' tests, which is separate from that of the others."""

from importlib import metadata

from packaging.requirements import Requirement

from tests.harness.locks import check_nothing_else, pins_of


def test_lock_has_nothing_else():
    """Every locked package is needed, as in the other locks."""
    check_nothing_else("clients")


def test_the_locked_packages_are_installed():
    """Every package is installed in its locked version; otherwise run `make clients`."""

    def needed(pin: Requirement) -> bool:
        return pin.marker is None or pin.marker.evaluate()

    pins = {name: pin.specifier for name, pin in pins_of("clients").items() if needed(pin)}

    assert {name: f"=={metadata.version(name)}" for name in pins} == {
        name: str(specifier) for name, specifier in pins.items()
    }
