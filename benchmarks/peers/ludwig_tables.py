"""The scores of Ludwig's models with its default configuration, on the splits of `tables.py`.

    python benchmarks/peers/ludwig_tables.py FOLDER

The first split of each table in FOLDER becomes one model of all its heads.  Texts are categories,
and columns that are constant, at which it stops, are left out.  Two defaults are changed, both in
Ludwig's favour: it holds no rows out as a test of its own, since the test is ours, and it learns a
number standardised, since in the number's own unit it learns next to nothing.  It chooses its batch
size by speed, so that another run may score otherwise.  This writes `ludwig.json`: by `TABLE.HEAD`,
the score.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from ludwig.api import LudwigModel

STOPPING = 0.1  # of the rows decide when the fit ends


def main(folder: Path) -> None:
    """Score each table."""
    kinds: dict[str, dict[str, str]] = {}
    for key, entry in json.loads((folder / "scores.json").read_text()).items():
        table, _, head = key.partition(".")
        kinds.setdefault(table, {})[head] = entry["kind"]
    scores: dict[str, float] = {}
    for table, heads in kinds.items():
        train, test = (folder / f"{table}.0.{part}.csv" for part in ("train", "test"))
        scores |= {f"{table}.{head}": score for head, score in _scores(train, test, heads).items()}
        print(f"Ludwig: {table}", flush=True)
        (folder / "ludwig.json").write_text(json.dumps(scores, indent=1))


def _scores(train: Path, test: Path, kinds: dict[str, str]) -> dict[str, float]:
    """Return the held-out scores of one model of all heads."""
    texts = {head: str for head, kind in kinds.items() if kind == "accuracy"}
    rows, asked = (pd.read_csv(path, dtype=texts) for path in (train, test))
    constant = {name for name in rows if len(rows[name].dropna().unique()) <= 1}
    numbers = {name for name in rows if pd.api.types.is_numeric_dtype(rows[name])}
    types = {name: "number" if name in numbers else "category" for name in rows}
    standardized = {"preprocessing": {"normalization": "zscore"}}
    config = {
        "input_features": [
            {"name": n, "type": t} for n, t in types.items() if n not in constant | kinds.keys()
        ],
        "output_features": [
            {"name": n, "type": types[n]} | (standardized if types[n] == "number" else {})
            for n in kinds
        ],
        "preprocessing": {"split": {"probabilities": [1 - STOPPING, STOPPING, 0]}},
    }
    model = LudwigModel(config, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as own:
        model.train(
            rows,
            output_directory=own,
            skip_save_processed_input=True,
            skip_save_log=True,
            skip_save_progress=True,
        )
        answers, _ = model.predict(asked.drop(columns=list(kinds)), output_directory=own)
    return {
        head: _score(kind, asked[head], answers[f"{head}_predictions"])
        for head, kind in kinds.items()
    }


def _score(kind: str, wanted: pd.Series, answers: pd.Series) -> float:
    """Return the accuracy or R², over the rows that have the target."""
    known = wanted.notna().to_numpy()
    right, answered = wanted.to_numpy()[known], answers.to_numpy()[known]
    if kind == "accuracy":
        return float(np.mean(right == answered.astype(str)))
    values = answered.astype(float)
    return float(1 - np.sum((right - values) ** 2) / np.sum((right - right.mean()) ** 2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
