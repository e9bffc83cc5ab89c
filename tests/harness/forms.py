"""Requests for `small.three` in every form of every dialect, and the reader of their answers."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

# The heads of `small.three`, and the number of values for each row.
SHAPES = {"risk": 1, "size": 1, "digits": 3, "tags": 2}
HEADS = tuple(SHAPES)
DIGIT = [f"digit.{i}" for i in range(4)]


def rows_of(seed: int, rows: int) -> Arrays:
    """Return random rows by tensor; the numbers are float32 values near 0."""
    random = np.random.default_rng(seed)
    return {
        "insurance": random.normal(40, 20, (rows, 2)).astype(np.float32),
        "insurance.smoker": random.choice(np.array(["yes", "no"], object), (rows, 1)),
        "fruit": random.normal(0, 3, (rows, 2)).astype(np.float32),
        "digit": random.normal(0, 1, (rows, 4)).astype(np.float32),
    }


def _table(arrays: Arrays) -> list[dict[str, Any]]:
    """Return for each row the features by input, and the image as a whole."""
    return [
        {
            "insurance": {
                "age": float(arrays["insurance"][i, 0]),
                "smoker": arrays["insurance.smoker"][i, 0],
                "bmi": float(arrays["insurance"][i, 1]),
            },
            "fruit": {
                "weight": float(arrays["fruit"][i, 0]),
                "length": float(arrays["fruit"][i, 1]),
            },
            "digit": arrays["digit"][i].tolist(),
        }
        for i in range(len(arrays["fruit"]))
    ]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row in a table of all inputs."""
    found = {
        f"{entry}.{feature}": value
        for entry in ("insurance", "fruit")
        for feature, value in row[entry].items()
    }
    return {**found, "digit": row["digit"]}


@dataclass(frozen=True)
class Sent:
    """A request as bytes."""

    path: str
    body: bytes
    headers: Mapping[str, str]


def _json(path: str, said: Any) -> Sent:
    return Sent(path, json.dumps(said).encode(), {"Content-Type": "application/json"})


def native_rows(arrays: Arrays) -> Sent:
    """Return a native request by row."""
    return _json("/models/three/predict", {"instances": _table(arrays)})


def native_columns(arrays: Arrays) -> Sent:
    """Return a native request by column."""
    rows = _table(arrays)
    columns = {
        "insurance": [list(row["insurance"].values()) for row in rows],
        "fruit": [list(row["fruit"].values()) for row in rows],
        "digit": [row["digit"] for row in rows],
    }
    return _json("/models/three/predict", {"inputs": columns})


def native_tables(arrays: Arrays) -> Sent:
    """Return a native request by column, with each table as an object of its columns."""
    rows = _table(arrays)
    columns: dict[str, Any] = {
        name: {feature: [row[name][feature] for row in rows] for feature in rows[0][name]}
        for name in ("insurance", "fruit")
    }
    columns["digit"] = [row["digit"] for row in rows]
    return _json("/models/three/predict", {"inputs": columns})


DATATYPES = {
    "bool": "BOOL",
    "object": "BYTES",
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}


