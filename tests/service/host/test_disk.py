"""The kind of file system that a folder is on, and its free bytes."""

import os

from service.host import disk


def _root(tmp_path, *lines):
    """Return the root of a file system with a table of mounts."""
    table = tmp_path / "proc" / "self" / "mountinfo"
    table.parent.mkdir(parents=True)
    table.write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def test_the_kind_is_that_of_the_mount_of_the_folder(tmp_path):
    """Lines have any number of fields in front of the dash."""
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    other = "22 1 250:99 / / rw,relatime shared:1 - ext4 /dev/other rw"
    ours = f"23 22 {number} / /here rw master:1 shared:2 - tmpfs none rw"

    assert disk.file_system(tmp_path, _root(tmp_path, other, ours)) == "tmpfs"


def test_an_unknown_kind_is_empty(tmp_path):
    """Some file systems have other numbers in the table of mounts; they are on disks."""
    assert disk.file_system(tmp_path, tmp_path) == ""
    line = "22 1 250:99 / / rw - ext4 /dev/other rw"
    assert disk.file_system(tmp_path, _root(tmp_path, line)) == ""


def test_the_root_of_this_machine_has_a_kind(tmp_path):
    """The table of mounts is read as the kernel writes it."""
    assert disk.file_system(tmp_path) is not None
    assert disk.free(tmp_path) > 0
