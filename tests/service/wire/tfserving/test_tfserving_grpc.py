"""TensorFlow Serving over gRPC: messages to arrays, and arrays to messages."""

import numpy as np
import pytest

from service.errors import BadRequest
from service.inference.model import Model
from service.run import Part, Run
from service.wire.body import MISSING_AT_ONCE, MOST_IMPUTED
from service.wire.limits import MOST_NUMBERS
from service.wire.protobuf import MOST_FIELDS, as_varint, delimited
from service.wire.tfserving import grpc
from service.wire.tfserving.grpc import GRPC, address
from tests.harness import small
from tests.harness.decoded import problems, same
from tests.harness.grpc_messages import PredictRequest, fill, predict, predicted, status

MODELS = {name: Model.load(content) for name, content in small.every().items()}
THREE = MODELS["three"].signature
HEADS = ("risk", "size", "digits", "tags")
ARRAYS = {
    "digit": np.float32([[0, 1, 2, 3], [4, 5, 6, 7]]),
    "fruit": np.float32([[1, 2], [3, 4]]),
    "insurance": np.float32([[47, 20], [30, 1.5]]),
    "insurance.smoker": np.array([["yes"], ["größe"]], object),
}
FORMS = [pytest.param(True, id="content"), pytest.param(False, id="values")]


def read(request, signature=THREE):
    """Decode a message."""
    content = request if isinstance(request, bytes) else request.SerializeToString()
    return GRPC.reader(signature)(content, None)


def problems_of(request, signature=THREE):
    """Return the problems of a message as (at, expected, received)."""
    return problems(read, request, signature)


def answer(request, name="three", version="1"):
    """Return the answer of a model to a message: the response, and its outputs by name."""
    model = MODELS[name]
    asked = read(request, model.signature)
    outputs = model.predict(asked.arrays, asked.heads)
    reply = GRPC.encode(asked, name, version, model.signature, outputs)
    assert (reply.content_type, reply.headers) == ("application/grpc", ())
    return predicted(reply.content)


@pytest.mark.parametrize("content", FORMS)
def test_a_request_and_its_answer(content):
    """The answer has the values of all heads, and says which version answered."""
    request = predict(ARRAYS, content=content)
    request.model_spec.signature_name = "serving_default"

    asked = read(request)
    response, outputs = answer(request, version="12")

    assert same(asked.arrays, ARRAYS)
    assert asked.heads == HEADS
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("three", 12, "serving_default")
    expected = MODELS["three"].predict(ARRAYS, HEADS)
    assert outputs.keys() == expected.keys()
    assert all(np.array_equal(outputs[head], expected[head]) for head in HEADS)
    assert not any(tensor.tensor_content for tensor in response.outputs.values())


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("content", FORMS)
def test_a_request_in_any_buffer(buffer, content):
    """A message may be a part of what was received."""
    message = buffer(predict(ARRAYS, content=content).SerializeToString())

    assert same(GRPC.reader(THREE)(message, None).arrays, ARRAYS)


@pytest.mark.parametrize("content", FORMS)
@pytest.mark.parametrize("name", small.returning(MODELS))
def test_every_data_type_there_and_back(name, content):
    """A graph that returns its input returns the same values for every data type."""
    model = MODELS[name]
    array = small.values_for(model)

    _, outputs = answer(predict({"x": array}, content=content, name=name), name)

    assert same(outputs, {"y": array})


