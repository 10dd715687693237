"""The verdicts of the checks of `onesession doctor`, on figures that this machine does not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.doctor.checks import (
    clock,
    container,
    cores,
    duplicates,
    limits,
    logind,
    quota,
    shared_memory,
    versions,
)
from broker.doctor.finding import Finding, Severity, ok, problem, warning, worst
from broker.host.processors import Quota

MIB = 1 << 20
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max processes             127234               127234               processes
Max open files            {}                 524288               files
"""
MAPS = "7f0000000000-7f0000001000 r-xp 00000000 08:01 77 {}\n"


def told(found: Finding, level: str, text: str, remedy: str = "") -> None:
    assert found.level.value == level, found
    assert text in found.found
    assert remedy in found.remedy
    assert bool(found.remedy) == (found.level is not Severity.OK)


def test_the_worst_counts() -> None:
    """One problem makes the whole a problem; nothing at all is ok."""
    assert worst([]) is Severity.OK
    assert worst([ok("a", "x"), warning("b", "x", "y"), ok("c", "x")]) is Severity.WARNING
    assert worst([problem("a", "x", "y"), warning("b", "x", "y")]) is Severity.PROBLEM


@pytest.mark.parametrize(
    ("size", "free", "level", "text"),
    [
        (8192 * MIB, 8000 * MIB, "ok", "8,000 MiB of 8,192 MiB free"),
        (64 * MIB, 64 * MIB, "ok", "1,638 more workers"),
        (64 * MIB, MIB, "warning", "25 more workers"),
        (64 * MIB, 4096, "problem", "of 0 more workers"),
    ],
)
def test_room(size: int, free: int, level: str, text: str) -> None:
    """/dev/shm must hold the semaphores of some more workers, and nothing else."""
    told(shared_memory.room(size, free), level, text)


@pytest.mark.parametrize(
    ("left", "budget", "used", "level", "text"),
    [
        (8000 * MIB, 1024 * MIB, 0, "ok", "8,000 MiB left"),
        (500 * MIB, 1024 * MIB, 0, "warning", "not enough for all of it"),
        (100 * MIB, 1024 * MIB, 1000 * MIB, "ok", "take 1,000 MiB"),
        (None, 1024 * MIB, 0, "ok", "cannot be read"),
    ],
)
def test_memory(left: int | None, budget: int, used: int, level: str, text: str) -> None:
    """The machine, or the container, must have what the broker may still take."""
    told(shared_memory.memory(left, budget, used), level, text)


def test_inodes() -> None:
    """Few names left is a warning; where they are not counted there is nothing to run out of."""
    told(shared_memory.inodes(1_000_000, 900_000), "ok", "900,000")
    told(shared_memory.inodes(1000, 10), "warning", "10 more", "nr_inodes")
    told(shared_memory.inodes(0, 0), "ok", "does not limit")


@pytest.mark.parametrize(
    ("texts", "removes"),
    [
        ([], True),
        (["[Login]\n#RemoveIPC=no\n"], True),
        (["[Login]\nRemoveIPC=no\n"], False),
        (["[Login]\n RemoveIPC = off \n"], False),
        (["[Login]\nRemoveIPC=no\n", "[Login]\nRemoveIPC=yes\n"], True),
        (["RemoveIPC=yes\nRemoveIPC=no\n"], False),
        (["RemoveIPC=no\nRemoveIPC=\n"], True),
    ],
)
def test_remove_ipc(texts: list[str], removes: bool) -> None:
    """The last setting counts, a comment does not, and systemd's own default is yes."""
    assert logind.remove_ipc(texts) == removes


def test_remove_ipc_concerns_users_who_log_out() -> None:
    """System users, and users who linger, keep their names."""
    told(logind.judge(True, "alice", 1000, lingers=False), "warning", "alice logs out", "RemoveIPC=no")
    told(logind.judge(True, "alice", 1000, lingers=True), "ok", "lingering")
    told(logind.judge(True, "www-data", 33, lingers=False), "ok", "spares system users")
    told(logind.judge(False, "alice", 1000, lingers=False), "ok", "RemoveIPC=no")


def test_logind_reads_as_systemd_does(tmp_path: Path) -> None:
    """/etc hides the vendor's file of the same name; drop-ins come after, in the order of their names."""
    vendor, etc = tmp_path / "usr", tmp_path / "etc"
    for folder in (vendor, etc):
        (folder / "logind.conf.d").mkdir(parents=True)
    (vendor / "logind.conf").write_text("vendor")
    (etc / "logind.conf").write_text("etc")
    (etc / "logind.conf.d" / "20-b.conf").write_text("20 etc")
    (vendor / "logind.conf.d" / "10-a.conf").write_text("10 vendor")
    (vendor / "logind.conf.d" / "20-b.conf").write_text("20 vendor")
    assert logind.config_texts((str(vendor), str(etc))) == ["etc", "10 vendor", "20 etc"]


def test_descriptors() -> None:
    """The limit is judged by what is used of it; without a broker, by itself."""
    assert limits.soft_limit(LIMITS.format("20000")) == 20000
    assert limits.soft_limit(LIMITS.format("unlimited")) is None
    assert limits.soft_limit("") is None
    told(limits.descriptors(20000, 300, 8), "ok", "300 for 8 workers")
    told(limits.descriptors(256, None, 0), "warning", "256 descriptors", "LimitNOFILE")
    told(limits.descriptors(2000, 1700, 8), "warning", "1700", "ulimit -n")
    told(limits.descriptors(2000, 1950, 8), "problem", "further workers will be refused")
    told(limits.descriptors(None, 1950, 8), "ok", "unlimited")


