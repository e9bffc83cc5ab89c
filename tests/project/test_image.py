"""The image, built and run as a strict platform runs it, and under load.

    IMAGE_ARGS='--secret id=ca,src=certificates.pem' pytest -m image

The tests need an engine that runs containers, and the base image in it, since they pull nothing.
"""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
import yaml

from service import __version__
from tests.harness import documents, small
from tests.harness.serving import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASE = f"python:{re.search(r'^ARG PYTHON_VERSION=(.+)$', DOCKERFILE, re.MULTILINE)[1]}-slim"
LOCKED_DOWN = (
    *("--read-only", "--tmpfs", "/tmp"),  # noqa: S108  the one place to write to
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    # A user that is unknown to the image, in group 0, as on OpenShift.
    *("--user", "1000640000:0"),
)
MEGABYTE = 1_000_000
PATIENCE = 30

pytestmark = pytest.mark.image


def run(*command, code=0, **more):
    """Run a command to the end; show its output if the exit code is not the expected one."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT, **more
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def find_engine():
    """Return the program that runs containers, or the reason why there is none."""
    reasons = []
    for name in filter(shutil.which, ("docker", "podman")):
        runs = subprocess.run([name, "info"], capture_output=True, text=True, check=False)
        here = subprocess.run([name, "image", "inspect", BASE], capture_output=True, check=False)
        if runs.returncode == here.returncode == 0:
            return name, None
        reason = (runs.stderr.strip().splitlines() or ["no reason given"])[-1]
        reasons.append(reason if runs.returncode else f"`{name} pull {BASE}` first")
    message = "; or ".join(reasons) or "expected docker or podman, found neither"
    return None, f"the image was neither built nor run: {message}"


@pytest.fixture(scope="session")
def engine():
    """Return the program that runs containers."""
    program, reason = find_engine()
    if program is None:
        pytest.skip(reason)
    return program


def build(engine, target):
    """Build one of the two images as a contributor does; return its name."""
    tag = f"triceps-tested-{target}"
    run("make", "image", f"ENGINE={engine}", f"TARGET={target}", f"TAG={tag}")
    return tag


@pytest.fixture(scope="session")
def image(engine):
    """Return the image of the service."""
    return build(engine, "serve")


@pytest.fixture(scope="session")
def trainer(engine):
    """Return the image of the training job."""
    return build(engine, "train")


@pytest.fixture(scope="session")
def about(engine, image):
    """Return what the engine reports about the image of the service."""
    return json.loads(run(engine, "image", "inspect", image).stdout)[0]


def get(url):
    """Return the status and the JSON of a page."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class Container:
    """A container with the service, and the service's URL."""

    def __init__(self, engine, image, *arguments, flags=()):
        """Start the container without waiting for the service."""
        port = free_port()
        self.engine, self.name = engine, f"triceps-{uuid.uuid4().hex[:12]}"
        self.url = f"http://127.0.0.1:{port}"
        where = ("--publish", f"127.0.0.1:{port}:{port}", "--env", f"PORT={port}")
        named = ("--detach", "--name", self.name, "--memory", "512m")
        run(engine, "run", *named, *where, *LOCKED_DOWN, *flags, image, *arguments)
        self.started = time.monotonic()

    def until_ready(self):
        """Wait until the service is ready; return the seconds."""
        while time.monotonic() - self.started < PATIENCE:
            with contextlib.suppress(OSError):
                if get(f"{self.url}/readyz")[0] == 200:
                    return time.monotonic() - self.started
            time.sleep(0.02)
        raise AssertionError(self.logs())

    def until(self, page):
        """Wait until `/readyz` gives this answer."""
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
        """Return the bytes of the answer to a prediction."""
        request = urllib.request.Request(
            f"{self.url}{path}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def metrics(self, name):
        """Return the values of a metric."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        return [float(v) for v in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)]

    def execute(self, *command, code=0):
        """Run a command in the container."""
        return run(self.engine, "exec", self.name, *command, code=code)

    def stop(self):
        """Stop the container as a platform does; return the exit code and the seconds."""
        asked = time.monotonic()
        run(self.engine, "stop", "--time", PATIENCE, self.name)
        state = run(self.engine, "inspect", "--format", "{{.State.ExitCode}}", self.name)
        return int(state.stdout), time.monotonic() - asked

    def logs(self):
        """Return everything that the container has logged."""
        output = run(self.engine, "logs", self.name)
        return output.stdout + output.stderr

    def remove(self):
        """Stop and remove the container."""
        subprocess.run(
            [self.engine, "rm", "--force", "--volumes", self.name], capture_output=True, check=False
        )


@pytest.fixture
def start(engine, image):
    """Return a function that starts services; those still running are removed at the end."""
    started = []

    def begin(*arguments, flags=()):
        started.append(Container(engine, image, *arguments, flags=flags))
        return started[-1]

    yield begin
    for container in started:
        container.remove()


@pytest.fixture
def fails(engine, image):
    """Return a function that runs a failing service; it returns exit code, output and error."""

    def begin(*flags, code):
        command = (engine, "run", "--rm", *LOCKED_DOWN, *flags, image, "serve")
        done = run(*command, code=code, timeout=PATIENCE)
        return done.stdout, done.stderr

    return begin


@pytest.fixture
def volume(tmp_path):
    """Return a folder into which any user of a container may write."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def mounted(folder, place="/models", *, writable=False):
    """Return the flags that mount a folder."""
    return ("--volume", f"{folder}:{place}:{'rw' if writable else 'ro'},z")


# --- it runs -----------------------------------------------------------------------------------


def test_all_three_heads_are_answered_at_once_and_in_little_memory(start):
    """The service is ready within 2 s, with 100 MB per worker and 512 MB in all."""
    service = start()
    seconds = service.until_ready()
    example = json.dumps(get(f"{service.url}/models/triceps/example")[1]).encode()
    answers = [service.ask("/predict", example)["predictions"][0] for _ in range(100)]
    memory = service.metrics("triceps_worker_resident_memory_bytes")

    assert all(set(answer) == {"o1", "o2", "o3"} for answer in answers)
    assert seconds < 2
    assert max(memory) < 100 * MEGABYTE


def test_nothing_is_left_to_compile_at_a_start(engine, image):
    """All bytecode is present and valid; in a read-only container each probe would compile."""
    code = "import service.commands.health, service.commands.serve, service.server.supervisor"
    flags = ("--rm", *LOCKED_DOWN, "--entrypoint", "python")

    output = run(engine, "run", *flags, image, "-P", "-v", "-c", code).stderr

    loaded = re.findall(r"^# code object from '?([^'\n]+)'?$", output, re.MULTILINE)
    assert len(loaded) > 100
    assert [path for path in loaded if not path.endswith(".pyc")] == []


def test_a_quota_of_one_processor_is_one_worker(start):
    """The quota counts, not the number of the machine's processors."""
    service = start(flags=("--cpus", "1"))
    service.until_ready()

    assert len(service.metrics("triceps_worker_resident_memory_bytes")) == 1


def test_a_stop_ends_the_service_once_accepted_requests_are_answered(start):
    """The service answers accepted requests and exits with 0, long before it is killed."""
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
    """A mounted repository replaces the image's own, and `serve` is accepted as from SageMaker."""
    small.put(volume, "three", 1, small.three())
    service = start("serve", flags=mounted(volume, place))
    service.until_ready()

    assert get(f"{service.url}/readyz")[1] == {"status": "ready", "models": ["three"]}
    assert f" serves {place} on http://0.0.0.0:" in service.logs()


def test_health_turns_when_an_empty_volume_is_filled(start, volume, about):
    """With an empty volume the service is not ready, and becomes ready when the job publishes."""
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
    """A configured folder that is not mounted is an error in one line."""
    streams = fails("--env", "TRICEPS_MODELS=/data", code=2)

    assert streams[0] == ""
    assert streams[1].startswith(
        "triceps: /data: there is nothing there; expected a folder of models"
    )
    assert streams[1].count("\n") == 1


def test_a_mount_that_cannot_be_read_is_one_line(fails, volume):
    """An unreadable mount is an error; the image's own models do not replace it."""
    volume.chmod(0o700)
    out, err = fails(*mounted(volume), code=2)

    assert out == ""
    assert err.startswith("triceps: /models: cannot be read: Permission denied")
    assert err.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(start):
    """A second service in the same container gets an error in one line."""
    service = start()
    service.until_ready()
    done = service.execute("triceps", "serve", code=1)

    assert done.stderr.startswith("triceps: cannot listen on 0.0.0.0:")
    assert done.stderr.count("\n") == 1


@pytest.mark.keras
def test_the_job_trains_and_the_running_service_swaps_to_it(start, engine, trainer, volume):
    """TensorFlow runs in one container and the service in another, with a volume between them."""
    service = start(flags=mounted(volume))
    spec = "training/specs/functional.toml"
    flags = ("--rm", *LOCKED_DOWN, *mounted(volume, writable=True))
    versions = []
    for seed in ("1", "2"):
        output = run(engine, "run", *flags, trainer, "train", spec, "--seed", seed).stdout
        version = re.search(r"published functional, version (\d+)", output)[1]
        service.until((200, {"status": "ready", "models": ["functional"]}))
        end = time.monotonic() + PATIENCE
        served = None
        while served != version and time.monotonic() < end:
            served = get(f"{service.url}/models/functional")[1]["version"]
            time.sleep(0.05)
        example = json.dumps(get(f"{service.url}/models/functional/example")[1]).encode()
        versions.append(service.ask("/predict", example)["version"])

    assert versions == ["1", "2"]


# --- in a cluster ------------------------------------------------------------------------------


def test_two_lines_put_a_model_into_an_image(engine, image, tmp_path):
    """The Dockerfile of docs/kubernetes.md makes an image that serves its own model."""
    [lines] = documents.blocks(documents.PAGES["docs/kubernetes.md"], "dockerfile")
    (tmp_path / "Dockerfile").write_text(lines.replace("FROM triceps", f"FROM {image}"))
    small.put(tmp_path / "models", "churn", 1, small.three())
    run(engine, "build", "--tag", "triceps-tested-baked", tmp_path)
    service = Container(engine, "triceps-tested-baked")
    try:
        service.until((200, {"status": "ready", "models": ["churn"]}))
    finally:
        service.remove()


def playable(pod, image):
    """Change a pod to one that podman plays here: its image, and no probes, which need a shell."""
    [container] = pod["containers"]
    kept = {k: v for k, v in container.items() if "Probe" not in k and k != "ports"}
    kept |= {"image": f"localhost/{image}", "imagePullPolicy": "Never"}
    pod["containers"] = [kept]
    return kept


@contextlib.contextmanager
def playing(engine, manifests, url, folder):
    """Have podman play manifests, and yield once a service is ready; remove all at the end."""
    if engine != "podman":
        pytest.skip("only podman plays the pods of Kubernetes")
    file = folder / "played.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    try:
        run(engine, "kube", "play", "--network", "host", file)
        end = time.monotonic() + PATIENCE
        while not is_ready(url):
            assert time.monotonic() < end
            time.sleep(0.05)
        yield
    finally:
        run(engine, "kube", "down", file)


def test_the_pod_of_kubernetes_runs_and_ends_in_peace(engine, image, tmp_path):
    """The pod of the base has its settings and rights; it is not ready first, and then ends."""
    kubectl = Path(sys.executable).parent / "kubectl"
    rendered = run(kubectl, "kustomize", ROOT / "deploy" / "kubernetes" / "base").stdout
    port, name = free_port(), f"triceps-{uuid.uuid4().hex[:12]}"
    url = f"http://127.0.0.1:{port}"
    played = [m for m in yaml.safe_load_all(rendered) if m["kind"] in {"ConfigMap", "Deployment"}]
    settings, deployment = sorted(played, key=lambda m: m["kind"])
    settings["data"] |= {"PORT": str(port), "HOST": "127.0.0.1"}
    deployment["metadata"]["name"] = name
    deployment["spec"]["replicas"] = 1
    playable(deployment["spec"]["template"]["spec"], image)
    with playing(engine, played, url, tmp_path):
        within = run(engine, "exec", f"{name}-pod-triceps", "grep", "CapEff", "/proc/1/status")
        statuses = []
        stopping = threading.Thread(target=run, args=(engine, "pod", "stop", f"{name}-pod"))
        stopping.start()
        while stopping.is_alive():
            with contextlib.suppress(OSError):
                statuses.append(get(f"{url}/readyz")[0])
            time.sleep(0.05)
        stopping.join()
        asked = (engine, "inspect", "--format", "{{.State.ExitCode}}", f"{name}-pod-triceps")
        code = run(*asked).stdout

    assert within.stdout.split() == ["CapEff:", "0" * 16]
    assert statuses == sorted(statuses)
    assert statuses[-1] == 503
    assert int(code) == 0


def test_the_container_of_kserve_serves_what_is_mounted(engine, image, volume, tmp_path):
    """Its model is in the mount itself, and has the name that KServe puts into the template."""
    (volume / "model.onnx").write_bytes(small.three())
    text = (ROOT / "deploy" / "kserve" / "runtime.yaml").read_text().replace("{{.Name}}", "churn")
    spec = yaml.safe_load(text)["spec"]
    port, name = free_port(), f"triceps-{uuid.uuid4().hex[:12]}"
    url = f"http://127.0.0.1:{port}"
    container = playable(spec, image)
    container["env"] += [
        {"name": "PORT", "value": str(port)},
        {"name": "HOST", "value": "127.0.0.1"},
    ]
    container["volumeMounts"].append(
        {"name": "model", "mountPath": "/mnt/models", "readOnly": True}
    )
    volumes = [*spec["volumes"], {"name": "model", "hostPath": {"path": str(volume)}}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "volumes": volumes},
    }
    with playing(engine, [pod], url, tmp_path):
        ready = get(f"{url}/v2/models/churn/ready")
        listed = get(f"{url}/v1/models")

    assert ready == (200, {"name": "churn", "ready": True})
    assert listed == (200, {"models": ["churn"]})


