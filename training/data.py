"""The data: CSV files to arrays by tensor and by head, with nothing dropped or coerced in silence.

    CSV ── table.read ──▶ text cells ── align ──▶ the same rows ── kinds, defaults, labels ──▶ Data

Integers, floats and true/false are numbers; other text is a category; what is neither stops.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from service.errors import nearest
from service.kinds import label_count
from service.signature import TRUE_FALSE, Feature, Input, Statistics, Tensor, tabular
from training.errors import DataError, SpecError
from training.table import (
    NAMELESS,
    Column,
    find,
    is_counted,
    is_date,
    is_infinite,
    is_missing,
    is_number,
    is_truth,
    is_whole,
    listed,
    number,
    read,
    show,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from training import spec as specs
    from training.table import Table

    Arrays = dict[str, np.ndarray]

# A text column with more distinct values than this, and than half its rows, is no category; nor is
# one of at least so many rows in which nearly every value is another.
MANY = 20
FEW = 8
NEARLY_ALL = 0.9
LARGEST = math.nextafter(2.0**128 - 2.0**103, 0)  # more is rounded to an infinite float32
EXACT = 2**24  # up to here float32 has every whole number


@dataclass(frozen=True)
class Source:
    """One CSV file: its inputs, and its rows by graph tensor and by head.

    `labels` has every head whose targets are in this file; a regression's are `None`.
    """

    csv: str
    path: Path
    rows: int
    inputs: dict[str, Input]
    arrays: Arrays
    targets: Arrays
    labels: dict[str, tuple[str, ...] | None]


@dataclass(frozen=True)
class Data:
    """All files by their `csv`, how their rows belong together, and what a person should know.

    With `align` "position" or "key", row i of every source belongs with row i of the others;
    with "sample" they have nothing to do with each other.
    """

    sources: dict[str, Source]
    align: str
    notes: tuple[str, ...]


def load(spec: specs.Spec, folder: Path | None = None) -> Data:
    """Read every file that `spec` names, from beside it or, by base name, from `folder`.

    Raises:
        SpecError: the spec names a file or a column that is not there.
        DataError: a file is not what the spec says.
    """
    files: dict[str, Table] = {}
    for entry in spec.inputs.values():
        if entry.csv not in files:
            files[entry.csv] = _read(spec, entry, folder)
    tables, notes = _align(spec, files)
    if spec.fit.rows is not None:
        notes.insert(0, f"only the first {spec.fit.rows} rows of each file are used (fit.rows)")
    sources = {}
    for name, table in tables.items():
        sources[name] = _source(spec, name, table, notes)
    return Data(sources, spec.align, tuple(notes))


def split(data: Data, fraction: float, seed: int) -> tuple[Data, Data | None]:
    """Hold out a `fraction` of the rows, drawn by `seed`: (the rest, the held-out ones or `None`).

    Rows that belong together stay together; of each file at least one row is on either side.
    """
    if not fraction:
        return data, None
    kept, held = {}, {}
    for position, (name, source) in enumerate(data.sources.items()):
        if source.rows == 1:
            raise DataError(
                f"{source.path}: 1 row; fit.validation_split = {fraction:g} needs 2 or more"
            )
        # Aligned files have equal rows: one seed for all of them draws the same rows of each.
        stream = position if data.align == "sample" else 0
        order = np.random.default_rng((seed, stream)).permutation(source.rows)
        count = min(max(round(source.rows * fraction), 1), source.rows - 1)
        held[name] = _take(source, np.sort(order[:count]))
        kept[name] = _take(source, np.sort(order[count:]))
    return replace(data, sources=kept), replace(data, sources=held)


def pairs(data: Data, rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Rows that go through the graph together: (x by tensor, y by head).

    Aligned rows as they are.  Independent files are paired at random, anew with every call, as
    many as the longest has: each of its rows once, those of a shorter one equally often.
    """
    longest = max(source.rows for source in data.sources.values())
    x: Arrays = {}
    y: Arrays = {}
    for source in data.sources.values():
        if data.align == "sample":
            rounds = math.ceil(longest / source.rows)
            order = np.concatenate([rng.permutation(source.rows) for _ in range(rounds)])
            shuffled = _take(source, order[:longest])
        else:
            shuffled = source
        x.update(shuffled.arrays)
        y.update(shuffled.targets)
    return x, y


