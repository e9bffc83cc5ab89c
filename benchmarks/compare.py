"""The comparison of an answer with ONNX Runtime's own, to the last bit where possible."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.ledger import WrongError
from tests.harness import forms

if TYPE_CHECKING:
    from collections.abc import Mapping

# The tolerance for kernels whose result depends on the place of a row in a batch.
NEAR = {"risk": 1e-6, "tags": 1e-6, "weight": 1e-3}
_DTYPES = {datatype: np.dtype(name) for name, datatype in forms.DATATYPES.items()}


def compare(path: str, head: str, found: Any, values: Any) -> None:
    """Check the values of a head, to the last bit where possible.

    Raises:
        WrongError: the values are wrong.
    """
    near = NEAR.get(head, 0.0)
    if found is not None and np.shape(found) == np.shape(values):
        if near and np.allclose(found, values, rtol=near, atol=near):
            return
        if not near and np.array_equal(found, values):
            return
    received = None if found is None else np.asarray(found).tolist()
    words = f"expected {np.asarray(values).tolist()!r:.200}, received {received!r:.200}"
    raise WrongError(f"{path}, {head}: {words}")


def check_labels(path: str, content: bytes, found: Mapping[str, Any]) -> None:
    """Check that the labels of a native answer fit its values.

    Raises:
        WrongError: a label is wrong.
    """
    if not content.startswith(b'{"model":'):
        return
    answer = json.loads(content)
    digits = ("zero", "one", "two")
    right = {
        "risk": [("low", "high")[int(value > 0.5)] for value in found["risk"][:, 0]],  # noqa: PLR2004  the threshold
        "digits": [digits[i] for i in found["digits"].argmax(axis=1)],
        "tags": [
            [name for name, value in zip(("heavy", "long"), row, strict=True) if value > 0.5]  # noqa: PLR2004
            for row in found["tags"]
        ],
    }
    for head, labels in right.items():
        received = answer["labels"][head] if "labels" in answer else None
        received = received or [row[head]["label"] for row in answer.get("predictions", ())]
        if received != labels:
            raise WrongError(f"{path}, {head}: expected {labels}, received {received}")


def tensors(headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
    """Return the arrays of an OIP answer by tensor, from JSON or binary data."""
    length = int(headers.get("inference-header-content-length", len(content)))
    answer, raw = json.loads(content[:length]), content[length:]
    arrays = {}
    for entry in answer["outputs"]:
        dtype, data = _DTYPES[entry["datatype"]], entry.get("data")
        size = entry.get("parameters", {}).get("binary_data_size")
        if size is not None:
            piece, raw = raw[:size], raw[size:]
            data = _texts(piece) if dtype.kind == "O" else np.frombuffer(piece, dtype)
        arrays[entry["name"]] = np.array(data, dtype).reshape(entry["shape"])
    return arrays


def _texts(raw: bytes) -> list[str]:
    texts = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return texts
