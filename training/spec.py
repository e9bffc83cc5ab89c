"""The spec: what a model should be, in TOML, checked before anything heavy is imported."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from service.errors import nearest
from service.kinds import HEAD_KINDS, LABELLED, THRESHOLDED, label_count
from training.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Input:
    """One input: a CSV file and what of it goes in.

    Features are `columns`, or every column that no head has as its target (where a head's
    target is just this input's name, that is `target`: the last column unless given).
    """

    name: str
    csv: str
    header: bool = True
    target: str | int | None = None
    columns: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    image: tuple[int, ...] | None = None
    key: str | None = None


@dataclass(frozen=True)
class Layer:
    """One Keras layer: class name and arguments, and the nodes it follows.

    `share` names an earlier layer whose weights this one uses (then `kind` is its kind).
    """

    name: str
    after: tuple[str, ...]
    kind: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    share: str | None = None


@dataclass(frozen=True)
class Head:
    """One head: a Dense layer by its kind, with the target it learns.

    `targets` are (input name, column) pairs; column `None` is the input's own `target`.
    Several only for multilabel and for a vector regression.
    """

    name: str
    after: tuple[str, ...]
    kind: str
    targets: tuple[tuple[str, str | int | None], ...]
    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    loss: str | None = None
    loss_weight: float = 1.0
    metric: str | None = None
    class_weights: dict[str, float] | str | None = None  # by label, or "balanced"
    arguments: dict[str, Any] = field(default_factory=dict)  # more arguments for its Dense


@dataclass(frozen=True)
class Fit:
    """How to fit, under the names Keras users know."""

    optimizer: str = "adam"
    optimizer_arguments: dict[str, Any] = field(default_factory=dict)
    epochs: int = 10
    batch_size: int = 32
    rows: int | None = None
    validation_split: float = 0.0
    patience: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Spec:
    """The whole spec; `path` is its file, `digest` the SHA-256 of its text."""

    path: Path
    digest: str
    name: str
    inputs: dict[str, Input]
    layers: dict[str, Layer]
    heads: dict[str, Head]
    models: dict[str, tuple[str, ...]] = field(default_factory=dict)
    align: str = "position"
    fit: Fit = field(default_factory=Fit)


ALIGNS = ("position", "key", "sample")
KINDS = tuple(kind for kind in HEAD_KINDS if kind != "tensor")  # a tensor has no loss
OPTIMIZER = "adam"
SEEDS = 2**32
LARGEST = 4 * 2**20  # bytes of a file; the names of 100,000 columns have room

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NAME_RULE = "a letter or underscore, then letters, digits, _ or -"
_NODE = "the name of an input, layer or head, or of an input's text column (input.column)"
_LONGEST = 60
_IMAGE_AXES = (2, 3)


def load(path: Path) -> Spec:
    """Read and check the spec at `path`, without importing anything heavy.

    Raises:
        SpecError: the file is no spec; every problem is a line `file: key: what is wrong`.
    """
    content = _read(path)
    problems = _Problems(path)
    root = _Table(problems, "", _parse(path, content))
    name = root.text("name", required=True)
    if name is not None:
        _check_name(root, "name", name)
    align = root.choice("align", ALIGNS, "position")
    inputs = {entry.at_name: _input(entry, align) for entry in root.tables("inputs", required=True)}
    layers = {entry.at_name: _layer(entry) for entry in root.tables("layers")}
    heads = {entry.at_name: _head(entry, inputs) for entry in root.tables("heads", required=True)}
    models = {entry.at_name: _view(entry, heads, name) for entry in root.tables("models")}
    fit = _fit(root.table("fit"))
    root.close()
    _check_files(problems, inputs)
    _check_shares(problems, layers)
    if _check_names(problems, inputs, layers, heads):
        _check_graph(problems, inputs, layers, heads)
    problems.raise_any()
    layers = {
        key: replace(layer, kind=layers[layer.share].kind) if layer.share else layer
        for key, layer in layers.items()
    }
    digest = hashlib.sha256(content).hexdigest()
    return Spec(path, digest, name or "", inputs, layers, heads, models, align, fit)


class _Problems:
    """What is wrong with one spec, gathered so that all of it is told at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []

    def add(self, at: str, text: str) -> None:
        self.lines.append(f"{self.path}: {at}: {text}")

    def raise_any(self) -> None:
        if self.lines:
            raise SpecError("\n".join(self.lines))


class _Table:
    """One TOML table, its place in the file, and the keys asked of it so far.

    A getter that finds the wrong thing notes the problem and gives the default, so that
    reading goes on; `close` then reports the keys that nobody asked for.
    """

    def __init__(self, problems: _Problems, at: str, values: dict[str, Any]) -> None:
        self.problems = problems
        self.at = at
        self.at_name = at.rpartition(".")[2]
        self.values = values
        self.asked: list[str] = []

    def key(self, key: str) -> str:
        return f"{self.at}.{key}" if self.at else key

    def problem(self, key: str, text: str) -> None:
        self.problems.add(self.key(key), text)

    def wrong(self, key: str, expected: str, received: object, tail: str = "") -> None:
        self.problem(key, f"expected {expected}, received {_show(received)}{tail}")

    def take(
        self, key: str, expected: str, fits: Callable[[Any], bool], *, required: bool = False
    ) -> Any:
        """The value of `key`, or `None` where it is missing or (noted) does not fit."""
        self.asked.append(key)
        if key not in self.values:
            if required:
                self.problem(key, f"missing; expected {expected}")
            return None
        value = self.values[key]
        if fits(value):
            return value
        self.wrong(key, expected, value)
        return None

    def text(self, key: str, expected: str = "a text", *, required: bool = False) -> str | None:
        value: str | None = self.take(key, expected, _is_text, required=required)
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        expected = f"one of {', '.join(choices)}"
        value = self.text(key, expected)
        if value is None:
            return default
        if value not in choices:
            self.wrong(key, expected, value, nearest(value, choices))
            return default
        return value

    def texts(self, key: str, expected: str, *, required: bool = False) -> tuple[str, ...] | None:
        """An array of distinct texts, at least one."""
        value = self.take(key, expected, _is_texts, required=required)
        if value is None:
            return None
        return self.distinct(key, value)

    def one_or_more(self, key: str, expected: str) -> tuple[str, ...]:
        """A text, or an array of distinct ones; empty where it is missing or wrong."""
        value = self.take(
            key,
            f"{expected}, or an array of them",
            lambda given: _is_text(given) or _is_texts(given),
            required=True,
        )
        if value is None:
            return ()
        return self.distinct(key, [value] if isinstance(value, str) else value)

    def distinct(self, key: str, values: list[str]) -> tuple[str, ...]:
        counts = Counter(values)
        twice = sorted(value for value, times in counts.items() if times > 1)
        if twice:
            self.problem(key, f"{_show(twice[0])} is there {counts[twice[0]]} times")
        return tuple(dict.fromkeys(values))

    def whole(self, key: str, default: int | None = None) -> int | None:
        value = self.take(key, "a whole number, 1 or more", lambda given: _is_whole(given, 1))
        return default if value is None else int(value)

    def number(self, key: str, expected: str, fits: Callable[[float], bool]) -> float | None:
        value = self.take(key, expected, lambda given: _is_number(given) and fits(given))
        return None if value is None else float(value)

    def table(self, key: str) -> _Table:
        value = self.take(key, "a table", lambda given: isinstance(given, dict))
        return _Table(self.problems, self.key(key), value or {})

    def tables(self, key: str, *, required: bool = False) -> Iterator[_Table]:
        """The named tables below `key`, each with its name checked."""
        found = self.table(key)
        if required and not found.values and isinstance(self.values.get(key, {}), dict):
            self.problem(key, f"missing; expected at least one table [{key}.<name>]")
        for name, values in found.values.items():
            if not isinstance(values, dict):
                found.wrong(name, "a table", values)
                continue
            _check_name(found, name, name)
            yield _Table(self.problems, found.key(name), values)

    def close(self) -> None:
        for key in self.values:
            if key not in self.asked:
                tail = nearest(key, self.asked) or f"; known: {', '.join(self.asked)}"
                self.problem(key, f"no such key{tail}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        there = sorted(entry.name for entry in path.parent.glob("*.toml"))
        text = f"{path}: no such file{nearest(path.name, there)}"
        raise SpecError(text) from error
    except OSError as error:
        text = f"{path}: expected a spec (a TOML file), but: {error.strerror}"
        raise SpecError(text) from error
    if len(content) > LARGEST:
        raise SpecError(f"{path}: expected a spec of at most {LARGEST:,} bytes, received more")
    return content


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        # Editors on Windows put a byte order mark first, which TOML does not know.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = (
            f"{path}: line {line}: not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        )
        raise SpecError(text) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: {_explain(str(error))}") from error
    except RecursionError as error:
        raise SpecError(f"{path}: brackets are nested too deeply") from error
    except ValueError as error:  # Python converts no longer ones
        raise SpecError(f"{path}: a number has more than 4,300 digits") from error


def _explain(message: str) -> str:
    """Put the line in front of tomllib's message, and a name given twice in the spec's words."""
    place = re.fullmatch(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    said, line = (place[1], place[2]) if place else (message, None)
    where = f"line {line}" if line else "at the end"
    twice = re.fullmatch(r"Cannot declare \((.*)\) twice", said)
    if twice:
        name = ".".join(re.findall(r"'([^']*)'", twice[1]))
        return f"{where}: a second [{name}]; every name is given once"
    if said == "Cannot overwrite a value":
        return f"{where}: a key that is given twice; every key is given once"
    return f"{where}: not TOML: {said}"


def _input(table: _Table, align: str) -> Input:
    csv = table.text("csv", "the name of a CSV file", required=True)
    header = table.take("header", "true or false", lambda given: isinstance(given, bool))
    # What is no flag is told once: a column by number may be right then.
    named = header is True or "header" not in table.values
    column = "the name of a column" if named else "a column: a name or a number from 0"

    def is_column(given: object) -> bool:
        return _is_text(given) or (not named and _is_whole(given, 0))

    def read_columns(key: str) -> tuple[str, ...] | None:
        expected = f"an array of {'column names' if named else 'columns: names or numbers from 0'}"
        given = table.take(
            key, expected, lambda value: isinstance(value, list) and all(map(is_column, value))
        )
        return table.distinct(key, list(map(str, given))) if given else None

    target = table.take("target", column, is_column)
    columns = read_columns("columns")
    categorical = read_columns("categorical") or ()
    image = table.take("image", "[height, width] or [height, width, channels]", _is_image)
    key = table.take("key", f"{column} that joins the files", is_column)
    if image is not None:
        for name in ("columns", "categorical"):
            if name in table.values:
                table.problem(name, "an image takes all its columns; remove it, or image")
    if align == "key" and "key" not in table.values:
        table.problem("key", 'missing; align = "key" needs the joining column of every input')
    if align != "key" and key is not None:
        table.problem("key", f'only read with align = "key"; here align = "{align}"')
    table.close()
    return Input(
        name=table.at_name,
        csv=csv or "",
        header=header is not False,
        target=target,
        columns=columns,
        categorical=categorical,
        image=None if image is None else tuple(image),
        key=None if key is None else str(key),
    )


def _layer(table: _Table) -> Layer:
    after = table.one_or_more("after", _NODE)
    share = table.text("share", "the name of a layer")
    # A key with a table is a layer class, capital or not: Keras tells the right name later.
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
    found = " and ".join(kinds)
    at = table.at
    if share is not None and kinds:
        table.problems.add(at, f"expected share or a layer class, received share and {found}")
        share = None
    elif share is None and "share" not in table.values and len(kinds) != 1:
        expected = "one Keras layer class with its arguments, as Dense = { units = 10 }"
        table.problems.add(at, f"expected {expected}; received {found or 'none'}")
    table.close()
    return Layer(table.at_name, after, kinds[0] if kinds else "", arguments, share)


def _head(table: _Table, inputs: dict[str, Input]) -> Head:
    after = table.one_or_more("after", _NODE)
    kind = _kind(table)
    given = table.one_or_more("target", "the name of an input (its target) or input.column")
    targets = _targets(table, kind, given, inputs)
    labels = _labels(table, kind, len(targets) if len(targets) == len(given) else None)
    threshold = table.number("threshold", "a number between 0 and 1", lambda value: 0 < value < 1)
    if threshold is not None and kind is not None and kind not in THRESHOLDED:
        table.problem("threshold", f"only binary and multilabel heads have one; this is {kind}")
    weight = table.number("loss_weight", "a number over 0", lambda value: value > 0)
    dense = table.table("Dense")
    for argument in ("name", "units"):
        if argument in dense.values:
            why = "the head's own" if argument == "name" else "set by the kind and its labels"
            dense.problem(argument, f"is {why}; remove it")
    head = Head(
        name=table.at_name,
        after=after,
        kind=kind or "binary",
        targets=targets,
        labels=labels,
        threshold=threshold,
        loss=table.text("loss", "the name of a Keras loss"),
        loss_weight=1.0 if weight is None else weight,
        metric=table.text("metric", "the name of a Keras metric"),
        class_weights=_class_weights(table, kind, labels),
        arguments=dense.values,
    )
    table.close()
    return head


def _kind(table: _Table) -> str | None:
    expected = f"one of {', '.join(KINDS)}"
    kind = table.text("kind", expected, required=True)
    if kind is not None and kind not in KINDS:
        table.wrong("kind", expected, kind, nearest(kind, KINDS))
        return None
    return kind


def _targets(
    table: _Table, kind: str | None, given: tuple[str, ...], inputs: dict[str, Input]
) -> tuple[tuple[str, str | int | None], ...]:
    targets: list[tuple[str, str | int | None]] = []
    for text in given:
        name, dot, column = text.partition(".")
        if name not in inputs:
            tail = nearest(name, inputs) or f"; inputs: {', '.join(inputs)}"
            table.wrong("target", "the name of an input (or input.column)", text, tail)
        elif dot and not column:
            table.wrong("target", "input.column", text)
        elif not dot:
            targets.append((name, None))
        else:
            number = not inputs[name].header and column.isdecimal()
            targets.append((name, int(column) if number else column))
    if len(given) > 1 and kind in ("binary", "multiclass"):
        expected = f"one target, as the head is {kind}"
        table.problem("target", f"expected {expected}, received {len(given)}")
    files = sorted({inputs[name].csv for name, _ in targets})
    if len(files) > 1:
        table.problem("target", f"expected targets of one file, received {' and '.join(files)}")
    return tuple(targets)


def _labels(table: _Table, kind: str | None, targets: int | None) -> tuple[str, ...] | None:
    labels = table.texts("labels", 'an array of texts, as ["no", "yes"]')
    if labels is None:
        return None
    count = len(labels)
    if kind is not None and kind not in LABELLED:
        table.problem("labels", "a regression head has none")
    elif kind == "binary" and count != label_count(kind, 1):
        table.problem("labels", f"expected 2 labels, as the head is binary, received {count}")
    elif kind == "multiclass" and count == 1:
        table.problem("labels", "expected 2 labels or more, received 1")
    elif kind == "multilabel" and targets is not None and count != label_count(kind, targets):
        expected = f"one label for each of the {targets} targets"
        table.problem("labels", f"expected {expected}, received {count}")
    return labels


def _class_weights(
    table: _Table, kind: str | None, labels: tuple[str, ...] | None
) -> dict[str, float] | str | None:
    value = table.take(
        "class_weights",
        '"balanced" or a table of numbers by label',
        lambda given: given == "balanced" or (isinstance(given, dict) and bool(given)),
    )
    if value is None:
        return None
    if kind in ("multilabel", "regression"):
        table.problem(
            "class_weights", f"only binary and multiclass heads have them; this is {kind}"
        )
    if value == "balanced":
        return "balanced"
    for label, weight in value.items():
        at = f"class_weights.{label}"
        if not _is_number(weight) or weight < 0:
            table.wrong(at, "a number, 0 or more", weight)
        if labels is not None and label not in labels:
            tail = nearest(label, labels) or f"; labels: {', '.join(labels)}"
            table.problem(at, f"no such label{tail}")
    return dict(value)


def _view(table: _Table, heads: dict[str, Head], spec_name: str | None) -> tuple[str, ...]:
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


def _fit(table: _Table) -> Fit:
    optimizer, arguments = _optimizer(table)
    split = table.number(
        "validation_split", "a number from 0 to less than 1", lambda value: 0 <= value < 1
    )
    patience = table.whole("patience")
    if patience is not None and not split:
        table.problem("patience", "needs held-out rows to watch; set validation_split too")
    seed = table.take(
        "seed",
        "a whole number from 0 to 4294967295",
        lambda given: _is_whole(given, 0) and given < SEEDS,
    )
    fit = Fit(
        optimizer=optimizer,
        optimizer_arguments=arguments,
        epochs=table.whole("epochs", Fit.epochs) or Fit.epochs,
        batch_size=table.whole("batch_size", Fit.batch_size) or Fit.batch_size,
        rows=table.whole("rows"),
        validation_split=split or 0.0,
        patience=patience,
        seed=seed or 0,
    )
    table.close()
    return fit


def _optimizer(table: _Table) -> tuple[str, dict[str, Any]]:
    value = table.take(
        "optimizer",
        "the name of a Keras optimizer, or { Name = { its arguments } }",
        lambda given: (
            _is_text(given)
            or (
                isinstance(given, dict)
                and len(given) == 1
                and all(isinstance(arguments, dict) for arguments in given.values())
            )
        ),
    )
    optimizer, arguments = OPTIMIZER, {}
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


def _check_name(table: _Table, key: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        table.wrong(key, f"a name ({_NAME_RULE})", name)


def _check_names(
    problems: _Problems,
    inputs: dict[str, Input],
    layers: dict[str, Layer],
    heads: dict[str, Head],
) -> bool:
    """Inputs, layers and heads are nodes of one graph: whether no two have one name."""
    seen: dict[str, str] = {}
    distinct = True
    for section, names in (("inputs", inputs), ("layers", layers), ("heads", heads)):
        for name in names:
            at = f"{section}.{name}"
            other = seen.setdefault(name.lower(), at)
            if other.rpartition(".")[2] != name:
                problems.add(at, f"differs from {other} in case alone; rename one of them")
            elif other != at:
                problems.add(at, f"{other} has that name too; rename one of them")
                distinct = False
    return distinct


def _check_files(problems: _Problems, inputs: dict[str, Input]) -> None:
    """Inputs of one file must agree on what that file is."""
    first: dict[str, Input] = {}
    for name, entry in inputs.items():
        other = first.setdefault(entry.csv, entry)
        for key in ("header", "key"):
            mine, theirs = getattr(entry, key), getattr(other, key)
            if mine != theirs:
                expected = f"{_show(theirs)} as inputs.{other.name} has it for the same file"
                problems.add(f"inputs.{name}.{key}", f"expected {expected}, received {_show(mine)}")


def _check_shares(problems: _Problems, layers: dict[str, Layer]) -> None:
    for name, layer in layers.items():
        if layer.share is None:
            continue
        at = f"layers.{name}.share"
        owners = [other.name for other in layers.values() if other.share is None]
        if layer.share not in layers:
            tail = nearest(layer.share, owners) or f"; layers: {', '.join(owners)}"
            text = f"expected the name of a layer, received {_show(layer.share)}{tail}"
            problems.add(at, text)
        elif layers[layer.share].share is not None:
            owner = layers[layer.share].share
            text = f"{layer.share!r} itself shares {owner!r}; name a layer with a class of its own"
            problems.add(at, text)


def _check_graph(
    problems: _Problems,
    inputs: dict[str, Input],
    layers: dict[str, Layer],
    heads: dict[str, Head],
) -> None:
    """Every `after` names a node, nothing goes round in a circle, nothing leads nowhere."""
    sections = {**dict.fromkeys(layers, "layers"), **dict.fromkeys(heads, "heads")}
    nodes = [*inputs, *layers, *heads]
    edges: dict[str, tuple[str, ...]] = {}
    sound = True
    followers: tuple[Layer | Head, ...] = (*layers.values(), *heads.values())
    after = {node.name: node.after for node in followers}
    for name, texts in after.items():
        sources = []
        for text in texts:
            source, dot, _ = text.partition(".")
            at = f"{sections[name]}.{name}.after"
            if source not in nodes or (dot and source not in inputs):
                near = nearest(text, nodes) or f"; known: {', '.join(nodes)}"
                expected = "the name of an input, layer or head"
                problems.add(at, f"expected {expected}, received {_show(text)}{near}")
                sound = False
            elif dot and inputs[source].image is not None:
                problems.add(at, f"{source!r} is an image; it has no columns to take by name")
            else:
                sources.append(source)
        sound = sound and bool(texts)
        edges[name] = tuple(sources)
    cycle = _cycle(edges)
    if cycle:
        # `after` points backwards; the circle is shown the way the data would go.
        round_trip = " → ".join(reversed(cycle))
        problems.add(f"{sections[cycle[0]]}.{cycle[0]}.after", f"goes in a circle: {round_trip}")
    elif sound and heads:
        _check_dead_ends(problems, inputs, layers, heads, edges)


def _cycle(edges: dict[str, tuple[str, ...]]) -> list[str]:
    """A path along `edges` that ends where it began, or nothing."""
    done: set[str] = set()
    path: list[str] = []
    # What is still to be looked at: of all nodes, and of each node of the path.
    waiting = [iter(edges)]
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
            done.update(path[-1:])
            del path[-1:]
        elif node in path:
            return [*path[path.index(node) :], node]
        elif node not in done:
            path.append(node)
            waiting.append(iter(edges.get(node, ())))
    return []


def _check_dead_ends(
    problems: _Problems,
    inputs: dict[str, Input],
    layers: dict[str, Layer],
    heads: dict[str, Head],
    edges: dict[str, tuple[str, ...]],
) -> None:
    reached: set[str] = set()
    waiting = list(heads)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += edges.get(node, ())
    for name in inputs:
        if name not in reached:
            problems.add(f"inputs.{name}", "no head reads it; name it in an after, or remove it")
    for name in layers:
        if name not in reached:
            problems.add(f"layers.{name}", "leads to no head; name it in an after, or remove it")


def _show(value: object) -> str:
    """A value as its writer would know it again."""
    if isinstance(value, dict):
        return "a table"
    if value is None:
        return "nothing"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # No float holds it, and `isfinite` raises for it.
    return abs(value) <= sys.float_info.max


def _is_image(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) in _IMAGE_AXES
        and all(_is_whole(axis, 1) for axis in value)
    )
