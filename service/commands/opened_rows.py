"""The rows of a file of either form, CSV or JSON, checked for features that it misses."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, NamedTuple

from service.commands import missing_features
from service.commands.csv_rows import read_csv
from service.commands.json_rows import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from service.commands.missing_features import Required
    from service.commands.row_files import Row
    from service.signature import Signature


class OpenedRows(NamedTuple):
    """The rows of an open file, the names of the columns that are passed through, and the file."""

    others: Sequence[str]
    rows: Iterator[Row]
    file: IO[str]


@contextlib.contextmanager
def opened(
    path: Path, signature: Signature, needed: Required, *, keep: bool = False
) -> Iterator[OpenedRows]:
    """Open a file of rows for a model, a CSV by its name or else JSON; close it at the block's end.

    Args:
        path: the file.
        signature: the signature of the model.
        needed: the features that the file may not miss.
        keep: pass all columns of a CSV through, and not only those that are not the model's.

    Raises:
        RowsError: the file is of another form, or misses features.
    """
    # utf-8-sig, since spreadsheets write a byte order mark first.
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            read = read_csv(path, file, signature, keep=keep)
            missing_features.check_header(path, read, signature, needed)
            yield OpenedRows(read.others, read.rows, file)
        else:
            rows = missing_features.watch(path, read_json(path, file), signature, needed)
            yield OpenedRows((), rows, file)
