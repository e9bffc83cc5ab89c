"""Files are written whole, over a regular file or none, and by one function everywhere."""

import ast
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.commands.main import main
from service.host import files
from service.host.files import FileError, replacing, write_file
from tests.harness import small

ROOT = Path(__file__).parents[3]


def tree(folder):
    """Return the entries of a folder by name: the bytes of a file, and None for anything else."""
    return {
        path.name: path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.iterdir())
    }


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(Path.mkdir, "Is a directory", id="a folder"),
        pytest.param(os.mkfifo, "expected a file of at most 5 bytes", id="a pipe"),
        pytest.param(lambda path: path.write_text("123456"), "expected a file", id="too large"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "expected a file", id="a device"),
    ],
)
def test_anything_but_a_small_regular_file_is_not_read(tmp_path, make, reason):
    """Its descriptor is closed, however often it is looked at."""
    make(tmp_path / "f")
    before = len([*Path("/dev/fd").iterdir()])
    for _ in range(3):
        with pytest.raises(OSError, match=reason):
            files.read_file(tmp_path / "f", 5)

    # The numbers of descriptors may change meanwhile.
    assert len([*Path("/dev/fd").iterdir()]) <= before


def test_a_file_is_written_whole(tmp_path):
    """The new content replaces the old file."""
    path = tmp_path / "a.onnx"

    write_file(path, b"one")
    write_file(path, b"two")

    assert tree(tmp_path) == {"a.onnx": b"two"}


def test_two_writers_of_one_name_do_not_mix(tmp_path):
    """Each writer has a temporary file of its own; the last to finish wins."""
    path = tmp_path / "answers.csv"

    with replacing(path) as slow, replacing(path) as fast:
        for _ in range(3):
            slow.write(b"slow\n")
            fast.write(b"fast\n")
            fast.flush()
            slow.flush()

    assert tree(tmp_path) == {"answers.csv": b"slow\n" * 3}


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    """No temporary file is left beside it."""
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)

    with pytest.raises(FileError) as raised:
        write_file(path, b"new")

    assert str(raised.value) == f"{path}: cannot be written: No space left on device"
    assert tree(tmp_path) == {"a.onnx": b"old"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError], ids=lambda kind: kind.__name__)
def test_a_writer_that_ends_early_leaves_nothing_behind(tmp_path, error):
    """The old file is whole, and no temporary file is left beside it."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"old")

    def fail():
        with replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()

    assert tree(tmp_path) == {"a.csv": b"old"}


def test_the_leftovers_of_killed_writers_are_removed_after_an_hour(tmp_path):
    """Other files stay, whatever their age."""
    names = [f".triceps-{'a' * 32}", f".triceps-{'b' * 32}", ".triceps-notes", "old.csv"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    for name in names[1:]:
        os.utime(tmp_path / name, (0, 0))

    write_file(tmp_path / "a", b"")

    assert sorted(tree(tmp_path)) == sorted([names[0], ".triceps-notes", "a", "old.csv"])


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664], ids=oct)
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    """The same users can read the file as before, and no others."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)

    write_file(path, b"new")

    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path):
    """The umask applies as for the files of any program."""
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "a", b"new")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        pytest.param("absent/a.onnx", "No such file or directory", id="no such folder"),
        pytest.param("file/a.onnx", "Not a directory", id="below a file"),
    ],
)
def test_a_path_where_no_file_can_be_is_reported(tmp_path, place, reason):
    """The error has the system's reason."""
    (tmp_path / "file").write_text("somebody's")

    with pytest.raises(FileError) as raised:
        write_file(tmp_path / place, b"content")

    assert str(raised.value) == f"{tmp_path / place}: cannot be written: {reason}"
    assert tree(tmp_path) == {"file": b"somebody's"}


# ── anything but a regular file ──────────────────────────────────────────────────────────────────


def _socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _to_a_file(path):
    (path.parent / "target").write_bytes(b"kept")
    path.symlink_to("target")


