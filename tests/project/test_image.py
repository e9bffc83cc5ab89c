"""The image, really built and run: locked down as a careful platform would, and under load to end.

    IMAGE_ARGS='--secret id=ca,src=certificates.pem' pytest -m image

They need an engine that runs containers, and the base image beside it: nothing is pulled.
"""

import contextlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from service import __version__
from tests.harness import small
from tests.harness.serving import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASE = f"python:{re.search(r'^ARG PYTHON_VERSION=(.+)$', DOCKERFILE, re.MULTILINE)[1]}-slim"
LOCKED_DOWN = (
    *("--read-only", "--tmpfs", "/tmp"),  # noqa: S108  the one place to write to
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    # A user that the image has never heard of, in the group 0, as OpenShift has it.
    *("--user", "1000640000:0"),
)
MEGABYTE = 1_000_000
PATIENCE = 30

pytestmark = pytest.mark.image


def run(*command, code=0, **more):
    """Run to the end; what it said is shown when it ends otherwise than expected."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT, **more
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def find_engine():
    """The program that runs containers here, or the reason why there is none."""
    reasons = []
    for name in filter(shutil.which, ("docker", "podman")):
        runs = subprocess.run([name, "info"], capture_output=True, text=True, check=False)
        here = subprocess.run([name, "image", "inspect", BASE], capture_output=True, check=False)
        if runs.returncode == here.returncode == 0:
            return name, None
        said = (runs.stderr.strip().splitlines() or ["no reason given"])[-1]
        reasons.append(said if runs.returncode else f"`{name} pull {BASE}` first")
    told = "; or ".join(reasons) or "expected docker or podman, found neither"
    return None, f"the image was neither built nor run: {told}"


@pytest.fixture(scope="session")
def engine():
    """The program that runs containers."""
    found, reason = find_engine()
    if found is None:
        pytest.skip(reason)
    return found


def build(engine, target):
    """Build one of the two images as a contributor does; its name."""
    tag = f"triceps-tested-{target}"
    run("make", "image", f"ENGINE={engine}", f"TARGET={target}", f"TAG={tag}")
    return tag


@pytest.fixture(scope="session")
def image(engine):
    """The service's image."""
    return build(engine, "serve")


@pytest.fixture(scope="session")
def trainer(engine):
    """The offline job's image."""
    return build(engine, "train")


@pytest.fixture(scope="session")
def about(engine, image):
    """What the engine tells of the service's image."""
    return json.loads(run(engine, "image", "inspect", image).stdout)[0]


def get(url):
    """Status and JSON of a page."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class Container:
    """A service in a container, and the URL it answers at."""

    def __init__(self, engine, image, *arguments, flags=()):
        """Start it; nothing is waited for."""
        port = free_port()
        self.engine, self.name = engine, f"triceps-{uuid.uuid4().hex[:12]}"
        self.url = f"http://127.0.0.1:{port}"
        where = ("--publish", f"127.0.0.1:{port}:{port}", "--env", f"PORT={port}")
        named = ("--detach", "--name", self.name, "--memory", "512m")
        run(engine, "run", *named, *where, *LOCKED_DOWN, *flags, image, *arguments)
        self.started = time.monotonic()

    def until_ready(self):
        """Wait until it is ready; the seconds that it took."""
        while time.monotonic() - self.started < PATIENCE:
            with contextlib.suppress(OSError):
                if get(f"{self.url}/readyz")[0] == 200:
                    return time.monotonic() - self.started
            time.sleep(0.02)
        raise AssertionError(self.logs())

    def until(self, page):
        """Wait until `/readyz` answers just that."""
        seen = None
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                seen = get(f"{self.url}/readyz")
                if seen == page:
                    return
            time.sleep(0.05)
        raise AssertionError((seen, self.logs()))

    def ask(self, path, body):
        """The answer to a prediction, by its bytes."""
        request = urllib.request.Request(
            f"{self.url}{path}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def metrics(self, name):
        """The values of a metric."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        return [float(v) for v in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)]

    def execute(self, *command, code=0):
        """Run a command in it."""
        return run(self.engine, "exec", self.name, *command, code=code)

    def stop(self):
        """Tell it to end, as a platform does: its exit code, and the seconds that it took."""
        asked = time.monotonic()
        run(self.engine, "stop", "--time", PATIENCE, self.name)
        told = run(self.engine, "inspect", "--format", "{{.State.ExitCode}}", self.name)
        return int(told.stdout), time.monotonic() - asked

    def logs(self):
        """All that it has said."""
        said = run(self.engine, "logs", self.name)
        return said.stdout + said.stderr

    def remove(self):
        """End it, and leave nothing of it."""
        subprocess.run(
            [self.engine, "rm", "--force", "--volumes", self.name], capture_output=True, check=False
        )


