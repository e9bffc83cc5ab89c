"""TensorFlow Serving's values to arrays, and back: base64 and spelled NaN among them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from service.wire.body import Notes, Spelled, show
from service.wire.values import Rows, read_tensor
from service.wire.written import in_pieces, plain, rows, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.signature import Tensor

_BASE64 = 'text, or {"b64": …} with the base64 of UTF-8'


def spells(body: bytes) -> bool:
    """Whether a body may spell out a NaN or an infinity; the words may also stand in a text."""
    return b"NaN" in body or b"Infinity" in body


def is_spelled(value: Any, dtype: str) -> bool:
    """Whether a value is spelled out, and one of the dtype's."""
    return isinstance(value, Spelled) and dtype.startswith("float")


def read(tensor: Tensor, given: Rows, notes: Notes, *, spelled: bool) -> dict[str, NDArray[Any]]:
    """One tensor's rows as its array, [rows, …] in its dtype, under its name.

    Args:
        tensor: of the graph.
        given: at least one; texts may be base64, and floats spelled.
        notes: takes what is wrong; then what is returned means nothing.
        spelled: whether the body `spells`.
    """
    values, rank = given.values, len(tensor.shape)
    seen: list[Any] = []
    if tensor.dtype == "string":
        values = [texts(value, rank, given.at(i), notes) for i, value in enumerate(values)]
    elif spelled and tensor.dtype.startswith("float"):
        values = [_finite(value, rank, seen) for value in values]
    found = read_tensor(tensor, Rows(values, given.at), notes)
    for array in found.values():
        for i, value in enumerate(seen):
            if isinstance(value, Spelled):
                array.reshape(-1)[i] = value
    return found


def _finite(value: Any, depth: int, seen: list[Any]) -> Any:
    """A value with 0 in place of what is spelled out; `seen` takes all there were."""
    if isinstance(value, list) and depth:
        return [_finite(part, depth - 1, seen) for part in value]
    seen.append(value)
    return 0.0 if isinstance(value, Spelled) else value


def texts(value: Any, depth: int, at: str, notes: Notes) -> Any:
    """A value, of lists so deep at most, with texts in place of their base64."""
    if isinstance(value, list) and depth:
        return [texts(part, depth - 1, f"{at}[{i}]", notes) for i, part in enumerate(value)]
    if not is_base64(value):
        return value
    encoded = value["b64"]
    try:
        # TensorFlow Serving does without the padding.
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except UnicodeDecodeError:
        notes.add(at, _BASE64, "bytes that are not UTF-8")
    except ValueError:
        notes.add(f"{at}.b64", "base64", show(encoded))
    return ""


def is_base64(value: Any) -> bool:
    """Whether a value is the object that stands for a text's bytes."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def written(name: str, output: NDArray[Any]) -> Sequence[Any]:
    """An output's rows: texts in base64 if its name ends in _bytes, NaN and infinities in words."""
    if output.dtype == object and name.endswith("_bytes"):
        return [_as_base64(value) for value in plain(output)]
    return rows(output)


def written_whole(name: str, output: NDArray[Any]) -> Any:
    """All of `written` at once."""
    if output.dtype == object:
        return in_pieces(written(name, output))
    return whole(output)


def _as_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_base64(part) for part in value]
    return {"b64": base64.b64encode(value.encode()).decode()}