def arrays(data: Data, names: Iterable[str]) -> Arrays:
    """Rows of the named tensors, to be seen together.

    Where independent files differ in length, the shorter ones start over.
    """
    wanted = set(names)
    found = {
        name: array
        for source in data.sources.values()
        for name, array in source.arrays.items()
        if name in wanted
    }
    longest = max(map(len, found.values()))
    return {
        name: array if len(array) == longest else array[np.arange(longest) % len(array)]
        for name, array in found.items()
    }


def _take(source: Source, rows: NDArray[np.int64]) -> Source:
    return replace(
        source,
        rows=len(rows),
        arrays={name: array[rows] for name, array in source.arrays.items()},
        targets={name: array[rows] for name, array in source.targets.items()},
    )


def _read(spec: specs.Spec, entry: specs.Input, folder: Path | None) -> Table:
    base = re.split(r"[/\\]", entry.csv)[-1]
    wanted = spec.path.parent / entry.csv if folder is None else folder / base
    every = "" if folder is None else "; --data has to hold every file of the spec"
    path = find(wanted, f"{spec.path}: inputs.{entry.name}.csv", every)
    users = [other for other in spec.inputs.values() if other.csv == entry.csv]

    def text(names: list[str]) -> list[str]:
        return [*_target_names(spec, entry.csv, names), entry.key or ""]

    return read(
        path,
        header=entry.header,
        rows=spec.fit.rows,
        text=text if all(other.image for other in users) else None,
    )


# Rows that belong together


def _align(spec: specs.Spec, tables: dict[str, Table]) -> tuple[dict[str, Table], list[str]]:
    """The tables with row i of each belonging together, as far as the spec says so; and notes."""
    if spec.align == "key":
        return _join(spec, tables)
    if spec.align == "sample":
        return tables, []
    rows = {name: len(table.frame) for name, table in tables.items()}
    shortest = min(rows, key=lambda name: rows[name])
    cut = [name for name in tables if rows[name] > rows[shortest]]
    if not cut:
        return tables, []
    longer = ", ".join(f"{tables[name].path.name} has {rows[name]}" for name in cut)
    note = f"cut to the {rows[shortest]} rows of {tables[shortest].path.name} ({longer})"
    tables = {
        name: replace(table, frame=table.frame.iloc[: rows[shortest]])
        for name, table in tables.items()
    }
    return tables, [note]


def _join(spec: specs.Spec, tables: dict[str, Table]) -> tuple[dict[str, Table], list[str]]:
    """The rows whose key is in every table, in the order of the first; the rest is noted."""
    keys = {}
    for entry in spec.inputs.values():
        table = tables[entry.csv]
        if entry.csv not in keys:
            name = _known(spec, f"inputs.{entry.name}.key", entry.key or "", table)
            keys[entry.csv] = _keys(table.column(name))
    shared = set.intersection(*map(set, keys.values()))
    if not shared:
        firsts = ", ".join(
            f"{tables[name].path.name} has {show(found[0])}, …" for name, found in keys.items()
        )
        raise DataError(f"{spec.path}: no key is in every file ({firsts})")
    order = [key for key in next(iter(keys.values())) if key in shared]
    joined, notes = {}, []
    for name, table in tables.items():
        place = {key: row for row, key in enumerate(keys[name])}
        joined[name] = replace(table, frame=table.frame.iloc[[place[key] for key in order]])
        lost = len(table.frame) - len(order)
        if lost:
            total = len(table.frame)
            notes.append(f"{table.path.name}: {lost} of {total} rows have no partner by key")
    return joined, notes


def _keys(column: Column) -> list[str]:
    column.refuse(column.mark(is_missing), "have no key")
    counts = np.bincount(column.codes)
    column.refuse(counts[column.codes] > 1, "share their key with another")
    return [column.texts[code] for code in column.codes]


# Features


def _known(spec: specs.Spec, at: str, name: str, table: Table) -> str:
    if name in table.frame.columns:
        return name
    tail = nearest(name, table.columns) or f"; columns: {listed(table.columns)}"
    raise SpecError(f"{spec.path}: {at}: no column {name!r} in {str(table.path)!r}{tail}")


def _target(entry: specs.Input, column: str | int | None, names: list[str]) -> str:
    """The column meant by a head's (input, column): the input's own target, else the last."""
    if column is not None:
        return str(column)
    if entry.target is not None:
        return str(entry.target)
    return ([name for name in names if name != entry.key] or names)[-1]


