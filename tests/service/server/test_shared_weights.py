"""A service whose workers share the weights of a large model: the same answers, whatever breaks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from service.inference.model import Model
from tests.harness import heavy, small
from tests.harness.served import JSON
from tests.harness.serving import Server
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = np.random.default_rng(0).standard_normal((3, heavy.FEATURES)).tolist()
ALL = json.dumps({"instances": [{"x": row} for row in ROWS]})
ONE = json.dumps({"instances": [{"x": row} for row in ROWS], "heads": ["y1"]})


@pytest.fixture(name="models")
def _models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    small.put(folder, "m", 1, heavy.dense(heads=2))
    return folder


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(name="serve")
def _serve(models: Path, place: Path) -> Iterator[Callable[..., Server]]:
    """Yield a function that starts services of two workers; they are ended after the test."""
    with contextlib.ExitStack() as stack:

        def start(cache: object = place, program: str = heavy.PROGRAM) -> Server:
            words = ("--models", models, "--workers", 2, "--watch", "0.05")
            environment = {"TRICEPS_CACHE": str(cache)}
            server = stack.enter_context(
                Server(*words, folder=models.parent, program=program, environment=environment)
            )
            server.until_ready()
            return server

        yield start


def answers(server: Server) -> list[bytes]:
    """Return the bits of the answers to a request for all heads, and to one for one head."""
    made = [server.ask("POST", "/models/m/predict", body, JSON) for body in (ALL, ONE)]
    return [
        np.float32([row[head]["value"] for row in json.loads(content)["predictions"]]).tobytes()
        for (_, _, content), heads in zip(made, (["y0", "y1"], ["y1"]), strict=True)
        for head in heads
    ]


def right(seed: int = 0) -> list[bytes]:
    """Return the bits of the answers of the file, without a service."""
    model = Model.load(heavy.dense(seed, heads=2))
    made = model.predict({"x": np.float32(ROWS)}, ["y0", "y1"])
    return [made[head].tobytes() for head in ("y0", "y1", "y1")]


def mapped(server: Server) -> list[set[str]]:
    """Return, for each worker, the prepared weights that it has mapped."""
    return [
        {
            line.split(maxsplit=5)[-1]
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
            if "/triceps-" in line and "/weights" in line
        }
        for pid in server.workers()
    ]


def entries(place: Path) -> list[Path]:
    """Return what is in the private folder."""
    return sorted(place.glob("triceps-*/*"))


def test_workers_map_one_file_and_answer_as_without(serve, place):
    """The answers are the same to the last digit, of all heads and of one."""
    without, shared = serve("off"), serve()

    assert mapped(without) == [set(), set()]
    [entry] = entries(place)
    assert mapped(shared) == [{str(entry / "weights")}] * 2
    assert answers(shared) == answers(without) == right()


def test_a_restart_uses_what_is_there(serve, place):
    """A service that starts again makes nothing anew, and neither does another one beside it."""
    first = serve()
    [entry] = entries(place)
    before = [(path.name, path.stat().st_ino) for path in sorted(entry.iterdir())]

    beside = serve()
    first.end()
    after = serve()

    assert entries(place) == [entry]
    assert [(path.name, path.stat().st_ino) for path in sorted(entry.iterdir())] == before
    assert mapped(beside) == mapped(after) == [{str(entry / "weights")}] * 2
    assert answers(beside) == answers(after) == right()


def test_two_services_that_start_at_once_share_an_entry(serve, models, place):
    """Each prepares the model; the first one to finish gives the entry its name."""
    words = ("--models", models, "--workers", 1)
    environment = {"TRICEPS_CACHE": str(place)}
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(
                Server(*words, folder=models.parent, program=heavy.PROGRAM, environment=environment)
            )
            for _ in range(2)
        ]
        for server in both:
            server.until_ready()

        [entry] = entries(place)
        assert [mapped(server) for server in both] == [[{str(entry / "weights")}]] * 2
        assert answers(both[0]) == answers(both[1]) == right()


def test_a_new_version_is_mapped_and_the_old_one_let_go(serve, models, place):
    """The answers are those of the new weights."""
    server = serve(
        program="from service.repository import kept; kept.IDLE_SECONDS = 0.1; " + heavy.PROGRAM
    )
    [old] = entries(place)
    assert answers(server) == right()

    small.put(models, "m", 2, heavy.dense(seed=1, heads=2))
    server.until(lambda: server.get("/models/m")[1]["version"] == "2")

    [new] = set(entries(place)) - {old}
    server.until(lambda: mapped(server) == [{str(new / "weights")}] * 2)
    assert answers(server) == right(seed=1) != right()


def test_a_worker_that_is_replaced_maps_the_same_file(serve, place):
    """Its trial is remembered, and the entry is checked again."""
    server = serve()
    [entry] = entries(place)
    pid = server.workers()[0]

    os.kill(pid, 9)
    server.until(lambda: pid not in server.workers() and len(server.workers()) == 2)

    server.until(lambda: mapped(server) == [{str(entry / "weights")}] * 2)
    assert answers(server) == right()


@pytest.mark.parametrize("how", ["overwritten", "cut", "removed"])
def test_a_damaged_entry_is_made_anew_for_a_new_worker(serve, place, how):
    """The workers that have mapped the file keep it; the next one gets a new one."""
    server = serve()
    assert answers(server) == right()
    [entry] = entries(place)
    copy = place / "copy"
    shutil.copy(entry / "weights", copy)
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 0xFF
    # By a rename: overwriting what is mapped would change the answers at once.
    copy.chmod(0o600)
    copy.write_bytes(content[:-1] if how == "cut" else content)
    copy.replace(entry / "weights")
    if how == "removed":
        shutil.rmtree(entry)
    pid = server.workers()[0]
    os.kill(pid, 9)
    server.until(lambda: pid not in server.workers() and len(server.workers()) == 2)

    def is_mapped_anew() -> bool:
        maps = mapped(server)
        return all(maps) and {str(entry / "weights")} in maps

    server.until(is_mapped_anew)
    assert (entry / "weights").read_bytes() != bytes(content)
    assert [answers(server) for _ in range(8)] == [right()] * 8


def _readable(place: Path) -> None:
    (place / f"triceps-{os.geteuid()}").mkdir(mode=0o755, parents=True)


def _linked(place: Path) -> None:
    place.mkdir()
    (place / "elsewhere").mkdir()
    (place / f"triceps-{os.geteuid()}").symlink_to(place / "elsewhere")


def _of_another_user(place: Path) -> None:
    (place / f"triceps-{os.geteuid()}").mkdir(mode=0o700, parents=True)
    os.chown(place / f"triceps-{os.geteuid()}", 12345, 12345)


def _a_file(place: Path) -> None:
    place.write_bytes(b"")


def _open_to_all(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


@pytest.mark.parametrize("how", [_readable, _linked, _of_another_user, _a_file, _open_to_all])
def test_a_cache_that_is_not_private_is_not_used(serve, place, how):
    """Every model serves as it does without, and the log says why, once."""
    if how is _of_another_user and os.geteuid():
        pytest.skip("only root can make a folder of another user")
    how(place)

    server = serve()

    assert mapped(server) == [set(), set()]
    assert answers(server) == right()
    said = [line for line in server.said().splitlines() if "no cache for prepared models" in line]
    assert len(said) == 1
    assert "Each of 2 workers has a copy of the 0 MB of weights of" in said[0]


def test_a_worker_that_cannot_map_the_weights_loads_the_file(serve, place):
    """The entry may be gone, or damaged, a moment after it was looked at."""
    program = (
        "from service.repository import loader; from pathlib import Path; "
        "load = loader.Model.load; "
        "loader.Model = type('M', (), {'load': staticmethod(lambda path, execution, prepared=None: "
        "load(path, execution, prepared and Path('/nowhere')))}); " + heavy.PROGRAM
    )
    server = serve(program=program)

    assert len(entries(place)) == 1
    assert mapped(server) == [set(), set()]
    assert answers(server) == right()
    assert "m, version 1: it is loaded without its prepared model: " in server.said()


def test_a_preparation_that_is_killed_leaves_no_entry(serve, place):
    """What it has written is removed by its keeper."""
    program = (
        "import os; from service.repository import preparation; "
        "write = preparation.prepared.write; "
        "preparation.prepared.write = lambda *a: (write(*a), os.kill(os.getpid(), 9)); "
        + heavy.PROGRAM
    )
    server = serve(program=program)

    assert entries(place) == []
    assert answers(server) == right()
    assert "is not prepared: it ended its process, by SIGKILL" in server.said()


def test_by_default_a_private_folder_of_the_temporary_files_is_used(models, tmp_path):
    """It is that of TMPDIR."""
    environment = {"TRICEPS_CACHE": "", "TMPDIR": str(tmp_path)}
    words = ("--models", models, "--workers", 2)
    with Server(*words, folder=tmp_path, program=heavy.PROGRAM, environment=environment) as server:
        server.until_ready()
        until(lambda: all(mapped(server)))

        assert {path.parent.parent for path in map(Path, *mapped(server)[:1])} == {
            tmp_path / f"triceps-{os.geteuid()}"
        }
