"""Predictions by gRPC: the pipeline, its deadlines, bounds, tokens and numbers."""

from __future__ import annotations

import gzip
import json
import threading
import zlib

import grpc
import numpy as np
import pytest

from service.http.grpc import framing
from service.wire.messages import message_class
from tests.harness import grpc_messages, small, tokens
from tests.harness.calls import INFER, PREDICT, ROW, client, prefixed, problems, send
from tests.harness.served import JSON, Served
from tests.harness.waiting import until

SIZE = 3.5
ANSWERS = {INFER: "inference.ModelInferResponse", PREDICT: "tensorflow.serving.PredictResponse"}
COLD = "1"


def asked(method=INFER, version="", alias="", **more):
    """Return a request for a row."""
    name = more.pop("name", "three")
    if method == INFER:
        return grpc_messages.infer(ROW, raw=True, name=name, model_version=version, **more)
    request = grpc_messages.predict(ROW, content=True, name=name)
    if version:
        request.model_spec.version.value = int(version)
    if alias:
        request.model_spec.version_label = alias
    return request


def sizes(told):
    """Return the head `size` of an answer."""
    if told.answer.DESCRIPTOR.name == "PredictResponse":
        _, outputs = grpc_messages.predicted(told.answer.SerializeToString())
    else:
        _, outputs = grpc_messages.inferred(told.answer.SerializeToString())
    return outputs["size"].ravel().tolist()


@pytest.fixture(name="models")
def _models(tmp_path):
    """Return a repository of a model of which version 2 serves, and version 1 is not loaded."""
    models = tmp_path / "models"
    models.mkdir()
    for version in (1, 2):
        small.put(models, "three", version, small.three(version))
    return models


@pytest.fixture(name="served")
def _served(models):
    """Yield a service."""
    served = Served(models)
    yield served
    served.stop()


@pytest.fixture(name="calls")
def _calls(served):
    """Yield a client of the service."""
    with client(served.port) as made:
        yield made


METHODS = pytest.mark.parametrize("method", [INFER, PREDICT], ids=["oip", "tfserving"])


@METHODS
def test_a_row_is_predicted(calls, method):
    """By the version that serves."""
    told = calls.ask(method, asked(method), ANSWERS[method])

    assert told.code == "OK"
    assert sizes(told) == [2 * SIZE]


@METHODS
def test_a_version_is_loaded_for_the_call_that_names_it(served, calls, method):
    """As for a request of HTTP; and the next call finds it loaded."""
    before = served.front.library.current.loaded("three", COLD, None)

    told = [calls.ask(method, asked(method, COLD), ANSWERS[method]) for _ in range(2)]

    assert before is None
    assert [sizes(each) for each in told] == [[SIZE]] * 2


def test_an_alias_is_a_label(served, calls, models):
    """TensorFlow Serving's messages have a field for it."""
    (models / "three" / "aliases.json").write_text('{"stable": "1"}')
    served.front.library.refresh()

    told = calls.ask(PREDICT, asked(PREDICT, alias="stable"), ANSWERS[PREDICT])

    assert sizes(told) == [SIZE]


@METHODS
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        pytest.param(
            {"name": "thre"},
            "model 'thre': there is none of that name (did you mean 'three'?). Available: three",
            id="unknown model",
        ),
        pytest.param(
            {"version": "9"},
            "model 'three' has no version '9'. Available: 1, 2",
            id="unknown version",
        ),
    ],
)
def test_what_does_not_exist_is_not_found(served, calls, method, fields, text):
    """In the words of HTTP, and counted under the name of the protocol."""
    told = calls.ask(method, asked(method, **fields), ANSWERS[method])

    assert (told.code, told.text) == ("NOT_FOUND", text)
    name = "" if "name" in fields else "three"
    dialect = "oip_grpc" if method == INFER else "tfserving_grpc"
    line = f'triceps_requests_total{{dialect="{dialect}",model="{name}",status="404",version=""}} 1'
    assert line in _metrics(served)


def _metrics(served):
    text = served.ask("GET", "/metrics")[2].decode()
    # The order of labels does not matter.
    return [
        f"{name}{{{','.join(sorted(labels.split(',')))}}} {value.removesuffix('.0')}"
        for name, _, rest in (line.partition("{") for line in text.splitlines())
        for labels, _, value in [rest.partition("} ")]
        if rest
    ]


