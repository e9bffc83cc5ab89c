"""Packages and installation: the wheel, the locks, the Makefile and the imports."""

import ast
import email
import functools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service import __version__
from service.commands.main import GROUP, main
from tests.harness.locks import LOCKS
from tests.harness.serving import Server

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = PYPROJECT["project"]["entry-points"][GROUP]
PYTHONS = ("3.11", "3.12", "3.13")


# --- the wheel ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Return the wheel of this checkout, built by the locked backend without downloads."""
    folder = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """Return a virtual environment outside the checkout with the wheel and the serving lock."""
    folder = tmp_path_factory.mktemp("installed")
    uv = Path(sys.executable).parent / "uv"
    _run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], cwd=folder)
    install = [uv, "pip", "install", "--quiet", "--python", folder / "venv", "--link-mode", "copy"]
    locked = [*install, "--require-hashes", "-r", ROOT / "requirements" / "serve.txt"]
    # Packages in the cache are not downloaded again.
    if _run([*locked, "--offline"], cwd=folder, code=None).returncode:
        _run(locked, cwd=folder)
    _run([*install, "--no-deps", wheel], cwd=folder)
    return folder / "venv" / "bin"


def test_wheel_holds_code_alone(wheel):
    """The wheel has every module, the messages and the console, and no spec, model or test."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("service", "training")
        for path in [*(ROOT / package).rglob("*.py"), ROOT / package / "py.typed"]
    }
    console = {f"service/api/console/console.{end}" for end in ("html", "css", "js")}
    assert expected | console | {"service/wire/protos/descriptors.binpb"} == names


def test_wheel_declares_its_requirements(wheel):
    """The metadata require serving packages only, offer the extras, and include the licence."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = email.message_from_bytes(archive.read(path))
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]

    needs = [Requirement(text) for text in headers.get_all("Requires-Dist")]
    always = {canonicalize_name(need.name) for need in needs if need.marker is None}
    assert {_name(text) for text in PYPROJECT["project"]["dependencies"]} == always
    assert set(headers.get_all("Provides-Extra")) == {"stores", "train", "dev"}
    assert len(licences) == 1


def test_installed_wheel_runs_outside_the_checkout(installed, tmp_path):
    """`pip install` of the wheel installs the command without TensorFlow or pandas."""
    version = _run([installed / "triceps", "--version"], cwd=tmp_path).stdout
    find = "from importlib.util import find_spec as f; print(f('tensorflow'), f('pandas'))"
    output = _run([installed / "python", "-c", find], cwd=tmp_path).stdout

    assert f"triceps {metadata.version('triceps')}\n" == version
    assert output == "None None\n"


@pytest.mark.parametrize("command", ["train", "export"])
def test_training_without_its_extra_says_how_to_get_it(installed, tmp_path, command):
    """Without TensorFlow, a training command prints one clear line."""
    argument = {"train": ROOT / "training" / "specs" / "functional.toml", "export": "m.keras"}
    (tmp_path / "m.keras").touch()
    extra = ["--name", "m"] if command == "export" else []

    done = _run([installed / "triceps", command, argument[command], *extra], cwd=tmp_path, code=1)

    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"pip install 'triceps-{__version__}-py3-none-any.whl[train]'" in done.stderr


def test_installed_wheel_serves_a_model(installed, tmp_path):
    """A copy of the committed model answers the example of its page, and the console is there."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    command = [str(installed / "triceps"), "serve"]
    with Server(folder=tmp_path, command=command, environment={"PYTHONPATH": ""}) as server:
        server.until_ready()
        _, about = server.get("/models/triceps")
        body = json.dumps(about["example"]).encode()
        _, _, answer = server.ask("POST", "/predict", body, {"Content-Type": "application/json"})
        files = ("", "console.css", "console.js")
        assert {server.status(f"/console/{name}") for name in files} == {200}

    assert {"o1", "o2", "o3"} == set(json.loads(answer)["predictions"][0])


_NOTEBOOK = """
from __future__ import annotations

import sys

import numpy as np

import service
from service.errors import BadRequest


def ask() -> list[str]:
    model = service.load("models/triceps")
    print(model, len(repr(model.signature).splitlines()) > 20)
    rows = [{"insurance": {"age": age}, "digit": np.zeros((28, 28))} for age in (20, None)]
    try:
        model.predict({"fruit": [1, 2]})
    except BadRequest as error:
        print(error.count, error.problems[0].at)
    answers = model.predict([{**row, "fruit": [150, 7.1, 0.8]} for row in rows], heads=["o1", "o3"])
    label = answers["o1"].label
    assert label is not None
    print(answers["o3"].value.shape, label.shape, answers.imputed)
    return list(answers)


