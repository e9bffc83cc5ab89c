"""Findings: a verdict for each feature and head, and the worst first."""

from dataclasses import replace

import numpy as np
import pytest

from service.inference.model import Model
from service.insight.drift.counting import Layout
from service.insight.drift.findings import findings
from service.insight.drift.quantities import columns, quantities
from service.insight.drift.record import record
from tests.harness import small

NAMES = [f"f{n}" for n in range(9)]


def _rows(rng, count):
    return rng.normal(size=(count, 9)).astype(np.float32)


def _layout(table):
    """Return the layout of a model of nine numbers and one head, their sum."""
    signature = Model.load(small.wide_table(9, 0.0)).signature
    chosen = quantities(signature)
    arrays = {"table": table, "total": table.sum(axis=1, keepdims=True)}
    reference = record(chosen, columns(chosen, arrays, {}), {})
    return Layout(replace(signature, reference=reference))


def _found(layout, table, missing=None):
    arrays = {"table": table, "total": table.sum(axis=1, keepdims=True)}
    return findings(layout, layout.count(arrays, missing or {}))


def test_what_has_changed_comes_first_with_its_numbers():
    """One feature has shifted and one is missing; the others and their numbers are in order."""
    rng = np.random.default_rng(1)
    layout = _layout(_rows(rng, 3000))
    table = _rows(rng, 1000)
    table[:, 4] += 2
    found = _found(layout, table, {"table.f7": np.arange(200)})

    shifted, missing, *others = found["features"]
    assert (shifted["feature"], shifted["verdict"]) == ("table.f4", "drift")
    assert shifted["psi"] > 2
    assert shifted["out_of_range"] == pytest.approx(0.07, abs=0.05)
    assert (missing["feature"], missing["verdict"]) == ("table.f7", "drift")
    assert (missing["missing"], shifted["missing"]) == (0.2, 0)
    assert {one["verdict"] for one in others} == {"no drift"}
    assert [one["psi"] for one in others] == sorted((one["psi"] for one in others), reverse=True)
    (head,) = found["heads"]
    assert (head["head"], head["verdict"], head["rows"]) == ("total", "drift", 1000)
    assert list(shifted) == [
        *("feature", "verdict", "psi", "bound", "jensen_shannon", "missing", "unseen"),
        *("out_of_range", "rows", "rows_needed", "reference_rows"),
    ]
    assert (shifted["unseen"], shifted["rows"], shifted["reference_rows"]) == (None, 1000, 3000)


def test_few_rows_have_no_verdict():
    """The verdict says how many it takes; no rows have no numbers either."""
    rng = np.random.default_rng(2)
    layout = _layout(_rows(rng, 3000))

    none = findings(layout, layout.count({}, {}))["features"][0]
    few = _found(layout, _rows(rng, 30))["features"][0]

    needed = few["rows_needed"]
    assert none["verdict"] == f"too few rows: 0 of {needed}"
    assert (none["psi"], none["bound"], none["jensen_shannon"], none["missing"]) == (None,) * 4
    assert few["verdict"] == f"too few rows: 30 of {needed}"
    assert _found(layout, _rows(rng, needed))["features"][0]["verdict"] == "no drift"


def test_an_obvious_drift_does_not_wait_for_all_rows():
    """It is said once chance cannot explain it; "no drift" takes more rows."""
    rng = np.random.default_rng(3)
    layout = _layout(_rows(rng, 3000))

    first = _found(layout, 5 + _rows(rng, 60))["features"][0]

    assert first["verdict"] == "drift"
    assert first["rows"] < first["rows_needed"]


def test_a_small_reference_has_no_verdict_but_drift():
    """No number of rows makes up for a reference of few; the verdict says how many it takes."""
    rng = np.random.default_rng(4)
    layout = _layout(_rows(rng, 60))

    first = _found(layout, _rows(rng, 5000))["features"][0]

    assert first["verdict"].startswith("too few rows in the reference: 60 of ")
    assert first["rows_needed"] is None
    assert _found(layout, 5 + _rows(rng, 5000))["features"][0]["verdict"] == "drift"


def test_a_change_that_does_not_matter_is_no_drift():
    """Of very many rows, chance explains hardly any change; small ones are none all the same."""
    rng = np.random.default_rng(5)
    layout = _layout(_rows(rng, 50_000))

    found = _found(layout, 0.1 + _rows(rng, 50_000))["features"]

    assert all(one["psi"] > one["bound"] for one in found)
    assert {one["verdict"] for one in found} == {"no drift"}


def test_a_model_without_drift_raises_an_alarm_in_one_of_a_hundred_windows():
    """The chance of a false alarm is that of all ten quantities together."""
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(300):
        layout = _layout(_rows(rng, 300))
        found = _found(layout, _rows(rng, 300))
        alarms += any(one["verdict"] == "drift" for side in found.values() for one in side)

    assert alarms <= 10
