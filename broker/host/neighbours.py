"""Measures how much of the processors other threads use: everything that computes beside the callers, in this program
or not.

A poller takes processor time from other threads that need it, and pays for that twice: it is interrupted for a time
slice, and the scheduler, which has seen it compute, no longer prefers it when it wakes. So polling only pays off where
nothing else computes. The others' time is the processors' time that was used, minus the time of threads that may be
polling. Time that the host of a virtual machine takes away does not count: nobody here could have used it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from broker.host.kernel_files import ROOT
from broker.host.usage import cpu_ns_or_0, unused_s

CHECK_NS = 50_000_000
"""/proc/stat counts in steps of 10 ms."""
_STALE_NS = 6 * CHECK_NS
"""Without calls there are no samples. After a longer pause what held before it holds until the first sample, which then
counts alone: what computed during the pause says nothing about now."""
_MANY, _FEW = 0.5, 0.25

Seen = tuple[int, float, dict[int, int]]
"""The time; unused seconds so far; CPU time of processes so far, with our own thread as process 0."""


class Neighbours:
    """The number of `cores` that others kept busy recently. `crowded`: true from half a core on, until it falls below a
    quarter. One thread samples."""

    __slots__ = ("_before", "_first", "_processors", "_root", "cores", "crowded", "due_ns")

    def __init__(self, processors: Collection[int], root: Path = ROOT) -> None:
        self._processors = processors
        self._root = root
        self._before: Seen | None = None
        self._first = True  # the next sample is the first after a pause
        self.cores = 0.0
        self.crowded = False
        self.due_ns = 0

    def __repr__(self) -> str:
        return f"<Neighbours, {self.cores:.2f} of {len(self._processors)} cores busy>"

    def sample(self, now_ns: int, own_ns: int, callers: Collection[int], pids: Iterable[int]) -> None:
        """Take a sample. `own_ns`: CPU time of the calling thread. `callers`: the processes of `pids` that may be
        polling.

        Without information, nothing else is assumed to compute: with callers in other pid namespaces (pid 0), and where
        a filter of system calls hides their clocks.
        """
        self.due_ns = now_ns + CHECK_NS
        unused = unused_s(self._processors, self._root)
        used = {pid: cpu_ns_or_0(pid) if pid > 0 else 0 for pid in {*callers, *pids}}
        before, self._before = self._before, None
        if unused is None or not all(used[pid] for pid in callers):
            self.cores, self.crowded = 0.0, False
            return
        used[0] = own_ns
        self._before = now_ns, unused, used
        if before is None or now_ns > before[0] + _STALE_NS:
            self._first = True
        elif now_ns > before[0]:
            self._judge(before, callers)

    def _judge(self, before: Seen, callers: Collection[int]) -> None:
        assert self._before is not None
        now_ns, unused, used = self._before
        first, self._first = self._first, False
        ours_ns = sum(max(0, used[pid] - before[2].get(pid, used[pid])) for pid in {0, *callers})
        elapsed_s = (now_ns - before[0]) / 1e9
        others_s = len(self._processors) * elapsed_s - (unused - before[1]) - ours_ns / 1e9
        found = max(0.0, others_s / elapsed_s)
        self.cores = found if first else (self.cores + found) / 2
        self.crowded = self.cores >= (_FEW if self.crowded else _MANY)
