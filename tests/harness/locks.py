"""What pyproject.toml asks for, and what each lock under requirements/ pins."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("serve", "train", "dev", "build", "clients")
# By lock, the extras and the groups of pyproject.toml that it has; "build" is a group alone.
EXTRAS = {"serve": set(), "train": {"train"}, "dev": {"train", "dev"}, "clients": set()}
GROUPS = {"dev": {"build"}, "build": {"build"}, "clients": {"clients"}}


def check_nothing_else(name):
    """Hold a lock against what is asked for, and what that needs; all of it is installed here."""
    pins = pins_of(name)
    environment = default_environment()

    needed = _closure(asked(name))

    # Extras are named too.  For what is asked for with an extra and pinned without one, pip takes
    # the newest release there is, of which the lock has no hash.
    assert needed == {
        n: pin.extras for n, pin in pins.items() if not pin.marker or pin.marker.evaluate()
    }, f"requirements/{name}.txt is stale on Python {environment['python_version']}: make lock"


def asked(lock_name):
    """What pyproject.toml asks for, for one lock."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    texts = [text for group in GROUPS.get(lock_name, ()) for text in groups[group]]
    if lock_name in EXTRAS:
        texts += project["dependencies"]
        for extra in EXTRAS[lock_name]:
            texts += project["optional-dependencies"][extra]
    return [r for r in map(Requirement, texts) if r.name != "triceps"]


def pins_of(lock_name):
    """The requirements of a lock, by name."""
    text = (ROOT / "requirements" / f"{lock_name}.txt").read_text()
    pins = [
        Requirement(line.rstrip(" \\")) for line in re.findall(r"^[a-z].*$", text, re.MULTILINE)
    ]
    return {canonicalize_name(pin.name): pin for pin in pins}


def _closure(requirements):
    """The names and extras of all that these need here, as the installed distributions say."""
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
