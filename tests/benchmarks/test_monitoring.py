"""The cost of watching a model: what is told to the services, and the table beside none of it."""

import pytest

from benchmarks import monitoring
from benchmarks.commits import Side
from service import settings
from service.repository import traffic


@pytest.mark.parametrize("way", monitoring.WAYS, ids=lambda way: way.name)
def test_a_service_accepts_what_it_is_told(way, tmp_path):
    """Settings and shares exist, and one way differs from another in what it watches alone."""
    environment = monitoring.server(way, tmp_path).environment
    models = monitoring.repository(tmp_path, b"model", way.traffic)
    loaded = settings.load(environment)
    shares = traffic.read(models / "seed/traffic.json")

    assert loaded.policy == "pinned"
    assert loaded.drift == {"drift-heads": "heads", "drift-features": "features"}.get(
        way.name, "features" if way.name == "all" else "off"
    )
    assert (loaded.sample > 0, loaded.access_log == "on") == (
        way.name in {"sample", "all"},
        way.name in {"access-log", "all"},
    )
    assert (shares.shadow is not None, shares.canary is not None) == (
        way.name in {"shadow", "all"},
        way.name in {"canary", "all"},
    )
    versions = {path.parent.name for path in models.glob("seed/*/model.onnx")}
    assert versions == ({"1", "2"} if way.traffic else {"1"})
    assert way.name in monitoring.ABOUT


def test_a_way_is_beside_the_service_that_watches_nothing():
    """Ratios are those of the same round, and the middle one counts."""
    turns = []
    for number, machine in enumerate((1.0, 0.5, 2.0)):
        for way in monitoring.WAYS:
            part = {"drift-heads": 0.98, "all": (0.5, 0.8, 0.9)[number]}.get(way.name, 1.0)
            side = Side(10_000 * machine * part, 50 / part, number)
            memory = 100 + (0 if way.name == "off" else 2.5)
            turns.append(monitoring.Turn(way.name, number, side, memory, f"{number} rows"))

    rows = {row[0]: row[1:] for row in monitoring.table(turns).rows}

    off = ["10,000", "1.000 (1.000 to 1.000)", "", "50.0", "1.000 (1.000 to 1.000)"]
    assert rows["nothing (`TRICEPS_DRIFT=off`)"] == [*off, "100", "+0.0", "3", "2 rows"]
    drift = rows["drift of answers, the default"]
    assert drift[1:5] == ["0.980 (0.980 to 0.980)", "≥ 0.97", "51.0", "1.020 (1.020 to 1.020)"]
    assert drift[5:7] == ["102", "+2.5"]
    assert rows["all of these"][1] == "0.800 (0.650 to 0.850)"


def test_drift_takes_less_than_a_megabyte_of_the_model():
    """The table has its own memory, that which workers share, and both."""
    model = monitoring.Model.load(monitoring.models.seed())

    for setting, *sizes in monitoring.memory(model).rows:
        own, shared, together = (int(size.removesuffix(" kB").replace(",", "")) for size in sizes)
        assert setting in {"heads", "features"}
        assert 0 < together < 1000
        assert abs(own + shared - together) <= 1
