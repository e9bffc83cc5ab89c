"""The arguments of a call, in the forms of the native format: `instances`, or `inputs` by name.

    a row, rows, an array, a DataFrame ─▶ lists and arrays of rows, and tables by feature

Only containers are looked into here; `json_values.plain` turns their values into those of JSON,
some thousand rows at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.loaded import frames
from service.loaded.json_values import array_of, named, plain

if TYPE_CHECKING:
    from service.signature import Signature


class Arguments(NamedTuple):
    """The arguments of a call: its rows, in one of two forms, and what is asked of them."""

    form: str
    """`instances` or `inputs`."""
    rows: Any
    heads: Any
    """As the caller gave them; `None` for all."""
    explain: Any = None
    """As in a request; `None` to predict."""

    def body(self, signature: Signature) -> dict[str, Any]:
        """Return the arguments as the body of a request."""
        options = {"heads": self.heads, "explain": self.explain}
        present = {name: value for name, value in options.items() if value is not None}
        return {self.form: _plain(self, signature), **present}


def take(instances: Any, inputs: Any, heads: Any, signature: Signature) -> Arguments:
    """Take the arguments of a call.

    Raises:
        BadRequest: a DataFrame lacks columns of the model, or has them twice.
        TypeError: there are neither instances nor inputs, or both; or instances are a dict of
            DataFrames.
    """
    if (instances is None) == (inputs is None):
        received = "neither" if inputs is None else "both"
        raise TypeError(f"expected either instances or inputs, received {received}")
    heads = [heads] if isinstance(heads, str) else plain(heads)
    if frames.is_series(instances):
        instances = instances.to_frame().T
    rows = instances if inputs is None else inputs
    if frames.is_frame(rows) and not signature.tensor:
        needed = signature.needed(known_heads(heads, signature))
        return Arguments("inputs", frames.by_input(rows, signature, needed), heads)
    if inputs is None:
        if not isinstance(instances, Mapping):
            return Arguments("instances", _listed(instances), heads)
        if any(map(frames.is_frame, instances.values())):
            raise TypeError("expected a dict of tables as inputs: a dict of instances is one row")
        return Arguments("instances", [instances], heads)
    if not isinstance(inputs, Mapping):
        return Arguments("inputs", _listed(inputs), heads)
    return Arguments("inputs", named(inputs, partial(_rows_of, signature)), heads)


def known_heads(heads: Any, signature: Signature) -> tuple[str, ...]:
    """Return the requested heads, each once; none if one of them is wrong."""
    if heads is None:
        return signature.head_names
    if not isinstance(heads, list) or not all(isinstance(name, str) for name in heads):
        return ()
    wrong = len(set(heads)) < len(heads) or not signature.heads.keys() >= set(heads)
    return () if wrong else tuple(heads)


def _rows_of(signature: Signature, name: str, rows: Any) -> Any:
    """Return the rows of one input, or its columns by feature."""
    if frames.is_frame(rows):
        entry = signature.inputs.get(name)
        if signature.tensor or entry is None or not entry.features:
            return frames.whole(rows, "" if entry is None else entry.tensors[0].dtype)
        own = replace(signature, inputs={name: entry})
        return frames.by_input(rows, own, own.inputs)[name]
    if isinstance(rows, Mapping):
        return named(rows, lambda _, column: _listed(column))
    return _listed(rows)


def _listed(rows: Any) -> Any:
    """Return rows as an array or a list; anything else as it is."""
    rows = array_of(rows)
    return list(rows) if isinstance(rows, tuple) else rows


def height(arguments: Arguments) -> int | None:
    """Return the number of rows; `None` if lists differ in that, or there is none."""
    parts = [arguments.rows]
    if isinstance(arguments.rows, dict):
        parts = [
            column
            for part in arguments.rows.values()
            for column in (part.values() if isinstance(part, dict) else (part,))
        ]
    if not all(isinstance(part, list) or (_is_array(part) and part.ndim) for part in parts):
        return None
    heights = set(map(len, parts))
    return heights.pop() if len(heights) == 1 else None


def _is_array(part: Any) -> bool:
    return isinstance(part, np.ndarray)


def cut(arguments: Arguments, start: int, end: int) -> Arguments:
    """Return the arguments with some of the rows; `height` must have returned a number."""
    return arguments._replace(rows=_cut(arguments.rows, slice(start, end)))


def _cut(rows: Any, part: slice) -> Any:
    if isinstance(rows, dict):
        return {name: _cut(column, part) for name, column in rows.items()}
    return rows[part]


def by_column(arguments: Arguments, signature: Signature) -> Mapping[str, Any] | None:
    """Return the rows or columns of each input, for `regular.read`; `None` if they are not such."""
    if isinstance(arguments.rows, dict):
        return arguments.rows
    one = len(signature.inputs) == 1 and (arguments.form == "inputs" or not signature.tensor)
    return dict.fromkeys(signature.inputs, arguments.rows) if one else None


def _plain(arguments: Arguments, signature: Signature) -> Any:
    """Return the rows as JSON has them; a NaN in a table is a missing value."""
    tables = frozenset(name for name, entry in signature.inputs.items() if entry.features)
    # Where there is one input, a row or the columns may be without its name.
    bare = len(signature.inputs) == 1 and bool(tables)

    def values_of(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return plain(part, table=bare)
        return named(part, lambda name, value: plain(value, table=bare or name in tables))

    if arguments.form == "instances" and isinstance(arguments.rows, list):
        return [values_of(row) for row in arguments.rows]
    return values_of(arguments.rows)