@METHODS
def test_a_message_names_a_model(calls, method):
    """A default model is not meant by a message that names none."""
    told = calls.ask(method, asked(method, name=""), ANSWERS[method])

    field = "model_name" if method == INFER else "model_spec.name"
    text = f"{field}: expected the name of a model, received none"
    assert (told.code, told.text) == ("INVALID_ARGUMENT", text)
    assert problems(told) == {field: "expected the name of a model, received none"}


@METHODS
def test_a_very_long_name_is_refused_without_a_look(calls, method):
    """It would be compared, and told, at length."""
    told = calls.ask(method, asked(method, name="x" * 10**6), ANSWERS[method])

    field = "model_name" if method == INFER else "model_spec.name"
    text = (
        f"{field}: expected names and versions of at most 255 characters, received one of 1000000"
    )
    assert (told.code, told.text) == ("INVALID_ARGUMENT", text)


def test_every_problem_is_in_the_details(calls):
    """Each one is a field violation, at the path that HTTP has for it."""
    request = asked()
    request.inputs[2].shape[1] = 3
    request.inputs[3].name = "digits"

    told = calls.ask(INFER, request, ANSWERS[INFER])

    assert told.code == "INVALID_ARGUMENT"
    assert told.text.endswith(f"(and {len(problems(told)) - 1} more)")
    assert len(problems(told)) > 1


@METHODS
@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"", 12, "request: expected one message, since the method is unary, received none"),
        (prefixed(b"") * 2, 12, "request: expected one message, since the method is unary, "),
        (prefixed(b"x")[:3], 13, "message: expected a prefix of 5 bytes, received only 3 of them"),
        (prefixed(b"x", flag=1), 13, "compressed message: expected grpc-encoding to say how, "),
    ],
    ids=["none", "two", "a cut prefix", "compressed"],
)
def test_a_broken_call_is_told_what_is_wrong(served, method, body, code, text):
    """In an answer that is only an error, on a stream that ends as others do."""
    raw = send(served.port, method, *([body] if body else []))

    assert raw.code == code
    assert raw.text.startswith(text)
    assert (raw.trailers, raw.body, raw.is_reset) == ({}, b"", False)


def test_an_unknown_encoding_is_told_the_known_ones(served):
    """They are among the metadata."""
    body = prefixed(asked().SerializeToString(), flag=1)

    raw = send(served.port, INFER, body, headers=[("grpc-encoding", "snappy")])

    assert (raw.code, raw.headers["grpc-accept-encoding"]) == (12, "identity, deflate, gzip")
    assert raw.text == "grpc-encoding: expected one of identity, deflate, gzip, received snappy"


@METHODS
def test_a_message_has_a_largest_size(models, method):
    """It is that of the bodies of HTTP, without the prefix."""
    many = {name: np.repeat(array, 50, 0) for name, array in ROW.items()}
    if method == INFER:
        content = grpc_messages.infer(many, raw=True).SerializeToString()
    else:
        content = grpc_messages.predict(many, content=True).SerializeToString()
    served = Served(models, max_body=len(content))
    fits = send(served.port, method, prefixed(content))
    raw = send(served.port, method, prefixed(content + b"x"))
    says = send(served.port, method, prefixed(content + b"x")[:-1])
    served.stop()

    assert fits.code == 0
    assert (raw.code, says.code) == (8, 8)
    limit = f"expected at most {len(content)} bytes (TRICEPS_MAX_BODY), received "
    assert raw.text.startswith(f"body: {limit}")
    assert says.text == f"message: {limit}{len(content) + 1}"


@METHODS
@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_message_is_answered(served, method, encoding, compress):
    """A small answer is not worth compressing."""
    body = prefixed(compress(asked(method).SerializeToString()), flag=1)

    raw = send(served.port, method, body, headers=[("grpc-encoding", encoding)])

    assert raw.code == 0
    assert raw.body[0] == 0
    assert "grpc-encoding" not in raw.headers


@METHODS
@pytest.mark.parametrize("rows", [300, 20_000])
def test_a_compressed_answer_is_sent_to_those_who_compress(calls, method, rows):
    """Both are large, and the client reads it."""
    many = {name: np.repeat(array, rows, 0) for name, array in ROW.items()}
    if method == INFER:
        request = grpc_messages.infer(many, raw=True)
    else:
        request = grpc_messages.predict(many, content=True)

    told = calls.ask(method, request, ANSWERS[method], compression=grpc.Compression.Gzip)
    plain = calls.ask(method, request, ANSWERS[method])

    assert sizes(told) == sizes(plain) == [2 * SIZE] * rows