print(ask(), sorted({"flask", "pandas", "tensorflow"} & set(sys.modules)))
"""


def test_installed_wheel_answers_in_a_notebook(installed, tmp_path):
    """A program without a service, pandas or TensorFlow loads a model, and its types are known."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    (tmp_path / "notebook.py").write_text(_NOTEBOOK)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]

    done = _run([installed / "python", "-W", "error", "notebook.py"], cwd=tmp_path)
    _run([*mypy, "--python-executable", installed / "python", "notebook.py"], cwd=tmp_path)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "<model triceps, version 1: insurance, fruit, digit -> o1, o2, o3> True",
        "2 instances[0].fruit",
        "(2, 10) (2,) {'insurance.age': array([1])}",
        "['o1', 'o3'] []",
    ]


# --- the commands ------------------------------------------------------------------------------


def test_installed_commands_are_those_of_the_project():
    """The installed entry points are those of pyproject.toml; otherwise run `make install-dev`."""
    assert {entry.name: entry.value for entry in metadata.entry_points(group=GROUP)} == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    """The help of a command has a summary line and an example."""
    command = main.get_command(click.Context(main), name)

    result = CliRunner().invoke(main, [name, "--help"])

    assert result.exit_code == 0, result.output
    assert f"triceps {name} " in result.output.partition("\n")[2], "no example"
    assert not command.get_short_help_str(limit=1000).startswith("(")


def test_list_of_commands_fits_the_screen():
    """`triceps --help` lists every command with a whole sentence on one line."""
    result = CliRunner().invoke(main, ["--help"], terminal_width=80)

    listed = dict(
        re.findall(r"^  (\w+)  +(.+)$", result.output.partition("Make models:")[2], re.MULTILINE)
    )
    assert set(COMMANDS) == set(listed)
    assert not [line for line in listed.values() if line.endswith("...")]


# --- the imports -------------------------------------------------------------------------------

TRAINING_ONLY = ("training", "tensorflow", "keras", "tf2onnx", "pandas")


def test_service_imports_without_training():
    """Every module of the service can be imported without the training packages."""
    code = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({TRAINING_ONLY!r}))
import service
for module in pkgutil.walk_packages(service.__path__, "service."):
    importlib.import_module(module.name)
    print(module.name)
