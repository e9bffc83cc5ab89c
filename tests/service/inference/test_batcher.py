"""The batcher: waiting requests run together, and keep their own rows, errors and deadlines."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import helper

from service.errors import CannotRun
from service.inference import batcher as batchers
from service.inference.batcher import DROPPED_AT_ONCE, Batcher
from service.inference.lane import FEW_ROWS, ROWS_A_RUN, Lane
from service.inference.model import SET, Model
from service.run import Part
from tests.harness import small


class Watched(Model):
    """A model that records the rows of each run, and may be slow."""

    runs: ClassVar[list[int]] = []
    seconds = 0.0

    def watch(self, seconds: float = 0.0) -> Watched:
        """Begin to record."""
        self.runs: list[int] = []
        self.seconds = seconds
        return self

    def predict(self, arrays: Any, heads: Any) -> Any:
        """Record the run, and predict."""
        self.runs.append(len(next(iter(arrays.values()))))
        time.sleep(self.seconds)
        return super().predict(arrays, heads)


class Asked:
    """A waiting request, as a future."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._wanted = wanted

    def wanted(self) -> bool:
        """Return whether the request still waits."""
        return self._wanted

    def may_return(self) -> bool:
        """Return True, as of a connection that is open."""
        return True

    def done(self, came: Part | Exception) -> None:
        """Take the answer."""
        if isinstance(came, Part):
            assert came.run.started <= came.run.ended
            self.future.set_result(came.outputs())
        else:
            self.future.set_result(came)


def submit(
    batcher: Batcher, lane: Lane, heads: tuple[str, ...], *, wanted: bool = True, **arrays: Any
) -> asyncio.Future[Any]:
    """Submit arrays; return the outputs, or the error."""
    asked = Asked(wanted=wanted)
    batcher.submit(lane, "small", heads, arrays, asked)
    return asked.future


async def sizes(batcher: Batcher, lane: Lane, *values: float) -> list[float]:
    """Submit rows of `fruit` for the head `size`; return the answers."""
    rows = np.array([[value, 1] for value in values], np.float32)
    outputs = await submit(batcher, lane, ("size",), fruit=rows)
    return outputs["size"][:, 0].tolist()


def test_waiting_requests_run_together():
    """All waiting requests share one run, and each gets the answers to its own rows."""

    async def main() -> None:
        model = Watched.load(small.three()).watch()
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        answers = await asyncio.gather(
            sizes(batcher, lane, 1), sizes(batcher, lane, 2, 3), sizes(batcher, lane, 4)
        )
        assert answers == [[2.0], [3.0, 4.0], [5.0]]
        assert model.runs == [4]

    asyncio.run(main())


def test_requests_for_a_model_that_runs_alone_share_no_run():
    """Each waiting request has a run of its own if the model's settings ask for it."""

    async def main() -> None:
        model = Watched.load(small.three()).watch()
        model.batching = SET
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        answers = await asyncio.gather(*(sizes(batcher, lane, i) for i in range(4)))
        assert answers == [[1.0], [2.0], [3.0], [4.0]]
        assert model.runs == [1, 1, 1, 1]

    asyncio.run(main())


def test_a_run_has_a_bound():
    """A run takes some dozens of rows at most, but a large request is never cut."""

    async def main() -> None:
        model = Watched.load(small.three()).watch()
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        await asyncio.gather(
            *(sizes(batcher, lane, i) for i in range(ROWS_A_RUN + 6)),
            sizes(batcher, lane, *range(200)),
        )
        assert model.runs == [ROWS_A_RUN, 6, 200]

    asyncio.run(main())


@pytest.mark.parametrize("first", ["batch", 3], ids=["rows", "whole tensors"])
def test_a_shape_that_has_not_been_run_does_not_hold_the_loop_up(first):
    """A new large shape runs in a thread, since runs of small shapes say nothing about its time."""
    total = [helper.make_node("ReduceSum", ["x", "last"], ["y"], keepdims=0)]
    model = small.model(
        total,
        [("x", small.F, [first, "n"])],
        [("y", small.F, [first])],
        {"last": np.array([1])},
    )
    places: list[bool] = []

    class Placed(Model):
        def predict(self, arrays: Any, heads: Any) -> Any:
            places.append(threading.current_thread() is threading.main_thread())
            return super().predict(arrays, heads)

    async def main() -> None:
        lane = Lane(Placed.load(model.SerializeToString()))
        places.clear()
        batcher = Batcher(asyncio.get_running_loop())
        for length in (2, 2, 2, 50, 50, 2):
            outputs = await submit(batcher, lane, ("y",), x=np.ones((3, length), np.float32))
            assert outputs["y"].tolist() == [length] * 3

    asyncio.run(main())

    assert places == [False, True, True, False, True, True]


