"""The Dockerfile, compose.yaml and the dashboard, checked as text where no image can be built."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import promql_parser
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service import settings as all_settings
from service.app import create_app
from service.insight.drift import statistics
from tests.harness import memory

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "triceps.json").read_text())


# --- the Dockerfile ----------------------------------------------------------------------------


def stages():
    """Return the instructions of each stage, one line each, by name and in order."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    parsed = re.findall(r"^FROM (\S+) AS (\w[\w-]*)\n((?:(?!FROM ).*\n)*)", joined, re.MULTILINE)
    return {name: (base, body) for base, name, body in parsed}


def environment(stage):
    """Return the variables that a stage sets."""
    return dict(re.findall(r"(?:^ENV |\s)([A-Z_]+)=(\S+)", stages()[stage][1], re.MULTILINE))


def test_a_plain_build_makes_the_service():
    """The last stage is the service, and it does not build on one with TensorFlow."""
    names = list(stages())
    made_of, left = set(), ["serve"]
    while left:
        made_of.add(name := left.pop())
        base, body = stages()[name]
        left += [n for n in (base, *re.findall(r"--from=(\S+)", body)) if n in names]

    assert names[-1] == "serve"
    assert made_of == {"locked", "packages", "code", "serve"}


def test_every_stage_begins_with_the_python_that_is_asked_for():
    """Each stage begins with the Python of the build argument, or with a stage that does."""
    outside = {base for base, _ in stages().values()} - stages().keys()

    assert outside == {"python:${PYTHON_VERSION}-slim"}


def test_packages_come_from_the_locks_alone():
    """Packages come from the locks with hashes, and Triceps from its wheel.

    Only the ONNX Runtime that a build argument asks for has no lock.
    """
    installs = re.findall(r"pip (?:--python \S+ )?install ([^&\n]*)", str(stages()))
    locks = [text for text in installs if "--require-hashes" in text]

    assert len(locks) == 3
    others = [text for text in installs if text not in locks and "--no-index" not in text]
    assert len(others) == 1
    assert '"${RUNTIME}"' in others[0]


