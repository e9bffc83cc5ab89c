"""Conversion of TensorFlow Serving's values to arrays and back, with base64 and NaN."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from service.wire.body import Notes, Spelled, show
from service.wire.tensor_rows import read_tensor
from service.wire.written import in_pieces, plain, rows, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.signature import Tensor
    from service.wire.rows import Rows

_BASE64 = 'text, or {"b64": …} with the base64 of UTF-8'


def spells(body: bytes) -> bool:
    """Return whether a body may spell out NaN or infinity; it may also have them in a string."""
    return b"NaN" in body or b"Infinity" in body


def is_spelled(value: Any, dtype: str) -> bool:
    """Return whether a value is a NaN or an infinity, spelled out, and the dtype has these."""
    return isinstance(value, Spelled) and dtype.startswith("float")


def read(
    tensor: Tensor, tensor_rows: Rows, notes: Notes, *, spelled: bool
) -> dict[str, NDArray[Any]]:
    """Return the rows of a tensor as an array, [rows, …] in its dtype, under its name.

    Args:
        tensor: a tensor of the graph.
        tensor_rows: at least one row; strings may be in base64, and floats spelled out.
        notes: takes the mistakes; if there are any, the result is meaningless.
        spelled: the result of `spells` for the body.
    """
    values, rank = tensor_rows.values, len(tensor.shape)
    numbers: list[Any] = []
    if tensor.dtype == "string":
        values = [texts(value, rank, tensor_rows.at(i), notes) for i, value in enumerate(values)]
    elif spelled and tensor.dtype.startswith("float"):
        values = [_finite(value, rank, numbers) for value in values]
    arrays = read_tensor(tensor, tensor_rows._replace(values=values), notes)
    for array in arrays.values():
        for i, value in enumerate(numbers):
            if isinstance(value, Spelled):
                array.reshape(-1)[i] = value
    return arrays


def _finite(value: Any, depth: int, numbers: list[Any]) -> Any:
    """Return a value with 0 in place of each number that is spelled out.

    Append the original numbers to `numbers`.
    """
    if isinstance(value, list) and depth:
        return [_finite(part, depth - 1, numbers) for part in value]
    numbers.append(value)
    return 0.0 if isinstance(value, Spelled) else value


def texts(value: Any, depth: int, at: str, notes: Notes) -> Any:
    """Return a value, of at most `depth` nested lists, with base64 replaced by the strings."""
    if isinstance(value, list) and depth:
        return [texts(part, depth - 1, f"{at}[{i}]", notes) for i, part in enumerate(value)]
    if not is_base64(value):
        return value
    encoded = value["b64"]
    try:
        # TensorFlow Serving accepts base64 without padding.
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except UnicodeDecodeError:
        notes.add(at, _BASE64, "bytes that are not UTF-8")
    except ValueError:
        notes.add(f"{at}.b64", "base64", show(encoded))
    return ""


def is_base64(value: Any) -> bool:
    """Return whether a value is an object with the bytes of a string in base64."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def written(name: str, output: NDArray[Any]) -> Sequence[Any]:
    """Return the rows of an output for `write`, with NaN and infinities spelled out.

    Texts are in base64 if the name of the output ends in _bytes.
    """
    if output.dtype == object and name.endswith("_bytes"):
        return [_as_base64(value) for value in plain(output)]
    return rows(output)


def written_whole(name: str, output: NDArray[Any]) -> Any:
    """Return the rows of an output as `written` does, but as one value."""
    if output.dtype == object:
        return in_pieces(written(name, output))
    return whole(output)


def _as_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_base64(part) for part in value]
    return {"b64": base64.b64encode(value.encode()).decode()}