def test_an_answer_says_that_it_is_compressed(served):
    """By the flag, and by the metadata."""
    many = {name: np.repeat(array, 300, 0) for name, array in ROW.items()}
    content = grpc_messages.infer(many, raw=True).SerializeToString()
    compressed = prefixed(gzip.compress(content), flag=1)
    accepts = ("grpc-accept-encoding", "identity,deflate,gzip")

    raw = send(served.port, INFER, compressed, headers=[("grpc-encoding", "gzip"), accepts])
    plain = send(served.port, INFER, prefixed(content), headers=[accepts])

    assert (raw.headers["grpc-encoding"], raw.body[0]) == ("gzip", 1)
    assert gzip.decompress(raw.body[framing.PREFIX :]) == plain.body[framing.PREFIX :]
    assert ("grpc-encoding" in plain.headers, plain.body[0]) == (False, 0)
    assert not {"vary", "content-encoding"} & raw.headers.keys()


@METHODS
def test_what_a_message_inflates_to_is_limited(models, method):
    """Before it is inflated whole."""
    served = Served(models, max_body=100_000)
    content = asked(method).SerializeToString() + b"\0" * 10**6
    body = prefixed(gzip.compress(content), flag=1)
    raw = send(served.port, method, body, headers=[("grpc-encoding", "gzip")])
    served.stop()

    assert raw.code == 8
    assert raw.text.startswith("body: expected at most 100000 bytes (TRICEPS_MAX_BODY), received ")


@METHODS
def test_what_is_not_compressed_as_it_says_is_refused(served, method):
    """It is the client's mistake."""
    raw = send(
        served.port, method, prefixed(b"not it", flag=1), headers=[("grpc-encoding", "gzip")]
    )

    text = "body: expected gzip, as Content-Encoding says, received bytes that are not"
    assert (raw.code, raw.text) == (3, text)


def test_a_compressed_message_begins_with_the_name(served):
    """The model is found without inflating all of it."""
    content = grpc_messages.infer(ROW, raw=True, name="").SerializeToString()
    content += b"\x3a\xb0\x6d" + bytes(range(256)) * 54 + b"\0" * 176 + b"\x0a\x05three"
    raw = send(
        served.port,
        INFER,
        prefixed(gzip.compress(content), flag=1),
        headers=[("grpc-encoding", "gzip")],
    )

    text = (
        "model_name: expected the name of a model in the first 4096 bytes of a compressed "
        "message, received none"
    )
    assert (raw.code, raw.text) == (3, text)


@METHODS
def test_a_message_of_very_many_fields_is_read_in_a_thread(served, calls, monkeypatch, method):
    """The event loop reads the first thousand."""
    apart = []
    executor = served.front.executor
    begin = executor.apart
    monkeypatch.setattr(executor, "apart", lambda *given: apart.append(given[0]) or begin(*given))
    body = asked(method).SerializeToString()
    few, many, most = (body + b"\x78\0" * number for number in (500, 5000, 9000))

    assert send(served.port, method, prefixed(few)).code == 0
    assert not apart
    assert send(served.port, method, prefixed(many)).code == 0
    assert apart == [len(many)]
    too_many = send(served.port, method, prefixed(most))

    assert (too_many.code, too_many.text) == (
        3,
        "body: expected messages of at most 8192 fields each, received one of more",
    )


NAME, OLD = b"\x0a\x05three", b"\x12\x011"
LONG = b"\x1a\xf6\x1f".ljust(4096 - len(NAME), b"x")


@pytest.mark.parametrize(
    ("beginning", "compressed"),
    [
        (NAME + b"\x1a\x01i" + OLD, False),
        (NAME + b"\xf2\x01\0" + OLD, False),
        (LONG + NAME + OLD, True),
    ],
    ids=["behind the ID", "behind an unknown field", "behind the beginning"],
)
def test_a_message_for_one_version_is_answered_by_no_other(served, beginning, compressed):
    """Wherever its version is, that one answers, or none."""
    content = beginning + grpc_messages.infer(ROW, raw=True, name="").SerializeToString()
    body = prefixed(gzip.compress(content), flag=1) if compressed else prefixed(content)

    raw = send(served.port, INFER, body, headers=[("grpc-encoding", "gzip")])

    assert (raw.code, raw.text) == (
        3,
        "model_version: expected it right behind model_name, received it elsewhere",
    )