def is_ready(url):
    """Return whether a service is ready."""
    with contextlib.suppress(OSError):
        return get(f"{url}/readyz")[0] == 200
    return False


# --- what is inside ----------------------------------------------------------------------------


def layers(engine, image, folder):
    """Return the entries of every layer on top of the base image, as they would be shipped."""
    base = json.loads(run(engine, "image", "inspect", BASE).stdout)[0]["RootFS"]["Layers"]
    file = folder / "image.tar"
    run(engine, "save", "--output", file, image)
    with tarfile.open(file) as archive:
        [manifest] = json.load(archive.extractfile("manifest.json"))
        for layer in manifest["Layers"][len(base) :]:
            content = archive.extractfile(archive.getmember(layer))
            # An engine stores equal layers once, and the others as links in the archive.
            with tarfile.open(fileobj=io.BytesIO(content.read())) as entries:
                yield from entries.getmembers()


@pytest.fixture(scope="session")
def entries(engine, image, tmp_path_factory):
    """Return the size of every file that the layers add, by path."""
    members = layers(engine, image, tmp_path_factory.mktemp("image"))
    return {entry.name.lstrip("./"): entry.size for entry in members if entry.isfile()}


def test_the_image_is_small(about):
    """The base, the packages and the code fit into the stated size."""
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
def test_no_layer_has_such_files(entries, pattern):
    """No layer has such files, not even one that a later layer hides."""
    assert [path for path in entries if re.search(pattern, path)] == []


