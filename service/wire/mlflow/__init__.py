"""The scoring protocol of MLflow and SageMaker: a table or rows in, predictions out.

    {"dataframe_split": {"columns": ["insurance.age", …, "digit"], "data": [[47, …, […]], …]}}
    {"dataframe_records": [{"insurance.age": 47, …, "digit": […]}, …]}
    {"instances": [{"insurance": {"age": 47, …}, "digit": […]}, …]}
    {"inputs": {"insurance": [[47, …], …], "digit": [[…], …]}}
    insurance.age,…                             (text/csv: a header line, then a line for each row)
        ─▶  {"predictions": [{"o1": [0.93], "o2": […]}, …]}, for a single head [[0.93], …]

The columns of a table and the keys of a row have the same names: a whole input (`digit`,
`insurance`), a feature (`insurance.age`; or `age`, if only one input has it) or the n-th value of
an input without features (`digit.0`; or `0`, if there is no other input).  A missing value, for
which pandas writes NaN, is replaced by its default.  In an answer, NaN and Infinity are spelled
out, as in MLflow.

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
    from service.wire.body import Imputed, Unseen
    from service.wire.dialect import Header, Reader
    from service.wire.mlflow.names import Names
    from service.wire.rows import Rows

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_ONE = f"exactly one of {', '.join(map(show, FORMS))}"

# MLflow's names for errors; any other error of the client is a bad request.
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
    """A decoded body: arrays by tensor, [rows, …], for all heads of the model."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    imputed: Sequence[Imputed]
    unseen: Sequence[Unseen] = ()
    explain = None  # this protocol has no explanations


def reader(signature: Signature) -> Reader:
    """Return the reader of bodies for a model.

    The reader raises `BadRequest` with all mistakes in a body.
    """
    if signature.tensor:
        return partial(tensors.refuse_rows, signature)
    return partial(_read_body, names_of(signature))


def _read_body(names: Names, body: bytes, header: Header) -> Query:
    notes = Notes()
    if header("Content-Type").partition(";")[0].strip().lower() == "text/csv":
        rows_by_input = tables.read_csv(body, names, notes)
    else:
        rows_by_input = _read_json(body, names, notes)
    arrays = read_inputs(names.signature.inputs, rows_by_input, names.needed, notes)
    notes.stop()
    return Query(arrays, names.signature.head_names, notes.imputed, notes.unseen)


def _read_json(body: bytes, names: Names, notes: Notes) -> dict[str, Rows]:
    body_object = parse_object(body, _ONE)
    refuse_unknown(body_object, "key", (*FORMS, "params"), "", notes)
    _refuse_params(body_object.get("params"), notes)
    forms = [form for form in FORMS if form in body_object]
    if len(forms) != 1:
        notes.add("body", _ONE, " and ".join(map(show, forms)) or "none of them")
        return {}
    form = forms[0]
    value = body_object[form]
    if form == "dataframe_split":
        rows_by_input = tables.read_split(value, names, notes)
    elif form == "inputs" and isinstance(value, dict):
        rows_by_input = tables.read_columns(value, names, notes)
    else:
        rows_by_input = tables.read_rows(form, value, names, notes)
    # To search the body once costs less than to check each value.
    return _without_nan(rows_by_input, names) if b"NaN" in body else rows_by_input


def _refuse_params(params: Any, notes: Notes) -> None:
    if isinstance(params, dict):
        for name, value in params.items():
            expected = "no parameters, since no model here takes any"
            notes.add(f"params{key(name)}", expected, show(value))
    elif params is not None:
        notes.add("params", "an object", show(params))


def _without_nan(rows_by_input: Mapping[str, Rows], names: Names) -> dict[str, Rows]:
    """Replace each feature that is NaN by `None`, since pandas writes NaN for a missing value."""

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
        for name, rows in rows_by_input.items()
    }


def encode(
    query: Query,
    name: str,
    version: str,
    signature: Signature,
    outputs: Mapping[str, NDArray[Any]],
) -> Reply:
    """Return the answer: for each row an object of its heads, or only the values of a single head.

    Args:
        query: the decoded request.
        name: the name of the model, which is not part of MLflow's answers.
        version: the version of the model, which is not part of them either.
        signature: the signature of the model, which is not used.
        outputs: the outputs by head, [rows, …].
    """
    del name, version, signature
    if len(query.heads) == 1:
        return Reply(write({"predictions": whole(outputs[query.heads[0]])}))
    columns = [rows(outputs[head]) for head in query.heads]
    records = [dict(zip(query.heads, row, strict=True)) for row in zip(*columns, strict=True)]
    return Reply(write({"predictions": in_pieces(records)}))


def encode_error(error: RequestError) -> Reply:
    """Return the answer to a request that failed: MLflow's name of the error, and all problems."""
    other = "INTERNAL_ERROR" if error.status >= _SERVER_ERROR else "BAD_REQUEST"
    code = _CODES.get(error.status, other)
    return Reply(write({"error_code": code, "message": str(error), **problems(error)}))


DIALECT = Dialect("mlflow", ("application/json", "text/csv"), reader, encode, encode_error)