"""

    imported = _run([sys.executable, "-W", "error", "-c", code], cwd=ROOT).stdout.split()

    assert {
        "service.commands.main",
        "service.app",
        "service.inference.model",
        "service.wire.native",
    } <= set(imported)


@pytest.mark.parametrize(
    ("package", "extra", "own"),
    [
        pytest.param("service", "stores", {"service"}, id="service"),
        pytest.param("training", "train", {"service", "training"}, id="training"),
    ],
)
def test_imports_are_declared(package, extra, own):
    """A package imports only what its installation includes."""
    brought = {_name(text) for text in [*_declared(None), *_declared(extra)]}

    wrong = {
        f"{path}: {module}"
        for path, module in _foreign(package)
        if module.partition(".")[0] not in own and not brought & _owners(module)
    }
    assert not wrong


@pytest.mark.parametrize(("package", "extra"), [("service", None), ("training", "train")])
def test_declared_is_imported(package, extra):
    """An installation includes only what the package imports."""
    used = {owner for _, module in _foreign(package) for owner in _owners(module)}

    assert not {_name(text) for text in _declared(extra)} - used


def test_one_command_imports_only_its_own_modules():
    """`triceps --version` imports neither a server, nor a model, nor Keras, to start quickly."""
    code = (
        "import sys; sys.argv = ['triceps', '--version']; from service.commands.main import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules)"
    )

    loaded = set(_run([sys.executable, "-c", code], cwd=ROOT).stdout.split())

    heavy = {"flask", "numpy", "onnx", "onnxruntime", "rich", "uvloop", "training", "tensorflow"}
    assert not heavy & loaded


# --- the Makefile and requirements/install -----------------------------------------------------


def test_bare_make_lists_every_target():
    """`make` prints one line for each target and does nothing."""
    listed = dict(re.findall(r"^([a-z-]+) +(\S.*)$", _make().stdout, re.MULTILINE))

    targets = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets == set(listed)
    assert {"serve", "train", "test", "lint", "lock"} <= set(listed)


@pytest.mark.parametrize(
    ("arguments", "environment", "flags"),
    [
        pytest.param([], {}, "", id="none"),
        pytest.param(["PORT=9000"], {}, " --port '9000'", id="port"),
        pytest.param(
            ["HOST=0.0.0.0", "PORT=1"], {}, " --host '0.0.0.0' --port '1'", id="host and port"
        ),
        pytest.param([], {"PORT": "9000"}, "", id="the environment is the service's to read"),
    ],
)
def test_make_serve_passes_host_and_port_on(arguments, environment, flags):
    """`make serve PORT=9000` wins over the environment, which the service reads itself."""
    output = _make("--dry-run", "serve", *arguments, **environment).stdout

    assert f"triceps serve{flags}" == " ".join(
        output.splitlines()[-1].rpartition("bin/")[2].split()
    )


def test_ci_runs_what_a_contributor_runs():
    """.ci/run is `make test` and longer checks, each with a time limit, 75 minutes in all."""
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    steps = [line.rpartition(" make ") for line in script.read_text().splitlines()]
    bounds = {what: bound for bound, made, what in steps if made}
    assert list(bounds) == [
        *("test", "pages", "coverage", "attack", "newcomer", "accelerators", "release"),
    ]
    seconds = [re.fullmatch(r"timeout --signal=INT (\d+)", bound) for bound in bounds.values()]
    assert sum(int(match[1]) for match in seconds) <= 4500


def test_make_test_runs_the_clients_too():
    """`make test` ends with the clients, whose environment the other tests do not need."""
    output = _make("--dry-run", "test").stdout.splitlines()

    assert "requirements/install clients" in output
    assert "for file in tests/clients/test_*.py; do build/clients/bin/python" in output[-1]


# A fake of each program that the installation of a browser runs: it records how.
PROGRAMS = {"id": 'echo "${NUMBER:-0}"', "apt-get": 'echo "apt-get $*" >&2; exit "${RESULT:-0}"'}
SKIPPED = (
    "triceps: there is no Chromium, so the tests of pages are skipped; on Debian, as root: "
    "apt-get install chromium fonts-liberation"
)


@pytest.mark.parametrize(
    ("there", "environment", "said"),
    [
        pytest.param(
            [],
            {},
            [
                "apt-get -q update",
                "apt-get -qy install --no-install-recommends chromium fonts-liberation",
            ],
            id="missing",
        ),
        pytest.param(["chromium"], {}, [], id="there"),
        pytest.param(["google-chrome"], {}, [], id="by another name"),
        pytest.param([], {"NUMBER": "1000"}, [SKIPPED], id="not root"),
        pytest.param([], {"RESULT": "1"}, ["apt-get -q update", SKIPPED], id="no network"),
    ],
)
def test_make_browser_installs_it_once_and_only_for_root(tmp_path, there, environment, said):
    """What cannot be installed is said, and is no error: the tests say that they are skipped."""
    for name, script in (PROGRAMS | dict.fromkeys(there, "exit 9")).items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for tool in ("sh", "make"):
        (tmp_path / tool).symlink_to(shutil.which(tool))

    done = _make("browser", PATH=str(tmp_path), **environment)

    assert done.stderr.splitlines() == said


@pytest.fixture
def checkout(tmp_path):
    """Return a checkout with empty locks, and a PATH like that of a bare system without Python."""
    (tmp_path / "here" / "requirements").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "requirements" / "install", tmp_path / "here" / "requirements")
    for name in LOCKS:
        (tmp_path / "here" / "requirements" / f"{name}.txt").touch()
    (tmp_path / "here" / "pyproject.toml").touch()
    for tool in ("sh", "cat", "cksum", "dirname", "grep", "rm", "mkdir", "cp", "touch"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path / "here"


# A fake Python: it prints its version, copies itself as an environment, and records the arguments
# of pip.
FAKE = """#!/bin/sh
case "$1 $2" in
"-c "*) echo {version}; exit {refused} ;;
"-m venv")
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/bin/pip"
    echo "VIRTUAL_ENV=$PWD/$3" >"$3/bin/activate" ;;
