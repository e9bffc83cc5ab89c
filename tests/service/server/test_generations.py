"""One generation for all workers: no answer is older than one that was sent before."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time

import pytest

from service.host.files import write_file
from service.repository.catalog import EMPTY
from service.repository.declarations import declare
from service.repository.publish import publish
from service.repository.scan import look
from service.server import proposals
from service.server.generations import COMMITTED, DIFFER, GENERATION, WAIT, Generations, Member
from service.server.shared_library import SharedLibrary
from service.settings import Settings
from tests.harness import small
from tests.harness.serving import PROGRAM, Server
from tests.harness.waiting import until

# Each worker needs a different time to load a version.
BRISK = """
import os, random, time
from service.commands import main
from service.repository import loader
load = loader.Model.load
def load_at_leisure(*given):
    time.sleep(random.Random(os.getpid() + time.time_ns()).uniform(0, 0.4))
    return load(*given)
loader.Model = type("Model", (), {"load": staticmethod(load_at_leisure)})
main.main()
"""
# The worker of the first slot loads version 2 more slowly than the others.
SLOW = """
import time
from service.commands import main
from service.repository import loader
from service.server import supervisor
work = supervisor.workers.work
def work_slowly(settings, pair, status, metrics, member, *more):
    load = loader.Model.load
    def slowly(path, *more):
        if path.parent.name == "2":
            time.sleep(2)
        return load(path, *more)
    if member.slot == 1:
        loader.Model.load = staticmethod(slowly)
    return work(settings, pair, status, metrics, member, *more)
supervisor.workers.work = work_slowly
main.main()
"""
# Loading fails only in the first slot, and only for the first worker that was started there.
FAILING = """
import os
from service.commands import main
from service.repository import loader
from service.server import shared_library, supervisor
shared_library.AGAIN_SECONDS = 0.01
work, first = supervisor.workers.work, os.getpid()
def work_badly(settings, pair, status, metrics, member, *more):
    load = loader.Model.load
    def badly(path, *more):
        if path.parent.name == "2":
            raise MemoryError
        return load(path, *more)
    if member.slot == 1 and not os.path.exists(str(settings.models) + "/.failed"):
        open(str(settings.models) + "/.failed", "w").close()
        loader.Model.load = staticmethod(badly)
    return work(settings, pair, status, metrics, member, *more)
supervisor.workers.work = work_badly
main.main()
"""

# Loading version 2 fails only in the first slot, and only for the second worker there.
FAILING_LATER = """
import os
from service.commands import main
from service.repository import loader
from service.server import shared_library, supervisor
shared_library.AGAIN_SECONDS = 0.01
work = supervisor.workers.work
def work_badly(settings, pair, status, metrics, member, *more):
    load = loader.Model.load
    def badly(path, *more):
        if path.parent.name == "2":
            raise MemoryError
        return load(path, *more)
    if member.slot == 1:
        number = len([name for name in os.listdir() if name.startswith("begun")])
        open(f"begun{number}", "w").close()
        if number == 1:
            loader.Model.load = staticmethod(badly)
    return work(settings, pair, status, metrics, member, *more)
supervisor.workers.work = work_badly
main.main()
"""
# Loading takes far longer than the time after which a worker says that it differs from the others.
LATE = """
import time
from service.commands import main
from service.repository import loader
from service.server import shared_library
shared_library.DIFFER_SECONDS = 1
load = loader.Model.load
def load_late(*given):
    time.sleep(2)
    return load(*given)
