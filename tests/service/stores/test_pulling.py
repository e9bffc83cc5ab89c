"""Pulls that are killed at any step, or run at once: what readers see, and what comes after."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.stores import download
from service.stores.pulling import Refused
from service.stores.store import Interrupted, StoreError
from tests.harness import file_server, small
from tests.harness.file_server import cut, fine
from tests.harness.stores import Puller, digest, visible

ROOT = Path(__file__).parents[3]
PATH = "/churn/model.onnx"
ONE, TWO = small.three(), small.three(2.0)

# For each n: a child pulls, and is killed at the n-th change of the file system; what readers see
# then is printed, and after it what another child makes of it.  The check is left out, since it
# changes nothing, and takes a second each time.
KILLED = """
import json, os, sys
from pathlib import Path
from service.stores import checking, download
from tests.harness.stores import Puller, visible

checking.reason = lambda *_: None
download._SYNC = 500
models, source = Path(sys.argv[1]), sys.argv[2]
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}

def forked(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]

def pull_until(n):
    left = [n]
    def hook(event, args):
        writes = event == "open" and isinstance(args[2], int) and args[2] & os.O_ACCMODE
        if (event in WRITES or writes) and str(models) in str(args[0]):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), 9)
    sys.addaudithook(hook)
    Puller(models, source).pull()

for n in range(200):
    killed = forked(lambda: pull_until(n)) == 9
    seen = visible(models)
    said = forked(lambda: print(json.dumps(
        [n, killed, seen, Puller(models, source).pull().outcome, visible(models),
         sorted(p.name for p in models.iterdir())]), flush=True))
    os.system(f"rm -rf '{models}'")
    if not killed:
        break
