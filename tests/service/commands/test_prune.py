"""`triceps prune`: what goes, what stays, and what a reader sees meanwhile."""

import os
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.commands import prune
from service.commands.main import main
from service.repository.publish import versions
from tests.harness import small

BAD = b"not a model"
SIX = [1, 2, 3, 4, 5, 10]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The repository `models` of the folder one stands in, of a model with six versions."""
    monkeypatch.chdir(tmp_path)
    for version in SIX:
        small.put(tmp_path / "models", "m", version, small.three())
    return tmp_path / "models"


def run(*arguments):
    """Exit code, standard output and error."""
    done = CliRunner().invoke(main, ["prune", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "stay"),
    [
        pytest.param([], [4, 5, 10], id="three by default"),
        pytest.param(["--keep", 1], [10], id="one"),
        pytest.param(["--keep", 9], SIX, id="more than there are"),
    ],
)
def test_the_newest_stay(models, arguments, stay):
    """It says what it removed."""
    code, out, err = run("m", *arguments)

    gone = [version for version in SIX if version not in stay]
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        *(f"removed m, version {version}" for version in gone),
        f"m keeps {', '.join(map(str, stay))}",
    ]
    assert versions(models / "m") == stay
    assert sorted(int(e.name) for e in (models / "m").iterdir()) == stay


def test_what_an_alias_names_stays(models):
    """However old it is."""
    (models / "m" / "aliases.json").write_text('{"stable": "2", "canary": "10"}')

    run("m", "--keep", 1)

    assert versions(models / "m") == [2, 10]
    assert (models / "m" / "aliases.json").exists()


def test_the_newest_that_serves_stays(models):
    """A model whose last versions are broken is not left without any."""
    for version in (11, 12):
        small.put(models, "m", version, BAD)

    run("m", "--keep", 1)

    assert versions(models / "m") == [10, 12]


def test_a_dry_run_removes_nothing(models):
    """It says what would go."""
    (models / ".new-1").mkdir()
    os.utime(models / ".new-1", (0, 0))

    code, out, _ = run("m", "--keep", 5, "--dry-run")

    assert (code, out.splitlines()) == (
        0,
        [
            "would remove m, version 1",
            "would remove .new-1, left by a command that was interrupted",
            "m keeps 2, 3, 4, 5, 10",
        ],
    )
    assert versions(models / "m") == SIX
    assert (models / ".new-1").exists()


def test_old_leftovers_go_and_young_ones_stay(models):
    """A publish that was killed leaves one, and one that is at work has one."""
    old = time.time() - 3700
    for folder in (models / ".new-old", models / "m" / ".old-old", models / ".hidden"):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(BAD)
        os.utime(folder, (old, old))
    (models / ".new-young").mkdir()
    half = models / "m" / f".triceps-{'0' * 32}"
    half.write_bytes(b"{")
    os.utime(half, (old, old))

    run("m")

    assert sorted(e.name for e in models.iterdir()) == [".hidden", ".new-young", "m"]
    assert not (models / "m" / ".old-old").exists()
    assert not half.exists()


def test_a_reader_sees_a_version_whole_or_not_at_all(models, monkeypatch):
    """It has another name by the time its files go."""
    seen = []
    real = shutil.rmtree

    def rmtree(path, **more):
        seen.append(
            (versions(models / "m"), Path(path).name[:5], [e.name for e in Path(path).iterdir()])
        )
        real(path, **more)

    monkeypatch.setattr(prune.shutil, "rmtree", rmtree)
    run("m", "--keep", 4)

    assert seen == [
        ([2, 3, 4, 5, 10], ".old-", ["model.onnx"]),
        ([3, 4, 5, 10], ".old-", ["model.onnx"]),
    ]


def test_a_version_that_is_a_link_is_unlinked(models, tmp_path):
    """What it leads to is somebody else's."""
    (models / "m" / "1").rename(tmp_path / "release")
    (models / "m" / "1").symlink_to(tmp_path / "release")

    run("m")

    assert versions(models / "m") == [4, 5, 10]
    assert (tmp_path / "release" / "model.onnx").exists()


def test_a_version_that_cannot_be_removed_is_told(models, monkeypatch):
    """By its path, in one line."""

    def refuse(self, _):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)

    assert run("m") == (
        1,
        "",
        f"triceps: {Path('models/m/1')}: cannot be removed: Permission denied\n",
    )
    assert versions(models / "m") == SIX


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["n"], 1, "models: there is no model 'n'. Available: m", id="no model"),
        pytest.param(["m", "--keep", "0"], 2, "0 is not in the range x>=1", id="none"),
    ],
)
def test_what_cannot_be_is_refused(models, arguments, code, said):
    """And nothing is removed."""
    exit_code, _, err = run(*arguments)

    assert exit_code == code
    assert said in err
    assert versions(models / "m") == SIX


def test_damaged_aliases_stop_it(models):
    """What they named, it cannot know."""
    (models / "m" / "aliases.json").write_text("{")

    code, out, err = run("m")

    assert (code, out) == (1, "")
    assert err.startswith("triceps: aliases.json: expected JSON like")
    assert versions(models / "m") == SIX
