"""A comparison of `triceps init` and `train`, with no edit, with scikit-learn on public tables.

    python -m benchmarks.tables [--splits N] [--tables penguins,iris] [--write]

For each table and split, three quarters of the rows become a spec and a model, and `triceps
predict` answers the rest; `peers/tables.py` does the same with a linear model and with boosted
trees, both with their defaults.  A table of several heads is trained once more with a model for
each of them.  Accuracy or R² is the mean of the splits.  With `--ludwig`, Ludwig learns the first
split of each table, too (`peers/ludwig_tables.py`).  `--write` writes TABLES.md.  It ends with 1 if
a goal is missed.
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
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from benchmarks import results
from service.commands.main import main as triceps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers" / "tables.py"
LUDWIG = ROOT / "benchmarks" / "peers" / "ludwig_tables.py"
PAGE = ROOT / "benchmarks" / "TABLES.md"
# The goals: the mean of all ratios, each of them, and the most that a head may lose to a model of
# its own.
MEAN, EACH, LOST = 0.99, 0.93, 0.01


@dataclass(frozen=True)
class Result:
    """The mean scores of one head, held out.

    `alone` is the score of a model that learns nothing else, of a table with several heads.
    `ludwig` is that of Ludwig on the first split, and `first` is ours on that split.
    """

    name: str
    rows: int
    kind: str
    ours: float
    linear: float
    trees: float
    alone: float | None = None
    ludwig: float | None = None
    first: float | None = None

    @property
    def ratio(self) -> float:
        """Our score in relation to the better of the two models."""
        return self.ours / max(self.linear, self.trees)

    @property
    def gained(self) -> float:
        """Our score less that of a model of its own; 0 if it is one."""
        return 0.0 if self.alone is None else self.ours - self.alone


@click.command()
@click.option("--splits", default=5, show_default=True, help="How many splits of each table.")
@click.option("--tables", default="", help="Some of the tables, as penguins,iris; all by default.")
@click.option(
    "--python",
    default=str(ROOT / "build" / "tables" / "venv" / "bin" / "python"),
    help="The Python with the packages of peers/tables.txt.",
)
@click.option("--ludwig", help="The Python with the packages of peers/ludwig.txt.")
@click.option("--write", is_flag=True, help="Write TABLES.md.")
def main(splits: int, tables: str, python: str, ludwig: str | None, *, write: bool) -> None:
    """Compare on some or all tables."""
    chosen = [name for name in tables.split(",") if name]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, PEERS, folder, str(splits), *chosen], check=True)
        if ludwig:
            subprocess.run([ludwig, LUDWIG, folder], check=True)
        found = list(_results(Path(folder)))
    text = _text(found)
    print(text)
    if write:
        PAGE.write_text(f"# Tables\n\n{_measured(splits)}\n\n{text}\n")
    ratios = [result.ratio for result in found]
    if fmean(ratios) < MEAN or min(ratios) < EACH or min(r.gained for r in found) < -LOST:
        sys.exit(1)


def _results(folder: Path) -> Iterator[Result]:
    """Train and score every head of every table, in the order of the tables."""
    heads: dict[str, dict[str, Any]] = {}
    beside = folder / "ludwig.json"
    ludwig = json.loads(beside.read_text()) if beside.exists() else {}
    for key, entry in json.loads((folder / "scores.json").read_text()).items():
        table, _, head = key.partition(".")
        heads.setdefault(table, {})[head] = entry
    for table, entries in heads.items():
        kinds = {head: entry["kind"] for head, entry in entries.items()}
        splits = range(len(next(iter(entries.values()))["scores"]))
        names = [f"{table}.{split}" for split in splits]
        ours = [_ours(folder, name, kinds, tuple(kinds)) for name in names]
        print(f"{table}: {ours}", flush=True)
        for head, entry in entries.items():
            alone = None
            if len(entries) > 1:
                alone = fmean(_ours(folder, name, kinds, (head,))[head] for name in names)
            yield Result(
                f"{table}: {head}",
                entry["rows"],
                entry["kind"],
                fmean(scores[head] for scores in ours),
                fmean(score["linear"] for score in entry["scores"]),
                fmean(score["trees"] for score in entry["scores"]),
                alone,
                ludwig.get(f"{table}.{head}"),
                ours[0][head],
            )


def _ours(
    folder: Path, name: str, kinds: dict[str, str], learned: tuple[str, ...]
) -> dict[str, float]:
    """Return the scores of a model that learns some heads of a table from one of its splits.

    The columns of all heads are no features, as for the peers.
    """
    own = folder / ".".join((name, *learned))
    own.mkdir()
    table, asked, answers, spec, models = (
        own / end for end in ("table.csv", "asked.csv", "answers.csv", "table.toml", "models")
    )
    _copy(folder / f"{name}.train.csv", table, kinds.keys() - learned)
    wanted = _copy(folder / f"{name}.test.csv", asked, kinds.keys())
    _run("init", table, *(word for head in learned for word in ("--head", head)), "--out", spec)
    _run("train", spec, "--models", models)
    _run("predict", "table", "--models", models, "--in", asked, "--out", answers)
    with answers.open(newline="") as file:
        answered = list(csv.DictReader(file))
    return {head: _score(head, kinds[head], wanted, answered) for head in learned}


def _copy(source: Path, target: Path, without: AbstractSet[str]) -> list[dict[str, str]]:
    """Copy a table without some columns, and return the rows of the whole."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with target.open("w", newline="") as file:
        kept = [column for column in rows[0] if column not in without]
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return rows


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