@pytest.mark.parametrize("stage", ["serve", "train"])
def test_an_image_runs_a_command_without_root(stage):
    """The image runs without a shell and without root, and its stop signal reaches the service."""
    _, body = stages()[stage]

    assert re.findall(r"^USER (.*)$", body, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^STOPSIGNAL (.*)$", body, re.MULTILINE) == ["SIGTERM"]
    assert re.findall(r"^ENTRYPOINT (.*)$", body, re.MULTILINE) == ['["triceps"]']
    assert environment(stage)["ORT_DISABLE_TELEMETRY"] == "1"


def test_settings_that_are_baked_in_are_settings():
    """The image sets the address and the model folders, of which its own is the last."""
    variables = {
        k: v for k, v in environment("serve").items() if k in {"HOST", "PORT"} or "TRIC" in k
    }

    assert variables == {
        "HOST": "0.0.0.0",
        "TRICEPS_MODELS": "/models:/mnt/models:/opt/ml/model:/opt/triceps/models",
    }
    assert all_settings.load(variables).host == "0.0.0.0"


def test_the_build_context_is_exactly_the_copied_files():
    """The build context admits all that is copied, and all that it admits exists."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    named = [line[1:] for line in lines if line.startswith("!")]
    copied = {
        path
        for _, body in stages().values()
        for line in re.findall(r"^COPY (?!--from)(.*)$", body, re.MULTILINE)
        for path in line.split()[:-1]
    }

    assert "*" in lines
    assert [name for name in named if not list(ROOT.glob(name))] == []
    assert [path for path in copied if not any(_admits(name, path) for name in named)] == []


def _admits(name, path):
    """Return whether a line of .dockerignore admits a path, as itself or inside of a folder."""
    return Path(path).match(name) or Path(name) in Path(path).parents


def test_every_module_is_in_the_image():
    """The wheel of the image is built from whole packages, with the packages inside of them."""
    copied = re.findall(r"^COPY (?!--from)(.*)$", stages()["code"][1], re.MULTILINE)
    folders = {path for line in copied for path in line.split()[:-1]}

    assert {"service", "training"} <= folders


def test_bytecode_covers_the_imports_of_the_service_and_ignores_file_times(tmp_path):
    """Bytecode does not depend on file times, which differ in a cached layer."""
    subprocess.run(
        [sys.executable, "-P", DEPLOY / "bytecode.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(tmp_path)},
        check=True,
    )

    files = {path.name.partition(".")[0]: path for path in tmp_path.rglob("*.pyc")}
    by_hash_unchecked = (1).to_bytes(4, "little")
    assert {"health", "supervisor", "onnxruntime_inference_collection", "selectors"} <= files.keys()
    assert {p.read_bytes()[4:8] for p in tmp_path.rglob("*.pyc")} == {by_hash_unchecked}
    assert not [name for name in files if name.startswith("test_")]


# --- compose.yaml and what it starts -----------------------------------------------------------


def mounts(name):
    """Return the mounts of a container: by source, the target and the mode."""
    return {
        source: (place, mode)
        for source, place, mode in (
            [*text.split(":"), "rw"][:3] for text in SERVICES[name].get("volumes", [])
        )
    }


@pytest.mark.parametrize("name", ["train", "serve"])
def test_our_containers_are_locked_down(name):
    """Containers are read-only except for /tmp, and have no unnecessary capabilities."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108  in the container
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_both_are_built_here():
    """Each container is built from its stage of the Dockerfile."""
    targets = {
        name: build.get("target", "serve") if isinstance(build, dict) else "serve"
        for name, service in SERVICES.items()
        if (build := service.get("build"))
    }

    assert targets == {"train": "train", "serve": "serve"}
    assert set(targets.values()) <= stages().keys()


def test_the_job_writes_what_the_service_reads():
    """Both use one volume, and the job starts first, so that its user owns the volume."""
    trained, served = mounts("train")["models"], mounts("serve")["models"]

    assert trained == (environment("train")["TRICEPS_MODELS"], "rw")
    assert served == (environment("serve")["TRICEPS_MODELS"].split(":")[0], "ro")
    assert SERVICES["serve"]["depends_on"] == ["train"]


def test_the_cache_is_on_a_volume_of_the_user():
    """A new volume gets the owner of the image's folder, and /tmp is in memory."""
    [folder] = re.findall(r"install --directory --owner 10001 (?:.*) (/\S+)", stages()["serve"][1])

    assert mounts("serve")["cache"] == (folder, "rw")
    assert SERVICES["serve"]["environment"]["TRICEPS_CACHE"] == folder


def test_the_memory_in_compose_is_enough():
    """The limit of the service is at least what the formula in docs/container.md gives."""
    serve = SERVICES["serve"]
    settings = serve["environment"]

    assert serve["cpus"] == 1  # which is one worker
    assert serve["mem_limit"] == "512m"
    assert memory.needed(settings["TRICEPS_MAX_BODY"], settings["TRICEPS_MAX_IN_FLIGHT"]) < (
        512 * 2**20
    )


def test_settings_in_compose_are_settings():
    """Every `TRICEPS_*` variable is a setting, since any other would stop the start."""
    variables = {k: str(v) for k, v in SERVICES["serve"]["environment"].items()}

    assert variables.keys() <= {
        all_settings.variable(entry) for entry in fields(all_settings.Settings)
    }
    assert all_settings.load(variables)


def test_nothing_is_published_to_the_network():
    """Ports are local, since neither the service nor its monitoring asks for a password."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(ports) == 3
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_mounted_paths_exist():
    """Every mounted path exists; Compose would create an empty folder for a wrong name."""
    files = [source for name in SERVICES for source in mounts(name) if source.startswith(".")]

    assert len(files) == 5
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_images_of_others_are_pinned():
    """Foreign images have a version, so that every start is the same."""
    images = [service["image"] for service in SERVICES.values() if "build" not in service]

    assert [image for image in images if not re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", image)] == []


def test_prometheus_asks_the_service_and_grafana_asks_prometheus():
    """Both use the names and ports of compose.yaml."""
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    [source] = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"]
    asked = [t.split(":") for s in scraped for c in s["static_configs"] for t in c["targets"]]

    assert asked == [["serve", str(all_settings.Settings().port)]]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_prometheus_finds_its_rules():
    """They are beside its configuration, whose folder their path begins in."""
    mounted = {Path(place) for place, _ in mounts("prometheus").values()}
    names = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["rule_files"]

    assert {Path("/etc/prometheus") / name for name in names} < mounted
    assert [name for name in names if not (DEPLOY / name).is_file()] == []


def test_rules_ask_for_metrics_and_rules_that_there_are():
    """Each expression has metrics of the service, and rules above it."""
    [group] = yaml.safe_load((DEPLOY / "drift-rules.yml").read_text())["groups"]
    metrics, recorded = exposed(), set()

    for rule in group["rules"]:
        expression = rule["expr"]
        names = set(re.findall(r"\btriceps[_:][\w:]+", expression))
        assert {name for name in names if ":" in name} <= recorded, expression
        assert {name for name in names if ":" not in name} <= metrics.keys(), expression
        recorded.add(rule.get("record", ""))
    asked_for = set(re.findall(r"\btriceps:[\w:]+", (DEPLOY / "grafana/triceps.json").read_text()))
    assert asked_for <= recorded


def queries():
    """Return all queries of Prometheus that are shipped or shown, each with its place."""
    dashboard = [t["expr"] for panel in DASHBOARD["panels"] for t in panel.get("targets", [])]
    found = [("grafana/triceps.json", text) for text in dashboard]
    documents = [(path, path.read_text()) for path in DEPLOY.rglob("*.y*ml")]
    for path in (ROOT / "docs").glob("*.md"):
        blocks = re.findall(r"^```yaml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
        documents += [(path, text) for text in blocks if re.search(r"\b(expr|query):", text)]
    for path, text in documents:
        for content in yaml.safe_load_all(text):
            found += [(path.name, query) for query in _queries_in(content)]
    return found


def _queries_in(content):
    """Yield the texts under the keys of queries, however deep."""
    if isinstance(content, list):
        for part in content:
            yield from _queries_in(part)
    elif isinstance(content, dict):
        for key, part in content.items():
            if key in {"expr", "query"} and isinstance(part, str):
                yield part
            else:
                yield from _queries_in(part)


def test_prometheus_can_parse_all_queries():
    """Those of rules, alerts, panels, autoscalers and pages; a window may be Grafana's."""
    places = set()
    for place, query in queries():
        try:
            promql_parser.parse(re.sub(r"\$__\w+", "5m", query))
        except ValueError as error:
            pytest.fail(f"{place}: {query}: {error}")
        places.add(place)

    expected = {"grafana/triceps.json", "drift-rules.yml", "autoscaler.yaml", "operations.md"}
    assert expected <= places


def test_rules_compute_the_psi_of_the_service():
    """By its own code, of the counters: half a row more in each bin, and no bins put together."""
    counts, reference = np.array([0, 40, 70, 3]), np.array([10, 50, 40, 0])
    shares = [(side + 0.5) / (side + 0.5).sum() for side in (counts, reference)]
    [group] = yaml.safe_load((DEPLOY / "drift-rules.yml").read_text())["groups"]
    rules = {rule["record"]: rule["expr"] for rule in group["rules"] if "record" in rule}

    for side in ("head", "feature"):
        bins = f"triceps:{side}_bin"
        assert all(rules[f"{bins}:{name}"].endswith("+ 0.5") for name in ("rows1d", "reference"))
        assert rules[f"triceps:{side}:psi1d"] == (
            f"sum by (model, version, {side}) ( ({bins}:share1d - {bins}:reference_share) "
            f"* ln({bins}:share1d / {bins}:reference_share))"
        )
    q, p = shares
    assert statistics.psi(reference, counts) == pytest.approx(((q - p) * np.log(q / p)).sum())


def test_grafana_finds_the_dashboard():
    """The dashboard is in the provider's folder, and is the first page."""
    [provider] = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text())["providers"]
    place, _ = mounts("grafana")["./deploy/grafana/triceps.json"]
    first = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert place == first
    assert Path(place).parent == Path(provider["options"]["path"])


