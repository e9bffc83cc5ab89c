"""The manifests of deploy/kubernetes and deploy/kserve: their schemas, and facts of the service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml

from service import settings as all_settings
from service.api import authorization
from service.commands.main import main
from service.observability.families import FAMILIES
from service.server import worker
from tests.harness import documents, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = documents.PAGES["docs/kubernetes.md"]
KSERVE = ROOT / "deploy" / "kserve"
RUNTIME = yaml.safe_load((KSERVE / "runtime.yaml").read_text())
DEPLOY = ROOT / "deploy" / "kubernetes"
COMPONENTS = sorted(path.name for path in (DEPLOY / "components").iterdir())
# All at once, but for one autoscaler and one source of models.
TOGETHER = tuple(name for name in COMPONENTS if name not in {"scale-by-cpu", "training"})
RENDERINGS = [pytest.param((), id="base")]
RENDERINGS += [pytest.param((name,), id=name) for name in COMPONENTS]
RENDERINGS += [pytest.param(TOGETHER, id="together")]
# The oldest that docs/kubernetes.md names, and the two newest of the package with the schemas.
VERSIONS = ("1.30", "1.36", "1.37")
# The resources that no version of Kubernetes has: their schemas are of their own projects.
CUSTOM = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}
SCHEMA = yaml.safe_load((ROOT / "tests" / "project" / "custom_resources.yaml").read_text())


def kustomize(own: str, folder: Path) -> list[dict[str, Any]]:
    """Return what a kustomization makes, if `folder` has it."""
    (folder / "kustomization.yaml").write_text(own)
    command = (Path(sys.executable).parent / "kubectl", "kustomize", folder)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def render(tmp_path_factory) -> Any:
    """Return a function that renders the base with components, as a user's own kustomization."""

    @cache
    def rendered(components: tuple[str, ...]) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("own")
        there = os.path.relpath(DEPLOY, folder.resolve())
        own = {
            "resources": [f"{there}/base"],
            "components": [f"{there}/components/{name}" for name in components],
        }
        return kustomize(json.dumps(own), folder)

    return rendered


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each resource that makes pods, and the template of its pods."""
    for found in manifests:
        spec = found.get("spec", {})
        spec = spec.get("jobTemplate", found).get("spec", spec)
        if "template" in spec:
            yield found["metadata"]["name"], spec["template"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all containers of a pod."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def one(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only resource of a kind, apart from those of the training job."""
    [found] = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == "triceps"]
    return found


def variables(manifests: list[dict[str, Any]]) -> dict[str, str]:
    """Return the variables of the service's container."""
    [name] = [c["envFrom"][0]["configMapRef"]["name"] for c in service(manifests)]
    [values] = [m["data"] for m in manifests if m["metadata"]["name"] == name]
    return values


def service(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the containers of the service's pods that run beside each other."""
    return one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]


# --- the schemas -------------------------------------------------------------------------------


def check(manifests: list[dict[str, Any]]) -> None:
    """Check that Kubernetes and the projects of other resources know every field, and its type."""
    for manifest in manifests:
        if manifest["apiVersion"] in CUSTOM:
            jsonschema.validate(manifest, SCHEMA)
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("components", RENDERINGS)
def test_every_manifest_fits_the_schemas(render, components):
    """No version of Kubernetes and no other project would refuse one."""
    check(render(components))


def test_the_schemas_are_those_of_the_newest_versions():
    """The newest version that the package has is checked, and the one before."""
    newest = kubernetes_validate.latest_version()
    major, minor = newest.split(".")[:2]

    assert VERSIONS[-2:] == (f"{major}.{int(minor) - 1}", f"{major}.{minor}")


def test_an_unknown_field_of_a_custom_resource_is_refused(render):
    """The schemas of other projects' resources are as strict as those of Kubernetes."""
    [manifest] = [m for m in render(("scale-by-queue",)) if m["kind"] == "ScaledObject"]
    wrong = {**manifest, "spec": {**manifest["spec"], "minReplicas": 2}}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


