"""The sandbox: a file is tried in a process that serves no client, once for all workers."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import helper

from service.errors import ModelRefused, Shortage
from service.host import memory
from service.repository import file_trial, sandbox
from tests.harness import small
from tests.harness.hostile_graphs import GOOD, ROOT, large, looping, node, own_function, spread


def _laughs(levels):
    """Return a file of few bytes that has 2^levels nodes once its functions are inlined."""
    model = onnx.load_from_string(own_function(node("g0", ["a"], ["b"], domain="own")))
    opsets = list(model.functions[0].opset_import)
    last = [node("Relu", ["a"], ["b"])]
    for level in range(levels, -1, -1):
        model.functions.append(helper.make_function("own", f"g{level}", ["a"], ["b"], last, opsets))
        last = [
            node(f"g{level}", ["a"], ["c"], domain="own"),
            node(f"g{level}", ["c"], ["b"], domain="own"),
        ]
    return model.SerializeToString()


# Tries files within the given limits, and prints "loaded" or the reason of the refusal for each.
_TRY = """
import os, sys, time
from pathlib import Path
from service.host import memory
from service.inference import model
from service.repository import file_trial, loader, sandbox
from service.repository.scan import look

file_trial.BUSY_SECONDS, file_trial.WALL_SECONDS = 1, 4
free = int(sys.argv[1]) << 20
memory.available = lambda: free
{before}
with sandbox.kept({workers}):
    for path in sys.argv[2:]:
        [found] = look(Path(path)).versions
        made = loader.load(found)
        print(getattr(made, "reason", "loaded"), flush=True)
