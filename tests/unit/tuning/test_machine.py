"""What is read of the machine: quotas, memory, other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker.tuning import machine
from broker.tuning.candidates import Processors


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """The folder of this process's control group below `tmp_path`."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = tmp_path / own.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("text", "quota"), [("150000 100000", 1.5), ("max 100000", None), ("nonsense", None), ("", None)]
)
def test_a_quota_of_the_control_group(tmp_path: Path, group: Path, text: str, quota: float | None):
    """Processors' worth of time, where there is a limit."""
    (group / "cpu.max").write_text(text)
    assert machine.cpu_quota(tmp_path) == quota


def test_no_control_group(tmp_path: Path):
    """Without one there is no limit."""
    assert machine.cpu_quota(tmp_path / "none") is None


def test_a_quota_leaves_so_many_processors(monkeypatch):
    """Rounded up, at least one, at most those there are."""
    monkeypatch.setattr(machine, "cores", lambda: 8)
    for quota, usable in ((None, 8), (0.2, 1), (1.5, 2), (2.0, 2), (100.0, 8)):
        monkeypatch.setattr(machine, "cpu_quota", lambda quota=quota: quota)
        assert machine.processors() == Processors(8, usable)


def test_memory_is_what_the_control_group_leaves(tmp_path: Path, group: Path):
    """The least of what the machine has and what the group may still use."""
    free = machine.available_bytes(tmp_path)
    assert free > 1 << 20
    (group / "memory.max").write_text("3000000")
    (group / "memory.current").write_text("1000000")
    assert machine.available_bytes(tmp_path) == 2_000_000
    (group / "memory.max").write_text("max")
    assert machine.available_bytes(tmp_path) > 2_000_000


def test_the_description_is_plain_and_steady():
    """It can be written as JSON, and is the same a moment later."""
    told = machine.describe()
    assert json.loads(json.dumps(told)) == told == machine.describe()
    assert told["processors"] == len(os.sched_getaffinity(0))


def test_what_changes_tensorflow_is_part_of_it(monkeypatch):
    """Its own switches are; those of other programs that begin alike, and the oneDNN switch, are not."""
    before = machine.describe()
    monkeypatch.setenv("TF_VAR_password", "secret")
    monkeypatch.setenv(machine.ONEDNN_VARIABLE, "0")
    assert machine.describe() == before
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "3")
    assert machine.describe() != before


def test_other_processes_are_seen_and_our_own_are_not():
    """A process that we name counts as ours."""
    code = "import time\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as busy:
        try:
            busy.stdout.readline()
            ours, theirs = machine.Others([busy.pid]), machine.Others([])
            used = machine._cpu_seconds(busy.pid)
            while machine._cpu_seconds(busy.pid) < used + 0.3:
                time.sleep(0.02)
            assert theirs.share() > ours.share()
        finally:
            busy.kill()
    assert machine._cpu_seconds(busy.pid) == 0


def test_without_proc_nothing_is_known(monkeypatch, tmp_path: Path):
    """A machine that does not tell is not taken for busy."""
    monkeypatch.setattr(machine, "_lines", lambda path: [])
    assert machine.Others([]).share() == 0
    assert machine.available_bytes(tmp_path) > 1 << 40
