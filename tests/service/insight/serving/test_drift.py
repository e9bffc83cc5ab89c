"""What several processes have counted of a version, and of others of the same name."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from service.inference.model import Model
from service.insight.serving import drift_meter
from service.insight.serving.drift import Drift
from service.insight.serving.windows import ALL, WINDOWS
from service.observability.metrics import Metrics
from service.observability.shared_memory import SharedNumbers
from service.repository.loader import Servable
from service.run import Part, Run
from service.wire.body import Imputed
from service.wire.paths import row_of
from tests.harness import drifting

if TYPE_CHECKING:
    from collections.abc import Sequence


def load(content: bytes, version: str = "1") -> Servable:
    """Return a version of a model."""
    model = Model.load(content)
    return Servable("three", version, model, model.signature)


@pytest.fixture(name="servable", scope="module")
def _servable():
    return load(drifting.three())


def answer(
    drift: Drift, servable: Servable, rows: int, imputed: Sequence[Imputed] = (), seed: int = 3
) -> None:
    """Answer rows of one run, whose missing values are those of its first request."""
    arrays = drifting.arrays(drifting.instances(rows, seed))
    outputs = servable.model.predict(arrays, list(servable.signature.heads))
    run = Run(rows, 0.0, 0.0, outputs, inputs=arrays)
    meter = drift.meter(servable)
    meter.answered(Part(run, 0, rows), imputed)


def rows_of(drift: Drift, servable: Servable) -> int:
    """Return the rows that were counted of a version."""
    return drift.counted(servable, ALL).rows


def test_processes_are_added_and_a_successor_goes_on(servable):
    """Whichever is asked tells the same, and one that was killed in a write leaves its counts."""
    shared = SharedNumbers(2)
    first, second = (Drift("features", Metrics(shared, slot)) for slot in (0, 1))
    answer(first, servable, 10)
    first.vectors()
    answer(second, servable, 5)
    assert rows_of(second, servable) == 15

    shared.vectors[0].header[0] += 1
    successor = Drift("features", Metrics(shared, 0))
    answer(successor, servable, 3)
    for drift in (successor, second):
        for window in WINDOWS.values():
            counted = drift.counted(servable, window)
            assert (counted.rows, counted.share) == (18, 1.0)


def test_another_reference_begins_anew(servable):
    """So does another version; a file that is loaded again with the same reference goes on."""
    drift = Drift("heads", Metrics())
    answer(drift, servable, 10)
    assert rows_of(drift, servable) == 10

    again, other = load(drifting.three()), load(drifting.three(1000, 2))
    assert rows_of(drift, again) == 10
    assert rows_of(drift, other) == 0
    assert drift.counted(other, ALL).since is None
    answer(drift, other, 4)
    assert (rows_of(drift, other), rows_of(drift, servable)) == (4, 10)
    assert rows_of(drift, load(drifting.three(), "2")) == 0


def test_rows_of_requests_in_flight_are_counted(servable):
    """They are of the meter that their version had when they came."""
    drift = Drift("heads", Metrics())
    meter, replaced = drift.meter(servable), load(drifting.three())
    assert drift.meter(replaced) is not meter

    arrays = drifting.arrays(drifting.instances(7, 3))
    outputs = servable.model.predict(arrays, list(servable.signature.heads))
    meter.answered(Part(Run(7, 0.0, 0.0, outputs), 0, 7), ())

    assert rows_of(drift, replaced) == 7


def test_a_version_that_is_unloaded_keeps_nothing_in_memory():
    """Only its counts stay."""
    drift = Drift("features", Metrics())
    gone = load(drifting.three(), "9")
    answer(drift, gone, 2)
    meter = drift.meter(gone)
    del gone
    gc.collect()

    assert meter.signature() is None
    drift.meter(load(drifting.three()))
    assert [numbers for name, numbers in drift.vectors().items() if name[2] == "9"]


def test_defaults_of_missing_values_are_counted_as_missing(servable):
    """Also if the request that has them is not the first of its run, or comes after a count."""
    drift = Drift("features", Metrics())
    arrays = drifting.arrays(drifting.instances(4, 5))
    arrays["insurance"][2:, 0] = 38  # the default of the age
    outputs = servable.model.predict(arrays, list(servable.signature.heads))
    run = Run(4, 0.0, 0.0, outputs, inputs=arrays)
    meter = drift.meter(servable)
    missing = [Imputed(f"instances[{row}].insurance.age", 38, "insurance.age") for row in (0, 1)]

    meter.answered(Part(run, 0, 2), ())
    drift.vectors()
    meter.answered(Part(run, 2, 4), missing)
    meter.answered(Part(run, 2, 4), [Imputed("instances[0].x", 1, "unknown.x")])

    ages = next(
        one
        for one in drift.counted(servable, ALL).findings()["features"]
        if one["feature"] == "insurance.age"
    )
    assert (ages["rows"], ages["missing"]) == (4, 0.5)


@pytest.mark.parametrize("at", ["instances[{}].insurance", "line {}, insurance"])
def test_some_of_very_many_missing_values_stand_for_all(servable, monkeypatch, at):
    """Each is looked at in the event loop, and a body may miss a quarter of a million."""
    looked = []
    monkeypatch.setattr(drift_meter, "row_of", lambda path: looked.append(path) or row_of(path))
    drift = Drift("features", Metrics())
    rows = 50_000
    arrays = {
        name: np.resize(array, (rows, *array.shape[1:]))
        for name, array in drifting.arrays(drifting.instances(1, 5)).items()
    }
    arrays["insurance"][::2, 0] = 38  # the default of the age
    arrays["insurance.smoker"][::2] = "no"
    outputs = servable.model.predict({n: a[:1] for n, a in arrays.items()}, ["risk"])
    run = Run(rows, 0.0, 0.0, {"risk": np.resize(outputs["risk"], rows)}, inputs=arrays)
    missing = [
        Imputed(f"{at.format(row)}.{name}", default, f"insurance.{name}")
        for row in range(0, rows, 2)
        for name, default in (("age", 38), ("smoker", "no"))
    ]
    drift.meter(servable).answered(Part(run, 0, rows), missing)

    found = {one["feature"]: one for one in drift.counted(servable, ALL).findings()["features"]}
    assert 0 < len(looked) <= drift_meter.MOST_NOTES
    # Six standard deviations of some 300 notes.
    for name in ("insurance.age", "insurance.smoker"):
        assert found[name]["missing"] == pytest.approx(0.5, abs=0.2)