def _oip_input(name: str, array: NDArray[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": DATATYPES[str(array.dtype)], "shape": list(array.shape)}


def oip_flat(arrays: Arrays) -> Sent:
    """Return an OIP request with flat data."""
    inputs = [{**_oip_input(n, a), "data": a.ravel().tolist()} for n, a in arrays.items()]
    return _json("/v2/models/three/infer", {"inputs": inputs})


def oip_nested(arrays: Arrays) -> Sent:
    """Return an OIP request with nested data."""
    inputs = [{**_oip_input(n, a), "data": a.tolist()} for n, a in arrays.items()]
    return _json("/v2/models/three/versions/1/infer", {"inputs": inputs})


def raw_bytes(array: NDArray[Any]) -> bytes:
    """Return the binary tensor data of an array."""
    if array.dtype != object:
        return array.tobytes()
    texts = [text.encode() for text in array.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _oip_binary(arrays: Arrays, *, mixed: bool) -> Sent:
    inputs = []
    raw = b""
    for name, array in arrays.items():
        entry = _oip_input(name, array)
        if mixed and name == "fruit":
            inputs.append({**entry, "data": array.ravel().tolist()})
            continue
        size = len(raw_bytes(array))
        inputs.append({**entry, "parameters": {"binary_data_size": size}})
        raw += raw_bytes(array)
    said: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    if mixed:
        said["outputs"] = [
            {"name": head, "parameters": {"binary_data": head != "size"}} for head in HEADS
        ]
    head = json.dumps(said).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Sent("/v2/models/three/infer", head + raw, headers)


def oip_binary(arrays: Arrays) -> Sent:
    """Return an OIP request with binary tensors in request and answer."""
    return _oip_binary(arrays, mixed=False)


def oip_mixed(arrays: Arrays) -> Sent:
    """Return an OIP request with binary tensors and JSON in request and answer."""
    return _oip_binary(arrays, mixed=True)


def tfserving_rows(arrays: Arrays) -> Sent:
    """Return a TensorFlow Serving request by row, which is also one of KServe v1."""
    names = list(arrays)
    rows = zip(*(array.tolist() for array in arrays.values()), strict=True)
    instances = [dict(zip(names, row, strict=True)) for row in rows]
    return _json("/v1/models/three:predict", {"instances": instances})


def tfserving_columns(arrays: Arrays) -> Sent:
    """Return a TensorFlow Serving request by column."""
    columns = {name: array.tolist() for name, array in arrays.items()}
    return _json("/v1/models/three/versions/1:predict", {"inputs": columns})


def mlflow_split(arrays: Arrays) -> Sent:
    """Return an MLflow request with dataframe_split."""
    rows = [_flat(row) for row in _table(arrays)]
    said = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    return _json("/invocations", {"dataframe_split": said})


def mlflow_records(arrays: Arrays) -> Sent:
    """Return an MLflow request with dataframe_records."""
    rows = [_flat(row) for row in _table(arrays)]
    return _json("/invocations", {"dataframe_records": rows})


def mlflow_instances(arrays: Arrays) -> Sent:
    """Return an MLflow request with instances, nested like the native form."""
    return _json("/invocations", {"instances": _table(arrays)})


def mlflow_inputs(arrays: Arrays) -> Sent:
    """Return an MLflow request with inputs, by column."""
    rows = [_flat(row) for row in _table(arrays)]
    return _json(
        "/invocations", {"inputs": {name: [row[name] for row in rows] for name in rows[0]}}
    )


def mlflow_csv(arrays: Arrays) -> Sent:
    """Return an MLflow request in CSV; the image has a column for each value."""
    rows = [_flat(row) for row in _table(arrays)]
    for row in rows:
        row.update(zip(DIGIT, row.pop("digit"), strict=True))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return Sent("/invocations", text.getvalue().encode(), {"Content-Type": "text/csv"})


FORMS: tuple[Callable[[Arrays], Sent], ...] = (
    *(native_rows, native_columns, native_tables, oip_flat, oip_nested, oip_binary, oip_mixed),
    *(tfserving_rows, tfserving_columns),
    *(mlflow_split, mlflow_records, mlflow_instances, mlflow_inputs, mlflow_csv),
)


def outputs_of(headers: Mapping[str, str], content: bytes) -> Arrays:
    """Return the arrays of an answer by head, for every form."""
    length = headers.get("inference-header-content-length")
    said = json.loads(content[: int(length)] if length else content)
    raw = io.BytesIO(content[int(length) :] if length else b"")
    found: dict[str, Any] = {}
    if isinstance(said.get("outputs"), list):
        for entry in said["outputs"]:
            size = entry.get("parameters", {}).get("binary_data_size")
            data = entry["data"] if size is None else np.frombuffer(raw.read(size), "<f4")
            found[entry["name"]] = np.reshape(data, entry["shape"])
    elif "outputs" in said:
        found = said["outputs"]
    else:
        rows = said["predictions"]
        found = {head: [row[head] for row in rows] for head in HEADS}
        if isinstance(rows[0][HEADS[0]], dict):
            found = {head: [value["value"] for value in values] for head, values in found.items()}
    # The native form has no list around a single value for a row.
    return {
        head: np.reshape(np.array(values, np.float32), (-1, SHAPES[head]))
        for head, values in found.items()
    }