def test_a_graph_that_loops_does_not_hold_the_loop_up():
    """A graph with a loop runs in a thread, since a request may set the number of iterations."""
    value = helper.make_tensor_value_info
    turn = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Cos", ["a"], ["b"]),
        ],
        "turn",
        [value("i", 7, []), value("go", 9, []), value("a", small.F, [1])],
        [value("on", 9, []), value("b", small.F, [1])],
    )
    model = small.model(
        [
            helper.make_node("ReduceMax", ["n"], ["times"], keepdims=0),
            helper.make_node("Loop", ["times", "true", "zero"], ["r"], body=turn),
            helper.make_node("Cast", ["n"], ["f"], to=small.F),
            helper.make_node("Mul", ["f", "r"], ["y"]),
        ],
        [("n", 7, ["batch", 1])],
        [("y", small.F, ["batch", 1])],
        {"true": np.array(True), "zero": np.zeros(1, np.float32)},
    )
    places: list[bool] = []

    class Placed(Model):
        def predict(self, arrays: Any, heads: Any) -> Any:
            places.append(threading.current_thread() is threading.main_thread())
            return super().predict(arrays, heads)

    async def main() -> None:
        lane = Lane(Placed.load(model.SerializeToString()))
        places.clear()
        batcher = Batcher(asyncio.get_running_loop())
        for _ in range(3):
            outputs = await submit(batcher, lane, ("y",), n=np.array([[1]]))
            assert outputs["y"].tolist() == [[1.0]]

    asyncio.run(main())

    assert places == [False] * 3


def test_a_slow_model_leaves_the_loop_free():
    """A model with long runs moves to a thread, and the next batch gathers meanwhile."""

    async def main() -> None:
        model = Watched.load(small.three()).watch(seconds=0.05)
        lane = Lane(model)
        other = Watched.load(small.three(2.0)).watch()
        other_lane = Lane(other)
        batcher = Batcher(asyncio.get_running_loop())
        await sizes(batcher, lane, 0)
        model.runs.clear()

        first = asyncio.ensure_future(sizes(batcher, lane, 1))
        await asyncio.sleep(0.01)
        started = time.monotonic()
        later = [asyncio.ensure_future(sizes(batcher, lane, i)) for i in range(8)]
        await asyncio.sleep(0)
        assert await sizes(batcher, other_lane, 1) == [4.0]
        assert time.monotonic() - started < 0.03
        assert await first == [2.0]
        assert await asyncio.gather(*later) == [[float(i + 1)] for i in range(8)]
        assert model.runs == [1, 8]

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [pytest.param(0.0, id="cheap"), pytest.param(0.02, id="dear")])
def test_a_bad_row_fails_only_its_own_request(seconds):
    """The requests of a failed run are run one by one."""

    async def main() -> None:
        model = Watched.load(small.brittle()).watch(seconds)
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        futures = [
            submit(batcher, lane, ("wild",), place=np.array([place], np.int64))
            for place in (0, 9, 2)
        ]
        first, second, third = await asyncio.gather(*futures)
        assert first["wild"].tolist() == [10.0]
        assert isinstance(second, CannotRun)
        assert third["wild"].tolist() == [30.0]
        assert model.runs == [3, 1, 1, 1]

    asyncio.run(main())


def test_a_request_without_a_client_is_dropped_before_the_run():
    """A request whose client is gone is neither run nor answered."""

    async def main() -> None:
        model = Watched.load(small.three()).watch()
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        rows = np.ones((1, 2), np.float32)
        gone = submit(batcher, lane, ("size",), wanted=False, fruit=rows)
        assert await sizes(batcher, lane, 2) == [3.0]
        also_gone = submit(batcher, lane, ("size",), wanted=False, fruit=rows)
        await asyncio.sleep(0.01)
        assert model.runs == [1]
        assert not gone.done()
        assert not also_gone.done()
        assert await sizes(batcher, lane, 4) == [5.0]

    asyncio.run(main())


