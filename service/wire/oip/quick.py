"""Requests in JSON that are as they should be, straight to arrays; see `service.wire.quick`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import simdjson

from service.wire import quick
from service.wire.quick import UnsureError, brackets, count, is_nested, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.signature import Tensor

# More than an object of a request may have, other than of parameters.
_MOST_KEYS = 16
# Values that are made Python's at once: those of a list of texts, and those of any other list.
_MOST_TEXTS = 2**14
_MOST_VALUES = 2**10
# Bytes of an inference header that one call reads, whatever is in it; the plain way first counts
# its brackets.
_LONGEST_HEADER = 2**16


def parse(body: bytes, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The object in a body, with the numbers of its inputs as flat arrays in the graph's dtypes.

    Raises one of `quick.UNSURE` where it is in any way unusual.
    """
    parsed = quick.parse(body)
    said = _but(parsed, "inputs")
    said["inputs"] = inputs = []
    opened = 1 + ("outputs" in said)
    for each in parsed["inputs"]:
        entry = _but(each, "data")
        data, dtype = each["data"], tensors[entry["name"]].dtype
        kind = kind_of(dtype)
        if kind is None:
            # To make Python's values of many is one long call; the plain way goes piece by piece.
            if len(data) > _MOST_TEXTS:
                raise UnsureError
            entry["data"] = data.as_list()
            opened += 2
        else:
            opened += 1 + _brackets(data, entry["shape"])
            entry["data"] = quick.narrow(dtype, data.as_buffer(of_type=kind))
        inputs.append(entry)
    if count(body, b":") != _keys_in(said) or count(body, b"[") != opened:
        raise UnsureError
    return said


def parse_header(header: bytes) -> dict[str, Any]:
    """The object that bytes follow, as `parse`; its values, if it has any, stay lists."""
    if len(header) > _LONGEST_HEADER:
        raise UnsureError
    said: dict[str, Any] = orjson.loads(header)
    # orjson takes the last of two keys.
    if header.count(b":") != _keys_in(said):
        raise UnsureError
    return said


def _keys_in(said: dict[str, Any]) -> int:
    """How many keys there are, in the objects that belong in a request; each has a colon."""
    objects = [said, *said["inputs"], *said.get("outputs", ())]
    return sum(len(entry) + len(entry.get("parameters", ())) for entry in objects)


def _but(parsed: Any, left_out: str) -> dict[str, Any]:
    """An object of simdjson's as Python has it, but for one key."""
    # Each look-up goes through the keys from the first on: of a million, the square is hours.
    if len(parsed) > _MOST_KEYS:
        raise UnsureError
    said = {name: parsed[name] for name in list(parsed.keys()) if name != left_out}
    for name, value in said.items():
        if isinstance(value, (simdjson.Object, simdjson.Array)) and len(value) > _MOST_VALUES:
            raise UnsureError
        if isinstance(value, simdjson.Object):
            said[name] = value.as_dict()
        elif isinstance(value, simdjson.Array):
            said[name] = value.as_list()
    return said


def _brackets(data: Any, shape: list[int]) -> int:
    """How many brackets numbers have that are flat, or nested in their shape."""
    if type(data[0]) is not simdjson.Array:
        return 1
    # Below an axis of 0 there is nothing to tell a shape by.
    if 0 in shape or not is_nested(data, shape):
        raise UnsureError
    return brackets(shape)