loader.Model.load = staticmethod(load_late)
main.main()
"""


class Caller:
    """A client that sends requests over several connections at random, and notes the versions."""

    def __init__(self, service: Server, count: int = 6) -> None:
        self._service = service
        self._connections: list[http.client.HTTPConnection | None] = [None] * count
        self.versions: list[int] = []
        self.broken = 0

    def ask(self) -> int:
        """Return the version of the next answer; a connection that has ended is replaced."""
        at = random.randrange(len(self._connections))
        while True:
            connection = self._connections[at]
            if connection is None:
                connection = self._connections[at] = self._service.connect()
            try:
                connection.request(
                    "POST",
                    # A query string is another spelling of the same path.
                    random.choice(["/predict", "/predict?x=1"]),
                    b'{"instances": [{"fruit": [1, 1]}], "heads": ["size"]}',
                    {"Content-Type": "application/json"},
                )
                with connection.getresponse() as answer:
                    content = answer.read()
                    assert answer.status == 200, content
            except (OSError, http.client.HTTPException):
                self.broken += 1
                connection.close()
                self._connections[at] = None
                continue
            self.versions.append(int(content.split(b'"version":"')[1].split(b'"')[0]))
            return self.versions[-1]

    def close(self) -> None:
        """Close all connections."""
        for connection in filter(None, self._connections):
            connection.close()


@contextlib.contextmanager
def serving(folder, program, *, workers=2):
    """Yield a service of several workers that looks at its repository every 0.1 s."""
    small.put(folder / "models", "three", 1, small.three())
    options = ("--workers", workers, "--watch", 0.1)
    with Server(*options, folder=folder, program=program) as service:
        service.until_ready()
        yield service


def test_versions_never_go_back_for_one_caller(tmp_path):
    """Versions never go back, however many arrive and over however many connections."""
    with (
        serving(tmp_path, BRISK, workers=3) as service,
        contextlib.closing(Caller(service)) as caller,
    ):
        for version in range(2, 9):
            publish(tmp_path / "models", "three", small.three(version))
            until(lambda version=version: caller.ask() == version)

        assert caller.versions == sorted(caller.versions)
        assert caller.broken == 0
        assert service.end()[0] == 0


def test_versions_never_go_back_while_processes_are_killed_and_stopped(tmp_path):
    """Connections of a killed worker break; all other requests are answered, in order."""
    with (
        serving(tmp_path, BRISK, workers=3) as service,
        contextlib.closing(Caller(service)) as caller,
    ):
        ended = threading.Event()

        def disturb():
            while not ended.wait(0.7):
                for victim in random.sample(service.workers(), 1):
                    how = random.choice([signal.SIGKILL, signal.SIGSTOP])
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, how)
                        ended.wait(0.2)
                        os.kill(victim, signal.SIGCONT)

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            for version in range(2, 8):
                publish(tmp_path / "models", "three", small.three(version))
                until(lambda version=version: caller.ask() == version)
        finally:
            ended.set()
            thread.join()

        assert caller.versions == sorted(caller.versions)
        assert service.end()[0] == 0


def test_all_wait_for_the_slowest_and_swap_at_once(tmp_path):
    """No worker answers with a version that another worker has not loaded yet."""
    with (
        serving(tmp_path, SLOW) as service,
        contextlib.closing(Caller(service)) as caller,
    ):
        published = time.monotonic()
        publish(tmp_path / "models", "three", small.three(2))
        until(lambda: caller.ask() == 2)

        assert time.monotonic() - published >= 2
        assert caller.versions == sorted(caller.versions)
        assert service.end()[0] == 0


def test_a_worker_that_cannot_load_what_the_others_can_is_replaced(tmp_path):
    """Until it is gone, all workers keep their version; its own requests are answered."""
    with (
        serving(tmp_path, FAILING) as service,
        contextlib.closing(Caller(service)) as caller,
    ):
        publish(tmp_path / "models", "three", small.three(2))
        until(lambda: caller.ask() == 2)
        for _ in range(100):
            assert caller.ask() == 2
        code, _, _, log = service.end()

    assert caller.versions == sorted(caller.versions)
    assert code == 0
    assert "1 workers cannot load what the others can, and are replaced" in log


def test_a_worker_that_has_nothing_to_answer_is_replaced_like_any_other(tmp_path):
    """It takes no connections, and then cannot load what comes."""
    with serving(tmp_path, FAILING_LATER) as service:
        write_file(tmp_path / "models" / "three" / "1" / "model.onnx", b"not a model")
        until(lambda: service.get("/models")[1]["refused"])
        first = service.workers()
        # The workers of the slots are started in order.
        os.kill(first[1], signal.SIGKILL)
        until(lambda: "this worker has not loaded what others serve" in service.said())
        assert {*_statuses(service, "/models/three")} == {200}
        small.put(tmp_path / "models", "other", 2, small.three(2))
        until(lambda: service.status("/models/other") == http.HTTPStatus.OK)
        assert first[0] in service.workers()
        assert service.end()[0] == 0


def test_workers_that_only_take_long_to_load_log_no_error(tmp_path):
    """The start of a service on a busy machine is such a case."""
    with serving(tmp_path, LATE) as service:
        assert "has not loaded what others serve" not in service.said()
        assert service.end()[0] == 0


def test_a_worker_that_cannot_load_what_the_others_still_serve_says_which_model(tmp_path):
    """The others serve on; once the file is replaced by one that can be loaded, it joins them."""
    file = tmp_path / "models" / "three" / "1" / "model.onnx"
    with serving(tmp_path, PROGRAM) as service:
        write_file(file, b"not a model")
        until(lambda: service.get("/models")[1]["refused"])
        killed, other = service.workers()
        os.kill(killed, signal.SIGKILL)

        until(lambda: "this worker has not loaded what others serve" in service.said())
        [line] = [line for line in service.said().splitlines() if "not loaded what" in line]
        assert "such as three, version 1: it is not an ONNX file" in line
        [new] = set(service.workers()) - {other}
        write_file(file, small.three(2))
        publish(tmp_path / "models", "three", small.three(3))
        until(lambda: not service.get("/models")[1]["refused"])
        os.kill(other, signal.SIGKILL)
        until(lambda: service.get("/models/three")[0] == http.HTTPStatus.OK)
        assert new in service.workers()
        assert service.end()[0] == 0


def test_a_successor_serves_beside_a_model_that_only_the_others_can_serve(tmp_path):
    """It answers that model with 503, and everything else; a change is served by both at once."""
    small.put(tmp_path / "models", "other", 1, small.three())
    (tmp_path / "models" / "other" / "default").touch()
    with (
        serving(tmp_path, PROGRAM) as service,
        contextlib.closing(Caller(service)) as caller,
    ):
        write_file(tmp_path / "models" / "three" / "1" / "model.onnx", b"not a model")
        until(lambda: service.get("/models")[1]["refused"])
        os.kill(service.workers()[0], signal.SIGKILL)

        # As many connections as are open at once are spread over both workers.
        until(lambda: {*_statuses(service, "/models/three")} == {200, 503})
        assert {*_statuses(service, "/models/other")} == {200}
        service.until(lambda: "three, version 1: this worker answers requests" in service.said())
        publish(tmp_path / "models", "other", small.three(2))
        until(lambda: caller.ask() == 2)
        for _ in range(100):
            assert caller.ask() == 2
        write_file(tmp_path / "models" / "three" / "1" / "model.onnx", small.three(3))
        until(lambda: {*_statuses(service, "/models/three")} == {200})
        assert service.end()[0] == 0


def _statuses(service, path):
    """Return the statuses of a page over several connections that are open at once."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(service.connect())) for _ in range(8)]
        for connection in connections:
            connection.request("GET", path)
        return [connection.getresponse().status for connection in connections]


