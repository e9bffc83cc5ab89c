"""A newcomer's first tasks, from a fresh clone, by the blocks of the documentation alone."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness import documents
from tests.harness.serving import free_port
from tests.newcomer.shell import Shell
from tests.newcomer.steps import File, steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.newcomer

# A task has the pages and headings that the newcomer follows; no heading means the whole page.
TASKS: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "serve the model that comes with it": (("README.md", ("Serve and ask",)),),
    "go from an own table to a service": (("docs/tutorial.md", ()),),
    "give labels to a Keras model and an ONNX file": (
        ("docs/models.md", ("A Keras model", "An ONNX file")),
    ),
    "serve a scikit-learn pipeline": (("docs/models.md", ("A scikit-learn pipeline",)),),
    "see whether all is well": (
        ("README.md", ("Serve and ask",)),
        ("docs/operations.md", ("Where to look first",)),
    ),
    "roll out and back": (("docs/rollout.md", ()),),
    "require tokens": (("docs/security.md", ("Tokens",)),),
    "encrypt": (("docs/security.md", ("TLS",)),),
}
# The tests of the image build and run it.
CONTAINER = "docker "


@pytest.fixture(scope="module", name="clone")
def _clone(tmp_path_factory) -> Path:
    """Return a fresh clone, installed as the README says."""
    folder = tmp_path_factory.mktemp("newcomer") / "triceps"
    subprocess.run(["git", "clone", "--quiet", documents.ROOT, folder], check=True)
    with Shell(folder, _environment(0)) as shell:
        for step in steps(documents.PAGES["README.md"], ("Install",)):
            shell.run(step.command)
        shell.run("make install-train")
    return folder


def _environment(port: int) -> dict[str, str]:
    """Return the variables of a user's shell, and the port on which services listen."""
    own = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHON", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    variables = {name: value for name, value in os.environ.items() if name not in own}
    folders = variables["PATH"].split(":")
    variables["PATH"] = ":".join(path for path in folders if ".venv" not in path)
    return variables | {"TRICEPS_PORT": str(port)}


@pytest.mark.parametrize("task", TASKS)
def test_the_blocks_of_the_pages_do_the_task(task, clone):
    """Each command of the pages succeeds in a real shell, and prints what is shown."""
    port = free_port()
    with Shell(clone, _environment(port)) as shell:
        # The tasks publish versions, so each has a copy of the models.
        shell.run(f"source .venv/bin/activate && mkdir {port} && cp -r models {port} && cd {port}")
        shell.run("ln -s ../.venv ../training .")
        for page, headings in TASKS[task]:
            text = documents.PAGES[page].replace("8080", str(port))
            for step in steps(text, headings):
                if isinstance(step, File):
                    shell.save(step.name, step.text)
                elif not step.command.startswith(CONTAINER):
                    printed = shell.run(step.command)
                    if step.answer:
                        documents.check_same(printed, step.answer)
