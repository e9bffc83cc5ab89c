"""Requests of the Open Inference Protocol in JSON."""

import json

from hypothesis import strategies as st

from service.inference.model import Model
from service.wire import oip
from service.wire.oip.request import INPUT_KEYS, KEYS
from service.wire.quick import UnsureError
from tests.harness import small
from tests.harness.decoded import problems

MODELS = {name: Model.load(content) for name, content in small.every().items()}
THREE = MODELS["three"].signature
HEADS = ("risk", "size", "digits", "tags")
INSURANCE = {"name": "insurance", "shape": [1, 2], "datatype": "FP32", "data": [47, 20]}
SMOKER = {"name": "insurance.smoker", "shape": [1, 1], "datatype": "BYTES", "data": ["yes"]}
FRUIT = {"name": "fruit", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
DIGIT = {"name": "digit", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}
INPUTS = [INSURANCE, SMOKER, FRUIT, DIGIT]
SIZE = [{"name": "size"}]


def nowhere(_name):
    """Return an empty text for any header."""
    return ""


def read_body(said, signature=THREE):
    """Decode a body, and return its query."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return oip.DIALECT.reader(signature)(body, nowhere)


def unsure(*_):
    """Leave a body to the reference reader."""
    raise UnsureError


def problems_of(said, signature=THREE):
    """Return the problems of a body as (at, expected, received)."""
    return problems(read_body, said, signature)


def one_input(data, shape=(1, 2), datatype="FP32", **more):
    """Return a body for a model whose input is x."""
    entry = {"name": "x", "shape": list(shape), "datatype": datatype, "data": data}
    return {"inputs": [entry], **more}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, *INPUT_KEYS]), inner, max_size=4)
    ),
    max_leaves=8,
)
