"""The requirements of pyproject.toml, and the pins of each lock under requirements/."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("serve", "train", "dev", "build", "clients", "accelerators")
# The extras and the groups of pyproject.toml in each lock; "build" is only a group.
EXTRAS = {"serve": set(), "train": {"train"}, "dev": {"stores", "train", "dev"}, "clients": set()}
GROUPS = {
    "dev": {"build"},
    "build": {"build"},
    "clients": {"clients"},
    "accelerators": {"accelerators"},
}


def check_nothing_else(name):
    """Check that a lock has only the requirements and their dependencies, all installed here."""
    pins = pins_of(name)
    environment = default_environment()

    needed = _closure(asked(name))

    # Extras are compared too.  If a requirement has an extra and its pin has none, pip chooses the
    # newest release, whose hash is not in the lock.
    assert needed == {
        n: pin.extras for n, pin in pins.items() if not pin.marker or pin.marker.evaluate()
    }, f"requirements/{name}.txt is stale on Python {environment['python_version']}: make lock"


def asked(lock_name):
    """Return the requirements of pyproject.toml for a lock."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    texts = [text for group in GROUPS.get(lock_name, ()) for text in groups[group]]
    if lock_name in EXTRAS:
        texts += project["dependencies"]
        for extra in EXTRAS[lock_name]:
            texts += project["optional-dependencies"][extra]
    return [r for r in map(Requirement, texts) if r.name != "triceps"]


def pins_of(lock_name):
    """Return the requirements of a lock by name."""
    text = (ROOT / "requirements" / f"{lock_name}.txt").read_text()
    pins = [
        Requirement(line.rstrip(" \\")) for line in re.findall(r"^[a-z].*$", text, re.MULTILINE)
    ]
    return {canonicalize_name(pin.name): pin for pin in pins}


def _closure(requirements):
    """Return names and extras of all dependencies, from the installed distributions."""
    seen, extras_by_name = set(), {}
    queue = list(requirements)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        extras_by_name.setdefault(name, set()).update(requirement.extras)
        for text in metadata.requires(name) or ():
            need = Requirement(text)
            extras = ["", *requirement.extras]
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                queue.append(need)
    return extras_by_name
