"""Test rows from files of their own (`triceps train --test`), which only the final score sees.

--test FILE.csv ─ files ─▶ path by file of the spec ─ load ─▶ rows.Data, read as in training
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import nearest
from training.align import align
from training.cells import listed
from training.csv_file import find
from training.data import leave_out, read_table, source_of
from training.errors import DataError, SpecError
from training.features import prepare_like
from training.rows import known, target
from training.targets import heads_of, learn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.rows import Data, Source
    from training.spec import Spec
    from training.table import Table


def files(texts: Sequence[str], spec: Spec) -> dict[str, Path]:
    """Return the path of the test rows for each file of the spec.

    A text is the path or, if the spec has several files, `INPUT=PATH`.

    Raises:
        SpecError: a text has another form, a file of the spec has no test rows, or two, or the spec
            draws test rows itself.
    """
    if spec.fit.test_split:
        raise SpecError(
            f"--test: {spec.path} has test rows already, by fit.test_split ="
            f" {spec.fit.test_split:g}; remove one of them"
        )
    # The first input of each file.
    owners = {entry.csv: name for name, entry in reversed(spec.inputs.items())}
    paths: dict[str, Path] = {}
    for text in texts:
        name, path = _parts(text, spec, list(owners.values()))
        csv = spec.inputs[name].csv
        if csv in paths:
            raise SpecError(f"--test {text}: {csv} has the test rows of {paths[csv]}; remove one")
        paths[csv] = find(Path(path), f"--test {text}")
    lacking = [name for csv, name in owners.items() if csv not in paths]
    if lacking:
        raise SpecError(f"--test: missing for {listed(lacking)}; add --test {lacking[0]}=FILE.csv")
    return {entry.csv: paths[entry.csv] for entry in spec.inputs.values()}


def _parts(text: str, spec: Spec, owners: Sequence[str]) -> tuple[str, str]:
    """Return the input and the path of one option; `owners` has an input of each file."""
    name, equals, path = text.partition("=")
    if equals and name in spec.inputs:
        return name, path
    if len(owners) == 1:
        return owners[0], text
    tail = nearest(name, spec.inputs) if equals else ""
    raise SpecError(
        f"--test {text}: expected INPUT=FILE.csv, as the spec has {len(owners)} files, with one of"
        f" {listed(list(spec.inputs))}{tail}"
    )


def load(spec: Spec, data: Data, paths: Mapping[str, Path]) -> Data:
    """Load test rows, which are read as the rows of `data` are.

    A missing value takes the default of the training file, and a label is one of those there.

    Args:
        spec: the spec of the model.
        data: the rows of the spec's own files.
        paths: the test rows by file of the spec, as `files` returns them.

    Raises:
        DataError: the files are the training files, or one has other columns, or cells that
            training does not know how to read.
    """
    owners = {entry.csv: entry for entry in spec.inputs.values()}
    tables = {
        csv: _same_columns(read_table(spec, owners[csv], path), data.sources[csv])
        for csv, path in paths.items()
    }
    tables, notes = align(spec, tables)
    tables = leave_out(spec, tables, notes)
    sources: dict[str, Source] = {}
    for csv, table in tables.items():
        prepared = [
            prepare_like(data.inputs[entry.name], spec, entry, table)
            for entry in spec.inputs.values()
            if entry.csv == csv
        ]
        notes += [note for one in prepared for note in one.notes]
        targets = {
            head.name: learn(spec, head, table, data.labels[head.name])[0]
            for head in heads_of(spec, csv)
        }
        sources[csv] = source_of(table, prepared, targets)
    # One of several files may be the same, such as a table that is joined by a key.
    if all(source.digest == data.sources[csv].digest for csv, source in sources.items()):
        path = next(iter(sources.values())).path
        text = f"{path}: the training file itself, byte for byte; --test needs other rows"
        raise DataError(text)
    loaded = replace(data, sources=sources, notes=tuple(dict.fromkeys(notes)))
    partial = tuple(name for name in spec.heads if not known(target(loaded, name)).all())
    return replace(loaded, partial=partial)


def _same_columns(table: Table, trained: Source) -> Table:
    """Return a table with the columns of a training file, in their order.

    Raises:
        DataError: it lacks some, or has others and no names that tell them apart.
    """
    if not table.header and len(table.columns) != len(trained.columns):
        raise DataError(
            f"{table.path}: expected {len(trained.columns)} columns, as in {trained.path}, received"
            f" {len(table.columns)}"
        )
    lacking = [name for name in trained.columns if name not in table.frame]
    if lacking:
        raise DataError(
            f"{table.path}: no column {lacking[0]!r}, which {trained.path} has"
            f"{nearest(lacking[0], table.columns)}"
        )
    return replace(table, frame=table.frame[list(trained.columns)])
