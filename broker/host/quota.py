"""The limit that control groups set on this process's CPU time, and how long it has throttled the group."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from broker.host.cgroup import Group, groups
from broker.host.kernel_files import ROOT, amounts
from broker.host.processors import tightest_of

_WINDOW_S = 60.0


class QuotaWatch:
    """The quota and the throttling. One thread samples regularly, because a limit may change (`docker update --cpus`);
    any thread may read.

    `processors` is the limit in processors' worth of time, None without one; `throttled_s` the seconds of the last
    minute in which the group had used it up, summed over processors. The groups are found only once, because that takes
    a millisecond.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._groups = groups("cpu", root=root)
        self._seen: deque[tuple[float, float]] = deque()
        self.processors: float | None = None
        self.throttled_s = 0.0

    def sample(self, now_s: float) -> None:
        found = tightest_of(self._groups)
        self.processors = None if found is None else found.processors
        self._seen.append((now_s, sum(map(throttled_s, self._groups)) if found else 0.0))
        while self._seen[0][0] < now_s - _WINDOW_S:
            self._seen.popleft()
        self.throttled_s = max(0.0, self._seen[-1][1] - self._seen[0][1])


def throttled_s(group: Group) -> float:
    """How long a group's processors were throttled; version 1 counts nanoseconds, version 2 microseconds."""
    found = amounts(group.folder / "cpu.stat")
    return found.get("throttled_time", 0) / 1e9 + found.get("throttled_usec", 0) / 1e6
