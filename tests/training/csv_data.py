"""Small CSV files, and the specs and data that they become."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from training import data, rows
from training.head_spec import HeadSpec
from training.input_spec import InputSpec
from training.spec import FitSpec, Spec

if TYPE_CHECKING:
    from pathlib import Path

AGES = "age,bought\n20,0\n30,1\n40,1\n"


def make(
    folder: Path,
    inputs: list[InputSpec],
    heads: list[HeadSpec] | None = None,
    align: str = "position",
    rows: int | None = None,
) -> Spec:
    """Return a spec in `folder`; by default one binary head `o` learns the first target."""
    if heads is None:
        heads = [HeadSpec("o", (inputs[0].name,), "binary", ((inputs[0].name, None),))]
    return Spec(
        path=folder / "spec.toml",
        digest="",
        name="m",
        inputs={entry.name: entry for entry in inputs},
        layers={},
        heads={head.name: head for head in heads},
        align=align,
        fit=FitSpec(rows=rows),
    )


def head(
    kind: str = "binary", *columns: str | int | None, name: str = "o", **more: Any
) -> HeadSpec:
    """Return a head over columns of the input `a`."""
    return HeadSpec(
        name, ("a",), kind, tuple(("a", column) for column in columns or (None,)), **more
    )


def load(
    folder: Path, text: str, *heads: HeadSpec, rows: int | None = None, **more: Any
) -> rows.Data:
    """Load `a.csv` with this text as the input `a`."""
    (folder / "a.csv").write_bytes(text.encode())
    entry = InputSpec("a", "a.csv", **more)
    return data.load(make(folder, [entry], list(heads) or None, rows=rows))


def source(folder: Path, text: str, *heads: HeadSpec, **more: Any) -> Any:
    """Load as `load` does; return the one source with its inputs and labels."""
    loaded = load(folder, text, *heads, **more)
    [one] = loaded.sources.values()
    return SimpleNamespace(**vars(one), inputs=loaded.inputs, labels=loaded.labels)


def two(
    folder: Path,
    first: str,
    second: str,
    align: str,
    key: str | None = None,
    *,
    missing: tuple[str | None, str | None] = (None, None),
) -> rows.Data:
    """Load two files of one input each, with a binary head `o` and a regression `p`."""
    (folder / "a.csv").write_text(first, "utf-8")
    (folder / "b.csv").write_text(second, "utf-8")
    inputs = [InputSpec("a", "a.csv", key=key), InputSpec("b", "b.csv", key=key)]
    heads = [
        head(missing=missing[0]),
        HeadSpec("p", ("b",), "regression", (("b", None),), missing=missing[1]),
    ]
    return data.load(make(folder, inputs, heads, align=align))


def refused(error: type[Exception], *parts: str) -> Any:
    """Expect `error` with a message that has every part, in order."""
    return pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts)))
