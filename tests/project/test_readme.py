"""The README tells the truth: every route, command, setting and figure in it is the code's."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from service import settings as all_settings
from service.app import create_app
from service.inference.model import Model

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROTOCOLS = (ROOT / "docs" / "protocols.md").read_text()


def test_every_route_is_there():
    """With its method; those of other servers' protocols in a file of their own."""
    app = create_app(all_settings.load({}, models=ROOT / "models"))
    missing = [
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if f"`{method} {rule.rule}`" not in README + PROTOCOLS
    ]
    assert missing == []


def test_no_route_is_made_up():
    """What the table of routes names, the app has."""
    app = create_app(all_settings.load({}, models=ROOT / "models"))
    known = {rule.rule for rule in app.url_map.iter_rules()}
    named = set(re.findall(r"`(?:GET|POST) (/[^`?]*)`", README + PROTOCOLS))
    assert named - known == set()


@pytest.mark.parametrize(
    "command", [entry.name for entry in metadata.entry_points(group="triceps.commands")]
)
def test_every_command_is_there(command):
    """In the table of commands."""
    assert re.search(rf"^\| `triceps {command}\b", README, re.MULTILINE)


@pytest.mark.parametrize("entry", fields(all_settings.Settings), ids=lambda entry: entry.name)
def test_every_setting_is_there(entry):
    """With its variables, its flag and its default."""
    row = next(
        line for line in README.splitlines() if f"| `{all_settings.variable(entry)}`" in line
    )
    also = entry.metadata["also"]

    assert f"`--{entry.name.replace('_', '-')}`" in row
    assert all(f"`{name}`" in row for name in also)
    assert entry.default == "" or f"`{entry.default}`" in row


def test_no_setting_is_made_up():
    """Every `TRICEPS_*` that is named is one."""
    known = {all_settings.variable(entry) for entry in fields(all_settings.Settings)}
    assert set(re.findall(r"TRICEPS_[A-Z_]+", README)) - known <= {"TRICEPS_"}


def test_scores_are_those_of_the_shipped_model():
    """They are read from the file itself."""
    model = Model.load(ROOT / "models" / "triceps" / "1" / "model.onnx")
    for head, score in model.signature.provenance["scores"].items():
        columns = [score["metric"]]
        # Recorded in the digits of a float32, and meant as one.
        columns += [f"{np.float32(score[key]):.4f}" for key in ("train", "held_out", "baseline")]
        row = next(line for line in README.splitlines() if line.startswith(f"| {head}:"))
        assert [cell.strip() for cell in row.strip("|").split("|")][1:] == columns


def test_shipped_model_was_made_from_the_shipped_spec():
    """Its provenance names the very text of the spec."""
    from training import spec

    model = Model.load(ROOT / "models" / "triceps" / "1" / "model.onnx")
    shipped = spec.load(ROOT / "training" / "specs" / "triceps.toml")

    assert model.signature.provenance["spec_sha256"] == shipped.digest


def test_spec_in_the_readme_is_the_one_that_ships():
    """But for its comments."""
    shown = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    shipped = (ROOT / "training" / "specs" / "three_heads.toml").read_text()

    assert shown is not None
    assert tomllib.loads(shown[1]) == tomllib.loads(shipped)


def test_links_lead_somewhere():
    """Files that are linked to are in the repository."""
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_first_answer_is_on_the_second_screen_at_the_latest():
    """A screen is about 40 lines."""
    lines = README.splitlines()
    assert next(i for i, line in enumerate(lines) if '"predictions"' in line) < 80


def test_the_answer_that_is_shown_is_the_answer():
    """Of the shipped model to its own example, but for what processors differ in."""
    client = create_app(all_settings.load({}, models=ROOT / "models")).test_client()
    shown = json.loads(next(line for line in README.splitlines() if '"predictions":[{' in line))
    [row] = shown.pop("predictions")

    answer = client.post("/predict", json=client.get("/models/triceps/example").get_json())
    said = answer.get_json()
    [answered] = said.pop("predictions")

    assert said == shown
    for head, prediction in answered.items():
        assert prediction["label"] == row[head]["label"]
        assert prediction["value"] == pytest.approx(row[head]["value"], abs=1e-5)


def test_the_problems_that_are_shown_are_those_of_the_body():
    """Word for word."""
    client = create_app(all_settings.load({}, models=ROOT / "models")).test_client()
    body = re.search(r"-d '(\{\"instances\": \[\{\"insurence.*?)'\n(.*?)```", README, re.DOTALL)
    assert body is not None

    answer = client.post("/predict", json=json.loads(body[1]))

    assert answer.get_json() == json.loads(body[2])
