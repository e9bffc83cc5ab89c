"""The comparison of the speed of two checkouts: measurements, differences and installations."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import commits
from benchmarks.servers import NotReadyError
from service.repository.assembly import open_repository
from tests.harness import small


def _turns(cell, ratios):
    """Return the measurements of rounds."""
    before = commits.Side(100.0, 50.0, 0)
    return [
        commits.Turn(cell, number, before, commits.Side(100.0 * r, 50.0 / r, 0))
        for number, r in enumerate(ratios)
    ]


def test_a_cell_is_the_median_of_its_rounds():
    """A cell has the median, the quartiles and the extremes."""
    ratio = commits.ratio([1.0, 0.9, 1.1, 0.98, 1.02])

    assert ratio == commits.Ratio(1.0, 0.98, 1.02, 0.9, 1.1)
    assert commits.ratio([0.9]).low == 0.9


def test_a_setting_is_of_the_second_server_alone():
    """Both may be of one checkout."""
    server = commits.servers.TRICEPS
    more = commits.with_variables(server, ["TRICEPS_ACCESS_LOG=on", "A=b=c"])

    assert more.environment == {**server.environment, "TRICEPS_ACCESS_LOG": "on", "A": "b=c"}
    assert commits.with_variables(server, []) == server
    with pytest.raises(NotReadyError, match="expected NAME=VALUE, received 'A'"):
        commits.with_variables(server, ["A"])


def test_a_slowdown_is_reported():
    """A cell that is slower by more than a twentieth is reported, or a slight loss in all cells."""
    well = _turns("W1-1", [1.0, 1.0]) + _turns("W2-16", [0.96, 0.97])
    slow = _turns("W1-1", [0.94, 0.94]) + _turns("W2-16", [0.96, 0.96])

    assert commits.shortfalls(well) == []
    assert commits.shortfalls(slow) == [
        "W1-1: 0.940, expected at least 0.95",
        "geometric mean: 0.950, expected at least 0.97",
    ]
    *cells, mean = commits.table(slow).rows
    assert [row[0] for row in cells] == ["W1-1", "W2-16"]
    assert (mean[3], mean[6]) == ("0.950", "0.950")


def test_a_checkout_is_one_that_is_installed(tmp_path):
    """A checkout must be installed in its own .venv, or one commit is compared with itself."""
    with pytest.raises(NotReadyError, match=r"installed into its own \.venv"):
        commits.checkout(tmp_path, "after")
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "triceps").touch()
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)

    with pytest.raises(NotReadyError, match=f"expected to run the service of {tmp_path}"):
        commits.checkout(tmp_path, "after")

    root = Path(commits.__file__).parents[1]
    if (root / ".venv/bin/triceps").exists():
        command = commits.checkout(root, "before").command("", "model", "80")
        assert command[0] == str(root / ".venv/bin/triceps")


def test_a_share_is_compared_with_none(tmp_path, monkeypatch):
    """The server has a repository in which the model is its own shadow."""
    monkeypatch.setattr(commits, "FOLDER", tmp_path / "bench")
    (tmp_path / "three").mkdir()
    file = tmp_path / "three/model.onnx"
    file.write_bytes(small.three())

    folder, _ = commits.with_shadow(
        replace(commits.servers.TRICEPS, command=lambda _, model, port: [model, port]), 0.1
    ).command("", str(file), "80")

    repository = open_repository(Path(folder))
    assert repository.serving["three"].version == "1"
    assert repository.candidates.shadows["three"].version == "2"