EXTREMES = {
    **{f"int{bits}": [-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": [0, 1, 127, 2**bits - 1] for bits in (8, 16, 32, 64)},
    "bool": [True, False, False, True],
    "float16": [np.nan, -np.inf, 65504, -0.0],
    "float": [np.nan, -np.inf, np.inf, -0.0],
    "double": [np.nan, -np.inf, 1e308, 5e-324],
    "string": ["", "größe", "\x00", "x" * 300],
}


@pytest.mark.parametrize("content", FORMS)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_values_there_and_back(name, content):
    """Every value of a data type is kept, NaN and infinities too."""
    dtype = MODELS[name].signature.inputs["x"].tensors[0].dtype
    array = np.array(EXTREMES[name], object if dtype == "string" else dtype).reshape(2, 2)

    _, outputs = answer(predict({"x": array}, content=content, name=name), name)

    if dtype == "string":
        assert outputs["y"].tolist() == array.tolist()
    else:
        assert (outputs["y"].dtype, outputs["y"].tobytes()) == (array.dtype, array.tobytes())


def test_output_filter():
    """A request may name heads, and then sends only the inputs that these need."""
    request = predict({"fruit": ARRAYS["fruit"]}, content=True)
    request.output_filter.extend(["tags", "size"])

    assert read(request).heads == ("tags", "size")
    _, outputs = answer(request)
    assert outputs["size"].tolist() == [[3], [7]]


def test_inputs_that_are_not_needed_are_checked_and_left_out():
    """An input that no requested head needs is read and has no effect."""
    request = predict(ARRAYS, content=True)
    request.output_filter.append("size")

    assert list(read(request).arrays) == ["fruit"]
    request.inputs["digit"].tensor_content += b"x"
    assert problems_of(request) == [
        ("inputs.digit.tensor_content", "32 bytes, as dtype and shape say", "33")
    ]


def test_the_last_of_too_few_values_is_repeated():
    """As in TensorFlow, for every type of values."""
    request = predict(ARRAYS, content=False)
    del request.inputs["digit"].float_val[3:]
    del request.inputs["insurance.smoker"].string_val[1:]

    arrays = read(request).arrays

    assert arrays["digit"].tolist() == [[0, 1, 2, 2], [2, 2, 2, 2]]
    assert arrays["insurance.smoker"].tolist() == [["yes"], ["yes"]]


def test_repeated_values_are_limited():
    """They take no bytes of a message, so a short one could be as large as the memory."""
    array = np.ones((1, 2, 1, 3), np.float32)
    request = predict({"x": array}, content=False)
    dim = request.inputs["x"].tensor_shape.dim[0]
    signature = MODELS["deep"].signature
    dim.size = MOST_IMPUTED // array.size + 1

    assert read(request, signature).arrays["x"].shape == (dim.size, 2, 1, 3)
    dim.size += 1
    repeated = (dim.size - 1) * array.size
    assert problems_of(request, signature) == [
        (
            "inputs.x.float_val",
            f"at most {MOST_IMPUTED} repeated values in one request",
            f"{repeated}",
        )
    ]


def test_the_answer_to_repeated_values_is_limited():
    """A few bytes may be many rows, each of which may be answered with many values."""
    model = Model.load(_widened(1000))
    request = predict({"x": np.ones((1, 1), np.float32)}, content=False)
    dim = request.inputs["x"].tensor_shape.dim[0]
    dim.size = MOST_NUMBERS // 1000

    assert len(read(request, model.signature).arrays["x"]) == dim.size
    dim.size += 1
    ((at, expected, received),) = problems_of(request, model.signature)
    assert (at, received) == ("body", f"{dim.size} rows")
    assert expected.startswith(f"at most {MOST_NUMBERS // 1000} rows, since each is answered with")


def _widened(width):
    """Return a file without a signature that repeats a value."""
    return small.model(
        [small.helper.make_node("Mul", ["x", "ones"], ["y"])],
        [("x", small.F, ["n", 1])],
        [("y", small.F, ["n", width])],
        {"ones": np.ones((1, width), np.float32)},
    ).SerializeToString()


def test_many_repeated_values_are_not_attempted():
    """A large message is read at once only if it has its values."""
    request = PredictRequest()
    fill(request.inputs["x"], np.ones((1, 2), np.float32), content=False)
    codec = GRPC.codec("float", "1", MODELS["float"].signature)

    assert codec.attempt(request.SerializeToString()) is not None
    request.inputs["x"].tensor_shape.dim[0].size = MOST_IMPUTED
    assert MISSING_AT_ONCE < MOST_IMPUTED
    assert codec.attempt(request.SerializeToString()) is None


FAULTS = [
    pytest.param(
        lambda r: setattr(r.model_spec, "signature_name", "x"),
        [("model_spec.signature_name", '"serving_default", or no name', '"x"')],
        id="signature",
    ),
    pytest.param(
        lambda r: r.output_filter.extend(["sizes", "risk", "risk"]),
        [
            (
                "output_filter[0]",
                "one of risk, size, digits, tags (did you mean 'size'?)",
                '"sizes"',
            ),
            ("output_filter[2]", "each name once", '"risk" again'),
        ],
        id="heads",
    ),
    pytest.param(
        lambda r: (r.inputs["froot"].CopyFrom(r.inputs["fruit"]), r.inputs.pop("fruit")),
        [
            (
                "inputs.froot",
                "one of insurance, insurance.smoker, fruit, digit (did you mean 'fruit'?)",
                'the unknown input "froot"',
            ),
            ("inputs.fruit", "a tensor of DT_FLOAT", "nothing"),
        ],
        id="unknown input",
    ),
    pytest.param(
        lambda r: setattr(r.inputs["fruit"], "dtype", 2),
        [("inputs.fruit.dtype", "DT_FLOAT", "DT_DOUBLE")],
        id="another dtype",
    ),
    pytest.param(
        lambda r: setattr(r.inputs["fruit"], "dtype", 999),
        [("inputs.fruit.dtype", "DT_FLOAT", "999")],
        id="an unknown dtype",
    ),
    pytest.param(
        lambda r: setattr(r.inputs["insurance.smoker"], "dtype", 0),
        [('inputs["insurance.smoker"].dtype', "DT_STRING", "DT_INVALID")],
        id="no dtype",
    ),
    pytest.param(
        lambda r: r.inputs["fruit"].tensor_shape.dim.add(size=1),
        [("inputs.fruit.tensor_shape", "[rows, 2], with 1 row at least", "[2, 2, 1]")],
        id="another shape",
    ),
    pytest.param(
        lambda r: setattr(r.inputs["fruit"].tensor_shape, "unknown_rank", True),
        [
            (
                "inputs.fruit.tensor_shape",
                "[rows, 2], with 1 row at least",
                '"an unknown rank"',
            )
        ],
        id="no shape",
    ),
    pytest.param(
        lambda r: setattr(r.inputs["fruit"].tensor_shape.dim[0], "size", 3),
        [("inputs.fruit.tensor_shape[0]", "2 rows, as inputs.digit has", "3 rows")],
        id="more rows",
    ),
]


@pytest.mark.parametrize("content", FORMS)
@pytest.mark.parametrize(("change", "expected"), FAULTS)
def test_faults_of_the_header(change, expected, content):
    """All faults of a header are listed."""
    request = predict(ARRAYS, content=content)
    change(request)

    assert problems_of(request) == expected


def _pop_values(tensor):
    del tensor.float_val[:]


@pytest.mark.parametrize(
    ("content", "name", "change", "expected"),
    [
        pytest.param(
            True,
            "fruit",
            lambda t: setattr(t, "tensor_content", b"123"),
            [("inputs.fruit.tensor_content", "16 bytes, as dtype and shape say", "3")],
            id="too few bytes",
        ),
        pytest.param(
            True,
            "fruit",
            lambda t: t.float_val.append(1),
            [
                (
                    "inputs.fruit",
                    "tensor_content or float_val, one, for DT_FLOAT",
                    "tensor_content, float_val",
                )
            ],
            id="both forms",
        ),
        pytest.param(
            True,
            "insurance.smoker",
            lambda t: (t.string_val.pop(), t.string_val.pop(), setattr(t, "tensor_content", b"ab")),
            [('inputs["insurance.smoker"]', "only string_val, for DT_STRING", "tensor_content")],
            id="bytes of texts",
        ),
        pytest.param(
            False,
            "insurance.smoker",
            lambda t: t.string_val.append(b""),
            [
                (
                    'inputs["insurance.smoker"].string_val',
                    "2 values, or fewer, of which the last is repeated",
                    "3",
                )
            ],
            id="too many texts",
        ),
        pytest.param(
            False,
            "insurance.smoker",
            lambda t: t.string_val.__setitem__(0, b"\xff"),
            [
                (
                    'inputs["insurance.smoker"].string_val[0]',
                    "text in UTF-8",
                    "the byte 0xff at offset 0",
                )
            ],
            id="no UTF-8",
        ),
        pytest.param(
            False,
            "fruit",
            lambda t: t.float_val.append(1),
            [
                (
                    "inputs.fruit.float_val",
                    "4 values, or fewer, of which the last is repeated",
                    "5",
                )
            ],
            id="too many values",
        ),
        pytest.param(
            False,
            "fruit",
            _pop_values,
            [
                (
                    "inputs.fruit.float_val",
                    "4 values, or fewer, of which the last is repeated",
                    "nothing",
                )
            ],
            id="no values",
        ),
        pytest.param(
            False,
            "fruit",
            lambda t: (_pop_values(t), t.int_val.extend([1, 2, 3, 4])),
            [("inputs.fruit", "tensor_content or float_val, one, for DT_FLOAT", "int_val")],
            id="values of another type",
        ),
    ],
)
def test_faults_of_values(content, name, change, expected):
    """A tensor with wrong values is named."""
    request = predict(ARRAYS, content=content)
    change(request.inputs[name])

    assert problems_of(request) == expected


def test_numbers_past_the_range_of_a_data_type():
    """Small types share a field of 32 bits, so their numbers are checked one by one."""
    request = predict({"x": np.array([[1, 2]], "uint8")}, content=False)
    request.inputs["x"].int_val[:] = [-1, 256]
    expected = "a whole number from 0 to 255"

    assert problems_of(request, MODELS["uint8"].signature) == [
        ("inputs.x.int_val[0]", expected, "-1"),
        ("inputs.x.int_val[1]", expected, "256"),
    ]


def test_bytes_of_booleans_are_zero_or_one():
    """As in the binary data of other protocols."""
    request = predict({"x": np.array([[True, False]])}, content=True)
    request.inputs["x"].tensor_content = b"\x02\x01"

    assert problems_of(request, MODELS["bool"].signature) == [
        ("inputs.x.tensor_content[0]", "0 or 1 in a byte", "2")
    ]


def test_empty_fields_are_none():
    """As in protobuf, where an empty field is not written."""
    request = predict({"x": np.float32([[1, 2]])}, content=False)
    tensor = request.inputs["x"].SerializeToString()
    more = delimited(4, b"junk") + delimited(4, b"") + delimited(7, b"")
    entry = delimited(1, b"x") + delimited(2, tensor + more)

    asked = read(delimited(2, entry), MODELS["float"].signature)

    assert asked.arrays["x"].tolist() == [[1, 2]]


def test_an_axis_of_no_length():
    """A tensor without values has none, in either form."""
    for content in (True, False):
        array = np.empty((1, 0, 2), np.float32)
        _, outputs = answer(predict({"x": array}, content=content), "ragged")

        assert outputs["y"].tolist() == [[0, 0]]


def test_whole_tensors():
    """A graph without rows takes its tensors as they are, unlike in JSON by row."""
    model = Model.load(small.same(small.F, (2,), 3))
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    for content in (True, False):
        request = predict({"x": array}, content=content)
        assert same(read(request, model.signature).arrays, {"x": array})


def test_two_models_are_refused():
    """The model in the message is that which was chosen by its name; so there is only one."""
    message = predict(ARRAYS, content=True).SerializeToString()

    assert problems_of(message + delimited(1, b"")) == [
        ("model_spec", "it once", "it more than once")
    ]


def test_an_input_twice_is_refused():
    """Protobuf would take the last one, and other readers may take another."""
    message = predict({"x": np.float32([[9, 9]])}, content=True).SerializeToString()

    assert problems_of(message + message[9:]) == [("inputs.x", "each name once", "it again")]
    assert problems_of(delimited(2, delimited(1, b"x") * 2)) == [
        ("inputs", "one name in each entry", "2")
    ]


def test_parts_of_a_tensor_are_put_together():
    """As in protobuf, where a field is there twice."""
    tensor = PredictRequest().inputs["x"]
    fill(tensor, np.float32([[1, 2]]), content=False)
    content = tensor.SerializeToString()
    entry = delimited(1, b"x") + delimited(2, content[:-10]) + delimited(2, content[-10:])

    asked = read(delimited(2, entry), MODELS["float"].signature)

    assert asked.arrays["x"].tolist() == [[1, 2]]


@pytest.mark.parametrize("content", FORMS)
def test_the_codec_of_a_version(content):
    """The fast codec reads and writes as the reader and the writer do, again and again."""
    codec = GRPC.codec("three", "1", THREE)
    model = MODELS["three"]
    for shift in (0, 1, 0):
        arrays = {n: a if a.dtype == object else a + np.float32(shift) for n, a in ARRAYS.items()}
        # The entries of a map come in any order.
        turned = dict(reversed(arrays.items())) if shift else arrays
        request = predict(turned, content=content).SerializeToString()
        asked = codec.decode(request, None)
        outputs = model.predict(asked.arrays, asked.heads)
        part = Part(Run(2, 0.0, 0.0, outputs), 0, 2)

        assert same(asked.arrays, arrays)
        assert codec.encode(asked, part) == GRPC.encode(asked, "three", "1", THREE, outputs)


def test_a_large_message_is_attempted():
    """The bytes of floats are read at once, whatever their number."""
    arrays = {"x": np.ones((50_000, 2), np.float32)}
    codec = GRPC.codec("float", "1", MODELS["float"].signature)
    for content in (True, False):
        request = predict(arrays, content=content).SerializeToString()
        assert same(codec.attempt(request).arrays, arrays)
        assert codec.attempt(request[:-1]) is None
        assert codec.attempt(b"\x1a\x01y" * 2000 + request) is None

    whole = predict({"x": np.ones((2, 2), "int64")}, content=False).SerializeToString()
    assert GRPC.codec("int64", "1", MODELS["int64"].signature).attempt(whole) is None


def test_a_long_header():
    """It is read like any other, but not kept."""
    request = predict({"x": np.float32([[1, 2]])}, content=True)
    request.inputs["x"].tensor_shape.dim[0].name = "x" * 5000
    codec = GRPC.codec("float", "1", MODELS["float"].signature)

    assert codec.decode(request.SerializeToString(), None).arrays["x"].tolist() == [[1, 2]]
    assert codec.attempt(request.SerializeToString()) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(b"\xff", ("body", "a protobuf message"), id="half a field"),
        pytest.param(delimited(3, b"\xff"), ("body", "a PredictRequest"), id="no UTF-8"),
        pytest.param(delimited(2, b"\xff"), ("body", "a protobuf message"), id="half an entry"),
        pytest.param(
            delimited(2, delimited(1, b"\xff")), ("inputs", "names in UTF-8"), id="a name"
        ),
        pytest.param(
            delimited(2, delimited(1, b"fruit") + delimited(2, b"\x12\x01\xff")),
            ("body", "a PredictRequest"),
            id="half a tensor",
        ),
        pytest.param(
            b"\x1a\x00" * (MOST_FIELDS + 1),
            ("body", f"messages of at most {MOST_FIELDS} fields each"),
            id="too many fields",
        ),
    ],
)
def test_hostile_bytes(message, expected):
    """Bytes that are no message, or too much of one, are refused with the reason."""
    assert problems_of(message)[0][:2] == expected


