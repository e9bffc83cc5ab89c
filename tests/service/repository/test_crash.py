"""A write that is killed, that has no room or that has no rights leaves the old state on disk.

A process is killed before and after every call from Python into C, which is where it asks the
system for anything; and by the kernel in the middle of a write.
"""

import http.client
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from service.host.files import write_file
from service.repository import aliases
from service.repository.assembly import open_repository
from service.repository.publish import PublishError, leftovers, publish, versions
from service.repository.scan import look
from tests.harness import small
from tests.harness.serving import Server

ROOT = Path(__file__).parents[3]
OLD, NEW = small.three(), small.three(2.0)

# Repeats an action, each time in a child that is killed at a later step, and prints the number of
# steps and the states that were left, as JSON. Steps are the beginnings and the ends of calls into
# C.
_KILLS = """
import json, os, shutil, signal, sys
from pathlib import Path
from service.commands import prune
from service.repository import aliases, publish

models = Path(sys.argv[1])
new = Path(sys.argv[2]).read_bytes()

def start():
    {start}

def act():
    {act}

def tree():
    return {{
        str(path.relative_to(models)): len(path.read_bytes()) if path.is_file() else None
        for path in sorted(models.rglob("*"))
        if not any(part[0] == "." for part in path.relative_to(models).parts)
    }}

def until(last):
    seen = 0
    def step(frame, event, argument):
        nonlocal seen
        if event in ("c_call", "c_return"):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(step)
    act()
    sys.setprofile(None)
    os._exit(0)

left, last = [], 0
while True:
    last += 1
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    start()
    if not last % 4:
        (models / ".new-left").mkdir()
        os.utime(models / ".new-left", (0, 0))
    pid = os.fork()
    if pid == 0:
        until(last)
    killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    now = tree()
    if now not in left:
        left.append(now)
        shutil.copytree(models, models.with_name(f"left{{len(left)}}"))
    if not killed:
        break
print(json.dumps([last, left]))
"""


