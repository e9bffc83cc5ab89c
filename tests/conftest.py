"""Settings of all tests: the same environment on every machine."""

import os
from importlib.util import find_spec

import hypothesis

# A developer's shell may set variables of the service; tests set their own.
for name in list(os.environ):
    if name.startswith(("TRICEPS_", "FLASK_")) or name in {"HOST", "PORT", "PYTHONPATH"}:
        del os.environ[name]

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = "build/hypothesis"

# CI runs the same examples each time, so that its verdict is about the change; elsewhere new
# examples are tried on every run.  Shared machines make no promise about one example's time.
hypothesis.settings.register_profile("triceps", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("triceps")

# Foreign clients have an environment of their own: make clients.
collect_ignore = [] if find_spec("kserve") else ["clients"]


def pytest_addoption(parser):
    """Offer the tests that take long."""
    parser.addoption("--attack", action="store_true", help="attack in all combinations and in full")
    parser.addoption("--newcomer", action="store_true", help="do a newcomer's tasks from a clone")
    parser.addoption("--write", action="store_true", help="write the results into docs/attack.md")


def pytest_collection_modifyitems(config, items):
    """Mark the tests that need a browser, and leave out those of an option that is not given."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    left_out = [name for name in ("attack", "newcomer") if not config.getoption(f"--{name}")]
    slow = [item for item in items if any(map(item.get_closest_marker, left_out))]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)