# --- pods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", RENDERINGS)
def test_pods_are_locked_down(render, components):
    """No pod has root, a token of the cluster, capabilities or files that it may change."""
    for name, pod in pods(render(components)):
        spec = pod["spec"]
        user = spec["securityContext"]
        assert spec["automountServiceAccountToken"] is False, name
        assert (user["runAsNonRoot"], user["runAsUser"]) == (True, 10001), name
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers(pod):
            where = (name, container["name"])
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, where
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            assert limits["memory"] == requests["memory"], where
            assert {*limits} == {*requests} == {"cpu", "memory", "ephemeral-storage"}, where


@pytest.mark.parametrize("components", RENDERINGS)
def test_files_are_written_to_bounded_volumes(render, components):
    """The system's temporary files and the cache are on volumes, whose sizes are limited."""
    manifests = render(components)
    for name, pod in pods(manifests):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in containers(pod):
            mounts = {m["mountPath"]: volumes[m["name"]] for m in container["volumeMounts"]}
            assert mounts["/tmp"]["emptyDir"]["sizeLimit"], (name, container["name"])  # noqa: S108
    [container] = service(manifests)
    assert variables(manifests)["TRICEPS_CACHE"] in {
        mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")
    }


@pytest.mark.parametrize("components", RENDERINGS)
def test_only_the_pods_of_the_service_are_selected(render, components):
    """Clients, node drains and the network mean the service, and not a training job."""
    manifests = render(components)
    template = one(manifests, "Deployment")["spec"]["template"]
    labels = template["metadata"]["labels"]
    others = [pod["metadata"]["labels"] for name, pod in pods(manifests) if name != "triceps"]
    selectors = [
        one(manifests, "Service")["spec"]["selector"],
        one(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in template["spec"]["topologySpreadConstraints"]
        ),
    ]

    assert [selector for selector in selectors if not selector.items() <= labels.items()] == []
    assert [found for found in others if selectors[0].items() <= found.items()] == []


def test_settings_are_settings(render):
    """Every variable is a setting with a valid value, since any other would stop the start."""
    manifests = render(TOGETHER)
    [container] = service(manifests)
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    settings = all_settings.load({**variables(manifests), **given})

    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[str(Path(settings.tokens_file).parent)] == "tokens"


def test_the_memory_of_a_pod_is_enough(render):
    """One processor means one worker, for which the limit is what the formula gives, and room."""
    manifests = render(())
    [container] = service(manifests)
    settings = all_settings.load(variables(manifests))

    assert container["resources"]["limits"]["cpu"] == "1"
    assert container["resources"]["limits"]["memory"] == "512Mi"
    assert memory.needed(settings.max_body, settings.max_in_flight) < 512 * 2**20


def test_a_pod_may_end_in_peace(render):
    """A pod is killed only after the grace, the time for open requests and a margin."""
    manifests = render(())
    settings = all_settings.load(variables(manifests))
    longest = settings.grace + worker.STOP_SECONDS + worker.MARGIN_SECONDS

    spec = one(manifests, "Deployment")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > longest


def test_probes_ask_the_port_of_the_image_without_a_token(render):
    """All probes are by HTTP, of paths that are open even if tokens are required."""
    manifests = render(())
    [container] = service(manifests)
    probes = {name: probe["httpGet"] for name, probe in container.items() if "Probe" in name}

    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert {probe["path"] for probe in probes.values()} <= set(authorization.OPEN)
    assert container["ports"] == [{"name": "http", "containerPort": all_settings.Settings().port}]
    [port] = one(manifests, "Service")["spec"]["ports"]
    assert {probe["port"] for probe in probes.values()} == {port["targetPort"]} == {"http"}


def test_images_are_those_of_make(render):
    """Images have the names that `make image` gives them, which a kustomization replaces."""
    all_pods = [*pods(render(TOGETHER)), *pods(render(("training",)))]
    images = {c["image"] for _, pod in all_pods for c in containers(pod)}

    assert images == {"triceps", "triceps-train"}


# --- KServe ------------------------------------------------------------------------------------


