"""Samples of a real service: rows with their answers in private files, which the commands read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from service.app import create_app
from service.commands.main import main
from service.observability import sample_files, samples
from service.settings import Settings
from tests.harness import calls, grpc_messages, small
from tests.harness.calls import ROW, client
from tests.harness.exposition import samples as read_page
from tests.harness.served import BODY, JSON, RIGHT, Served
from tests.harness.serving import Server
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PREDICT = "/models/three/predict"
ANSWER = "inference.ModelInferResponse"


def files(folder: Path) -> list[Path]:
    """Return the files of samples, in their order."""
    return sorted(folder.glob("*/*.jsonl"))


def own(folder: Path) -> list[Path]:
    """Return the files of samples of the model `a`."""
    return [file for file in files(folder) if file.parent.name == "a"]


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the samples of all files."""
    return [json.loads(line) for file in files(folder) for line in file.read_text().splitlines()]


@contextlib.contextmanager
def sampling(tmp_path: Path, share: float = 1, private: str = "") -> Iterator[Server]:
    """Yield a service that samples a share of the requests."""
    small.put(tmp_path / "models", "three", 1, small.three(models={"risky": ["risk"]}))
    if private:
        (tmp_path / "models/three/settings.toml").write_text(private)
    words = ("--models", tmp_path / "models", "--workers", 2)
    more = {"TRICEPS_SAMPLE": str(share), "TRICEPS_SAMPLE_DIR": str(tmp_path / "samples")}
    with Server(*words, folder=tmp_path, environment=more) as server:
        server.until_ready()
        yield server


@pytest.fixture(name="served")
def _served(tmp_path):
    """Yield a front in this process that samples everything into the folder `samples`."""
    small.put(tmp_path / "models", "three", 1, small.three())
    served = Served(tmp_path / "models", sample=1, sample_dir=str(tmp_path / "samples"))
    yield served
    served.stop()


def test_rows_and_answers_are_written_for_every_protocol(tmp_path):
    """The rows are as they were sent, and the answers as the model gave them."""
    rows = {"instances": [RIGHT, {**RIGHT, "fruit": [3, 4]}], "heads": ["size", "risk"]}
    with sampling(tmp_path) as server:
        told = {**JSON, "X-Request-ID": "two-rows"}
        _, _, answer = server.ask("POST", PREDICT, json.dumps(rows).encode(), told)
        server.ask("POST", PREDICT, b"{}", JSON)
        with client(server.port) as grpc:
            asked = grpc_messages.infer(ROW, raw=True)
            grpc.ask(calls.INFER, asked, ANSWER, metadata={"x-request-id": "call"})
        alone = json.dumps({"instances": [{"insurance": RIGHT["insurance"]}]}).encode()
        assert server.ask("POST", "/models/risky/predict", alone, JSON)[0] == 200
        server.end()
    found = read(tmp_path / "samples")
    two = [entry for entry in found if entry["request_id"] == "two-rows"]
    call = [entry for entry in found if entry["request_id"] == "call"]

    assert [entry["model"] for entry in found] == ["risky", *["three"] * 3]
    assert [entry["row"] for entry in two] == [0, 1]
    assert [entry["answers"] for entry in two] == json.loads(answer)["predictions"]
    assert two[1]["instance"] == {
        "insurance": {"age": 47, "bmi": 20, "smoker": None},
        "fruit": {"weight": 3, "length": 4},
    }
    assert (two[0]["version"], set(two[0]["answers"])) == ("1", {"size", "risk"})
    assert call[0]["instance"]["digit"] == [1, 2, 3, 4]
    assert set(found[0]["answers"]) == {"risk"}


def test_values_that_json_does_not_have_spoil_no_file(served, tmp_path):
    """A client may send NaN by the Open Inference Protocol; the commands read the other rows."""
    for name, values in (("digit", [np.nan, 1, np.inf, 2]), ("fruit", [np.nan, 1])):
        content = np.array([values], np.float32).tobytes()
        size = {"binary_data_size": len(content)}
        tensor = {"name": name, "datatype": "FP32", "shape": [1, len(values)], "parameters": size}
        outputs = [{"name": {"digit": "digits", "fruit": "size"}[name]}]
        head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
        told = {"Inference-Header-Content-Length": str(len(head))}
        assert served.ask("POST", "/v2/models/three/infer", head + content, told)[0] == 200
    served.ask("POST", PREDICT, BODY, JSON)
    until(lambda: len(read(tmp_path / "samples")) == 3)
    (file,) = files(tmp_path / "samples")
    words = ["predict", "three", str(file), "--models", str(tmp_path / "models")]

    assert [entry["instance"] for entry in read(tmp_path / "samples")[:2]] == [
        {},
        {"fruit": {"weight": None, "length": 1}},
    ]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert CliRunner().invoke(main, [*words, "--heads", "digits"]).exit_code == 0