def _target_names(spec: specs.Spec, name: str, names: list[str]) -> list[str]:
    """The columns of one file that are targets, of a head or by an input's own word."""
    found = [
        str(entry.target)
        for entry in spec.inputs.values()
        if entry.csv == name and entry.target is not None
    ]
    for head in spec.heads.values():
        for owner, column in head.targets:
            entry = spec.inputs[owner]
            if entry.csv == name:
                found.append(_target(entry, column, names))
    known = set(names)
    return [column for column in dict.fromkeys(found) if column in known]


def _source(spec: specs.Spec, name: str, table: Table, notes: list[str]) -> Source:
    inputs: dict[str, Input] = {}
    arrays: Arrays = {}
    targets: Arrays = {}
    labels: dict[str, tuple[str, ...] | None] = {}
    names = table.columns
    _check_targets(spec, name, table)
    for entry in spec.inputs.values():
        if entry.csv == name:
            prepare = _image if entry.image else _tabular
            inputs[entry.name], tensors, told = prepare(spec, entry, table)
            arrays |= tensors
            noted = set(notes)
            notes += [note for note in told if note not in noted]
    for head in spec.heads.values():
        owner = spec.inputs[head.targets[0][0]]
        if owner.csv == name:
            columns = [
                table.column(_target(spec.inputs[of], column, names)) for of, column in head.targets
            ]
            targets[head.name], labels[head.name] = _learn(spec, head, columns)
    return Source(name, table.path, len(table.frame), inputs, arrays, targets, labels)


def _check_targets(spec: specs.Spec, name: str, table: Table) -> None:
    for entry in spec.inputs.values():
        if entry.csv == name and entry.target is not None:
            _known(spec, f"inputs.{entry.name}.target", str(entry.target), table)
    for head in spec.heads.values():
        for owner, column in head.targets:
            if spec.inputs[owner].csv == name and column is not None:
                _known(spec, f"heads.{head.name}.target", str(column), table)


def _features(spec: specs.Spec, entry: specs.Input, table: Table) -> list[str]:
    """The columns that go in: those asked for, else all but targets and key."""
    targets = set(_target_names(spec, entry.csv, table.columns))
    at = f"inputs.{entry.name}"
    if entry.columns is None:
        names = [name for name in table.columns if name not in targets and name != entry.key]
    else:
        names = [_known(spec, f"{at}.columns", name, table) for name in entry.columns]
        for name in names:
            if name in targets or name == entry.key:
                what = "the key" if name == entry.key else "a target, which no input may contain"
                raise SpecError(f"{spec.path}: {at}.columns: {name!r} is {what}; remove it")
    if not names:
        raise SpecError(
            f"{spec.path}: {at}: no column of {str(table.path)!r} is left to be a feature;"
            f" it has {listed(table.columns)}"
        )
    for name in names:
        if name.endswith(NAMELESS):
            raise DataError(
                f"{table.path}: {name.removesuffix(NAMELESS)} has no name in the header; name it,"
                f" remove it, or say which columns go in with {at}.columns"
            )
    features = set(names)
    for name in entry.categorical:
        _known(spec, f"{at}.categorical", name, table)
        if name not in features:
            raise SpecError(
                f"{spec.path}: {at}.categorical: {name!r} is no feature of this input;"
                f" they are {listed(names)}"
            )
    return names


def _image(spec: specs.Spec, entry: specs.Input, table: Table) -> tuple[Input, Arrays, list[str]]:
    names = _features(spec, entry, table)
    size = entry.image or ()
    if len(names) != math.prod(size):
        shape = " x ".join(map(str, size))
        raise DataError(
            f"{table.path}: {len(names)} columns of pixels; inputs.{entry.name}.image ="
            f" {list(size)} needs {shape} = {math.prod(size)}"
        )
    if all(table.frame[name].dtype == np.float32 for name in names):
        pixels = table.frame[names].to_numpy(np.float32)
    else:
        pixels = np.empty((len(table.frame), len(names)), np.float32)
        for place, name in enumerate(names):
            column = table.column(name)
            column.refuse(column.mark(is_missing), "have no value; a pixel has no default")
            pixels[:, place] = _numbers(column)
    pixels = np.ascontiguousarray(pixels)
    tensor = Tensor(entry.name, "float32", (len(names),))
    seen = _statistics(pixels)
    described = Input(entry.name, "image", (tensor,), size=size, statistics=seen)
    return described, {entry.name: pixels}, []


