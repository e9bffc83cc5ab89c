"""The Open Inference Protocol over gRPC: messages to arrays, and arrays to messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.model import Model
from service.run import Part, Run
from service.wire.body import MOST_ROWS
from service.wire.messages import message_class
from service.wire.oip import grpc
from service.wire.oip.grpc import GRPC, address
from service.wire.protobuf import MOST_FIELDS, delimited
from tests.harness import small
from tests.harness.decoded import problems, same
from tests.harness.grpc_messages import InferRequest, infer, inferred, status

MODELS = {name: Model.load(content) for name, content in small.every().items()}
THREE = MODELS["three"].signature
HEADS = ("risk", "size", "digits", "tags")
ARRAYS = {
    "insurance": np.float32([[47, 20], [30, 1.5]]),
    "insurance.smoker": np.array([["yes"], ["größe"]], object),
    "fruit": np.float32([[1, 2], [3, 4]]),
    "digit": np.float32([[0, 1, 2, 3], [4, 5, 6, 7]]),
}
RAW = [pytest.param(True, id="raw"), pytest.param(False, id="typed")]


def read(request, signature=THREE):
    """Decode a message."""
    content = request if isinstance(request, bytes) else request.SerializeToString()
    return GRPC.reader(signature)(content, None)


def problems_of(request, signature=THREE):
    """Return the problems of a message as (at, expected, received)."""
    return problems(read, request, signature)


def answer(request, name="three"):
    """Return the answer of a model to a message: the response, and its outputs by name."""
    model = MODELS[name]
    asked = read(request, model.signature)
    outputs = model.predict(asked.arrays, asked.heads)
    reply = GRPC.encode(asked, name, "1", model.signature, outputs)
    assert (reply.content_type, reply.headers) == ("application/grpc", ())
    return inferred(reply.content)


@pytest.mark.parametrize("raw", RAW)
def test_a_request_and_its_answer(raw):
    """The answer has all heads and the form of the request, and repeats the ID."""
    request = infer(ARRAYS, raw=raw, id="größe")

    asked = read(request)
    response, outputs = answer(request)

    assert same(asked.arrays, ARRAYS)
    assert (asked.heads, asked.id, asked.timeout) == (HEADS, "größe", None)
    assert (response.model_name, response.model_version, response.id) == ("three", "1", "größe")
    assert same(outputs, MODELS["three"].predict(ARRAYS, HEADS))
    assert bool(response.raw_output_contents) == raw
    assert any(output.HasField("contents") for output in response.outputs) != raw


def test_no_id_is_none():
    """An answer has an ID only if the request has one."""
    assert read(infer(ARRAYS, raw=True)).id is None
    assert read(infer(ARRAYS, raw=True, id="a").SerializeToString() + b"\x1a\x01b").id == "b"


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("raw", RAW)
def test_a_request_in_any_buffer(buffer, raw):
    """A message may be a part of what was received."""
    content = buffer(infer(ARRAYS, raw=raw).SerializeToString())

    assert same(GRPC.reader(THREE)(content, None).arrays, ARRAYS)


@pytest.mark.parametrize("raw", RAW)
@pytest.mark.parametrize("name", small.returning(MODELS))
def test_every_datatype_there_and_back(name, raw):
    """A graph that returns its input returns the same values for every datatype."""
    model = MODELS[name]
    array = small.values_for(model)
    if array.dtype == "float16" and not raw:
        return

    response, outputs = answer(infer({"x": array}, raw=raw, name=name), name)

    assert same(outputs, {"y": array})
    assert bool(response.raw_output_contents) == raw


EXTREMES = {
    **{f"int{bits}": [-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": [0, 1, 127, 2**bits - 1] for bits in (8, 16, 32, 64)},
    "bool": [True, False, False, True],
    "float": [np.nan, -np.inf, np.inf, -0.0],
    "double": [np.nan, -np.inf, 1e308, 5e-324],
    "string": ["", "größe", "\x00", "x" * 300],
}


@pytest.mark.parametrize("raw", RAW)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_values_there_and_back(name, raw):
    """Every value of a datatype is kept, NaN and infinities too."""
    dtype = MODELS[name].signature.inputs["x"].tensors[0].dtype
    array = np.array(EXTREMES[name], object if dtype == "string" else dtype).reshape(2, 2)

    _, outputs = answer(infer({"x": array}, raw=raw, name=name), name)

    assert outputs["y"].dtype == array.dtype
    if dtype == "string":
        assert outputs["y"].tolist() == array.tolist()
    else:
        assert outputs["y"].tobytes() == array.tobytes()


def test_half_floats_have_no_contents():
    """FP16 is raw in requests, and an answer with a head of FP16 is raw."""
    array = np.float16([[1, 2]])
    request = infer({"x": array}, raw=True, name="float16")
    typed = InferRequest(model_name="float16")
    entry = typed.inputs.add(name="x", datatype="FP16", shape=[1, 2])

    assert answer(request, "float16")[0].raw_output_contents == [array.tobytes()]
    for received in ("nothing", "fp32_contents"):
        assert problems_of(typed, MODELS["float16"].signature) == [
            (
                "inputs[0].contents",
                "none, but raw_input_contents, since FP16 has no field of contents",
                received,
            )
        ]
        entry.contents.fp32_contents.extend([1, 2])


def test_requested_outputs():
    """A request may name outputs, and then sends only the inputs that these need."""
    request = infer({"fruit": ARRAYS["fruit"]}, raw=True)
    request.outputs.add(name="tags")
    request.outputs.add(name="size")

    _, outputs = answer(request)

    assert same(outputs, MODELS["three"].predict(ARRAYS, ("tags", "size")))


def test_inputs_that_are_not_needed_are_checked_and_left_out():
    """An input that no requested output needs is read and has no effect."""
    request = infer(ARRAYS, raw=False)
    request.outputs.add(name="size")

    assert list(read(request).arrays) == ["fruit"]
    request.inputs[3].contents.fp32_contents.append(1)
    assert problems_of(request) == [
        ("inputs[3].contents.fp32_contents", "8 values, as the shape says", "9")
    ]


@pytest.mark.parametrize("raw", RAW)
def test_classification(raw):
    """Classes are texts, in the form of the request."""
    request = infer(ARRAYS, raw=raw)
    request.outputs.add(name="digits").parameters["classification"].int64_param = 2
    request.outputs.add(name="size")

    response, outputs = answer(request)

    assert [output.datatype for output in response.outputs] == ["BYTES", "FP32"]
    assert outputs["digits"].tolist() == [["2.0:2:two", "1.0:1:one"], ["6.0:2:two", "5.0:1:one"]]
    assert outputs["size"].tolist() == [[3], [7]]


def test_unseen_texts_are_in_a_parameter():
    """An answer lists texts that training never saw, as the answer over HTTP does."""
    for raw, at in ((True, "raw_input_contents[1]"), (False, "inputs[1].contents.bytes_contents")):
        response, _ = answer(infer(ARRAYS, raw=raw))

        assert response.parameters["unseen"].string_param == (
            f'[{{"at":"{at}[1]","received":"größe"}}]'
        )


def test_a_timeout():
    """The parameter `timeout` is in microseconds."""
    request = infer(ARRAYS, raw=True)
    request.parameters["timeout"].int64_param = 1_500_000

    assert read(request).timeout == 1.5
    request.parameters["timeout"].string_param = "1"
    assert problems_of(request) == [
        ("parameters.timeout", "a whole number of microseconds, from 1", '"1"')
    ]


@pytest.mark.parametrize("raw", RAW)
def test_parameters_of_http_have_no_effect(raw):
    """Clients that speak both protocols send them along; here the form follows the request."""
    request = infer(ARRAYS, raw=raw)
    request.parameters["binary_data_output"].bool_param = not raw
    request.inputs[0].parameters["binary_data_size"].int64_param = 7
    request.outputs.add(name="size").parameters["binary_data"].bool_param = not raw

    response, outputs = answer(request)

    assert bool(response.raw_output_contents) == raw
    assert outputs["size"].tolist() == [[3], [7]]


def test_parameters_of_every_type():
    """Parameters without a meaning are ignored, and those without a value are wrong."""
    request = infer(ARRAYS, raw=True)
    request.parameters["a"].bool_param = True
    request.parameters["b"].double_param = 1.5
    request.parameters["c"].uint64_param = 2**64 - 1
    request.parameters["d"].string_param = "x"

    assert read(request).heads == HEADS
    request.parameters["e"].CopyFrom(message_class("inference.InferParameter")())
    request.parameters["f"].double_param = np.nan
    assert sorted(problems_of(request)) == [
        ("parameters.e", "text, a number, true or false", "null"),
        ("parameters.f", "text, a number, true or false", "NaN"),
    ]


def _without(request, *names):
    for name in names:
        request.ClearField(name)
    return request


def _changed(raw, change):
    request = infer(ARRAYS, raw=raw)
    change(request)
    return request


FAULTS = [
    pytest.param(
        lambda r: setattr(r.inputs[2], "name", "froot"),
        [
            (
                "inputs[2].name",
                "one of insurance, insurance.smoker, fruit, digit (did you mean 'fruit'?)",
                '"froot"',
            ),
            ("inputs", "all of insurance, insurance.smoker, fruit, digit", "no fruit"),
        ],
        id="unknown input",
    ),
    pytest.param(
        lambda r: setattr(r.inputs[2], "name", "digit"),
        [
            ("inputs[3].name", "each name once", '"digit" again'),
            (
                "inputs[2].shape",
                "[rows, 4], with 1 row at least",
                "[2, 2]",
            ),
            ("inputs", "all of insurance, insurance.smoker, fruit, digit", "no fruit"),
        ],
        id="an input twice",
    ),
    pytest.param(
        lambda r: setattr(r.inputs[0], "datatype", "FP64"),
        [("inputs[0].datatype", "FP32", '"FP64"')],
        id="another datatype",
    ),
    pytest.param(
        lambda r: r.inputs[0].shape.append(1),
        [("inputs[0].shape", "[rows, 2], with 1 row at least", "[2, 2, 1]")],
        id="another shape",
    ),
    pytest.param(
        lambda r: r.inputs[0].shape.__setitem__(0, -2),
        [("inputs[0].shape", "[rows, 2], with 1 row at least", "[-2, 2]")],
        id="a negative axis",
    ),
    pytest.param(
        lambda r: r.inputs[0].shape.__setitem__(0, MOST_ROWS + 1),
        [
            (
                "inputs[0].shape[0]",
                f"at most {MOST_ROWS} rows in one request",
                f"{MOST_ROWS + 1} rows",
            )
        ],
        id="too many rows",
    ),
    pytest.param(
        lambda r: r.outputs.add(name="sizes"),
        [("outputs[0].name", "one of risk, size, digits, tags (did you mean 'size'?)", '"sizes"')],
        id="unknown output",
    ),
    pytest.param(
        lambda r: (
            r.inputs[0]
            .parameters["shared_memory_region"]
            .CopyFrom(message_class("inference.InferParameter")(string_param="x"))
        ),
        [
            (
                "inputs[0].parameters.shared_memory_region",
                "tensors in the bodies",
                "shared memory, which is not served",
            )
        ],
        id="shared memory",
    ),
]


@pytest.mark.parametrize("raw", RAW)
@pytest.mark.parametrize(("change", "expected"), FAULTS)
def test_faults_of_the_header(change, expected, raw):
    """All faults of a header are listed, with the paths and the messages that they have in JSON."""
    assert sorted(problems_of(_changed(raw, change))) == sorted(expected)


def _append(values, *more):
    values.extend(more)


@pytest.mark.parametrize(
    ("raw", "change", "expected"),
    [
        pytest.param(
            True,
            lambda r: r.raw_input_contents.pop(),
            [("raw_input_contents", "4, one for each of inputs", "3")],
            id="one too few",
        ),
        pytest.param(
            True,
            lambda r: _append(r.raw_input_contents, b""),
            [("raw_input_contents", "4, one for each of inputs", "5")],
            id="one too many",
        ),
        pytest.param(
            True,
            lambda r: r.raw_input_contents.__setitem__(0, b"12345"),
            [("raw_input_contents[0]", "16, the bytes of float32[2 x 2]", "5")],
            id="too few bytes",
        ),
        pytest.param(
            True,
            lambda r: r.raw_input_contents.__setitem__(
                1, b"\x01\x00\x00\x00\xff\x04\x00\x00\x00ab"
            ),
            [
                ("raw_input_contents[1][0]", "text in UTF-8", "the byte 0xff at offset 0"),
                (
                    "raw_input_contents[1][1]",
                    "a length in 4 bytes, and 4 bytes of text",
                    "6 bytes to the end",
                ),
            ],
            id="wrong texts",
        ),
        pytest.param(
            True,
            lambda r: _append(r.inputs[1].contents.bytes_contents, b"yes"),
            [
                (
                    "inputs[1].contents",
                    "no contents, since raw_input_contents has the values",
                    "both",
                )
            ],
            id="both forms",
        ),
        pytest.param(
            False,
            lambda r: (
                r.inputs[0].ClearField("contents"),
                _append(r.inputs[2].contents.int_contents, 1),
                _append(r.inputs[3].contents.fp32_contents, 1),
            ),
            [
                (
                    "inputs[0].contents",
                    "the values, in fp32_contents or in raw_input_contents",
                    "nothing",
                ),
                (
                    "inputs[2].contents",
                    "only fp32_contents, for FP32",
                    "int_contents, fp32_contents",
                ),
                ("inputs[3].contents.fp32_contents", "8 values, as the shape says", "9"),
            ],
            id="wrong contents",
        ),
        pytest.param(
            False,
            lambda r: r.inputs[1].contents.bytes_contents.__setitem__(1, b"a\xff"),
            [
                (
                    "inputs[1].contents.bytes_contents[1]",
                    "text in UTF-8",
                    "the byte 0xff at offset 1",
                )
            ],
            id="wrong text",
        ),
    ],
)
def test_faults_of_values(raw, change, expected):
    """Each tensor with wrong values is named."""
    assert problems_of(_changed(raw, change)) == expected


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (
            "int8",
            [200, -129],
            [
                ("[0]", "a whole number from -128 to 127", "200"),
                ("[1]", "a whole number from -128 to 127", "-129"),
            ],
        ),
        ("uint16", [1, 70000], [("[1]", "a whole number from 0 to 65535", "70000")]),
    ],
)
def test_numbers_past_the_range_of_a_datatype(name, values, expected):
    """Small datatypes share a field of 32 bits, so their numbers are checked one by one."""
    request = infer({"x": np.array([[1, 2]], name)}, raw=False, name=name)
    field = "int_contents" if name == "int8" else "uint_contents"
    getattr(request.inputs[0].contents, field)[:] = values

    assert problems_of(request, MODELS[name].signature) == [
        (f"inputs[0].contents.{field}{at}", want, got) for at, want, got in expected
    ]


def test_many_wrong_numbers_are_counted():
    """The first twenty are listed."""
    array = np.ones((1000, 2), "int8")
    request = infer({"x": array}, raw=False, name="int8")
    request.inputs[0].contents.int_contents[:] = [300] * 2000

    with pytest.raises(grpc.BadRequest) as caught:
        read(request, MODELS["int8"].signature)

    assert (len(caught.value.problems), caught.value.count) == (20, 2000)


def test_raw_booleans_are_zero_or_one():
    """As in the binary data of HTTP."""
    request = infer({"x": np.array([[True, False]])}, raw=True, name="bool")
    request.raw_input_contents[0] = b"\x02\x01"

    assert problems_of(request, MODELS["bool"].signature) == [
        ("raw_input_contents[0][0]", "0 or 1 in a byte", "2")
    ]


def test_a_name_twice_is_refused():
    """The model in the message is that which was chosen by its name; so there is only one."""
    content = infer(ARRAYS, raw=True).SerializeToString()

    assert problems_of(content + delimited(1, b"two")) == [("model_name", "it once", "it 2 times")]
    assert problems_of(content + delimited(2, b"1") * 3) == [
        ("model_version", "it once", "it 3 times")
    ]


def test_a_version_is_where_the_model_is_looked_for():
    """The version that answers is the one in the message, or the message is refused."""
    content = infer(ARRAYS, raw=True).SerializeToString()
    name = delimited(1, b"three")
    rest = content.removeprefix(name)
    version = delimited(2, b"7")
    elsewhere = [("model_version", "it right behind model_name", "it elsewhere")]

    assert address(name + version + rest) == ("three", "7", None)
    assert address(rest + name + version) == ("three", "7", None)
    for moved in (content + version, version + content, version + rest + name):
        assert address(moved) == ("three", None, None)
        assert problems_of(moved) == elsewhere


def test_an_id_that_is_no_text():
    """An ID is repeated in the answer, where it has to be UTF-8."""
    content = infer(ARRAYS, raw=True).SerializeToString()

    assert problems_of(content + delimited(3, b"\xff")) == [("id", "text in UTF-8", "other bytes")]


def test_fields_in_any_order():
    """Protobuf allows fields in any order, and values in several parts."""
    parts = infer(ARRAYS, raw=True, id="a")
    contents = b"".join(delimited(7, raw) for raw in parts.raw_input_contents)
    head = _without(parts, "raw_input_contents").SerializeToString()

    assert same(read(contents + head).arrays, ARRAYS)
    assert read(contents + head).id == "a"


def test_values_that_are_not_packed_or_in_parts():
    """Numbers may have a field each, in several contents, and be packed besides."""
    one = np.float32([1]).tobytes()
    contents = [
        b"\x35" + one + delimited(6, one + one),
        b"\x35" + one,
    ]
    request = InferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[2, 2])
    entry = request.inputs[0].SerializeToString() + b"".join(delimited(5, c) for c in contents)
    whole = InferRequest(model_name="m")
    entry_of_numbers = whole.inputs.add(name="x", datatype="INT64", shape=[1, 2])
    numbers = entry_of_numbers.SerializeToString() + delimited(5, b"\x18\x05\x1a\x01\x07")

    floats = read(delimited(5, entry), MODELS["float"].signature)
    integers = read(delimited(5, numbers), MODELS["int64"].signature)

    assert floats.arrays["x"].tolist() == [[1, 1], [1, 1]]
    assert integers.arrays["x"].tolist() == [[5, 7]]


def test_an_axis_of_no_length():
    """A tensor without values has no contents, in either form."""
    array = np.empty((1, 0, 2), np.float32)
    for raw in (True, False):
        response, outputs = answer(infer({"x": array}, raw=raw, name="ragged"), "ragged")

        assert outputs["y"].tolist() == [[0, 0]]
        assert response.raw_output_contents


def test_whole_tensors():
    """A graph without rows takes its tensors as they are."""
    model = Model.load(small.same(small.F, (2,), 3))
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    for raw in (True, False):
        assert same(read(infer({"x": array}, raw=raw), model.signature).arrays, {"x": array})


@pytest.mark.parametrize("raw", RAW)
def test_the_codec_of_a_version(raw):
    """The fast codec reads and writes as the reader and the writer do, again and again."""
    codec = GRPC.codec("three", "1", THREE)
    model = MODELS["three"]
    for shift in (0, 1, 0):
        arrays = {n: a if a.dtype == object else a + np.float32(shift) for n, a in ARRAYS.items()}
        request = infer(arrays, raw=raw, id=str(shift)).SerializeToString()
        asked = codec.decode(request, None)
        outputs = model.predict(asked.arrays, asked.heads)
        part = Part(Run(2, 0.0, 0.0, outputs), 0, 2)

        assert same(asked.arrays, arrays)
        assert codec.encode(asked, part) == GRPC.encode(asked, "three", "1", THREE, outputs)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_the_parts_of_a_run_are_written_as_each_alone(sizes, has_id, some):
    """The outputs become bytes once for all requests of a run, and each gets its own rows."""
    codec, rows = GRPC.codec("three", "1", THREE), sum(sizes)
    outputs = {
        name: np.random.default_rng(0).random((rows, *head.tensor.shape)).astype(head.tensor.dtype)
        for name, head in THREE.heads.items()
    }
    run, start = Run(rows, 0.0, 0.0, outputs), 0
    for i, size in enumerate(sizes):
        request = infer({n: a[:1].repeat(size, 0) for n, a in ARRAYS.items()}, raw=True)
        request.id = str(i) if has_id else ""
        if some:
            request.outputs.add(name="size")
        asked = codec.decode(request.SerializeToString(), None)
        part = Part(run, start, start + size)

        assert codec.encode(asked, part) == GRPC.encode(asked, "three", "1", THREE, part.outputs())
        start += size


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.sampled_from(["", "a"]), st.lists(st.integers(0, 10**6))),
        max_size=6,
    )
)
def test_a_message_that_fits_a_mold_is_read_as_by_its_fields(messages):
    """A reader that has seen others of the same size finds the same in each, or the same wrong."""
    ours = grpc.Decoder(THREE)
    for rows, name, changes in messages:
        request = infer({n: a[:1].repeat(rows, 0) for n, a in ARRAYS.items()}, raw=True, id=name)
        content = bytearray(request.SerializeToString())
        for change in changes[:2]:
            content[change % len(content)] ^= 1 << change % 8
        results = []
        for decoder in (ours, grpc.Decoder(THREE), ours):
            try:
                results.append(decoder.read(memoryview(bytes(content))))
            except grpc.BadRequest as error:
                results.append(error.problems)
        first, fresh, again = results
        if isinstance(fresh, tuple):
            assert first == again == fresh
            continue
        for query in (first, again):
            assert same(query.arrays, fresh.arrays)
            assert (query.heads, query.id, query.raw) == (fresh.heads, fresh.id, fresh.raw)


def test_a_part_of_a_run():
    """Rows of a run that several requests share are answered by themselves."""
    codec = GRPC.codec("three", "1", THREE)
    request = infer({"fruit": ARRAYS["fruit"][:1]}, raw=True)
    request.outputs.add(name="size")
    asked = codec.decode(request.SerializeToString(), None)
    run = Run(3, 0.0, 0.0, {"size": np.asfortranarray(np.float32([[1], [2], [3]]))})

    _, outputs = inferred(codec.encode(asked, Part(run, 1, 2)).content)

    assert outputs["size"].tolist() == [[2]]


def test_a_large_message_is_attempted():
    """Raw numbers are read at once, whatever their number; other messages are left to threads."""
    arrays = {"x": np.ones((50_000, 2), np.float32)}
    codec = GRPC.codec("float", "1", MODELS["float"].signature)
    for raw in (True, False):
        request = infer(arrays, raw=raw).SerializeToString()
        assert same(codec.attempt(request).arrays, arrays)
        assert codec.attempt(request[:-1]) is None
        assert codec.attempt(b"\x0a\x01a" * 2000 + request) is None

    texts = {"x": np.array([["a", "b"]], object)}
    for name, array in {"string": texts["x"], "int64": np.ones((2, 2), "int64")}.items():
        codec = GRPC.codec(name, "1", MODELS[name].signature)
        assert codec.attempt(infer({"x": array}, raw=False).SerializeToString()) is None
    assert codec.attempt(infer({"x": array}, raw=True).SerializeToString()) is not None
    long = infer({"x": array}, raw=True)
    long.parameters["x"].string_param = "x" * 5000
    assert codec.attempt(long.SerializeToString()) is None
    assert read(long, MODELS["int64"].signature).heads == ("y",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"\xff", [("body", "a protobuf message")], id="half a field"),
        pytest.param(delimited(1, b"\xff"), [("body", "a ModelInferRequest")], id="no UTF-8"),
        pytest.param(delimited(5, b"\xff"), [("body", "a protobuf message")], id="half an input"),
        pytest.param(
            delimited(5, delimited(5, b"\x32\x05")), [("body", "a protobuf message")], id="contents"
        ),
        pytest.param(
            b"\x3a\x00" * (MOST_FIELDS + 1),
            [("body", f"messages of at most {MOST_FIELDS} fields each")],
            id="too many fields",
        ),
        pytest.param(
            b"\x2a\x00" * 300,
            [
                ("inputs", "each of insurance, insurance.smoker, fruit, digit once"),
                ("inputs", "all of insurance, insurance.smoker, fruit, digit"),
            ],
            id="too many inputs",
        ),
        pytest.param(
            b"\x32\x00" * 300,
            [("outputs", "each of risk, size, digits, tags once")],
            id="too many outputs",
        ),
    ],
)
def test_hostile_bytes(content, expected):
    """Bytes that are no message, or too much of one, are refused with the reason."""
    assert [(at, want) for at, want, _ in problems_of(content)] == expected


def test_very_many_values_are_counted_before_they_are_read():
    """A byte can be a number of eight bytes, so the shape is compared first."""
    request = InferRequest(model_name="m")
    request.inputs.add(name="x", datatype="INT64", shape=[1, 2])
    entry = request.inputs[0].SerializeToString() + delimited(5, delimited(3, b"\x01" * 10**6))

    assert problems_of(delimited(5, entry), MODELS["int64"].signature) == [
        ("inputs[0].contents.int64_contents", "2 values, as the shape says", "1000000")
    ]


def test_the_model_of_a_message():
    """It is found wherever it is, also in the beginning of a longer message."""
    request = infer(ARRAYS, raw=True, model_version="7")
    content = request.SerializeToString()

    assert address(content) == ("three", "7", None)
    assert address(memoryview(content)[:40]) == ("three", "7", None)
    assert address(content[:8]) == ("three", None, None)
    assert address(content[:5]) == (None, None, None)
    assert address(b"") == (None, None, None)
    assert address(delimited(7, b"x" * 100) + content) == ("three", "7", None)
    assert address(delimited(1, b"\xff")) == ("\ufffd", None, None)


def test_errors_are_in_headers():
    """Every problem is in the details of the status."""
    request = infer(ARRAYS, raw=True)
    request.inputs[0].datatype = "INT8"
    request.outputs.add(name="x")

    with pytest.raises(grpc.BadRequest) as caught:
        read(request)

    assert status(GRPC.encode_error(caught.value)) == (
        3,
        'outputs[0].name: expected one of risk, size, digits, tags, received "x" (and 1 more)',
        [
            ("outputs[0].name", 'expected one of risk, size, digits, tags, received "x"'),
            ("inputs[0].datatype", 'expected FP32, received "INT8"'),
        ],
    )
