"""Long runs: one that is alone in the service may use all processors."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any

import numpy as np
import pytest

from service.host import processors
from service.inference.batcher import Batcher
from service.inference.cores import Cores
from service.inference.execution import Execution
from service.inference.lane import WIDE_SECONDS, Lane
from service.inference.model import Model
from service.repository.model_settings import ModelSettings
from service.server.generations import Generations, Member
from tests.harness import small

AUTO = ModelSettings(threads="auto").execution("")
ROWS = {"fruit": np.array([[1, 2], [3, 4]], np.float32)}


@pytest.fixture
def model(monkeypatch):
    """Return a model that may use both of two processors."""
    monkeypatch.setattr(processors, "available", lambda: 2)
    return Model.load(small.three(), AUTO)


class Asked:
    """A request that waits for a run."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def wanted(self) -> bool:
        """Return that the answer is wanted."""
        return True

    def may_return(self) -> bool:
        """Return that the client sends no other request."""
        return False

    def done(self, result: Any) -> None:
        """Keep the result."""
        self.future.set_result(result)


def ran(model, busy, seconds):
    """Run a request of a model whose runs take `seconds`; return the threads that computed it.

    Args:
        model: the model.
        busy: the models of each worker with long runs to do; the first worker runs the request.
        seconds: the usual time of a run.
    """
    threads = []
    for each in (model, model.wide):
        real = each.predict

        def predict(arrays, heads, each=each, real=real):
            threads.append(each.execution.threads)
            return real(arrays, heads)

        each.predict = predict

    async def main() -> None:
        batcher = Batcher(asyncio.get_running_loop(), Cores(busy))
        lane, asked = Lane(model), Asked()
        lane.seconds = seconds
        batcher.submit(lane, "three", ("size",), ROWS, asked)
        assert (await asked.future).outputs()["size"].tolist() == [[3.0], [7.0]]
        await asyncio.sleep(0)

    asyncio.run(main())
    return threads


@pytest.mark.parametrize(
    ("others", "seconds", "threads"),
    [
        pytest.param(0, 2 * WIDE_SECONDS, 2, id="alone"),
        pytest.param(1, 2 * WIDE_SECONDS, 1, id="beside another worker"),
        pytest.param(0, 0.5 * WIDE_SECONDS, 1, id="short"),
    ],
)
def test_a_long_run_that_is_alone_uses_all_processors(model, others, seconds, threads):
    """Other runs leave it one, since together they would use more than there are."""
    busy = memoryview(array("q", [0, others]))

    assert ran(model, busy, seconds) == [threads]
    assert busy.tolist() == [0, others]


def test_a_model_has_a_session_for_each_way_to_run(model, monkeypatch):
    """A single processor needs no second one; settings apply to both."""
    alone = model.set_up(alone=True, rows=8)
    monkeypatch.setattr(processors, "available", lambda: 1)

    sessions = [each._whole[0].get_session_options() for each in (model, model.wide)]

    assert [options.intra_op_num_threads for options in sessions] == [1, 2]
    assert (alone.wide.batching.mode, alone.wide.rows) == ("alone", 8)
    assert model.wide.subgraphs is model.subgraphs
    assert Model.load(small.three(), AUTO).wide is None
    assert Model.load(small.three(), Execution(2)).wide is None


def test_a_worker_that_ends_is_not_taken_for_a_busy_one():
    """Its successor begins with nothing to do."""
    generations = Generations(2)
    for slot in (0, 1):
        generations.start(slot)
    first, second = Member(generations, 0).cores, Member(generations, 1).cores
    first.take()
    second.take()
    beside = first.is_alone()
    generations.end(1)

    assert not beside
    assert first.is_alone()
