"""The memory of processes: PSS, where each shared page counts by 1/n for each of its n users.

The sum over a tree is what the tree costs, which neither the sum of RSS (shared pages counted n times) nor of USS (not
counted at all) is. A page that a process outside the tree maps as well is counted in part, so two trees that share
libraries are measured one after the other, never side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from broker.host.usage import pss_bytes

MB = 1_000_000


@dataclass(frozen=True)
class ProcessMemory:
    """One process at one moment."""

    pid: int
    parent: int
    command: tuple[str, ...]
    pss_bytes: int


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
