"""A comparison of `triceps init` and `train`, with no edit, with scikit-learn on public tables.

    python -m benchmarks.tables [--splits N] [--tables penguins,iris] [--write]

For each table and split, three quarters of the rows become a spec and a model, and `triceps
predict` answers the rest; `peers/tables.py` does the same with a linear model and with boosted
trees, both with their defaults.  Accuracy or R² is the mean of the splits.  `--write` writes
TABLES.md.  It ends with 1 if a goal is missed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from benchmarks import results
from service.commands.main import main as triceps

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers" / "tables.py"
PAGE = ROOT / "benchmarks" / "TABLES.md"
# The goals: the mean of all ratios, and each of them.
MEAN, EACH = 0.99, 0.93


@dataclass(frozen=True)
class Result:
    """The mean scores of one head, held out, and the mean seconds of `init` and `train`."""

    name: str
    rows: int
    kind: str
    ours: float
    linear: float
    trees: float
    seconds: float

    @property
    def ratio(self) -> float:
        """Our score in relation to the better of the two models."""
        return self.ours / max(self.linear, self.trees)


@click.command()
@click.option("--splits", default=5, show_default=True, help="How many splits of each table.")
@click.option("--tables", default="", help="Some of the tables, as penguins,iris; all by default.")
@click.option(
    "--python",
    default=str(ROOT / "build" / "tables" / "venv" / "bin" / "python"),
    help="The Python with the packages of peers/tables.txt.",
)
@click.option("--write", is_flag=True, help="Write TABLES.md.")
def main(splits: int, tables: str, python: str, *, write: bool) -> None:
    """Compare on some or all tables."""
    chosen = [name for name in tables.split(",") if name]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, PEERS, folder, str(splits), *chosen], check=True)
        found = list(_results(Path(folder)))
    text = _table(found)
    print(text)
    if write:
        PAGE.write_text(f"# Tables\n\n{_measured(splits)}\n\n{EXPLAINED}\n\n{text}\n")
    if fmean(result.ratio for result in found) < MEAN or min(r.ratio for r in found) < EACH:
        sys.exit(1)


def _results(folder: Path) -> Iterator[Result]:
    """Train and score every head of every table, in the order of the tables."""
    heads: dict[str, dict[str, Any]] = {}
    for key, entry in json.loads((folder / "scores.json").read_text()).items():
        table, _, head = key.partition(".")
        heads.setdefault(table, {})[head] = entry
    for table, entries in heads.items():
        splits = range(len(next(iter(entries.values()))["scores"]))
        ours = [_ours(folder, f"{table}.{split}", entries) for split in splits]
        print(f"{table}: {ours}", flush=True)
        for head, entry in entries.items():
            yield Result(
                f"{table}: {head}",
                entry["rows"],
                entry["kind"],
                fmean(scores[head] for scores, _ in ours),
                fmean(score["linear"] for score in entry["scores"]),
                fmean(score["trees"] for score in entry["scores"]),
                fmean(seconds for _, seconds in ours),
            )


def _ours(folder: Path, name: str, entries: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Return our score of each head of one split, and the seconds of `init` and `train`."""
    train, test = folder / f"{name}.train.csv", folder / f"{name}.test.csv"
    spec, models, answers = (folder / f"{name}.{end}" for end in ("toml", "models", "csv"))
    heads = [word for head in entries for word in ("--head", head)]
    begun = time.monotonic()
    _run("init", train, *heads, "--name", "table", "--out", spec)
    _run("train", spec, "--models", models)
    seconds = time.monotonic() - begun
    with test.open(newline="") as file:
        wanted = list(csv.DictReader(file))
    asked = folder / f"{name}.asked.csv"
    with asked.open("w", newline="") as file:
        features = [column for column in wanted[0] if column not in entries]
        writer = csv.DictWriter(file, features, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(wanted)
    _run("predict", "table", "--models", models, "--in", asked, "--out", answers)
    with answers.open(newline="") as file:
        answered = list(csv.DictReader(file))
    return {
        head: _score(head, entries[head]["kind"], wanted, answered) for head in entries
    }, seconds


def _run(*arguments: object) -> None:
    """Run a command of the program, silently unless it fails."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = triceps.main([str(word) for word in arguments], standalone_mode=False)
    except BaseException:
        print(said.getvalue(), file=sys.stderr)
        raise
    if code:
        print(said.getvalue(), file=sys.stderr)
        sys.exit(f"{arguments[0]} ended with {code}")


def _score(
    head: str, kind: str, wanted: list[dict[str, str]], answered: list[dict[str, str]]
) -> float:
    """Return the accuracy or R² of a head, over the rows that have its target."""
    pairs = [(row[head], answer) for row, answer in zip(wanted, answered, strict=True) if row[head]]
    if kind == "accuracy":
        # A label that is true or false has the spelling of the file.
        return fmean(answer[f"{head}.label"] == label for label, answer in pairs)
    values = [float(value) for value, _ in pairs]
    mean = fmean(values)
    left = math.fsum((float(value) - float(answer[head])) ** 2 for value, answer in pairs)
    return 1 - left / math.fsum((value - mean) ** 2 for value in values)


EXPLAINED = """\
A quarter of the rows of each table is held out, several times. `triceps init` and `train` with
no edit are compared with scikit-learn's logistic or ridge regression (scaled, one-hot) and its
histogram gradient boosting, with their defaults. The score is accuracy, or R² of a number. The
ratio is that of our score to the better of the two others. The seconds are those of `init` and
`train` for one split, on a machine that does other work too. The sizes and settings that `init`
chooses were tuned on these tables together, so that a table of another kind may do worse."""


def _measured(splits: int) -> str:
    return (
        f"Measured {results.today()} UTC at commit {results.commit()} by"
        " `python -m benchmarks.tables --write`, which writes this page: the mean of"
        f" {splits} splits."
    )


def _table(found: list[Result]) -> str:
    lines = [
        "| Table: head | Rows | Score | Triceps | Linear | Boosted trees | Ratio | Seconds |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.name} | {r.rows:,} | {r.kind} | {r.ours:.3f} | {r.linear:.3f} | {r.trees:.3f}"
        f" | {r.ratio:.3f} | {r.seconds:.0f} |"
        for r in found
    ]
    ratios = [result.ratio for result in found]
    lines.append("")
    lines.append(
        f"The mean ratio is {fmean(ratios):.3f} (goal: {MEAN} or more), and the smallest is"
        f" {min(ratios):.3f} (goal: {EACH} or more)."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
