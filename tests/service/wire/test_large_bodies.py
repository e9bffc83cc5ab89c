"""Large bodies and answers: they do not delay other requests, and their size is bounded."""

from __future__ import annotations

import contextlib
import gc
import gzip
import http.client
import json
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from service.wire import body as bodies
from service.wire import limits, pieces
from tests.harness import small
from tests.harness.served import JSON, Served

MB = 2**20
# The wait on an idle machine is a tenth of a second.
SECONDS = 2


def wide() -> bytes:
    """Return a foreign file that answers each number with two thousand."""
    return small.model(
        [helper.make_node("MatMul", ["x", "kernel"], ["y"])],
        [("x", small.F, ["n", 1])],
        [("y", small.F, ["n", 2000])],
        {"kernel": np.ones((1, 2000), np.float32)},
    ).SerializeToString()


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    """Serve the models of these tests."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "wide", 1, wide())
    small.put(models, "pair", 1, small.same(small.F))
    small.put(models, "steps", 1, small.same(small.F, (None,)))
    small.put(models, "texts", 1, small.same(TensorProto.STRING))
    served = Served(models, default_model="pair", max_body=32 * MB)
    yield served
    served.stop()


def longest_wait(served: Served, path: str, body: bytes, headers: dict[str, str]) -> Any:
    """Return the longest wait for `/livez` while a body is answered, and the body's answer."""
    answers: list[Any] = []
    asker = threading.Thread(
        target=lambda: answers.append(ask_patiently(served, path, body, headers))
    )
    longest = 0.0
    asker.start()
    while asker.is_alive():
        started = time.monotonic()
        assert served.ask("GET", "/livez")[0] == 200
        longest = max(longest, time.monotonic() - started)
    return longest, answers[0]


