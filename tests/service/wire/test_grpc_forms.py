"""The same rows as messages of gRPC and as the bodies of REST: the same bits, the same faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from service.errors import BadRequest
from service.inference.model import Model
from service.wire import oip, tfserving
from service.wire.oip.grpc import GRPC as INFER
from service.wire.tfserving.grpc import GRPC as PREDICT
from tests.harness import small
from tests.harness.forms import DATATYPES, HEADS, outputs_of, raw_bytes, rows_of
from tests.harness.grpc_messages import FIELDS, infer, inferred, predict, predicted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

MODEL = Model.load(small.three())
LENGTH = "Inference-Header-Content-Length"


def _rest(arrays: Arrays, signature: Any = MODEL.signature, **more: Any) -> Any:
    """Return the query of the binary form of REST."""
    inputs, tail = [], b""
    for name, array in arrays.items():
        content = raw_bytes(array)
        entry = {"name": name, "datatype": DATATYPES[str(array.dtype)], "shape": array.shape}
        inputs.append({**entry, "parameters": {"binary_data_size": len(content)}})
        tail += content
    head = json.dumps({"inputs": inputs, **more}).encode()
    headers = {LENGTH: str(len(head))}
    return oip.DIALECT.reader(signature)(head + tail, lambda name: headers.get(name, ""))


def _bits(arrays: Any) -> dict[str, Any]:
    """Return arrays in a form in which NaN is equal to itself."""
    return {
        name: (a.dtype, a.shape, a.tolist() if a.dtype == object else a.tobytes())
        for name, a in arrays.items()
    }


@given(seed=st.integers(0, 1000), rows=st.integers(1, 9))
@settings(max_examples=40)
def test_the_same_rows_are_the_same_bits(seed, rows):
    """A message is decoded to the arrays of REST, and answered with the numbers of REST."""
    arrays = rows_of(seed, rows)
    asked = _rest(arrays)
    outputs = MODEL.predict(asked.arrays, asked.heads)
    reply = oip.DIALECT.encode(asked, "three", "1", MODEL.signature, outputs)
    expected = outputs_of({}, reply.content)
    forms = (
        *((INFER, infer(arrays, raw=raw), inferred) for raw in (True, False)),
        *((PREDICT, predict(arrays, content=content), predicted) for content in (True, False)),
    )
    for dialect, request, answer in forms:
        query = dialect.reader(MODEL.signature)(request.SerializeToString(), None)
        _, found = answer(dialect.encode(query, "three", "1", MODEL.signature, outputs).content)

        assert _bits(query.arrays) == _bits(asked.arrays)
        assert query.heads == asked.heads == HEADS
        assert {head: found[head].tobytes() for head in HEADS} == {
            head: expected[head].tobytes() for head in HEADS
        }


KINDS = {
    "bool": "BOOL",
    "float16": "FLOAT16",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "object": "STRING",
    **{f"{u}int{bits}": f"{u}INT{bits}".upper() for u in ("", "u") for bits in (8, 16, 32, 64)},
}
SIGNATURES = {
    dtype: Model.load(small.same(TensorProto.DataType.Value(kind))).signature
    for dtype, kind in KINDS.items()
}


def _arrays(dtype: str) -> st.SearchStrategy[Any]:
    """Draw rows of two values of a dtype, whatever their bits."""
    size = 1 if dtype == "object" else np.dtype(dtype).itemsize
    if dtype == "object":
        flat: Any = st.lists(st.text(max_size=5), min_size=2, max_size=8).map(
            lambda texts: np.array(texts, object)
        )
    elif dtype == "bool":
        flat = st.lists(st.booleans(), min_size=2, max_size=8).map(np.array)
    else:
        flat = st.binary(min_size=2 * size, max_size=40).map(
            lambda bits: np.frombuffer(bits[: len(bits) // size * size], dtype)
        )
    return flat.map(lambda array: array[: len(array) // 2 * 2].reshape(-1, 2))


@pytest.mark.parametrize("dtype", KINDS)
@given(data=st.data())
@settings(max_examples=40)
def test_any_bits_reach_the_model(dtype, data):
    """Whatever values a dtype has, they are those of the binary form of REST, in every form."""
    arrays = {"x": data.draw(_arrays(dtype))}
    signature = SIGNATURES[dtype]
    in_bytes = {"binary_data_output": True}
    expected = _bits(_rest(arrays, signature, parameters=in_bytes).arrays)

    for raw in (True, False):
        if raw or FIELDS[dtype][0]:
            message = infer(arrays, raw=raw).SerializeToString()
            query = INFER.reader(signature)(message, None)
            assert _same_but_nan(_bits(query.arrays), expected, raw=raw)
            _, outputs = inferred(
                INFER.encode(query, "m", "1", signature, {"y": query.arrays["x"]}).content
            )
            assert _same_but_nan(_bits({"x": outputs["y"]}), expected, raw=raw)
        message = predict(arrays, content=raw).SerializeToString()
        query = PREDICT.reader(signature)(message, None)
        assert _same_but_nan(_bits(query.arrays), expected, raw=raw)


def _same_but_nan(found: Any, expected: Any, *, raw: bool) -> bool:
    """Return whether bits are the same; Python, which writes the test's values, changes NaN."""
    dtype = expected["x"][0]
    if raw or dtype != np.float32:
        return found == expected
    one, other = (np.frombuffer(bits["x"][2], dtype) for bits in (found, expected))
    return np.array_equal(one, other, equal_nan=True)