def test_the_container_of_the_runtime_is_one_of_a_pod():
    """Kubernetes knows every field of the container; KServe's own classes are checked elsewhere."""
    spec = RUNTIME["spec"]
    pod = {"containers": spec["containers"], "volumes": spec["volumes"]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "churn"}, "spec": pod}

    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_runtime_has_the_settings_and_rights_of_the_base(render):
    """The same limits fit into the same memory, with the same rights."""
    [container] = RUNTIME["spec"]["containers"]
    [other] = service(render(()))
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    settings = all_settings.load({**given, "TRICEPS_MODEL_NAME": "churn"})
    for_all = {key: f"{value}" for key, value in variables(render(())).items() if key in given}

    assert for_all.items() <= given.items()
    assert {"TRICEPS_MAX_BODY", "TRICEPS_MAX_IN_FLIGHT"} <= for_all.keys()
    assert settings.models == Path("/mnt/models")
    assert container["resources"]["limits"]["memory"] == other["resources"]["limits"]["memory"]
    assert other["securityContext"].items() <= container["securityContext"].items()
    probe = container["readinessProbe"]["httpGet"]
    assert probe["path"] in authorization.OPEN
    assert probe["port"] == settings.port


def test_the_page_lists_the_examples_and_shows_the_plain_one():
    """Each file has a row, and the block is the file itself."""
    section = documents.section(PAGE, "KServe")
    listed = re.findall(r"^\| `([a-z-]+\.yaml)` \|", section, re.MULTILINE)
    [shown] = documents.blocks(section, "yaml")

    files = {path.name for path in KSERVE.iterdir()}
    assert set(listed) == files - {"runtime.yaml"}
    assert yaml.safe_load(shown) == yaml.safe_load((KSERVE / "plain.yaml").read_text())


# --- docs/kubernetes.md ------------------------------------------------------------------------


# The kustomizations that the page shows, each of a reader's own.
OWN = [b for b in documents.blocks(PAGE, "yaml") if "kind: Kustomization" in b]


def beside(folder: Path) -> Path:
    """Return a folder beside a checkout of Triceps, as on the page."""
    (folder / "triceps").symlink_to(ROOT)
    (folder / "production").mkdir()
    return folder / "production"


def test_the_kustomization_of_the_page_is_rendered(tmp_path):
    """It puts all resources into its namespace, and replaces the image."""
    manifests = kustomize(OWN[0], beside(tmp_path))

    check(manifests)
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"models"}
    [container] = service(manifests)
    assert container["image"].startswith("registry.example.com/churn:")


