"""Measures what processes use: CPU time, and memory as PSS, in which a page that n processes share counts 1/n.

A page that a process outside the sum also maps counts only in part, so an arm's memory is measured while no other arm
with the same libraries runs (`bench/sweep.py`).
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from broker.host.kernel_files import ROOT, lines

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # Windows has no /proc to count in


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process so far, ended ones included, in nanoseconds; /proc only counts in steps of
    10 ms. Raises ProcessLookupError."""
    clock = (~pid << 3) | 2  # clock_getcpuclockid(3): CPUCLOCK_SCHED of the process
    try:
        return time.clock_gettime_ns(clock)
    except OSError as error:
        raise ProcessLookupError(f"process {pid} has ended: {error.strerror}") from None


def cpu_ns_or_0(pid: int) -> int:
    """CPU time of a process; 0 if it has ended."""
    try:
        return cpu_ns(pid)
    except ProcessLookupError:
        return 0


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of all these processes so far; ended ones count 0."""
    return sum(map(cpu_ns_or_0, pids)) / 1e9


def busy_s(processors: Collection[int] | None = None, root: Path = ROOT) -> float:
    """CPU seconds that these processors (default: all) were busy, or that other virtual machines used, in steps of 10
    ms (proc_stat(5)). 0 if the machine does not report them."""
    wanted = {"cpu"} if processors is None else {f"cpu{number}" for number in processors}
    ticks = 0
    for line in lines(root / "proc/stat"):
        name, *times = line.split()
        if name in wanted:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, times[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / _TICKS


def unused_s(processors: Collection[int], root: Path = ROOT) -> float | None:
    """Seconds that nothing of this machine ran on these processors, in steps of 10 ms: they were idle, waiting for
    disks included, or the host of a virtual machine had taken them. None if the machine does not report each one."""
    wanted = {f"cpu{number}" for number in processors}
    found = [line.split() for line in lines(root / "proc/stat") if line.partition(" ")[0] in wanted]
    if len(found) != len(wanted) or not all(len(words) > 5 and words[4].isdigit() for words in found):
        return None
    return (
        sum(int(word) for words in found for word in (*words[4:6], *words[8:9])) / _TICKS
    )  # steal is the ninth


def resident_bytes() -> int:
    """Memory that this process has in use; 0 where the system does not tell, as models may run elsewhere in tests."""
    fields = lines(ROOT / "proc/self/statm")
    return int(fields[0].split()[1]) * mmap.PAGESIZE if fields else 0


def pss_bytes(pid: int, root: Path = ROOT) -> int:
    """PSS of one process. Raises ProcessLookupError if it has ended, PermissionError if it may not be inspected."""
    folder = root / "proc" / str(pid)
    try:
        try:
            text = (folder / "smaps_rollup").read_text()
        except FileNotFoundError:  # kernels before 4.14, and sandboxes that leave it out
            text = (folder / "smaps").read_text()
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} has ended") from None
    kilobytes = [int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")]
    if not kilobytes:  # a process that has ended, but has not been reaped yet
        raise ProcessLookupError(f"process {pid} has ended")
    return sum(kilobytes) * 1024


def total_pss_bytes(pids: Iterable[int]) -> int | None:
    """PSS of all these processes; None if one may not be inspected, or has ended."""
    try:
        return sum(map(pss_bytes, pids))
    except OSError:
        return None