# A fault: what is changed in the JSON of REST, and in a message.
def _rename(entry: Any) -> None:
    entry["name"] = "froot"


def _retype(entry: Any) -> None:
    entry["datatype"] = "FP64"


def _reshape(entry: Any) -> None:
    entry["shape"] = [2, 3]


def _share(entry: Any) -> None:
    entry["parameters"] = {"shared_memory_region": "x"}


CHANGES = (_rename, _retype, _reshape, _share)


@given(
    changes=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(CHANGES)), min_size=1, max_size=4
    ),
    outputs=st.lists(st.sampled_from([*HEADS, "sizes", "x"]), max_size=4),
    parameters=st.dictionaries(
        st.sampled_from(["timeout", "headers", "triton_x", "a"]),
        st.one_of(st.integers(-3, 3), st.text(max_size=2), st.booleans(), st.floats()),
        max_size=3,
    ),
    raw=st.booleans(),
)
@settings(max_examples=150)
def test_the_same_faults_have_the_same_messages(changes, outputs, parameters, raw):
    """Each fault that JSON can have too has its path and its message there."""
    arrays = rows_of(1, 2)
    inputs = [
        {"name": name, "datatype": DATATYPES[str(array.dtype)], "shape": list(array.shape)}
        for name, array in arrays.items()
    ]
    for i, change in changes:
        change(inputs[i])
    request = infer(arrays, raw=raw)
    for entry, said in zip(request.inputs, inputs, strict=True):
        entry.name, entry.datatype = said["name"], said["datatype"]
        entry.shape[:] = said["shape"]
        _set(entry.parameters, said.get("parameters", {}))
    for name in outputs:
        request.outputs.add(name=name)
    _set(request.parameters, parameters)
    values = [array.ravel().tolist() for array in arrays.values()]
    body = {
        "inputs": [{**said, "data": data} for said, data in zip(inputs, values, strict=True)],
        "outputs": [{"name": name} for name in outputs],
        "parameters": parameters,
    }

    expected = _faults(oip.DIALECT, json.dumps(body).encode())
    found = _faults(INFER, request.SerializeToString())

    # JSON has its values in the same text, in which their number is wrong too; and it has no NaN.
    assert set(found) <= set(expected)
    assert {at for at, *_ in expected} - {at for at, *_ in found} <= {
        f"inputs[{i}].data" for i in range(4)
    } | {"body", "raw_input_contents"}


def _set(holder: Any, parameters: dict[str, Any]) -> None:
    fields = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for name, value in parameters.items():
        setattr(holder[name], fields[type(value)], value)


def _faults(dialect: Any, body: bytes) -> list[tuple[str, str, str]]:
    try:
        dialect.reader(MODEL.signature)(body, lambda _: "")
    except BadRequest as error:
        return [(each.at, each.expected, each.received) for each in error.problems]
    return []


PREDICT_FAULTS = [
    pytest.param({"froot": [[1, 2]]}, {"fruit"}, id="another name"),
    pytest.param({}, {"fruit", "digit"}, id="missing"),
]


@pytest.mark.parametrize(("more", "without"), PREDICT_FAULTS)
def test_unknown_and_missing_inputs_have_the_paths_of_rest(more, without):
    """An input that is missing or unknown has the same path as in TensorFlow Serving's JSON."""
    arrays = {name: array for name, array in rows_of(1, 1).items() if name not in without}
    columns = {**{name: array.tolist() for name, array in arrays.items()}, **more}
    request = predict({**arrays, **{n: np.float32(v) for n, v in more.items()}}, content=True)

    expected = _faults(tfserving.PREDICT, json.dumps({"inputs": columns}).encode())
    found = _faults(PREDICT, request.SerializeToString())

    assert [at for at, *_ in found] == [at for at, *_ in expected]
    assert found[: len(more)] == expected[: len(more)]
