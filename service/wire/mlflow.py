"""MLflow's scoring protocol, and with it SageMaker's: a table or rows in, predictions out.

    {"dataframe_split": {"columns": ["insurance.age", …, "digit"], "data": [[47, …, […]], …]}}
    {"dataframe_records": [{"insurance.age": 47, …, "digit": […]}, …]}
    {"instances": [{"insurance": {"age": 47, …}, "digit": […]}, …]}
    {"inputs": {"insurance": [[47, …], …], "digit": [[…], …]}}
    insurance.age,…                             (text/csv: a header line, then a line for each row)
        ─▶  {"predictions": [{"o1": [0.93], "o2": […]}, …]}, for a single head [[0.93], …]

A column of a table and a key of a row are named alike: an input whole (`digit`, `insurance`), a
feature (`insurance.age`; or `age`, where one input alone has it) or the n-th value of a row that
is no table (`digit.0`; or `0`, where there is no other input).  A missing value takes its default.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from service.errors import BadRequest, nearest
from service.signature import MISSING_CELLS, TRUE_FALSE
from service.wire import body as bodies
from service.wire.body import DECODER, Imputed, Notes, count, key, listing, refuse_unknown, show
from service.wire.dialect import Dialect, Reply
from service.wire.values import MISSING, Rows, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Input, Signature
    from service.wire.dialect import Header, Reader

    Step = str | int
    """Of an input's row: a feature's name, the place of a value, or `_WHOLE`."""
    Part = tuple[Input, Step]
    Gather = Callable[[Sequence[Any]], Any]
    """An input's row, of a row's cells."""

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_WHOLE = -1
_PLACE = re.compile(r"0|[1-9][0-9]{0,9}")
# An image whole in one cell is long; a quotation mark that is never closed is longer.
_LONGEST_CELL = 1 << 24

# MLflow's names for what has one; whatever else is the caller's fault is a bad request.
_CODES = {404: "RESOURCE_DOES_NOT_EXIST", 503: "TEMPORARILY_UNAVAILABLE"}
_SERVER_ERROR = 500


@dataclass(frozen=True)
class Request:
    """A decoded body: arrays by tensor, for all heads there are."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    imputed: Sequence[Imputed]


@dataclass(frozen=True)
class _Names:
    """What columns and keys may be called, for one signature."""

    signature: Signature
    needed: tuple[str, ...]
    full: Mapping[str, Part]
    """Features by their names in full."""
    bare: Mapping[str, Sequence[Part]]
    """Features by their names alone, which several inputs may have."""
    shown: tuple[str, ...]
    """Those that a message lists."""
    meant: tuple[str, ...]
    """Those that an unknown name may be a slip of the hand for."""

    @property
    def single(self) -> bool:
        """Whether there is one input, which then need not be named."""
        return len(self.signature.inputs) == 1

    def parts(self, name: str) -> Sequence[Part]:
        """What a name that is no input's can mean."""
        # A name in full is what it says, whatever feature is called like it.
        part = self.full.get(name) or self._value(name)
        return self.bare.get(name, ()) if part is None else (part,)

    def _value(self, name: str) -> Part | None:
        """The n-th value of a row; worked out, since an image's row has many thousands."""
        owner, dot, place = name.rpartition(".")
        inputs = self.signature.inputs
        entry = next(iter(inputs.values())) if self.single and not dot else inputs.get(owner)
        if entry is None or entry.features or not _PLACE.fullmatch(place):
            return None
        tensor = entry.tensors[0]
        size = (tensor.size or 0) if tensor.shape else 0
        return (entry, int(place)) if int(place) < size else None


@dataclass(frozen=True)
class _Table:
    """Rows of cells under one header; a cell is text in a CSV, and a JSON value elsewhere."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    place: str
    """Of the header."""
    place_of: Callable[[int], str]
    """Of the n-th name in the header."""
    path: Callable[[int, str, _Columns], str]
    """Of an input's row, by the row's number and the input's name."""
    text: bool = False


def reader(signature: Signature) -> Reader:
    """What reads bodies for a model."""
    return partial(_read_body, _names_of(signature))


