"""The report of `make attack`: a line for each attack on the terminal, and a page of the docs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import report, results
from tests.attack.siege import CALM_TIMES, MEGABYTE, P99_SECONDS, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OUTCOMES = pytest.StashKey[list[Outcome]]()
PAGE = Path("docs/attack.md")
_COLUMNS = (
    *("attack", "calm p99 ms", "p99 ms", "longest ms", "lost", "wrong"),
    *("MB before", "peak", "after", "seconds", ""),
)
_WORST = (
    *("behaviour", "attacks", "p99 ms", "longest ms", "lost", "wrong"),
    *("MB grown", "MB kept"),
)


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield a Markdown table with a row for each attack, or nothing if there was none."""
    if not outcomes:
        return
    yield report.markdown(_COLUMNS)
    yield _rule(_COLUMNS)
    for outcome in outcomes:
        sizes = (outcome.before, outcome.peak, outcome.after)
        yield report.markdown(
            [
                str(outcome.case),
                *map(_milliseconds, (outcome.calm_p99, outcome.p99, outcome.longest)),
                *(str(outcome.count(what)) for what in ("lost", "wrong")),
                *(f"{size / MEGABYTE:.0f}" for size in sizes),
                f"{outcome.seconds:.1f}",
                _verdict(outcome),
            ]
        )


def _verdict(outcome: Outcome) -> str:
    if outcome.complaints:
        return "FAILED"
    return "over the goal" if outcome.p99 > outcome.goal else outcome.kept_out


def tables(outcomes: Sequence[Outcome]) -> list[report.Table]:
    """Return a table of promises and findings, and a table of the worst values by behaviour."""
    broken = sum(bool(outcome.complaints) for outcome in outcomes)
    slow = sum(outcome.p99 > outcome.goal for outcome in outcomes)
    slowest = max(outcomes, key=lambda outcome: outcome.p99)
    largest = max(outcomes, key=lambda outcome: outcome.grown)
    promises = [
        ["attacks after which a promise was broken", "0", f"{broken}"],
        ["attacks in which the caller's p99 was over its goal", "0", f"{slow}"],
        ["answers that were lost", "0", f"{_sum(outcomes, 'lost'):,}"],
        ["answers that were wrong", "0", f"{_sum(outcomes, 'wrong'):,}"],
        [
            "slowest p99 of the caller in an attack",
            f"≤ {P99_SECONDS * 1e3:.0f} ms, or {CALM_TIMES} times its calm value",
            f"{_milliseconds(slowest.p99)} ms ({slowest.case.behaviour})",
        ],
        [
            "most memory that a worker grew by in an attack",
            f"≤ {max(outcome.case.row.peak for outcome in outcomes)} MB",
            f"{largest.grown:.0f} MB ({largest.case.behaviour})",
        ],
    ]
    by_behaviour = defaultdict(list)
    for outcome in outcomes:
        by_behaviour[outcome.case.behaviour].append(outcome)
    worst = [
        [
            *(name, f"{len(of)}"),
            *(_milliseconds(max(outcome.p99 for outcome in of)),),
            *(_milliseconds(max(outcome.longest for outcome in of)),),
            *(f"{_sum(of, what):,}" for what in ("lost", "wrong")),
            f"{max(outcome.grown for outcome in of):.0f}",
            f"{max(outcome.kept for outcome in of):.0f}",
        ]
        for name, of in by_behaviour.items()
    ]
    return [
        report.Table("Promises", ("what", "promised", "found"), promises),
        report.Table("The worst of each behaviour", _WORST, worst),
    ]


def write(outcomes: Sequence[Outcome], path: Path = PAGE) -> None:
    """Write the page of the documentation."""
    machine = results.machine()
    measured = (
        f"Measured {results.today()} UTC at commit {results.commit()} by "
        "`make attack ARGS=--write`, which writes this page: "
        f"{len(outcomes)} attacks, {_sum(outcomes, 'right'):,} right answers to the caller. "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory']}, "
        f"{machine['system']}, which the service, the caller and the attacker shared."
    )
    about = (
        "A well-behaved client, the caller, sends rows whose answers are known to a service with "
        "two workers, in every dialect, while one hostile behaviour at a time attacks the service. "
        "Behaviours, tokens (none set; set, and the attacker has none; set, and the attacker may "
        "predict), TLS and the kinds of paths are combined so that every pair of them occurs. All "
        "answers must arrive and be the same to the last bit. Afterwards memory, descriptors and "
        "connections must be back to their values from before, and the log must contain no error."
    )
    text = ["# Attack", "", measured, "", about]
    for table in tables(outcomes):
        text += ["", f"## {table.title}", "", report.markdown(table.header), _rule(table.header)]
        text += map(report.markdown, table.rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")


def _rule(header: Sequence[str]) -> str:
    """Return the line below the header of a table whose first column is text."""
    return "|---|" + "---:|" * (len(header) - 1)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}"


def _sum(outcomes: Sequence[Outcome], what: str) -> int:
    return sum(outcome.count(what) for outcome in outcomes)