OTHERS = {
    "a named pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": _socket,
    "a symbolic link": _to_a_file,
    "a dangling symbolic link": lambda path: path.symlink_to("nowhere"),
    "a symbolic link to standard output": lambda path: path.symlink_to("/dev/stdout"),
    "a symbolic link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.fixture(name="other", params=OTHERS)
def _other(request, tmp_path):
    """Return a path that is not a regular file, and what messages call it."""
    path = tmp_path / "there.csv"
    OTHERS[request.param](path)
    name = request.param.replace("dangling ", "")
    return path, name.partition(" to ")[0]


def test_anything_but_a_regular_file_is_refused_by_name(other):
    """A rename would destroy it, so it stays as it is."""
    path, name = other
    before = path.lstat()

    with pytest.raises(FileError) as raised:
        write_file(path, b"new")

    assert f"{path}: expected a regular file to replace, or nothing, received {name}; " in str(
        raised.value
    )
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert not [entry for entry in path.parent.iterdir() if entry.name.startswith(".")]


def test_a_pipe_that_appears_during_a_write_is_not_replaced(tmp_path):
    """A run of `triceps predict` may take hours."""
    path = tmp_path / "a.csv"

    def write():
        with replacing(path):
            os.mkfifo(path)

    with pytest.raises(FileError, match="received a named pipe"):
        write()

    assert stat.S_ISFIFO(path.lstat().st_mode)
    assert len(tree(tmp_path)) == 1


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_refused(device):
    """A rename over /dev/null, as root, would turn it into a file that fills the disk."""
    with pytest.raises(FileError, match=f"{device}: expected a regular file .* received a device"):
        write_file(Path(device), b"new")

    assert stat.S_ISCHR(Path(device).stat().st_mode)


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    """Return a repository of the model `float`."""
    folder = tmp_path_factory.mktemp("models")
    small.put(folder, "float", 1, small.every()["float"])
    return folder


@pytest.fixture(name="rows")
def _rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("x.0,x.1\n1,2\n3,4\n")
    return path


def _commands(models, rows):
    model = models / "float" / "1" / "model.onnx"
    return {
        "sign": ["sign", str(model), "--out"],
        "predict": ["predict", "float", "--models", str(models), "--in", str(rows), "--out"],
    }


@pytest.mark.parametrize("name", ["sign", "predict"])
def test_a_command_refuses_to_write_over_anything_but_a_regular_file(name, models, rows, other):
    """The error is one line that names it, and the command ends with an error."""
    path, kind = other
    before = path.lstat().st_ino

    done = CliRunner().invoke(main, [*_commands(models, rows)[name], str(path)])

    assert done.exit_code in (1, 2)  # click itself refuses a folder, as a wrong command
    assert kind in done.stderr or "is a directory" in done.stderr
    assert path.lstat().st_ino == before


@pytest.mark.parametrize("name", ["sign", "predict"])
@pytest.mark.parametrize("out", ["-", "/dev/stdout", "/dev/fd/1"])
def test_a_command_writes_on_standard_output_where_it_is_named(name, out, models, rows):
    """Only the content goes there, so that a pipe gets nothing else."""
    done = CliRunner().invoke(main, [*_commands(models, rows)[name], out])

    assert done.exit_code == 0, done.stderr
    wanted = {"sign": b"\x08", "predict": b"y.0,y.1\n"}[name]
    assert done.stdout_bytes.startswith(wanted)
    assert done.stderr


def test_a_command_writes_on_the_descriptor_that_it_was_given(models, rows):
    """A shell's `--out >(gzip > answers.csv.gz)` works, after what was written there before."""
    reader, writer = os.pipe()
    os.write(writer, b"before\n")
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from service.commands.main import main; main()"),
            *(*_commands(models, rows)["predict"], f"/dev/fd/{writer}"),
        ],
        cwd=ROOT,
        pass_fds=[writer],
        capture_output=True,
        check=False,
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        received = file.read()

    assert (done.returncode, done.stdout) == (0, b"")
    assert received.splitlines()[:2] == [b"before", b"y.0,y.1"]


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("name", ["sign", "predict"])
def test_a_partial_write_to_standard_output_is_an_error(name, unbuffered, models, rows, tmp_path):
    """A raw file, as PYTHONUNBUFFERED makes it, writes the beginning and raises no error."""
    run = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); "
        "from service.commands.main import main; main()"
    )
    # Coverage could not write its results under this limit either.
    uncovered = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", run, *_commands(models, rows)[name], "-"],
            cwd=ROOT,
            env={**uncovered, "PYTHONUNBUFFERED": unbuffered},
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr == "triceps: cannot write its output: File too large\n"


def test_a_closed_standard_output_is_reported(models, rows):
    """Its number may belong to another file by then."""
    for name in ("sign", "predict"):
        done = subprocess.run(
            [
                *("/bin/sh", "-c", 'exec "$@" >&-', "sh"),
                *(sys.executable, "-c", "from service.commands.main import main; main()"),
                *(*_commands(models, rows)[name], "-"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 1
        assert done.stderr == "triceps: -: cannot be written: standard output is closed\n"


def test_a_descriptor_that_is_not_open_is_reported(models, rows):
    """The error has the system's reason."""
    done = CliRunner().invoke(main, [*_commands(models, rows)["predict"], "/dev/fd/987654"])

    assert done.exit_code == 1
    assert done.stderr == "triceps: /dev/fd/987654: cannot be written: Bad file descriptor\n"


def test_a_token_is_not_written_into_a_pipe(tmp_path):
    """Nor are tokens read from a pipe, which would wait forever."""
    os.mkfifo(tmp_path / "tokens.toml")

    done = CliRunner().invoke(
        main, ["token", "a", "--scope", "predict", "--file", str(tmp_path / "tokens.toml")]
    )

    assert done.exit_code == 2
    assert "expected a regular file to replace, or nothing, received a named pipe" in done.stderr


# ── the guard ────────────────────────────────────────────────────────────────────────────────────

WRITES = {"write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "symlink_to", "link_to"}
# The writers, and the reason why each does not use `replacing`.
ALLOWED = {
    ("service/host/files.py", "O_CREAT"): "it is the one function",
    ("service/repository/publish.py", "open"): "into a folder of its own, which is renamed whole",
    ("service/host/priority.py", "write_text"): "to the kernel, below /proc",
    ("service/stores/claims.py", "O_CREAT"): "it creates an empty file, which is only locked",
    ("service/stores/layers.py", "open"): "into a hidden folder, too",
    ("service/stores/download.py", "open"): "into a hidden folder, which is renamed whole",
    ("service/observability/sample_files.py", "O_CREAT"): "it appends to files of its own process",
}


def _writers(path):
    """Yield the names of the calls and flags in a file that could write a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in {"O_CREAT", "O_TMPFILE"}:
            yield node.attr
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        modes = [value.value for value in node.args if isinstance(value, ast.Constant)]
        modes += [k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)]
        # The built-in `open` gets descriptors alone, which have no name.
        opens = name == "open" and isinstance(node.func, ast.Attribute)
        writes = any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)
        if name in WRITES or (opens and writes):
            yield name


def test_nothing_writes_files_in_another_way():
    """Another way could mix two writers, or replace a device."""
    writers = {
        (str(path.relative_to(ROOT)), name)
        for package in ("service", "training")
        for path in (ROOT / package).rglob("*.py")
        for name in _writers(path)
    }

    assert writers == set(ALLOWED)
