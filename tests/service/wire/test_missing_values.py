"""Bodies that miss far more values than they have bytes: `{}` is a row that misses every feature.

The same is true of values that rows share, such as those in the context of TensorFlow Serving.

Such a body of some kilobytes would hold the event loop up for tens of seconds.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from service.errors import RequestError
from service.inference.model import Model
from service.wire import mlflow, native, tfserving
from service.wire.body import MISSING_AT_ONCE, MOST_IMPUTED, LongReadError
from tests.harness import small
from tests.harness.served import JSON, Served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.wire.dialect import Dialect

FEATURES = 100
WITHOUT = Model.load(small.wide_table(FEATURES, None)).signature
WITH = Model.load(small.wide_table(FEATURES, 1.0)).signature
INPUTS = Model.load(small.wide_inputs(FEATURES)).signature
ROWS = 20_000


def _many(before: str, row: str, after: str = "]}", rows: int = ROWS) -> bytes:
    return (before + ",".join([row] * rows) + after).encode()


EMPTY_ROWS = _many('{"instances":[', "{}")
NAMED_ROWS = _many('{"instances":[', '{"table":{}}', rows=5000)
ONE_COLUMN = _many('{"inputs":{"table":{"f0":[', "1", "]}}}")
RECORDS = _many('{"dataframe_records":[', "{}")
EXAMPLES = _many('{"examples":[', "{}")
VALUES = ",".join(f'"f{i}":1' for i in range(FEATURES))
CONTEXT = _many(f'{{"context":{{{VALUES}}},"examples":[', "{}")
BODIES = [
    pytest.param(native.DIALECT, WITHOUT, EMPTY_ROWS, id="native rows"),
    pytest.param(native.DIALECT, WITHOUT, NAMED_ROWS, id="native rows of an empty input"),
    pytest.param(native.DIALECT, WITH, EMPTY_ROWS, id="native rows, defaults"),
    pytest.param(native.DIALECT, WITH, ONE_COLUMN, id="native columns, defaults"),
    pytest.param(native.DIALECT, INPUTS, EMPTY_ROWS, id="native inputs"),
    pytest.param(tfserving.PREDICT, INPUTS, EMPTY_ROWS, id="predict"),
    pytest.param(tfserving.REGRESS, WITHOUT, EXAMPLES, id="regress"),
    pytest.param(tfserving.REGRESS, INPUTS, EXAMPLES, id="regress inputs"),
    pytest.param(tfserving.REGRESS, WITHOUT, CONTEXT, id="a context of many examples"),
    pytest.param(mlflow.DIALECT, WITHOUT, RECORDS, id="records"),
    pytest.param(mlflow.DIALECT, WITH, RECORDS, id="records, defaults"),
    pytest.param(mlflow.DIALECT, INPUTS, RECORDS, id="records of inputs"),
]


def _read(dialect: Dialect, signature: Any, body: bytes) -> Any:
    return dialect.codec("m", "1", signature).decode(body, JSON.get)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dialect", "signature", "body"), BODIES)
def test_an_event_loop_gives_up_a_body_that_misses_many_values(dialect, signature, body):
    """It is left to a thread, although it is small."""

    async def read() -> None:
        _read(dialect, signature, body)

    assert len(body) <= 2**16
    with pytest.raises(LongReadError):
        asyncio.run(read())


@pytest.mark.parametrize(("dialect", "signature", "body"), BODIES)
def test_missing_values_are_counted_up_to_a_limit(dialect, signature, body):
    """Beyond it, a thread does not read on: two million values would take it many seconds."""
    with pytest.raises(RequestError) as caught:
        _read(dialect, signature, body)

    assert getattr(caught.value, "count", 0) <= MOST_IMPUTED


def test_the_values_of_a_context_count_in_each_example():
    """Two million values would be read from 65 kB, and all of them be right."""
    expected = f"context: expected at most {MOST_IMPUTED} values of it, counted in each example"

    with pytest.raises(RequestError, match=expected):
        _read(tfserving.REGRESS, WITHOUT, CONTEXT)


def test_the_mistakes_before_the_limit_are_the_answer():
    """The limit says nothing of missing values that are mistakes by themselves."""
    with pytest.raises(RequestError, match=r"instances\[0\]\.table\.f0: expected a number"):
        native.decode(EMPTY_ROWS, WITHOUT)


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve models of many features."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "with", 1, small.wide_table(FEATURES, 1.0))
    small.put(models, "without", 1, small.wide_table(FEATURES, None))
    served = Served(models, default_model="with")
    yield served
    served.stop()


def test_a_small_body_is_read_in_a_thread_if_it_misses_many_values(served, monkeypatch):
    """The answer is the same, and what the notes take of memory counts as held until then."""
    executor, held = type(served.front.pipeline.executor), []
    apart, room = executor.apart, served.front.pipeline.room
    take = room.take
    monkeypatch.setattr(room, "take", lambda size, own: held.append(size) or take(size, own))
    calls: list[int] = []
    monkeypatch.setattr(executor, "apart", lambda *given: calls.append(1) or apart(*given))
    few, many = MISSING_AT_ONCE // FEATURES, MISSING_AT_ONCE // FEATURES + 1

    for rows in (few, many):
        body = json.dumps({"instances": [{"table": {}}] * rows}).encode()
        status, _, content = served.ask("POST", "/predict", body, JSON)

        assert status == 200
        assert len(json.loads(content)["imputed"]) == rows * FEATURES
        assert len(calls) == (0 if rows == few else 2)
    assert held[0] >= 100 * many * FEATURES
    assert room.held == 0


@pytest.mark.parametrize("path", ["/predict", "/predict?x=1", "/invocations"])
def test_a_small_body_that_misses_many_values_is_answered(served, path):
    """The limits are the same in the front and in the app."""
    status, _, content = served.ask("POST", path, EMPTY_ROWS, JSON)

    assert status == 400
    error = json.loads(content)
    assert f"at most {MOST_IMPUTED} missing values" in error.get("error", error.get("message"))
