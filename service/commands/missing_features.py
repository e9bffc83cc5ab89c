"""Features that a whole file misses: an error, unless `--allow-missing` names them.

A misspelt column would otherwise give every row the default, and turn answers over unnoticed.  A
value that some rows miss is another case: it takes its default, and the command counts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import click

from service.commands.row_files import RowsError
from service.errors import MISUSED, nearest
from service.wire import native
from service.wire.column_names import ColumnNames, full_name
from service.wire.table_columns import absent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from service.commands.csv_rows import CsvRows
    from service.commands.row_files import Row
    from service.signature import Feature, Signature

    Required = Mapping[str, tuple[Feature, ...]]
    """For each input that is needed, its features that a file may not miss as a whole."""

FLAG = "--allow-missing"


class MissingFeaturesError(RowsError):
    """A file misses features in all of its rows."""

    exit_code = MISUSED


def required(signature: Signature, heads: tuple[str, ...], allow: Sequence[str]) -> Required:
    """Return the features that a file needs, by the inputs that the heads read.

    An input that has no features is needed as a whole.

    Args:
        signature: the signature of the model.
        heads: the names of the heads that are computed.
        allow: the features that the file may miss, by their bare or full names, and inputs, which
            stand for all of their features.

    Raises:
        click.BadParameter: a name in `allow` is that of no feature, of several, or of one that has
            no default.
    """
    allowed = _allowed(signature, allow)
    needed = {}
    for name in signature.needed(heads):
        entry = signature.inputs[name]
        kept = tuple(f for f in entry.features if full_name(entry, f.name) not in allowed)
        if kept or not entry.features:
            needed[name] = kept
    return needed


def known(signature: Signature, names: Sequence[str]) -> list[str]:
    """Return those of `names` that are features or inputs of a model."""
    columns = ColumnNames.of(signature)
    return [name for name in names if name in signature.inputs or columns.meanings(name)]


def _allowed(signature: Signature, names: Sequence[str]) -> set[str]:
    """Return the full names of the features that `--allow-missing` names."""
    columns = ColumnNames.of(signature)
    allowed: set[str] = set()
    for name in names:
        entry = signature.inputs.get(name)
        features = [
            (owner, step) for owner, step in columns.meanings(name) if isinstance(step, str)
        ]
        if len(features) > 1:
            clear = " or ".join(full_name(*feature) for feature in features)
            _refuse(f"{name!r} is a feature of several inputs: say {clear}")
        if not features and entry is not None:
            if not entry.features:
                _refuse(f"the input {name!r} has no default, so no row may miss it")
            features = [(entry, feature) for feature in entry.feature_names]
        if not features:
            near = nearest(name, [*columns.bare, *columns.full])
            _refuse(f"expected a feature{near}, received {name!r}")
        for owner, feature in features:
            if owner.features[owner.feature_names.index(feature)].default is None:
                _refuse(f"{full_name(owner, feature)} has no default, so no row may miss it")
        allowed |= {full_name(*feature) for feature in features}
    return allowed


def _refuse(message: str) -> NoReturn:
    raise click.BadParameter(message, param_hint=FLAG)


def check_header(path: Path, file: CsvRows, signature: Signature, needed: Required) -> None:
    """Refuse a CSV that lacks columns.

    Args:
        path: the path of the file, for messages.
        file: the file.
        signature: the signature of the model.
        needed: the features that are needed.

    Raises:
        MissingFeaturesError: columns are missing; the message has the most similar names.
    """
    lines = [
        f"{path}, line 1: expected {lack.expected}, "
        f"received {lack.received or 'an empty file'}{_way_out(lack.name, lack.features)}"
        for lack in absent(file.header, file.meanings, signature, needed, "the file")
    ]
    if lines:
        raise MissingFeaturesError("\n".join(lines))


def _way_out(name: str, features: Sequence[Feature]) -> str:
    if not features or any(feature.default is None for feature in features):
        return ""
    default = f"its default, {features[0].default!r}" if len(features) == 1 else "the defaults"
    return f"; {FLAG} {name} scores all rows with {default}"


def watch(path: Path, rows: Iterator[Row], signature: Signature, needed: Required) -> Iterator[Row]:
    """Yield the rows of a file without a header; at the end, refuse features that none had.

    Args:
        path: the path of the file, for messages.
        rows: the rows, which name their features themselves.
        signature: the signature of the model.
        needed: the features that are needed; the reader of the rows checks the other ones.

    Raises:
        MissingFeaturesError: there are rows, and a feature with a default is in none of them.
    """
    lacking = {
        full_name(signature.inputs[name], feature.name): feature
        for name, features in needed.items()
        for feature in features
        if feature.default is not None
    }
    empty = True
    for row in rows:
        empty = False
        if lacking:
            for name in _features_of(row.instance, signature):
                lacking.pop(name, None)
        yield row
    if lacking and not empty:
        raise MissingFeaturesError(
            "\n".join(
                f"{path}: expected {name} in some row, received none{_way_out(name, [feature])}"
                for name, feature in lacking.items()
            )
        )


def _features_of(instance: Any, signature: Signature) -> Iterator[str]:
    """Yield the full names of the features that a row has, as `null` too."""
    if native.is_bare(signature, instance):
        instance = dict.fromkeys(signature.inputs, instance)
    for name, row in instance.items() if isinstance(instance, dict) else ():
        entry = signature.inputs.get(name)
        if entry is not None:
            features = row if isinstance(row, dict) else entry.feature_names
            yield from (full_name(entry, feature) for feature in features)
