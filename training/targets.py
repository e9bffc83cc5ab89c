"""Preparation of a head: its columns to targets and labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from service.errors import nearest
from service.kinds import label_count
from service.signature import TRUE_FALSE
from training.cells import is_missing, is_number, is_truth, is_whole, listed, number, show, whole
from training.errors import DataError, SpecError
from training.rows import NO_CLASS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.head_spec import HeadSpec
    from training.input_spec import InputSpec
    from training.spec import Spec
    from training.table import Column, Table

# A text column is not a category, and has no classes, if it has more distinct values than this and
# than half its rows.
MANY = 20


def _target(entry: InputSpec, column: str | int | None, names: list[str]) -> str:
    """Return the column of a target: `column`, else the input's own target, else the last one."""
    if column is not None:
        return str(column)
    if entry.target is not None:
        return str(entry.target)
    return ([name for name in names if name != entry.key] or names)[-1]


def target_names(spec: Spec, name: str, names: list[str]) -> list[str]:
    """Return the columns of one file that are targets of a head or of an input."""
    targets = [
        str(entry.target)
        for entry in spec.inputs.values()
        if entry.csv == name and entry.target is not None
    ]
    for head in spec.heads.values():
        for owner, column in head.targets:
            entry = spec.inputs[owner]
            if entry.csv == name:
                targets.append(_target(entry, column, names))
    known = set(names)
    return [column for column in dict.fromkeys(targets) if column in known]


def check_targets(spec: Spec, csv: str, table: Table) -> None:
    """Refuse targets that are not columns of their file.

    Raises:
        SpecError: there is no such column; the message names the first.
    """
    for entry in spec.inputs.values():
        if entry.csv == csv and entry.target is not None:
            table.require(str(entry.target), f"{spec.path}: inputs.{entry.name}.target")
    for head in spec.heads.values():
        for owner, column in head.targets:
            if spec.inputs[owner].csv == csv and column is not None:
                table.require(str(column), f"{spec.path}: heads.{head.name}.target")


def heads_of(spec: Spec, csv: str) -> list[HeadSpec]:
    """Return the heads whose targets are in one file."""
    return [head for head in spec.heads.values() if spec.inputs[head.targets[0][0]].csv == csv]


def lacking(spec: Spec, head: HeadSpec, table: Table) -> NDArray[np.bool_]:
    """Return a mask of the rows that have no value in some column that the head learns."""
    lacks: NDArray[np.bool_] = np.zeros(len(table.frame), bool)
    for column in _columns(spec, head, table):
        lacks |= _missing(head, column)
    return lacks


def target_columns(spec: Spec, head: HeadSpec, table: Table) -> tuple[str, ...]:
    """Return the names of the columns that a head learns; none if the file has no header."""
    if not table.header:
        return ()
    return tuple(
        _target(spec.inputs[owner], column, table.columns) for owner, column in head.targets
    )


def learn(
    spec: Spec, head: HeadSpec, table: Table, known: tuple[str, ...] | None = None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the targets of a head, and its labels.

    Rows that lack a target, which the spec allows with `missing`, have the marks of
    `training.rows` in its place.  `known` are the labels of the training rows, if the table is
    another file: there a wrong label is the file's mistake, and not the spec's.

    Raises:
        SpecError: a cell is none of the labels in the spec, or there is a class weight for a label
            that the data do not have.
        DataError: the columns have cells that a head of this kind cannot learn.
    """
    key = f"{spec.path}: heads.{head.name}.labels"
    if known is not None:
        head, key = replace(head, labels=known), ""
    if head.missing is None:
        return _learn(spec, head, table, key)
    there = ~lacking(spec, head, table)
    if not there.any():
        names = " and ".join(repr(column.name) for column in _columns(spec, head, table))
        raise DataError(
            f"{table.path}: no row has a value in {names}, which head {head.name!r} learns"
        )
    values, labels = _learn(spec, head, replace(table, frame=table.frame[there]), key)
    mark = np.nan if values.dtype.kind == "f" else NO_CLASS
    targets = np.full((len(there), *values.shape[1:]), mark, values.dtype)
    targets[there] = values
    return targets, labels


def _columns(spec: Spec, head: HeadSpec, table: Table) -> list[Column]:
    return [
        table.column(_target(spec.inputs[owner], column, table.columns))
        for owner, column in head.targets
    ]


def _missing(head: HeadSpec, column: Column) -> NDArray[np.bool_]:
    """Return a mask of the missing cells of a target; a label may be spelled as one."""
    missing = column.mark(is_missing)
    return missing if head.labels is None else missing & ~column.mark(head.labels.__contains__)


def _learn(
    spec: Spec, head: HeadSpec, table: Table, key: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the targets and labels of a head that all rows have; `key` is the place of labels."""
    columns = _columns(spec, head, table)
    for column in columns:
        column.refuse(
            _missing(head, column),
            f"have no value, which head {head.name!r} learns",
            "; fill them, remove those rows, or leave them to the other heads with"
            f' heads.{head.name}.missing = "skip"',
        )
    if head.kind in ("regression", "multilabel"):
        values = np.stack([column.numbers() for column in columns], axis=1).astype(np.float32)
        if head.kind == "regression":
            return values, None
        for place, column in enumerate(columns):
            column.refuse(~np.isin(values[:, place], (0, 1)), "are neither 0 nor 1")
        return values, head.labels or tuple(column.name for column in columns)
    [column] = columns
    indices, labels = _classes(spec, head, column, key)
    if head.kind == "binary":
        return indices.astype(np.float32).reshape(-1, 1), labels
    return indices, labels


def _classes(
    spec: Spec, head: HeadSpec, column: Column, key: str
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the index of each row's label, and the labels."""
    if head.labels is None:
        labels, places = _own_labels(head, column)
        _check_weights(spec, head, labels)
    else:
        labels, places = head.labels, _match_labels(key, head.labels, column)
    return np.array([places[text] for text in column.texts], np.int32)[column.codes], labels


def _own_labels(head: HeadSpec, column: Column) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the distinct values of a column as labels, sorted, and the label's index by cell."""
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


def _check_weights(spec: Spec, head: HeadSpec, labels: tuple[str, ...]) -> None:
    """Refuse class weights for a label that is not one of `labels`, those of the data."""
    if isinstance(head.class_weights, dict):
        unknown = next((label for label in head.class_weights if label not in labels), None)
        if unknown is not None:
            at = f"{spec.path}: heads.{head.name}.class_weights.{unknown}"
            raise SpecError(f"{at}: no such label; labels: {', '.join(labels)}")


def _match_labels(key: str, labels: tuple[str, ...], column: Column) -> dict[str, int]:
    """Return the label's index by cell, which is a label's text or itself an index.

    Raises:
        SpecError: a cell is neither; the message begins with `key`, the place of the labels.
        DataError: a cell is neither, and `key` is empty.
    """
    place_of = {label: place for place, label in enumerate(labels)}
    places = {text: place_of[text] for text in column.texts if text in place_of}
    # Labels that are numbers are compared by value: the cell 7.0 has the label "7".
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


def _check_labels(head: HeadSpec, column: Column, labels: tuple[str, ...]) -> None:
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
