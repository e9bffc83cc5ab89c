"""The values of a call as those of a JSON body.

    dicts, lists, arrays and their scalars ─▶ dicts, lists, str, int, float, bool and None

No value is converted to another one, except that NaN is a missing value in a table, as pandas has
it.  A value that JSON does not have, such as a date, becomes `Foreign`, which fits no dtype: so the
reader refuses it, at its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire.body import wrong

if TYPE_CHECKING:
    from collections.abc import Callable

# The nesting of lists from which on a value may contain itself.
_DEEPEST = 64
# The characters that are kept of the text of a foreign value.
_LONGEST = 100
# The bytes of Python's float.
_FLOAT = 8


class Foreign(str):
    """The text of a value that JSON does not have; it fits no dtype, as its type is not `str`."""

    __slots__ = ()


def array_of(value: Any) -> Any:
    """Return what numpy knows as an array as an array, masked or not; anything else as it is."""
    if isinstance(value, np.ndarray | np.generic) or not hasattr(value, "__array__"):
        return value
    return np.asarray(value)


def plain(value: Any, *, table: bool = False, depth: int = 0) -> Any:  # noqa: PLR0911  one a type
    """Return a value as JSON has it.

    Args:
        value: the value.
        table: whether it is part of a table, where NaN is a missing value.
        depth: the number of lists and objects around it.

    Raises:
        BadRequest: two keys of an object have the same text.
    """
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return None if table and value != value else value  # noqa: PLR0124  a NaN alone differs
    if depth > _DEEPEST:
        return Foreign("lists nested too deeply")
    value = array_of(value)
    if isinstance(value, np.ndarray | np.generic):
        return _of_numpy(value, table=table, depth=depth)
    if isinstance(value, Mapping):
        return named(value, lambda _, part: plain(part, table=table, depth=depth + 1))
    if isinstance(value, list | tuple):
        return [plain(part, table=table, depth=depth + 1) for part in value]
    # The missing values of pandas, which is not imported for that.
    if table and kind.__name__ in ("NAType", "NaTType"):
        return None
    return Foreign(repr(value)[:_LONGEST])


def named(values: Mapping[Any, Any], of: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Return a mapping with keys of text, and the values that `of` makes of name and value.

    Raises:
        BadRequest: two keys have the same text.
    """
    texts = {str(name): of(str(name), value) for name, value in values.items()}
    if len(texts) != len(values):
        raise wrong("body", "each key of a dict once, as a text", "two keys of the same text")
    return texts


def _of_numpy(value: Any, *, table: bool, depth: int) -> Any:
    kind = value.dtype.kind
    if kind in "biuU" or (kind == "f" and value.dtype.itemsize <= _FLOAT):
        # Masked values become `None`.
        listed = value.tolist()
        gaps = table and kind == "f" and np.isnan(value).any()
        return plain(listed, table=True, depth=depth) if gaps else listed
    if value.ndim:
        return [plain(part, table=table, depth=depth + 1) for part in value]
    if kind == "O":
        return plain(value.item(), table=table, depth=depth + 1)
    # Dates, complex numbers, bytes, and floats of more bits than Python's.
    return Foreign(repr(value)[:_LONGEST])
