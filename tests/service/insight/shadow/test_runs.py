"""Tests of the runs of candidates in one process: what is counted, and when one stops."""

from __future__ import annotations

import time

import numpy as np
import pytest

from service.insight.shadow import figures, runs, stops
from service.insight.shadow.figures import Pair
from service.insight.shadow.handed import Handed
from service.insight.shadow.pairs import digest
from service.insight.shadow.runs import Runs
from service.observability.metrics import Metrics
from service.repository.scan import look
from tests.harness import small

PAIR = Pair("three", "2", "1")


class Process:
    """A process of the shadow, and the process after it."""

    def __init__(self, folder) -> None:
        self.folder = folder
        small.put(folder, "three", 1, small.three())
        small.put(folder, "three", 2, small.three(2.0))
        self.metrics = Metrics()
        self.start()

    def start(self) -> None:
        """Start the process."""
        self.metrics.shadow.join()
        self.runs = Runs(self.folder, "", 2**30, self.metrics.shadow)

    def handle(self, file: str = "", rows: int = 2) -> None:
        """Handle rows whose answers are right for the stable version."""
        versions = look(self.folder).by_name["three"]
        files = digest(*(versions[version].stamp for version in ("1", "2")))
        fruit = np.ones((rows, 2), np.float32)
        size = np.full((rows, 1), 2, np.float32)
        self.runs.handle(Handed(PAIR, files, file, {"fruit": fruit}, {"size": size}))

    def figures(self) -> figures.Figures:
        """Return what is known of the pair."""
        return figures.read(self.metrics, PAIR)


@pytest.fixture(name="process")
def _process(tmp_path, monkeypatch):
    """Return a process that looks at files for each pair that it does not know."""
    monkeypatch.setattr(runs, "LOOK_SECONDS", 0)
    return Process(tmp_path)


def test_the_next_process_goes_on(process):
    """The comparison began with the first one."""
    process.handle()
    since = process.figures().since
    process.start()
    process.handle()

    found = process.figures()
    assert found.outcomes == {figures.COMPARED: 4}
    assert found.heads["size"].mean == 2
    assert found.since == since


def test_a_replaced_file_begins_anew(process, tmp_path):
    """Its answers are those of another model."""
    process.handle()
    (tmp_path / "three/2/model.onnx").write_bytes(small.three(3.0))
    process.handle(rows=1)

    found = process.figures()
    assert found.outcomes == {figures.COMPARED: 1}
    assert found.heads["size"].mean == 4


def test_the_process_after_one_that_ended_in_a_run_stops_the_pair(process, monkeypatch, caplog):
    """Until its shares are set again, it is not run."""
    header, marks = process.metrics.shadow.header, []
    timed = Runs._timed

    def note(*arguments: object) -> object:
        marks.append(header[runs.RUNNING])
        return timed(*arguments)

    monkeypatch.setattr(Runs, "_timed", note)
    process.handle()
    assert header[runs.RUNNING] == 0
    # As a process leaves it that is killed in the run.
    header[runs.RUNNING] = marks[0]
    process.start()
    process.handle()

    found = process.figures()
    assert found.outcomes == {figures.COMPARED: 2}
    assert found.stopped == "ended"
    message = (
        "three: the shadow, version 2 beside version 1, has stopped: the process of the shadow "
        "ended during a run of it; it starts again once its shares are set again"
    )
    assert caplog.messages.count(message) == 1
    process.handle("set again")
    assert process.figures().outcomes == {figures.COMPARED: 4}
    assert process.figures().stopped == ""


def test_a_run_that_does_not_end_is_noticed_by_its_processor_time(process, monkeypatch):
    """A run that waits for a processor is not the candidate's fault, for ten minutes."""
    seen = []
    timed = Runs._timed

    def look_meanwhile(self: Runs, model: object, *rest: object) -> object:
        result = timed(self, model, *rest)
        now = time.thread_time()
        self._began = now, time.perf_counter()
        seen.append(self.is_endless(now + stops.RUN_SECONDS - 1))
        seen.append(self.is_endless(now + stops.RUN_SECONDS + 1))
        self._began = now, time.perf_counter() - stops.WAIT_SECONDS - 1
        seen.append(self.is_endless(now))
        self._began = None
        return result

    monkeypatch.setattr(Runs, "_timed", look_meanwhile)
    process.handle()

    assert seen == [False, True, True]
    assert not process.runs.is_endless(1e9)


def test_both_versions_are_timed_now_and_then(process):
    """With the same rows, in the second of each sixteen runs."""
    for _ in range(runs.TIMED + 2):
        process.handle()

    seconds = process.figures().seconds
    assert {version: taken.rows for version, taken in seconds.items()} == {
        figures.STABLE: 4,
        figures.CANDIDATE: 4,
    }


def test_a_pair_without_rows_is_unloaded(process, monkeypatch):
    """Its figures stay."""
    process.handle()
    monkeypatch.setattr(runs, "IDLE_SECONDS", -1)
    process.runs._unload_idle(time.monotonic())
    assert process.runs._states == {}
    process.handle()

    assert process.figures().outcomes == {figures.COMPARED: 4}
