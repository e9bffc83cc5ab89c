"""`make release`: a commit always gives the same files, which are tried before they are written."""

import importlib.util
import subprocess
import tarfile
from pathlib import Path

import pytest

from service import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="release", scope="module")
def _release():
    """Import the program, which is in no package."""
    spec = importlib.util.spec_from_file_location("release", ROOT / "deploy" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_commit_is_built_twice_alike(release, tmp_path):
    """Two builds of the committed files, with the commit's time, must be equal.

    The console is among them, as in the wheel.
    """
    sdist, wheel = sorted(release.build(tmp_path), key=lambda path: path.suffix)

    assert sdist.name == f"triceps-{__version__}.tar.gz"
    assert wheel.name == f"triceps-{__version__}-py3-none-any.whl"
    log = ["git", "log", "-1", "--format=%ct"]
    committed = subprocess.run(log, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    with tarfile.open(sdist) as archive:
        times = {member.mtime for member in archive if member.isfile()}
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"service/api/console/console.{end}" for end in ("html", "css", "js")} <= names
    assert times == {int(committed)}


def test_builds_that_differ_are_an_error(release, tmp_path):
    """The message names a file with another byte, or a file that one build lacks."""
    for folder, content in (("first", b"1"), ("second", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.whl").write_bytes(content)
        (tmp_path / folder / "b.tar.gz").write_bytes(b"same")
    (tmp_path / "second" / "c.whl").touch()
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("first", "second"))

    release.compare(first, first)
    with pytest.raises(release.ReleaseError, match=r"received different a\.whl, c\.whl"):
        release.compare(first, second)


def test_the_sums_are_those_that_sha256sum_checks(release, tmp_path):
    """The sums have one line per file, and reveal a changed file."""
    paths = [tmp_path / "b.whl", tmp_path / "a.tar.gz"]
    for path in paths:
        path.write_text(path.name)
    (tmp_path / release.SUMS).write_text(release.sums(paths))

    def check():
        command = ["sha256sum", "--check", "--strict", release.SUMS]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode

    assert check() == 0
    paths[0].write_text("another")
    assert check() == 1


def test_nothing_is_written_before_it_was_tried(release, tmp_path, monkeypatch):
    """A wheel that does not serve leaves dist/ unchanged."""
    wheel = tmp_path / "triceps-1-py3-none-any.whl"
    wheel.touch()
    monkeypatch.setattr(release, "DIST", tmp_path / "dist")
    monkeypatch.setattr(release, "build", lambda _: [wheel])
    monkeypatch.setattr(release.sys, "argv", ["release.py", str(wheel)])

    def fail(*_):
        raise release.ReleaseError("not ready")

    monkeypatch.setattr(release, "try_out", fail)
    with pytest.raises(release.ReleaseError, match="not ready"):
        release.main()
    assert not (tmp_path / "dist").exists()

    monkeypatch.setattr(release, "try_out", lambda *_: None)
    release.main()
    names = sorted(path.name for path in (tmp_path / "dist").iterdir())
    assert names == ["SHA256SUMS", "triceps-1-py3-none-any.whl", "triceps-1.cdx.json"]
