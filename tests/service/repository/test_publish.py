"""Publishing: a version is there whole or not at all, and each publisher gets its own."""

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from service.repository.publish import PublishError, WrongName, publish, versions


def tree(folder):
    """Return all paths below a folder with the bytes of each file, and None for each folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_the_first_version_is_1(tmp_path):
    """The repository is made if there is none, and nothing else is left in it."""
    models = tmp_path / "not" / "yet"

    assert publish(models, "m", b"content") == "1"
    assert tree(models) == {
        "m": None,
        "m/1": None,
        "m/1/model.onnx": b"content",
        "m/last_version": b"1\n",
    }


@pytest.mark.parametrize(
    ("there", "version"),
    [
        pytest.param(["1"], "2", id="after one"),
        pytest.param(["2", "10", "9"], "11", id="by number"),
        pytest.param(["3"], "4", id="gaps stay gaps"),
        pytest.param(["0"], "1", id="after nought"),
        pytest.param(["007", "latest", "1.5"], "1", id="other names do not count"),
        pytest.param(["999999999999999999"], "1000000000000000000", id="eighteen digits"),
        pytest.param(["1732540000000000000"], "1732540000000000001", id="a time stamp"),
    ],
)
def test_the_next_version_is_one_more_than_the_newest(tmp_path, there, version):
    """The version that is published last is the one that serves."""
    for name in there:
        (tmp_path / "m" / name).mkdir(parents=True)

    assert publish(tmp_path, "m", b"new") == version
    assert publish(tmp_path, "m", b"newer") == str(int(version) + 1)
    assert (tmp_path / "m" / version / "model.onnx").read_bytes() == b"new"


@pytest.mark.parametrize("removed", [["3"], ["1", "2", "3"]])
def test_the_number_of_a_version_that_was_removed_is_not_given_again(tmp_path, removed):
    """Answers, logs and caches that name version 3 never mean another one."""
    for _ in range(3):
        publish(tmp_path, "m", b"content")
    for name in removed:
        shutil.rmtree(tmp_path / "m" / name)

    assert publish(tmp_path, "m", b"new") == "4"
    assert publish(tmp_path, "m", b"newer") == "5"


@pytest.mark.parametrize("content", [b"", b"x", b"\xff", b"9" * 1000, b"-7", None])
def test_a_note_of_the_last_version_that_is_broken_prevents_no_publication(tmp_path, content):
    """The versions that there are give the next number, and the note is mended if it can be."""
    publish(tmp_path, "m", b"content")
    note = tmp_path / "m" / "last_version"
    note.unlink()
    note.mkdir() if content is None else note.write_bytes(content)

    assert publish(tmp_path, "m", b"new") == "2"
    assert note.is_dir() if content is None else note.read_bytes() == b"2\n"


def test_a_missing_model_has_no_versions(tmp_path):
    """Asking for its versions does not make its folder."""
    assert versions(tmp_path / "m") == []
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    "name", ["", "..", ".m", "-m", "a/b", "a b", "ä", "a\n", "m" * 129, "../m"], ids=repr
)
def test_a_name_that_is_unfit_for_a_url_is_refused(tmp_path, name):
    """The error comes before anything is written, and has the exit code of a wrong command."""
    with pytest.raises(WrongName) as raised:
        publish(tmp_path, name, b"content")

    assert str(raised.value) == (
        "model name: expected at most 128 letters, digits, '_', '.' and '-', "
        f"the first none of the last two, received {name!r}"
    )
    assert raised.value.exit_code == 2
    assert tree(tmp_path) == {}


def _publish_many(models, times):
    for _ in range(times):
        publish(Path(models), "m", str(os.getpid()).encode())


def test_simultaneous_publishers_get_versions_of_their_own(tmp_path):
    """No publisher overwrites another, and no number is left out."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_publish_many, args=[tmp_path, 15]) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert versions(tmp_path / "m") == list(range(1, 46))
    assert len([path for path in tmp_path.iterdir() if path.name != "m"]) == 0
    contents = [path.read_bytes() for path in tmp_path.glob("m/*/model.onnx")]
    assert sorted(contents) == sorted(
        str(worker.pid).encode() for worker in workers for _ in range(15)
    )