def test_the_files_are_for_their_owner_alone(tmp_path):
    """So are the folders."""
    with sampling(tmp_path) as server:
        server.ask("POST", PREDICT, BODY, JSON)
        server.end()
    (file,) = files(tmp_path / "samples")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "samples").stat().st_mode) == 0o700


def test_the_commands_read_the_files(tmp_path):
    """The offline answers are those that were given."""
    with sampling(tmp_path) as server:
        for _ in range(3):
            server.ask("POST", PREDICT, BODY, JSON)
        server.end()
    where = ["--models", str(tmp_path / "models")]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(file.read_text() for file in files(tmp_path / "samples")))

    done = CliRunner().invoke(main, ["predict", "three", str(rows), *where])
    answers = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.exit_code == 0
    assert answers == [entry["answers"] for entry in read(tmp_path / "samples")]
    assert len(answers) == 3


@pytest.mark.parametrize(
    ("private", "inputs"),
    [
        pytest.param("", {"insurance", "fruit", "digit"}, id="nothing"),
        pytest.param('private = ["digit"]', {"insurance", "fruit"}, id="an input"),
        pytest.param(
            'private = ["insurance.age"]', {"insurance", "fruit", "digit"}, id="a feature"
        ),
        pytest.param('private = ["*"]', None, id="everything"),
        pytest.param('private = ["insurence.age"]', None, id="a misspelled name"),
        pytest.param("private = 1", None, id="a broken file"),
    ],
)
def test_what_is_private_is_left_out(tmp_path, private, inputs):
    """If it is not known what is private, nothing is sampled."""
    with sampling(tmp_path, private=private) as server:
        server.ask("POST", PREDICT, BODY, JSON)
        server.end()
        said = server.said()
    found = read(tmp_path / "samples")

    assert [set(entry["instance"]) for entry in found] == ([] if inputs is None else [inputs])
    assert all("age" not in e["instance"]["insurance"] for e in found if "age" in private)
    assert ("names 'insurence.age', and it has no such input" in said) == ("insurence" in private)


def test_a_share_is_sampled(tmp_path):
    """The requests are chosen at random."""
    with sampling(tmp_path, share=0.5) as server:
        with contextlib.closing(server.connect()) as connection:
            for _ in range(200):
                connection.request("POST", PREDICT, BODY, JSON)
                connection.getresponse().read()
        server.end()

    # One in a hundred million runs is outside of this.
    assert 60 <= len(read(tmp_path / "samples")) <= 140


def test_a_large_request_gives_its_first_rows(served, tmp_path):
    """A few requests are not to fill the files."""
    body = {"instances": [{"fruit": [i, 1]} for i in range(500)], "heads": ["size"]}
    served.ask("POST", PREDICT, json.dumps(body).encode(), JSON)
    until(lambda: len(read(tmp_path / "samples")) == samples.MOST_ROWS)

    found = read(tmp_path / "samples")
    assert [entry["row"] for entry in found] == [*range(samples.MOST_ROWS)]
    assert {tuple(entry["instance"]) for entry in found} == {("fruit",)}


def test_what_the_disk_does_not_take_is_dropped_and_counted(served, tmp_path, monkeypatch, caplog):
    """Answers do not wait, and go on as before."""
    monkeypatch.setattr(samples, "MOST_BYTES", 0)
    assert served.ask("POST", PREDICT, BODY, JSON)[0] == 200
    monkeypatch.undo()
    (tmp_path / "samples").mkdir(exist_ok=True)
    (tmp_path / "samples/three").write_text("no folder")
    assert served.ask("POST", PREDICT, BODY, JSON)[0] == 200

    def dropped() -> float:
        return read_page(served.ask("GET", "/metrics")[2].decode())[
            "triceps_samples_dropped_total",
        ]

    until(lambda: dropped() == 2)
    assert caplog.messages.count("samples cannot be written") == 1


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path, monkeypatch):
    """Nor does it leave many empty files; once there is room, the next lines follow."""
    now = 1_000_000.0
    monkeypatch.setattr(sample_files.time, "time", lambda: now)
    written = sample_files.SampleFiles(tmp_path)
    written.write("a", b"1\n")
    write = os.write

    def fill(descriptor: int, data: bytes) -> int:
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:2])

    with monkeypatch.context() as patched:
        patched.setattr(sample_files.os, "write", fill)
        for model in ("a", "b", "b", "a"):
            now += 1
            with pytest.raises(OSError, match="No space"):
                written.write(model, b"12345\n")
    written.write("a", b"2\n")

    assert [file.read_bytes() for file in files(tmp_path)] == [b"1\n2\n", b""]


