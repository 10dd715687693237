"""Where the files of a process's control groups are, on machines of either version and in their containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.host.cgroup import groups
from tests.unit.host.trees import HYBRID_HOST, V1_DOCKER, V1_HOST, V2_HOST, Tree, v1_groups


@pytest.mark.parametrize(
    ("mounts", "cgroup", "version", "folders"),
    [
        (V2_HOST, "0::/a/b\n", 2, ["/a/b", "/a", ""]),
        (V2_HOST, "0::/\n", 2, [""]),
        (V1_HOST, v1_groups("/a/b"), 1, ["/memory/a/b", "/memory/a", "/memory"]),
        (HYBRID_HOST, v1_groups("/a"), 1, ["/memory/a", "/memory"]),
        (HYBRID_HOST, "9:cpuset:/x\n0::/a\n", 2, ["/unified/a", "/unified"]),
        (V1_DOCKER, v1_groups("/docker/4f1c"), 1, ["/memory"]),
        (V1_DOCKER, v1_groups("/docker/4f1c/job"), 1, ["/memory/job", "/memory"]),
        (V1_DOCKER, v1_groups("/"), 1, ["/memory"]),
        (V2_HOST, "0::/../other\n", 2, []),
        (V2_HOST, "0::/gone (deleted)\n", 2, ["/gone (deleted)", ""]),
        (V2_HOST, "0::/a:b c\n", 2, ["/a:b c", ""]),
        ("", "0::/a\n", 2, []),
        (V1_HOST, "4:memory:/a\n0::/a\n", 1, ["/memory/a", "/memory"]),
        (V1_HOST, "0::/a\n", 2, []),
        (V2_HOST, "", 2, []),
    ],
)
def test_the_groups_of_a_controller(
    tmp_path: Path, mounts: str, cgroup: str, version: int, folders: list[str]
) -> None:
    """Ours first, then those above it as far as they are mounted here."""
    found = groups("memory", root=Tree(tmp_path, mounts, cgroup).root)
    assert [str(group.folder) for group in found] == [f"{tmp_path}/sys/fs/cgroup{each}" for each in folders]
    assert {group.version for group in found} <= {version}


def test_controllers_that_share_a_hierarchy(tmp_path: Path) -> None:
    """Where they are mounted is read, not guessed from their names."""
    root = Tree(tmp_path, V1_HOST, v1_groups("/a")).root
    folders = [group.folder.relative_to(tmp_path / "sys/fs/cgroup") for group in groups("cpu", root=root)]
    assert folders == [Path("cpu,cpuacct/a"), Path("cpu,cpuacct")]


def test_a_later_mount_hides_an_earlier_one(tmp_path: Path) -> None:
    """What can be read at a path is the last that was mounted there."""
    root = Tree(tmp_path, V2_HOST.replace(" / /sys", " /a /sys") + V2_HOST, "0::/a/b\n").root
    assert groups("memory", root=root)[0].folder == tmp_path / "sys/fs/cgroup/a/b"


def test_another_process(tmp_path: Path) -> None:
    """Its own path counts; nothing is known of one whose group cannot be seen from here, or that has ended."""
    tree = Tree(tmp_path, V1_DOCKER, v1_groups("/docker/4f1c"))
    tree.write("proc/12/cgroup", v1_groups("/docker/4f1c/web"))
    tree.write("proc/13/cgroup", v1_groups("/docker/77aa"))
    point = tmp_path / "sys/fs/cgroup/memory"
    assert [group.folder for group in groups("memory", 12, tree.root)] == [point / "web", point]
    assert groups("memory", 13, tree.root) == groups("memory", 14, tree.root) == []


def test_mounts_with_names_of_any_bytes(tmp_path: Path) -> None:
    """A mount whose name is not UTF-8 hides no control group."""
    tree = Tree(tmp_path, V2_HOST, "0::/a\n")
    file = tmp_path / "proc/self/mountinfo"
    file.write_bytes(b"99 27 8:1 / /mnt/\xff rw - ext4 /dev/sda rw\n" + file.read_bytes())
    assert len(groups("memory", root=tree.root)) == 2


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    """There are none."""
    assert groups("memory", root=tmp_path) == []