def ask_patiently(
    served: Served, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    """Return the status and the content of an answer, without a time limit."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def filled(before: bytes, piece: bytes, after: bytes) -> bytes:
    """Return a body of just under 32 MB that repeats a piece."""
    return before + piece * ((32 * MB - 1024) // len(piece)) + piece.rstrip(b",") + after


ROWS = b'{"instances":[', b"]}"


@pytest.mark.parametrize("path", ["/predict", "/predict?x=1", "/v1/models/pair:predict"])
@pytest.mark.parametrize("piece", [b"[],", b'{"a":1},', b"0.5,", b"NaN,"])
def test_no_other_request_waits_for_a_large_body(served, path, piece):
    """Other requests are answered while a large body is read, which as gzip takes kilobytes."""
    body = gzip.compress(filled(ROWS[0], piece, ROWS[1]), 1)

    longest, (status, content) = longest_wait(
        served, path, body, {**JSON, "Content-Encoding": "gzip"}
    )

    assert status == 400, content[:200]
    assert longest < SECONDS


def test_no_other_request_waits_for_one_long_row(served):
    """Other requests are answered while one long, valid row is read."""
    number = 4_000_000
    body = b'{"instances":[[' + b"1," * (number - 1) + b"1]]}"

    longest, (status, content) = longest_wait(served, "/models/steps/predict", body, JSON)

    assert status == 200
    assert content.count(b"1.0") >= number
    assert longest < SECONDS


@pytest.mark.parametrize("query", ["", "?x=1"])
@pytest.mark.parametrize(
    ("path", "form"),
    [("/models/wide/predict", "instances"), ("/v1/models/wide:predict", "inputs")],
)
def test_an_answer_has_a_bound(served, path, form, query):
    """The size of an answer is computed and bounded before the model runs."""
    rows = limits.MOST_NUMBERS // 2000 + 1
    body = json.dumps({form: [[1]] * rows}).encode()

    status, _, content = served.ask("POST", path + query, body, JSON)

    assert status == 400
    message = json.loads(content)["error"]
    assert f"expected at most {rows - 1} rows" in message
    assert f"received {rows} rows" in message
    fewer = json.dumps({form: [[1]] * (rows - 1)}).encode()
    assert ask_patiently(served, path + query, fewer, JSON)[0] == 200


def test_an_answer_of_unknown_width_has_one_too(served):
    """An answer of unknown width is bounded after the run, before it is written as text."""
    body = b'{"instances":[[' + b"1," * limits.MOST_NUMBERS + b"1]]}"

    for query in ("", "?x=1"):
        status, content = ask_patiently(served, "/models/steps/predict" + query, body, JSON)

        assert status == 400
        assert f"at most {limits.MOST_NUMBERS} values" in json.loads(content)["error"]


def test_classes_have_a_bound_of_their_own(served):
    """Classes have a lower bound, since each is a text that takes fifty times a number's bytes."""
    entry = {"name": "x", "datatype": "FP32", "shape": [200, 1], "data": [1] * 200}

    for classes, expected in ((2000, 400), (1000, 200)):
        output = {"name": "y", "parameters": {"classification": classes}}
        body = json.dumps({"inputs": [entry], "outputs": [output]}).encode()
        status, content = ask_patiently(served, "/v2/models/wide/infer", body, JSON)
        assert status == expected, content[:300]


def test_large_and_small_are_answered_alike(served):
    """A large body has the same answer whether the event loop or a thread reads and writes it."""
    for rows in (1, limits.ROWS_AT_ONCE + 1, bodies.MOST_ROWS):
        body = json.dumps({"instances": [[i, -i] for i in range(rows)]}).encode()

        status, content = ask_patiently(served, "/predict", body, JSON)

        assert status == 200
        values = [row["y"]["value"] for row in json.loads(content)["predictions"]]
        assert values == [[i, -i] for i in range(rows)]


def test_all_inflated_bodies_together_have_a_bound(served, monkeypatch):
    """A body is refused while others hold too many inflated bytes; small requests go on."""
    rows = 50_000
    body = gzip.compress(json.dumps({"instances": [[1, 2]] * rows}).encode())
    headers = {**JSON, "Content-Encoding": "gzip"}
    assert ask_patiently(served, "/predict", body, headers)[0] == 200
    assert served.front.pipeline.room.held == 0
    monkeypatch.setattr(served.front.pipeline.room, "limit", rows)
    assert ask_patiently(served, "/predict", body, headers)[0] == 200
    monkeypatch.setattr(served.front.pipeline.room, "held", 1)

    status, content = ask_patiently(served, "/predict", body, headers)

    assert status == 429
    assert "TRICEPS_MAX_IN_FLIGHT" in json.loads(content)["error"]
    assert served.front.pipeline.room.held == 1
    assert (
        ask_patiently(served, "/predict", json.dumps({"instances": [[1, 2]]}).encode(), JSON)[0]
        == 200
    )


def test_missing_values_have_a_bound():
    """The number of missing values is bounded, since the answer names each of them."""
    notes = bodies.Notes()
    for _ in range(bodies.MOST_IMPUTED):
        notes.impute("x", 0.0, "x")

    with pytest.raises(bodies.BadRequest, match=r"expected at most 262144 missing values"):
        notes.impute("x", 0.0, "x")


# JSON that is read in pieces gives the same values and messages as JSON that is read at once.

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=60),
    st.sampled_from(['a"b,]', "\\", "x" * 70, "é\U0001f600"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=60,
)


def outcome(read: Any) -> str:
    """Return the result of reading, or the error, as a text."""
    try:
        return repr(read())
    except (ValueError, bodies.BadRequest) as error:
        return f"{type(error).__name__}: {error}"


@settings(max_examples=300)
@given(
    value=values,
    change=st.tuples(st.integers(0, 10_000), st.sampled_from(["", *',:[]{}"1 \\e.-\t'])),
    broken=st.booleans(),
)
def test_json_in_pieces_is_json(value, change, broken):
    """Reading in pieces gives the same outcome for valid and for broken JSON."""
    text = json.dumps({"a": value}, indent=1 if change[0] % 2 else None, ensure_ascii=False)
    if broken:
        place = change[0] % len(text)
        text = text[:place] + change[1] + text[place + 1 :]

    def read() -> Any:
        many = RuntimeError("none has so many keys")
        hooks = bodies.DECODER.object_pairs_hook, bodies.DECODER.parse_constant
        return pieces.Pieces(text, *hooks, many, size=40).decode()

    assert outcome(read) == outcome(lambda: bodies.DECODER.decode(text))


@pytest.mark.parametrize("body", [b"[1]", b"[1"])
def test_a_large_body_is_freed_at_once(body):
    """It does not wait for the search for reference cycles, which few objects do not begin."""
    body = body.ljust(2 * bodies.DECODED_AT_ONCE)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(bodies.BadRequest):
            bodies.parse(body)
        assert not [each for each in gc.get_objects() if isinstance(each, pieces.Pieces)]
    finally:
        gc.enable()


def test_an_object_of_too_many_keys_is_refused():
    """The number of keys is bounded, since each takes thirty times its bytes."""
    keys = ",".join(f'"k{i}":1' for i in range(pieces.MOST_KEYS + 1))

    with pytest.raises(bodies.BadRequest, match="expected objects of at most 65536 keys"):
        bodies.parse(f'{{"a":{{{keys}}}}}'.encode())


def test_brackets_are_counted_before_they_are_lists():
    """The number of brackets is bounded, since a list takes twenty times their bytes."""
    with pytest.raises(bodies.BadRequest, match="expected at most 655360 lists and objects"):
        bodies.parse(b"[" + b"[]," * bodies.MOST_OPENED + b"[]]")


def test_texts_among_numbers_are_read_many_at_a_time(monkeypatch):
    """Reading 16 MB of strings among numbers takes seconds; one by one it took half a minute."""
    decoded = []
    decode = json.JSONDecoder.decode

    def noted(self, text):
        decoded.append(text)
        return decode(self, text)

    monkeypatch.setattr(json.JSONDecoder, "decode", noted)
    number = 2**17

    value = bodies.parse(b'{"a":[' + b'1, "b,]", ' * number + b"1]}")

    assert value == {"a": [1, "b,]"] * number + [1]}
    assert len(decoded) < 50