def test_all_workers_keep_the_default_model_and_a_move_is_logged_once(tmp_path):
    """Successors of workers keep it too, even if no worker is left that remembers it."""
    with (
        serving(tmp_path, PROGRAM) as service,
        contextlib.closing(Caller(service)) as caller,
    ):
        small.put(tmp_path / "models", "other", 1, small.three())
        service.until(lambda: service.status("/models/other") == 200)
        # A change is served before it is logged, and a worker killed between the two logs nothing.
        service.until(lambda: "stays the default model" in service.said())
        before = service.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        until(lambda: len({*service.workers()} - {*before}) == 2)
        for _ in range(50):
            assert caller.ask() == 1
        publish(tmp_path / "models", "three", small.three(2))
        until(lambda: caller.ask() == 2)
        service.until(lambda: "now serving three, version 2" in service.said())
        code, _, _, log = service.end()

    messages = [json.loads(line)["message"] for line in log.splitlines()]
    assert code == 0
    assert [message for message in messages if message.startswith("now serving three")] == [
        "now serving three, version 1 (was none)",
        "now serving three, version 2 (was 1)",
    ]
    assert [message for message in messages if "default" in message] == [
        "the default model is three",
        "three stays the default model until a restart: no file default says so",
    ]


# ── the numbers that workers share ───────────────────────────────────────────────────────────────


@pytest.fixture(name="members")
def _members():
    generations = Generations(3)
    for slot in range(3):
        generations.start(slot)
    return generations, [Member(generations, slot) for slot in range(3)]


def test_the_first_state_is_committed_once_all_have_loaded_it(members):
    """Workers whose load ends like the leader's serve the first state; others do not."""
    _, (leader, second, third) = members
    assert [member.is_leader() for member in (leader, second, third)] == [True, False, False]
    leader.propose(b"state")
    assert second.read(1) == b"state"
    leader.loaded(1, 7)
    second.loaded(1, 7)
    assert leader.decide() == WAIT
    third.loaded(1, 8)

    assert leader.decide() == COMMITTED
    assert (leader.committed(), leader.common[GENERATION]) == (1, 1)
    assert [m.is_admitted() for m in (leader, second, third)] == [True, True, False]


