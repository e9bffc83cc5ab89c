"""Round trips: every printed answer is a valid input, in each dtype, dialect and reader."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from service.inference.model import Model
from service.wire import mlflow, native, oip, tfserving
from service.wire.native import fast
from tests.harness import small

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = {
    "float16": "FLOAT16",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    **{f"{u}int{bits}": f"{u}INT{bits}".upper() for u in ("", "u") for bits in (8, 16, 32, 64)},
}
SIGNATURES = {
    dtype: Model.load(small.same(TensorProto.DataType.Value(kind))).signature
    for dtype, kind in KINDS.items()
}


def extremes(dtype: str) -> list[Any]:
    """Return the values at the ends of a dtype's range, and those next to zero."""
    if dtype.startswith("float"):
        info = np.finfo(dtype)
        return [info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, 1 / 3]
    whole = np.iinfo(dtype)
    return [whole.max, whole.min, whole.max - 1, 0, min(2**53 + 1, whole.max)]


def numbers(dtype: str) -> st.SearchStrategy[Any]:
    """Draw finite values of a dtype, often those at the ends of its range."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        some: Any = st.floats(width=kind.itemsize * 8, allow_nan=False, allow_infinity=False)
    else:
        whole = np.iinfo(dtype)
        some = st.integers(int(whole.min), int(whole.max))
    return st.one_of(some, st.sampled_from(extremes(dtype)))


def _header(**headers: str) -> Any:
    """Return a look-up of request headers, as a dialect takes it."""
    return lambda name: headers.get(name.lower().replace("-", "_"), "")


JSON = _header(content_type="application/json")
CSV = _header(content_type="text/csv")


def _csv(rows: list[list[str]]) -> bytes:
    """Return rows as a CSV."""
    return "\n".join(["x.0,x.1", *map(",".join, rows)]).encode()


def bodies(dtype: str, rows: str, cells: list[list[str]]) -> dict[str, tuple[Any, bytes, Any]]:
    """Return, by form, a reader and a body of rows printed as JSON or cell by cell."""
    signature = SIGNATURES[dtype]
    size = len(cells)
    readers = {
        "native": native.DIALECT.reader(signature),
        "fast": fast.Decoder(signature).read,
        "tfserving": tfserving.PREDICT.reader(signature),
        "oip": oip.DIALECT.reader(signature),
        "mlflow": mlflow.DIALECT.reader(signature),
    }
    flat = rows.replace("[", "").replace("]", "")
    entry = f'"name":"x","datatype":"{oip.DATATYPES[dtype]}","shape":[{size},2]'
    columns = ",".join(
        f'"x.{i}":[{",".join(row[i] for row in cells)}]' for i in range(len(cells[0]))
    )
    texts = {
        "native by row": f'{{"instances":{rows}}}',
        "native by column": f'{{"inputs":{{"x":{rows}}}}}',
        "fast by row": f'{{"instances":{rows}}}',
        "fast by column": f'{{"inputs":{{"x":{rows}}}}}',
        "tfserving by row": f'{{"instances":{rows}}}',
        "tfserving by column": f'{{"inputs":{rows}}}',
        "oip": f'{{"inputs":[{{{entry},"data":[{flat}]}}]}}',
        "oip read plainly": f' {{"inputs":[{{{entry},"data":[{flat}]}}]}}',
        "oip nested": f'{{"inputs":[{{{entry},"data":{rows}}}]}}',
        "mlflow instances": f'{{"instances":{rows}}}',
        "mlflow inputs": f'{{"inputs":{{{columns}}}}}',
        "mlflow split": f'{{"dataframe_split":{{"columns":["x.0","x.1"],"data":{rows}}}}}',
    }
    cases = {form: (readers[form.split()[0]], text.encode(), JSON) for form, text in texts.items()}
    if dtype == "float16":
        cases = {form: sent for form, sent in cases.items() if not form.startswith("oip")}
    return {**cases, "mlflow csv": (readers["mlflow"], _csv(cells), CSV)}


def printed(dtype: str, array: NDArray[Any]) -> dict[str, str]:
    """Return, by dialect, the printed rows of an answer that holds this array."""
    signature = SIGNATURES[dtype]
    asked = native.Query({"x": array}, ("y",), by_row=False, imputed=[])
    answers = {
        "native": native.encode(asked, "m", "1", signature, {"y": array}),
        "mlflow": mlflow.encode(asked, "m", "1", signature, {"y": array}).content,
        "tfserving": tfserving.PREDICT.encode(
            tfserving.Query({"x": array}, ("y",), by_row=True), "m", "1", signature, {"y": array}
        ).content,
    }
    return {dialect: _rows_in(answer.decode()) for dialect, answer in answers.items()}


def _rows_in(answer: str) -> str:
    """Return the text of the only list of lists in an answer, with its numbers as printed."""
    return answer[answer.index("[[") : answer.rindex("]]") + 2]


@pytest.mark.parametrize("dtype", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_printed_value_can_be_sent_back(dtype, data):
    """A printed value is read back bit for bit."""
    row = st.lists(numbers(dtype), min_size=2, max_size=2)
    array = np.array(data.draw(st.lists(row, min_size=1, max_size=3)), dtype)

    for printer, rows in printed(dtype, array).items():
        cells = json.loads(rows, parse_int=str, parse_float=str)
        for form, (read, body, header) in bodies(dtype, rows, cells).items():
            arrays = read(body, header).arrays
            values = arrays if isinstance(arrays, dict) else arrays.make()

            assert values["x"].dtype == array.dtype, (printer, form)
            assert values["x"].tobytes() == array.tobytes(), (printer, form)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_number_that_rounds_to_infinity_is_refused(dtype):
    """A number is refused from half a step past the largest value, where it rounds to infinity."""
    info = np.finfo(dtype)
    step = float(info.max) - float(np.nextafter(info.max, info.dtype.type(0)))
    first = float(info.max) + step / 2
    last = float(np.nextafter(first, 0))

    for number, taken in ((first, False), (last, True), (-last, True), (-first, False)):
        rows, cells = f"[[{number!r},0]]", [[repr(number), "0"]]
        for form, (read, body, header) in bodies(dtype, rows, cells).items():
            if taken:
                arrays = read(body, header).arrays
                values = arrays if isinstance(arrays, dict) else arrays.make()
                assert abs(values["x"][0, 0]) == info.max, form
            else:
                with pytest.raises(oip.BadRequest, match="expected a number within"):
                    read(body, header)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("number", ["9007199254740993.0", "9007199254740992.0", "1e16"])
def test_an_integer_that_floats_do_not_have_is_refused(dtype, number):
    """An integer that a float cannot hold is refused instead of silently changed."""
    for read, body, header in bodies(dtype, f"[[{number},0]]", [[number, "0"]]).values():
        with pytest.raises(oip.BadRequest, match="without a fraction or an exponent"):
            read(body, header)


def test_an_integer_may_have_a_fraction_of_zero():
    """An integer may end in `.0`, as some programs write it."""
    rows, cells = "[[9007199254740991.0,2.0]]", [["9007199254740991.0", "2.0"]]

    for form, (read, body, header) in bodies("int64", rows, cells).items():
        arrays = read(body, header).arrays
        values = arrays if isinstance(arrays, dict) else arrays.make()
        assert values["x"].tolist() == [[2**53 - 1, 2]], form


@pytest.mark.parametrize("cell", ["１２", "٣", "1_000", "１.5"])  # noqa: RUF001
def test_digits_of_other_scripts_are_no_numbers(cell):
    """Digits of other scripts are refused in a CSV that is scored, as in training."""
    for dtype in ("float32", "int64"):
        read = mlflow.DIALECT.reader(SIGNATURES[dtype])
        with pytest.raises(oip.BadRequest, match="line 2"):
            read(_csv([[cell, "0"]]), CSV)