def _names_of(signature: Signature) -> _Names:
    single = len(signature.inputs) == 1
    full: dict[str, Part] = {}
    bare: dict[str, list[Part]] = {}
    shown = []
    for entry in signature.inputs.values():
        for name in entry.feature_names:
            full[f"{entry.name}.{name}"] = (entry, name)
            bare.setdefault(name, []).append((entry, name))
            shown.append(_name(entry, name, single=single))
        if not entry.features:
            shown.append(entry.name)
    needed = signature.needed(signature.head_names)
    meant = dict.fromkeys((*shown, *signature.inputs, *bare))
    return _Names(signature, needed, full, bare, tuple(shown), tuple(meant))


def _name(entry: Input, step: Step, *, single: bool) -> str:
    return f"{step}" if single else f"{entry.name}.{step}"


def _read_body(names: _Names, body: bytes, header: Header) -> Request:
    notes = Notes()
    if header("Content-Type").partition(";")[0].strip().lower() == "text/csv":
        found = _read_csv(body, names, notes)
    else:
        found = _read_json(body, names, notes)
    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in found.items():
        made = read(names.signature.inputs[name], rows, notes)
        # What nothing depends on was only checked.
        arrays |= made if name in names.needed else {}
    notes.stop()
    imputed: list[Imputed] = []
    if notes.imputed:
        for name in names.needed:
            imputed += _imputed(names.signature.inputs[name], found[name])
    return Request(arrays, names.signature.head_names, imputed)


def _imputed(entry: Input, rows: Rows) -> Iterator[Imputed]:
    """The defaults that were taken, by the paths that instances have in any body, to be counted."""
    for i, row in enumerate(rows.values):
        for j, feature in enumerate(entry.features):
            given = row[j] if isinstance(row, list) else {} if row is MISSING else row
            value = given.get(feature.name) if isinstance(given, dict) else given
            if value is None and feature.default is not None:
                place = f"instances[{i}]{key(entry.name)}{key(feature.name)}"
                yield Imputed(place, feature.default)


def _read_json(body: bytes, names: _Names, notes: Notes) -> dict[str, Rows]:
    said = bodies.parse(body)
    expected = f"exactly one of {', '.join(map(show, _FORMS))}"
    if not isinstance(said, dict):
        raise bodies.wrong("body", f"an object with {expected}", show(said))
    refuse_unknown(said, "key", (*_FORMS, "params"), "", notes)
    _refuse_params(said.get("params"), notes)
    given = [form for form in _FORMS if form in said]
    if len(given) != 1:
        notes.add("body", expected, " and ".join(map(show, given)) or "none of them")
        return {}
    form = given[0]
    value = said[form]
    if form == "dataframe_split":
        found = _read_split(value, names, notes)
    elif form == "inputs" and isinstance(value, dict):
        found = _read_columns(value, names, notes)
    else:
        found = _read_rows(form, value, names, notes)
    # Looking for it once costs less than asking each value.
    return _without_nan(found, names) if b"NaN" in body else found


def _refuse_params(params: Any, notes: Notes) -> None:
    if isinstance(params, dict):
        for name, value in params.items():
            expected = "no parameters, since no model here takes any"
            notes.add(f"params{key(name)}", expected, show(value))
    elif params is not None:
        notes.add("params", "an object", show(params))


