"""The files of a version, in a store that may be hostile: no path leads out of its folder."""

import pytest

from service.stores import folders
from service.stores.store import Entry, StoreError


class Fake:
    """A store with files of any names."""

    def __init__(self, *names):
        self.entries = [Entry(name, name, 1, "tag") for name in names]

    def list(self, path):
        """Return the entries of a folder."""
        return folders.Listed([], [e for e in self.entries if "/" not in e.name])

    def walk(self, path):
        """Return all files."""
        return self.entries

    def small(self, entry):
        """Return no content."""
        return b""


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../model.onnx",
            "a/../../b",
            "/etc/passwd",
            "a//b",
            "a/",
            "",
            "..",
            "a\\..\\b",
            "a\x00b",
        ),
        *("a\nb", "\x1b[2J", "a" * 256, "a/" * 501 + "b"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(name):
    """Keys of objects may be any text."""
    with pytest.raises(StoreError, match="expected paths of files like"):
        folders.offer(Fake("model.onnx", name), "s3://b", None)


def test_hidden_files_are_left_out():
    """They are temporary, as in a repository."""
    offer = folders.offer(Fake("model.onnx", ".part", "a/.b/c", "weights/ü.bin"), "s3://b", None)

    assert [entry.name for entry in offer.files] == ["model.onnx", "weights/ü.bin"]


def test_a_folder_of_very_many_files_is_refused():
    """It is something else than a version."""
    names = (f"{i}.bin" for i in range(folders.MOST_FILES))

    with pytest.raises(StoreError, match="expected at most 1000 files, found more"):
        folders.offer(Fake("model.onnx", *names), "s3://b", None)


def test_an_empty_digest_is_refused():
    """It would compare nothing."""
    with pytest.raises(StoreError, match=r"model.onnx.sha256: expected a SHA-256"):
        folders.offer(Fake("model.onnx", "model.onnx.sha256"), "s3://b", None)
