"""Folders with the files of /proc and of control groups, in the form in which real machines have them."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20
NO_LIMIT = "9223372036854771712"  # of version 1

_OTHERS = """\
22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw
25 24 0:23 / /dev/shm rw,nosuid,nodev shared:7 - tmpfs tmpfs rw,size=24684092k
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
"""
_MEMINFO = """\
MemTotal:       49368184 kB
MemFree:          812344 kB
MemAvailable:   {kb} kB
Cached:         30512000 kB
SwapTotal:       8388608 kB
SwapFree:        8388608 kB
"""

V2_HOST = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
"""systemd; also a container with a namespace of control groups, as Docker's and Kubernetes's on version 2."""
V1_HOST = """\
31 23 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
33 31 0:30 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
36 31 0:33 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,cpu,cpuacct
38 31 0:35 / /sys/fs/cgroup/cpuset rw,nosuid,nodev,noexec,relatime shared:17 - cgroup cgroup rw,cpuset
"""
HYBRID_HOST = V1_HOST + "32 31 0:29 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n"
V1_DOCKER = """\
736 735 0:77 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
744 736 0:30 /docker/4f1c /sys/fs/cgroup/systemd ro,nosuid,nodev,noexec master:11 - cgroup cgroup rw,name=systemd
747 736 0:33 /docker/4f1c /sys/fs/cgroup/memory ro,nosuid,nodev,noexec master:15 - cgroup cgroup rw,memory
748 736 0:34 /docker/4f1c /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev,noexec master:16 - cgroup cgroup rw,cpu,cpuacct
"""
"""Without a namespace of control groups: the paths are the host's, the files are only the container's own."""


def v1_groups(path: str) -> str:
    """/proc/self/cgroup of version 1; on a hybrid machine with version 2 as well."""
    return f"11:cpuset:/\n9:cpu,cpuacct:{path}\n4:memory:{path}\n1:name=systemd:{path}\n0::{path}\n"


class Tree:
    """A machine with `available_mib` of memory, these mounts (lines of mountinfo) and this /proc/self/cgroup."""

    def __init__(self, root: Path, mounts: str, groups: str, available_mib: int = 9000) -> None:
        self.root = root
        self.write("proc/self/mountinfo", _OTHERS + mounts)
        self.write("proc/self/cgroup", groups)
        self.write("proc/meminfo", _MEMINFO.format(kb=available_mib * 1024))

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def v2_memory(self, group: str, limit: object, used: int, inactive_file: int = 0, slab: int = 0) -> None:
        folder = f"sys/fs/cgroup/{group}"
        self.write(f"{folder}/memory.max", f"{limit}\n")
        self.write(f"{folder}/memory.current", f"{used}\n")
        stat = f"anon 5242880\nfile 99\ninactive_anon 0\ninactive_file {inactive_file}\nactive_file 7\n"
        self.write(f"{folder}/memory.stat", f"{stat}slab_reclaimable {slab}\nslab_unreclaimable 3\nslab 9\n")
        self.write(f"{folder}/memory.swap.max", "max\n")

    def v1_memory(self, group: str, limit: object, used: int, inactive_file: int = 0) -> None:
        """`inactive_file` lies in groups below it."""
        folder = f"sys/fs/cgroup/memory/{group}"
        self.write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        self.write(f"{folder}/memory.usage_in_bytes", f"{used}\n")
        stat = f"cache 99\nrss 5\ninactive_file 1\nactive_file 7\nhierarchical_memory_limit {NO_LIMIT}\n"
        self.write(f"{folder}/memory.stat", f"{stat}total_cache 99\ntotal_inactive_file {inactive_file}\n")

    def v2_quota(self, group: str, text: str) -> None:
        self.write(f"sys/fs/cgroup/{group}/cpu.max", f"{text}\n")

    def v1_quota(self, group: str, quota_us: int, period_us: int = 100_000) -> None:
        folder = f"sys/fs/cgroup/cpu,cpuacct/{group}"
        self.write(f"{folder}/cpu.cfs_quota_us", f"{quota_us}\n")
        self.write(f"{folder}/cpu.cfs_period_us", f"{period_us}\n")
