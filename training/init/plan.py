"""The choices for a spec from the tables of the command line: inputs, heads, trunks and fit."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from service.errors import nearest
from service.names import NAME, NAMES
from training.cells import show
from training.csv_file import find
from training.errors import DataError, SpecError
from training.init import features, heads, network
from training.init.node_names import node_names
from training.init.profile import profile
from training.table import NO_HEADER, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from training.init.features import Choice
    from training.init.heads import Head, Tables
    from training.init.network import Fit, Trunk
    from training.init.profile import Profile
    from training.table import Table


@dataclass(frozen=True)
class Input:
    """One table: its name, its file as the spec has it, its rows, and the use of its columns.

    `learned` is the number of rows that some head can learn.
    """

    name: str
    csv: str
    rows: int
    learned: int
    features: tuple[Choice, ...]
    left_out: tuple[Choice, ...]


@dataclass(frozen=True)
class Group:
    """Inputs whose rows belong together, with the trunk that they share and the heads after it."""

    inputs: tuple[Input, ...]
    trunk: Trunk
    heads: tuple[Head, ...]


@dataclass(frozen=True)
class Plan:
    """All choices of a spec, in the order of the text.

    `aligned` is the reason for `align`, and empty for one table.
    """

    name: str
    align: str
    aligned: str
    key: str | None
    groups: tuple[Group, ...]
    fit: Fit
    stratify: str | None


@dataclass(frozen=True)
class Request:
    """The tables, heads, key and name that a user asks for, and the path of the spec to write."""

    files: tuple[Path, ...]
    heads: tuple[str, ...]
    key: str | None
    name: str | None


def stem(file: Path) -> str:
    """Return the name of a table: that of its file without the endings for CSV and compression."""
    return re.sub(r"(?i)(\.csv)?(\.(gz|xz|bz2|zip))?$", "", file.name) or file.name


def model_name(request: Request) -> str:
    """Return the name of the model: the one asked for, or else that of the first file.

    Raises:
        SpecError: the name asked for is no name of a model.
    """
    if request.name is None:
        return node_names([stem(request.files[0])], (), "model")[0]
    if not NAME.fullmatch(request.name):
        raise SpecError(f"--name: expected {NAMES}, received {show(request.name)}")
    return request.name


def read_tables(files: Sequence[Path]) -> tuple[list[Path], dict[str, dict[str, Profile]]]:
    """Return the files as they are on the disk, and by input the facts of every column.

    Raises:
        SpecError: there is no such file.
        DataError: a file is not a table.
    """
    found = [find(file, "TABLE") for file in files]
    tables = [_read(file) for file in found]
    names = node_names([stem(file) for file in found], (), "table")
    return found, {
        name: {column: profile(table.column(column)) for column in table.columns}
        for name, table in zip(names, tables, strict=True)
    }


def _read(file: Path) -> Table:
    try:
        return read(file)
    except DataError as error:
        # There is no spec yet that could say so.
        text = str(error).replace(NO_HEADER, "put a line with the names of the columns above it")
        raise DataError(text) from error


def plan(request: Request, folder: Path) -> Plan:
    """Read the tables and return the choices for a spec in `folder`.

    Raises:
        SpecError: a head, a key or a file is not what the tables can give.
        DataError: a file is not a table, or has no column that could be a feature.
    """
    files, tables = read_tables(request.files)
    name = model_name(request)
    learned = _heads(request.heads, tables)
    align, aligned, key = _align(files, tables, request.key)
    # A head is called as its column, so an input of that name gives way.
    names = node_names(tables, [head.name for head in learned], "table")
    new_names = dict(zip(tables, names, strict=True))
    inputs = []
    for file, (owner, columns) in zip(files, tables.items(), strict=True):
        own = [head for head in learned if head.owner == owner]
        choices = _choices(columns, own, key)
        if not any(choice.use != features.LEFT_OUT for choice in choices):
            reasons = "".join(f"\n  {show(choice.column)}: {choice.reason}" for choice in choices)
            raise DataError(f"{file}: no column is left to be a feature{reasons}")
        # Rows that belong to those of other files have the targets there, too.
        alone = own and (align == "sample" or len(tables) == 1)
        count = _learned_rows(columns, own) if alone else _rows(columns)
        name_and_file = new_names[owner], _relative(file, folder)
        inputs.append(_input(*name_and_file, columns, choices, count))
    learned = [replace(head, owner=new_names[head.owner]) for head in learned]
    rows = [entry.learned for entry in inputs]
    if align == "sample":
        groups = [_group([entry], learned) for entry in inputs]
        for entry, group in zip(inputs, groups, strict=True):
            if not group.heads:
                raise SpecError(
                    f"{entry.csv}: {aligned}, so that a head can learn from its own file alone,"
                    " and no --head is a column of this one; leave it out, or name a --key"
                )
    else:
        groups = [_group(inputs, learned)]
    stratify = next((head.name for head in learned if head.kind in ("binary", "multiclass")), None)
    rarest = min((head.rarest for head in learned if head.rarest is not None), default=None)
    fit = network.fit(max(rows) if align == "sample" else min(rows), rarest)
    return Plan(name, align, aligned, key, tuple(groups), fit, stratify)


def _heads(wanted: Sequence[str], tables: Tables) -> list[Head]:
    asked = [heads.find(text, tables) for text in wanted]
    taken: dict[tuple[str, str], str] = {}
    for entry in asked:
        for column in entry.columns:
            if (entry.owner, column) in taken:
                other = taken[entry.owner, column]
                raise SpecError(
                    f"--head {entry.text}: --head {other} has the column {column!r} too"
                )
            taken[entry.owner, column] = entry.text
    titles = node_names(["_".join(entry.columns) for entry in asked], (), "head")
    return [
        heads.choose(entry, [tables[entry.owner][column] for column in entry.columns], title)
        for entry, title in zip(asked, titles, strict=True)
    ]


def _choices(columns: Mapping[str, Profile], learned: list[Head], key: str | None) -> list[Choice]:
    targets = [column for head in learned for column in head.columns]
    wanted = [columns[column] for column in targets]
    others = [one for name, one in columns.items() if name not in targets and name != key]
    choices = [features.choose(column, wanted) for column in others]
    if all(choice.use == features.LEFT_OUT for choice in choices):
        # Nothing else is there to learn from, and a person who sees the reason may know better.
        return [features.in_spite_of_leaks(column, wanted) for column in others]
    return features.without_sums(choices, columns, wanted)


def _rows(columns: Mapping[str, Profile]) -> int:
    return next(iter(columns.values())).rows


def _learned_rows(columns: Mapping[str, Profile], learned: Sequence[Head]) -> int:
    """Return the number of rows that have all columns of some head; training leaves out others."""
    known = [
        np.all([columns[name].codes >= 0 for name in head.columns], axis=0) for head in learned
    ]
    return int(np.any(known, axis=0).sum())


def _input(
    name: str, csv: str, columns: Mapping[str, Profile], choices: list[Choice], learned: int
) -> Input:
    used = tuple(choice for choice in choices if choice.use != features.LEFT_OUT)
    left = tuple(choice for choice in choices if choice.use == features.LEFT_OUT)
    return Input(name, csv, _rows(columns), learned, used, left)


def _group(inputs: Sequence[Input], learned: Sequence[Head]) -> Group:
    names = {entry.name for entry in inputs}
    trunk = network.trunk(
        min(entry.learned for entry in inputs), [c for entry in inputs for c in entry.features]
    )
    return Group(tuple(inputs), trunk, tuple(head for head in learned if head.owner in names))


def _relative(file: Path, folder: Path) -> str:
    """Return a file's path as a spec in `folder` names it.

    Raises:
        SpecError: the path is not UTF-8, as a spec is.
    """
    path = os.path.relpath(file.resolve(), folder.resolve())
    # A path through the root says no more than an absolute one, and breaks when the spec moves.
    path = str(file.resolve()) if path.startswith("../../..") else path
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SpecError(
            f"TABLE: expected a path in UTF-8, as a spec is, received {path!r}; rename it"
        ) from error
    return path


def _align(files: Sequence[Path], tables: Tables, key: str | None) -> tuple[str, str, str | None]:
    """Return how rows of several tables belong together, the reason, and the key if any."""
    if key is not None:
        for file, columns in zip(files, tables.values(), strict=True):
            _check_key(file, columns, key)
        if len(files) == 1:
            raise SpecError(f"--key {key}: joins several files, and there is one; leave it out")
        return "key", "as --key says", key
    if len(files) == 1:
        return "position", "", None
    shared = set.intersection(*(set(columns) for columns in tables.values()))
    keys = [name for name in next(iter(tables.values())) if name in shared]
    keys = [name for name in keys if all(_is_key(columns[name]) for columns in tables.values())]
    if keys:
        return "key", f"{show(keys[0])} is in every file, with another value in each row", keys[0]
    rows = {next(iter(columns.values())).rows for columns in tables.values()}
    if len(rows) == 1:
        return "position", "no column joins the files, and they have equally many rows", None
    return "sample", "no column joins the files, and they have different numbers of rows", None


def _is_key(column: Profile) -> bool:
    return not column.missing and len(column.texts) == column.rows


def _check_key(file: Path, columns: Mapping[str, Profile], key: str) -> None:
    if key not in columns:
        raise SpecError(f"--key: no column {key!r} in {str(file)!r}{nearest(key, columns)}")
    column = columns[key]
    if not _is_key(column):
        text = "is empty in some rows"
        if not column.missing:
            often = int(column.counts.argmax())
            text = f"has {show(column.texts[often])} in {column.counts[often]} rows"
        raise SpecError(f"--key {key}: in {str(file)!r} it {text}; a key is another in every row")