def test_very_many_unknown_inputs_are_counted():
    """Only the first are listed."""
    request = PredictRequest()
    for i in range(3000):
        request.inputs[f"x{i}"].dtype = 1

    with pytest.raises(BadRequest) as caught:
        read(request)

    assert (len(caught.value.problems), caught.value.count) == (20, 3004)


def test_the_model_of_a_message():
    """A version or an alias; the last one counts, and it may be anywhere."""
    request = predict(ARRAYS, content=True)
    content = request.SerializeToString()
    request.model_spec.version.value = 7
    versioned = request.SerializeToString()
    request.model_spec.version_label = "stable"
    labelled = request.SerializeToString()

    assert address(content) == ("three", None, None)
    assert address(versioned) == ("three", "7", None)
    assert address(labelled) == ("three", None, "stable")
    assert address(memoryview(versioned)[:100]) == ("three", "7", None)
    assert address(versioned[:3]) == (None, None, None)
    assert address(b"") == (None, None, None)
    name = delimited(1, b"three")
    label, number = delimited(4, b"stable"), delimited(2, b"\x08" + as_varint(2**64 - 2))
    assert address(delimited(1, label + number + name)) == ("three", "-2", None)
    assert address(delimited(1, number + label)) == (None, None, "stable")
    assert address(delimited(1, delimited(2, b""))) == (None, "0", None)


