"""The folder of prepared models: private, on a disk, and whole or not there at all."""

import os
import shutil
import time
from pathlib import Path

import pytest

from service.host.watched import stamp
from service.inference.prepared import FILES, Hold
from service.repository import cache
from service.repository.cache import CacheError, Entry

OTHER = 12345
MEMORY = Path("/dev/shm")  # noqa: S108  it is in memory on every Linux


def ours(parent):
    """Return the private folder in a folder."""
    return parent / f"triceps-{os.geteuid()}"


@pytest.fixture(name="folder")
def _folder(tmp_path):
    return cache.open_folder(str(tmp_path / "cache"))


@pytest.fixture(name="file")
def _file(tmp_path):
    path = tmp_path / "model" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a graph")
    return path


def made(folder, file, name="a"):
    """Make an entry for a file, and return it."""
    files = cache.files_of(file)
    return cache.finish(folder, written(folder, name), file, files)


def written(folder, name, beside="[]"):
    """Return a hidden folder with what a preparation writes."""
    place = cache.begin(folder, name)
    for each in FILES:
        (place / each).write_bytes(each.encode())
    (place / cache.BESIDE).write_text(beside)
    return place


def old(path, seconds):
    """Let a file or folder seem to be of some time ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


# ── the folder ───────────────────────────────────────────────────────────────────────────────────


def test_the_folder_is_private_and_made_if_need_be(tmp_path):
    """Its parents are made as well."""
    folder = cache.open_folder(str(tmp_path / "a" / "cache"))

    assert folder == ours(tmp_path / "a" / "cache")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache.open_folder(str(tmp_path / "a" / "cache")) == folder


def test_by_default_the_folder_is_among_temporary_files(tmp_path, monkeypatch):
    """It is that of the system, as TMPDIR may name it."""
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))

    assert cache.open_folder("") == ours(tmp_path)


def test_without_a_folder_for_temporary_files_there_is_no_cache(monkeypatch):
    """A container may have none that can be written."""

    def none():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(cache.tempfile, "gettempdir", none)

    with pytest.raises(CacheError, match="TMPDIR: No usable temporary directory found"):
        cache.open_folder("")


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_folder_that_others_may_read_or_write_is_not_used(tmp_path, mode):
    """They could have put something into it."""
    ours(tmp_path).mkdir()
    ours(tmp_path).chmod(mode)

    with pytest.raises(CacheError, match=f"expected the mode 0700, received {mode:04o}: remove it"):
        cache.open_folder(str(tmp_path))


def test_a_folder_that_may_be_replaced_by_others_is_not_used(tmp_path):
    """In a folder that all may write, only the sticky bit keeps names as they are."""
    tmp_path.chmod(0o777)
    with pytest.raises(CacheError, match="all users may rename what others have in it"):
        cache.open_folder(str(tmp_path))

    tmp_path.chmod(0o1777)
    assert cache.open_folder(str(tmp_path)) == ours(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_folder_of_another_user_is_not_used(tmp_path):
    """Another user may have made it first, in a folder like /tmp."""
    ours(tmp_path).mkdir(mode=0o700)
    os.chown(ours(tmp_path), OTHER, OTHER)

    with pytest.raises(CacheError, match="expected a folder of this user, received another's"):
        cache.open_folder(str(tmp_path))


@pytest.mark.parametrize("target", ["folder", "file", "nothing"])
def test_a_link_in_its_place_is_not_followed(tmp_path, target):
    """It could lead to a folder that another user can change."""
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "file").write_bytes(b"")
    ours(tmp_path).symlink_to(tmp_path / target)

    with pytest.raises(CacheError, match="received another's, or a link"):
        cache.open_folder(str(tmp_path))


def test_a_file_in_its_place_is_not_used(tmp_path):
    """Nor is a file in the place of the folder that holds it."""
    ours(tmp_path).write_bytes(b"")
    with pytest.raises(CacheError, match="expected a folder of this user"):
        cache.open_folder(str(tmp_path))

    with pytest.raises(CacheError, match=r"triceps-\d+: File exists|Not a directory"):
        cache.open_folder(str(ours(tmp_path)))


def test_a_folder_in_memory_is_not_used(tmp_path, monkeypatch):
    """Its files would take the memory that they are to save."""
    monkeypatch.setattr(cache.disk, "file_system", lambda _: "tmpfs")

    with pytest.raises(CacheError, match=r"it is in memory itself \(tmpfs\)"):
        cache.open_folder(str(tmp_path))


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="there is no /dev/shm")
def test_shared_memory_is_not_a_disk():
    """The kind of the file system is that of the kernel's table of mounts."""
    place = MEMORY / f"triceps-test-{os.getpid()}"
    try:
        with pytest.raises(CacheError, match="in memory itself"):
            cache.open_folder(str(place))
    finally:
        shutil.rmtree(place)


# ── entries ──────────────────────────────────────────────────────────────────────────────────────


