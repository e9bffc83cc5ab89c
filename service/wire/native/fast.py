"""The fast reader of the native format: regular bodies, directly to arrays.

    bytes ── simdjson ──▶ Numbers ── join ──▶ arrays        any irregular body ──▶ reference.decode

It decides nothing.  A doubtful body (a missing or an unseen value, a text in place of a number, an
unknown key) is left to the reference reader, which knows every rule and every message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import simdjson

from service.wire.blocks import BLOCK
from service.wire.body import MOST_ROWS
from service.wire.native import reference
from service.wire.native.fast_inputs import read_column, row_reader
from service.wire.numbers import Numbers, group
from service.wire.quick import UNSURE, UnsureError, count, parse

if TYPE_CHECKING:
    from collections.abc import Collection

    from service.signature import Signature
    from service.wire.dialect import Header
    from service.wire.numbers import Tensors

# The most rows that can be read within a few milliseconds, whatever they contain.
FEW_ROWS = 2**12


class Decoder:
    """The fast reader for one signature, prepared from it."""

    def __init__(self, signature: Signature, block: int = BLOCK) -> None:
        """Prepare to read bodies for `signature`, and convert at most `block` numbers at once."""
        self._signature = signature
        self._every = tuple(signature.inputs)
        entries = signature.inputs
        self._readers = {name: row_reader(entry, block) for name, entry in entries.items()}
        self._groups = group([tensor for entry in entries.values() for tensor in entry.tensors])

    def read(self, body: bytes, header: Header) -> reference.Query[Tensors]:
        """Decode a body; headers do not change its meaning."""
        del header
        return self.decode(body)

    def decode(self, body: bytes) -> reference.Query[Tensors]:
        """Decode a body as `native.decode` does; the arrays may be `Numbers` until they run.

        Raises:
            BadRequest: the body has mistakes; the error has all of them.
        """
        try:
            return self._decode(body)
        except UNSURE:
            return reference.decode(body, self._signature)

    def attempt(self, body: bytes) -> reference.Query[Tensors] | None:
        """Decode a regular body of few rows; return `None` for any other body."""
        try:
            return self._decode(body, FEW_ROWS)
        except UNSURE:
            return None

    def _decode(self, body: bytes, most: int = MOST_ROWS) -> reference.Query[Tensors]:
        parsed = parse(body)
        if len(parsed) > 2:  # noqa: PLR2004  before the keys are listed: there may be a million
            raise UnsureError
        keys = list(parsed.keys())
        heads, opened = self._signature.head_names, 0
        if len(keys) == 2:  # noqa: PLR2004  "instances" or "inputs", and "heads"
            heads, opened = self._heads(parsed["heads"]), 1
        elif len(keys) != 1:
            raise UnsureError
        needed = self._signature.needed(heads)
        by_row = "instances" in keys
        read = self._read_rows if by_row else self._read_columns
        numbers, given, brackets = read(parsed["instances" if by_row else "inputs"], needed, most)
        numbers.check()
        tensors: Tensors = numbers
        if len(given) != len(needed):
            # No requested head depends on the other inputs: they were only checked.
            entries = [self._signature.inputs[name] for name in needed]
            whole = numbers.make()
            tensors = {t.name: whole[t.name] for entry in entries for t in entry.tensors}
        if count(body, b"[") != opened + brackets:
            raise UnsureError
        # The batcher takes `Numbers` in place of arrays, and turns them into arrays for the run.
        return reference.Query(tensors, heads, by_row, [])

    def _heads(self, value: Any) -> tuple[str, ...]:
        # A string is a sequence of letters, each of which may be the name of a head.
        if type(value) is not simdjson.Array or len(value) > len(self._signature.heads):
            raise UnsureError
        heads: tuple[Any, ...] = tuple(value)
        known = self._signature.heads.keys()
        if not heads or len(set(heads)) != len(heads) or not known >= set(heads):
            raise UnsureError
        return heads

    def _read_rows(
        self, rows: Any, needed: tuple[str, ...], most: int
    ) -> tuple[Numbers, Collection[str], int]:
        """Read rows; return their content, the names of their inputs, and the opening brackets."""
        height = len(rows)
        if height > most:
            raise UnsureError
        numbers = Numbers(self._groups, height)
        first = rows[0]
        listed = [first] if height == 1 else list(rows)
        if type(first) is not simdjson.Object and len(self._every) == 1:
            return numbers, self._every, 1 + self._readers[self._every[0]](listed, numbers)
        # Rows have either all inputs, or only the needed ones.  A row with as many keys as there
        # are names, and with every name, has no unknown key and no key twice.  Anything else than
        # an object has no names.
        width = len(first)
        names = needed if width == len(needed) else self._every
        if width != len(names) or (height > 1 and set(map(len, listed)) != {width}):
            raise UnsureError
        opened = 1
        for name in names:
            opened += self._readers[name]([row[name] for row in listed], numbers)
        return numbers, names, opened

    def _read_columns(
        self, columns: Any, needed: tuple[str, ...], most: int
    ) -> tuple[Numbers, Collection[str], int]:
        """Read columns; return what `_read_rows` does."""
        given = self._columns(columns, needed)
        numbers = Numbers(self._groups, _height(given, most))
        opened = 0
        for name, column in given.items():
            entry = self._signature.inputs[name]
            opened += read_column(entry, column, self._readers[name], numbers)
        return numbers, given, opened

    def _columns(self, columns: Any, needed: tuple[str, ...]) -> dict[str, Any]:
        """Return for each input the list of its rows, or the object of its columns."""
        if type(columns) is simdjson.Array and len(self._every) == 1:
            return {self._every[0]: columns}
        if len(self._every) == 1 and self._every[0] not in columns:
            return {self._every[0]: columns}
        # Each look-up searches the keys from the first.  For a million keys, the quadratic time
        # would be hours.
        if len(columns) > len(self._every):
            raise UnsureError
        names = list(columns.keys())
        by_name = {name: columns[name] for name in names}
        if len(by_name) != len(names) or not by_name.keys() >= set(needed):
            raise UnsureError
        return by_name


def _height(given: dict[str, Any], most: int) -> int:
    """Return the number of rows of the first input."""
    first = next(iter(given.values()), None)
    if type(first) is simdjson.Object:
        first = next((first[name] for name in first.keys()), None)  # noqa: SIM118  no mapping
    if type(first) is not simdjson.Array or not 0 < len(first) <= most:
        raise UnsureError
    return len(first)