def _measured(splits: int) -> str:
    return (
        f"Measured {results.today()} UTC at commit {results.commit()} by"
        " `python -m benchmarks.tables --write`, which writes this page: the mean of"
        f" {splits} splits."
    )


def _text(found: list[Result]) -> str:
    """Return the page below its first line."""
    together = [result for result in found if result.alone is not None]
    ludwig = [result for result in found if result.ludwig is not None]
    parts = [_BESIDE, _beside(found)]
    if together:
        parts += [_ALONE, _alone(together)]
    if ludwig:
        parts += [_LUDWIG, _ludwig(ludwig)]
    return "\n\n".join(parts)


_BESIDE = """\
## Beside scikit-learn

A quarter of the rows of each table is held out, several times. `triceps init` and `train` with
no edit are compared with scikit-learn's logistic or ridge regression (scaled, one-hot) and its
histogram gradient boosting, with their defaults. The score is accuracy, or R² of a number. The
ratio is that of our score to the better of the two others. The sizes and settings that `init`
chooses were tuned on these tables together, so that a table of another kind may do worse."""

_ALONE = """\
## One model for several heads

A table with several heads is one model above. Here it is beside a model for each head, made in
the same way from the same splits; the column of another head is no feature of either."""


_LUDWIG = """\
## Beside Ludwig

Ludwig makes a model from such a list of columns, too. It learns the first split alone, and its
score is beside ours on that split. Its configuration is the default one, with two changes in its
favour: it holds no rows out for a test of its own, and it learns numbers standardised, since by
default it predicts a mass of 4,000 g as a few grams. Other settings would score better on the
smallest tables."""


def _beside(found: list[Result]) -> str:
    lines = [
        "| Table: head | Rows | Score | Triceps | Linear | Boosted trees | Ratio |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.name} | {r.rows:,} | {r.kind} | {r.ours:.3f} | {r.linear:.3f} | {r.trees:.3f}"
        f" | {r.ratio:.3f} |"
        for r in found
    ]
    ratios = [result.ratio for result in found]
    return "\n".join(lines) + (
        f"\n\nThe mean ratio is {fmean(ratios):.3f} (goal: {MEAN} or more), and the smallest is"
        f" {min(ratios):.3f} (goal: {EACH} or more)."
    )


def _alone(found: list[Result]) -> str:
    lines = [
        "| Table: head | Score | One model for all | One for this head | Difference |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {r.name} | {r.kind} | {r.ours:.3f} | {r.alone:.3f} | {r.gained:+.3f} |" for r in found
    ]
    gained = [result.gained for result in found]
    return "\n".join(lines) + (
        f"\n\nThe mean difference is {fmean(gained):+.3f}, and the smallest is"
        f" {min(gained):+.3f} (goal: -{LOST} or more)."
    )


def _ludwig(found: list[Result]) -> str:
    lines = ["| Table: head | Score | Triceps | Ludwig |", "|---|---|---:|---:|"]
    lines += [f"| {r.name} | {r.kind} | {r.first:.3f} | {r.ludwig:.3f} |" for r in found]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
