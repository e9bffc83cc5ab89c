"""Texts that training never saw, in every dialect: answered, listed and counted, or refused.

Each request goes to the Flask app and, over a real socket, to the front.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.errors import BadRequest
from service.inference.model import Model
from service.signature import Feature
from service.wire import body as bodies
from service.wire import native, unseen
from tests.harness import fast_way, small
from tests.harness.both_ways import BothWays
from tests.harness.exposition import samples
from tests.harness.forms import FORMS, HEADS, oip_binary, outputs_of, rows_of
from tests.harness.oip import INPUTS, read_body
from tests.harness.served import JSON

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = Model.load(small.three())
THREE = MODEL.signature
ROW = {"insurance": {"age": 47, "smoker": "yes", "bmi": 20}, "fruit": [1, 2], "digit": [1, 2, 3, 4]}
MANY = tuple(f"c{n}" for n in range(999))
MANY_SHOWN = ", ".join(f'"c{n}"' for n in range(20))
REFUSING = Model.load(small.refusing()).signature


@pytest.fixture(scope="module", name="answering")
def _answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothWays]:
    """Serve a model that answers unseen texts."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.three())
    ways = BothWays(models)
    yield ways
    ways.stop()


@pytest.fixture(scope="module", name="refusing")
def _refusing_ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothWays]:
    """Serve a model that refuses unseen texts."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.refusing())
    ways = BothWays(models)
    yield ways
    ways.stop()


def _count(ways: BothWays) -> float:
    numbers = samples(ways.get("/metrics").content.decode())
    return numbers.get(("triceps_unseen_total", "insurance.smoker", "three", "1"), 0)


def _smokers(*smokers: str) -> dict[str, Any]:
    arrays = rows_of(0, len(smokers))
    arrays["insurance.smoker"] = np.array(smokers, object).reshape(-1, 1)
    return arrays


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_answers_and_counts_unseen_texts(answering, form):
    """The model answers them, and the metric counts them by feature, in both servers."""
    arrays = _smokers("yes", "perhaps", "Yes", "no")
    sent, before = form(arrays), _count(answering)

    answer = answering.post(sent.path, sent.body, sent.headers)

    assert answer.status == 200, answer.content
    outputs, expected = (
        outputs_of(answer.headers, answer.content),
        MODEL.predict(arrays, HEADS),
    )
    assert all(np.array_equal(outputs[head], expected[head]) for head in HEADS)
    assert _count(answering) == before + 4


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_refuses_unseen_texts_where_the_signature_says_so(refusing, form):
    """One answer has all of them, with the texts that training saw, and nothing is counted."""
    sent = form(_smokers("yes", "perhaps", "Yes", "no"))

    answer = refusing.post(sent.path, sent.body, sent.headers)

    error = answer.said.get("error") or answer.said["message"]
    assert answer.status == 400, answer.content
    assert error.endswith('expected one of "no", "yes" for smoker, received "perhaps" (and 1 more)')
    if "problems" in answer.said:
        *_, last = answer.said["problems"]
        assert last["expected"] == 'one of "no", "yes" for smoker (did you mean \'yes\'?)'
        assert last["received"] == '"Yes"'
    assert _count(refusing) == 0


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_known_texts_are_neither_listed_nor_refused(refusing, form):
    """A model that refuses unseen texts answers all others."""
    sent = form(_smokers("yes", "no"))

    answer = refusing.post(sent.path, sent.body, sent.headers)

    assert answer.status == 200, answer.content
    assert b"unseen" not in answer.content


@pytest.mark.parametrize(
    ("body", "at"),
    [
        pytest.param(
            {"instances": [ROW, {**ROW, "insurance": {**ROW["insurance"], "smoker": "Paris"}}]},
            "instances[1].insurance.smoker",
            id="an object",
        ),
        pytest.param(
            {"instances": [{**ROW, "insurance": [47, "Paris", 20]}]},
            "instances[0].insurance[1]",
            id="a list",
        ),
        pytest.param(
            {
                "inputs": {name: [row] for name, row in ROW.items()}
                | {"insurance": [[1, "Paris", 2]]}
            },
            "inputs.insurance[0][1]",
            id="by input",
        ),
        pytest.param(
            {
                "inputs": {name: [row] for name, row in ROW.items()}
                | {"insurance": {"bmi": [1], "smoker": ["Paris"]}}
            },
            "inputs.insurance.smoker[0]",
            id="by column",
        ),
    ],
)
def test_the_answer_lists_the_place_and_the_text(answering, body, at):
    """The list stands beside that of the missing values, in the form that was sent."""
    answer = answering.post("/predict", body)

    assert answer.status == 200
    assert list(answer.said)[-1] == "unseen"
    assert answer.said["unseen"] == [{"at": at, "received": "Paris"}]


def test_a_missing_text_is_imputed_and_not_unseen(answering):
    """A missing text takes the default, and is listed as that alone."""
    rows = [
        {**ROW, "insurance": {"bmi": 1, "age": 2, "smoker": text}}
        for text in (None, "", "é€\U0001f600")
    ]

    answer = answering.post("/predict", {"instances": rows})

    assert answer.said["imputed"] == [{"at": "instances[0].insurance.smoker", "value": "no"}]
    assert answer.said["unseen"] == [
        {"at": "instances[1].insurance.smoker", "received": ""},
        {"at": "instances[2].insurance.smoker", "received": "é€\U0001f600"},
    ]


def test_a_missing_text_takes_the_default_where_unseen_ones_are_refused(refusing):
    """The default is never refused."""
    answer = refusing.post("/predict", {"instances": [{**ROW, "insurance": {"bmi": 1}}]})

    assert answer.status == 200
    assert len(answer.said["imputed"]) == 2


def test_texts_that_no_requested_head_reads_are_only_refused():
    """The answer does not depend on them, so it lists none; a mistake is one all the same."""
    row = {"fruit": [1, 2], "insurance": {"bmi": 1, "smoker": "Paris"}}
    body = json.dumps({"instances": [row], "heads": ["size"]}).encode()

    assert fast_way.decode(body, THREE).unseen == []
    with pytest.raises(BadRequest, match=r"insurance\.smoker: expected one of"):
        fast_way.decode(body, REFUSING)


def test_unseen_texts_are_refused_together_with_other_mistakes():
    """One answer lists them all, in the order of the rows."""
    row = {"bmi": "x", "smoker": "YES "}
    body = json.dumps({"instances": [{**ROW, "insurance": row}] * 2}).encode()

    with pytest.raises(BadRequest) as raised:
        fast_way.decode(body, REFUSING)

    assert [(p.at, p.received) for p in raised.value.problems] == [
        (f"instances[{i}].insurance.{feature}", received)
        for i in range(2)
        for feature, received in (("bmi", '"x"'), ("smoker", '"YES "'))
    ]
    assert raised.value.problems[1].expected.endswith("(did you mean 'yes'?)")


@pytest.mark.parametrize("text", ["\ud800", 1, True, [], {}])
def test_a_value_that_is_no_text_is_a_mistake_and_not_unseen(text):
    """There is one problem at its place."""
    body = json.dumps({"instances": [{**ROW, "insurance": [1, text, 2]}]}).encode()

    for signature in (THREE, REFUSING):
        with pytest.raises(BadRequest) as raised:
            fast_way.decode(body, signature)

        assert [p.expected for p in raised.value.problems] == ["text for smoker"]


def test_answers_of_the_open_inference_protocol_list_them_in_a_parameter(answering):
    """A parameter is a text, so it is the JSON of the list; the places are those of a tensor."""
    inputs = [
        {**entry, "data": ["Paris"]} if entry["datatype"] == "BYTES" else entry for entry in INPUTS
    ]

    answer = answering.post("/v2/models/three/infer", {"inputs": inputs})

    assert answer.said["parameters"].keys() == {"unseen"}
    assert json.loads(answer.said["parameters"]["unseen"]) == [
        {"at": "inputs[1].data[0]", "received": "Paris"}
    ]


@pytest.mark.parametrize("again", [False, True])
def test_binary_tensors_are_listed_in_a_parameter_too(answering, again):
    """The JSON before the bytes is planned once, and each body has its own list."""
    smokers = ("no", "Rome", "Oslo") if again else ("Oslo", "no", "no")
    sent = oip_binary(_smokers(*smokers))

    answer = answering.post(sent.path, sent.body, sent.headers)

    said = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    assert json.loads(said["parameters"]["unseen"]) == [
        {"at": f"inputs[1].data[{i}]", "received": smoker}
        for i, smoker in enumerate(smokers)
        if smoker != "no"
    ]


def test_nested_data_has_nested_places():
    """The place of a value is that in the body."""
    inputs = [
        {**entry, "shape": [2, *entry["shape"][1:]], "data": [entry["data"]] * 2}
        for entry in INPUTS
    ]
    inputs[1]["data"] = [["yes"], ["Paris"]]

    with pytest.raises(BadRequest) as raised:
        read_body({"inputs": inputs}, REFUSING)

    assert [p.at for p in raised.value.problems] == ["inputs[1].data[1][0]"]


def test_a_long_text_is_listed_by_its_beginning():
    """The answer need not repeat megabytes."""
    body = json.dumps({"instances": [{**ROW, "insurance": [1, "x" * 10**6, 2]}]}).encode()

    [noted] = native.decode(body, THREE).unseen

    assert noted.received == "x" * 199 + "…"


def test_unseen_values_have_a_bound():
    """The number of unseen values is bounded, since the answer names each of them."""
    notes = bodies.Notes()
    for _ in range(bodies.MOST_UNSEEN):
        notes.add_unseen("x", "Paris", "x")

    with pytest.raises(BadRequest, match=r"expected at most 262144 unseen values"):
        notes.add_unseen("x", "Paris", "x")


@pytest.mark.parametrize(("smoker", "threads"), [("Paris", 2), ("yes", 1)])
def test_a_long_list_is_written_in_a_thread(answering, monkeypatch, smoker, threads):
    """The event loop writes no answer that lists more values than it writes rows."""
    executor = type(answering.served.front.pipeline.executor)
    calls = []
    apart = executor.apart
    monkeypatch.setattr(executor, "apart", lambda *given: calls.append(1) or apart(*given))
    row = {**ROW, "insurance": {"bmi": 1, "smoker": smoker}}
    rows = 3000
    body = json.dumps({"instances": [row] * rows}).encode()

    status, _, content = answering.served.ask("POST", "/predict", body, JSON)

    assert status == 200
    answer = json.loads(content)
    assert len(answer["imputed"]) == rows
    assert len(answer.get("unseen", ())) == (rows if smoker == "Paris" else 0)
    assert len(calls) == threads


@pytest.mark.parametrize(
    ("vocabulary", "text", "expected"),
    [
        (
            ("London", "Rome"),
            " LONDON",
            'one of "London", "Rome" for city (did you mean \'London\'?)',
        ),
        (
            ("London", "Rome"),
            "Londn",
            'one of "London", "Rome" for city (did you mean \'London\'?)',
        ),
        (("London", "Rome"), "Paris", 'one of "London", "Rome" for city'),
        (
            ("STRASSE", "x" * 99),
            "Straße",
            f'one of "STRASSE", "{"x" * 38}… for city (did you mean \'STRASSE\'?)',
        ),
        (
            MANY,
            "c1000",
            f"one of {MANY_SHOWN}, … (999 in all) for city",
        ),
    ],
    ids=["case and blanks", "a typing error", "nothing near", "long texts", "a large vocabulary"],
)
def test_the_message_shows_the_vocabulary_and_the_nearest_text(vocabulary, text, expected):
    """Of a large vocabulary, it shows the beginning and the number of texts."""
    feature = Feature("city", "customer.city", vocabulary=vocabulary, unseen="refuse")
    notes = bodies.Notes()

    unseen.note(feature, text, "instances[0].city", notes)

    with pytest.raises(BadRequest) as raised:
        notes.stop()
    assert [p.expected for p in raised.value.problems] == [expected]