@pytest.fixture
def start(engine, image):
    """Start services; whatever still runs at the end is removed."""
    started = []

    def begin(*arguments, flags=()):
        started.append(Container(engine, image, *arguments, flags=flags))
        return started[-1]

    yield begin
    for container in started:
        container.remove()


@pytest.fixture
def fails(engine, image):
    """Run a service that cannot start: its exit code, standard output and error."""

    def begin(*flags, code):
        command = (engine, "run", "--rm", *LOCKED_DOWN, *flags, image, "serve")
        done = run(*command, code=code, timeout=PATIENCE)
        return done.stdout, done.stderr

    return begin


@pytest.fixture
def volume(tmp_path):
    """A folder that any user of a container may fill."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def mounted(folder, place="/models", *, writable=False):
    """The flags that mount a folder."""
    return ("--volume", f"{folder}:{place}:{'rw' if writable else 'ro'},z")


# --- it runs -----------------------------------------------------------------------------------


def test_all_three_heads_are_answered_at_once_and_in_little_memory(start):
    """Ready within 2 s of its start, in 100 MB a worker, all of it within 512 MB."""
    service = start()
    seconds = service.until_ready()
    example = json.dumps(get(f"{service.url}/models/triceps/example")[1]).encode()
    answers = [service.ask("/predict", example)["predictions"][0] for _ in range(100)]
    memory = service.metrics("triceps_worker_resident_memory_bytes")

    assert all(set(answer) == {"o1", "o2", "o3"} for answer in answers)
    assert seconds < 2
    assert max(memory) < 100 * MEGABYTE


def test_nothing_is_left_to_compile_at_a_start(engine, image):
    """All bytecode is there, and fits: a probe of a read-only container would pay for the lack."""
    code = "import service.commands.health, service.commands.serve, service.server.supervisor"
    flags = ("--rm", *LOCKED_DOWN, "--entrypoint", "python")

    said = run(engine, "run", *flags, image, "-P", "-v", "-c", code).stderr

    loaded = re.findall(r"^# code object from '?([^'\n]+)'?$", said, re.MULTILINE)
    assert len(loaded) > 100
    assert [path for path in loaded if not path.endswith(".pyc")] == []


def test_a_quota_of_one_processor_is_one_worker(start):
    """However many the machine has."""
    service = start(flags=("--cpus", "1"))
    service.until_ready()

    assert len(service.metrics("triceps_worker_resident_memory_bytes")) == 1


def test_a_stop_ends_it_once_what_was_taken_is_answered(start):
    """With exit code 0, and long before it is killed."""
    service = start()
    service.until_ready()
    [row] = get(f"{service.url}/models/triceps/example")[1]["instances"]
    body = json.dumps({"instances": [row] * 3_000, "heads": ["o2"]}).encode()
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(len(service.ask("/predict", body)["predictions"]))
    )
    asking.start()
    time.sleep(0.05)
    code, seconds = service.stop()
    asking.join()

    assert (code, answers) == (0, [3_000])
    assert seconds < 10


# --- where its models are ----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/models", "/mnt/models", "/opt/ml/model"])
def test_models_are_where_platforms_mount_them(start, volume, place):
    """In place of those that come with the image, and with `serve` as SageMaker gives it."""
    small.put(volume, "three", 1, small.three())
    service = start("serve", flags=mounted(volume, place))
    service.until_ready()

    assert get(f"{service.url}/readyz")[1] == {"status": "ready", "models": ["three"]}
    assert f" serves {place} on http://0.0.0.0:" in service.logs()


def test_health_turns_when_an_empty_volume_is_filled(start, volume, about):
    """It waits for the offline job, not ready, and the probe says so; then it is ready."""
    service = start(flags=mounted(volume))
    reason = "the model repository is empty: train or publish a model into it"
    service.until((503, {"status": "not ready", "reason": reason}))
    before = service.execute("triceps", "health", code=1)
    small.put(volume, "three", 1, small.three())
    service.until((200, {"status": "ready", "models": ["three"]}))
    after = service.execute("triceps", "health")

    assert before.stderr.count(f"/readyz: not ready: {reason}\n") == 1
    assert after.stdout == "ready\n"
    probe = about.get("Healthcheck") or about["Config"]["Healthcheck"]
    assert probe["Test"] == ["CMD", "triceps", "health"]


def test_a_mount_that_is_missing_is_one_line(fails):
    """A name that somebody gave, and nobody mounted."""
    said = fails("--env", "TRICEPS_MODELS=/data", code=2)

    assert said[0] == ""
    assert said[1].startswith("triceps: /data: there is nothing there; expected a folder of models")
    assert said[1].count("\n") == 1


def test_a_mount_that_cannot_be_read_is_one_line(fails, volume):
    """And no reason to serve the models that come with the image."""
    volume.chmod(0o700)
    out, err = fails(*mounted(volume), code=2)

    assert out == ""
    assert err.startswith("triceps: /models: cannot be read: Permission denied")
    assert err.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(start):
    """By a second service in the same container."""
    service = start()
    service.until_ready()
    done = service.execute("triceps", "serve", code=1)

    assert done.stderr.startswith("triceps: cannot listen on 0.0.0.0:")
    assert done.stderr.count("\n") == 1


@pytest.mark.keras
def test_the_job_trains_and_the_running_service_swaps_to_it(start, engine, trainer, volume):
    """TensorFlow in one container, the service in another, and a volume between them."""
    service = start(flags=mounted(volume))
    spec = "training/specs/functional.toml"
    flags = ("--rm", *LOCKED_DOWN, *mounted(volume, writable=True))
    versions = []
    for seed in ("1", "2"):
        said = run(engine, "run", *flags, trainer, "train", spec, "--seed", seed).stdout
        version = re.search(r"published functional, version (\d+)", said)[1]
        service.until((200, {"status": "ready", "models": ["functional"]}))
        end = time.monotonic() + PATIENCE
        served = None
        while served != version and time.monotonic() < end:
            served = get(f"{service.url}/models/functional")[1]["version"]
            time.sleep(0.05)
        example = json.dumps(get(f"{service.url}/models/functional/example")[1]).encode()
        versions.append(service.ask("/predict", example)["version"])

    assert versions == ["1", "2"]


# --- what is inside ----------------------------------------------------------------------------


def layers(engine, image, folder):
    """The entries of every layer that is not the base's, as they would be shipped."""
    base = json.loads(run(engine, "image", "inspect", BASE).stdout)[0]["RootFS"]["Layers"]
    file = folder / "image.tar"
    run(engine, "save", "--output", file, image)
    with tarfile.open(file) as archive:
        [manifest] = json.load(archive.extractfile("manifest.json"))
        for layer in manifest["Layers"][len(base) :]:
            content = archive.extractfile(archive.getmember(layer))
            # A link in the archive, where an engine stores what it has twice only once.
            with tarfile.open(fileobj=io.BytesIO(content.read())) as entries:
                yield from entries.getmembers()


