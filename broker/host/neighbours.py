"""How much of the processors others use: what computes beside the callers, be it this program's or not.

Who polls takes a processor from somebody where others have use for it, and pays for that twice: it is interrupted for a
time slice, and the scheduler, which has seen it compute, no longer prefers it when it wakes. So polling is for where
nobody else computes. Time of the processors that was not idle, less what those used who may be polling, is the others'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from broker.host.kernel_files import ROOT
from broker.host.usage import cpu_ns_or_0, idle_s

CHECK_NS = 100_000_000
"""/proc/stat counts in steps of 10 ms."""
_MANY, _FEW = 0.5, 0.25

Seen = tuple[int, float, dict[int, int]]
"""When; seconds of idleness so far; CPU time of processes so far, that of our thread as the process 0."""


class Neighbours:
    """Cores that others kept busy lately, `cores` of them, in the eyes of the one thread that looks. `crowded` once
    that is half a core, until it is less than a quarter."""

    __slots__ = ("_before", "_processors", "_root", "cores", "crowded", "due_ns")

    def __init__(self, processors: Collection[int], root: Path = ROOT) -> None:
        self._processors = processors
        self._root = root
        self._before: Seen | None = None
        self.cores = 0.0
        self.crowded = False
        self.due_ns = 0

    def __repr__(self) -> str:
        return f"<Neighbours, {self.cores:.2f} of {len(self._processors)} cores busy>"

    def sample(self, now_ns: int, own_ns: int, callers: Collection[int], pids: Iterable[int]) -> None:
        """`own_ns`: CPU time of the calling thread. `callers`: those of the processes `pids` that may be polling.

        Nobody is known to compute where that cannot be seen: with callers in other namespaces of process ids (0), and
        where a filter of system calls keeps their clocks.
        """
        self.due_ns = now_ns + CHECK_NS
        idle = idle_s(self._processors, self._root)
        used = {pid: cpu_ns_or_0(pid) if pid > 0 else 0 for pid in {*callers, *pids}}
        before, self._before = self._before, None
        if idle is None or not all(used[pid] for pid in callers):
            self.cores, self.crowded = 0.0, False
            return
        used[0] = own_ns
        self._before = now_ns, idle, used
        if before is not None and now_ns > before[0]:
            self._judge(before, callers)

    def _judge(self, before: Seen, callers: Collection[int]) -> None:
        assert self._before is not None
        now_ns, idle, used = self._before
        ours_ns = sum(max(0, used[pid] - before[2].get(pid, used[pid])) for pid in {0, *callers})
        elapsed_s = (now_ns - before[0]) / 1e9
        others_s = len(self._processors) * elapsed_s - (idle - before[1]) - ours_ns / 1e9
        self.cores += (max(0.0, others_s / elapsed_s) - self.cores) / 2
        self.crowded = self.cores >= (_FEW if self.crowded else _MANY)