def test_permissions_are_those_that_the_umask_leaves(tmp_path):
    """The service may run as another user than the trainer."""
    before = os.umask(0o027)
    try:
        publish(tmp_path, "m", b"content")
    finally:
        os.umask(before)

    modes = [stat.S_IMODE((tmp_path / p).stat().st_mode) for p in ("m", "m/1", "m/1/model.onnx")]
    assert [oct(mode) for mode in modes] == ["0o750", "0o750", "0o640"]


# Writes slowly, and tells its parent before each step, so that the parent can kill it there.
_SLOW = """
    import os, sys, time
    from pathlib import Path
    from service.repository import publish as p

    for name in ("mkdir", "open", "rename", "write", "fsync"):
        owner = os if name in ("write", "fsync") else Path
        def slow(*args, _name=name, _real=getattr(owner, name), **more):
            print(_name, flush=True)
            time.sleep(0.02)
            return _real(*args, **more)
        setattr(owner, name, slow)
    print(p.publish(Path(sys.argv[1]), "m", b"new" * 1000), flush=True)
"""


def test_a_publish_killed_before_any_step_leaves_the_old_or_the_new(tmp_path):
    """No version is without its file or has half of it, and the next publish works as usual."""
    publish(tmp_path, "m", b"old")
    seen = set()
    step = 0
    while True:
        worker = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_SLOW), tmp_path],
            stdout=subprocess.PIPE,
            text=True,
        )
        steps = [line for line, _ in zip(worker.stdout, range(step + 1), strict=False)]
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
        contents = {
            path.parent.name: path.read_bytes() for path in (tmp_path / "m").glob("*/model.onnx")
        }
        assert contents in ({"1": b"old"}, {"1": b"old", "2": b"new" * 1000})
        assert versions(tmp_path / "m") == [int(version) for version in sorted(contents)]
        seen.add(len(contents))
        shutil.rmtree(tmp_path / "m" / "2", ignore_errors=True)
        (tmp_path / "m" / "last_version").write_text("1\n")
        if steps[-1] == "2\n" or step > 30:
            break
        step += 2

    assert seen == {1, 2}
    assert publish(tmp_path, "m", b"next") == "2"


def test_a_write_that_fails_leaves_the_repository_as_it_was(tmp_path, monkeypatch):
    """Not even an empty folder is left, which would be listed as a model without versions."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(PublishError) as raised:
        publish(tmp_path, "m", b"content")

    assert str(raised.value) == (
        f"{tmp_path}: cannot publish 'm': No space left on device; nothing was changed"
    )
    assert tree(tmp_path) == {}


def test_an_interrupt_leaves_the_repository_as_it_was(tmp_path, monkeypatch):
    """Ctrl-C during a write leaves no version."""

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)

    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path, "m", b"content")

    assert tree(tmp_path) == {}


def test_a_full_disk_is_reported(tmp_path):
    """This runs on a real file system, where this machine can mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(PublishError) as raised:
            publish(disk, "m", bytes(1 << 20))
        left = tree(disk)
    finally:
        subprocess.run(["umount", disk], check=True)

    assert str(raised.value) == (
        f"{disk}: cannot publish 'm': No space left on device; nothing was changed"
    )
    assert left == {}


@pytest.mark.parametrize(
    ("blocked", "reason"),
    [
        pytest.param("models", "File exists", id="a file is where the repository would be"),
        pytest.param("models/m", "Not a directory", id="a file is called like the model"),
        pytest.param("models/m/1", "Not a directory", id="a file is called like the version"),
    ],
)
def test_a_file_in_the_way_is_reported(tmp_path, blocked, reason):
    """The file is not ours, and is left alone."""
    (tmp_path / blocked).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / blocked).write_text("somebody's")
    before = tree(tmp_path)

    with pytest.raises(PublishError) as raised:
        publish(tmp_path / "models", "m", b"content")

    assert str(raised.value) == (
        f"{tmp_path}/models: cannot publish 'm': {reason}; nothing was changed"
    )
    assert tree(tmp_path) == before


def test_a_folder_without_write_permission_is_reported(tmp_path, monkeypatch):
    """The error has the system's reason."""

    def denied(path, *mode, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)

    with pytest.raises(PublishError, match="cannot publish 'm': Permission denied; nothing was"):
        publish(tmp_path, "m", b"content")
