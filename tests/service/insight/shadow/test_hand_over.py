"""Tests of what a worker hands over, and what it drops instead."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from service.inference.lane import LEAST_WAITING, Lane
from service.insight.shadow import figures, hand_over, stops
from service.insight.shadow.figures import Pair
from service.insight.shadow.hand_over import HandOver
from service.insight.shadow.handed import decode, size_of
from service.observability.metrics import Metrics
from service.repository.assembly import open_repository
from service.run import Part, Run
from tests.harness import small

PAIR = Pair("three", "2", "1")


class Worker:
    """A worker whose messages are kept."""

    def __init__(self, folder, *, share: float = 1.0, stable: bytes | None = None) -> None:
        small.put(folder, "three", 1, stable or small.three(models={"apple": ["size"]}))
        small.put(folder, "three", 2, small.three(2.0))
        (folder / "three/aliases.json").write_text('{"stable": "1"}')
        traffic = {"shadow": {"version": "2", "share": share}}
        (folder / "three/traffic.json").write_text(json.dumps(traffic))
        self.repository = open_repository(folder)
        self.metrics = Metrics()
        self.messages: list[bytes] = []
        self.pairs: list[int] = []
        self.has_room = True
        self.hand_over = HandOver(self.send, self.metrics, self.pairs.append)
        self.hand_over.use(self.repository)
        self.lane = Lane(self.repository.serving["three"].model)

    def send(self, message: bytes) -> bool:
        """Keep a message."""
        if self.has_room:
            self.messages.append(message)
        return self.has_room

    def answer(
        self, rows: int = 1, width: int = 2, explain: object = None, texts: object = None
    ) -> None:
        """Answer a request, among others of the same run."""
        arrays = {
            "fruit": texts
            if texts is not None
            else np.arange(rows * width, dtype=np.float32).reshape(rows, width)
        }
        query = SimpleNamespace(arrays=arrays, heads=("size",), explain=explain)
        answers = np.arange(rows + 2, dtype=np.float32)[:, None]
        part = Part(Run(rows + 2, 0, 0, {"size": answers, "tags": answers}), 1, 1 + rows)
        self.hand_over.take(self.lane, query, part)

    def dropped(self) -> int:
        """Return the rows that were dropped."""
        self.hand_over.look()
        return figures.read(self.metrics, PAIR).outcomes[figures.DROPPED]


@pytest.fixture(name="worker")
def _worker(tmp_path):
    """Return a worker with a shadow that gets all rows."""
    return Worker(tmp_path)


def test_the_rows_of_a_request_are_handed_over(worker):
    """Its own, out of those of the run, and the answers for its heads."""
    worker.answer(2)

    [message] = worker.messages
    handed = decode(message)
    assert handed.pair == PAIR
    assert handed.arrays["fruit"].tolist() == [[0, 1], [2, 3]]
    assert {head: output.tolist() for head, output in handed.outputs.items()} == {
        "size": [[1], [2]]
    }
    assert worker.pairs == [1]


def test_a_long_request_gives_its_first_rows(worker):
    """As many as are allowed, in rows and in bytes."""
    worker.answer(hand_over.MOST_ROWS + 10)
    worker.answer(100, width=10_000)

    many, wide = map(decode, worker.messages)
    assert many.rows == hand_over.MOST_ROWS
    assert 0 < wide.rows == len(wide.arrays["fruit"]) < 100
    assert len(worker.messages[1]) < hand_over.MOST_BYTES + 1000
    assert len(many.arrays["fruit"]) == len(many.outputs["size"])


@pytest.mark.parametrize("rows", [2, hand_over.MOST_ROWS * 2, 20_000])
def test_a_row_with_nearly_all_bytes_of_a_request_is_not_handed_over(worker, monkeypatch, rows):
    """The average of all rows says nothing about the first, and few texts are looked at."""
    looked = []
    monkeypatch.setattr(
        hand_over, "size_of", lambda array: looked.append(len(array)) or size_of(array)
    )
    texts = np.array([["x" * 2 * hand_over.MOST_BYTES], *[["x"]] * (rows - 1)], object)
    query = SimpleNamespace(arrays={"words": texts}, heads=("size",), explain=None)
    answers = np.zeros((rows, 1), np.float32)
    worker.hand_over.take(worker.lane, query, Part(Run(rows, 0, 0, {"size": answers}), 0, rows))

    assert worker.messages == []
    assert worker.dropped() == rows
    assert max(looked) <= hand_over.MOST_ROWS


class _Text(str):
    """A text that counts how often it is measured."""

    __slots__ = ()
    measured = 0

    def __len__(self) -> int:
        _Text.measured += 1
        return super().__len__()


@pytest.mark.parametrize(("rows", "width", "handed"), [(10_000, 1, 256), (20, 20_000, 0)])
def test_texts_that_are_not_handed_over_are_not_measured(worker, rows, width, handed):
    """The event loop would take a quarter of a second for those of a body of 16 MB."""
    _Text.measured = 0
    worker.answer(rows, texts=np.full((rows, width), _Text("x"), object))

    assert sum(decode(message).rows for message in worker.messages) == handed
    assert _Text.measured <= hand_over.MOST_ROWS


def test_a_request_whose_rows_belong_together_is_handed_over_whole_or_not(tmp_path):
    """The answers to some of its rows alone might be others."""
    (tmp_path / "three").mkdir()
    (tmp_path / "three/settings.toml").write_text("alone = true\n")
    worker = Worker(tmp_path)

    worker.answer(hand_over.MOST_ROWS)
    worker.answer(hand_over.MOST_ROWS + 1)

    assert [decode(message).rows for message in worker.messages] == [hand_over.MOST_ROWS]
    assert worker.dropped() == hand_over.MOST_ROWS + 1


def test_nothing_is_handed_over_while_callers_wait(worker):
    """The shadow is the first to be shed."""
    worker.lane.requests = LEAST_WAITING
    worker.answer(3)
    worker.lane.requests = 0
    worker.lane.admission.is_short = True
    worker.answer(4)

    assert worker.messages == []
    assert worker.dropped() == 7


def test_without_room_a_pause_costs_nothing(worker, monkeypatch):
    """After a message without room, further ones are not even made for a moment."""
    now = 100.0
    monkeypatch.setattr(hand_over, "perf_counter", lambda: now)
    worker.has_room = False
    worker.answer(2)
    worker.has_room = True
    worker.answer(3)
    assert (worker.messages, worker.dropped()) == ([], 5)
    now += hand_over.PAUSE_SECONDS
    worker.answer()

    assert len(worker.messages) == 1


def test_a_stopped_pair_gets_a_request_a_second(worker, monkeypatch):
    """It tells the other process of changes; none of the others is missing."""
    now = 100.0
    monkeypatch.setattr(hand_over, "perf_counter", lambda: now)
    shadow = worker.metrics.shadow
    shadow.join()
    with shadow.writing() as numbers:
        numbers[shadow.place("shadow_stopped", *PAIR, "slow")] = 1
    worker.hand_over.look()
    for _ in range(5):
        worker.answer()
    now += hand_over.STOPPED_SECONDS
    worker.answer()

    assert len(worker.messages) == 2
    worker.hand_over.look()
    assert figures.read(worker.metrics, PAIR).outcomes == {figures.DROPPED: 0}


def test_what_has_stopped_is_read_after_a_change_alone(worker, monkeypatch):
    """The event loop waits for nothing then: neither for many names, nor for a writer."""
    read = []
    stopped = figures.stopped
    monkeypatch.setattr(figures, "stopped", lambda region: read.append(1) or stopped(region))
    shadow = worker.metrics.shadow
    shadow.join()
    for _ in range(3):
        worker.hand_over.look()
    assert len(read) == 1
    stops.note(shadow, PAIR, stops.StopError("slow", "it is slow"))
    for _ in range(3):
        worker.hand_over.look()
    assert len(read) == 2
    worker.answer()
    worker.answer()
    assert len(worker.messages) == 1


def test_explained_rows_are_left_out(worker):
    """They are neither handed over nor missing."""
    worker.answer(explain=object())

    assert worker.messages == []


def test_an_error_costs_rows_and_no_answer(worker, monkeypatch, caplog):
    """It is logged once."""
    monkeypatch.setattr(hand_over, "size_of", None)
    worker.answer(2)
    worker.answer(3)

    assert worker.dropped() == 5
    assert caplog.messages == ["rows could not be handed to the shadow"]


def test_a_share_of_the_requests_is_handed_over(tmp_path):
    """They are chosen at random."""
    worker = Worker(tmp_path, share=0.5)
    for _ in range(200):
        worker.answer()

    # One in a hundred million runs is outside of this.
    assert 60 <= len(worker.messages) <= 140
