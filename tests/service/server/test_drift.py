"""Drift of a real service: the counts of all workers, whatever becomes of the workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

from tests.harness import drifting, small
from tests.harness.exposition import samples
from tests.harness.serving import Server

if TYPE_CHECKING:
    from pathlib import Path

JSON = {"Content-Type": "application/json"}
PAGE = "/models/three/drift?window=all"


def serve(tmp_path: Path, setting: str = "features") -> Server:
    """Start a service of two workers and two models."""
    small.put(tmp_path / "models", "three", 1, drifting.three())
    small.put(tmp_path / "models", "other", 1, small.three())
    words = ("--models", tmp_path / "models", "--workers", 2, "--watch", 0.1)
    return Server(*words, folder=tmp_path, environment={"TRICEPS_DRIFT": setting})


def predict(server: Server, rows: list[dict[str, Any]]) -> None:
    """Request each row over both of two connections, one to each worker."""
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(2)]
        for row in rows:
            body = json.dumps({"instances": [row]}).encode()
            for connection in both:
                connection.request("POST", "/models/three/predict", body, JSON)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200


def until_rows(server: Server, rows: int) -> dict[str, Any]:
    """Wait until the page has counted so many rows: those of another worker are a second late."""
    server.until(lambda: server.get(PAGE)[1]["rows"] >= rows)
    status, told = server.get(PAGE)
    assert (status, told["rows"], told["share"]) == (200, rows, 1.0)
    return told


def kill_a_worker(server: Server) -> None:
    """Kill one of the workers, and wait for the one that replaces it."""
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    server.until(lambda: len(server.workers()) == 2 and before[0] not in server.workers())
    server.until_ready()


def test_counts_of_workers_are_added_and_survive_them(tmp_path):
    """A killed worker, its successor and a swap of another model change no count."""
    with serve(tmp_path) as server:
        server.until_ready()
        predict(server, drifting.instances(30, 1))
        told = until_rows(server, 60)
        # Both workers tell the same, whichever is asked.
        for _ in range(6):
            assert server.get(PAGE)[1] == told

        kill_a_worker(server)
        assert until_rows(server, 60) == told
        predict(server, drifting.instances(10, 2))
        assert until_rows(server, 80)["since"] == told["since"]

        small.put(tmp_path / "models", "other", 2, small.three(2.0))
        server.until(lambda: server.get("/models/other")[1]["version"] == "2")
        predict(server, drifting.instances(5, 3))
        told = until_rows(server, 90)
        numbers = samples(server.ask("GET", "/metrics")[2].decode())

        assert {one["rows"] for one in (*told["features"], *told["heads"])} == {90}
        of_ages = [n for name, n in numbers.items() if "insurance.age" in name]
        assert sum(of_ages) == 90 + 2000  # with those of the reference
        assert "not all rows are counted" not in server.said()


def test_counts_begin_again_with_a_version(tmp_path):
    """The new one says since when; the page of the old one still has its rows."""
    with serve(tmp_path, "heads") as server:
        server.until_ready()
        predict(server, drifting.instances(10, 4))
        old = until_rows(server, 20)

        small.put(tmp_path / "models", "three", 2, drifting.three(1000, 2, scale=2.0))
        server.until(lambda: server.get("/models/three")[1]["version"] == "2")
        assert server.get(PAGE)[1]["rows"] == 0
        assert server.get(PAGE)[1]["since"] is None
        predict(server, drifting.instances(3, 5))
        new = until_rows(server, 6)

        assert new["since"] > old["since"]
        assert {one["reference_rows"] for one in new["heads"]} == {1000}
