"""The columns of a table, or the keys of a row: which part of which input each is.

    ["insurance.age", "bmi", "digit"]  ─▶  insurance's age, insurance's bmi, all of digit

An input whole, a feature in full or by its name alone, or the n-th value of a row that is no table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import nearest
from service.wire import cells
from service.wire.body import Notes, count, key, listing, show
from service.wire.column_names import WHOLE, ColumnNames, dtypes, full_name, holder
from service.wire.values import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from service.signature import Input, Signature
    from service.wire.column_names import Meaning, Step

    Gather = Callable[[Sequence[Any]], Any]
    """An input's row, of a row's cells."""


@dataclass(frozen=True)
class Names:
    """What columns and keys may be called, for one signature."""

    signature: Signature
    needed: tuple[str, ...]
    columns: ColumnNames
    shown: tuple[str, ...]
    """Those that a message lists."""
    meant: tuple[str, ...]
    """Those that an unknown name may be a slip of the hand for."""

    @property
    def single(self) -> bool:
        """Whether there is one input, which then need not be named."""
        return len(self.signature.inputs) == 1

    def meanings(self, name: str) -> Sequence[Meaning]:
        """Return what a name that is no input's can mean; a single input need not be in it."""
        if self.single and "." not in name:
            entry = next(iter(self.signature.inputs.values()))
            meaning = self.columns.value(full_name(entry, name))
            if meaning is not None:
                return (meaning,)
        return self.columns.meanings(name)


def names_of(signature: Signature) -> Names:
    """All that a signature's columns may be called."""
    single = len(signature.inputs) == 1
    columns = ColumnNames.of(signature)
    shown = []
    for entry in signature.inputs.values():
        shown += [_name(entry, name, single=single) for name in entry.feature_names]
        if not entry.features:
            shown.append(entry.name)
    needed = signature.needed(signature.head_names)
    meant = dict.fromkeys((*shown, *signature.inputs, *columns.bare))
    return Names(signature, needed, columns, tuple(shown), tuple(meant))


def _name(entry: Input, step: Step, *, single: bool) -> str:
    return f"{step}" if single else full_name(entry, step)


class Columns:
    """Which part of which input each of some names is."""

    def __init__(
        self,
        names: Names,
        given: Sequence[str],
        column: Callable[[int], Iterable[Any]],
        place_of: Callable[[int], str],
        notes: Notes,
    ) -> None:
        """Note what is wrong with the names given; `column` has the cells under the n-th."""
        self.steady = True
        """Whether rows of the same keys have nothing to say of their own about what they are."""
        self._names = names
        self._given = given
        self._place_of = place_of
        self._notes = notes
        self._places: dict[str, dict[Step, int]] = {}
        self._amiss: set[str] = set()
        for position, name in enumerate(given):
            parts = self._parts_of(name, column(position))
            if len(parts) == 1:
                self._take(*parts[0], position)
            else:
                self._refuse(name, parts, position)
        for name in self._places:
            self._check_values(names.signature.inputs[name])

    def _parts_of(self, name: str, column: Iterable[Any]) -> Sequence[Meaning]:
        entry = self._names.signature.inputs.get(name)
        parts = self._names.meanings(name)
        if entry is not None and parts:
            # A feature may be called like an input; no feature's value is a list or an object.
            self.steady = False
            if not any(isinstance(cell, (dict, list)) for cell in column):
                entry = None
        return parts if entry is None else ((entry, WHOLE),)

    def _take(self, entry: Input, step: Step, position: int) -> None:
        taken = self._places.setdefault(entry.name, {})
        before = holder(taken, step)
        if before is None:
            taken[step] = position
            return
        self._amiss.add(entry.name)
        name, other = self._given[position], self._given[before]
        expected = f"either that or {show(other)}, since they hold the same"
        expected = "each name once" if name == other else expected
        self._notes.add(self._place_of(position), expected, show(name))

    def _refuse(self, name: str, parts: Sequence[Meaning], position: int) -> None:
        self._amiss.update(entry.name for entry, _ in parts)
        if self._notes.full:
            self._notes.count += 1
        elif parts:
            expected = " or ".join(show(full_name(entry, step)) for entry, step in parts)
            received = f"{show(name)}, which several inputs have"
            self._notes.add(self._place_of(position), expected, received)
        else:
            expected = f"one of {listing(self._names.shown)}{nearest(name, self._names.meant)}"
            received = f"the unknown column {show(name)}"
            self._notes.add(self._place_of(position), expected, received)

    def _check_values(self, entry: Input) -> None:
        """Note the first value of a row that has no column where others have."""
        places = self._places[entry.name]
        if entry.features or self.whole(entry.name) or entry.name in self._amiss:
            return
        size = entry.tensors[0].size or 0
        lacking = next((i for i in range(size) if i not in places), None)
        if lacking is not None:
            self._amiss.add(entry.name)
            expected = f"{count(size, 'column')}, {_range(entry, size)}"
            received = f"{len(places)}, without {show(full_name(entry, lacking))}"
            self._notes.add(self._place_of(min(places.values())), expected, received)

    def note_missing(self, place: str) -> None:
        """Note once, at the header's place, the names that have to be there and are not."""
        single = self._names.single
        for name in self._names.needed:
            entry, places = self._names.signature.inputs[name], self._places.get(name, {})
            if name in self._amiss or self.whole(name):
                continue
            for feature in entry.features:
                if feature.name not in places and feature.default is None:
                    self._amiss.add(name)
                    wanted = show(_name(entry, feature.name, single=single))
                    self._notes.add(place, f"{wanted}, which has no default", "no such column")
            if not entry.features and not places:
                self._amiss.add(name)
                size = entry.tensors[0].size if entry.tensors[0].shape else None
                parts = f", or {_range(entry, size)}" if size else ""
                self._notes.add(place, f"{show(name)}{parts}", "no such column")

    def whole(self, name: str) -> bool:
        """Whether an input's row is one cell."""
        return WHOLE in self._places.get(name, {})

    def suffix(self, name: str) -> str:
        """The step from a row to an input in it; none where the row has nothing else."""
        parts = name in self._places or self._names.signature.inputs[name].features
        return "" if self._names.single and parts and not self.whole(name) else key(name)

    def gather(self, name: str) -> Gather | None:
        """What makes an input's row; `None` where none is wanted, or its columns are amiss."""
        places = self._places.get(name)
        if name in self._amiss or (places is None and name not in self._names.needed):
            return None
        entry = self._names.signature.inputs[name]
        if places is None:
            return lambda _: MISSING
        if WHOLE in places:
            position = places[WHOLE]
            return lambda record: cells.boxed(record[position], entry)
        if entry.features:
            return lambda record: {step: record[position] for step, position in places.items()}
        positions = [places[i] for i in range(len(places))]
        return lambda record: [record[position] for position in positions]

    def values_of(self, rows: Sequence[Sequence[str]]) -> Sequence[Sequence[Any]]:
        """The same rows with the JSON values that their cells would be."""
        made: list[list[Any]] = [[*row] for row in rows]
        for name, places in self._places.items():
            entry = self._names.signature.inputs[name]
            of_step = dtypes(entry)
            for step, position in places.items():
                dtype = of_step.get(f"{step}", entry.tensors[0].dtype)
                for row in made:
                    cell = row[position]
                    row[position] = (
                        cells.row(cell, entry) if step == WHOLE else cells.value(cell, dtype)
                    )
        return made


def _range(entry: Input, size: int) -> str:
    return f"{full_name(entry, 0)} to {full_name(entry, size - 1)}"
