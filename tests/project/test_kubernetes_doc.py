"""The manifests and clients of docs/kubernetes.md agree with the service."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from service import settings as all_settings
from service.api import authorization
from service.api.grpc import health, methods
from service.app import create_app
from service.http.http2 import streams
from service.http.timeouts import Timeouts
from tests.harness import documents, small
from tests.harness.calls import HEALTH, Client
from tests.harness.served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = documents.PAGES["docs/kubernetes.md"]
MANIFESTS = [
    manifest
    for block in documents.blocks(PAGE, "yaml")
    for manifest in yaml.safe_load_all(block)
    # tests/project/test_kubernetes_manifests.py has the others.
    if manifest["kind"] not in {"Kustomization", "InferenceService"}
]
SETTINGS = {entry.name: entry for entry in fields(all_settings.Settings)}
PORT = SETTINGS["port"].default


def _containers() -> Iterator[dict[str, Any]]:
    for manifest in MANIFESTS:
        if "template" in manifest["spec"]:
            yield from manifest["spec"]["template"]["spec"]["containers"]


def test_every_manifest_names_the_port_of_the_image():
    """Containers, probes and Services have the default port, or its name."""
    numbers = {port["containerPort"] for found in _containers() for port in found["ports"]}
    names = {port["name"] for found in _containers() for port in found["ports"]}
    services = [found for found in MANIFESTS if found["apiVersion"] == "v1"]

    assert numbers == {PORT}
    assert names == {"http", "h2c"}
    assert [port["targetPort"] for found in services for port in found["spec"]["ports"]] == [
        "http"
    ] * len(services)


def test_probes_need_no_token():
    """A probe has no token: its path is open, or it asks gRPC about the whole service."""
    probes = [probe for found in _containers() for key, probe in found.items() if "Probe" in key]

    assert [probe["httpGet"]["path"] for probe in probes if "httpGet" in probe] == ["/livez"]
    assert [probe["grpc"] for probe in probes if "grpc" in probe] == [{"port": PORT}]
    assert {"/livez", "/readyz"} <= set(authorization.OPEN)
    assert f"{HEALTH}/Check".encode() in methods.OPEN


def test_nginx_passes_every_method_as_grpc_and_every_route_as_rest(tmp_path):
    """The pattern of the location is right for all methods, and for no route."""
    [configuration] = documents.blocks(PAGE, "nginx")
    [pattern] = re.findall(r"location ~ (\S+) \{ grpc_pass", configuration)
    small.put(tmp_path, "three", 1, small.three())
    routes = create_app(all_settings.load({}, models=tmp_path)).url_map.iter_rules()

    assert all(re.match(pattern, path.decode()) for path in methods.METHODS)
    assert [route.rule for route in routes if re.match(pattern, route.rule)] == []
    assert "client_max_body_size 16m;" in configuration
    assert SETTINGS["max_body"].default == 16 * 2**20


def test_numbers_are_those_of_the_service():
    """The page has the limits on the streams and the idle time of a connection."""
    assert f"At most {streams.MAX_STREAMS} of its calls" in PAGE
    assert f"idle for {Timeouts().idle:g} s" in PAGE


@pytest.mark.parametrize("code", documents.blocks(PAGE, "python"))
def test_channels_of_the_page_reach_the_service(code, tmp_path):
    """The code makes channels that can be used, and each has a connection of its own."""
    small.put(tmp_path, "three", 1, small.three())
    served = Served(tmp_path)
    try:
        names: dict[str, Any] = {}
        exec(re.sub(r"triceps(-pods)?:8080", f"localhost:{served.port}", code), names)  # noqa: S102
        channels = names.get("channels") or [names["channel"]]
        for channel in channels:
            calls = Client(served.port)
            calls.close()
            calls.channel = channel
            assert calls.check().answer.status == health.SERVING

        assert len(served.front.connections.open) == len(channels)
        for channel in channels:
            channel.close()
    finally:
        served.stop()
