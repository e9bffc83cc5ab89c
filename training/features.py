"""Preparation of an input: its columns to arrays by tensor, and its description in the signature.

Integers, floats and true/false are numbers; other text is a category; anything else is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from service.kinds import UNSEEN
from service.signature import Feature, Input, Statistics, Tensor, tabular
from training.cells import (
    EXACT,
    INSTEAD_OF_DATES,
    is_counted,
    is_date,
    is_missing,
    is_number,
    listed,
)
from training.defaults import commonest, middle
from training.errors import DataError, SpecError
from training.table import NAMELESS
from training.targets import MANY, target_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.input_spec import InputSpec
    from training.rows import Arrays
    from training.spec import Spec
    from training.table import Column, Table

# A text column of at least this many rows is not a category if nearly every value is different.
FEW = 8
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Prepared:
    """An input as it is trained: its description, its arrays by tensor, and notes.

    `missing` has by `input.feature` a mask of the rows whose cell is missing and has the default,
    for features with such rows.
    """

    described: Input
    arrays: Arrays
    missing: Arrays
    notes: list[str]


def prepare(spec: Spec, entry: InputSpec, table: Table) -> Prepared:
    """Return an input with its arrays.

    Raises:
        SpecError: the spec names a column that does not exist or is not a feature.
        DataError: a column has cells that no feature can have.
    """
    names = _features(spec, entry, table)
    if entry.image:
        return _image(entry, entry.image, table, names)
    return _tabular(f"{spec.path}: inputs.{entry.name}", entry, table, names)


def prepare_like(known: Input, spec: Spec, entry: InputSpec, table: Table) -> Prepared:
    """Return an input with the arrays of another file that has the same columns.

    What the training file showed about a column stays so: whether it holds numbers or texts, and
    the default of a missing value.

    Raises:
        DataError: a column has cells that `known`, the input in training, cannot have.
    """
    if entry.image:
        pixels = _image(entry, entry.image, table, _features(spec, entry, table))
        return replace(pixels, described=known)
    numbers: list[NDArray[np.float32]] = []
    arrays, masks, notes = {}, {}, []
    for feature in known.features:
        column = table.column(feature.name)
        missing = column.mark(is_missing)
        if feature.vocabulary is None:
            values = column.numbers(missing)
            values[missing] = feature.default
            numbers.append(values.astype(np.float32))
        else:
            cells = np.array(column.texts, object)[column.codes]
            cells[missing] = feature.default
            arrays[feature.tensor] = cells.reshape(-1, 1)
        if missing.any():
            masks[f"{entry.name}.{feature.name}"] = missing
            notes.append(_default_note(table, column, missing, feature))
    arrays = ({entry.name: np.stack(numbers, axis=1)} if numbers else {}) | arrays
    return Prepared(known, arrays, masks, notes)


def _features(spec: Spec, entry: InputSpec, table: Table) -> list[str]:
    """Return the columns that are features: those in the spec, else all but targets and key."""
    at = f"{spec.path}: inputs.{entry.name}"
    names = _chosen(at, entry, table, set(target_names(spec, entry.csv, table.columns)))
    if not names:
        raise SpecError(
            f"{at}: no column of {str(table.path)!r} is left to be a feature;"
            f" it has {listed(table.columns)}"
        )
    for name in names:
        if name.endswith(NAMELESS):
            raise DataError(
                f"{table.path}: {name.removesuffix(NAMELESS)} has no name in the header; name it,"
                f" remove it, or say which columns go in with inputs.{entry.name}.columns"
            )
    features = set(names)
    for name in entry.categorical:
        table.require(name, f"{at}.categorical")
        if name not in features:
            raise SpecError(
                f"{at}.categorical: {name!r} is no feature of this input; they are {listed(names)}"
            )
    return names


def _chosen(at: str, entry: InputSpec, table: Table, targets: set[str]) -> list[str]:
    if entry.columns is None:
        return [name for name in table.columns if name not in targets and name != entry.key]
    names = [table.require(name, f"{at}.columns") for name in entry.columns]
    for name in names:
        if name in targets or name == entry.key:
            what = "the key" if name == entry.key else "a target, which no input may contain"
            raise SpecError(f"{at}.columns: {name!r} is {what}; remove it")
    return names


def _image(entry: InputSpec, size: tuple[int, ...], table: Table, names: list[str]) -> Prepared:
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
            pixels[:, place] = column.numbers()
    pixels = np.ascontiguousarray(pixels)
    tensor = Tensor(entry.name, "float32", (len(names),))
    seen = statistics_of(pixels)
    described = Input(entry.name, "image", (tensor,), size=size, statistics=seen)
    return Prepared(described, {entry.name: pixels}, {}, [])


def _tabular(at: str, entry: InputSpec, table: Table, names: list[str]) -> Prepared:
    """Put numbers side by side into one tensor, and each text column into its own."""
    features: list[Feature] = []
    numbers: list[NDArray[np.float32]] = []
    texts: Arrays = {}
    masks: Arrays = {}
    notes: list[str] = []
    categorical = set(entry.categorical)
    for name in names:
        column = table.column(name)
        missing = column.mark(is_missing)
        if missing.all():
            column.stop(
                f"all {len(column)} cells are empty; fill them, or name the other columns in"
                f" inputs.{entry.name}.columns"
            )
        if name not in categorical and _is_numeric(column, missing, entry):
            feature, values = _number_feature(column, missing)
            numbers.append(values.astype(np.float32))
            default: object = feature.default
            if isinstance(default, int) and np.abs(values).max() > EXACT:
                notes.append(
                    f"{table.path.name}: column {name!r}: whole numbers over {EXACT:,} lose their"
                    " last digits in float32; if they are names, not amounts, leave them out or"
                    f" make them inputs.{entry.name}.categorical"
                )
        else:
            feature, cells = _text_feature(column, missing)
            feature = replace(feature, unseen=entry.unseen)
            texts[f"{entry.name}.{name}"] = cells.reshape(-1, 1)
        features.append(feature)
        if missing.any():
            masks[f"{entry.name}.{name}"] = missing
            notes.append(_default_note(table, column, missing, feature))
    if entry.unseen != UNSEEN[0] and not texts:
        raise SpecError(f"{at}.unseen: no column of {str(table.path)!r} is a text; remove it")
    arrays = ({entry.name: np.stack(numbers, axis=1)} if numbers else {}) | texts
    return Prepared(tabular(entry.name, features), arrays, masks, notes)


def _number_feature(
    column: Column, missing: NDArray[np.bool_]
) -> tuple[Feature, NDArray[np.float64]]:
    """Return the feature, whose default is the median, and its values with defaults filled in."""
    values = column.numbers(missing)
    whole = all(is_missing(text) or is_counted(text) for text in column.texts)
    default = middle(values[~missing], whole=whole)
    values[missing] = default
    return Feature(column.name, "", 0, default, None, statistics_of(values)), values


def _text_feature(
    column: Column, missing: NDArray[np.bool_]
) -> tuple[Feature, NDArray[np.object_]]:
    """Return the feature, whose default is the commonest string, and its cells with defaults."""
    cells = np.array(column.texts, object)[column.codes]
    vocabulary = np.unique(cells[~missing].astype(str))
    default = commonest(cells[~missing])
    cells[missing] = default
    return Feature(column.name, "", 0, default, tuple(map(str, vocabulary))), cells


def _default_note(
    table: Table, column: Column, missing: NDArray[np.bool_], feature: Feature
) -> str:
    count = int(missing.sum())
    verb = "is missing and takes" if count == 1 else "are missing and take"
    default = "median" if feature.vocabulary is None else "commonest text"
    return (
        f"{table.path.name}: column {column.name!r}: {count} of {len(column)} cells {verb}"
        f" the {default} of the training rows"
    )


def _is_numeric(column: Column, missing: NDArray[np.bool_], entry: InputSpec) -> bool:
    """Return whether the column holds numbers; refuse one with neither these nor categories."""
    cells = int((~missing).sum())
    numbers = int(column.mark(is_number).sum())
    if 2 * numbers >= cells:
        return True  # cells that are not numbers are refused later
    distinct = sum(not is_missing(text) for text in column.texts)
    named = f"or name it in inputs.{entry.name}.categorical"
    if int(column.mark(is_date).sum()) >= NEARLY_ALL * cells:
        column.stop(
            f"dates ({column.some()}), which are no amounts; {INSTEAD_OF_DATES}, and leave the"
            f" dates out with inputs.{entry.name}.columns, {named}"
        )
    nearly_all = cells >= FEW and distinct >= NEARLY_ALL * cells
    if nearly_all or (distinct > MANY and 2 * distinct > cells):
        column.stop(
            f"text with {distinct} different values in {cells} rows ({column.some()}) is no"
            f" category; leave it out with inputs.{entry.name}.columns, {named}"
        )
    return False


def statistics_of(values: NDArray[np.floating | np.integer]) -> Statistics:
    """Return the statistics of numbers."""
    mean = values.mean(dtype=np.float64)
    # Only the sums need double precision: millions of pixels stay float32.
    spread = np.square(values - values.dtype.type(mean)).mean(dtype=np.float64)
    return Statistics(float(values.min()), float(values.max()), float(mean), math.sqrt(spread))