def test_files_are_followed_by_others_and_removed(tmp_path, monkeypatch):
    """Their size, their age and their number have bounds."""
    now = 1_000_000.0
    monkeypatch.setattr(sample_files.time, "time", lambda: now)
    monkeypatch.setattr(sample_files, "FILE_BYTES", 1000)
    monkeypatch.setattr(sample_files, "MOST_FILE_BYTES", 5000)
    written = sample_files.SampleFiles(tmp_path)
    (tmp_path / "b").mkdir()
    other = tmp_path / "b/mine.jsonl"
    other.write_text("of somebody else")
    line = b"x" * 399 + b"\n"
    for _ in range(40):
        now += 1
        written.write("a", line)
        for file in own(tmp_path):
            os.utime(file, (now, now))

    assert 3000 <= sum(file.stat().st_size for file in own(tmp_path)) <= 6000
    assert {file.stat().st_size for file in own(tmp_path)[:-1]} == {800}
    now += sample_files.FILE_SECONDS + 1
    written.write("a", line)
    assert own(tmp_path)[-1].stat().st_size == 400
    now += sample_files.MOST_SECONDS
    written.look()
    assert [file.stat().st_size for file in own(tmp_path)] == [400]
    assert other.exists()


@pytest.mark.parametrize("replaced", ["link", "pipe", "file", "folder", "nothing", "no folder"])
def test_what_has_taken_the_place_of_a_file_is_not_written_to(tmp_path, monkeypatch, replaced):
    """The next lines go into a new file, and none is lost if files were moved or removed."""
    now = 1_000_000.0
    monkeypatch.setattr(sample_files.time, "time", lambda: now)
    folder, other = tmp_path / "samples", tmp_path / "other"
    written = sample_files.SampleFiles(folder)
    written.write("a", b"1\n")
    (file,) = files(folder)
    if replaced == "no folder":
        folder.rename(other)
    else:
        file.rename(other)
    if replaced == "link":
        file.symlink_to(other)
    elif replaced == "pipe":
        os.mkfifo(file)
    elif replaced == "file":
        file.write_bytes(b"")
    elif replaced == "folder":
        file.mkdir()

    now += 1
    written.write("a", b"2\n")
    now += 1
    written.write("a", b"3\n")

    assert files(folder)[-1].read_bytes() == b"2\n3\n"
    assert other.is_dir() or other.read_bytes() == b"1\n"
    assert stat.S_IMODE(files(folder)[-1].stat().st_mode) == 0o600


@pytest.mark.parametrize("there", ["a link to a folder", "a file"])
def test_nothing_is_written_where_somebody_else_has_prepared_it(tmp_path, monkeypatch, there):
    """The name of a file can be guessed, as can that of a model's folder."""
    now = 1_000_000.0
    monkeypatch.setattr(sample_files.time, "time", lambda: now)
    folder, other = tmp_path / "samples", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    name = f"19700112T134640000Z-{os.getpid()}.jsonl"
    if there == "a file":
        (folder / "a").mkdir()
        (folder / "a" / name).touch(mode=0o666)
    else:
        (folder / "a").symlink_to(other)
        (other / name.replace("1970", "1969")).touch()
    written = sample_files.SampleFiles(folder)

    with pytest.raises(OSError, match=r"exists|directory|symbolic"):
        written.write("a", b"1\n")
    now += sample_files.MOST_SECONDS * 10
    written.look()

    assert [path.name[:4] for path in other.iterdir()] == ["1969"] * (there != "a file")
    assert not any(path.read_bytes() for path in (*files(folder), *other.iterdir()))


def test_a_share_needs_a_folder_to_write_to(tmp_path):
    """The service ends at once, with the name of the setting."""
    (tmp_path / "file").write_text("")
    for folder, expected in (("", "expected a folder for what is"), ("file/x", "Not a directory")):
        words = ["serve", "--sample", "0.1", "--sample-dir", folder]
        done = subprocess.run(
            [sys.executable, "-c", "from service.commands.main import main; main()", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 2
        assert "TRICEPS_SAMPLE_DIR" in done.stderr
        assert expected in done.stderr


def test_another_server_takes_no_samples(tmp_path, caplog):
    """The log says so."""
    small.put(tmp_path / "models", "three", 1, small.three())

    create_app(Settings(models=tmp_path / "models", sample=1, sample_dir=str(tmp_path / "s")))

    assert "TRICEPS_SAMPLE has no effect" in caplog.text