def kills(tmp_path, start, act):
    """Return the number of steps, the different states that were left, and copies of them."""
    (tmp_path / "new").write_bytes(NEW)
    blocks = {"start": start, "act": act}
    code = _KILLS.format(
        **{k: textwrap.dedent(v).replace("\n", "\n    ") for k, v in blocks.items()}
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "models", tmp_path / "new"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps, left = json.loads(done.stdout)
    return steps, left, [tmp_path / f"left{number + 1}" for number in range(len(left))]


def test_a_publish_that_is_killed_at_any_step_leaves_the_old_or_the_new(tmp_path):
    """Neither half a version nor an empty folder is left, and the repository then opens cleanly."""
    steps, left, copies = kills(
        tmp_path, 'publish.publish(models, "m", new)', 'publish.publish(models, "m", new * 2)'
    )

    old = {"m": None, "m/1": None, "m/1/model.onnx": len(NEW), "m/last_version": 2}
    new = {**old, "m/2": None, "m/2/model.onnx": 2 * len(NEW)}
    assert steps > 100
    assert left == [old, new]
    for copy in copies:
        scan = look(copy)
        assert scan.refused == ()
        assert [entry.version for entry in scan.versions] in (["1"], ["1", "2"])
        assert publish(copy, "m", OLD) == str(len(scan.versions) + 1)
        assert open_repository(copy).find("m").version == str(len(scan.versions) + 1)


def test_a_first_publish_that_is_killed_leaves_no_model_without_versions(tmp_path):
    """The folder of a model appears together with its first version."""
    steps, left, copies = kills(tmp_path, "pass", 'publish.publish(models, "m", new)')

    assert steps > 100
    new = {"m": None, "m/1": None, "m/1/model.onnx": len(NEW), "m/last_version": 2}
    assert left == [{}, new]
    assert [sorted(open_repository(copy).served) for copy in copies] == [[], ["m"]]
    assert [open_repository(copy).refused for copy in copies] == [[], []]


def test_an_alias_that_is_killed_at_any_step_names_the_old_or_the_new(tmp_path):
    """The next alias can be set, although the killed process held the lock."""
    steps, left, copies = kills(
        tmp_path,
        """
        publish.publish(models, "m", new)
        publish.publish(models, "m", new)
        with aliases.changing(models / "m") as named:
            named["stable"] = "1"
        """,
        """
        with aliases.changing(models / "m") as named:
            named["stable"] = "2"
            named["long"] = "1" * 100
        """,
    )

    assert steps > 100
    assert [state["m/aliases.json"] for state in left] == sorted(
        state["m/aliases.json"] for state in left
    )
    assert [aliases.read(copy / "m" / "aliases.json")["stable"] for copy in copies] == ["1", "2"]
    for copy in copies:
        with aliases.changing(copy / "m") as named:
            named["stable"] = "1"
            named.pop("long", None)
        assert open_repository(copy).find("m", alias="stable").version == "1"


def test_a_prune_that_is_killed_at_any_step_leaves_versions_whole(tmp_path):
    """A version disappears in one step."""
    _, left, copies = kills(
        tmp_path,
        """
        publish.publish(models, "m", new)
        publish.publish(models, "m", new)
        """,
        'prune._remove(models / "m" / "1")',
    )

    assert [sorted(state) for state in left] == [
        ["m", "m/1", "m/1/model.onnx", "m/2", "m/2/model.onnx", "m/last_version"],
        ["m", "m/2", "m/2/model.onnx", "m/last_version"],
    ]
    assert [open_repository(copy).refused for copy in copies] == [[], []]


@pytest.mark.parametrize("most", [0, 1, 1000, 65536])
def test_a_write_that_is_cut_short_by_the_kernel_leaves_the_old(tmp_path, most):
    """The kernel ends the process in the middle of a write, after `most` bytes."""
    publish(tmp_path, "m", OLD)
    with aliases.changing(tmp_path / "m") as named:
        named["stable"] = "1"
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from service.host import files; from service.repository import aliases, publish\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
        "models = Path(sys.argv[1])\n"
    )
    acts = [
        "publish.publish(models, 'm', bytes(10**6))",
        "files.write_file(models / 'm' / 'aliases.json', bytes(10**6))",
    ]
    for act in acts:
        done = subprocess.run([sys.executable, "-c", code + act, tmp_path], cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGXFSZ

    assert versions(tmp_path / "m") == [1]
    assert aliases.read(tmp_path / "m" / "aliases.json") == {"stable": "1"}
    assert open_repository(tmp_path).find("m", alias="stable").version == "1"
    assert open_repository(tmp_path).refused == []


def test_two_trainers_that_publish_at_once_get_two_versions(tmp_path):
    """Both trainers publish a new model at once; one of them makes its folder."""
    go = time.time() + 0.5
    code = (
        "import sys, time; from pathlib import Path\n"
        "from service.repository.publish import publish\n"
        "for _ in range(20):\n"
        "    publish(Path(sys.argv[1]), 'm', sys.argv[2].encode())\n"
    )
    code = code.replace("for _", f"time.sleep(max(0, {go} - time.time()))\nfor _")
    trainers = [subprocess.Popen([sys.executable, "-c", code, tmp_path, n], cwd=ROOT) for n in "ab"]

    assert [trainer.wait(30) for trainer in trainers] == [0, 0]
    assert versions(tmp_path / "m") == list(range(1, 41))
    written = [path.read_text() for path in tmp_path.glob("m/*/model.onnx")]
    assert sorted(written) == ["a"] * 20 + ["b"] * 20
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_the_leftovers_of_a_killed_publish_are_ignored_and_removed(tmp_path):
    """The next publish removes the leftovers, once they are too old to be in use."""
    for name in (".new-old", ".new-young", ".hidden"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.onnx").write_bytes(OLD[:100])
    os.utime(tmp_path / ".new-old", (0, 0))

    assert look(tmp_path).versions == ()
    assert publish(tmp_path, "m", OLD) == "1"

    assert sorted(e.name for e in tmp_path.iterdir()) == [".hidden", ".new-young", "m"]
    assert open_repository(tmp_path).refused == []


def test_a_publish_that_ends_during_the_search_leaves_no_leftover(tmp_path, monkeypatch):
    """Another publish may rename its folder after it was listed and before it is looked at."""
    (tmp_path / ".new-gone").symlink_to("nowhere")
    real = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: real(path / "gone"))

    assert leftovers(tmp_path) == []


# ── a full disk ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def disk(tmp_path):
    """Yield a file system of 256 kB with a published model, where this machine can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("no file system can be mounted here (that takes root)")
    try:
        publish(folder, "m", OLD)
        with aliases.changing(folder / "m") as named:
            named["stable"] = "1"
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _fill(disk):
    """Fill the file system to the last page."""
    with (disk / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def test_a_publish_that_does_not_fit_leaves_the_old(disk):
    """The old version stays if there is no room for the whole new one, or for any of it."""
    for step in (lambda: None, lambda: _fill(disk)):
        step()
        with pytest.raises(PublishError) as raised:
            publish(disk, "m", bytes(2**20))

        assert str(raised.value) == (
            f"{disk}: cannot publish 'm': No space left on device; nothing was changed"
        )
        assert versions(disk / "m") == [1]
        assert [e.name for e in disk.iterdir() if e.name.startswith(".")] == []
        assert open_repository(disk).find("m", alias="stable").version == "1"


def test_an_alias_that_does_not_fit_stays_what_it_was(disk):
    """The command reports the full disk, and the file is the old one."""
    publish(disk, "m", OLD)
    _fill(disk)
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from service.commands.main import main; main()"),
            *("alias", "m", "stable", "2", "--models", disk),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "aliases.json: cannot be written: No space left on device" in done.stderr
    assert aliases.read(disk / "m" / "aliases.json") == {"stable": "1"}
    assert [e.name for e in (disk / "m").iterdir() if e.name.startswith(".")] == []


# ── another user's folder ────────────────────────────────────────────────────────────────────────

_AS = """
import os, sys
from pathlib import Path
from service.repository import aliases
from service.errors import TricepsError
from service.repository.publish import publish
os.setgroups([])
os.setresgid(*[int(sys.argv[3])] * 3)
os.setresuid(*[int(sys.argv[2])] * 3)
models = Path(sys.argv[1])
def alias():
    with aliases.changing(models / "m") as named:
        named["stable"] = "2"
for act in (lambda: publish(models, "m", b"new"), lambda: publish(models, "n", b"new"), alias):
    try:
        print("done", act())
    except TricepsError as error:
        print(error)
"""


@pytest.fixture
def shared(tmp_path_factory):
    """Return a repository of root below /tmp, and a function that acts on it as another user."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("there is no user `nobody` here")
    folder, temporary = tmp_path_factory.mktemp("shared"), Path(tempfile.gettempdir())
    for place in (folder, *folder.parents):
        if place.stat().st_uid == 0 and place.is_relative_to(temporary) and place != temporary:
            place.chmod(place.stat().st_mode | 0o055)
    publish(folder, "m", OLD)
    with aliases.changing(folder / "m") as named:
        named["stable"] = "1"

    def act():
        code = subprocess.run(
            [sys.executable, "-c", _AS, folder, str(nobody.pw_uid), str(nobody.pw_gid)],
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert code.returncode == 0, code.stderr
        return code.stdout.splitlines()

    return folder, act


def test_a_repository_of_another_user_is_left_as_it_is(shared):
    """Each command says which folder it may not write, and why."""
    folder, act = shared

    assert act() == [
        f"{folder}: cannot publish 'm': Permission denied; nothing was changed",
        f"{folder}: cannot publish 'n': Permission denied; nothing was changed",
        f"{folder}/m/aliases.json: cannot be written: Permission denied",
    ]
    assert versions(folder / "m") == [1]
    assert aliases.read(folder / "m" / "aliases.json") == {"stable": "1"}


def test_a_model_of_another_user_in_a_shared_repository_is_left_as_it_is(shared):
    """A user may publish models of their own there, but no version of another user's model."""
    folder, act = shared
    folder.chmod(0o1777)

    lines = act()

    assert lines[:2] == [
        f"{folder}: cannot publish 'm': Permission denied; nothing was changed",
        "done 1",
    ]
    assert versions(folder / "m") == [1]
    assert sorted(e.name for e in folder.iterdir()) == ["m", "n"]


# ── a power cut ──────────────────────────────────────────────────────────────────────────────────


def _order(monkeypatch, folder):
    """Record the calls that reach the disk, in order: the syncs by path, and the renames."""
    order = []

    def synced(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        order.append(("sync", _plain(path, folder)))
        return real_sync(descriptor)

    def renamed(path, target):
        order.append(("rename", _plain(target, folder)))
        return real_rename(path, target)

    real_sync, real_rename, real_replace = os.fsync, Path.rename, Path.replace
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(
        Path,
        "replace",
        lambda path, target: (
            order.append(("rename", _plain(target, folder))),
            real_replace(path, target),
        ),
    )
    return order


def _plain(path, folder):
    relative = str(Path(path).relative_to(folder))
    relative = re.sub(r"[0-9a-f]{32}$", "", relative)
    head, _, rest = relative.partition("/")
    return "/".join(["new" if head.startswith(".new-") else head, *([rest] if rest else [])])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names the file of a descriptor")
def test_a_publish_is_synced_before_and_after_its_rename(tmp_path, monkeypatch):
    """The file and its folders are synced before the rename, and the folders above it after."""
    publish(tmp_path, "m", OLD)
    order = _order(monkeypatch, tmp_path)

    publish(tmp_path, "m", OLD)
    write_file(tmp_path / "m" / "aliases.json", b"{}")

    assert order == [
        ("sync", "new/1/model.onnx"),
        ("sync", "new/1"),
        ("sync", "new"),
        ("rename", "m/2"),
        ("sync", "m/.triceps-"),
        ("rename", "m/last_version"),
        ("sync", "m"),
        ("sync", "m"),
        ("sync", "."),
        ("sync", "m/.triceps-"),
        ("rename", "m/aliases.json"),
        ("sync", "m"),
    ]


def test_the_error_of_a_failed_sync_says_that_the_version_is_published(tmp_path, monkeypatch):
    """The version exists, so the error must not say that nothing was changed."""
    publish(tmp_path, "m", OLD)
    real, calls = os.fsync, []

    def fails(descriptor):
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(5, "Input/output error")
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", fails)

    with pytest.raises(PublishError) as raised:
        publish(tmp_path, "m", NEW)

    assert str(raised.value) == (
        f"{tmp_path}/m/2: is published, and may not be there after a power cut: Input/output error"
    )
    assert versions(tmp_path / "m") == [1, 2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


# ── files of aliases ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(
            os.mkfifo,
            "aliases.json: cannot be read: expected a file of at most 1048576 bytes",
            id="a pipe",
        ),
        pytest.param(
            lambda path: (path.touch(), os.truncate(path, 2**40)),
            "aliases.json: cannot be read: expected a file of at most 1048576 bytes",
            id="a terabyte",
        ),
        pytest.param(Path.mkdir, "aliases.json: cannot be read: Is a directory", id="a folder"),
        pytest.param(
            lambda path: path.symlink_to("/etc/hostname"),
            "a link leads out of the repository, to /etc/hostname",
            id="a link out",
        ),
        pytest.param(
            lambda path: path.write_text('["' + "a" * 10**6 + '"]'),
            'aliases.json: expected an object like {"stable": "3"}, received a list',
            id="a long list",
        ),
        pytest.param(
            lambda path: path.write_text('{"' + "\\u001b" * 10**5 + '": "1"}'),
            "aliases.json: expected aliases of at most 128 letters",
            id="a long name",
        ),
        pytest.param(
            lambda path: path.write_text('{"stable": "' + "1" * 10**5 + 'x"}'),
            'aliases.json, stable: expected a version like "3", received',
            id="a long version",
        ),
    ],
)
def test_a_broken_aliases_file_does_not_stop_its_model(tmp_path, make, reason):
    """The aliases are refused at once, with a short reason, and the model serves."""
    publish(tmp_path, "m", OLD)
    make(tmp_path / "m" / "aliases.json")

    repository = open_repository(tmp_path)

    assert repository.find("m").version == "1"
    [refused] = repository.refused
    assert refused.reason.startswith(reason)
    assert len(refused.reason) < 400


# ── a service ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the children of a process")
def test_a_service_whose_workers_are_killed_while_versions_come_loses_nothing(tmp_path):
    """A successor loads what a killed worker was loading, and the newest version serves."""
    publish(tmp_path, "m", OLD)
    words = ("--models", tmp_path, "--watch", "0.05", "--workers", "2")

    def kill():
        for number in range(6):
            time.sleep(0.25)
            if workers := server.workers():
                os.kill(workers[number % len(workers)], signal.SIGKILL)

    with Server(*words, folder=tmp_path, environment={"OPENBLAS_NUM_THREADS": "1"}) as server:
        server.until_alive()
        killer = threading.Thread(target=kill)
        killer.start()
        for version in range(2, 8):
            assert publish(tmp_path, "m", small.three(float(version))) == str(version)
            time.sleep(0.2)
        killer.join()
        end = time.monotonic() + 20
        served = []
        while time.monotonic() < end and served[-8:] != ["7"] * 8:
            try:
                served.append(server.get("/models/m")[1]["version"])
            except (OSError, http.client.HTTPException):
                served.append("cut")
            time.sleep(0.05)
        code, _, _, err = server.end()

    assert served[-8:] == ["7"] * 8
    assert code == 0, err
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]
