"""Tests of the loading of a pair for comparison."""

from __future__ import annotations

import pytest

from service.insight.shadow import loading
from service.insight.shadow.figures import Pair
from service.insight.shadow.pairs import digest
from service.insight.shadow.stops import StopError
from service.repository.scan import look
from tests.harness import graphs, small

PAIR = Pair("three", "2", "1")


def found(folder, candidate: bytes) -> loading.FoundPair:
    """Write a pair, and return its files."""
    small.put(folder, "three", 1, small.three())
    small.put(folder, "three", 2, candidate)
    versions = look(folder).by_name["three"]
    files = digest(*(version.stamp for version in versions.values()))
    pair = loading.find(folder, "", PAIR, files)
    assert pair is not None
    return pair


def test_files_that_the_worker_does_not_serve_are_not_loaded(tmp_path):
    """They are replaced, and either process may not have seen that yet."""
    found(tmp_path, small.three(2.0))

    assert loading.find(tmp_path, "", PAIR, "other files") is None
    assert loading.find(tmp_path, "", Pair("three", "2", "9"), "other files") is None


def test_a_run_has_one_thread(tmp_path):
    """Whatever the settings of the model say."""
    (tmp_path / "three").mkdir()
    (tmp_path / "three/settings.toml").write_text("threads = 4\n")

    pair = loading.load_pair(found(tmp_path, small.three(2.0)), 2**30)

    assert pair.stable.model.execution.threads == pair.candidate.model.execution.threads == 1
    assert pair.heads == ("risk", "size", "digits", "tags")


@pytest.mark.parametrize(
    ("candidate", "room", "reason", "message"),
    [
        pytest.param(small.three(), 100, "large", "expected at most 0 MB", id="large"),
        pytest.param(b"?", 2**30, "refused", "is refused: it is not an ONNX", id="no file"),
        pytest.param(graphs.fixed(), 2**30, "unlike", "it takes whole tensors", id="tensors"),
        pytest.param(small.plant(), 2**30, "unlike", "none is in both", id="no common head"),
    ],
)
def test_a_pair_that_cannot_be_compared_has_a_reason(tmp_path, candidate, room, reason, message):
    """It is the label of the metric, and the message is in the log."""
    with pytest.raises(StopError, match=message) as raised:
        loading.load_pair(found(tmp_path, candidate), room)

    assert raised.value.reason == reason


def test_a_version_that_is_gone_is_refused(tmp_path):
    """Its file may be removed after its share was set."""
    small.put(tmp_path, "three", 1, small.three())
    files = digest(look(tmp_path).by_name["three"]["1"].stamp, None)

    with pytest.raises(StopError, match="there is no such version"):
        loading.load_pair(loading.find(tmp_path, "", PAIR, files), 2**30)
