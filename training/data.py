"""Loading of a spec's data in one call: CSV files to arrays by tensor and by head.

    csv_file, table ──▶ text cells ── align ──▶ the same rows ── features, targets ──▶ rows.Data

Nothing is dropped or coerced silently: what the user should know becomes a note, and a mistake in a
spec or a file stops the run.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from training.align import align
from training.csv_file import digest, find
from training.features import prepare
from training.rows import Data, Source, known, target
from training.table import read
from training.targets import check_targets, heads_of, lacking, learn, target_columns, target_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from service.signature import Input
    from training.features import Prepared
    from training.input_spec import InputSpec
    from training.rows import Arrays
    from training.spec import Spec
    from training.table import Table


def load(spec: Spec, folder: Path | None = None) -> Data:
    """Load every file that `spec` names, from its folder or, by base name, from `folder`.

    Raises:
        SpecError: the spec names a file or a column that does not exist.
        DataError: a file is not what the spec says.
    """
    files: dict[str, Table] = {}
    for entry in spec.inputs.values():
        if entry.csv not in files:
            files[entry.csv] = read_table(spec, entry, _find(spec, entry, folder), spec.fit.rows)
    tables, notes = align(spec, files)
    for csv, table in tables.items():
        check_targets(spec, csv, table)
    tables = leave_out(spec, tables, notes)
    if spec.fit.rows is not None:
        notes.insert(0, f"only the first {spec.fit.rows} rows of each file are used (fit.rows)")
    sources: dict[str, Source] = {}
    inputs: dict[str, Input] = {}
    labels: dict[str, tuple[str, ...] | None] = {}
    columns: dict[str, tuple[str, ...]] = {}
    for csv, table in tables.items():
        prepared = _read_inputs(spec, csv, table, notes)
        targets, classes = _read_targets(spec, csv, table, notes)
        sources[csv] = source_of(table, prepared, targets)
        inputs |= {one.described.name: one.described for one in prepared}
        labels |= classes
        columns |= {name: target_columns(spec, spec.heads[name], table) for name in classes}
    inputs = {name: inputs[name] for name in spec.inputs}
    data = Data(sources, spec.align, inputs, labels, columns, tuple(notes))
    partial = tuple(name for name in spec.heads if not known(target(data, name)).all())
    return replace(data, partial=partial)


def _find(spec: Spec, entry: InputSpec, folder: Path | None) -> Path:
    base = re.split(r"[/\\]", entry.csv)[-1]
    wanted = spec.path.parent / entry.csv if folder is None else folder / base
    every = "" if folder is None else "; --data has to hold every file of the spec"
    return find(wanted, f"{spec.path}: inputs.{entry.name}.csv", every)


def read_table(spec: Spec, entry: InputSpec, path: Path, rows: int | None = None) -> Table:
    """Read the first `rows` of a file, or all, as the table of an input and of others like it.

    Raises:
        DataError: the file is not a CSV file with these rows.
    """
    users = [other for other in spec.inputs.values() if other.csv == entry.csv]

    def text(names: list[str]) -> list[str]:
        return [*target_names(spec, entry.csv, names), entry.key or ""]

    return read(
        path,
        header=entry.header,
        rows=rows,
        text=text if all(other.image for other in users) else None,
    )


def leave_out(spec: Spec, tables: dict[str, Table], notes: list[str]) -> dict[str, Table]:
    """Leave out rows that no head can learn, if every head allows that its target is missing.

    Independent files are looked at one by one, and files whose rows belong together as one.
    """
    alone = spec.align == "sample"
    for group in [[csv] for csv in tables] if alone else [list(tables)]:
        heads = [(csv, head) for csv in group for head in heads_of(spec, csv)]
        if not heads or any(head.missing is None for _, head in heads):
            continue
        idle = np.logical_and.reduce([lacking(spec, head, tables[csv]) for csv, head in heads])
        if not idle.any() or idle.all():  # a head without any target is refused when it is learned
            continue
        tables = tables | {
            csv: replace(tables[csv], frame=tables[csv].frame[~idle]) for csv in group
        }
        names = ", ".join(tables[csv].path.name for csv in group)
        verb = "has no target and is" if idle.sum() == 1 else "have no target and are"
        notes.append(f"{names}: {idle.sum()} of {len(idle)} rows {verb} left out")
    return tables


def source_of(table: Table, prepared: Sequence[Prepared], targets: Arrays) -> Source:
    """Return the rows of one file, from its inputs and the targets of its heads."""
    return Source(
        path=table.path,
        rows=len(table.frame),
        arrays={name: array for one in prepared for name, array in one.arrays.items()},
        targets=targets,
        digest=digest(table.path),
        columns=tuple(table.columns),
        lines=table.frame.index.to_numpy(np.int64),
        missing={name: mask for one in prepared for name, mask in one.missing.items()},
    )


def _read_inputs(spec: Spec, csv: str, table: Table, notes: list[str]) -> list[Prepared]:
    """Return the inputs of one file."""
    inputs = []
    for entry in spec.inputs.values():
        if entry.csv == csv:
            inputs.append(prepare(spec, entry, table))
            noted = set(notes)
            notes += [note for note in inputs[-1].notes if note not in noted]
    return inputs


def _read_targets(
    spec: Spec, csv: str, table: Table, notes: list[str]
) -> tuple[Arrays, dict[str, tuple[str, ...] | None]]:
    """Return the targets and labels of the heads whose targets are in one file."""
    targets: Arrays = {}
    labels: dict[str, tuple[str, ...] | None] = {}
    for head in heads_of(spec, csv):
        targets[head.name], labels[head.name] = learn(spec, head, table)
        count = int((~known(targets[head.name])).sum())
        if count:
            verb = "lacks" if count == 1 else "lack"
            notes.append(
                f"{table.path.name}: {count} of {len(table.frame)} rows {verb} the target of head"
                f" {head.name!r}, which learns from the others"
            )
    return targets, labels
