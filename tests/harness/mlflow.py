"""Bodies of MLflow's scoring protocol, and their readers."""

import csv
import io
import json

import numpy as np

from service.inference.model import Model
from service.wire import mlflow
from tests.harness import small
from tests.harness.decoded import problems

THREE = Model.load(small.three()).signature
PLANT = Model.load(small.plant()).signature
COLUMNS = [
    *("insurance.age", "insurance.smoker", "insurance.bmi"),
    *("fruit.weight", "fruit.length", "digit"),
]
ARRAYS = {
    "insurance": np.float32([[47, 20]]),
    "insurance.smoker": np.array([["yes"]], object),
    "fruit": np.float32([[1, 2]]),
    "digit": np.float32([[0, 1, 2, 3]]),
}


def read_body(body, signature=THREE, kind="application/json"):
    """Decode a body, and return its query."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": kind}
    return mlflow.DIALECT.reader(signature)(content, lambda name: headers.get(name, ""))


def read_text(text, signature=THREE):
    """Decode a body of CSV, and return its query."""
    return read_body(text.encode(), signature, "text/csv")


def problems_of(read, *arguments):
    """Return the problems of a body as (at, expected, received)."""
    return problems(read, *arguments)


CSV = f'{",".join(COLUMNS)}\n47,yes,20,1,2,"[0, 1, 2, 3]"\n'


def csv_text(header, rows):
    """Return rows as a body of CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(
        [json.dumps(v) if isinstance(v, (list, dict)) else v for v in row] for row in rows
    )
    return text.getvalue()