@METHODS
def test_a_deadline_of_no_time_is_over(served, method):
    """Clients hardly ever send one: it is over there before."""
    body = prefixed(asked(method).SerializeToString())

    raw = send(served.port, method, body, headers=[("grpc-timeout", "0m")])

    assert raw.code == 4
    assert raw.text == "request: expected some time to run it in (grpc-timeout), received none"


def test_a_wrong_deadline_is_refused(served):
    """The form of right ones is in the message."""
    raw = send(served.port, INFER, prefixed(b""), headers=[("grpc-timeout", "1s")])

    text = "grpc-timeout: expected at most 8 digits and one of H, M, S, m, u and n, received '1s'"
    assert (raw.code, raw.text) == (3, text)


def test_a_call_that_cannot_run_by_its_deadline_is_dropped(served):
    """The deadline is that of the pipeline."""
    body = prefixed(asked().SerializeToString())

    raw = send(served.port, INFER, body, headers=[("grpc-timeout", "1u")])

    assert raw.code == 4
    assert raw.text.startswith("request: expected to be run within 1e-06 s (X-Request-Timeout, ")


@METHODS
@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("", "UNAUTHENTICATED"),
        ("metrics", "PERMISSION_DENIED"),
        ("predict", "OK"),
        ("some", "OK"),
    ],
)
def test_a_prediction_needs_a_token(models, tmp_path, method, token, code):
    """Of the scope predict, in the metadata `authorization`."""
    served = Served(models, tokens_file=tokens.put(tmp_path))
    with client(served.port, token) as calls:
        told = calls.ask(method, asked(method), ANSWERS[method])
        other = calls.ask(method, asked(method, name="other"), ANSWERS[method])
        cold = calls.ask(method, asked(method, version=COLD), ANSWERS[method])
    served.stop()

    assert (told.code, cold.code) == (code, code)
    others = {"": code, "metrics": code, "predict": "NOT_FOUND", "some": "PERMISSION_DENIED"}
    assert other.code == others[token]


def test_a_token_that_is_not_allowed_loads_nothing(models, tmp_path):
    """As for a request of HTTP."""
    served = Served(models, tokens_file=tokens.put(tmp_path))
    with client(served.port, "metrics") as calls:
        calls.ask(INFER, asked(version=COLD), ANSWERS[INFER])
    loaded = served.front.library.current.loaded("three", COLD, None)
    served.stop()

    assert loaded is None


def test_an_answer_has_its_request_id_and_times(calls):
    """In its initial metadata; those of an error are all trailing."""
    metadata = {"x-request-id": "mine", "x-server-timing": "1"}

    told = calls.ask(INFER, asked(), ANSWERS[INFER], metadata=metadata)
    error = calls.ask(INFER, asked(name="x"), ANSWERS[INFER], metadata=metadata)
    new = calls.ask(INFER, asked(), ANSWERS[INFER])

    assert told.initial["x-request-id"] == error.trailing["x-request-id"] == "mine"
    assert "server-timing" in told.initial
    assert len(new.initial["x-request-id"]) == 32


def test_a_full_queue_says_when_to_come_again(served, calls, monkeypatch):
    """Retry-After is among the metadata."""
    calls.ask(INFER, asked(), ANSWERS[INFER])
    monkeypatch.setattr("service.inference.lane.Lane.is_full", lambda *_: True)

    told = calls.ask(INFER, asked(), ANSWERS[INFER])
    served.front.pipeline.drain()
    draining = calls.ask(INFER, asked(), ANSWERS[INFER])

    assert (told.code, draining.code) == ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
    assert told.text.startswith("model 'three': its queue is full (TRICEPS_QUEUE is ")
    assert (told.trailing["retry-after"], draining.trailing["retry-after"]) == ("1", "1")


@METHODS
def test_a_bug_is_told_to_nobody(calls, monkeypatch, caplog, method):
    """The client gets a plain error, and the log the traceback."""
    calls.ask(method, asked(method), ANSWERS[method])
    monkeypatch.setattr("service.prediction.Prediction._submit", lambda *_: 1 / 0)

    told = calls.ask(method, asked(method), ANSWERS[method], metadata={"x-request-id": "mine"})

    text = f"gRPC {method}: an error of the service; it is logged"
    assert (told.code, told.text) == ("INTERNAL", text)
    assert told.trailing["x-request-id"] == "mine"
    assert "ZeroDivisionError" in caplog.text