def test_mappings() -> None:
    """The kernel's bound on mappings is told before workers meet it."""
    told(limits.mappings(65530, 900, 8), "ok", "900 of 65,530")
    told(limits.mappings(65530, 60000, 800), "warning", "60,000", "vm.max_map_count")
    told(limits.mappings(65530, 65000, 900), "problem", "65,000", "--max-slots")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/usr/lib/python3/site-packages/tensorflow/libtensorflow_cc.so.2", True),
        ("/usr/lib/python3/site-packages/tensorflow/libtensorflow_framework.so.2", True),
        ("/opt/tensorflow/python/_pywrap_tensorflow_internal.so", True),
        ("/usr/lib/python3/site-packages/numpy/core/_multiarray_umath.so", False),
        ("/home/libtensorflow/notes.txt", False),
    ],
)
def test_tensorflow_is_known_by_its_libraries(path: str, there: bool) -> None:
    """It is the library that is looked for in the memory map, not a folder of that name."""
    assert bool(duplicates.libraries(MAPS.format(path))) == there


def test_workers_that_cannot_be_seen() -> None:
    """Workers that cannot be inspected are reported as unknown; TensorFlow in a parent is worse than in its workers."""
    told(duplicates.judge([], [], 3, 1), "warning", "3 of 4 workers cannot be inspected", "as root")
    told(duplicates.judge([], [], 0, 4), "ok", "none of 4")
    told(duplicates.judge([99999999], [99999998], 0, 4), "warning", "the parent 99999998 (?)", "preloads")
    told(duplicates.judge([99999990 + n for n in range(8)], [], 0, 8), "warning", "and 3 more", "importtime")


def test_cores() -> None:
    """Threads that run at once are compared with the cores, or with what a quota leaves of them."""
    light = {"light": True, "intra_op_threads": 1, "max_concurrency": 8}
    heavy = {"light": False, "intra_op_threads": 2, "max_concurrency": 2}
    told(cores.judge(4, None, {"a": light, "b": heavy}, 8), "ok", "4 for the broker and 8 workers")
    told(
        cores.judge(2, None, {"b": heavy}, 8),
        "warning",
        "b has 2 concurrent runs on 2 threads",
        "onesession tune b=...",
    )
    told(cores.judge(8, 1.5, {"b": heavy}, 8), "warning", "1.5 for the broker", "max_concurrency=1")
    told(cores.judge(1, None, {}, 2), "warning", "take turns")


def test_a_quota() -> None:
    """One below the processors is a warning that names its file, what it costs, and both ways out."""
    file = Path("/sys/fs/cgroup/system.slice/cpu.max")
    told(quota.judge(4, None), "ok", "none")
    told(quota.judge(4, Quota(4.0, file)), "ok", "allows 4 of the 4 processors")
    told(quota.judge(2, Quota(8.0, file)), "ok", "allows 8 of the 2")
    told(
        quota.judge(4, Quota(1.5, file)),
        "warning",
        f"{file} allows 1.5 of the 4",
        "CPUQuota=400% in the unit",
    )
    told(
        quota.judge(4, Quota(1.5, file), 2.5),
        "warning",
        "in the last minute they were throttled for 2.5 s",
        "raise it",
    )
    told(
        quota.judge(1, Quota(0.5, file)),
        "warning",
        "all threads stand still",
        "bind broker and workers to 1 ",
    )


def test_clock() -> None:
    """A slow clock source is a warning; workers in another time namespace are a problem."""
    told(clock.judge("tsc", []), "ok", "tsc")
    told(clock.judge("", []), "ok", "cannot be read")
    told(clock.judge("hpet", []), "warning", "hpet", "available_clocksource")
    told(clock.judge("tsc", [12, 13]), "problem", "12, 13", "time namespace")


def test_container() -> None:
    """What separates broker and workers is told with the option that joins them."""
    told(container.judge(True, answers=False, visible=False, same_ipc=True), "ok", "in a container")
    told(container.judge(False, answers=True, visible=True, same_ipc=True), "ok", "not in a container")
    told(
        container.judge(True, answers=True, visible=False, same_ipc=True),
        "warning",
        "is not visible",
        "--pid",
    )
    told(
        container.judge(True, answers=True, visible=True, same_ipc=False), "warning", "IPC", "--ipc=container"
    )


def test_packages() -> None:
    """A package that is missing or too old is a problem with the command that installs it."""
    good: dict[str, str | None] = {"numpy": "2.1.0rc1", "posix_ipc": "1.3.2", "msgpack": "1.1.0"}
    told(versions.packages(good), "ok", "numpy 2.1.0rc1")
    told(versions.packages({**good, "posix_ipc": None}), "problem", "posix_ipc missing", "posix_ipc>=1.2")
    told(versions.packages({**good, "numpy": "1.24.4"}), "problem", "1.24.4", "'numpy>=1.26'")


def test_records(tmp_path: Path) -> None:
    """Records are counted, unreadable ones named, and a folder yet to be made is well if it can be made."""
    told(versions.records(tmp_path / "deep" / "tuning"), "ok", "0 in ")
    (tmp_path / "a.json").write_text(json.dumps({"format": versions.FORMAT}))
    told(versions.records(tmp_path), "ok", "1 in ")
    (tmp_path / "b.json").write_text("{")
    told(versions.records(tmp_path), "warning", "b.json", "remove")
    (tmp_path / "b.json").write_text("[]")
    told(versions.records(tmp_path), "warning", "1 of 2", "remove")
    assert "unreadable: b.json" in versions.records(tmp_path).found


def test_many_unreadable_records_are_counted(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.json").write_text("{")
    told(versions.records(tmp_path), "warning", "30 of 30", "remove")
    found = versions.records(tmp_path).found
    assert found.endswith("unreadable: 00.json, 01.json, 02.json, ...")