def _without_nan(found: Mapping[str, Rows], names: _Names) -> dict[str, Rows]:
    """The same rows with `None` for each feature that is NaN: so pandas writes what is missing."""

    def known(value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else value

    def row_of(row: Any) -> Any:
        if isinstance(row, dict):
            return {name: known(value) for name, value in row.items()}
        return [known(value) for value in row] if isinstance(row, list) else row

    return {
        name: rows._replace(values=[row_of(row) for row in rows.values])
        if names.signature.inputs[name].features
        else rows
        for name, rows in found.items()
    }


def _read_split(said: Any, names: _Names, notes: Notes) -> dict[str, Rows]:
    place = "dataframe_split"
    if not isinstance(said, dict):
        notes.add(place, 'an object with "columns" and "data"', show(said))
        return {}
    refuse_unknown(said, "key", ("columns", "data", "index"), place, notes)
    rows, columns, index = said.get("data"), said.get("columns"), said.get("index")
    if not isinstance(rows, list) or not rows:
        received = show(rows) if "data" in said else "nothing"
        notes.add(f"{place}.data", "a list of at least one row", received)
        return {}
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        notes.add(f"{place}.index", f"a list of {len(rows)}, one for each row", show(index))
    if columns is None and isinstance(rows[0], list):
        columns = list(range(len(rows[0])))  # as pandas names them
    if not isinstance(columns, list) or not columns:
        notes.add(f"{place}.columns", "a list of names", show(columns))
        return {}
    before = notes.count
    for i, column in enumerate(columns):
        if type(column) not in (str, int):
            notes.add(f"{place}.columns[{i}]", "a name", show(column))
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            received = count(len(row), "value") if isinstance(row, list) else show(row)
            expected = f"a list of {count(len(columns), 'value')}, one for each column"
            notes.add(f"{place}.data[{i}]", expected, received)
    if notes.count > before:
        return {}
    table = _Table(
        [f"{column}" for column in columns],
        rows,
        f"{place}.columns",
        lambda position: f"{place}.columns[{position}]",
        lambda i, name, found: f"{place}.data[{i}]{found.suffix(name)}",
    )
    return _read_table(table, names, notes)


def _read_columns(columns: dict[str, Any], names: _Names, notes: Notes) -> dict[str, Rows]:
    if not columns:
        notes.add("inputs", f"an object of {listing(names.shown)}", show(columns))
        return {}
    keys = tuple(columns)
    heights: dict[str, int] = {}
    for name, column in columns.items():
        if isinstance(column, list) and column:
            heights[name] = len(column)
        else:
            notes.add(f"inputs{key(name)}", "a list of at least one row", show(column))
    first, height = next(iter(heights.items()), ("", 0))
    for name, other in heights.items():
        if other != height:
            expected = f"{count(height, 'row')}, as inputs{key(first)} has"
            notes.add(f"inputs{key(name)}", expected, count(other, "row"))
    even = len(heights) == len(columns) and set(heights.values()) == {height}

    def path(i: int, name: str, found: _Columns) -> str:
        return f"inputs{key(name)}[{i}]" if found.whole(name) else f"inputs, row {i}, {name}"

    table = _Table(
        keys,
        list(zip(*columns.values(), strict=True)) if even else [],
        "inputs",
        lambda position: f"inputs{key(keys[position])}",
        path,
    )
    return _read_table(table, names, notes)


def _read_table(table: _Table, names: _Names, notes: Notes) -> dict[str, Rows]:
    """By input, its rows of a table."""

    def cells(position: int) -> Iterable[Any]:
        return (row[position] for row in table.rows)

    columns = _Columns(names, table.names, cells, table.place_of, notes)
    columns.note_missing(table.place)
    rows = columns.values_of(table.rows) if table.text else table.rows
    found = {}
    for name in names.signature.inputs:
        gather = columns.gather(name)
        if gather is not None and rows:
            places = [table.path(i, name, columns) for i in range(len(rows))]
            found[name] = Rows([gather(row) for row in rows], places.__getitem__)
    return found


def _read_rows(form: str, rows: Any, names: _Names, notes: Notes) -> dict[str, Rows]:
    """By input, its rows of a list of rows, each of which names its own parts."""
    if not isinstance(rows, list) or not rows:
        expected = "a list of at least one row"
        if form == "inputs":
            expected += ", or an object of columns"
        notes.add(form, expected, show(rows))
        return {}
    inputs = names.signature.inputs
    values: dict[str, list[Any]] = {name: [] for name in inputs}
    places: dict[str, list[str]] = {name: [] for name in inputs}
    known: dict[tuple[str, ...], _Columns] = {}
    for i, row in enumerate(rows):
        place = f"{form}[{i}]"
        if isinstance(row, dict):
            keys = tuple(row)
            columns = known.get(keys)
            if columns is None:
                columns = _keys_of(row, names, place, notes)
                if columns.steady:
                    known[keys] = columns
            cells = tuple(row.values())
            for name in inputs:
                gather = columns.gather(name)
                if gather is not None:
                    values[name].append(gather(cells))
                    places[name].append(place + columns.suffix(name))
        elif names.single:
            for name, entry in inputs.items():
                values[name].append(_boxed(entry, row))
                places[name].append(place)
        else:
            notes.add(place, f"an object of {listing(names.shown)}", show(row))
    return {name: Rows(values[name], places[name].__getitem__) for name in inputs if values[name]}


def _keys_of(row: dict[str, Any], names: _Names, place: str, notes: Notes) -> _Columns:
    """What the keys of one row are."""
    keys, cells = tuple(row), tuple(row.values())
    return _Columns(
        names,
        keys,
        lambda position: cells[position : position + 1],
        lambda position: f"{place}{key(keys[position])}",
        notes,
    )


class _Columns:
    """Which part of which input each of some names is."""

    def __init__(
        self,
        names: _Names,
        given: Sequence[str],
        cells: Callable[[int], Iterable[Any]],
        place_of: Callable[[int], str],
        notes: Notes,
    ) -> None:
        """Note what is wrong with the names given; `cells` are those under the n-th of them."""
        self.steady = True
        """Whether rows of the same keys have nothing to say of their own about them."""
        self._names = names
        self._given = given
        self._place_of = place_of
        self._notes = notes
        self._places: dict[str, dict[Step, int]] = {}
        self._amiss: set[str] = set()
        before = notes.count
        for position, name in enumerate(given):
            parts = self._parts_of(name, cells(position))
            if len(parts) == 1:
                self._take(*parts[0], position)
            else:
                self._refuse(name, parts, position)
        for name in self._places:
            self._check_values(names.signature.inputs[name])
        self.steady &= notes.count == before

    def _parts_of(self, name: str, cells: Iterable[Any]) -> Sequence[Part]:
        entry = self._names.signature.inputs.get(name)
        parts = self._names.parts(name)
        if entry is not None and parts:
            # A feature may be called like an input; no feature's value is a list or an object.
            self.steady = False
            if not any(isinstance(cell, (dict, list)) for cell in cells):
                entry = None
        return parts if entry is None else ((entry, _WHOLE),)

    def _take(self, entry: Input, step: Step, position: int) -> None:
        taken = self._places.setdefault(entry.name, {})
        before = taken.get(step, taken.get(_WHOLE))
        if before is None and step == _WHOLE and taken:
            before = next(iter(taken.values()))
        if before is None:
            taken[step] = position
            return
        self._amiss.add(entry.name)
        name, other = self._given[position], self._given[before]
        expected = f"either that or {show(other)}, since they hold the same"
        expected = "each name once" if name == other else expected
        self._notes.add(self._place_of(position), expected, show(name))

    def _refuse(self, name: str, parts: Sequence[Part], position: int) -> None:
        self._amiss.update(entry.name for entry, _ in parts)
        if self._notes.full:
            self._notes.count += 1
        elif parts:
            expected = " or ".join(show(f"{entry.name}.{step}") for entry, step in parts)
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
            received = f"{len(places)}, without {show(f'{entry.name}.{lacking}')}"
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
        return _WHOLE in self._places.get(name, {})

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
        if _WHOLE in places:
            position = places[_WHOLE]
            return lambda cells: _boxed(entry, cells[position])
        if entry.features:
            return lambda cells: {step: cells[position] for step, position in places.items()}
        positions = [places[i] for i in range(len(places))]
        return lambda cells: [cells[position] for position in positions]

    def values_of(self, rows: Sequence[Sequence[str]]) -> Sequence[Sequence[Any]]:
        """The same rows with the JSON values that their cells would be."""
        made: list[list[Any]] = [[*row] for row in rows]
        for name, places in self._places.items():
            convert = _converter(self._names.signature.inputs[name])
            for step, position in places.items():
                for row in made:
                    row[position] = convert(step, row[position])
        return made


def _range(entry: Input, size: int) -> str:
    return f"{entry.name}.0 to {entry.name}.{size - 1}"


def _boxed(entry: Input, value: Any) -> Any:
    """A row of just one value as the graph has it, where it came without its brackets."""
    tensor = entry.tensors[0]
    if not entry.features and tensor.size == 1 and isinstance(value, (bool, int, float, str)):
        for _ in tensor.shape:
            value = [value]
    return value


def _read_csv(body: bytes, names: _Names, notes: Notes) -> dict[str, Rows]:
    records = _records(body)
    _, cells = next(records, (0, []))
    header = [name.strip() for name in cells]
    rows, lines = [], []
    for line, cells in records:
        if len(cells) != len(header):
            expected = f"{count(len(header), 'cell')}, as the header has"
            notes.add(f"line {line}", expected, f"{len(cells)}")
        rows.append([cell.strip() for cell in cells])
        lines.append(f"line {line}")
    if not rows:
        received = "a header line alone" if header else "no body"
        raise bodies.wrong("body", "CSV: a header line, and a line for each row", received)
    if notes.count:
        return {}
    place = "line 1, the header"

    def path(i: int, name: str, _: _Columns) -> str:
        return f"{lines[i]}, {name}"

    table = _Table(header, rows, place, lambda _: place, path, text=True)
    return _read_table(table, names, notes)


def _records(body: bytes) -> Iterator[tuple[int, list[str]]]:
    """Each line's number and cells; blank lines are none."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        received = f"the byte 0x{body[error.start]:02x} at offset {error.start}"
        raise bodies.wrong("body", "CSV in UTF-8", received) from error
    csv.field_size_limit(_LONGEST_CELL)
    found = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        for cells in found:
            if cells:
                yield found.line_num, cells
    except csv.Error as error:
        raise bodies.wrong(f"line {found.line_num}", "CSV", f"none ({error})") from error


def _converter(entry: Input) -> Callable[[Step, str], Any]:
    """What makes an input's cells the JSON values that they would be."""
    tensor = entry.tensors[0]
    of_tensor = {tensor.name: tensor.dtype for tensor in entry.tensors}
    dtypes: dict[Step, str] = {
        feature.name: of_tensor[feature.tensor] for feature in entry.features
    }
    alone = not entry.features and tensor.size == 1

    def convert(step: Step, cell: str) -> Any:
        if step == _WHOLE and (entry.features or tensor.shape):
            return _whole(tensor.dtype, cell, alone=alone)
        return _value(dtypes.get(step, tensor.dtype), cell)

    return convert


def _whole(dtype: str, cell: str, *, alone: bool) -> Any:
    """A row whole in one cell: as JSON, or the value itself where a row is one value."""
    if alone and not cell.startswith("["):
        return _value(dtype, cell)
    # What is no JSON stays text, for the wire to refuse by its place.
    with contextlib.suppress(ValueError, RecursionError):
        return DECODER.decode(cell)
    return cell or None


def _value(dtype: str, cell: str) -> Any:
    """A cell as JSON would have it; what is no number stays text, to be refused by its place."""
    if cell in MISSING_CELLS:
        return None
    if dtype == "string":
        return cell
    truth = TRUE_FALSE.get(cell.lower())
    if dtype == "bool":
        # A CSV has no booleans of its own, and half of the world writes them as numbers.
        return {"1": True, "0": False}.get(cell, cell) if truth is None else bool(truth)
    if truth is not None:
        return int(truth)
    # Python takes 1_000 for a number; nobody else does.
    for kind in (int, float) if "_" not in cell else ():
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def encode(
    asked: Request,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    """A row's answer each: of several heads an object, of a single one its values alone.

    Args:
        asked: what was asked.
        name: of the model, which MLflow does not tell.
        version: nor this.
        signature: nor anything of this.
        outputs: by head, [rows, …].
    """
    del name, version, signature
    columns = [outputs[head] for head in asked.heads]
    if any(column.dtype.kind == "f" and not np.isfinite(column).all() for column in columns):
        # As MLflow does: NaN and Infinity, which are no JSON, and which Python's readers take.
        content = json.dumps(
            _predictions(asked.heads, map(_spelled, columns)), separators=(",", ":")
        ).encode()
    else:
        content = orjson.dumps(
            _predictions(asked.heads, map(_plain, columns)), option=orjson.OPT_SERIALIZE_NUMPY
        )
    return Reply(content)


def _predictions(heads: Sequence[str], columns: Iterable[Any]) -> dict[str, Any]:
    given = list(columns)
    if len(given) == 1:
        return {"predictions": given[0]}
    return {"predictions": [dict(zip(heads, row, strict=True)) for row in zip(*given, strict=True)]}


def _plain(column: NDArray[Any]) -> Any:
    if column.dtype == object:
        return column.tolist()
    # Slices of a Fortran-ordered or strided output are not contiguous, and orjson takes no other.
    return np.ascontiguousarray(column)


def _spelled(column: NDArray[Any]) -> Any:
    """A head's output as lists: floats with as few digits as tell them apart in their dtype."""
    return (column.astype(str).astype(float) if column.dtype.kind == "f" else column).tolist()


def encode_error(error: RequestError) -> Reply:
    """What is wrong with a request, by MLflow's name for it; and all of it, where that is more."""
    other = "INTERNAL_ERROR" if error.status >= _SERVER_ERROR else "BAD_REQUEST"
    code = _CODES.get(error.status, other)
    said: dict[str, Any] = {"error_code": code, "message": str(error)}
    if isinstance(error, BadRequest):
        said["problems"] = [vars(problem) for problem in error.problems]
        said["count"] = error.count
    return Reply(orjson.dumps(said))


DIALECT = Dialect("mlflow", ("application/json", "text/csv"), reader, encode, encode_error)