def test_a_bug_before_the_pipeline_is_told_to_nobody(served, calls, monkeypatch, caplog):
    """Nor does it break the connection."""
    monkeypatch.setattr("service.server.calls.ModelCall", lambda *_: 1 / 0)
    told = calls.ask(INFER, asked(), ANSWERS[INFER])
    monkeypatch.undo()
    monkeypatch.setattr(served.front.table, "find", lambda *_: 1 / 0)
    second = calls.ask(INFER, asked(), ANSWERS[INFER])
    monkeypatch.undo()
    third = calls.ask(INFER, asked(), ANSWERS[INFER])

    text = f"gRPC {INFER}: an error of the service; it is logged"
    assert [(each.code, each.text) for each in (told, second)] == [("INTERNAL", text)] * 2
    assert third.code == "OK"
    assert caplog.text.count("ZeroDivisionError") == 2


def test_a_call_that_nothing_answers_is_reset(served, calls, monkeypatch, caplog):
    """Its client must not wait forever."""
    monkeypatch.setattr("service.server.calls.encode_error", lambda *_: 1 / 0)
    told = calls.ask(INFER, asked(name="x"), ANSWERS[INFER])

    assert told.code in ("INTERNAL", "UNKNOWN")
    assert f"gRPC {INFER} could not be answered" in caplog.text


def test_no_request_of_http_reaches_the_methods(served):
    """They are no paths, however they are spelled."""
    for path in (INFER, f"{INFER}/", f"{INFER}?x=1", PREDICT):
        status, _, content = served.ask("POST", path, b"{}", JSON)
        assert status == 404
        assert "no such route" in json.loads(content)["error"]


def test_requests_of_http_and_calls_share_a_lane(served, calls):
    """So they run together, and one queue bounds them all."""
    calls.ask(INFER, asked(), ANSWERS[INFER])
    calls.ask(PREDICT, asked(PREDICT), ANSWERS[PREDICT])
    served.ask("POST", "/predict", b'{"instances": [{}]}', JSON)

    assert len({route.lane for route in served.front.table.routes.values()}) == 1
    assert len(served.front.table.routes) == 3


def test_a_call_meets_a_model_that_has_just_been_loaded(served, calls):
    """Even if the front has not been told of it yet."""
    served.front.library.follow(None)
    served.front.library.find("three", COLD)

    told = calls.ask(INFER, asked(version=COLD), ANSWERS[INFER])

    assert sizes(told) == [SIZE]


def test_a_model_that_fails_to_load_says_why(models):
    """To all calls that have waited for it."""
    small.put(models, "broken", 1, small.three())
    served = Served(models, memory=1)
    with client(served.port) as calls:
        told = calls.ask(INFER, asked(version=COLD), ANSWERS[INFER])
    served.stop()

    assert told.code == "UNAVAILABLE"


def test_a_new_version_answers_the_next_call(served, calls, models):
    """The route is that of the repository of now."""
    first = calls.ask(INFER, asked(), ANSWERS[INFER])
    small.put(models, "three", 3, small.three(3))
    served.front.library.refresh()
    # The front is told in a later turn of the event loop.
    until(lambda: served.front.table._repository is served.front.library.current)
    second = calls.ask(INFER, asked(), ANSWERS[INFER])

    assert (sizes(first), sizes(second)) == ([2 * SIZE], [3 * SIZE])


def test_many_calls_at_once_are_all_answered(calls):
    """They are streams of one connection."""
    kind = message_class(ANSWERS[INFER])
    made = calls.channel.unary_unary(INFER, lambda m: m.SerializeToString(), kind.FromString)

    answers = [made.future(asked(id=str(number)), 20) for number in range(200)]

    assert [each.result().id for each in answers] == [str(number) for number in range(200)]


def test_a_cancelled_call_is_not_run(served, calls):
    """Its stream is reset, and the pipeline drops it."""
    calls.ask(INFER, asked(), ANSWERS[INFER])
    hold, held = threading.Event(), threading.Event()

    def block():
        held.set()
        hold.wait(20)

    served.loop.call_soon_threadsafe(block)
    held.wait(20)
    made = calls.channel.unary_unary(INFER, lambda m: m.SerializeToString())
    call = made.future(asked(), 20)
    call.cancel()
    hold.set()

    until(lambda: not served.front.arrived)
    assert call.cancelled()
    assert calls.ask(INFER, asked(), ANSWERS[INFER]).code == "OK"