@pytest.fixture(scope="session")
def entries(engine, image, tmp_path_factory):
    """By path, the size of every file that our layers add."""
    found = layers(engine, image, tmp_path_factory.mktemp("image"))
    return {entry.name.lstrip("./"): entry.size for entry in found if entry.isfile()}


def test_it_is_small(about):
    """Base, packages and all."""
    assert about["Size"] < 280 * MEGABYTE


UNWANTED = {
    "secrets and certificates": r"(^|/)(run/secrets|\.netrc|\.pypirc|id_\w+|[^/]+\.(pem|crt|key))",
    "caches and histories": r"(^|/)(__pycache__|\.cache|\.git|\.venv|root|tmp|var)/",
    "tests and their bytecode": r"(^|/)(tests?|conftest[^/]*|test_[^/]*)(/|$)",
    "training data": r"\.(csv|xz|keras|toml)$",
    "what builds the image": r"(^|/)(pip|hatchling|bytecode\.py|Dockerfile|wheels)(/|$)",
    "TensorFlow": r"(^|/)(tensorflow|keras|pandas)(/|$)",
}


@pytest.mark.parametrize("pattern", UNWANTED.values(), ids=UNWANTED)
def test_no_layer_has(entries, pattern):
    """Also none that a later one would hide."""
    assert [path for path in entries if re.search(pattern, path)] == []


def test_our_own_files_are_few(entries):
    """At most 2 MB: code, its bytecode, a model and a licence."""
    theirs = re.compile(r"opt/triceps/(bytecode/usr/|(bytecode/opt/triceps/)?lib/|bin/|lib64)")
    ours = re.compile(r"/site-packages/(service|training|triceps)\b|bin/triceps$")
    sizes = [n for path, n in entries.items() if ours.search(path) or not theirs.match(path)]

    assert 0 < sum(sizes) < 2 * MEGABYTE


def test_licences_are_inside(entries):
    """Ours, and those of what it ships."""
    assert "opt/triceps/LICENSE" in entries
    for package in ("flask", "numpy", "onnx", "onnxruntime", "uvloop"):
        found = [p for p in entries if re.search(rf"site-packages/{package}\b.*LICENSE", p)]
        assert found, package


def test_it_says_what_it_is(about):
    """To a platform, and to whoever finds it in a registry."""
    config = about["Config"]
    labels = {k.rpartition(".")[2]: v for k, v in config["Labels"].items() if "opencontainers" in k}

    assert (config["Entrypoint"], config["Cmd"]) == (["triceps"], ["serve"])
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert labels["title"] == "Triceps"
    assert labels["licenses"] == "MIT"
    assert labels["version"] == __version__
    assert {"description", "revision"} <= labels.keys()