"""


def test_a_pull_that_is_killed_at_any_step_leaves_all_or_nothing(tmp_path):
    """Readers see the whole version or none, and the next pull publishes it or finds it."""
    small.put(tmp_path / "share", "churn", 4, ONE)
    (tmp_path / "share" / "churn" / "4" / "weights.bin").write_bytes(bytes(2000))

    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "models", f"file://{tmp_path}/share/churn"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.stderr == ""
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    whole = [
        "churn",
        "churn/4",
        *(f"churn/4/{n}" for n in ("model.onnx", "source.json", "weights.bin")),
    ]
    assert len(steps) > 15
    assert [killed for _, killed, *_ in steps] == [True] * (len(steps) - 1) + [False]
    for n, _, seen, outcome, after, _names in steps:
        assert seen in ([], whole), n
        assert outcome == ("unchanged" if seen else "published"), n
        assert after == whole, n
    assert steps[-1][-1] == ["churn"]


def test_a_killed_download_goes_on_where_it_was(tmp_path):
    """Only what is noted as being on the disk is kept; the rest of the file may have holes."""
    with file_server.served(encrypted=False) as files:
        files.content[PATH] = ONE
        files.troubles = [fine, fine, *[cut(700)] + [cut(0)] * 9]
        puller = Puller(tmp_path, files.url + PATH)
        with pytest.raises(Interrupted):
            puller.pull()
        [part] = tmp_path.rglob("model.onnx")
        part.write_bytes(part.read_bytes() + bytes(300))
        files.requests.clear()
        files.troubles = []

        assert puller.pull().outcome == "published"
        assert [r["Range"] for r in files.requests if "If-Range" in r] == ["bytes=700-"]
    assert puller.content("1") == ONE


@pytest.mark.parametrize(
    "state", [b"", b"[1]", b'{"model.onnx": 3}', b'{"model.onnx": ["", 1, 2]}']
)
def test_a_damaged_state_is_ignored(tmp_path, state):
    """The download begins anew."""
    with file_server.served(encrypted=False) as files:
        files.content[PATH] = ONE
        files.troubles = [fine, fine, *[cut(700)] + [cut(0)] * 9]
        puller = Puller(tmp_path, files.url + PATH)
        with pytest.raises(Interrupted):
            puller.pull()
        next(tmp_path.rglob(download.STATE)).write_bytes(state)
        files.troubles = []

        assert puller.pull().outcome == "published"
    assert puller.content("1") == ONE


def test_what_was_kept_of_another_content_is_not_used(tmp_path):
    """The file was replaced between two pulls."""
    with file_server.served(encrypted=False) as files:
        files.content[PATH] = ONE
        files.troubles = [fine, fine, *[cut(700)] + [cut(0)] * 9]
        puller = Puller(tmp_path, files.url + PATH)
        with pytest.raises(Interrupted):
            puller.pull()
        files.content[PATH] = TWO
        files.troubles = []

        assert puller.pull().outcome == "published"
    assert puller.content("1") == TWO


def test_a_version_that_could_not_serve_is_refused(tmp_path):
    """Nothing is published; it is checked again, and not downloaded again, at the next pull."""
    with file_server.served(encrypted=False) as files:
        files.content[PATH] = b"no model"
        puller = Puller(tmp_path, files.url + PATH)
        for _ in range(2):
            with pytest.raises(Refused, match=r"refused, .*; nothing was published"):
                puller.pull()

        assert visible(tmp_path) == []
        assert len([r for r in files.requests if r.get("Range") != "bytes=0-0"]) == 1
        files.content[PATH] = ONE
        assert puller.pull().version == "1"


def test_golden_rows_are_compared(tmp_path):
    """A file that answers otherwise than where it was made is not published."""
    (tmp_path / "share").mkdir()
    content = ONE.replace(b"[2.5]", b"[2.6]")
    (tmp_path / "share" / "wrong.onnx").write_bytes(content)

    with pytest.raises(Refused, match="golden"):
        Puller(tmp_path / "models", f"file://{tmp_path}/share/wrong.onnx").pull()


def test_the_same_offer_is_not_looked_into_again(tmp_path):
    """A watching pull asks for little."""
    small.put(tmp_path / "share", "churn", 4, ONE)
    puller = Puller(tmp_path / "models", f"file://{tmp_path}/share/churn")

    assert puller.pull(puller.pull().offer) is None


def test_the_provenance_says_where_the_version_is_from(tmp_path):
    """Its digest is that of the file in the source, which was not changed."""
    small.put(tmp_path / "share", "churn", 4, ONE)
    Puller(tmp_path / "models", f"file://{tmp_path}/share/churn").pull()

    facts = json.loads((tmp_path / "models/churn/4/source.json").read_text())

    assert facts["source"] == f"file://{tmp_path}/share/churn"
    assert facts["version"] == "4"
    assert facts["by"].startswith("triceps ")
    stored = facts["files"]["model.onnx"]
    assert (stored["sha256"], stored["size"], stored["verified"]) == (digest(ONE), len(ONE), "size")


def test_pulls_at_once_publish_one_version(tmp_path):
    """The second waits for the first, and finds its version."""
    with file_server.served(encrypted=False) as files:
        files.content[PATH] = ONE
        source = files.url + PATH
        work = (
            "import sys; from pathlib import Path; from tests.harness.stores import Puller; "
            "print(Puller(Path(sys.argv[1]), sys.argv[2]).pull().outcome)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        running = [
            subprocess.Popen(
                [sys.executable, "-c", work, tmp_path, source],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        outcomes = sorted(process.communicate(timeout=120)[0].strip() for process in running)

    assert outcomes == ["published", "unchanged", "unchanged", "unchanged"]
    assert visible(tmp_path) == ["churn", "churn/1", "churn/1/model.onnx", "churn/1/source.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["churn"]


def test_a_repository_that_cannot_be_written_is_named(tmp_path):
    """The error is one of this command, so that a watching pull goes on."""
    small.put(tmp_path / "share", "churn", 4, ONE)
    (tmp_path / "models").write_text("a file")

    with pytest.raises(StoreError, match=r"models.*: cannot be written"):
        Puller(tmp_path / "models" / "below", f"file://{tmp_path}/share/churn").pull()


def test_the_settings_of_the_model_apply(tmp_path):
    """A version is checked as it would be served."""
    small.put(tmp_path / "share", "churn", 4, ONE)
    small.put(tmp_path / "models", "churn", 1, TWO)
    (tmp_path / "models/churn/settings.toml").write_text('provider = "NowhereExecutionProvider"\n')

    with pytest.raises(Refused, match="NowhereExecutionProvider"):
        Puller(tmp_path / "models", f"file://{tmp_path}/share/churn").pull()
    (tmp_path / "models/churn/settings.toml").unlink()
    assert Puller(tmp_path / "models", f"file://{tmp_path}/share/churn").pull().version == "4"
