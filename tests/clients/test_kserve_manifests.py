"""The manifests of deploy/kserve have the fields of KServe's own classes, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kserve.models
import kubernetes.client
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).parents[2] / "deploy" / "kserve"
FILES = sorted(DEPLOY.glob("*.yaml"))
KINDS = {
    ("serving.kserve.io/v1alpha1", "ClusterServingRuntime"): "V1alpha1ClusterServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}
PLAIN = {"str": str, "bool": bool, "int": int, "float": (int, float)}


def unknown(value: Any, kind: str, at: str) -> Iterator[str]:
    """Yield the places below a value that its type does not have, or that have another type.

    Args:
        value: the value, as it is in the manifest.
        kind: the type as the client's classes name it, such as `list[V1Container]`; mappings
            are `dict(str, str)` to KServe and `Dict[str, str]` to Kubernetes.
        at: the place of the value.
    """
    made = getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind, None)
    if kind in PLAIN or not isinstance(value, dict | list):
        # All others than these are classes, or texts such as a quantity.
        if not isinstance(value, PLAIN.get(kind, object)) or hasattr(made, "openapi_types"):
            yield at
    elif listed := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        for number, entry in enumerate(value):
            yield from unknown(entry, listed[1], f"{at}[{number}]")
    elif mapped := re.fullmatch(r"[Dd]ict[\[(]str, (.*)[\])]", kind):
        for key, entry in value.items():
            yield from unknown(entry, mapped[1], f"{at}.{key}")
    else:
        names = {theirs: ours for ours, theirs in made.attribute_map.items()}
        for key, entry in value.items():
            if key in names:
                yield from unknown(entry, made.openapi_types[names[key]], f"{at}.{key}")
            else:
                yield f"{at}.{key}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_field_is_one_of_kserve(file):
    """KServe and Kubernetes have each field, and it has their type."""
    manifest = yaml.safe_load(file.read_text())
    kind = KINDS[manifest["apiVersion"], manifest["kind"]]

    assert list(unknown(manifest, kind, file.stem)) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"minReplica": 1}, "p.spec.predictor.minReplica"),
        ({"minReplicas": "1"}, "p.spec.predictor.minReplicas"),
        ({"containers": [{"name": "a", "imag": "b"}]}, "p.spec.predictor.containers[0].imag"),
        ({"model": {"modelFormat": {"nam": "onnx"}}}, "p.spec.predictor.model.modelFormat.nam"),
    ],
)
def test_a_wrong_field_is_found(change, place):
    """A misspelled field is found at any depth, in the classes of both projects."""
    manifest = {"spec": {"predictor": change}}

    assert list(unknown(manifest, "V1beta1InferenceService", "p")) == [place]


def test_an_inference_service_asks_the_runtime_for_what_it_offers():
    """Its format and its protocol are among those of the runtime, which is not chosen otherwise."""
    manifests = [yaml.safe_load(file.read_text()) for file in FILES]
    [runtime] = [found for found in manifests if found["kind"] == "ClusterServingRuntime"]
    formats = {entry["name"]: entry for entry in runtime["spec"]["supportedModelFormats"]}
    models = [m["spec"]["predictor"]["model"] for m in manifests if m is not runtime]

    assert len(models) >= 4
    assert {model["runtime"] for model in models} == {runtime["metadata"]["name"]}
    assert {model["modelFormat"]["name"] for model in models} == {*formats}
    assert {m["protocolVersion"] for m in models} < {*runtime["spec"]["protocolVersions"]}
    assert [entry["autoSelect"] for entry in formats.values()] == [False]
