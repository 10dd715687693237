"""What processes take of the machine's memory: PSS, where each shared page counts by 1/n for each of its n users.

The sum over a tree is what the tree costs, which neither the sum of RSS (shared pages counted n times) nor of USS (not
counted at all) is. A page that a process outside the tree maps as well is counted in part, so two trees that share
libraries are measured one after the other, never side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 1_000_000


@dataclass(frozen=True)
class ProcessMemory:
    """One process at one moment."""

    pid: int
    parent: int
    command: tuple[str, ...]
    pss_bytes: int


def pss_bytes(pid: int) -> int:
    """PSS of one process, in bytes. Raises ProcessLookupError if it has ended, PermissionError if it is not ours."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except FileNotFoundError:
        lines = _all_mappings(pid)
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    if not kilobytes:  # a process that has ended, but that nobody has waited for yet
        raise ProcessLookupError(f"process {pid} has ended")
    return sum(kilobytes) * 1024


def tree(root: int) -> list[ProcessMemory]:
    """The process and all below it, parents before their children. Those that end meanwhile are left out."""
    try:
        top = psutil.Process(root)
        processes = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    return [memory for process in processes if (memory := _of(process)) is not None]


def tree_pss_bytes(root: int) -> int:
    """PSS of the process and all below it, in bytes."""
    return sum(process.pss_bytes for process in tree(root))


def _of(process: psutil.Process) -> ProcessMemory | None:
    try:
        return ProcessMemory(process.pid, process.ppid(), tuple(process.cmdline()), pss_bytes(process.pid))
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


def _all_mappings(pid: int) -> list[str]:
    """For kernels without smaps_rollup (before 4.14) and sandboxes that leave it out."""
    try:
        return Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} has ended") from None