def test_our_own_files_are_few(entries):
    """Code, bytecode, a model and a licence are at most 2 MB."""
    theirs = re.compile(r"opt/triceps/(bytecode/usr/|(bytecode/opt/triceps/)?lib/|bin/|lib64)")
    ours = re.compile(r"/site-packages/(service|training|triceps)\b|bin/triceps$")
    sizes = [n for path, n in entries.items() if ours.search(path) or not theirs.match(path)]

    assert 0 < sum(sizes) < 2 * MEGABYTE


def test_licences_are_inside(entries):
    """The image has the licences of Triceps and of its packages."""
    assert "opt/triceps/LICENSE" in entries
    for package in ("flask", "numpy", "onnx", "onnxruntime", "uvloop"):
        licences = [p for p in entries if re.search(rf"site-packages/{package}\b.*LICENSE", p)]
        assert licences, package


def test_labels_describe_the_image(about):
    """Labels describe the image to platforms and registries."""
    config = about["Config"]
    labels = {k.rpartition(".")[2]: v for k, v in config["Labels"].items() if "opencontainers" in k}

    assert (config["Entrypoint"], config["Cmd"]) == (["triceps"], ["serve"])
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert labels["title"] == "Triceps"
    assert labels["licenses"] == "MIT"
    assert labels["version"] == __version__
    assert {"description", "revision"} <= labels.keys()
