"""The fast reader of JSON requests, which turns regular ones directly into arrays.

See `service.wire.quick`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import simdjson

from service.wire import quick
from service.wire.quick import UnsureError, brackets, count, is_nested, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.signature import Tensor

# More keys than any object of a request may have, except for parameters.
_MOST_KEYS = 16
# Values that become Python values in one call: of a list of strings, and of other lists.
_MOST_TEXTS = 2**14
_MOST_VALUES = 2**10
# Bytes of an inference header that are read in one call, whatever they contain.  The reference
# reader counts brackets first.
_LONGEST_HEADER = 2**16


def parse(body: bytes, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Parse a body to an object in which the numbers of inputs are flat arrays in their dtypes.

    Raises one of `quick.UNSURE` if the body is irregular in any way.
    """
    parsed = quick.parse(body)
    value = _without(parsed, "inputs")
    value["inputs"] = inputs = []
    opened = 1 + ("outputs" in value)
    for each in parsed["inputs"]:
        entry = _without(each, "data")
        data, dtype = each["data"], tensors[entry["name"]].dtype
        kind = kind_of(dtype)
        if kind is None:
            # Many Python values take one long call; the reference reader reads piece by piece.
            if len(data) > _MOST_TEXTS:
                raise UnsureError
            entry["data"] = data.as_list()
            opened += 2
        else:
            opened += 1 + _brackets(data, entry["shape"])
            entry["data"] = quick.narrow(dtype, data.as_buffer(of_type=kind))
        inputs.append(entry)
    if count(body, b":") != _keys_in(value) or count(body, b"[") != opened:
        raise UnsureError
    return value


def parse_header(header: bytes) -> dict[str, Any]:
    """Parse the object that bytes follow; values in it, if there are any, stay lists.

    Raises one of `quick.UNSURE` if the object is irregular in any way.
    """
    if len(header) > _LONGEST_HEADER:
        raise UnsureError
    value: dict[str, Any] = orjson.loads(header)
    # orjson keeps only the last of two equal keys.
    if header.count(b":") != _keys_in(value):
        raise UnsureError
    return value


def _keys_in(value: dict[str, Any]) -> int:
    """Count the keys in all objects of a request; each key has a colon."""
    objects = [value, *value["inputs"], *value.get("outputs", ())]
    return sum(len(entry) + len(entry.get("parameters", ())) for entry in objects)


def _without(parsed: Any, left_out: str) -> dict[str, Any]:
    """Convert an object from simdjson to Python, except for one key."""
    # Each look-up searches the keys from the first.  For a million keys, the quadratic time would
    # be hours.
    if len(parsed) > _MOST_KEYS:
        raise UnsureError
    converted = {name: parsed[name] for name in list(parsed.keys()) if name != left_out}
    for name, value in converted.items():
        if isinstance(value, (simdjson.Object, simdjson.Array)) and len(value) > _MOST_VALUES:
            raise UnsureError
        if isinstance(value, simdjson.Object):
            converted[name] = value.as_dict()
        elif isinstance(value, simdjson.Array):
            converted[name] = value.as_list()
    return converted


def _brackets(data: Any, shape: list[int]) -> int:
    """Return the number of opening brackets of numbers that are flat, or nested in `shape`."""
    if type(data[0]) is not simdjson.Array:
        return 1
    # Below an axis of length 0, a nested list does not show its shape.
    if 0 in shape or not is_nested(data, shape):
        raise UnsureError
    return brackets(shape)
