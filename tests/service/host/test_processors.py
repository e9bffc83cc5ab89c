"""The number of processors that the container has, by either version of cgroups."""

import os

import pytest

from service.host import processors


def _lay(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 8, id="no cgroups"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
            8,
            id="v2, none",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"},
            2,
            id="v2, two and a half",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
            1,
            id="v2, half of one",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/box/cpu.max": "max 100000\n",
                "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
            },
            3,
            id="v2, the quota of a group above",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            },
            4,
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/box\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
            id="v1, seen from inside a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
            id="v1, none",
        ),
    ],
)
def test_the_quota_of_the_container_counts(files, expected, tmp_path, monkeypatch):
    """The number is whole, at least one, and no more than this process may run on."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    _lay(tmp_path, files)

    assert processors.available(tmp_path) == expected


def test_processors_with_other_instructions_are_of_another_kind(tmp_path):
    """The speed and the number of the processor do not matter."""
    lines = (
        "processor : {}\nvendor_id : A\nmodel name : B\ncpu MHz : {}\nflags : {}\n\nprocessor : 9\n"
    )
    kinds = []
    for number, parts in enumerate([(0, 2000, "fpu avx"), (1, 2100, "fpu avx"), (0, 2000, "fpu")]):
        folder = tmp_path / str(number) / "proc"
        folder.mkdir(parents=True)
        (folder / "cpuinfo").write_text(lines.format(*parts))
        kinds.append(processors.kind(folder.parent))

    assert kinds[0] == kinds[1] != kinds[2]
    assert processors.kind(tmp_path) != kinds[0]
    assert processors.kind()
