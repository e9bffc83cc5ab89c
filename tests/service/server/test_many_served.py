"""A real service with more models than are loaded at its start, and less memory than they take."""

import json
import threading

import pytest

from service.repository.budget import FIRST
from tests.harness import small
from tests.harness.changing import BAD
from tests.harness.served import JSON
from tests.harness.serving import Server
from tests.harness.waiting import until

MODELS = FIRST + 8
BODY = json.dumps({"instances": [{"fruit": [1, 1]}], "heads": ["size"]}).encode()


@pytest.fixture(name="many")
def _many(tmp_path):
    """Return a repository of forty models that each answer with another number; the last has two.

    The newest version of the last one cannot serve.
    """
    for number in range(MODELS):
        small.put(tmp_path / "models", f"m{number:02}", 1, small.three(number + 1))
    small.put(tmp_path / "models", f"m{MODELS - 1:02}", 2, BAD)
    return tmp_path


def answer(service, number):
    """Return the status and the answer of a model."""
    status, _, content = service.ask("POST", f"/models/m{number:02}/predict", BODY, JSON)
    return status, json.loads(content)["predictions"][0]["size"][
        "value"
    ] if status == 200 else content


def states(service):
    """Return the number of versions in each state, as a worker has it."""
    listed = [v for m in service.get("/models")[1]["models"] for v in m["versions"].values()]
    return {state: listed.count(state) for state in ("loaded", "on demand")}


def test_all_models_are_answered_within_a_budget_for_some(many):
    """Two workers let go of models for others, and every request gets its own model's answer."""
    # A model takes between a half and two megabytes in each of two workers.
    options = ("--models", many / "models", "--workers", 2, "--memory", 30 * 10**6)
    with Server(*options, folder=many) as service:
        service.until_ready()
        wrong = []

        def call(step):
            for turn in range(2 * MODELS):
                number = (turn * step) % MODELS
                if (got := answer(service, number)) != (200, 2.0 * (number + 1)):
                    wrong.append((number, got))

        callers = [threading.Thread(target=call, args=(step,)) for step in (1, 7, 11)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

        assert wrong == []
        assert states(service)["on demand"] > 0
        assert states(service)["loaded"] > 0
        # What nobody asked for has been tried by now, too.
        until(lambda: service.get("/models/none")[0] == 404)
        assert [entry["version"] for entry in service.get("/models")[1]["refused"]] == ["2"]


def test_with_room_for_all_a_service_is_ready_before_all_are_loaded(many):
    """The pages list every model at once, in parts where that is wanted."""
    with Server("--models", many / "models", "--workers", 2, folder=many) as service:
        service.until_ready()
        names = [f"m{number:02}" for number in range(MODELS)]
        first = service.get("/models?limit=30")[1]
        rest = service.get(f"/models?limit=30&after={first['next']}")[1]

        assert service.get("/readyz")[1]["models"] == names
        assert service.get("/v1/models")[1]["models"] == names
        assert [entry["name"] for entry in first["models"] + rest["models"]] == names
        assert (first["next"], "next" in rest) == ("m29", False)
        index = json.loads(service.ask("POST", "/v2/repository/index", b'{"ready": true}', JSON)[2])
        assert [entry["name"] for entry in index] == names
        for wrong in ("0", "x", "-1", "1e3", "%C2%B2", ""):
            assert service.get(f"/models?limit={wrong}")[0] == 400
        until(lambda: states(service) == {"loaded": MODELS, "on demand": 0})
        assert service.get("/v2/models/m39/ready") == (200, {"name": "m39", "ready": True})