def test_shapes_that_differ_do_not_meet():
    """Rows of different lengths never share a run."""

    async def main() -> None:
        model = Watched.load(small.ragged()).watch()
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        futures = [
            submit(batcher, lane, ("y",), x=np.ones((1, steps, 2), np.float32))
            for steps in (1, 3, 1)
        ]
        outputs = await asyncio.gather(*futures)
        assert [output["y"].tolist() for output in outputs] == [[[1, 1]], [[3, 3]], [[1, 1]]]
        assert model.runs == [2, 1]

    asyncio.run(main())


def test_a_model_of_one_row_gathers_nothing():
    """A model with a fixed batch of one runs its rows one by one anyway."""

    async def main() -> None:
        model = Watched.load(small.every()["alone"]).watch()
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        futures = [
            submit(batcher, lane, ("y",), x=np.full((1, 2), i, np.float32)) for i in range(3)
        ]
        outputs = await asyncio.gather(*futures)
        assert [output["y"].tolist() for output in outputs] == [[[i, i]] for i in range(3)]
        assert model.runs == [1, 1, 1]

    asyncio.run(main())


def test_queues_do_not_pile_up():
    """The queue of a shape that is no longer requested is removed."""

    async def main() -> None:
        model = Watched.load(small.ragged()).watch()
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        for steps in range(1, batchers.MAX_QUEUES * 2):
            await submit(batcher, lane, ("y",), x=np.ones((1, steps, 2), np.float32))
        assert len(lane.queues) <= batchers.MAX_QUEUES

    asyncio.run(main())


def test_queues_of_one_model_take_turns_at_its_thread():
    """Requests that arrive meanwhile, for other heads too, gather until the thread is free."""

    async def main() -> None:
        model = Watched.load(small.three()).watch(0.05)
        lane = Lane(model)
        lane.seconds = 1.0
        batcher = Batcher(asyncio.get_running_loop())
        rows = np.array([[1, 1]], np.float32)
        asked = [submit(batcher, lane, ("size",), fruit=rows)]
        await asyncio.sleep(0.02)
        for heads in (("tags",), ("size",), ("size", "tags")):
            asked += [submit(batcher, lane, heads, fruit=rows) for _ in range(3)]
        assert lane.rows == 9
        await asyncio.gather(*asked)

        assert model.runs == [1, 3, 3, 3]
        assert lane.rows == 0

    asyncio.run(main())


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_an_abandoned_queue_delays_no_other(gone):
    """A queue whose requests are gone gives up its turn."""

    async def main() -> None:
        model = Watched.load(small.three()).watch(0.05)
        lane = Lane(model)
        lane.seconds = 1.0
        batcher = Batcher(asyncio.get_running_loop())
        rows = np.array([[1, 1]], np.float32)
        asked = [submit(batcher, lane, ("size",), fruit=rows)]
        await asyncio.sleep(0.02)
        for i, heads in enumerate((("tags",), ("size", "tags"), ("tags", "size"))):
            request = submit(batcher, lane, heads, wanted=i != gone, fruit=rows)
            asked += [request] if i != gone else []
        await asyncio.wait_for(asyncio.gather(*asked), 5)

        assert model.runs == [1, 1, 1]

    asyncio.run(main())


def test_a_run_should_not_take_long():
    """A slow model runs fewer rows at once, but enough to measure what more rows would save."""
    lane = Lane(Model.load(small.three()))
    rows = []
    for seconds in (0.01, 0.0005, 0.0001):
        lane.note(seconds)
        rows.append(lane.most)

    assert rows == [FEW_ROWS, 20, ROWS_A_RUN]


