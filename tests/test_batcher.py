"""What waits together runs together, and nobody gets another's rows, errors or waits."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import numpy as np
import pytest
import small

from service import batcher as batchers
from service.batcher import Batcher
from service.errors import CannotRun
from service.model import Model


class Watched(Model):
    """A model that notes how many rows each run has, and may take its time."""

    runs: ClassVar[list[int]] = []
    seconds = 0.0

    def watch(self, seconds: float = 0.0) -> Watched:
        """Begin to note."""
        self.runs: list[int] = []
        self.seconds = seconds
        return self

    def predict(self, arrays: Any, heads: Any) -> Any:
        """As a model, noted."""
        self.runs.append(len(next(iter(arrays.values()))))
        time.sleep(self.seconds)
        return super().predict(arrays, heads)


def ask(batcher: Batcher, model: Model, *values: float, wanted: bool = True) -> asyncio.Future[Any]:
    """Submit rows of `fruit` for `size`; the answers, or the error."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    arrays = {"fruit": np.array([[value, 1] for value in values], np.float32)}

    def done(outputs: Any) -> None:
        future.set_result(
            outputs if isinstance(outputs, Exception) else outputs["size"][:, 0].tolist()
        )

    batcher.submit(model, ("size",), arrays, done, lambda: wanted)
    return future


def test_what_comes_together_runs_together():
    """One run for all that is there; each gets its own rows, in any sizes."""

    async def main() -> None:
        model = Watched.load(small.three()).watch()
        batcher = Batcher(asyncio.get_running_loop())
        answers = await asyncio.gather(
            ask(batcher, model, 1), ask(batcher, model, 2, 3), ask(batcher, model, 4)
        )
        assert answers == [[2.0], [3.0, 4.0], [5.0]]
        assert model.runs == [4]

    asyncio.run(main())


def test_without_gathering_each_runs_alone():
    """So that the whole suite can be held against itself."""

    async def main() -> None:
        model = Watched.load(small.three()).watch()
        batcher = Batcher(asyncio.get_running_loop(), gather=False)
        answers = await asyncio.gather(*(ask(batcher, model, i) for i in range(4)))
        assert answers == [[1.0], [2.0], [3.0], [4.0]]
        assert model.runs == [1, 1, 1, 1]

    asyncio.run(main())


def test_a_run_has_a_bound():
    """Past some dozens of rows the next run is better; one large request is never cut."""

    async def main() -> None:
        model = Watched.load(small.three()).watch()
        batcher = Batcher(asyncio.get_running_loop())
        await asyncio.gather(
            *(ask(batcher, model, i) for i in range(batchers.ROWS_A_RUN + 6)),
            ask(batcher, model, *range(200)),
        )
        assert model.runs == [batchers.ROWS_A_RUN, 6, 200]

    asyncio.run(main())


def test_a_dear_model_leaves_the_loop_free():
    """Once its runs are seen to be long they go to a thread, and the next one gathers meanwhile."""

    async def main() -> None:
        model = Watched.load(small.three()).watch(seconds=0.05)
        other = Watched.load(small.three(2.0)).watch()
        batcher = Batcher(asyncio.get_running_loop())
        await ask(batcher, model, 0)
        model.runs.clear()

        first = ask(batcher, model, 1)
        await asyncio.sleep(0.01)
        started = time.monotonic()
        later = [ask(batcher, model, i) for i in range(8)]
        assert await ask(batcher, other, 1) == [4.0]
        assert time.monotonic() - started < 0.03
        assert await first == [2.0]
        assert await asyncio.gather(*later) == [[float(i + 1)] for i in range(8)]
        assert model.runs == [1, 8]

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [pytest.param(0.0, id="cheap"), pytest.param(0.02, id="dear")])
def test_a_bad_row_fails_only_its_own_request(seconds):
    """A run that fails is taken apart: the others are answered all the same."""

    async def main() -> None:
        model = Watched.load(small.brittle()).watch(seconds)
        batcher = Batcher(asyncio.get_running_loop())
        futures = []
        for place in (0, 9, 2):
            future = asyncio.get_running_loop().create_future()
            arrays = {"place": np.array([place], np.int64)}
            batcher.submit(model, ("wild",), arrays, future.set_result, lambda: True)
            futures.append(future)
        first, second, third = await asyncio.gather(*futures)
        assert first["wild"].tolist() == [10.0]
        assert isinstance(second, CannotRun)
        assert third["wild"].tolist() == [30.0]
        assert model.runs == [3, 1, 1, 1]

    asyncio.run(main())


def test_who_is_gone_is_dropped_before_the_run():
    """Nothing is computed for nobody, and nobody is told."""

    async def main() -> None:
        model = Watched.load(small.three()).watch()
        batcher = Batcher(asyncio.get_running_loop())
        gone = ask(batcher, model, 1, wanted=False)
        assert await ask(batcher, model, 2) == [3.0]
        also_gone = ask(batcher, model, 3, wanted=False)
        await asyncio.sleep(0.01)
        assert model.runs == [1]
        assert not gone.done()
        assert not also_gone.done()
        assert await ask(batcher, model, 4) == [5.0]

    asyncio.run(main())


def test_shapes_that_differ_do_not_meet():
    """Rows of another length are another run."""

    async def main() -> None:
        model = Watched.load(small.ragged()).watch()
        batcher = Batcher(asyncio.get_running_loop())
        futures = []
        for steps in (1, 3, 1):
            future = asyncio.get_running_loop().create_future()
            arrays = {"x": np.ones((1, steps, 2), np.float32)}
            batcher.submit(model, ("y",), arrays, future.set_result, lambda: True)
            futures.append(future)
        outputs = await asyncio.gather(*futures)
        assert [output["y"].tolist() for output in outputs] == [[[1, 1]], [[3, 3]], [[1, 1]]]
        assert model.runs == [2, 1]

    asyncio.run(main())


def test_a_model_of_one_row_gathers_nothing():
    """Its rows run one by one anyway."""

    async def main() -> None:
        model = Watched.load(small.every()["alone"]).watch()
        batcher = Batcher(asyncio.get_running_loop())
        futures = []
        for i in range(3):
            future = asyncio.get_running_loop().create_future()
            arrays = {"x": np.full((1, 2), i, np.float32)}
            batcher.submit(model, ("y",), arrays, future.set_result, lambda: True)
            futures.append(future)
        outputs = await asyncio.gather(*futures)
        assert [output["y"].tolist() for output in outputs] == [[[i, i]] for i in range(3)]
        assert model.runs == [1, 1, 1]

    asyncio.run(main())