"-m pip") echo "$*" >>pip.log ;;
esac
"""


def _fake(path, version):
    """Write a fake Python."""
    suitable = version.rpartition(".")[0] in PYTHONS
    path.write_text(FAKE.format(version=version, refused=int(not suitable)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _install(checkout, set_name="serve", *, code=0, **environment):
    """Run `requirements/install`; return its output, and the number of calls of pip."""
    command = [checkout / "requirements" / "install", set_name]
    path = {"PATH": str(checkout.parent / "bin")}
    output = _run(command, cwd=checkout, code=code, environment=path | environment).stderr
    log = checkout / "pip.log"
    return output, len(log.read_text().splitlines()) if log.exists() else 0


def test_installs_once(checkout):
    """The first run creates .venv and installs with hashes, and the second does nothing."""
    _fake(checkout.parent / "bin" / "python3", "3.12.4")

    output, first = _install(checkout)
    again, second = _install(checkout)

    packages, project = (checkout / "pip.log").read_text().splitlines()
    assert output == "triceps: installing the packages of requirements/serve.txt into .venv\n"
    assert "--require-hashes" in packages
    assert "--no-deps" in project
    assert ("", first) == (again, second)


def test_installs_again_when_the_lock_changed(checkout):
    """The content of the lock counts, not its time."""
    _fake(checkout.parent / "bin" / "python3", "3.12.4")
    _, first = _install(checkout)

    (checkout / "requirements" / "serve.txt").touch()
    _, touched = _install(checkout)
    (checkout / "requirements" / "serve.txt").write_text("flask==3.1.3")
    _, changed = _install(checkout)

    assert (first, touched, changed) == (2, 2, 4)


def test_clients_have_an_environment_of_their_own(checkout):
    """The Python of .venv creates the environment and its uv fills it; .venv stays unchanged."""
    _fake(checkout.parent / "bin" / "python3", "3.12.4")
    _install(checkout, "dev")
    uv = checkout / ".venv" / "bin" / "uv"
    uv.write_text('#!/bin/sh\necho "$VIRTUAL_ENV: $*" >>uv.log\n')
    uv.chmod(0o755)
    before = (checkout / "pip.log").read_text()

    output, _ = _install(checkout, "clients", PYTHON="python9")
    _install(checkout, "clients")

    packages, project = (checkout / "uv.log").read_text().splitlines()
    assert output == (
        "triceps: installing the packages of requirements/clients.txt into build/clients\n"
    )
    assert packages.startswith("build/clients: --quiet pip install --require-hashes ")
    assert packages.endswith("-r requirements/build.txt -r requirements/clients.txt")
    assert project.endswith(" --no-deps --no-build-isolation --editable .")
    assert "echo 3.12.4" in (checkout / "build" / "clients" / "bin" / "python").read_text()
    assert before == (checkout / "pip.log").read_text()


def test_clients_follow_another_python(checkout):
    """The environment of the clients has the Python of .venv."""
    _fake(checkout.parent / "bin" / "python3", "3.12.4")
    _install(checkout, "dev")
    (checkout / ".venv" / "bin" / "uv").symlink_to(shutil.which("true"))
    _install(checkout, "clients")

    _fake(checkout / ".venv" / "bin" / "python", "3.13.0")
    output, _ = _install(checkout, "clients")

    assert output.splitlines()[0] == (
        "triceps: build/clients is of Python 3.12.4, not of PYTHON=.venv/bin/python: making it anew"
    )
    assert "echo 3.13.0" in (checkout / "build" / "clients" / "bin" / "python").read_text()


def test_dev_holds_the_smaller_sets(checkout):
    """A .venv with all packages needs no installation to serve or to train."""
    _fake(checkout.parent / "bin" / "python3", "3.12.4")
    _, first = _install(checkout, "dev")

    assert ("", first) == _install(checkout, "train")
    assert ("", first) == _install(checkout, "serve")


@pytest.mark.parametrize(
    ("pythons", "environment", "message"),
    [
        pytest.param(
            {"python3": "3.14.0"},
            {},
            "triceps: Expected Python 3.11, 3.12 or 3.13. python3 is Python 3.14.0. If one is "
            "elsewhere, name it: make ... PYTHON=/path/to/python3.13\n",
            id="too new",
        ),
        pytest.param(
            {},
            {},
            "triceps: Expected Python 3.11, 3.12 or 3.13. None was found. If one is elsewhere, "
            "name it: make ... PYTHON=/path/to/python3.13\n",
            id="none",
        ),
        pytest.param(
            {"python3": "3.12.4", "python3.10": "3.10.13"},
            {"PYTHON": "python3.10"},
            "triceps: PYTHON=python3.10 is Python 3.10.13. Expected Python 3.11, 3.12 or 3.13.\n",
            id="too old, and asked for",
        ),
        pytest.param(
            {"python3": "3.12.4"},
            {"PYTHON": "python9"},
            "triceps: PYTHON=python9 is no Python. Expected Python 3.11, 3.12 or 3.13.\n",
            id="not there, and asked for",
        ),
    ],
)
def test_another_python_is_refused_with_a_sentence(checkout, pythons, environment, message):
    """The message has both versions and the way out, and no environment is created."""
    for name, version in pythons.items():
        _fake(checkout.parent / "bin" / name, version)

    assert (message, 0) == _install(checkout, code=1, **environment)
    assert not (checkout / ".venv").exists()


def test_passes_over_pythons_that_do_not_run(checkout):
    """A version manager's shim that is not Python is skipped for the next name."""
    shim = checkout.parent / "bin" / "python3.13"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    _fake(checkout.parent / "bin" / "python3", "3.9.2")
    _fake(checkout.parent / "bin" / "python3.12", "3.12.1")

    _install(checkout)

    assert "echo 3.12.1" in (checkout / ".venv" / "bin" / "python").read_text()