def test_an_entry_is_found_by_the_content_of_its_file(folder, file, tmp_path):
    """The name and the times of the file do not matter."""
    entry = made(folder, file)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(b"a graph")

    assert cache.find(folder, file) == cache.find(folder, copy) == (entry, 0)
    copy.write_bytes(b"another graph")
    assert cache.find(folder, copy) == (None, 0)


@pytest.mark.parametrize(
    ("what", "where"),
    [("kind", cache.processors), ("__version__", cache.onnxruntime), ("__version__", cache)],
)
def test_an_entry_is_for_one_processor_and_one_release(folder, file, monkeypatch, what, where):
    """Weights are packed as the processor needs them, and the graph is rewritten by Triceps."""
    entry = made(folder, file)

    with monkeypatch.context() as changed:
        changed.setattr(where, what, (lambda: "another") if what == "kind" else "0.0")
        assert cache.find(folder, file) == (None, 0)
    assert cache.find(folder, file) == (entry, 0)


def test_an_entry_cannot_be_written_by_accident(folder, file):
    """Its files are read-only, and the folder is private."""
    entry = made(folder, file)

    assert {(Path(entry.folder) / name).stat().st_mode & 0o777 for name in FILES} == {0o400}


def test_two_services_that_make_one_entry_at_once_share_it(folder, file):
    """The second rename fails, and the first entry is used."""
    files = cache.files_of(file)
    places = [written(folder, name) for name in ("a", "b")]

    entries = [cache.finish(folder, place, file, files) for place in places]

    assert entries[0] == entries[1]


def test_what_a_preparation_adds_is_not_taken(folder, file):
    """It has read a file that may be hostile."""
    files = cache.files_of(file)
    place = written(folder, "a")
    (place / "more").write_bytes(b"")
    with pytest.raises(CacheError, match="not all in the folder of its file"):
        cache.finish(folder, place, file, files)

    with pytest.raises(CacheError, match="not all in the folder of its file"):
        cache.finish(folder, written(folder, "b", '["../../other/1/values"]'), file, files)


@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
def test_what_a_preparation_links_to_is_not_taken(folder, file, how):
    """The weights of another model would get another mode, and another name."""
    other = Path(made(folder, file).folder) / "weights"
    place = written(folder, "b")
    (place / "weights").unlink()
    getattr(place / "weights", how)(other)

    with pytest.raises(CacheError, match="it is not in files of its own"):
        cache.finish(folder, place, file, cache.files_of(file))


def test_an_entry_is_unchanged_only_with_the_same_files(folder, file):
    """A keeper looks at their stamps before it names the entry to another worker."""
    entry = made(folder, file)
    assert entry.is_unchanged()

    weights = Path(entry.folder) / "weights"
    weights.chmod(0o600)
    weights.write_bytes(b"weightz")
    assert not entry.is_unchanged()

    cache.remove(Path(entry.folder))
    assert not entry.is_unchanged()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("beside", ['{"values": 1}', '{"values": ["a", "b"]}', "[]", '"x"'])
def test_a_broken_list_of_digests_is_damage(folder, file, beside):
    """The file of an entry may hold anything after a crash."""
    entry = Path(made(folder, file).folder)
    (entry / cache.ENTRY).write_text(f'{{"beside": {beside}, "files": {{"weights": [1]}}}}')

    assert cache.find(folder, file)[0] is None


# ── removal ──────────────────────────────────────────────────────────────────────────────────────


def test_an_entry_that_nobody_has_used_for_a_day_is_removed(folder, file, tmp_path):
    """An entry that was found meanwhile stays."""
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another graph")
    kept, removed = made(folder, file), made(folder, other, "b")
    for entry in (kept, removed):
        old(entry.folder, cache.UNUSED_SECONDS + 60)
    assert cache.find(folder, file) == (kept, 0)

    cache.sweep(folder)

    assert [str(path) for path in folder.iterdir()] == [kept.folder]


def test_an_entry_that_a_process_has_loaded_is_not_removed(folder, file):
    """That process may belong to another service, which has had it for weeks."""
    entry = Path(made(folder, file).folder)
    hold = Hold(entry)
    old(entry, 30 * cache.UNUSED_SECONDS)
    cache.sweep(folder)
    assert entry.exists()

    del hold
    cache.sweep(folder)
    assert not entry.exists()


def test_what_a_killed_preparation_has_left_is_removed(folder):
    """What another service is writing at the moment stays."""
    left, now = written(folder, "left"), written(folder, "now")
    old(left, cache.LEFTOVER_SECONDS + 60)

    cache.sweep(folder)

    assert list(folder.iterdir()) == [now]


def test_half_an_entry_is_never_found(folder, file):
    """An entry gets its name by a rename, once all of it is written."""
    place = written(folder, "a")
    for name in (*FILES, cache.BESIDE):
        assert cache.find(folder, file) == (None, 0)
        (place / name).unlink()
    assert cache.find(folder, file) == (None, 0)


def test_stamps_tell_files_apart(file):
    """An entry is the name of a folder and the stamps of its files."""
    assert Entry("a", (stamp(file),)) != Entry("a", ())