# --- the dashboard -----------------------------------------------------------------------------


def exposed():
    """Return the names of the service's metrics, except for its build."""
    client = create_app(all_settings.load({}, models=ROOT / "models")).test_client()
    client.post("/predict", json=client.get("/models/triceps/example").get_json())
    text = client.get("/metrics").text
    names = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    del names["triceps_build_info"]
    return names


def asked():
    """Return the names of the metrics in the dashboard's queries and variables."""
    queries = [t["expr"] for panel in DASHBOARD["panels"] for t in panel.get("targets", [])]
    queries += [entry["query"] for entry in DASHBOARD["templating"]["list"]]
    return set(re.findall(r"\btriceps_\w+", " ".join(queries)))


def test_the_dashboard_shows_exactly_the_metrics_of_the_service():
    """The dashboard follows when a metric is added or renamed."""
    whole = {name: re.sub(r"_(bucket|sum|count)$", "", name) for name in asked()}

    assert set(whole.values()) == exposed().keys()


def test_every_panel_has_a_place_of_its_own():
    """No panel overlaps another, and each has a unique name."""
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len(ids) == len(set(ids))


# --- the bill of materials ---------------------------------------------------------------------


def test_the_bill_has_the_packages_of_the_serving_lock():
    """`make sbom` lists each shipped package with its version, and no others."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL"}}
    subprocess.run(["make", "sbom"], cwd=ROOT, env=inherited, check=True, capture_output=True)
    bill = json.loads((ROOT / "build" / "triceps.cdx.json").read_text())
    lock = (ROOT / "requirements" / "serve.txt").read_text()
    pins = [Requirement(line) for line in re.findall(r"^([a-z].*?) \\$", lock, re.MULTILINE)]

    versions = {canonicalize_name(c["name"]): c["version"] for c in bill["components"]}
    pinned = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
    assert bill["bomFormat"] == "CycloneDX"
    assert versions == pinned