def _tabular(spec: specs.Spec, entry: specs.Input, table: Table) -> tuple[Input, Arrays, list[str]]:
    names = _features(spec, entry, table)
    features, numbers, texts, notes = [], [], {}, []
    categorical = set(entry.categorical)
    for name in names:
        column = table.column(name)
        missing = column.mark(is_missing)
        if missing.all():
            column.stop(
                f"all {len(column)} cells are empty; fill them, or name the other columns in"
                f" inputs.{entry.name}.columns"
            )
        default: float | str
        if name not in categorical and _is_numeric(column, missing, entry):
            values = _numbers(column, missing)
            default = _middle(column, values[~missing])
            values[missing] = default
            if isinstance(default, int) and np.abs(values).max() > EXACT:
                notes.append(
                    f"{table.path.name}: column {name!r}: whole numbers over {EXACT:,} lose their"
                    " last digits in float32; if they are names, not amounts, leave them out or"
                    f" make them inputs.{entry.name}.categorical"
                )
            numbers.append(values.astype(np.float32))
            features.append(Feature(name, "", 0, default, None, _statistics(values)))
        else:
            cells = np.array(column.texts, object)[column.codes]
            found, counts = np.unique(cells[~missing].astype(str), return_counts=True)
            default = str(found[counts.argmax()])
            cells[missing] = default
            texts[f"{entry.name}.{name}"] = cells.reshape(-1, 1)
            features.append(Feature(name, "", 0, default, tuple(map(str, found))))
        if missing.any():
            count = int(missing.sum())
            verb = "is missing and takes" if count == 1 else "are missing and take"
            notes.append(
                f"{table.path.name}: column {name!r}: {count} of {len(column)} cells {verb}"
                f" {default!r}"
            )
    arrays = ({entry.name: np.stack(numbers, axis=1)} if numbers else {}) | texts
    return tabular(entry.name, features), arrays, notes


def _is_numeric(column: Column, missing: NDArray[np.bool_], entry: specs.Input) -> bool:
    """Whether the column holds numbers; refused where it holds neither those nor categories."""
    cells = int((~missing).sum())
    numbers = int(column.mark(is_number).sum())
    if 2 * numbers >= cells:
        return True  # cells that are no number then stop the reading
    distinct = sum(not is_missing(text) for text in column.texts)
    named = f"or name it in inputs.{entry.name}.categorical"
    if int(column.mark(is_date).sum()) >= NEARLY_ALL * cells:
        column.stop(
            f"dates ({column.some()}); make them a number, as days since a day that means"
            f" something, leave them out with inputs.{entry.name}.columns, {named}"
        )
    nearly_all = cells >= FEW and distinct >= NEARLY_ALL * cells
    if nearly_all or (distinct > MANY and 2 * distinct > cells):
        column.stop(
            f"text with {distinct} different values in {cells} rows ({column.some()}) is no"
            f" category; leave it out with inputs.{entry.name}.columns, {named}"
        )
    return False


