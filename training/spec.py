"""The spec of a model, in TOML, checked before anything heavy is imported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from service.errors import nearest
from training.head_spec import read_head
from training.input_spec import check_files, read_input
from training.toml_file import MODEL_NAME, Problems, TomlTable, is_text, is_whole, parse, read, show
from training.wiring import NODE, check_graph, check_names, check_shares

if TYPE_CHECKING:
    from pathlib import Path

    from training.head_spec import HeadSpec
    from training.input_spec import InputSpec

ALIGNS = ("position", "key", "sample")
SEEDS = 2**32
STRATIFIED = ("binary", "multiclass")


@dataclass(frozen=True)
class LayerSpec:
    """One Keras layer: class name and arguments, and the nodes it follows.

    `share` names an earlier layer whose weights this one uses (then `kind` is its kind).
    """

    name: str
    after: tuple[str, ...]
    kind: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    share: str | None = None


@dataclass(frozen=True)
class FitSpec:
    """The settings of the fit, with the names that Keras uses."""

    optimizer: str = "adam"
    optimizer_arguments: dict[str, Any] = field(default_factory=dict)
    epochs: int = 10
    batch_size: int = 32
    rows: int | None = None
    validation_split: float = 0.0
    test_split: float = 0.0
    stratify: str | None = None  # a head
    patience: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Spec:
    """The whole spec; `path` is its file, `digest` the SHA-256 of its text."""

    path: Path
    digest: str
    name: str
    inputs: dict[str, InputSpec]
    layers: dict[str, LayerSpec]
    heads: dict[str, HeadSpec]
    models: dict[str, tuple[str, ...]] = field(default_factory=dict)
    align: str = "position"
    fit: FitSpec = field(default_factory=FitSpec)


def load(path: Path) -> Spec:
    """Read and check the spec at `path`, without importing anything heavy.

    Raises:
        SpecError: the spec is wrong; every problem is a line `file: key: what is wrong`.
    """
    content = read(path)
    problems = Problems(path)
    root = TomlTable(problems, "", parse(path, content))
    name = root.text("name", required=True)
    if name is not None:
        root.check_name("name", name, MODEL_NAME)
    align = root.choice("align", ALIGNS, "position")
    inputs = {
        entry.at_name: read_input(entry, align) for entry in root.tables("inputs", required=True)
    }
    layers = {entry.at_name: _layer(entry) for entry in root.tables("layers")}
    heads = {
        entry.at_name: read_head(entry, inputs) for entry in root.tables("heads", required=True)
    }
    models = {
        entry.at_name: _view(entry, heads, name) for entry in root.tables("models", MODEL_NAME)
    }
    fit = _fit(root.table("fit"), heads)
    root.close()
    check_files(problems, inputs)
    check_shares(problems, {name: layer.share for name, layer in layers.items()})
    if check_names(problems, {"inputs": inputs, "layers": layers, "heads": heads}):
        check_graph(
            problems,
            {name: entry.image is not None for name, entry in inputs.items()},
            {name: layer.after for name, layer in layers.items()},
            {name: head.after for name, head in heads.items()},
        )
    problems.raise_any()
    layers = {
        key: replace(layer, kind=layers[layer.share].kind) if layer.share else layer
        for key, layer in layers.items()
    }
    digest = hashlib.sha256(content).hexdigest()
    return Spec(path, digest, name or "", inputs, layers, heads, models, align, fit)


def _layer(table: TomlTable) -> LayerSpec:
    after = table.one_or_more("after", NODE)
    share = table.text("share", "the name of a layer")
    # A key with a table is a layer class, even in lower case: `build` suggests the right name.
    kinds = [
        key
        for key, value in table.values.items()
        if key not in table.asked and (isinstance(value, dict) or key[:1].isupper())
    ]
    table.asked += kinds
    arguments: dict[str, Any] = {}
    for kind in kinds:
        value = table.values[kind]
        if not isinstance(value, dict):
            table.wrong(kind, f"a table of {kind}'s arguments ({{}} for none)", value)
            continue
        arguments = value
        if "name" in value:
            table.problem(f"{kind}.name", f"the layer's name is {table.at_name!r}; remove it")
    received = " and ".join(kinds)
    at = table.at
    if share is not None and kinds:
        table.problems.add(at, f"expected share or a layer class, received share and {received}")
        share = None
    elif share is None and "share" not in table.values and len(kinds) != 1:
        expected = "one Keras layer class with its arguments, as Dense = { units = 10 }"
        table.problems.add(at, f"expected {expected}; received {received or 'none'}")
    table.close()
    return LayerSpec(table.at_name, after, kinds[0] if kinds else "", arguments, share)


def _view(table: TomlTable, heads: dict[str, HeadSpec], spec_name: str | None) -> tuple[str, ...]:
    names = table.texts("heads", "an array of names of heads", required=True) or ()
    for name in names:
        if name not in heads:
            tail = nearest(name, heads) or f"; heads: {', '.join(heads)}"
            table.wrong("heads", "names of heads", name, tail)
    if spec_name is not None and table.at_name.lower() == spec_name.lower():
        table.problems.add(
            table.at, "named like the model itself, which serves all heads; rename it"
        )
    table.close()
    return names


def _fit(table: TomlTable, heads: dict[str, HeadSpec]) -> FitSpec:
    optimizer, arguments = _optimizer(table)
    split = table.number(
        "validation_split", "a number from 0 to less than 1", lambda value: 0 <= value < 1
    )
    test = table.number(
        "test_split", "a number from 0 to less than 1", lambda value: 0 <= value < 1
    )
    if (split or 0.0) + (test or 0.0) >= 1:
        table.problem("test_split", "leaves no rows to learn, together with validation_split")
    stratify = _stratify(table, heads, split or test)
    patience = table.whole("patience")
    if patience is not None and not split:
        table.problem("patience", "needs held-out rows to watch; set validation_split too")
    seed = table.take(
        "seed",
        "a whole number from 0 to 4294967295",
        lambda value: is_whole(value, 0) and value < SEEDS,
    )
    fit = FitSpec(
        optimizer=optimizer,
        optimizer_arguments=arguments,
        epochs=table.whole("epochs", FitSpec.epochs) or FitSpec.epochs,
        batch_size=table.whole("batch_size", FitSpec.batch_size) or FitSpec.batch_size,
        rows=table.whole("rows"),
        validation_split=split or 0.0,
        test_split=test or 0.0,
        stratify=stratify,
        patience=patience,
        seed=seed or 0,
    )
    table.close()
    return fit


def _stratify(table: TomlTable, heads: dict[str, HeadSpec], split: float | None) -> str | None:
    name = table.text("stratify", "the name of a binary or multiclass head")
    if name is None:
        return None
    kinds = {key: head.kind for key, head in heads.items()}
    known = [key for key, kind in kinds.items() if kind in STRATIFIED]
    if name not in known:
        received = f"the {kinds[name]} head {name}" if name in kinds else show(name)
        tail = nearest(name, known) or f"; there are {', '.join(known) or 'none'}"
        expected = "the name of a binary or multiclass head"
        table.problem("stratify", f"expected {expected}, received {received}{tail}")
        return None
    if not split:
        table.problem("stratify", "needs held-out rows; set validation_split too")
    return name


def _optimizer(table: TomlTable) -> tuple[str, dict[str, Any]]:
    value = table.take(
        "optimizer",
        "the name of a Keras optimizer, or { Name = { its arguments } }",
        lambda value: (
            is_text(value)
            or (
                isinstance(value, dict)
                and len(value) == 1
                and all(isinstance(arguments, dict) for arguments in value.values())
            )
        ),
    )
    optimizer, arguments = FitSpec.optimizer, {}
    if isinstance(value, str):
        optimizer = value
    elif value is not None:
        [(optimizer, arguments)] = value.items()
    rate = table.number("learning_rate", "a number over 0", lambda value: value > 0)
    if rate is not None and "learning_rate" in arguments:
        table.problem("learning_rate", f"given twice: here and in optimizer.{optimizer}")
    elif rate is not None:
        arguments = {**arguments, "learning_rate": rate}
    return optimizer, arguments
