"""The memory that is free, as the container has it."""

import pytest

from service.host import memory

_MEMINFO = "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="no files"),
        pytest.param({"proc/meminfo": _MEMINFO}, 8000 * 1024, id="the machine"),
        pytest.param(
            {
                "proc/meminfo": _MEMINFO,
                "proc/self/cgroup": "0::/box\n",
                "sys/fs/cgroup/box/memory.max": "5000000\n",
                "sys/fs/cgroup/box/memory.current": "3000000\n",
                "sys/fs/cgroup/box/memory.stat": "anon 7\nactive_file 200000\ninactive_file 300000",
            },
            2_500_000,
            id="v2, and pages of files are given up",
        ),
        pytest.param(
            {
                "proc/meminfo": _MEMINFO,
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/box/memory.max": "max\n",
                "sys/fs/cgroup/pod/memory.max": "1000\n",
                "sys/fs/cgroup/pod/memory.current": "3000\n",
            },
            0,
            id="v2, a group above that has too much",
        ),
        pytest.param(
            {
                "proc/meminfo": _MEMINFO,
                "proc/self/cgroup": "4:cpu:/x\n3:memory:/box\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "5000000\n",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "3000000\n",
                "sys/fs/cgroup/memory/box/memory.stat": "active_file 1\ntotal_active_file 500000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "900000\n",
            },
            2_500_000,
            id="v1",
        ),
    ],
)
def test_the_limit_of_the_container_counts(tmp_path, files, expected):
    """The limit is read by either version of cgroups, and is no more than the machine has."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert memory.available(tmp_path) == expected


def test_without_proc_no_memory_counts_as_taken(tmp_path):
    """Some systems have no /proc."""
    assert memory.taken(tmp_path) == memory.Taken(0, 0, 0, 0)
