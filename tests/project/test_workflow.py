"""The workflow, which tests each claimed Python on Linux with the contributors' script."""

import platform
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from packaging.specifiers import SpecifierSet

from service.commands import serve

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())
TESTED = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]


def _claimed(before):
    """Return the ends of the classifiers with this prefix."""
    matches = (re.fullmatch(f"{before}(.+)", classifier) for classifier in PROJECT["classifiers"])
    return [match[1] for match in matches if match is not None]


def test_each_python_that_is_claimed_is_tested():
    """The matrix, the classifiers and the installer's bounds name the same versions."""
    tested = TESTED["strategy"]["matrix"]["python"]

    allowed = SpecifierSet(PROJECT["requires-python"])
    assert tested == _claimed("Programming Language :: Python :: ")
    assert tested == [f"3.{minor}" for minor in range(50) if f"3.{minor}" in allowed]


def test_the_system_that_is_claimed_is_tested():
    """Only Linux is claimed, since limits of containers and processes come from its kernel."""
    assert _claimed("Operating System :: ") == ["POSIX :: Linux"]
    assert TESTED["runs-on"].startswith("ubuntu-")


def test_a_version_runs_what_contributors_run():
    """Each job runs the script with its own Python, and a longer time limit than the script's."""
    steps = TESTED["steps"]
    [run] = [step for step in steps if "run" in step]
    seconds = re.findall(r"^timeout \S+ (\d+) ", (ROOT / ".ci/run").read_text(), re.MULTILINE)

    assert run["run"] == ".ci/run"
    assert run["env"] == {"PYTHON": "python${{ matrix.python }}"}
    assert steps.index(run) == len(steps) - 1
    assert TESTED["timeout-minutes"] * 60 > sum(map(int, seconds)) > 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_no_more(path):
    """The workflow has read permission only, and runs no foreign code that can change."""
    text = path.read_text()
    workflow = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]

    assert workflow["permissions"] == {"contents": "read"}
    assert not [job for job in workflow["jobs"].values() if "permissions" in job]
    assert "secrets." not in text
    # YAML reads `on` as true.  This trigger would give foreign code a token with write permission.
    assert "pull_request_target" not in workflow[True]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    assert not [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_another_system_is_refused_with_the_way_out(monkeypatch):
    """The installer prints one line before it searches for Python."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")

    result = CliRunner().invoke(serve.serve, ["--models", "nowhere"])

    assert str(result.exception) == (
        "operating system: expected Linux, received Darwin; run the container (make image)"
    )
