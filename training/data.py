"""Loading of a spec's data in one call: CSV files to arrays by tensor and by head.

    csv_file, table ──▶ text cells ── align ──▶ the same rows ── features, targets ──▶ rows.Data

Nothing is dropped or coerced silently: what the user should know becomes a note, and a mistake in a
spec or a file stops the run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from training.align import align
from training.csv_file import find
from training.features import prepare
from training.rows import Data, Source
from training.table import read
from training.targets import check_targets, learn, target_names

if TYPE_CHECKING:
    from pathlib import Path

    from service.signature import Input
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
            files[entry.csv] = _read(spec, entry, folder)
    tables, notes = align(spec, files)
    if spec.fit.rows is not None:
        notes.insert(0, f"only the first {spec.fit.rows} rows of each file are used (fit.rows)")
    sources: dict[str, Source] = {}
    inputs: dict[str, Input] = {}
    labels: dict[str, tuple[str, ...] | None] = {}
    for csv, table in tables.items():
        check_targets(spec, csv, table)
        arrays, described = _read_inputs(spec, csv, table, notes)
        targets, classes = _read_targets(spec, csv, table)
        sources[csv] = Source(table.path, len(table.frame), arrays, targets)
        inputs |= described
        labels |= classes
    inputs = {name: inputs[name] for name in spec.inputs}
    return Data(sources, spec.align, inputs, labels, tuple(notes))


def _read(spec: Spec, entry: InputSpec, folder: Path | None) -> Table:
    base = re.split(r"[/\\]", entry.csv)[-1]
    wanted = spec.path.parent / entry.csv if folder is None else folder / base
    every = "" if folder is None else "; --data has to hold every file of the spec"
    path = find(wanted, f"{spec.path}: inputs.{entry.name}.csv", every)
    users = [other for other in spec.inputs.values() if other.csv == entry.csv]

    def text(names: list[str]) -> list[str]:
        return [*target_names(spec, entry.csv, names), entry.key or ""]

    return read(
        path,
        header=entry.header,
        rows=spec.fit.rows,
        text=text if all(other.image for other in users) else None,
    )


def _read_inputs(
    spec: Spec, csv: str, table: Table, notes: list[str]
) -> tuple[Arrays, dict[str, Input]]:
    """Return the inputs of one file: arrays by tensor, and descriptions for the signature."""
    arrays: Arrays = {}
    described: dict[str, Input] = {}
    for entry in spec.inputs.values():
        if entry.csv == csv:
            described[entry.name], tensors, new = prepare(spec, entry, table)
            arrays |= tensors
            noted = set(notes)
            notes += [note for note in new if note not in noted]
    return arrays, described


def _read_targets(
    spec: Spec, csv: str, table: Table
) -> tuple[Arrays, dict[str, tuple[str, ...] | None]]:
    """Return the targets and labels of the heads whose targets are in one file."""
    targets: Arrays = {}
    labels: dict[str, tuple[str, ...] | None] = {}
    for head in spec.heads.values():
        if spec.inputs[head.targets[0][0]].csv == csv:
            targets[head.name], labels[head.name] = learn(spec, head, table)
    return targets, labels