def test_of_many_versions_in_a_message_the_last_one_is_read(monkeypatch):
    """A message is not read for longer because it has more of them."""
    walked = []
    walk = grpc.fields

    def count(*arguments):
        walked.append(arguments)
        return walk(*arguments)

    monkeypatch.setattr(grpc, "fields", count)
    versions = [delimited(2, b"\x08" + as_varint(number)) for number in range(1000)]

    assert address(delimited(1, b"".join(versions))) == (None, "999", None)
    assert len(walked) == 3


def test_errors_are_in_headers():
    """Every problem is in the details of the status."""
    request = predict(ARRAYS, content=True)
    request.inputs["fruit"].dtype = 3
    request.output_filter.append("x")

    with pytest.raises(BadRequest) as caught:
        read(request)

    assert status(GRPC.encode_error(caught.value)) == (
        3,
        'output_filter[0]: expected one of risk, size, digits, tags, received "x" (and 1 more)',
        [
            ("output_filter[0]", 'expected one of risk, size, digits, tags, received "x"'),
            ("inputs.fruit.dtype", "expected DT_FLOAT, received DT_INT32"),
        ],
    )


@pytest.mark.keras
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["double", "float16", "bool", "string", "int8", "uint16", "int64"])
def test_tensors_of_tensorflow(name, rows):
    """TensorFlow's own functions write tensors that are read, and read those that are written."""
    from tensorflow.python.framework import tensor_util

    dtype = MODELS[name].signature.inputs["x"].tensors[0].dtype
    array = np.arange(2 * rows).reshape(rows, 2)
    array = array.astype(str).astype(object) if dtype == "string" else array.astype(dtype)
    request = PredictRequest()
    theirs = tensor_util.make_tensor_proto(array)
    request.inputs["x"].ParseFromString(theirs.SerializeToString())

    response, outputs = answer(request, name)
    theirs.ParseFromString(response.outputs["y"].SerializeToString())
    found = tensor_util.MakeNdarray(theirs)

    assert same(outputs, {"y": array})
    assert found.tolist() == (
        [[v.encode() for v in row] for row in array] if dtype == "string" else array.tolist()
    )