def test_a_request_that_fails_to_take_its_answer_delays_no_other(caplog):
    """A request that raises when answered delays neither its batch nor later requests.

    The error is logged.
    """

    async def main() -> None:
        lane = Lane(Model.load(small.three()))
        batcher = Batcher(asyncio.get_running_loop())
        rows = np.array([[1, 1]], np.float32)
        broken = Asked()
        broken.future.set_result(None)
        batcher.submit(lane, "small", ("size",), {"fruit": rows}, broken)
        beside = submit(batcher, lane, ("size",), fruit=rows)
        assert (await asyncio.wait_for(beside, 5))["size"].shape == (1, 1)
        assert await asyncio.wait_for(sizes(batcher, lane, 1), 5)

    asyncio.run(main())
    assert "InvalidStateError" in caplog.text


class Faulty(Asked):
    """A request that raises once, at a chosen point."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__()
        self._where, self._error = where, error

    def wanted(self) -> bool:
        """Raise, or return whether the request still waits."""
        if self._where == "wanted":
            raise self._error
        return super().wanted()

    def may_return(self) -> bool:
        """Raise, or return True."""
        if self._where == "may_return":
            raise self._error
        return super().may_return()

    def done(self, came: Part | Exception) -> None:
        """Take the answer, and raise."""
        super().done(came)
        if self._where == "done":
            raise self._error


class Ended(BaseException):
    """An error that ends a thread and is not an `Exception`."""


def _once(monkeypatch: Any, owner: Any, name: str, error: BaseException) -> None:
    """Make the next call of a function raise, and later calls work as usual."""
    function = getattr(owner, name)

    def faulty(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(owner, name, function)
        raise error

    monkeypatch.setattr(owner, name, faulty)


async def _idle(lane: Lane) -> None:
    """Wait until no work is left, and check that all counters are zero."""
    for _ in range(5000):
        if not (lane.running or any(queue.busy for queue in lane.queues.values())):
            break
        await asyncio.sleep(0.001)
    assert not any(queue.busy for queue in lane.queues.values())
    assert (lane.rows, lane.requests, lane.coming, len(lane.due)) == (0, 0, 0, 0)
    assert not any(queue.waiting for queue in lane.queues.values())


@pytest.mark.parametrize("dear", [False, True], ids=["in the loop", "in a thread"])
@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), RecursionError()], ids=repr)
@pytest.mark.parametrize(
    "where", ["wanted", "done", "may_return", "predict", "join", "Part", "note_run", "start"]
)
def test_no_error_stops_a_model(monkeypatch, where, error, dear):
    """After an error at any point, every request is answered and the model serves new ones."""

    async def main() -> None:
        model = Model.load(small.three())
        lane = Lane(model)
        batcher = Batcher(asyncio.get_running_loop())
        lane.seconds = 1.0 if dear else 0.0
        rows = np.array([[1, 1]], np.float32)
        asked = [Asked(), Faulty(where, error), Asked()]
        for asker in asked:
            batcher.submit(lane, "small", ("size",), {"fruit": rows}, asker)
        owners = {"predict": model, "join": batchers, "Part": batchers, "note_run": Lane}
        # As if the system could start no more threads.
        owners |= {"start": threading.Thread} if dear else {}
        if where in owners:
            _once(monkeypatch, owners[where], where, error)
        came = await asyncio.wait_for(asyncio.gather(*(asker.future for asker in asked)), 5)
        await _idle(lane)
        # A failed run is split into its requests; those that were answered before stay answered.
        refused = [one for one in came if isinstance(one, Exception)]
        assert all(one is error for one in refused)
        several = {"note_run": 0 if dear else 3, "start": 3 if dear else 0}
        assert len(refused) == {"wanted": 1, **several}.get(where, 0)
        lane.seconds = 1.0 if dear else 0.0
        assert await asyncio.wait_for(sizes(batcher, lane, 1, 2), 5) == [2.0, 3.0]
        await _idle(lane)

    asyncio.run(main())


def test_an_error_that_ends_the_thread_of_a_run_ends_nothing_else(monkeypatch, caplog):
    """An error that is not an `Exception` is logged, and each request of the run gets it."""

    async def main() -> None:
        model = Model.load(small.three())
        lane = Lane(model)
        lane.seconds = 1.0
        batcher = Batcher(asyncio.get_running_loop())
        rows = np.array([[1, 1]], np.float32)
        _once(monkeypatch, model, "predict", Ended())
        asked = [submit(batcher, lane, ("size",), fruit=rows) for _ in range(3)]
        came = await asyncio.wait_for(asyncio.gather(*asked), 5)
        assert [str(error) for error in came] == ["a run ended without an answer"] * 3
        assert await asyncio.wait_for(sizes(batcher, lane, 1), 5) == [2.0]
        await _idle(lane)

    asyncio.run(main())
    assert "Ended" in caplog.text


def test_a_request_that_cannot_be_submitted_does_not_wait():
    """A request that gets an error on submission is not answered again by a run."""

    class Loop:
        def call_soon(self, *_: object) -> None:
            raise MemoryError

    lane = Lane(Model.load(small.three()))
    arrays = {"fruit": np.ones((1, 2), np.float32)}
    with pytest.raises(MemoryError):
        Batcher(Loop()).submit(lane, "small", ("size",), arrays, None)

    (queue,) = lane.queues.values()
    assert (lane.rows, queue.busy, len(queue.waiting)) == (0, False, 0)


async def _turns(lane: Lane) -> int:
    """Run the loop until no request waits; return the most requests dropped in one iteration."""
    most = 0
    for _ in range(10_000):
        waiting = sum(len(queue.waiting) for queue in lane.queues.values())
        if not waiting:
            break
        await asyncio.sleep(0)
        left = sum(len(queue.waiting) for queue in lane.queues.values())
        most = max(most, waiting - left)
    assert lane.rows == 0
    return most


def test_abandoned_requests_are_dropped_a_few_at_a_time():
    """Abandoned requests are dropped a few at a time, so that the loop serves others in between."""

    async def main() -> None:
        lane = Lane(Model.load(small.three()))
        batcher = Batcher(asyncio.get_running_loop())
        gone, arrays = Asked(wanted=False), {"fruit": np.ones((1, 2), np.float32)}
        for _ in range(100_000):
            batcher.submit(lane, "small", ("size",), arrays, gone)
        after = asyncio.ensure_future(sizes(batcher, lane, 1))
        await asyncio.sleep(0)
        # Either the loop's callbacks or the task that checks may come first in an iteration.
        assert await _turns(lane) <= 2 * DROPPED_AT_ONCE
        assert await asyncio.wait_for(after, 5) == [2.0]
        await _idle(lane)

    asyncio.run(main())


def test_abandoned_requests_are_dropped_without_a_run():
    """Abandoned requests are dropped without a run, and the others keep their places."""

    async def main() -> None:
        lane = Lane(Model.load(small.three()))
        batcher = Batcher(asyncio.get_running_loop())
        arrays = {"fruit": np.ones((1, 2), np.float32)}
        # As if the model never finished its run.
        lane.running = True
        asked = [Asked(wanted=i % 100 == 0) for i in range(1000)]
        for asker in asked:
            batcher.submit(lane, "small", ("size",), arrays, asker)
        (queue,) = lane.queues.values()
        before = len(queue.waiting)
        batcher.drop_unwanted(lane)
        assert before - len(queue.waiting) == DROPPED_AT_ONCE
        for _ in range(50):
            await asyncio.sleep(0)

        assert [waiting[0] for waiting in queue.waiting] == asked[::100]
        assert lane.rows == 10

    asyncio.run(main())


def test_a_removed_queue_can_be_given_a_turn():
    """A turn for a removed queue does no harm."""

    async def main() -> None:
        lane = Lane(Model.load(small.three()))
        batcher = Batcher(asyncio.get_running_loop())
        asked = [asyncio.ensure_future(sizes(batcher, lane, i)) for i in range(3)]
        await asyncio.sleep(0)
        batcher.nudge(lane)
        assert await asyncio.wait_for(asyncio.gather(*asked), 5) == [[1.0], [2.0], [3.0]]
        (queue,) = lane.queues.values()
        await _idle(lane)

        queue.busy = True
        forgotten = asyncio.ensure_future(sizes(batcher, lane, 4))
        await asyncio.sleep(0.01)
        assert not forgotten.done()
        batcher.nudge(lane)
        assert await asyncio.wait_for(forgotten, 5) == [5.0]
        await _idle(lane)

    asyncio.run(main())
