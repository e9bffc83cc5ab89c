"""The locks under requirements/: the required packages, pinned and hashed, and no others."""

import re

import pytest
from packaging.markers import default_environment
from packaging.utils import canonicalize_name

from tests.harness.locks import LOCKS, ROOT, asked, check_nothing_else, pins_of

PYTHONS = ("3.11", "3.12", "3.13")


@pytest.fixture(scope="module", params=LOCKS)
def lock(request):
    """Return the name of a lock, and its pins as requirements."""
    return request.param, pins_of(request.param)


def test_lock_is_pinned_hashed_and_names_no_host(lock):
    """Every line is one version with its hashes, for any package index."""
    name, pins = lock
    text = (ROOT / "requirements" / f"{name}.txt").read_text()

    entries = re.split(r"\n(?=\S)", text.strip())
    unhashed = [e for e in entries if not e.startswith("#") and "--hash=sha256:" not in e]
    assert pins
    assert not unhashed
    assert not re.search(r"://|--index|--find-links|@ ", text)


def test_lock_has_what_the_project_asks_for(lock):
    """The lock satisfies pyproject.toml on every Python; otherwise run `make lock`."""
    name, pins = lock
    missing = [
        f"{requirement} on Python {python}, {platform}"
        for python in PYTHONS
        for platform in ("linux", "darwin")
        for requirement in asked(name)
        if not _satisfied(requirement, pins, _environment(python, platform))
    ]
    assert not missing, f"requirements/{name}.txt is stale: make lock"


# tests/clients/test_lock.py checks the lock of the clients, in their environment.
@pytest.mark.parametrize("name", ["serve", "train", "dev", "build"])
def test_lock_has_nothing_else(name):
    """Every locked package is needed, directly or by another installed package."""
    check_nothing_else(name)


def test_locks_agree():
    """A package has one version in all locks, so that one .venv serves them all."""
    assert not _at_odds("serve", "train", "dev", "build")
    assert set(pins_of("serve")) < set(pins_of("train")) < set(pins_of("dev"))
    assert set(pins_of("build")) < set(pins_of("dev"))


def test_clients_are_tested_with_the_served_versions():
    """The clients' lock has the served versions, except for those that the Makefile lists.

    An exception is no longer than it has to be.
    """
    held_back = re.search(r"^held_back := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(held_back[1].split("|")) == set(_at_odds("dev", "clients"))
    assert set(pins_of("serve")) < set(pins_of("clients"))


def test_accelerators_are_tested_with_the_served_versions():
    """Their lock has the served packages, but for the ONNX Runtime that another one replaces."""
    others = set(pins_of("accelerators"))

    assert not _at_odds("dev", "accelerators")
    assert set(pins_of("serve")) - others == {"onnxruntime"}


def _at_odds(*lock_names):
    """Return the packages with several versions in these locks, and the versions."""
    versions = {}
    for lock_name in lock_names:
        for name, pin in pins_of(lock_name).items():
            versions.setdefault(name, set()).add(str(pin.specifier))
    return {name: pinned for name, pinned in versions.items() if len(pinned) > 1}


def _environment(python, platform):
    return default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_system": platform.capitalize(),
    }


def _satisfied(requirement, pins, environment):
    if requirement.marker and not requirement.marker.evaluate(environment):
        return True
    pin = pins.get(canonicalize_name(requirement.name))
    if pin is None or (pin.marker and not pin.marker.evaluate(environment)):
        return False
    (version,) = pin.specifier
    return requirement.specifier.contains(version.version)
