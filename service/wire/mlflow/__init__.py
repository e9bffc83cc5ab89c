"""MLflow's scoring protocol, and with it SageMaker's: a table or rows in, predictions out.

    {"dataframe_split": {"columns": ["insurance.age", …, "digit"], "data": [[47, …, […]], …]}}
    {"dataframe_records": [{"insurance.age": 47, …, "digit": […]}, …]}
    {"instances": [{"insurance": {"age": 47, …}, "digit": […]}, …]}
    {"inputs": {"insurance": [[47, …], …], "digit": [[…], …]}}
    insurance.age,…                             (text/csv: a header line, then a line for each row)
        ─▶  {"predictions": [{"o1": [0.93], "o2": […]}, …]}, for a single head [[0.93], …]

A column of a table and a key of a row are named alike: an input whole (`digit`, `insurance`), a
feature (`insurance.age`; or `age`, where one input alone has it) or the n-th value of a row that
is no table (`digit.0`; or `0`, where there is no other input).  A missing value takes its default.
NaN is what pandas writes for one; in an answer, NaN and Infinity are words, as MLflow writes them.

Source: mlflow/pyfunc/scoring_server/__init__.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from service.wire import tensors
from service.wire.body import Notes, key, parse_object, refuse_unknown, show
from service.wire.dialect import Dialect, Reply
from service.wire.mlflow import tables
from service.wire.mlflow.names import names_of
from service.wire.values import read_inputs
from service.wire.written import in_pieces, problems, rows, whole, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.errors import RequestError
    from service.signature import Signature
    from service.wire.body import Imputed
    from service.wire.dialect import Header, Reader
    from service.wire.mlflow.names import Names
    from service.wire.values import Rows

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_ONE = f"exactly one of {', '.join(map(show, FORMS))}"

# MLflow's names for what has one; whatever else is the caller's fault is a bad request.
_CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}
_SERVER_ERROR = 500


@dataclass(frozen=True)
class Query:
    """A decoded body: arrays by tensor, for all heads there are."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    imputed: Sequence[Imputed]


def reader(signature: Signature) -> Reader:
    """What reads bodies for a model; it raises `BadRequest`, with everything wrong with a body."""
    if signature.tensor:
        return partial(tensors.refuse_rows, signature)
    return partial(_read_body, names_of(signature))


def _read_body(names: Names, body: bytes, header: Header) -> Query:
    notes = Notes()
    if header("Content-Type").partition(";")[0].strip().lower() == "text/csv":
        found = tables.read_csv(body, names, notes)
    else:
        found = _read_json(body, names, notes)
    arrays = read_inputs(names.signature.inputs, found, names.needed, notes)
    notes.stop()
    return Query(arrays, names.signature.head_names, notes.imputed)


def _read_json(body: bytes, names: Names, notes: Notes) -> dict[str, Rows]:
    said = parse_object(body, _ONE)
    refuse_unknown(said, "key", (*FORMS, "params"), "", notes)
    _refuse_params(said.get("params"), notes)
    given = [form for form in FORMS if form in said]
    if len(given) != 1:
        notes.add("body", _ONE, " and ".join(map(show, given)) or "none of them")
        return {}
    form = given[0]
    value = said[form]
    if form == "dataframe_split":
        found = tables.read_split(value, names, notes)
    elif form == "inputs" and isinstance(value, dict):
        found = tables.read_columns(value, names, notes)
    else:
        found = tables.read_rows(form, value, names, notes)
    # Looking for it once costs less than asking each value.
    return _without_nan(found, names) if b"NaN" in body else found


def _refuse_params(params: Any, notes: Notes) -> None:
    if isinstance(params, dict):
        for name, value in params.items():
            expected = "no parameters, since no model here takes any"
            notes.add(f"params{key(name)}", expected, show(value))
    elif params is not None:
        notes.add("params", "an object", show(params))


def _without_nan(found: Mapping[str, Rows], names: Names) -> dict[str, Rows]:
    """The same rows with `None` for each feature that is NaN: so pandas writes what is missing."""

    def known(value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else value

    def row_of(row: Any) -> Any:
        if isinstance(row, dict):
            return {name: known(value) for name, value in row.items()}
        return [known(value) for value in row] if isinstance(row, list) else row

    return {
        name: rows._replace(values=[row_of(row) for row in rows.values])
        if names.signature.inputs[name].features
        else rows
        for name, rows in found.items()
    }


def encode(
    asked: Query,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    """A row's answer each: of several heads an object, of a single one its values alone.

    Args:
        asked: what was asked.
        name: of the model, which MLflow does not tell.
        version: nor this.
        signature: nor anything of this.
        outputs: by head, [rows, …].
    """
    del name, version, signature
    if len(asked.heads) == 1:
        return Reply(write({"predictions": whole(outputs[asked.heads[0]])}))
    columns = [rows(outputs[head]) for head in asked.heads]
    records = [dict(zip(asked.heads, row, strict=True)) for row in zip(*columns, strict=True)]
    return Reply(write({"predictions": in_pieces(records)}))


def encode_error(error: RequestError) -> Reply:
    """What is wrong with a request, by MLflow's name for it; and all of it, where that is more."""
    other = "INTERNAL_ERROR" if error.status >= _SERVER_ERROR else "BAD_REQUEST"
    code = _CODES.get(error.status, other)
    return Reply(write({"error_code": code, "message": str(error), **problems(error)}))


DIALECT = Dialect("mlflow", ("application/json", "text/csv"), reader, encode, encode_error)