"""


def tried(tmp_path, *contents, free=2000, workers=1, before=""):
    """Return why a keeper in a process of its own refuses each file, and the seconds it took."""
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"{number}.onnx")
        paths[-1].write_bytes(content)
    code = _TRY.format(before=textwrap.dedent(before), workers=workers)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(free), *paths],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), time.monotonic() - started


def test_a_good_file_passes_its_trial(tmp_path):
    """A refused file is refused with the same message as without a trial."""
    assert tried(tmp_path, GOOD, b"no model", small.plant())[0] == [
        "loaded",
        "it is not an ONNX file, or not the whole of one",
        "loaded",
    ]


def test_a_file_that_never_ends_is_refused(tmp_path):
    """A file that computes or expands forever is refused, and the next one is tried."""
    # On a busy machine, a second of work may take many.
    patient = "file_trial.WALL_SECONDS = 60"
    reasons, seconds = tried(tmp_path, looping(2**62), _laughs(60), GOOD, before=patient)

    assert reasons[:2] == ["it was not loaded within 1 s of work"] * 2
    assert reasons[2] == "loaded"
    assert seconds < 120


def test_a_file_that_waits_is_refused(tmp_path):
    """The file may be on a disk that does not answer; then its trial has a time limit as well."""
    before = """
        load = model.Model.load
        waits = lambda path, *_: time.sleep(60) if path.name == "0.onnx" else load(path)
        file_trial.Model.load = staticmethod(waits)
    """

    assert tried(tmp_path, GOOD, GOOD, before=before)[0] == [
        "it was not loaded within 4 s",
        "loaded",
    ]


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGABRT"])
def test_a_file_that_ends_its_process_is_refused(tmp_path, how):
    """The file ends the process of its trial, and no other."""
    before = f"""
        import signal
        load = model.Model.load
        def ends(path, *_):
            if path.name == "0.onnx":
                os.kill(os.getpid(), signal.{how})
            return load(path)
        file_trial.Model.load = staticmethod(ends)
    """

    assert tried(tmp_path, GOOD, GOOD, before=before)[0] == [
        f"it ends the process that loads it, by {how}",
        "loaded",
    ]


def test_a_bug_in_a_trial_is_the_reason_of_the_refusal(tmp_path):
    """The reason has Python's message, as without a trial."""
    before = """
        def fails(path, *_):
            raise ZeroDivisionError("by nought")
        file_trial.Model.load = staticmethod(fails)
    """

    assert tried(tmp_path, GOOD, before=before)[0] == [
        "loading it failed: ZeroDivisionError: by nought"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is free")
def test_a_file_that_takes_more_than_is_free_is_refused(tmp_path):
    """The weights or the computation may take the memory; the next file is tried."""
    reasons, _ = tried(tmp_path, large(100), spread(400), spread(100_000), GOOD, free=200)

    assert reasons == [
        "loading it takes more than the 180 MB of memory that are free for it"
    ] * 3 + ["loaded"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is free")
def test_every_worker_has_to_have_room(tmp_path):
    """A model that fits one worker may not fit several, which would be killed once all have it."""
    alone, _ = tried(tmp_path, large(50), free=450)
    [reason], _ = tried(tmp_path, large(50), free=450, workers=8)

    assert alone == ["loaded"]
    assert reason.startswith("loading it takes ")
    assert "MB in each of 8 processes: expected at most the 405 MB of memory" in reason


def test_shared_weights_need_room_only_once(tmp_path, monkeypatch):
    """A model that does not fit several workers does, if they share its weights."""
    path = tmp_path / "m.onnx"
    path.write_bytes(large(50))
    monkeypatch.setattr(memory, "available", lambda: 450 << 20)
    end, other = socket.socketpair()
    with end, other:
        with pytest.raises(Shortage, match=r"and 5\d MB in each of 8 processes"):
            sandbox._Keeper(end, 8).judge(str(path), "s")
        shared = sandbox._Keeper(end, 8, None, str(tmp_path / "cache")).judge(str(path), "s")

    assert shared.reason is None
    assert shared.entry is not None
    assert shared.kept < 25 << 20


def test_a_file_is_tried_once_for_all_workers(tmp_path):
    """Each worker asks, and gets the remembered verdict until the file changes."""
    before = """
        load = model.Model.load
        def counts(*given):
            print("tried", flush=True)
            return load(*given)
        file_trial.Model.load = staticmethod(counts)
        loader.Model = type("Other", (), {"load": staticmethod(load)})
    """
    (tmp_path / "0.onnx").write_bytes(GOOD)
    code = _TRY.format(before=textwrap.dedent(before), workers=2)
    paths = [tmp_path / "0.onnx"] * 3
    done = subprocess.run(
        [sys.executable, "-c", code, "2000", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["tried", "loaded", "loaded", "loaded"]


def test_a_file_is_tried_again_with_other_settings(tmp_path):
    """The trial loads it as the workers will, and its verdict is remembered for that alone."""
    before = """
        load, threads = model.Model.load, iter([1, 1, 2])
        def notes(path, execution, *_):
            print("tried", execution.threads, flush=True)
            return load(path, execution)
        file_trial.Model.load = staticmethod(notes)
        loader.Model = type("Other", (), {"load": staticmethod(load)})
        real = loader.load
        loader.load = lambda found: real(found, sandbox.Execution(threads=next(threads)))
    """
    (tmp_path / "0.onnx").write_bytes(GOOD)
    code = _TRY.format(before=textwrap.dedent(before), workers=2)
    done = subprocess.run(
        [sys.executable, "-c", code, "2000", *[tmp_path / "0.onnx"] * 3],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["tried", "1", "loaded", "loaded", "tried", "2", "loaded"]


def test_without_its_keeper_no_file_is_loaded(tmp_path):
    """A file that has not been tried might end the process that loads it."""
    before = """
        sandbox.VERDICT_SECONDS = 1
        sandbox._become_keeper = lambda *_: os._exit(1)
    """
    reasons, _ = tried(tmp_path, GOOD, before=before)

    assert reasons == [
        "it cannot be tried, now: the process that tries models does not answer",
    ]


def test_a_keeper_that_is_killed_is_replaced(tmp_path):
    """A worker that waits for the killed keeper is answered by the next one."""
    before = """
        become, path = sandbox._become_keeper, sys.argv[2]
        def once(*given):
            try:
                os.mkdir(path + ".first")
            except FileExistsError:
                become(*given)
            os._exit(1)
        sandbox._become_keeper = once
    """

    assert tried(tmp_path, GOOD, before=before)[0] == ["loaded"]


@pytest.mark.parametrize("error", ["OSError(24, 'Too many open files')", "OSError(12, 'memory')"])
def test_a_shortage_of_the_machine_is_no_fault_of_the_file(tmp_path, error):
    """The failure is not remembered, and the next trial may succeed."""
    before = f"""
        load, path = model.Model.load, sys.argv[2]
        def short(*given):
            try:
                os.mkdir(path + ".first")
            except FileExistsError:
                return load(*given)
            raise {error}
        file_trial.Model.load = staticmethod(short)
        sys.argv.append(sys.argv[2])
    """
    (refused, loaded), _ = tried(tmp_path, GOOD, before=before)

    assert refused.startswith("loading it failed: OSError: ")
    assert loaded == "loaded"


def test_a_trial_without_a_process_leaves_no_descriptor_open(tmp_path, monkeypatch):
    """The process that tries models does so for years."""

    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(BlockingIOError):
        file_trial.attempt(str(tmp_path / "model.onnx"), "", None)

    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_memory_that_a_load_takes_meanwhile_is_waited_for(monkeypatch):
    """A load takes more memory than it keeps, so another one waits until it has ended."""
    end, other = socket.socketpair()
    keeper = sandbox._Keeper(end, 2)
    monkeypatch.setattr(memory, "available", lambda: 1000)
    monkeypatch.setattr(
        file_trial, "attempt", lambda *_: file_trial.Verdict("s", time.monotonic(), None, 500, 9)
    )
    loading, done = socket.socketpair()
    with end, other, loading:
        assert keeper.judge("a", "s").peak == 500
        keeper.loading[loading] = 500
        threading.Timer(0.1, done.close).start()
        started = time.monotonic()

        assert keeper.judge("a", "s").peak == 500
        assert time.monotonic() - started > 0.05


def test_memory_that_is_promised_to_workers_is_reserved(monkeypatch):
    """Two workers are about to load one model, so a second model finds less memory."""
    end, other = socket.socketpair()
    keeper = sandbox._Keeper(end, 2)
    monkeypatch.setattr(memory, "available", lambda: 1000 << 20)
    frees = []

    def _try(path, stamp, free, *_):
        frees.append(free >> 20)
        return file_trial.Verdict(stamp, time.monotonic(), None, 300 << 20, 200 << 20)

    monkeypatch.setattr(file_trial, "attempt", _try)
    with end, other:
        first = [keeper.judge("a", "s").reason for _ in range(1)]
        second = keeper.judge("b", "s").reason

    assert (first, frees) == ([None], [900, 700])
    assert second is None


def test_a_version_that_is_loaded_again_needs_memory_again(monkeypatch):
    """The version is not tried again, but it is refused if there is too little memory by now."""
    end, other = socket.socketpair()
    keeper = sandbox._Keeper(end, 1)
    free = [1000 << 20]
    monkeypatch.setattr(memory, "available", lambda: free[0])
    verdict = file_trial.Verdict("s", time.monotonic(), None, 300 << 20, 200 << 20)
    monkeypatch.setattr(file_trial, "attempt", lambda *_: verdict)
    with end, other:
        assert keeper.judge("a", "s").reason is None
        free[0] = 100 << 20

        with pytest.raises(Shortage, match="takes 300 MB: expected at most the 90 MB of memory"):
            keeper.judge("a", "s")


def test_a_file_without_memory_is_refused_though_another_load_never_ends(monkeypatch):
    """The wait is no longer than any load may take."""
    end, other = socket.socketpair()
    keeper = sandbox._Keeper(end, 1)
    monkeypatch.setattr(memory, "available", lambda: 1000 << 20)
    keeper.longest = 0.05
    verdict = file_trial.Verdict("s", time.monotonic(), None, 500 << 20, 1)
    monkeypatch.setattr(file_trial, "attempt", lambda *_: verdict)
    loading, done = socket.socketpair()
    with end, other, loading, done:
        keeper.loading[loading] = 600 << 20

        with pytest.raises(Shortage, match="takes 500 MB: expected at most the 300 MB of memory"):
            keeper.judge("a", "s")


def test_a_file_that_cannot_be_tried_is_refused_and_the_next_one_is_tried(monkeypatch):
    """A trial may fail because no more processes are allowed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper = sandbox._Keeper(theirs, 1)
    judged = iter(
        [OSError(11, "Resource temporarily unavailable"), file_trial.Verdict("s", 0.0, peak=7)]
    )

    def judge(path, *_):
        if isinstance(verdict := next(judged), OSError):
            raise verdict
        return verdict

    monkeypatch.setattr(keeper, "judge", judge)
    keeper_handle = SimpleNamespace(asking=ours, look_after=lambda: None)
    monkeypatch.setattr(sandbox, "_keepers", [keeper_handle])
    thread = threading.Thread(target=keeper.run)
    with theirs:
        thread.start()
        with (
            pytest.raises(ModelRefused, match="it cannot be tried: Resource temporarily unava"),
            sandbox.passed("a", "s"),
        ):
            pass
        with sandbox.passed("a", "s"):
            assert list(keeper.loading.values()) == [7]
        ours.close()
        thread.join()
    for caller in keeper.loading:
        caller.close()


def test_outside_a_service_there_is_no_trial():
    """A command loads one file for itself, without a keeper or a trial."""
    with sandbox.passed("absent", "s"):
        pass


def test_the_number_of_remembered_verdicts_is_bounded(monkeypatch):
    """A repository that grows for years does not fill the keeper's memory."""
    end, other = socket.socketpair()
    keeper = sandbox._Keeper(end, 1)
    monkeypatch.setattr(memory, "available", lambda: None)
    tried = []

    def attempt(path, *_):
        tried.append(path)
        return file_trial.Verdict("s", time.monotonic())

    monkeypatch.setattr(file_trial, "attempt", attempt)
    numbers = [str(number) for number in range(sandbox.MOST_TRIED + 7)]
    with end, other:
        for number in [*numbers, "7", "6"]:
            assert keeper.judge(number, "s").reason is None

    # The seven that were tried first are forgotten.
    assert tried == [*numbers, "6"]
