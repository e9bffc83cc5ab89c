"""Execution providers on the hardware of this machine, by a real `triceps serve`.

`make accelerators` runs these tests with the ONNX Runtime that has OpenVINO, which computes on any
x86-64 processor.  Others run wherever the installed ONNX Runtime has them.
"""

import json

import onnxruntime
import pytest

from tests.harness import small
from tests.harness.serving import Server

# By provider: options with which it works, and others with which it cannot be set up.
PROVIDERS = {
    "OpenVINOExecutionProvider": ({"device_type": "CPU"}, {"device_type": "GPU.7"}),
    "CUDAExecutionProvider": ({"device_id": "0"}, {"device_id": "99"}),
}
ROWS = [
    {"insurance": {"age": age, "bmi": 20.5}, "fruit": [age / 7, 2.5], "digit": [1, 2, 3, 4]}
    for age in range(20, 60)
]


@pytest.fixture(params=PROVIDERS, name="provider")
def _provider(request):
    """Return a provider of this ONNX Runtime, with right and wrong options as TOML."""
    if request.param not in onnxruntime.get_available_providers():
        pytest.skip(f"the installed ONNX Runtime has no {request.param}: docs/accelerators.md")
    return request.param, *map(_settings, [request.param] * 2, PROVIDERS[request.param])


def _settings(provider, options):
    lines = [f'{key} = "{value}"' for key, value in options.items()]
    return "\n".join([f'provider = "{provider}"', "[provider_options]", *lines])


def predictions(server):
    """Return the values of all heads for many rows."""
    body, headers = json.dumps({"instances": ROWS}).encode(), {"Content-Type": "application/json"}
    status, _, content = server.ask("POST", "/models/three/predict", body, headers)
    assert status == 200, content
    answers = json.loads(content)["predictions"]
    return [value["value"] for row in answers for value in row.values()]


def test_a_model_changes_its_provider_while_it_serves(tmp_path, provider):
    """Answers, page and metrics are right; what cannot be set up is refused, and leaves it."""
    name, right, wrong = provider
    models = tmp_path / "models"
    small.put(models, "three", 1, small.three())
    file = models / "three" / "settings.toml"
    with Server("--models", models, "--watch", "0.1", "--workers", "2", folder=tmp_path) as server:

        def page(path="/models/three"):
            return server.get(path)[1]

        server.until_ready()
        expected = predictions(server)
        file.write_text(right)
        server.until(lambda: "provider" in page() or page("/models")["refused"])
        proven = page()
        answers = predictions(server)
        metrics = server.ask("GET", "/metrics")[2].decode()
        file.write_text(wrong)
        server.until(lambda: page("/models")["refused"])
        [refused] = page("/models")["refused"]

        assert proven["provider"]["name"] == name
        assert proven["provider"]["difference"] <= 1e-4
        assert proven["batching"]["evidence"] == "trial"
        assert answers == [pytest.approx(value, rel=1e-4, abs=1e-4) for value in expected]
        assert f'provider="{name}"' in metrics
        assert name in refused["reason"]
        assert page()["provider"] == proven["provider"]
        assert predictions(server) == answers


def test_a_provider_of_the_service_runs_every_model(tmp_path, provider):
    """Without a working one there is nothing to serve: the CPU is no substitute."""
    name, _, _ = provider
    models = tmp_path / "models"
    for other in ("three", "plant"):
        small.put(models, other, 1, small.three())
    environment = {"TRICEPS_PROVIDER": name}
    with Server("--models", models, folder=tmp_path, environment=environment) as server:
        server.until_ready()
        names = [
            server.get(f"/models/{model}")[1]["provider"]["name"] for model in ("three", "plant")
        ]

    assert names == [name] * 2
