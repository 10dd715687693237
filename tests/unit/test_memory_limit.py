"""What may still be taken of a machine's and a container's memory, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.host.memory import kills, left_bytes

MIB = 1 << 20


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def proc(root: Path, available_mib: int, cgroup: str) -> Path:
    meminfo = f"MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:   {available_mib * 1024} kB\n"
    write(root, {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup})
    return root / "proc"


def group(limit: object, used: int, cached: int = 0) -> dict[str, str]:
    """Of version 2."""
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{used}\n",
        "memory.stat": f"anon 5\ninactive_file {cached}\nactive_file 7\n",
    }


def test_this_machine_has_memory_left() -> None:
    """The real files of this machine can be read."""
    left = left_bytes()
    assert left is not None
    assert left > MIB


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    """A group whose limit is `max`, or none at all, bounds nothing."""
    for name, text in group("max", 3 * MIB).items():
        write(tmp_path, {f"groups/web/{name}": text})
    assert left_bytes(proc(tmp_path, 100, "0::/web\n"), tmp_path / "groups") == 100 * MIB
    assert left_bytes(proc(tmp_path, 100, ""), tmp_path / "groups") == 100 * MIB


@pytest.mark.parametrize("cached_mib", [0, 10])
def test_the_tightest_group_counts(tmp_path: Path, cached_mib: int) -> None:
    """Each group above ours bounds it, too; what is only cached in it is as good as free."""
    write(
        tmp_path,
        {f"groups/a/{name}": text for name, text in group(64 * MIB, 40 * MIB, cached_mib * MIB).items()},
    )
    write(tmp_path, {f"groups/a/b/{name}": text for name, text in group(500 * MIB, 20 * MIB).items()})
    assert left_bytes(proc(tmp_path, 1000, "0::/a/b\n"), tmp_path / "groups") == (24 + cached_mib) * MIB


def test_version_1(tmp_path: Path) -> None:
    """The files have other names there, and no limit is a very large number."""
    one = {"memory.limit_in_bytes": f"{32 * MIB}\n", "memory.usage_in_bytes": f"{30 * MIB}\n"}
    root = {"memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "1\n"}
    stat = f"cache 1\ntotal_inactive_file {MIB}\n"
    write(
        tmp_path, {f"groups/memory/job/{name}": text for name, text in {**one, "memory.stat": stat}.items()}
    )
    write(tmp_path, {f"groups/memory/{name}": text for name, text in root.items()})
    cgroup = "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n"
    assert left_bytes(proc(tmp_path, 1000, cgroup), tmp_path / "groups") == 3 * MIB


def test_a_group_past_its_limit_has_nothing_left(tmp_path: Path) -> None:
    """Never less than nothing."""
    write(tmp_path, {f"groups/{name}": text for name, text in group(MIB, 2 * MIB).items()})
    assert left_bytes(proc(tmp_path, 1000, "0::/\n"), tmp_path / "groups") == 0


def test_where_nothing_can_be_read(tmp_path: Path) -> None:
    """None: it is not known."""
    assert left_bytes(tmp_path / "proc", tmp_path / "groups") is None


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [("0::/web\n", "web/memory.events"), ("4:memory:/web\n", "memory/web/memory.oom_control")],
    ids=["version 2", "version 1"],
)
def test_the_kernels_kills_are_counted(tmp_path: Path, cgroup: str, file: str) -> None:
    """What it ended for want of memory, in our own group or, in a container, in what is to be seen of it."""
    folder = proc(tmp_path, 100, cgroup)
    assert kills(folder, tmp_path / "groups") == 0
    write(tmp_path, {f"groups/{file}": "low 0\noom 7\noom_kill 3\n"})
    assert kills(folder, tmp_path / "groups") == 3
    write(tmp_path, {"proc/self/cgroup": cgroup.replace("/web", "/web/inner")})
    assert kills(folder, tmp_path / "groups") == 3
