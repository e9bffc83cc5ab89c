"""An input in a spec, `[inputs.<name>]`: its CSV file and the columns that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.kinds import UNSEEN
from training.toml_file import is_text, is_whole, show

if TYPE_CHECKING:
    from training.toml_file import Problems, TomlTable

_IMAGE_AXES = (2, 3)


@dataclass(frozen=True)
class InputSpec:
    """One input: a CSV file and the columns of it that are features.

    Features are `columns`, or else every column that is not the target of a head.  A head whose
    target is only the input's name learns `target`, or else the last column.  `unseen` is that of
    its categorical features.
    """

    name: str
    csv: str
    header: bool = True
    target: str | int | None = None
    columns: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    image: tuple[int, ...] | None = None
    key: str | None = None
    unseen: str = UNSEEN[0]


def read_input(table: TomlTable, align: str) -> InputSpec:
    """Read the table of an input; with `align` "key" it must name the column to join on."""
    csv = table.text("csv", "the name of a CSV file", required=True)
    header = table.take("header", "true or false", lambda value: isinstance(value, bool))
    # If `header` is not a flag, only that is noted: a column by number may be right.
    named = header is True or "header" not in table.values
    entry = InputSpec(
        name=table.at_name,
        csv=csv or "",
        header=header is not False,
        target=_column(table, "target", named=named),
        columns=_columns(table, "columns", named=named),
        categorical=_columns(table, "categorical", named=named) or (),
        image=_image(table),
        key=_key(table, named=named),
        unseen=table.choice("unseen", UNSEEN, UNSEEN[0]),
    )
    _check_image(table, entry)
    _check_key(table, entry, align)
    table.close()
    return entry


def check_files(problems: Problems, inputs: dict[str, InputSpec]) -> None:
    """Note inputs of one file that disagree about it."""
    first: dict[str, InputSpec] = {}
    for name, entry in inputs.items():
        other = first.setdefault(entry.csv, entry)
        for key in ("header", "key"):
            mine, theirs = getattr(entry, key), getattr(other, key)
            if mine != theirs:
                expected = f"{show(theirs)} as inputs.{other.name} has it for the same file"
                problems.add(f"inputs.{name}.{key}", f"expected {expected}, received {show(mine)}")


def _column(table: TomlTable, key: str, tail: str = "", *, named: bool) -> str | int | None:
    """Read one column: by name or, if the file has no header, also by number."""
    expected = "the name of a column" if named else "a column: a name or a number from 0"
    value: str | int | None = table.take(
        key, f"{expected}{tail}", lambda value: _is_column(value, named=named)
    )
    return value


def _columns(table: TomlTable, key: str, *, named: bool) -> tuple[str, ...] | None:
    """Read several columns, all different."""
    values = table.take(
        key,
        f"an array of {'column names' if named else 'columns: names or numbers from 0'}",
        lambda values: (
            isinstance(values, list) and all(_is_column(value, named=named) for value in values)
        ),
    )
    return table.distinct(key, list(map(str, values))) if values else None


def _image(table: TomlTable) -> tuple[int, ...] | None:
    size = table.take("image", "[height, width] or [height, width, channels]", _is_image)
    return None if size is None else tuple(size)


def _key(table: TomlTable, *, named: bool) -> str | None:
    key = _column(table, "key", " that joins the files", named=named)
    return None if key is None else str(key)


def _check_image(table: TomlTable, entry: InputSpec) -> None:
    if entry.image is not None:
        for name in ("columns", "categorical"):
            if name in table.values:
                table.problem(name, "an image takes all its columns; remove it, or image")
        if "unseen" in table.values:
            table.problem("unseen", "an image has no texts; remove it")


def _check_key(table: TomlTable, entry: InputSpec, align: str) -> None:
    if align == "key" and "key" not in table.values:
        table.problem("key", 'missing; align = "key" needs the joining column of every input')
    if align != "key" and entry.key is not None:
        table.problem("key", f'only read with align = "key"; here align = "{align}"')


def _is_column(value: object, *, named: bool) -> bool:
    return is_text(value) or (not named and is_whole(value, 0))


def _is_image(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) in _IMAGE_AXES
        and all(is_whole(axis, 1) for axis in value)
    )
