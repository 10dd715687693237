"""What may still be taken of a machine's and a container's memory, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.host.memory_left import kills, left_bytes
from tests.unit.host.trees import HYBRID_HOST, MIB, NO_LIMIT, V1_DOCKER, V1_HOST, V2_HOST, Tree, v1_groups


def test_this_machine_has_memory_left() -> None:
    """The real files of this machine can be read."""
    left = left_bytes()
    assert left is not None
    assert left > MIB


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    """A group whose limit is `max`, or none at all, bounds nothing; swap is no memory."""
    tree = Tree(tmp_path, V2_HOST, "0::/web\n", available_mib=100)
    assert left_bytes(tree.root) == 100 * MIB
    tree.v2_memory("web", "max", 3 * MIB)
    assert left_bytes(tree.root) == 100 * MIB


@pytest.mark.parametrize("limit", [NO_LIMIT, str((1 << 63) - 1)])
def test_no_limit_in_version_1_is_a_large_number(tmp_path: Path, limit: str) -> None:
    """It depends on the size of pages."""
    tree = Tree(tmp_path, V1_HOST, v1_groups("/web"), available_mib=100)
    tree.v1_memory("web", limit, 3 * MIB)
    assert left_bytes(tree.root) == 100 * MIB


def test_the_machine_may_have_less_than_the_group_allows(tmp_path: Path) -> None:
    """The least counts."""
    tree = Tree(tmp_path, V2_HOST, "0::/web\n", available_mib=10)
    tree.v2_memory("web", 64 * MIB, 3 * MIB)
    assert left_bytes(tree.root) == 10 * MIB


@pytest.mark.parametrize(("outer", "inner"), [(64, 500), (500, 64)])
def test_the_tightest_group_counts(tmp_path: Path, outer: int, inner: int) -> None:
    """Each group above ours bounds it, too."""
    for version, mounts in enumerate([V1_HOST, V2_HOST], 1):
        tree = Tree(tmp_path / str(version), mounts, v1_groups("/a/b") if version == 1 else "0::/a/b\n")
        memory = tree.v1_memory if version == 1 else tree.v2_memory
        memory("a", outer * MIB, 40 * MIB)
        memory("a/b", inner * MIB, 40 * MIB)
        assert left_bytes(tree.root) == 24 * MIB


def test_a_warm_cache_is_as_good_as_free(tmp_path: Path) -> None:
    """Files that are only cached, and caches of the kernel, are given back before a process is ended."""
    two = Tree(tmp_path / "2", V2_HOST, "0::/\n")
    two.v2_memory("", 1000 * MIB, 990 * MIB, inactive_file=800 * MIB, slab=100 * MIB)
    assert left_bytes(two.root) == 910 * MIB
    one = Tree(tmp_path / "1", V1_DOCKER, v1_groups("/docker/4f1c"))
    one.v1_memory("", 1000 * MIB, 990 * MIB, inactive_file=800 * MIB)
    assert left_bytes(one.root) == 810 * MIB


def test_a_hybrid_machine(tmp_path: Path) -> None:
    """Memory is version 1's there: what is mounted of version 2 has no files for it."""
    tree = Tree(tmp_path, HYBRID_HOST, v1_groups("/job"))
    tree.v1_memory("", NO_LIMIT, 500 * MIB)
    tree.v1_memory("job", 32 * MIB, 30 * MIB)
    tree.write("sys/fs/cgroup/unified/job/cgroup.procs", "1\n")
    assert left_bytes(tree.root) == 2 * MIB


def test_a_group_past_its_limit_has_nothing_left(tmp_path: Path) -> None:
    """Never less than nothing."""
    tree = Tree(tmp_path, V2_HOST, "0::/\n")
    tree.v2_memory("", MIB, 2 * MIB)
    assert left_bytes(tree.root) == 0


def test_where_nothing_can_be_read(tmp_path: Path) -> None:
    """None: it is not known."""
    assert left_bytes(tmp_path) is None


@pytest.mark.parametrize(
    ("mounts", "group", "file"),
    [
        (V2_HOST, "0::/web{}\n", "web/memory.events"),
        (V1_HOST, "4:memory:/web{}\n0::/\n", "memory/web/memory.oom_control"),
    ],
    ids=["version 2", "version 1"],
)
def test_the_kernels_kills_are_counted(tmp_path: Path, mounts: str, group: str, file: str) -> None:
    """What it ended for want of memory, in our own group or, in a container, in what is to be seen of it."""
    tree = Tree(tmp_path, mounts, group.format(""))
    assert kills(tree.root) == 0
    tree.write(f"sys/fs/cgroup/{file}", "low 0\noom 7\noom_kill 3\n")
    assert kills(tree.root) == 3
    tree.write("proc/self/cgroup", group.format("/inner"))
    assert kills(tree.root) == 3