def _lose_python(checkout):
    (checkout / ".venv" / "bin" / "python").unlink()


def _lose_pip(checkout):
    (checkout / ".venv" / "bin" / "pip").unlink()


def _grow_old(checkout):
    _fake(checkout / ".venv" / "bin" / "python", "3.10.1")


def _move(checkout):
    activate = checkout / ".venv" / "bin" / "activate"
    activate.write_text("VIRTUAL_ENV=/elsewhere/.venv")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        pytest.param(_lose_python, "has no Python that runs", id="its Python is gone"),
        pytest.param(_lose_pip, "has no pip", id="made without pip"),
        pytest.param(_grow_old, "is of Python 3.10.1", id="made by an unsuitable Python"),
        pytest.param(_move, "was made in another place", id="the checkout was moved"),
    ],
)
def test_replaces_a_broken_environment(checkout, harm, why):
    """The installer gives the reason and installs into a new environment."""
    _fake(checkout.parent / "bin" / "python3", "3.12.4")
    _, first = _install(checkout)

    harm(checkout)
    output, second = _install(checkout)

    assert f"triceps: .venv {why}: making it anew" == output.splitlines()[0]
    assert 2 * first == second


def test_another_suitable_python_replaces_the_environment(checkout):
    """A Python that is requested by name replaces that of .venv."""
    _fake(checkout.parent / "bin" / "python3", "3.12.4")
    _fake(checkout.parent / "bin" / "python3.13", "3.13.0")
    _install(checkout)

    output, _ = _install(checkout, PYTHON="python3.13")

    assert "triceps: .venv is of Python 3.12.4, not of PYTHON=python3.13: making it anew" in output
    assert "echo 3.13.0" in (checkout / ".venv" / "bin" / "python").read_text()


def test_supported_pythons_agree_everywhere():
    """The installer checks the bounds of pyproject.toml."""
    low, high = re.findall(r"3\.\d+", PYPROJECT["project"]["requires-python"])
    script = (ROOT / "requirements" / "install").read_text()

    assert ">=3.11,<3.14" == f">={low},<{high}" == PYPROJECT["project"]["requires-python"]
    assert f"({low.replace('.', ', ')}) <= sys.version_info[:2] < ({high.replace('.', ', ')})" in (
        script
    )
    assert "Expected Python 3.11, 3.12 or 3.13." in script


def test_project_files_name_no_place():
    """No build or installation file names the host of an index or a local path."""
    files = [
        *("Makefile", "Dockerfile", "pyproject.toml", ".ci/run", "requirements/install"),
        *(f"requirements/{name}.txt" for name in LOCKS),
    ]
    places = re.compile(r"https?://|\s--(?:extra-)?index-url|\s--find-links|/root/|/home/|\.pyenv")

    matches = {name: places.findall((ROOT / name).read_text()) for name in files}
    assert not {name: places for name, places in matches.items() if places}


# --- helpers -----------------------------------------------------------------------------------


def _run(command, *, cwd, code=0, environment=None):
    """Run a command to the end; show its output if the exit code is not as expected (None: any)."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )
    assert code in {None, done.returncode}, done.stdout + done.stderr
    return done


def _make(*arguments, **environment):
    # This make is independent of one that may run the tests.
    inherited = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL"}}
    return _run(["make", *arguments], cwd=ROOT, environment=inherited | environment)


def _declared(extra):
    """Return the requirements of pyproject.toml, with those of an extra."""
    project = PYPROJECT["project"]
    return project["dependencies"] if extra is None else project["optional-dependencies"][extra]


def _foreign(package):
    """Return each module outside the standard library that a file of the package imports."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for module in modules:
                if module.partition(".")[0] not in sys.stdlib_module_names:
                    yield path.relative_to(ROOT), module


@functools.cache
def _distributions():
    return metadata.packages_distributions()


def _owners(module):
    """Return the distributions that may contain a module.

    The next part of the name decides if several share the top level.
    """
    top, *rest = module.split(".")
    if top == "google":  # A namespace that many distributions share.
        return set(rest[:1])
    return {canonicalize_name(name) for name in _distributions().get(top, [])}


def _name(text):
    return canonicalize_name(Requirement(text).name)
