"""What processes and the machine have used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.host import usage
from broker.host.processors import usable

STAT = """\
cpu  1000 200 300 9000 40 50 60 70 5 6
cpu0 400 100 100 4000 20 20 30 30 5 6
cpu1 600 100 200 5000 20 30 30 40 0 0
intr 7
"""
SMAPS = "7f00-7f01 r-xp 0 0:0 7 /lib/a.so\nRss: 8 kB\nPss: 3 kB\nPss_Dirty: 1 kB\n7f02-7f03 r--p\nPss: 2 kB\n"


def test_a_process_that_computes_and_has_ended() -> None:
    """Its time grows while it lives; afterwards there is no such process."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            before = usage.cpu_ns(busy.pid)
            while usage.cpu_s([busy.pid, os.getpid()]) < (before + 1e8) / 1e9:
                pass
        finally:
            busy.kill()
    with pytest.raises(ProcessLookupError, match=f"process {busy.pid} has ended"):
        usage.cpu_ns(busy.pid)
    assert usage.cpu_s([busy.pid]) == usage.cpu_ns_or_0(busy.pid) == 0


def test_busy_time(tmp_path: Path) -> None:
    """All but idle and waiting for disks; of all processors or of some; what guests use is in `user` already."""
    (tmp_path / "proc").mkdir()
    assert usage.busy_s(root=tmp_path) == 0
    (tmp_path / "proc/stat").write_text(STAT)
    ticks = os.sysconf("SC_CLK_TCK")
    assert usage.busy_s(root=tmp_path) * ticks == pytest.approx(1680)
    assert usage.busy_s({1}, tmp_path) * ticks == pytest.approx(1000)
    assert usage.busy_s(usable()) > 0


def test_unused_time(tmp_path: Path) -> None:
    """Idle, waiting for disks, or taken by the host; kernels before 2.6.11 do not count the last."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(STAT)
    for processors, ticks in (({0}, 4050), ({1}, 5060), ({0, 1}, 9110)):
        assert usage.unused_s(processors, tmp_path) == pytest.approx(ticks / os.sysconf("SC_CLK_TCK"))
    (tmp_path / "proc/stat").write_text("cpu0 1 2 3 4 5 6\n")
    assert usage.unused_s({0}, tmp_path) == pytest.approx(9 / os.sysconf("SC_CLK_TCK"))


@pytest.mark.parametrize("file", ["smaps_rollup", "smaps"])
def test_pss(tmp_path: Path, file: str) -> None:
    """Of all mappings; kernels and sandboxes without the sum have the parts."""
    folder = tmp_path / "proc/12"
    folder.mkdir(parents=True)
    with pytest.raises(ProcessLookupError):
        usage.pss_bytes(12, tmp_path)
    (folder / file).write_text("")  # a zombie
    with pytest.raises(ProcessLookupError):
        usage.pss_bytes(12, tmp_path)
    (folder / file).write_text(SMAPS)
    assert usage.pss_bytes(12, tmp_path) == 5 * 1024


def test_memory_of_this_process() -> None:
    """PSS is at most what is resident, about; of processes of which one has ended there is no sum."""
    assert 1 << 20 < usage.pss_bytes(os.getpid()) < 2 * usage.resident_bytes()
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert usage.total_pss_bytes([os.getpid(), ended.pid]) is None
    assert usage.total_pss_bytes([os.getpid()]) is not None
