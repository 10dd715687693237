"""How much of the processors' time the control groups allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.host.processors import Quota, info, quota, tightest_quota
from tests.unit.host.trees import HYBRID_HOST, V1_DOCKER, V1_HOST, V2_HOST, Tree, v1_groups


@pytest.mark.parametrize(
    ("text", "processors"),
    [("150000 100000", 1.5), ("20000 100000", 0.2), ("max 100000", None), ("nonsense", None), ("", None)],
)
def test_version_2(tmp_path: Path, text: str, processors: float | None) -> None:
    """A fraction of a processor is one; a word is no limit."""
    tree = Tree(tmp_path, V2_HOST, "0::/web\n")
    tree.v2_quota("web", text)
    assert quota(root=tree.root) == processors


@pytest.mark.parametrize(
    ("mounts", "path", "group"),
    [(V1_HOST, "/web", "web"), (HYBRID_HOST, "/web", "web"), (V1_DOCKER, "/docker/4f1c", "")],
)
def test_version_1(tmp_path: Path, mounts: str, path: str, group: str) -> None:
    """-1 is no limit."""
    tree = Tree(tmp_path, mounts, v1_groups(path))
    tree.v1_quota(group, -1)
    assert quota(root=tree.root) is None
    tree.v1_quota(group, 25_000, 50_000)
    assert quota(root=tree.root) == 0.5


@pytest.mark.parametrize(("outer", "inner", "file"), [(1, 3, "a"), (3, 1, "a/b"), (None, 1, "a/b")])
def test_the_tightest_counts(tmp_path: Path, outer: int | None, inner: int, file: str) -> None:
    """A group above ours bounds it, too, and the file that does is named."""
    tree = Tree(tmp_path, V2_HOST, "0::/a/b\n")
    tree.v2_quota("a", "max 100000" if outer is None else f"{outer * 50_000} 50000")
    tree.v2_quota("a/b", f"{inner * 100_000} 100000")
    assert tightest_quota(root=tree.root) == Quota(1.0, tmp_path / "sys/fs/cgroup" / file / "cpu.max")


def test_another_process(tmp_path: Path) -> None:
    """A broker in a unit of its own is not bound by the shell's that asks."""
    tree = Tree(tmp_path, V2_HOST, "0::/user.slice\n")
    tree.write("proc/12/cgroup", "0::/system.slice/onesession.service\n")
    tree.v2_quota("system.slice/onesession.service", "200000 100000")
    assert (quota(root=tree.root), quota(12, tree.root)) == (None, 2.0)


def test_where_nothing_can_be_read(tmp_path: Path) -> None:
    """None: no limit is known."""
    assert quota(root=tmp_path) is None
    assert info(tmp_path) == {}