def test_nothing_is_committed_until_all_serving_workers_have_loaded_it(members):
    """A worker that does not serve yet is not waited for, and does not serve that state."""
    generations, (leader, second, third) = members
    generations.end(2)
    leader.propose(b"1")
    for member in (leader, second):
        member.loaded(1, 7)
    assert leader.decide() == COMMITTED
    generations.start(2)
    assert leader.admit()
    third.loaded(1, 8)
    assert not leader.admit()

    leader.propose(b"2")
    leader.loaded(2, 9)
    assert leader.decide() == WAIT
    second.loaded(2, 10)
    assert leader.decide() == DIFFER
    assert leader.committed() == 1
    assert leader.expel() == 1
    assert [generations.is_expelled(slot) for slot in range(3)] == [False, True, False]
    # The expelled worker still answers; the others go on only once it has gone.
    assert leader.decide() == DIFFER
    generations.end(1)

    assert leader.decide() == COMMITTED
    assert leader.committed() == 2
    assert not third.is_admitted()
    third.loaded(2, 9)
    assert leader.admit()
    assert third.is_admitted()


def test_another_leads_once_the_leader_has_gone(members):
    """A serving worker leads if there is one, and it commits what was proposed."""
    generations, (leader, second, third) = members
    leader.propose(b"1")
    for member in (leader, second, third):
        member.loaded(1, 7)
    assert leader.decide() == COMMITTED
    leader.propose(b"2")
    generations.end(0)
    generations.start(0)

    assert [m.is_leader() for m in (leader, second, third)] == [False, True, False]
    for member in (second, third):
        member.loaded(2, 9)
    assert second.decide() == COMMITTED


def test_a_request_to_look_is_answered_by_a_later_look(members):
    """A look that is already under way may have missed the change, so it does not count."""
    _, (leader, second, _) = members
    before = leader.asked()
    asked = second.ask()
    leader.answer(before)
    assert not second.is_answered(asked)
    assert leader.is_asked()
    leader.answer(leader.asked())

    assert second.is_answered(asked)
    assert not leader.is_asked()


def test_a_proposal_holds_the_whole_scan(tmp_path):
    """A proposal keeps names that are not UTF-8, aliases, and the faults of either."""
    small.put(tmp_path, "three", 1, small.three())
    (tmp_path / "three" / "aliases.json").write_text('{"stable": "1"}')
    (tmp_path / "three" / "1" / os.fsdecode(b"\xff")).write_text("")
    small.put(tmp_path, "other", 1, small.three())
    (tmp_path / "other" / "aliases.json").write_text("[]")
    for mark in ("unloaded", "default"):
        (tmp_path / "other" / mark).write_text("")
    (tmp_path / "loop").symlink_to("loop")
    scan = look(tmp_path)
    declared = declare(scan, EMPTY)

    declared = declared._replace(
        views={"three": frozenset({"tall", "small"})}, replaced=frozenset({("three", "1")})
    )
    assert proposals.load(proposals.dump(scan, declared)) == (scan, declared)


def test_a_missing_repository_is_logged_once(tmp_path, caplog):
    """A missing repository is logged once, although a worker looks many times."""
    models = tmp_path / "models"
    small.put(models, "three", 1, small.three())
    generations = Generations(1)
    generations.start(0)
    library = SharedLibrary(Settings(models=models, watch=0.02), Member(generations, 0))
    for times in (1, 2):
        models.rename(tmp_path / "away")
        for _ in range(20):
            library.follow_on()
            time.sleep(0.005)
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert len(errors) == times
        assert errors[-1].message.endswith("; what is loaded serves on")

        (tmp_path / "away").rename(models)
        for _ in range(20):
            library.follow_on()
            time.sleep(0.005)


def test_two_libraries_serve_as_one(tmp_path):
    """Two libraries in one process swap, unload and load together, as two workers do."""
    small.put(tmp_path, "three", 1, small.three())
    generations = Generations(2)
    libraries: list[SharedLibrary] = []
    for slot in range(2):
        generations.start(slot)

    def begin(slot):
        settings = Settings(models=tmp_path, watch=0.02)
        libraries.append(SharedLibrary(settings, Member(generations, slot)))

    threads = [threading.Thread(target=begin, args=(slot,)) for slot in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for library in libraries:
        library.watch(0.02)
    small.put(tmp_path, "three", 2, small.three(2))
    first, second = libraries
    first.refresh()

    assert [library.find("three").version for library in libraries] == ["2", "2"]
    second.unload("three")
    assert [library.current.serving for library in libraries] == [{}, {}]
    first.load("three")
    assert second.find("three").version == "2"
    assert first.find("three", "1").version == "1"
    # A version that is requested by number is loaded in that worker alone, and not served by all.
    assert second.current.states("three") == {"1": "on demand", "2": "loaded"}