def _numbers(column: Column, missing: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """The column as numbers; every cell that is none, save a missing one, is refused."""
    values = column.values()
    present = np.ones(len(column), bool) if missing is None else ~missing
    column.refuse(present & ~column.mark(is_number), "are not a number")
    column.refuse(present & column.mark(is_infinite), "are infinite")
    # Infinite also where the text is finite and too large even for float64.  The largest float32
    # is printed as 3.4028235e+38, which is a little more than it is, and rounds to it.
    with np.errstate(over="ignore"):
        too_large = np.isinf(values.astype(np.float32))
    column.refuse(present & too_large, "are too large for a float32")
    return np.clip(values, -LARGEST, LARGEST)


def _middle(column: Column, values: NDArray[np.float64]) -> float:
    """The median; of whole numbers the lower of the middle two, so that it is one of them."""
    if all(is_missing(text) or is_counted(text) for text in column.texts):
        return int(np.sort(values)[(len(values) - 1) // 2])
    return float(f"{np.median(values):.7g}")  # as many digits as a float32 has


def _statistics(values: NDArray[np.floating]) -> Statistics:
    mean = values.mean(dtype=np.float64)
    # Millions of pixels stay float32 here: only the sums need to be wide.
    spread = np.square(values - values.dtype.type(mean)).mean(dtype=np.float64)
    return Statistics(float(values.min()), float(values.max()), float(mean), math.sqrt(spread))


# Targets


def _learn(
    spec: specs.Spec, head: specs.Head, columns: list[Column]
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """What the head learns, and its labels."""
    for column in columns:
        missing = column.mark(is_missing)
        if head.labels is not None:
            missing &= ~column.mark(head.labels.__contains__)
        column.refuse(
            missing,
            f"have no value, which head {head.name!r} learns",
            "; fill them or remove those rows",
        )
    if head.kind in ("regression", "multilabel"):
        values = np.stack([_numbers(column) for column in columns], axis=1).astype(np.float32)
        if head.kind == "regression":
            return values, None
        for place, column in enumerate(columns):
            column.refuse(~np.isin(values[:, place], (0, 1)), "are neither 0 nor 1")
        return values, head.labels or tuple(column.name for column in columns)
    [column] = columns
    indices, labels = _classes(spec, head, column)
    if head.kind == "binary":
        return indices.astype(np.float32).reshape(-1, 1), labels
    return indices, labels


def _classes(
    spec: specs.Spec, head: specs.Head, column: Column
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Each row's place among the labels, and the labels."""
    if head.labels is None:
        labels, places = _own_labels(head, column)
    else:
        key = f"{spec.path}: heads.{head.name}.labels"
        labels, places = head.labels, _given_labels(key, head.labels, column)
    return np.array([places[text] for text in column.texts], np.int32)[column.codes], labels


def _own_labels(head: specs.Head, column: Column) -> tuple[tuple[str, ...], dict[str, int]]:
    """The labels that a column itself has, sorted; and where each of its cells is among them."""
    mostly_numbers = 2 * int(column.mark(is_number).sum()) >= len(column)
    if mostly_numbers and not is_truth(column.texts):
        column.refuse(
            ~column.mark(is_whole),
            f"are not a whole number, which the {head.kind} head {head.name!r} needs",
        )
        order = sorted({whole(text) for text in column.texts})
        labels = tuple(map(str, order))
        place_of = {value: place for place, value in enumerate(order)}
        places = {text: place_of[whole(text)] for text in column.texts}
    else:
        labels = tuple(sorted(column.texts))
        places = {text: place for place, text in enumerate(labels)}
    _check_labels(head, column, labels)
    return labels, places


def _given_labels(key: str, labels: tuple[str, ...], column: Column) -> dict[str, int]:
    """Where each of the column's cells is among the labels: by its text, or as their index.

    Raises:
        SpecError: some are not among them; the message begins with `key`, where the labels are.
    """
    place_of = {label: place for place, label in enumerate(labels)}
    places = {text: place_of[text] for text in column.texts if text in place_of}
    # A label that is itself a number is met by value: 7.0 is "7", wherever that stands.
    values = {whole(label): place for place, label in enumerate(labels) if is_whole(label)}
    for text in column.texts:
        if text not in places and is_whole(text) and whole(text) in values:
            places[text] = values[whole(text)]
    unknown = column.mark(lambda text: text not in places)
    if not unknown.any():
        return places
    if column.mark(is_whole).all() and len(values) < len(labels):
        outside = column.mark(lambda text: not 0 <= whole(text) < len(labels))
        verb = f"are no index of a label: 0 to {len(labels) - 1} for {listed(labels)}"
        column.refuse(outside, verb, key=key)
        return {text: whole(text) for text in column.texts}
    if is_truth(column.texts) and len(labels) == len(TRUE_FALSE):
        return {text: int(number(text)) for text in column.texts}
    first = column.texts[column.codes[int(unknown.argmax())]]
    verb = f"have a label that is not one of {listed(labels)}"
    column.refuse(unknown, verb, nearest(first, labels), key)
    return places


def _check_labels(head: specs.Head, column: Column, labels: tuple[str, ...]) -> None:
    count = len(labels)
    of = f"the {head.kind} head {head.name!r}"
    if count == 1:
        column.stop(f"every row is {show(labels[0])}, so {of} has nothing to learn")
    if head.kind == "binary" and count != label_count(head.kind, 1):
        column.stop(f"{count} different values ({column.some()}); {of} needs 2")
    if count > MANY and 2 * count > len(column):
        column.stop(
            f"{count} different values in {len(column)} rows ({column.some()}) are no classes for"
            f" {of}; a head of kind regression learns numbers"
        )