def test_prometheus_gets_the_token_of_the_page(tmp_path):
    """The patch names the Secret and the key that the commands of the page make."""
    manifests = kustomize(OWN[2], beside(tmp_path))

    check(manifests)
    [endpoint] = one(manifests, "ServiceMonitor")["spec"]["endpoints"]
    named = endpoint["authorization"]["credentials"]
    assert f"secret generic {named['name']} --from-file {named['key']}=" in PAGE
    [volume] = [
        v
        for v in one(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
        if v["name"] == "tokens"
    ]
    assert f"secret generic {volume['secret']['secretName']} --from-file tokens.toml" in PAGE


def test_the_page_lists_the_components():
    """Each component has a row, and there are no others."""
    listed = re.findall(r"^\| `([a-z-]+)` \|", documents.section(PAGE, "Manifests"), re.MULTILINE)

    assert sorted(listed) == COMPONENTS


def test_the_page_has_the_values_of_the_manifests(render):
    """Times, memory and thresholds on the page are those of the manifests."""
    manifests = render(("scale-by-queue",))
    spec = one(manifests, "Deployment")["spec"]["template"]["spec"]
    trigger = one(manifests, "ScaledObject")["spec"]["triggers"][0]["metadata"]
    values = variables(manifests)

    assert f"`TRICEPS_GRACE={values['TRICEPS_GRACE']}`" in PAGE
    assert f"It is killed after {spec['terminationGracePeriodSeconds']} s." in PAGE
    assert f"open requests get {worker.STOP_SECONDS} s" in PAGE
    assert f"more than {trigger['threshold']} s of work waits in each" in PAGE
    assert f"`{trigger['serverAddress']}`" in PAGE
    assert float(trigger["threshold"]) == all_settings.Settings().queue / 10
    assert f"Kubernetes {VERSIONS[0]} or later" in PAGE
    assert "schemas of Kubernetes {}, {} and {},".format(*VERSIONS) in PAGE


# --- components --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scale-by-cpu", "scale-by-queue"])
def test_an_autoscaler_has_the_number_of_pods(render, name):
    """To apply the manifests again does not undo what the autoscaler has decided."""
    manifests = render((name,))
    deployment = one(manifests, "Deployment")
    [scaler] = [m["spec"] for m in manifests if "scaleTargetRef" in m.get("spec", {})]

    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    least = scaler.get("minReplicas") or scaler.get("minReplicaCount")
    assert least == one(render(()), "Deployment")["spec"]["replicas"]


def test_pods_are_added_by_a_metric_of_the_service(render):
    """The query names a metric that exists, and Prometheus has it as the monitor's job."""
    manifests = render(("monitoring", "scale-by-queue"))
    query = one(manifests, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    [(metric, job)] = re.findall(r'triceps_(\w+)\{job="(\w+)"\}', query)

    assert metric in FAMILIES
    # The operator names a job after the Service.
    assert job == one(manifests, "Service")["metadata"]["name"]
    [port] = [e["port"] for e in one(manifests, "ServiceMonitor")["spec"]["endpoints"]]
    assert port in {p["name"] for p in one(manifests, "Service")["spec"]["ports"]}


def test_the_job_fills_the_volume_that_the_service_reads(render):
    """Both mount one volume where their images look for models; only the job may write."""
    manifests = render(("training",))
    mounts = {
        (name, mount["mountPath"]): mount.get("readOnly", False)
        for name, pod in pods(manifests)
        for container in containers(pod)
        for mount in container["volumeMounts"]
        if mount["name"] == "models"
    }
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for _, pod in pods(manifests)
        for volume in pod["spec"]["volumes"]
        if volume["name"] == "models"
    }

    assert mounts == {("triceps", "/models"): True, ("triceps-train", "/models"): False}
    assert claims == {m["metadata"]["name"] for m in manifests if "Claim" in m["kind"]}


def test_models_are_pulled_before_and_beside_the_service(render):
    """Both containers run `triceps pull` into the volume that the service reads, with its key."""
    manifests = render(("pull",))
    spec = one(manifests, "Deployment")["spec"]["template"]["spec"]
    [source] = [m["data"]["SOURCE"] for m in manifests if "SOURCE" in m.get("data", {})]
    first, beside_it = spec["initContainers"]

    for container in (first, beside_it):
        name, *arguments = [a.replace("$(SOURCE)", source) for a in container["args"]]
        context = main.get_command(click.Context(main), name).make_context(name, arguments)
        assert (context.params["source"], context.params["into"]) == (source, Path("/models"))
        assert (context.params["watch"] is None) == (container is first)
        assert ("restartPolicy" in container) == (container is beside_it)
        assert {"name": "models", "mountPath": "/models"} in container["volumeMounts"]
    [container] = spec["containers"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert "source" not in str(container["envFrom"])


def test_the_source_of_the_page_replaces_that_of_the_component(tmp_path):
    """Both containers get the source and the region from the reader's own kustomization."""
    manifests = kustomize(OWN[1], beside(tmp_path))

    check(manifests)
    [values] = [m["data"] for m in manifests if "SOURCE" in m.get("data", {})]
    assert values == {"SOURCE": "s3://models/churn", "AWS_REGION": "eu-central-1"}


def test_the_job_trains_a_spec_of_the_image(render):
    """The spec exists, and is in the image of the job."""
    [pod] = [pod for name, pod in pods(render(("training",))) if name == "triceps-train"]
    command, spec = containers(pod)[0]["args"]

    assert command == "train"
    assert (ROOT / spec).is_file()
    assert "COPY training/specs training/specs" in (ROOT / "Dockerfile").read_text()
