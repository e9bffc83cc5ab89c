"""The rows of `triceps sign --reference`: the reference that they are for a model.

    rows.csv ─ row_runs ─▶ arrays, answers ─ insight.drift.record ─▶ the reference

One value for each row and feature is in memory, and of an image three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.commands import missing_features, row_runs
from service.commands.opened_rows import opened
from service.commands.row_files import RowsError
from service.insight.drift.quantities import columns, quantities
from service.insight.drift.record import record
from service.repository.loader import Servable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.inference.model import Model
    from service.reference import Reference

# The origin of the rows, as the reference names it.
_OF = {"inputs": "given", "heads": "given"}


def read(path: Path, model: Model, allow: Sequence[str]) -> Reference:
    """Return the distributions of the rows of a file, and of the model's answers to them.

    Args:
        path: the file, a CSV by its name or else JSON.
        model: the model, whose signature has its features and labels already.
        allow: the features that the file may miss, as `--allow-missing` names them.

    Raises:
        RowsError: the file has no rows, or one is not what the model takes.
    """
    signature = model.signature
    heads = tuple(signature.heads)
    chosen = quantities(signature)
    parts: list[list[NDArray[Any]]] = [[] for _ in chosen]
    needed = missing_features.required(signature, heads, allow)
    servable = Servable(path.name, "", model, signature)
    with opened(path, signature, needed) as read:
        for run in row_runs.runs(read.rows, servable, heads, row_runs.Counts()):
            values = columns(chosen, {**run.arrays, **run.outputs}, run.missing)
            for part, column in zip(parts, values, strict=True):
                if column is not None:
                    part.append(column.copy())  # a view would keep the whole array in memory
    if not any(parts):
        raise RowsError(f"{path}: expected rows for the reference, received none")
    joined = [np.concatenate(part) if part else None for part in parts]
    return record(chosen, joined, _OF)
