"""The rows of a file of either form, CSV or JSON, checked for features that it misses.

A folder stands for the files of samples in it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from service.commands import missing_features
from service.commands.csv_rows import read_csv
from service.commands.json_rows import read_json
from service.commands.row_files import RowsError, open_text
from service.wire.body import count, listing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from service.commands.missing_features import Required
    from service.commands.row_files import Row
    from service.signature import Signature


@dataclass(frozen=True)
class OpenedRows:
    """The rows of an open file, and the names of the columns that are passed through."""

    others: Sequence[str]
    rows: Iterator[Row]
    file: IO[str] | None
    """The file, unless it is a folder."""
    notes: list[str] = field(default_factory=list)
    """Messages about rows that were left out, once all have been read."""


@contextlib.contextmanager
def opened(  # noqa: PLR0913  each of these depends on the command
    path: Path,
    signature: Signature,
    needed: Required,
    *,
    keep: bool = False,
    complete: Collection[str] | None = None,
    sizes: Mapping[Path, int] | None = None,
) -> Iterator[OpenedRows]:
    """Open a file of rows for a model, a CSV by its name or else JSON; close it at the block's end.

    Args:
        path: the file, or a folder of samples.
        signature: the signature of the model.
        needed: the features that the file may not miss.
        keep: pass all columns of a CSV through, and not only those that are not the model's.
        complete: the inputs without which a sample is left out; by default those of `needed`.
        sizes: the files of a folder and the bytes of each that are read, by default all there are.

    Raises:
        RowsError: the file is of another form, or misses features.
    """
    notes: list[str] = []
    inputs = needed if complete is None else complete
    if path.is_dir():
        rows = _complete(path, samples_of(path, notes, sizes), inputs, notes)
        rows = missing_features.watch(path, rows, signature, needed)
        yield OpenedRows((), rows, None, notes)
        return
    with open_text(path) as file:
        if path.suffix.lower() == ".csv":
            read = read_csv(path, file, signature, keep=keep)
            missing_features.check_header(path, read, signature, needed)
            yield OpenedRows(read.others, read.rows, file)
        else:
            rows = _complete(path, read_json(path, file, notes=notes), inputs, notes)
            rows = missing_features.watch(path, rows, signature, needed)
            yield OpenedRows((), rows, file, notes)


def sizes_of(path: Path) -> Mapping[Path, int]:
    """Return the files of samples in a folder with their sizes by now; a service may write more."""
    return {file: file.stat().st_size for file in sorted(path.glob("*.jsonl"))}


def samples_of(
    path: Path, notes: list[str], sizes: Mapping[Path, int] | None = None
) -> Iterator[Row]:
    """Yield the rows of a file of samples, or of all files in a folder by the order of their names.

    Raises:
        RowsError: there is no such file, or one cannot be read.
    """
    files = (sizes_of(path) if sizes is None else sizes) if path.is_dir() else {path: None}
    if not files:
        inside = [one.parent.name for one in sorted(path.glob("*/*.jsonl"))]
        others = f"; those of a model are in {path / inside[0]}" if inside else ""
        message = f"{path}: expected a folder with samples, received one without .jsonl{others}"
        raise RowsError(message)
    for one, size in files.items():
        with open_text(one, size) as file:
            yield from read_json(one, file, notes=notes)


def _complete(
    path: Path, rows: Iterator[Row], inputs: Collection[str], notes: list[str]
) -> Iterator[Row]:
    """Yield the rows without the samples that lack inputs, as those of requests for other heads.

    Raises:
        RowsError: all rows lack some.
    """
    lacking: Counter[str] = Counter()
    left_out = kept = 0
    for row in rows:
        lacks = [] if row.sample is None else [n for n in inputs if n not in row.instance]
        if not lacks:
            kept += 1
            yield row
            continue
        left_out += 1
        lacking.update(lacks)
    if not left_out:
        return
    names = listing(lacking)
    if not kept:
        raise RowsError(
            f"{path}: expected samples with the inputs of all heads that are asked, received none "
            f"with all of {names}: their requests were for other heads, or these are private"
        )
    notes.append(f"{count(left_out, 'sample')} left out, without {names}")
