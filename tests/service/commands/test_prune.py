"""`triceps prune`: the versions that go, those that stay, and what a reader sees meanwhile."""

import json
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
    """Return the repository `models` of the working directory, with a model of six versions."""
    monkeypatch.chdir(tmp_path)
    for version in SIX:
        small.put(tmp_path / "models", "m", version, small.three())
    return tmp_path / "models"


def run(*arguments):
    """Return the exit code, standard output and standard error of the command."""
    done = CliRunner().invoke(main, ["prune", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        pytest.param([], [4, 5, 10], id="three by default"),
        pytest.param(["--keep", 1], [10], id="one"),
        pytest.param(["--keep", 9], SIX, id="more than there are"),
    ],
)
def test_the_newest_versions_stay(models, arguments, kept):
    """The output lists the removed versions."""
    code, out, err = run("m", *arguments)

    gone = [version for version in SIX if version not in kept]
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        *(f"removed m, version {version}" for version in gone),
        f"m keeps {', '.join(map(str, kept))}",
    ]
    assert versions(models / "m") == kept
    assert sorted(int(e.name) for e in (models / "m").iterdir()) == kept


def test_json_is_one_object(models):
    """It says what was removed, or would be, and why each other version stays."""
    (models / "m" / "aliases.json").write_text('{"stable": "2", "canary": "10"}')
    (models / "m" / "10" / "model.onnx").write_bytes(BAD)
    (models / ".new-1").mkdir()
    os.utime(models / ".new-1", (0, 0))
    expected = {
        "model": "m",
        "dry_run": True,
        "removed": ["1", "3", "4"],
        "leftovers": [".new-1"],
        "kept": {"2": "alias stable", "5": "the newest that can serve", "10": "one of the newest"},
    }

    would = run("m", "--keep", 1, "--dry-run", "--json")
    assert (would[0], json.loads(would[1]), would[2]) == (0, expected, "")
    assert versions(models / "m") == SIX
    done = run("m", "--keep", 1, "--json")
    assert json.loads(done[1]) == {**expected, "dry_run": False}
    assert versions(models / "m") == [2, 5, 10]
    assert not (models / ".new-1").exists()


def test_a_version_with_an_alias_stays(models):
    """Its age makes no difference."""
    (models / "m" / "aliases.json").write_text('{"stable": "2", "canary": "10"}')

    _, out, _ = run("m", "--keep", 1)

    assert out.splitlines()[-1] == "m keeps 2 (alias stable), 10"
    assert versions(models / "m") == [2, 10]
    assert (models / "m" / "aliases.json").exists()


def test_the_newest_version_that_serves_stays(models):
    """A model whose last versions are broken keeps one that works."""
    for version in (11, 12):
        small.put(models, "m", version, BAD)

    _, out, _ = run("m", "--keep", 1)

    assert out.splitlines()[-1] == "m keeps 10 (the newest that can serve), 12"
    assert versions(models / "m") == [10, 12]


def test_a_dry_run_removes_nothing(models):
    """The output lists the versions that would go."""
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
    """A killed publish leaves a folder, and a publish at work has one."""
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
    """The version is renamed before its files are removed."""
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
    """The target of the link is not removed."""
    (models / "m" / "1").rename(tmp_path / "release")
    (models / "m" / "1").symlink_to(tmp_path / "release")

    run("m")

    assert versions(models / "m") == [4, 5, 10]
    assert (tmp_path / "release" / "model.onnx").exists()


def test_a_version_that_cannot_be_removed_is_reported(models, monkeypatch):
    """The error is one line, with the path."""

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
    ("arguments", "code", "message"),
    [
        pytest.param(["n"], 1, "models: there is no model 'n'. Available: m", id="no model"),
        pytest.param(["m", "--keep", "0"], 2, "0 is not in the range x>=1", id="none"),
    ],
)
def test_wrong_arguments_remove_nothing(models, arguments, code, message):
    """The command is refused, and all versions stay."""
    exit_code, _, err = run(*arguments)

    assert exit_code == code
    assert message in err
    assert versions(models / "m") == SIX


def test_damaged_aliases_stop_the_command(models):
    """The command cannot know which versions they named."""
    (models / "m" / "aliases.json").write_text("{")

    code, out, err = run("m")

    assert (code, out) == (1, "")
    assert err.startswith("triceps: aliases.json: expected JSON like")
    assert versions(models / "m") == SIX
