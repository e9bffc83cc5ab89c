"""The meaning of each column of a table, or key of a row: the part of an input that it holds.

    ["insurance.age", "bmi", "digit"]  ─▶  insurance's age, insurance's bmi, all of digit

A name is that of a whole input, the full or bare name of a feature, or the n-th value of an input
without features.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import nearest
from service.wire import cells
from service.wire.body import Notes, count, key, listing, show
from service.wire.column_names import WHOLE, ColumnNames, dtypes, full_name, holder
from service.wire.rows import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from service.signature import Input, Signature
    from service.wire.column_names import Meaning, Step

    Gather = Callable[[Sequence[Any]], Any]
    """A function that takes the cells of a row and returns an input's row."""


class Parts(NamedTuple):
    """The parts of rows that have the same keys."""

    gathers: Sequence[tuple[str, Gather, str]]
    """For each input, its name, the function that builds its row, and the step of its path."""
    absent: int
    """The number of inputs that are needed, and that these rows do not have."""


@dataclass(frozen=True)
class Names:
    """The names that columns and keys may have, for one signature."""

    signature: Signature
    needed: tuple[str, ...]
    columns: ColumnNames
    shown: tuple[str, ...]
    """The names that a message lists."""
    meant: tuple[str, ...]
    """The names that a message may suggest for an unknown one."""

    @property
    def single(self) -> bool:
        """True if the model has only one input, whose name may then be left out."""
        return len(self.signature.inputs) == 1

    def meanings(self, name: str) -> Sequence[Meaning]:
        """Return the parts of inputs that a name can mean; a single input's name may be left out.

        A name that means a whole input is not among them.
        """
        if self.single and "." not in name:
            entry = next(iter(self.signature.inputs.values()))
            meaning = self.columns.value(full_name(entry, name))
            if meaning is not None:
                return (meaning,)
        return self.columns.meanings(name)


def names_of(signature: Signature) -> Names:
    """Collect the names that columns may have for a signature."""
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
    """The parts of inputs that the names in one header, or the keys of one row, mean."""

    def __init__(
        self,
        names: Names,
        header: Sequence[str],
        column: Callable[[int], Iterable[Any]],
        place_of: Callable[[int], str],
        notes: Notes,
    ) -> None:
        """Assign the names to parts of inputs, and note wrong names.

        Args:
            names: the names that columns may have.
            header: the names in the request.
            column: returns the cells under the n-th name.
            place_of: returns the path of the n-th name.
            notes: takes the mistakes.
        """
        self.steady = True
        """True if the names mean the same in every row that has them, whatever its values."""
        self._names = names
        self._header = header
        self._place_of = place_of
        self._notes = notes
        self._places: dict[str, dict[Step, int]] = {}
        self._faulty: set[str] = set()
        for position, name in enumerate(header):
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
            # A feature may have the name of an input, but its values are neither lists nor objects.
            self.steady = False
            if not any(isinstance(cell, (dict, list)) for cell in column):
                entry = None
        return parts if entry is None else ((entry, WHOLE),)

    def _take(self, entry: Input, step: Step, position: int) -> None:
        taken = self._places.setdefault(entry.name, {})
        other_position = holder(taken, step)
        if other_position is None:
            taken[step] = position
            return
        self._faulty.add(entry.name)
        name, other = self._header[position], self._header[other_position]
        expected = f"either that or {show(other)}, since they hold the same"
        expected = "each name once" if name == other else expected
        self._notes.add(self._place_of(position), expected, show(name))

    def _refuse(self, name: str, parts: Sequence[Meaning], position: int) -> None:
        self._faulty.update(entry.name for entry, _ in parts)
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
        """Note the first value of an input that has no column, although other values have one."""
        places = self._places[entry.name]
        if entry.features or self.whole(entry.name) or entry.name in self._faulty:
            return
        size = entry.tensors[0].size or 0
        lacking = next((i for i in range(size) if i not in places), None)
        if lacking is not None:
            self._faulty.add(entry.name)
            expected = f"{count(size, 'column')}, {_range(entry, size)}"
            received = f"{len(places)}, without {show(full_name(entry, lacking))}"
            self._notes.add(self._place_of(min(places.values())), expected, received)

    def note_missing(self, place: str) -> None:
        """Note once, at the place of the header, the needed names that are absent."""
        single = self._names.single
        for name in self._names.needed:
            entry, places = self._names.signature.inputs[name], self._places.get(name, {})
            if name in self._faulty or self.whole(name):
                continue
            for feature in entry.features:
                if feature.name not in places and feature.default is None:
                    self._faulty.add(name)
                    wanted = show(_name(entry, feature.name, single=single))
                    self._notes.add(place, f"{wanted}, which has no default", "no such column")
            if not entry.features and not places:
                self._faulty.add(name)
                size = entry.tensors[0].size if entry.tensors[0].shape else None
                parts = f", or {_range(entry, size)}" if size else ""
                self._notes.add(place, f"{show(name)}{parts}", "no such column")

    def whole(self, name: str) -> bool:
        """Return whether an input's row is in one cell."""
        return WHOLE in self._places.get(name, {})

    def suffix(self, name: str) -> str:
        """Return the path step from a row to an input; empty if the row is the input itself."""
        parts = name in self._places or self._names.signature.inputs[name].features
        return "" if self._names.single and parts and not self.whole(name) else key(name)

    def gather(self, name: str) -> Gather | None:
        """Return a function that builds an input's row from the cells of a row.

        Return `None` if the input is neither named nor needed, or its columns have mistakes.
        """
        places = self._places.get(name)
        if name in self._faulty or (places is None and name not in self._names.needed):
            return None
        entry = self._names.signature.inputs[name]
        if places is None:
            return lambda _: MISSING
        if WHOLE in places:
            return itemgetter(places[WHOLE])
        if entry.features:
            return lambda record: {step: record[position] for step, position in places.items()}
        positions = [places[i] for i in range(len(places))]
        return lambda record: [record[position] for position in positions]

    def parts(self) -> Parts:
        """Return what a row has of each input, for rows with the same keys."""
        gathers = [(name, self.gather(name)) for name in self._names.signature.inputs]
        return Parts(
            [(name, gather, self.suffix(name)) for name, gather in gathers if gather is not None],
            sum(gather is not None and name not in self._places for name, gather in gathers),
        )

    def values_of(self, rows: Sequence[Sequence[str]]) -> Sequence[Sequence[Any]]:
        """Convert the cells of rows from text to JSON values."""
        converted: list[list[Any]] = [[*row] for row in rows]
        for name, places in self._places.items():
            entry = self._names.signature.inputs[name]
            of_step = dtypes(entry)
            for step, position in places.items():
                dtype = of_step.get(f"{step}", entry.tensors[0].dtype)
                for row in converted:
                    cell = row[position]
                    row[position] = (
                        cells.row(cell, entry) if step == WHOLE else cells.value(cell, dtype)
                    )
        return converted


def _range(entry: Input, size: int) -> str:
    return f"{full_name(entry, 0)} to {full_name(entry, size - 1)}"
