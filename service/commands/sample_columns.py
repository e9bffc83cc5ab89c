"""The columns of samples in a CSV: the features and values of the inputs that samples have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from service.commands.row_files import RowsError
from service.errors import nearest
from service.wire.body import listing
from service.wire.column_names import ColumnNames, full_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from service.commands.row_files import Row
    from service.signature import Input, Signature


@dataclass(frozen=True)
class SampleColumns:
    """The names of the columns, and the features of each input; none of one without features."""

    names: tuple[str, ...]
    inputs: Mapping[str, tuple[Input, tuple[str, ...]]]

    @classmethod
    def of(
        cls, source: Path, signature: Signature, samples: Iterable[Row], chosen: Sequence[str]
    ) -> SampleColumns:
        """Read samples for the features that they have; others are private.

        Raises:
            RowsError: there are no samples, or none has an input of those that are chosen.
        """
        for name in chosen:
            if name not in signature.inputs:
                raise RowsError(
                    f"--input: expected one of {listing(signature.inputs)}"
                    f"{nearest(name, signature.inputs)}, received {name!r}"
                )
        there: dict[str, set[str]] = {}
        for row in samples:
            for name, value in row.instance.items():
                features = there.setdefault(name, set())
                if isinstance(value, dict):
                    features.update(value)
        wanted = [name for name in signature.inputs if name in (chosen or there)]
        lacking = [name for name in wanted if name not in there]
        if lacking or not wanted:
            expected = listing(lacking or signature.inputs)
            raise RowsError(
                f"{source}: expected samples with the input {expected}, received "
                f"{'others' if there else 'none'}"
            )
        inputs = {}
        for name in wanted:
            entry = signature.inputs[name]
            inputs[name] = entry, tuple(f for f in entry.feature_names if f in there[name])
        return cls(tuple(_names(signature, inputs)), inputs)

    def cells(self, instance: Mapping[str, Any]) -> list[str] | None:
        """Return the cells of a row; `None` if it lacks an input, or has it in another form."""
        cells: list[str] = []
        for name, (entry, features) in self.inputs.items():
            value = instance.get(name)
            if value is None or isinstance(value, dict) != bool(entry.features):
                return None
            if entry.features:
                cells += [_cell(value.get(feature)) for feature in features]
            elif entry.tensors[0].size is None:
                cells.append(orjson.dumps(value).decode())
            else:
                cells += map(_cell, _flat(value))
        return cells if len(cells) == len(self.names) else None


def _names(
    signature: Signature, inputs: Mapping[str, tuple[Input, tuple[str, ...]]]
) -> Iterator[str]:
    known = ColumnNames.of(signature)
    for entry, features in inputs.values():
        size = entry.tensors[0].size
        if entry.features:
            for feature in features:
                clear = len(known.meanings(feature)) == 1 and feature not in signature.inputs
                yield feature if clear else full_name(entry, feature)
        elif size is None or not entry.tensors[0].shape:
            yield entry.name
        else:
            yield from (full_name(entry, i) for i in range(size))


def _cell(value: Any) -> str:
    """Return a value as a cell, by which a reader of CSV gets the same value again."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value
