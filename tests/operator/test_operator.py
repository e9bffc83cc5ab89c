"""An operator watches a model and replaces it, by commands and pages alone, and fails nobody."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import count
from math import sqrt
from typing import Any

import pytest

from tests.harness import customers
from tests.operator.operator import NAME, Operator

HOURS = 24
# The requests of an hour, and the rows of each.
REQUESTS, ROWS = 5, 100
# One share in a million that is seen is further from the true one.
DEVIATIONS = 5
IDS = [f"visit-{number}" for number in range(1000)]
# The rows that are compared with those of a shadow.
COMPARED = 1000
RETREATED = "triceps_canary_retreated", NAME, "3"
SLOW = rf"{NAME}, version 3: the canary is asked no more, since the median of its \d+ runs takes "


def interval(share: float, number: int) -> tuple[float, float]:
    """Return the interval of a true share, of which this one was seen in so many cases (Wilson)."""
    square = DEVIATIONS**2 / number
    middle = (share + square / 2) / (1 + square)
    half = sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return middle - half, middle + half


def send_a_day(operator: Operator, day: int, *, months: int = 1) -> None:
    """Send the rows of a day, each hour over a new connection."""
    for hour in range(HOURS):
        rows = customers.rows(REQUESTS * ROWS, HOURS * day + hour, months=months)
        starts = range(0, len(rows), ROWS)
        operator.ask((f"{day}-{hour}-{start}", rows[start : start + ROWS]) for start in starts)


def visit(operator: Operator, names: list[str]) -> dict[str, str]:
    """Send requests of one row over several connections; return the versions that answered."""
    row = customers.rows(1, 1)
    versions = {}
    for start in range(0, len(names), 50):
        versions |= operator.ask((name, row) for name in names[start : start + 50])
    return versions


def drifted(report: dict[str, Any]) -> list[str]:
    """Return the features and heads with the verdict drift, in the order of the report."""
    found = [*report["features"], *report["heads"]]
    return [one.get("feature", one.get("head")) for one in found if one["verdict"] == "drift"]


def watch_for_drift(operator: Operator) -> None:
    """See nothing after a day, and the changed feature first after the next."""

    def counts_all(page: dict[str, Any]) -> bool:
        return round(page["rows"] / page["share"]) == operator.rows

    send_a_day(operator, 1)
    usual = operator.page_with(counts_all, "/drift")
    # A client has begun to send the income of a year.
    send_a_day(operator, 2, months=12)
    page = operator.page_with(counts_all, "/drift")
    operator.until(lambda: operator.sampled() == operator.rows)
    offline = operator.facts("drift", NAME, "--in", f"samples/{NAME}")

    assert drifted(usual) == []
    for report in (page, offline):
        first = report["features"][0]
        assert first["feature"] == "customer.income"
        assert first["out_of_range"] > 0
        # The head that depends on it has drifted too, and the other one has not.
        assert drifted(report) == ["customer.income", "value"]
    assert offline["rows"] == operator.rows


def compare_a_shadow(operator: Operator) -> None:
    """See how often the next version differs, on the page and by the command."""
    operator.publish(2, "--reference", "train.csv")
    operator.share("--shadow", 2, "--share", "10%")
    days = count(3)

    def has_enough(page: dict[str, Any]) -> bool:
        if page["rows"] < COMPARED:
            send_a_day(operator, next(days))
        return bool(page["rows"] >= COMPARED)

    page = operator.page_with(has_enough, "/compare")
    diff = operator.facts("diff", f"{NAME}@stable", f"{NAME}@2", "--in", f"samples/{NAME}")

    assert (page["version"], page["with"], page["stopped"]) == ("1", "2", None)
    for report in (page, diff):
        churn, value = report["heads"]["churn"], report["heads"]["value"]
        least, most = interval(churn["labels_differ"], report["rows"])
        assert least < customers.DISAGREEMENT < most
        assert churn["mean"] == pytest.approx(customers.DIFFERENCE, abs=1e-5)
        assert value["largest"] == 0
    assert {version for _, version in operator.answered} == {"1"}


def try_a_canary(operator: Operator) -> None:
    """Give a version a share of the requests, and then all."""
    operator.share("--shadow", "off", "--canary", 2, "--share", "5%")
    versions = visit(operator, IDS)
    drawn = [name for name in IDS if versions[name] == "2"]
    again = visit(operator, [*drawn, *IDS[:100]])

    least, most = interval(len(drawn) / len(IDS), len(IDS))
    assert least < 0.05 < most
    assert again.items() <= versions.items()
    assert "reason" not in operator.page()["traffic"]["canary"]

    operator.run("alias", NAME, "stable", 2)
    operator.page_with(lambda page: page["version"] == "2")
    operator.share("--off")
    assert set(visit(operator, IDS[:200]).values()) == {"2"}


def see_a_canary_retreat(operator: Operator) -> None:
    """Give a slow version a share, which it loses by itself."""
    operator.publish(3)
    operator.share("--canary", 3, "--share", "25%")
    numbers = count()

    def ask() -> set[str]:
        return set(visit(operator, [f"late-{next(numbers)}" for _ in range(100)]).values())

    assert ask() == {"2", "3"}
    operator.until(lambda: ask() == {"2"})
    canary = operator.page_with(lambda page: "reason" in page["traffic"]["canary"])
    canary = canary["traffic"]["canary"]
    operator.until(lambda: operator.metrics().get(RETREATED) == 1)
    operator.until(lambda: re.search(SLOW, operator.server.said()))

    assert canary["reason"].startswith("it is asked no more, since the median of its ")
    assert canary["retreat"]["canary"]["seconds"] > canary["retreat"]["stable"]["seconds"]
    assert len(re.findall(SLOW, operator.server.said())) == 1

    operator.share("--off")
    assert ask() == {"2"}
    operator.until(lambda: RETREATED not in operator.metrics())


def by_status(operator: Operator) -> dict[tuple[str, str], float]:
    """Return the predictions by status and version, as the service counts them."""
    return {
        (status, version): number
        for (name, *labels), number in operator.metrics().items()
        if name == "triceps_requests_total"
        for dialect, _, status, version in [labels]
        if dialect == "native"
    }


def test_an_operator_watches_a_model_and_replaces_it(tmp_path):
    """Drift is named, a shadow compared, a canary promoted and a slow one given up."""
    operator = Operator(tmp_path)
    (tmp_path / "train.csv").write_text(customers.csv(customers.rows(2000, 1)))
    operator.publish(1, "--reference", "train.csv")
    operator.run("alias", NAME, "stable", 1)
    with operator.serving():
        watch_for_drift(operator)
        with operator.visited():
            compare_a_shadow(operator)
            try_a_canary(operator)
            see_a_canary_retreat(operator)
        # Those of the other worker are a second late.
        operator.until(lambda: sum(by_status(operator).values()) >= operator.answered.total())
        counted = by_status(operator)
        operator.server.end()
    logged = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]

    # Nobody was failed, as both the metrics and the access log know.
    by_version = Counter(version for _, version in operator.answered.elements())
    assert counted == {("200", version): number for version, number in by_version.items()}
    posted = [line for line in logged if line["method"] == "POST"]
    assert {line["status"] for line in posted} == {200}
    assert Counter((one["request_id"], one["version"]) for one in posted) == operator.answered
